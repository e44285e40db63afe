/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Scalars of the file to fields and back: one row per kind. A parser leaves
 * the field alone when it fails and writes a reason that goes behind the key's
 * name: "`limits.recipients`: 0 is too small; …". Fields that own memory are
 * NULL before.
 */

#include "base/arena.h"
#include "base/bug.h"
#include "base/mem.h"
#include "base/time.h"
#include "config/internal.h"
#include "mail/address.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TEXT_MAX 4095

/* A reason for the mistake; always false, so that a parser can return it. */
static bool __attribute__((format(printf, 2, 3)))
refuse(char reason[static CONFIG_REASON_SIZE], const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(reason, CONFIG_REASON_SIZE, format, arguments);
	va_end(arguments);
	return false;
}

/* ---- texts ------------------------------------------------------------- */

/* Characters that libyaml would not read back from a quoted text, or that
 * would change lines: controls, U+2028, U+2029, U+FEFF, U+FFFE, U+FFFF. */
static bool
is_printable(struct span text)
{
	size_t len;

	for (; text.len; text = span_skip(text, len)) {
		const unsigned char *p = (const unsigned char *)text.ptr;
		len = span_utf8_length(text);
		if (len == 0 || p[0] < ' ' || p[0] == 127)
			return false;
		if (len == 2 && p[0] == 0xc2 && p[1] < 0xa0)
			return false;
		if (len == 3 && p[0] == 0xe2 && p[1] == 0x80 &&
		    (p[2] == 0xa8 || p[2] == 0xa9))
			return false;
		if (len == 3 && p[0] == 0xef && p[1] == 0xbb && p[2] == 0xbf)
			return false;
		if (len == 3 && p[0] == 0xef && p[1] == 0xbf && p[2] >= 0xbe)
			return false;
	}
	return true;
}

static bool
parse_text(const struct config_scalar *s, void *field, char *reason)
{
	size_t max = s->key->max ? s->key->max : TEXT_MAX;
	bool may_be_empty = s->key->default_text && !*s->key->default_text;

	if (!s->text.len && !may_be_empty)
		return refuse(reason, "must not be empty");
	if (s->text.len > max)
		return refuse(reason,
		    "has %zu octets, but may have at most %zu; shorten it",
		    s->text.len, max);
	if (!is_printable(s->text))
		return refuse(
		    reason, "contains a control character; remove it");
	*(char **)field = s->text.len ? span_dup(s->text) : NULL;
	return true;
}

static bool
parse_name(const struct config_scalar *s, void *field, char *reason)
{
	char quote[CONFIG_QUOTE_SIZE];

	for (size_t i = 0; i < s->text.len; i++) {
		char c = s->text.ptr[i];
		bool is_letter = (c >= 'a' && c <= 'z') ||
				 (c >= 'A' && c <= 'Z') || c == '_';
		bool is_digit = c >= '0' && c <= '9';
		bool is_sign = c == '-' || c == '.';
		if (!is_letter && !is_digit && !(is_sign && i))
			return refuse(reason,
			    "`%s` is not a name; use letters, digits, `-`, `.` "
			    "and `_`, beginning with a letter or digit",
			    config_quote(s->text, quote));
	}
	return parse_text(s, field, reason);
}

static bool
parse_path(const struct config_scalar *s, void *field, char *reason)
{
	char quote[CONFIG_QUOTE_SIZE];

	if (s->text.len && *s->text.ptr != '/')
		return refuse(reason,
		    "`%s` is not an absolute path; let it begin with `/`",
		    config_quote(s->text, quote));
	return parse_text(s, field, reason);
}

static bool
normalise(struct span name, char **ret_domain)
{
	struct netaddr ip;
	struct arena *arena = arena_new();
	struct span domain;
	bool is_domain = !netaddr_parse_ip(name, &ip) &&
			 address_normalise_domain(name, arena, &domain) == 0;

	if (is_domain)
		*ret_domain = span_dup(domain);
	arena_free(&arena);
	return is_domain;
}

static bool
parse_hostname(const struct config_scalar *s, void *field, char *reason)
{
	char quote[CONFIG_QUOTE_SIZE];

	if (normalise(s->text, field))
		return true;
	return refuse(reason,
	    "`%s` is not a domain name; write one such as relay.example.com",
	    config_quote(s->text, quote));
}

