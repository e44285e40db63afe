/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/parameters.h"

#include "mail/xtext.h"
#include "smtp/internal.h"

enum {
	ENVID_MAX = 100, /* decoded; RFC 3461 §4.4 */
	ORCPT_MAX = 500, /* RFC 3461 §4.2 */
	MAIL_AUTH_MAX = 500, /* RFC 4954 §5 */
	NAME_SHOWN_MAX = 40, /* of an unknown parameter, in our reply */
};

/* What a parameter's parser works on: one of mail and rcpt is set. */
struct parameter_target {
	struct arena *arena;
	struct smtp_mail *mail;
	struct smtp_rcpt *rcpt;
	bool utf8;
};

typedef bool parameter_fn(struct parameter_target *t, struct span value);

struct parameter {
	struct span name;
	parameter_fn *parse; /* false: the value is wrong */
	bool has_value;
	const char *wrong; /* what to say then */
};

static bool
is_printable(struct span s)
{
	if (s.len == 0)
		return true;
	for (const char *p = s.ptr; p < s.ptr + s.len; p++) {
		if (*p < ' ' || *p > '~')
			return false;
	}
	return true;
}

/* xtext whose decoded form is printable US-ASCII (RFC 3461 §4.2, §4.4): what
 * travels into spools, logs and reports must never carry a line end. It is
 * encoded again, since servers ahead may be stricter about its form. */
static bool
canonical_xtext(struct span s, size_t decoded_max, struct buf *out)
{
	struct buf decoded = BUF_EMPTY;
	bool ok = xtext_decode(s, &decoded) >= 0;
	struct span text = buf_span(&decoded);
	ok = ok && text.len <= decoded_max && is_printable(text);
	if (ok)
		xtext_encode(text, out);
	buf_done(&decoded);
	return ok;
}

/* RFC 1870 §6 */
static bool
parse_size(struct parameter_target *t, struct span value)
{
	return value.len <= 20 &&
	       span_to_u64(value, UINT64_MAX, &t->mail->size);
}

/* RFC 6152 §2, RFC 3030 §3 */
static bool
parse_body(struct parameter_target *t, struct span value)
{
	if (span_eq_nocase(value, SPAN("7BIT")))
		t->mail->body = SMTP_BODY_7BIT;
	else if (span_eq_nocase(value, SPAN("8BITMIME")))
		t->mail->body = SMTP_BODY_8BITMIME;
	else if (span_eq_nocase(value, SPAN("BINARYMIME")))
		t->mail->body = SMTP_BODY_BINARYMIME;
	else
		return false;
	return true;
}

/* RFC 6531 §3.4 */
static bool
parse_smtputf8(struct parameter_target *t, struct span value)
{
	(void)value;
	t->mail->utf8 = true;
	return true;
}

/* RFC 8689 §2 */
static bool
parse_requiretls(struct parameter_target *t, struct span value)
{
	(void)value;
	t->mail->requiretls = true;
	return true;
}

/* RFC 4954 §5: who first submitted it. Nobody may be believed, so it is
 * checked and forgotten. */
static bool
parse_auth(struct parameter_target *t, struct span value)
{
	(void)t;
	struct buf canonical = BUF_EMPTY;
	bool ok = span_eq(value, SPAN("<>")) ||
		  canonical_xtext(value, MAIL_AUTH_MAX, &canonical);
	buf_done(&canonical);
	return ok;
}

/* RFC 3461 §4.3 */
static bool
parse_ret(struct parameter_target *t, struct span value)
{
	if (span_eq_nocase(value, SPAN("FULL")))
		t->mail->ret = SMTP_RET_FULL;
	else if (span_eq_nocase(value, SPAN("HDRS")))
		t->mail->ret = SMTP_RET_HDRS;
	else
		return false;
	return true;
}

/* RFC 3461 §4.4 */
static bool
parse_envid(struct parameter_target *t, struct span value)
{
	struct buf canonical = BUF_EMPTY;
	bool ok = canonical_xtext(value, ENVID_MAX, &canonical);
	if (ok)
		t->mail->envid = arena_dup(t->arena, buf_span(&canonical));
	buf_done(&canonical);
	return ok;
}

