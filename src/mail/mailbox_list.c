/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/address.h"
#include "mail/header.h"
#include "mail/internal.h"

#include <string.h>

/*
 * address-list = address *("," address)              RFC 5322 §3.4
 * address      = mailbox / group                     RFC 6854: From, too
 * group        = phrase ":" [mailbox *("," mailbox)] ";"
 * mailbox      = [phrase] "<" addr-spec ">" / addr-spec
 * addr-spec    = (dot-atom / quoted-string) "@" (dot-atom / literal)
 *
 * The sender's domain decides who answers for a message, so what two readers
 * may read differently is refused: routes, spaces and comments inside an
 * addr-spec, "@" in a phrase without quotes, empty list elements. A dot in a
 * phrase ("John Q. Public") is the one obsolete form that stays.
 */

struct reader {
	struct span rest;
	struct arena *arena;
	size_t count;
	struct span first;
};

static int
skip_comment(struct span *s)
{
	size_t depth = 0;

	while (s->len > 0) {
		char c = s->ptr[0];
		*s = span_skip(*s, c == '\\' ? 2 : 1);
		if (c == '(')
			depth++;
		if (c == ')' && --depth == 0)
			return 0;
	}
	return ERR_SYNTAX;
}

/* CFWS */
static int
skip_space(struct span *s)
{
	while (s->len > 0) {
		char c = s->ptr[0];
		if (c == '(')
			TRY(skip_comment(s));
		else if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
			*s = span_skip(*s, 1);
		else
			break;
	}
	return 0;
}

static bool
next_is(const struct span *s, char c)
{
	return s->len > 0 && s->ptr[0] == c;
}

/* With its quotes. */
static int
take_quoted(struct span *s, struct span *ret_word)
{
	for (size_t i = 1; i < s->len; i++) {
		if (s->ptr[i] == '"') {
			*ret_word = span_slice(*s, 0, i + 1);
			*s = span_skip(*s, i + 1);
			return 0;
		}
		if (s->ptr[i] == '\\')
			i++;
	}
	return ERR_SYNTAX;
}

/* A quoted string, or a run of atoms and dots. */
static int
take_word(struct span *s, struct span *ret_word)
{
	size_t len = 0;

	if (next_is(s, '"'))
		return take_quoted(s, ret_word);
	while (len < s->len && (s->ptr[len] == '.' ||
				   char_is_atext((unsigned char)s->ptr[len])))
		len++;
	if (len == 0)
		return ERR_SYNTAX;
	*ret_word = span_slice(*s, 0, len);
	*s = span_skip(*s, len);
	return 0;
}

static bool
is_local_part(struct span word)
{
	if (word.ptr[0] != '"')
		return word.ptr[0] != '.' && word.ptr[word.len - 1] != '.' &&
		       span_search(word, SPAN("..")) == SIZE_MAX;
	for (size_t i = 0; i < word.len; i++) {
		unsigned char c = (unsigned char)word.ptr[i];
		if (c < ' ' || c == 0x7f)
			return false;
	}
	return word.len > 2;
}

static int
take_domain(struct reader *r, struct span *ret_domain)
{
	const char *reason = NULL;
	struct span word;

	TRY(skip_space(&r->rest));
	if (next_is(&r->rest, '"'))
		return ERR_SYNTAX;
	if (!next_is(&r->rest, '[')) {
		TRY(take_word(&r->rest, &word));
		if (!span_is_utf8(word))
			return ERR_SYNTAX;
		return domain_parse(word, r->arena, ret_domain, &reason);
	}
	size_t end = span_find(r->rest, ']');
	if (end == SIZE_MAX)
		return ERR_SYNTAX;
	word = span_slice(r->rest, 0, end + 1);
	r->rest = span_skip(r->rest, end + 1);
	return domain_parse_literal(word, r->arena, ret_domain, &reason);
}

/* "@" and a domain after the local part `word`. */
static int
finish_addr_spec(struct reader *r, struct span word)
{
	struct span domain;

	if (!next_is(&r->rest, '@') || !is_local_part(word))
		return ERR_SYNTAX;
	r->rest = span_skip(r->rest, 1);
	TRY(take_domain(r, &domain));
	if (r->count++ > 0)
		return 0;
	r->first = arena_printf(
	    r->arena, "%.*s@%.*s", SPAN_ARG(word), SPAN_ARG(domain));
	return 0;
}

static int
take_angle(struct reader *r)
{
	struct span word;

	r->rest = span_skip(r->rest, 1);
	TRY(skip_space(&r->rest));
	TRY(take_word(&r->rest, &word)); /* a route's "@" fails here */
	TRY(skip_space(&r->rest));
	TRY(finish_addr_spec(r, word));
	TRY(skip_space(&r->rest));
	if (!next_is(&r->rest, '>'))
		return ERR_SYNTAX;
	r->rest = span_skip(r->rest, 1);
	return 0;
}

/* A mailbox, or the name of a group with its colon: then *ret_is_group. */
static int
take_mailbox(struct reader *r, bool *ret_is_group)
{
	struct span word = SPAN_EMPTY;
	size_t word_count = 0;

	*ret_is_group = false;
	TRY(skip_space(&r->rest));
	while (r->rest.len > 0 && strchr("<@:,;", r->rest.ptr[0]) == NULL) {
		TRY(take_word(&r->rest, &word));
		TRY(skip_space(&r->rest));
		word_count++;
	}
	if (next_is(&r->rest, '<')) {
		TRY(take_angle(r));
		return skip_space(&r->rest);
	}
	if (word_count == 0)
		return ERR_SYNTAX;
	if (next_is(&r->rest, ':')) {
		r->rest = span_skip(r->rest, 1);
		*ret_is_group = true;
		return 0;
	}
	if (word_count > 1)
		return ERR_SYNTAX;
	TRY(finish_addr_spec(r, word));
	return skip_space(&r->rest);
}

/* The mailboxes behind a group's colon, and its semicolon. */
static int
take_group(struct reader *r)
{
	bool is_group = false;

	TRY(skip_space(&r->rest));
	for (bool first = true; !next_is(&r->rest, ';'); first = false) {
		if (!first && !next_is(&r->rest, ','))
			return ERR_SYNTAX;
		if (!first)
			r->rest = span_skip(r->rest, 1);
		TRY(take_mailbox(r, &is_group));
		if (is_group)
			return ERR_SYNTAX;
	}
	r->rest = span_skip(r->rest, 1);
	return skip_space(&r->rest);
}

int
header_from_address(struct span value, struct arena *arena, size_t *ret_count,
    struct span *ret_first)
{
	struct reader r = { .rest = value, .arena = arena };

	for (;;) {
		bool is_group = false;
		TRY(take_mailbox(&r, &is_group));
		if (is_group)
			TRY(take_group(&r));
		if (r.rest.len == 0)
			break;
		if (!next_is(&r.rest, ','))
			return ERR_SYNTAX;
		r.rest = span_skip(r.rest, 1);
	}
	*ret_count = r.count;
	*ret_first = r.first;
	return 0;
}