static bool
parse_pattern(const struct config_scalar *s, void *field, char *reason)
{
	char quote[CONFIG_QUOTE_SIZE];
	bool is_below = span_starts(s->text, SPAN("*."));
	char *domain = NULL;

	if (span_eq(s->text, SPAN("*"))) {
		*(char **)field = mem_strdup("*");
		return true;
	}
	if (!normalise(span_skip(s->text, is_below ? 2 : 0), &domain))
		return refuse(reason,
		    "`%s` is not a domain; write a name, \"*.name\" for all "
		    "below it, or \"*\" for all",
		    config_quote(s->text, quote));
	*(char **)field = is_below ? mem_printf("*.%s", domain) : domain;
	if (is_below)
		mem_free(domain);
	return true;
}

static bool
parse_mailbox(const struct config_scalar *s, void *field, char *reason)
{
	char quote[CONFIG_QUOTE_SIZE];
	struct arena *arena = arena_new();
	struct address address;
	const char *why = "not an address";
	bool is_address = address_parse(s->text, 0, arena, &address, &why) == 0;

	if (is_address)
		*(char **)field = span_dup(address.text);
	arena_free(&arena);
	return is_address || refuse(reason, "`%s` is not a mailbox: %s",
				 config_quote(s->text, quote), why);
}

/* "…" unless every reader of YAML takes it for the same text bare. */
static void
append_text(struct span text, struct buf *out)
{
	static const char *const words[] = { "null", "true", "false", "yes",
		"no", "on", "off", "y", "n", NULL };
	bool is_bare = text.len != 0;

	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];
		bool is_letter = (c >= 'a' && c <= 'z') ||
				 (c >= 'A' && c <= 'Z') || c == '/';
		bool is_other =
		    (c >= '0' && c <= '9') || (c && strchr("._-@", c) != NULL);
		is_bare = is_bare && (is_letter || (is_other && i));
	}
	for (unsigned i = 0; words[i]; i++)
		is_bare = is_bare && !span_eq_nocase(text, span_of(words[i]));
	if (is_bare)
		buf_append(out, text);
	else
		buf_append_json(out, text);
}

static void
format_text(const struct config_key *key, const void *field, struct buf *out)
{
	(void)key;
	append_text(span_of(*(char *const *)field), out);
}

static void
text_done(void *field)
{
	char **text = field;

	if (*text)
		mem_wipe(*text, strlen(*text));
	mem_free(*text);
	*text = NULL;
}

/* ---- words and numbers ------------------------------------------------- */

static const char *const bool_names[] = { "false", "true", NULL };

static const char *const *
choices_of(const struct config_key *key)
{
	return key->choices ? key->choices : bool_names;
}

static bool
parse_choice(const struct config_scalar *s, int *ret_choice, char *reason)
{
	const char *const *names = choices_of(s->key);
	char quote[CONFIG_QUOTE_SIZE];
	char list[128];
	size_t len = 0;
	int choice = 0;

	for (; names[choice]; choice++) {
		if (span_eq(s->text, span_of(names[choice])) &&
		    !(s->is_quoted && names == bool_names)) {
			*ret_choice = choice;
			return true;
		}
		len += (size_t)snprintf(list + len, sizeof list - len, "%s%s",
		    choice ? (names[choice + 1] ? ", " : " or ") : "",
		    names[choice]);
		BUG_UNLESS(len < sizeof list);
	}
	return refuse(reason, "%s`%s` is not understood; write %s",
	    s->is_quoted ? "the quoted " : "", config_quote(s->text, quote),
	    list);
}

static bool
parse_enum(const struct config_scalar *s, void *field, char *reason)
{
	_Static_assert(sizeof(enum config_service) == sizeof(int) &&
			   sizeof(enum config_route_tls) == sizeof(int),
	    "enums of the config are stored as int");
	return parse_choice(s, field, reason);
}

static bool
parse_bool(const struct config_scalar *s, void *field, char *reason)
{
	int choice = 0;

	if (!parse_choice(s, &choice, reason))
		return false;
	*(bool *)field = choice != 0;
	return true;
}

static void
format_enum(const struct config_key *key, const void *field, struct buf *out)
{
	buf_append_str(out, key->choices[*(const int *)field]);
}

static void
format_bool(const struct config_key *key, const void *field, struct buf *out)
{
	buf_append_str(out, choices_of(key)[*(const bool *)field]);
}