static uint8_t
notify_bit(struct span word)
{
	if (span_eq_nocase(word, SPAN("SUCCESS")))
		return SMTP_NOTIFY_SUCCESS;
	if (span_eq_nocase(word, SPAN("FAILURE")))
		return SMTP_NOTIFY_FAILURE;
	if (span_eq_nocase(word, SPAN("DELAY")))
		return SMTP_NOTIFY_DELAY;
	return 0;
}

/* RFC 3461 §4.1: "NEVER" alone, or a list of the others. */
static bool
parse_notify(struct parameter_target *t, struct span value)
{
	if (span_eq_nocase(value, SPAN("NEVER"))) {
		t->rcpt->notify = SMTP_NOTIFY_NEVER;
		return true;
	}
	uint8_t bits = 0;
	/* A comma at the end leaves an empty word, which is no word. */
	for (bool more = true; more;) {
		more = span_find(value, ',') != SIZE_MAX;
		uint8_t bit = notify_bit(span_cut(&value, ','));
		if (bit == 0)
			return false;
		bits |= bit;
	}
	t->rcpt->notify = bits;
	return true;
}

/* The code point that starts at s (known to be valid UTF-8), and its length. */
static uint32_t
code_point(struct span s, size_t *ret_len)
{
	unsigned char first = (unsigned char)s.ptr[0];
	size_t len = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
	uint32_t point = first & (0xffu >> (len + 1));
	for (size_t i = 1; i < len; i++)
		point = point << 6 | ((unsigned char)s.ptr[i] & 0x3f);
	*ret_len = len;
	return point;
}

/* RFC 6533 §3: raw characters (utf-8-addr-unitext) become the ASCII form
 * \x{…} (utf-8-addr-xtext), which may travel to any server and any report.
 * False on a C1 control. */
static bool
unitext_to_ascii(struct span s, struct buf *out)
{
	while (s.len > 0) {
		size_t len = 1;
		if ((signed char)s.ptr[0] >= 0) {
			buf_append_char(out, s.ptr[0]);
		} else {
			uint32_t point = code_point(s, &len);
			if (point < 0xa0)
				return false;
			buf_printf(out, "\\x{%X}", (unsigned)point);
		}
		s = span_skip(s, len);
	}
	return true;
}

static bool
is_address_type(struct span s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		bool atom = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			    (c >= '0' && c <= '9') || c == '-';
		if (!atom)
			return false;
	}
	return s.len > 0;
}

/* Raw characters need both SMTPUTF8 and the type for them. */
static bool
address_to_ascii(const struct parameter_target *t, struct span type,
    struct span address, struct buf *out)
{
	if (span_is_ascii(address)) {
		buf_append(out, address);
		return true;
	}
	return t->utf8 && span_eq_nocase(type, SPAN("utf-8")) &&
	       span_is_utf8(address) && unitext_to_ascii(address, out);
}

/* RFC 3461 §4.2: address type ";" xtext. */
static bool
parse_orcpt(struct parameter_target *t, struct span value)
{
	struct span address = value;
	struct span type = span_cut(&address, ';');
	if (!is_address_type(type) || address.len == 0 || value.len > ORCPT_MAX)
		return false;
	struct buf ascii = BUF_EMPTY, canonical = BUF_EMPTY;
	bool ok = address_to_ascii(t, type, address, &ascii);
	buf_append(&canonical, type);
	buf_append_char(&canonical, ';');
	ok = ok && canonical_xtext(buf_span(&ascii), SIZE_MAX, &canonical);
	if (ok)
		t->rcpt->orcpt = arena_dup(t->arena, buf_span(&canonical));
	buf_done(&ascii);
	buf_done(&canonical);
	return ok;
}

