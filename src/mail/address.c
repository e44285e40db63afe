/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/address.h"

#include "base/bug.h"
#include "mail/internal.h"

/*
 * Mailbox       = Local-part "@" ( Domain / address-literal )
 * Local-part    = Dot-string / Quoted-string
 * Dot-string    = Atom *("." Atom)
 * Quoted-string = DQUOTE *QcontentSMTP DQUOTE          RFC 5321 §4.1.2
 *
 * Stricter than the grammar on purpose: "%", "!" and "@" in a local part are
 * refused even where they are quoted, because some system behind this one may
 * still read them as a route (RFC 5321 §7.7 and appendix C), and an empty
 * quoted string names nobody.
 */

/* A local part without quotes and escapes. */
struct local {
	char text[ADDRESS_LOCAL_MAX];
	size_t len;
};

static int
refuse(const char *reason, const char **ret_reason)
{
	*ret_reason = reason;
	return ERR_SYNTAX;
}

/* What holds for every octet of an address, quoted or not. */
static int
check_octets(struct span s, int flags, const char **ret_reason)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];
		if (c < 0x20 || c == 0x7f)
			return refuse(
			    "a control character in the address", ret_reason);
	}
	if (span_is_ascii(s))
		return 0;
	if ((flags & ADDRESS_ALLOW_UTF8) == 0)
		return refuse(
		    "an address that is not ASCII needs SMTPUTF8", ret_reason);
	while (s.len > 0) {
		uint32_t point = 0;
		if (!utf8_next(&s, &point))
			return refuse(
			    "the address is not valid UTF-8", ret_reason);
		if (!plain_is_harmless(point))
			return refuse(
			    "a control character in the address", ret_reason);
	}
	return 0;
}

static int
check_tricks(char c, const char **ret_reason)
{
	switch (c) {
	case '%':
		return refuse("% in a local part is a relaying trick: routing "
			      "through addresses is not accepted",
		    ret_reason);
	case '!':
		return refuse("! in a local part is a relaying trick: bang "
			      "paths are not accepted",
		    ret_reason);
	case '@':
		return refuse("@ in a local part is a relaying trick, quoted "
			      "or not",
		    ret_reason);
	default:
		return 0;
	}
}

static int
local_append(struct local *l, char c, const char **ret_reason)
{
	TRY(check_tricks(c, ret_reason));
	if (l->len == sizeof(l->text))
		return refuse(
		    "the local part is longer than 64 octets", ret_reason);
	l->text[l->len++] = c;
	return 0;
}

/* Why c may not stand in a local part without quotes. */
static const char *
bare_reason(char c)
{
	switch (c) {
	case '(':
	case ')':
		return "comments in addresses are not accepted";
	case ' ':
		return "a space in the local part needs quotes";
	case '"':
	case '\\':
		return "quotes must surround the whole local part";
	case '<':
	case '>':
		return "angle brackets in the local part";
	default:
		return "a character in the local part that needs quotes";
	}
}

static bool
is_dot_string(struct span s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] == '.' && (i == 0 || s.ptr[i - 1] == '.'))
			return false;
		if (s.ptr[i] != '.' && !char_is_atext((unsigned char)s.ptr[i]))
			return false;
	}
	return s.len > 0 && s.ptr[s.len - 1] != '.';
}

static int
parse_dot_string(struct span *s, struct local *l, const char **ret_reason)
{
	while (s->len > 0 && s->ptr[0] != '@') {
		char c = s->ptr[0];
		if (c != '.' && !char_is_atext((unsigned char)c))
			return refuse(bare_reason(c), ret_reason);
		TRY(local_append(l, c, ret_reason));
		*s = span_skip(*s, 1);
	}
	if (l->len == 0)
		return refuse("the local part is empty", ret_reason);
	if (!is_dot_string(span_from(l->text, l->len)))
		return refuse("the local part has a dot at an end, or two in a "
			      "row",
		    ret_reason);
	return 0;
}

static int
parse_quoted_string(struct span *s, struct local *l, const char **ret_reason)
{
	static const char open[] = "a quoted local part without its end";

	*s = span_skip(*s, 1);
	while (s->len > 0 && s->ptr[0] != '"') {
		if (s->ptr[0] == '\\') {
			*s = span_skip(*s, 1);
			if (s->len == 0)
				return refuse(open, ret_reason);
			if ((unsigned char)s->ptr[0] >= 0x80)
				return refuse("a backslash before a character "
					      "that is not ASCII",
				    ret_reason);
		}
		TRY(local_append(l, s->ptr[0], ret_reason));
		*s = span_skip(*s, 1);
	}
	if (s->len == 0)
		return refuse(open, ret_reason);
	if (l->len == 0)
		return refuse("the local part is empty", ret_reason);
	*s = span_skip(*s, 1);
	return 0;
}