/* How a number of this kind is written. */
static void
append_number(enum config_kind kind, uint64_t number, struct buf *out)
{
	char text[64];

	if (kind == VALUE_SIZE)
		config_format_size(number, out);
	else if (kind == VALUE_DURATION)
		buf_append_str(out,
		    time_format_duration((int64_t)number, text, sizeof text));
	else
		buf_printf(out, "%llu", (unsigned long long)number);
}

static bool
is_in_bounds(const struct config_scalar *s, uint64_t number, char *reason)
{
	const struct config_key *key = s->key;
	char quote[CONFIG_QUOTE_SIZE];
	struct buf bounds = BUF_EMPTY;

	if (number >= key->min && number <= key->max)
		return true;
	append_number(key->kind, key->min, &bounds);
	buf_append_str(&bounds, " to ");
	append_number(key->kind, key->max, &bounds);
	(void)refuse(reason, "%s is too %s; write %s",
	    config_quote(s->text, quote), number < key->min ? "small" : "large",
	    buf_cstring(&bounds));
	buf_done(&bounds);
	return false;
}

static bool
refuse_kind(const struct config_scalar *s, char *reason)
{
	char quote[CONFIG_QUOTE_SIZE];
	uint64_t number;
	bool only_quoted =
	    s->is_quoted && span_to_u64(s->text, UINT64_MAX, &number);

	return refuse(reason, "`%s` is not %s%s", config_quote(s->text, quote),
	    config_value_noun(s->key->kind),
	    only_quoted ? "; write it without quotes" : "");
}

static bool
read_number(const struct config_scalar *s, uint64_t *ret_number, char *reason)
{
	uint64_t number;

	if (s->is_quoted || !span_to_u64(s->text, UINT64_MAX, &number))
		return refuse_kind(s, reason);
	if (!is_in_bounds(s, number, reason))
		return false;
	*ret_number = number;
	return true;
}

/* ---- rates ------------------------------------------------------------- */

static const struct {
	char unit;
	uint32_t seconds;
} rate_units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };

static uint32_t
rate_seconds(struct span unit)
{
	for (size_t i = 0; i < sizeof rate_units / sizeof *rate_units; i++)
		if (unit.len == 1 && unit.ptr[0] == rate_units[i].unit)
			return rate_units[i].seconds;
	return 0;
}

static bool
parse_rate(const struct config_scalar *s, void *field, char *reason)
{
	struct config_rate rate = { .seconds = 1 };
	struct span unit = s->text, number = span_cut(&unit, '/');
	bool has_unit = number.len < s->text.len;
	uint64_t count;

	if (!span_to_u64(number, UINT64_MAX, &count) ||
	    (!has_unit && count != 0))
		return refuse_kind(s, reason);
	if (has_unit)
		rate.seconds = rate_seconds(unit);
	if (!rate.seconds)
		return refuse_kind(s, reason);
	if (count > s->key->max)
		return refuse(reason,
		    "%llu is too large; write at most %llu, or 0 for any rate",
		    (unsigned long long)count, (unsigned long long)s->key->max);
	rate.count = (uint32_t)count;
	*(struct config_rate *)field = rate;
	return true;
}

static void
format_rate(const struct config_key *key, const void *field, struct buf *out)
{
	const struct config_rate *rate = field;

	(void)key;
	if (!rate->count) {
		buf_append_str(out, "0");
		return;
	}
	for (size_t i = 0; i < sizeof rate_units / sizeof *rate_units; i++)
		if (rate->seconds == rate_units[i].seconds)
			buf_printf(
			    out, "%u/%c", rate->count, rate_units[i].unit);
}

/* ---- numbers ----------------------------------------------------------- */

static bool
parse_number(const struct config_scalar *s, void *field, char *reason)
{
	uint64_t number = 0;

	BUG_UNLESS(s->key->max <= UINT32_MAX);
	if (!read_number(s, &number, reason))
		return false;
	*(uint32_t *)field = (uint32_t)number;
	return true;
}

static bool
parse_port(const struct config_scalar *s, void *field, char *reason)
{
	uint64_t number = 0;

	BUG_UNLESS(s->key->max <= UINT16_MAX);
	if (!read_number(s, &number, reason))
		return false;
	*(uint16_t *)field = (uint16_t)number;
	return true;
}