/* clang-format off */
static const struct parameter mail_parameters[] = {
	{ { "SIZE", 4 },     parse_size,     true,  "SIZE must be a number of octets" },
	{ { "BODY", 4 },     parse_body,     true,  "BODY must be 7BIT, 8BITMIME or BINARYMIME" },
	{ { "SMTPUTF8", 8 }, parse_smtputf8, false, "SMTPUTF8 takes no value" },
	{ { "AUTH", 4 },     parse_auth,     true,  "AUTH must be <> or xtext" },
	{ { "RET", 3 },      parse_ret,      true,  "RET must be FULL or HDRS" },
	{ { "REQUIRETLS", 10 }, parse_requiretls, false, "REQUIRETLS takes no value" },
	{ { "ENVID", 5 },    parse_envid,    true,  "ENVID must be printable xtext, 100 characters at most" },
};

static const struct parameter rcpt_parameters[] = {
	{ { "NOTIFY", 6 },   parse_notify,   true,  "NOTIFY must be NEVER or of SUCCESS, FAILURE, DELAY" },
	{ { "ORCPT", 5 },    parse_orcpt,    true,  "ORCPT must be type;xtext, 500 characters at most" },
};

/* clang-format on */

/* esmtp-keyword of RFC 5321 §4.1.2 */
static bool
is_keyword(struct span s)
{
	return is_address_type(s) && s.ptr[0] != '-';
}

static int
refuse(struct reply *ret_fault, const char *why)
{
	*ret_fault = REPLY(501, 5, 5, 4, "");
	ret_fault->text = span_of(why);
	return ERR_SYNTAX;
}

static int
refuse_unknown(struct arena *arena, struct span name, struct reply *ret_fault)
{
	*ret_fault = REPLY(555, 5, 5, 4, "");
	name = span_slice(name, 0, NAME_SHOWN_MAX);
	ret_fault->text =
	    arena_printf(arena, "unknown parameter %.*s", SPAN_ARG(name));
	return ERR_SYNTAX;
}

static int
parse_one(struct parameter_target *t, struct span word, unsigned *seen,
    struct reply *ret_fault)
{
	bool is_mail = t->mail != NULL;
	const struct parameter *table =
	    is_mail ? mail_parameters : rcpt_parameters;
	size_t count =
	    is_mail ? sizeof(mail_parameters) / sizeof(mail_parameters[0])
		    : sizeof(rcpt_parameters) / sizeof(rcpt_parameters[0]);
	bool has_value = span_find(word, '=') != SIZE_MAX;
	struct span value = word;
	struct span name = span_cut(&value, '=');
	if (!is_keyword(name))
		return refuse(
		    ret_fault, "a parameter must be NAME or NAME=value");
	size_t i = 0;
	while (i < count && !span_eq_nocase(name, table[i].name))
		i++;
	if (i == count)
		return refuse_unknown(t->arena, name, ret_fault);
	if ((*seen & 1u << i) != 0)
		return refuse(ret_fault, "a parameter is given twice");
	*seen |= 1u << i;
	if (has_value != table[i].has_value || has_value != (value.len > 0) ||
	    !table[i].parse(t, value))
		return refuse(ret_fault, table[i].wrong);
	return 0;
}

static int
parse_all(struct parameter_target *t, struct span list, struct reply *ret_fault)
{
	unsigned seen = 0;
	while (list.len > 0) {
		struct span word = span_cut(&list, ' ');
		if (word.len > 0)
			TRY(parse_one(t, word, &seen, ret_fault));
	}
	return 0;
}

int
parameters_parse_mail(struct span list, struct arena *arena,
    struct smtp_mail *mail, struct reply *ret_fault)
{
	struct parameter_target t = { .arena = arena, .mail = mail };
	return parse_all(&t, list, ret_fault);
}

int
parameters_parse_rcpt(struct span list, bool utf8, struct arena *arena,
    struct smtp_rcpt *rcpt, struct reply *ret_fault)
{
	struct parameter_target t = {
		.arena = arena, .rcpt = rcpt, .utf8 = utf8
	};
	return parse_all(&t, list, ret_fault);
}