/* The canonical spelling: quotes and backslashes only where they must be. */
static int
local_format(const struct local *l, struct arena *arena, struct span *ret_local,
    const char **ret_reason)
{
	char quoted[2 * ADDRESS_LOCAL_MAX + 2];
	size_t len = 0;

	if (is_dot_string(span_from(l->text, l->len))) {
		*ret_local = arena_dup(arena, span_from(l->text, l->len));
		return 0;
	}
	quoted[len++] = '"';
	for (size_t i = 0; i < l->len; i++) {
		if (l->text[i] == '"' || l->text[i] == '\\')
			quoted[len++] = '\\';
		quoted[len++] = l->text[i];
	}
	quoted[len++] = '"';
	if (len > ADDRESS_LOCAL_MAX)
		return refuse(
		    "the local part is longer than 64 octets", ret_reason);
	*ret_local = arena_dup(arena, span_from(quoted, len));
	return 0;
}

static int
parse_domain(struct span s, int flags, struct arena *arena,
    struct address *ret_address, const char **ret_reason)
{
	struct span domain;

	if (s.len == 0)
		return refuse("the domain is empty", ret_reason);
	if (s.ptr[0] != '[') {
		TRY(domain_parse(s, arena, &domain, ret_reason));
		ret_address->domain = domain;
		return 0;
	}
	if ((flags & ADDRESS_ALLOW_LITERAL) == 0)
		return refuse("address literals are not accepted", ret_reason);
	TRY(domain_parse_literal(s, arena, &domain, ret_reason));
	ret_address->domain = domain;
	ret_address->is_literal = true;
	return 0;
}

static int
parse_bare(struct span s, int flags, struct address *ret_address,
    const char **ret_reason)
{
	if ((flags & ADDRESS_ALLOW_POSTMASTER) == 0 ||
	    !span_eq_nocase(s, SPAN("postmaster")))
		return refuse("the address has no domain", ret_reason);
	*ret_address = (struct address){
		.text = SPAN("postmaster"),
		.local = SPAN("postmaster"),
	};
	return 0;
}

/* One text; local and domain become views into it. */
static void
address_join(struct address *a, struct span local, struct arena *arena)
{
	struct span domain = a->domain;

	a->text =
	    arena_printf(arena, "%.*s@%.*s", SPAN_ARG(local), SPAN_ARG(domain));
	BUG_UNLESS(a->text.len == local.len + 1 + domain.len);
	BUG_UNLESS(a->text.len <= ADDRESS_MAX);
	a->local = span_slice(a->text, 0, local.len);
	a->domain = span_skip(a->text, local.len + 1);
	a->needs_utf8 = !span_is_ascii(a->local);
}

static int
parse_mailbox(struct span s, int flags, struct arena *arena,
    struct address *ret_address, const char **ret_reason)
{
	struct address address = { .is_literal = false };
	struct local local = { .len = 0 };
	struct span rest = s;
	struct span text;

	TRY(check_octets(s, flags, ret_reason));
	if (s.ptr[0] == '@' && span_find(s, ':') != SIZE_MAX)
		return refuse("source routes are not accepted", ret_reason);
	if (s.ptr[0] == '"')
		TRY(parse_quoted_string(&rest, &local, ret_reason));
	else
		TRY(parse_dot_string(&rest, &local, ret_reason));
	if (rest.len == 0)
		return parse_bare(s, flags, ret_address, ret_reason);
	if (rest.ptr[0] != '@')
		return refuse(
		    "quotes must surround the whole local part", ret_reason);
	TRY(local_format(&local, arena, &text, ret_reason));
	TRY(parse_domain(
	    span_skip(rest, 1), flags, arena, &address, ret_reason));
	address_join(&address, text, arena);
	*ret_address = address;
	return 0;
}

int
address_parse(struct span s, int flags, struct arena *arena,
    struct address *ret_address, const char **ret_reason)
{
	BUG_UNLESS(arena != NULL && ret_reason != NULL);
	if (s.len > 0)
		return parse_mailbox(s, flags, arena, ret_address, ret_reason);
	if ((flags & ADDRESS_ALLOW_NULL) == 0)
		return refuse("the address is empty", ret_reason);
	*ret_address = (struct address){ .text = SPAN_EMPTY };
	return 0;
}

/* Position of the ">" that ends a path, or SIZE_MAX. */
static size_t
path_end(struct span s)
{
	bool is_quoted = false;

	for (size_t i = 1; i < s.len; i++) {
		if (is_quoted && s.ptr[i] == '\\')
			i++;
		else if (s.ptr[i] == '"')
			is_quoted = !is_quoted;
		else if (s.ptr[i] == '>' && !is_quoted)
			return i;
	}
	return SIZE_MAX;
}

int
address_parse_path(struct span *s, int flags, struct arena *arena,
    struct address *ret_address, const char **ret_reason)
{
	if (s->len == 0 || s->ptr[0] != '<')
		return refuse("an address needs angle brackets", ret_reason);
	size_t end = path_end(*s);
	if (end == SIZE_MAX)
		return refuse(
		    "an address without its closing bracket", ret_reason);
	TRY(address_parse(
	    span_slice(*s, 1, end - 1), flags, arena, ret_address, ret_reason));
	*s = span_skip(*s, end + 1);
	return 0;
}

struct span
address_domain_of(struct span mailbox)
{
	size_t at = span_find_last(mailbox, '@');

	return at == SIZE_MAX ? SPAN_EMPTY : span_skip(mailbox, at + 1);
}