static bool
parse_size(const struct config_scalar *s, void *field, char *reason)
{
	uint64_t size;

	if (!config_parse_size(s->text, &size))
		return refuse_kind(s, reason);
	if (!is_in_bounds(s, size, reason))
		return false;
	*(uint64_t *)field = size;
	return true;
}

static bool
parse_duration(const struct config_scalar *s, void *field, char *reason)
{
	char quote[CONFIG_QUOTE_SIZE];
	uint64_t number;
	int64_t us;

	if (span_to_u64(s->text, UINT64_MAX, &number)) {
		(void)config_quote(s->text, quote);
		return refuse(reason,
		    "`%s` has no unit; write %ss, %sm, %sh or %sd", quote,
		    quote, quote, quote, quote);
	}
	if (!time_parse_duration(s->text, &us))
		return refuse_kind(s, reason);
	if (!is_in_bounds(s, (uint64_t)us, reason))
		return false;
	*(int64_t *)field = us;
	return true;
}

static void
format_number(const struct config_key *key, const void *field, struct buf *out)
{
	uint64_t number;

	if (key->kind == VALUE_PORT)
		number = *(const uint16_t *)field;
	else if (key->kind == VALUE_NUMBER)
		number = *(const uint32_t *)field;
	else if (key->kind == VALUE_SIZE)
		number = *(const uint64_t *)field;
	else
		number = (uint64_t) * (const int64_t *)field;
	append_number(key->kind, number, out);
}

/* ---- addresses --------------------------------------------------------- */

static bool
parse_listen(const struct config_scalar *s, void *field, char *reason)
{
	char quote[CONFIG_QUOTE_SIZE];
	struct netaddr address;

	if (!netaddr_parse(s->text, &address) || !is_printable(s->text))
		return refuse_kind(s, reason);
	if (address.family != NETADDR_UNIX && !address.port)
		return refuse(reason, "`%s` has port 0; write 1 to 65535",
		    config_quote(s->text, quote));
	if (address.family == NETADDR_UNIX && *address.path != '/')
		return refuse(reason,
		    "`%s` has no absolute path; write unix:/path",
		    config_quote(s->text, quote));
	*(struct netaddr *)field = address;
	return true;
}

static bool
parse_server(const struct config_scalar *s, void *field, char *reason)
{
	struct netaddr address;

	if (netaddr_parse_ip(s->text, &address))
		address.port = 53;
	else if (!netaddr_parse(s->text, &address) ||
		 address.family == NETADDR_UNIX || !address.port)
		return refuse_kind(s, reason);
	*(struct netaddr *)field = address;
	return true;
}

static bool
parse_ip(const struct config_scalar *s, void *field, char *reason)
{
	return netaddr_parse_ip(s->text, field) || refuse_kind(s, reason);
}

static bool
parse_network(const struct config_scalar *s, void *field, char *reason)
{
	char quote[CONFIG_QUOTE_SIZE];
	struct span rest = s->text;
	struct span ip = span_cut(&rest, '/');
	struct netaddr address;
	uint64_t bits;

	if (netmask_parse(s->text, field))
		return true;
	if (netaddr_parse_ip(ip, &address) &&
	    span_to_u64(rest, address.family == NETADDR_IP4 ? 32 : 128, &bits))
		return refuse(reason,
		    "`%s` has address bits beyond its prefix; set them to 0 or "
		    "lengthen the prefix",
		    config_quote(s->text, quote));
	return refuse_kind(s, reason);
}

static void
format_address(const struct config_key *key, const void *field, struct buf *out)
{
	char text[NETADDR_TEXT_SIZE];

	append_text(
	    span_of(key->kind == VALUE_IP ? netaddr_format_ip(field, text)
					  : netaddr_format(field, text)),
	    out);
}

static void
format_network(const struct config_key *key, const void *field, struct buf *out)
{
	const struct netmask *mask = field;
	char ip[NETADDR_TEXT_SIZE], text[NETADDR_TEXT_SIZE + 4];

	(void)key;
	(void)snprintf(text, sizeof text, "%s/%u",
	    netaddr_format_ip(&mask->network, ip), mask->bits);
	append_text(span_of(text), out);
}

/* ---- references -------------------------------------------------------- */

static bool
parse_source(const struct config_scalar *s, void *field, char *reason)
{
	char quote[CONFIG_QUOTE_SIZE];

	for (size_t i = 0; i < s->config->source_count; i++) {
		const struct config_source *source = &s->config->sources[i];
		if (span_eq(s->text, span_of(source->name))) {
			*(const struct config_source **)field = source;
			return true;
		}
	}
	return refuse(reason,
	    "there is no source `%s`; add it to `sources` or correct the name",
	    config_quote(s->text, quote));
}

