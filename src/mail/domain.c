/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/netaddr.h"
#include "mail/address.h"
#include "mail/internal.h"

#include <idn2.h>
#include <string.h>

/*
 * Domain = sub-domain *("." sub-domain)      RFC 5321 §4.1.2
 * sub-domain = Let-dig [Ldh-str] / U-label   RFC 6531 §3.3
 *
 * Labels are converted one by one, so that an ASCII label costs no Unicode
 * tables and odd but living ASCII names ("r3---sn") are not judged by IDNA.
 * The result is then checked as a whole: whatever Unicode mapped to (a full
 * stop, a slash) meets the same grammar as ASCII from the wire.
 */

#define LABEL_MAX 63

/* A domain being built. Room for one label too many: the check of the length
 * comes last. */
struct name {
	char text[ADDRESS_DOMAIN_MAX + 1];
	size_t len;
};

static int
refuse(const char *reason, const char **ret_reason)
{
	*ret_reason = reason;
	return ERR_SYNTAX;
}

static char
lower(char c)
{
	if (c >= 'A' && c <= 'Z')
		c = (char)(c - 'A' + 'a');
	return c;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_let_dig(char c)
{
	return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z');
}

static bool
name_append(struct name *n, struct span s)
{
	if (s.len > sizeof(n->text) - n->len)
		return false;
	for (size_t i = 0; i < s.len; i++)
		n->text[n->len++] = lower(s.ptr[i]);
	return true;
}

/* UTS #46 without the transitional mapping of 2003, then IDNA2008. Returns a
 * string for idn2_free, or NULL. */
static char *
label_convert(struct span label)
{
	char text[ADDRESS_DOMAIN_MAX + 1];
	uint8_t *ascii = NULL;

	if (!span_to_cstring(label, text, sizeof(text)))
		return NULL;
	int code = idn2_lookup_u8((const uint8_t *)text, &ascii,
	    IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
	/* Memory exhaustion ends the process, here as in mem_alloc. */
	BUG_UNLESS(code != IDN2_MALLOC);
	return code == IDN2_OK ? (char *)ascii : NULL;
}

static bool
label_append(struct span label, struct name *n)
{
	if (span_is_ascii(label))
		return name_append(n, label);
	char *ascii = label_convert(label);
	if (ascii == NULL)
		return false;
	bool fits = name_append(n, span_of(ascii));
	idn2_free(ascii);
	return fits;
}

/* An A-label that stands for a U-label, and for this one only. */
static bool
is_valid_a_label(struct span label)
{
	char *ascii = label_convert(label);

	if (ascii == NULL)
		return false;
	bool is_same = span_eq_nocase(span_of(ascii), label);
	idn2_free(ascii);
	return is_same;
}

static int
check_label(struct span label, const char **ret_reason)
{
	if (label.len == 0)
		return refuse("the domain has an empty label", ret_reason);
	if (label.len > LABEL_MAX)
		return refuse("a label of the domain is longer than 63 octets",
		    ret_reason);
	for (size_t i = 0; i < label.len; i++) {
		if (!is_let_dig(label.ptr[i]) && label.ptr[i] != '-')
			return refuse("the domain has a character that no "
				      "mail domain may have",
			    ret_reason);
	}
	if (label.ptr[0] == '-' || label.ptr[label.len - 1] == '-')
		return refuse(
		    "a label of the domain begins or ends with a hyphen",
		    ret_reason);
	if (span_starts_nocase(label, SPAN("xn--")) && !is_valid_a_label(label))
		return refuse(
		    "the domain has an invalid internationalised label",
		    ret_reason);
	return 0;
}

/* "127.0.0.1", "0x7f.1": what resolvers of old read as an address. No top
 * level domain is a number. */
static bool
is_number(struct span label)
{
	size_t i = 0;

	if (span_starts_nocase(label, SPAN("0x"))) {
		for (i = 2; i < label.len; i++) {
			char c = lower(label.ptr[i]);
			if (!is_digit(c) && (c < 'a' || c > 'f'))
				return false;
		}
		return true;
	}
	while (i < label.len && is_digit(label.ptr[i]))
		i++;
	return i == label.len;
}

static int
check_name(struct span name, const char **ret_reason)
{
	struct span rest = name;
	struct span label = SPAN_EMPTY;

	if (name.len > ADDRESS_DOMAIN_MAX)
		return refuse(
		    "the domain is longer than 255 octets", ret_reason);
	if (name.len == 0)
		return refuse("the domain is empty", ret_reason);
	if (name.ptr[name.len - 1] == '.')
		return refuse("the domain ends with a dot", ret_reason);
	while (rest.len > 0) {
		label = span_cut(&rest, '.');
		TRY(check_label(label, ret_reason));
	}
	if (is_number(label))
		return refuse(
		    "an IP address as domain needs brackets", ret_reason);
	return 0;
}

/* Mistakes that deserve a reason of their own, before conversion blurs them. */
static int
check_tricks(struct span s, const char **ret_reason)
{
	for (size_t i = 0; i < s.len; i++) {
		switch (s.ptr[i]) {
		case '@':
			return refuse("more than one @: routing through "
				      "addresses is not accepted",
			    ret_reason);
		case '(':
		case ')':
			return refuse("comments in addresses are not accepted",
			    ret_reason);
		case ' ':
			return refuse("a space in the domain", ret_reason);
		case '\0':
			return refuse(
			    "a control character in the address", ret_reason);
		default:
			break;
		}
	}
	return 0;
}

int
domain_parse(struct span s, struct arena *arena, struct span *ret_domain,
    const char **ret_reason)
{
	struct name name = { .len = 0 };
	struct span rest = s;

	TRY(check_tricks(s, ret_reason));
	if (s.len > ADDRESS_DOMAIN_MAX)
		return refuse(
		    "the domain is longer than 255 octets", ret_reason);
	if (s.len > 0 && s.ptr[s.len - 1] == '.')
		return refuse("the domain ends with a dot", ret_reason);
	for (bool first = true; rest.len > 0; first = false) {
		struct span label = span_cut(&rest, '.');
		if (!first && !name_append(&name, SPAN(".")))
			return refuse(
			    "the domain is longer than 255 octets", ret_reason);
		if (!label_append(label, &name))
			return refuse(
			    "the domain has an invalid internationalised label",
			    ret_reason);
	}
	TRY(check_name(span_from(name.text, name.len), ret_reason));
	*ret_domain = arena_dup(arena, span_from(name.text, name.len));
	return 0;
}

int
domain_parse_literal(struct span s, struct arena *arena,
    struct span *ret_domain, const char **ret_reason)
{
	static const char wrong[] = "not a valid address literal";
	char text[NETADDR_TEXT_SIZE];
	struct netaddr addr;

	if (s.len < 2 || s.ptr[0] != '[' || s.ptr[s.len - 1] != ']')
		return refuse(wrong, ret_reason);
	struct span inner = span_slice(s, 1, s.len - 2);
	if (span_find(inner, '[') != SIZE_MAX)
		return refuse(wrong, ret_reason);
	bool is_ip6 = span_starts_nocase(inner, SPAN("IPv6:"));
	if (is_ip6)
		inner = span_skip(inner, strlen("IPv6:"));
	if (!is_ip6 && span_find(inner, ':') != SIZE_MAX)
		return refuse(
		    "only IPv4 and IPv6 address literals exist", ret_reason);
	if (!netaddr_parse_ip(inner, &addr))
		return refuse(wrong, ret_reason);
	/* RFC 5321 §4.1.3: an IPv6 literal always has a colon. */
	if (is_ip6 && span_find(inner, ':') == SIZE_MAX)
		return refuse(wrong, ret_reason);
	*ret_domain = arena_printf(arena,
	    addr.family == NETADDR_IP6 ? "[IPv6:%s]" : "[%s]",
	    netaddr_format_ip(&addr, text));
	return 0;
}

int
address_normalise_domain(
    struct span domain, struct arena *arena, struct span *ret_domain)
{
	const char *reason = NULL;

	if (domain.len > 1 && domain.ptr[domain.len - 1] == '.')
		domain.len--; /* DNS writes the root */
	if (!span_is_utf8(domain))
		return ERR_SYNTAX;
	return domain_parse(domain, arena, ret_domain, &reason);
}

/* Hosts with an underscore in their name are many, and a name that says
 * nothing of value is no reason to refuse mail (RFC 5321 §4.1.4). */
static bool
is_host_label(struct span label)
{
	if (label.len == 0 || label.len > LABEL_MAX)
		return false;
	for (size_t i = 0; i < label.len; i++) {
		char c = label.ptr[i];
		if (!is_let_dig(c) && c != '-' && c != '_')
			return false;
	}
	return label.ptr[0] != '-' && label.ptr[label.len - 1] != '-';
}

static bool
is_host_literal(struct span name)
{
	struct netaddr addr;
	struct span inner = span_slice(name, 1, name.len - 2);

	if (span_starts_nocase(inner, SPAN("IPv6:")))
		inner = span_skip(inner, strlen("IPv6:"));
	return span_find(inner, '[') == SIZE_MAX &&
	       netaddr_parse_ip(inner, &addr);
}

bool
address_is_helo_name(struct span name)
{
	struct span rest = name;

	if (name.len == 0 || name.len > ADDRESS_DOMAIN_MAX)
		return false;
	if (name.ptr[0] == '[')
		return name.len > 2 && name.ptr[name.len - 1] == ']' &&
		       is_host_literal(name);
	if (name.ptr[name.len - 1] == '.')
		return false;
	while (rest.len > 0) {
		if (!is_host_label(span_cut(&rest, '.')))
			return false;
	}
	return true;
}