static void
format_source(const struct config_key *key, const void *field, struct buf *out)
{
	const struct config_source *source =
	    *(const struct config_source *const *)field;

	(void)key;
	append_text(span_of(source->name), out);
}

/* ---- all kinds --------------------------------------------------------- */

struct kind {
	const char *noun;
	size_t size;
	bool (*parse)(const struct config_scalar *s, void *field, char *reason);
	void (*format)(
	    const struct config_key *key, const void *field, struct buf *out);
	void (*done)(void *field); /* NULL: owns nothing */
};

static const struct kind kinds[VALUE_KIND_COUNT] = {
	[VALUE_TEXT] = { "a text", sizeof(char *), parse_text, format_text,
	    text_done },
	[VALUE_NAME] = { "a name", sizeof(char *), parse_name, format_text,
	    text_done },
	[VALUE_PATH] = { "an absolute path", sizeof(char *), parse_path,
	    format_text, text_done },
	[VALUE_HOSTNAME] = { "a domain name", sizeof(char *), parse_hostname,
	    format_text, text_done },
	[VALUE_PATTERN] = { "a domain, \"*.domain\" or \"*\"", sizeof(char *),
	    parse_pattern, format_text, text_done },
	[VALUE_MAILBOX] = { "a mailbox such as postmaster@example.com",
	    sizeof(char *), parse_mailbox, format_text, text_done },
	[VALUE_BOOL] = { "true or false", sizeof(bool), parse_bool, format_bool,
	    NULL },
	[VALUE_CHOICE] = { "a word", sizeof(int), parse_enum, format_enum,
	    NULL },
	[VALUE_NUMBER] = { "a number", sizeof(uint32_t), parse_number,
	    format_number, NULL },
	[VALUE_PORT] = { "a port number", sizeof(uint16_t), parse_port,
	    format_number, NULL },
	[VALUE_SIZE] = { "a size such as 4096, 512K or 50M", sizeof(uint64_t),
	    parse_size, format_number, NULL },
	[VALUE_DURATION] = { "a duration such as 30s, 5m, 4h or 1h30m",
	    sizeof(int64_t), parse_duration, format_number, NULL },
	[VALUE_RATE] = { "a rate such as 100/s, 6000/h or 0 for any",
	    sizeof(struct config_rate), parse_rate, format_rate, NULL },
	[VALUE_LISTEN] = { "an address with a port such as \"0.0.0.0:587\" or "
			   "\"[::]:587\"",
	    sizeof(struct netaddr), parse_listen, format_address, NULL },
	[VALUE_IP] = { "an IP address", sizeof(struct netaddr), parse_ip,
	    format_address, NULL },
	[VALUE_SERVER] = { "the address of a DNS server such as \"127.0.0.1\" "
			   "or \"127.0.0.1:5302\"",
	    sizeof(struct netaddr), parse_server, format_address, NULL },
	[VALUE_NETWORK] = { "a network such as \"192.0.2.0/24\" or "
			    "\"2001:db8::/32\"",
	    sizeof(struct netmask), parse_network, format_network, NULL },
	[VALUE_SOURCE] = { "the name of a source",
	    sizeof(struct config_source *), parse_source, format_source, NULL },
	[VALUE_MAP] = { "a map of keys and values" },
};

bool
config_value_parse(const struct config_scalar *scalar, void *field,
    char reason[static CONFIG_REASON_SIZE])
{
	BUG_UNLESS(kinds[scalar->key->kind].parse != NULL);
	return kinds[scalar->key->kind].parse(scalar, field, reason);
}

void
config_value_format(
    const struct config_key *key, const void *field, struct buf *out)
{
	BUG_UNLESS(kinds[key->kind].format != NULL);
	kinds[key->kind].format(key, field, out);
}

void
config_value_done(enum config_kind kind, void *field)
{
	if (kinds[kind].done)
		kinds[kind].done(field);
}

size_t
config_value_size(enum config_kind kind)
{
	BUG_UNLESS(kinds[kind].size != 0);
	return kinds[kind].size;
}

const char *
config_value_noun(enum config_kind kind)
{
	return kinds[kind].noun;
}
