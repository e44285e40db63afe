/* SPDX-License-Identifier: Apache-2.0 */
#include "sign/canon.h"

#include "base/bug.h"

#include <string.h>

static bool
is_wsp(char c)
{
	return c == ' ' || c == '\t';
}

/* ---- bodies ------------------------------------------------------ */

static void
flush(struct canon_body *b)
{
	if (b->used > 0)
		b->sink(b->arg, span_from(b->out, b->used));
	b->used = 0;
}

static void
put(struct canon_body *b, char c)
{
	if (b->used == sizeof b->out)
		flush(b);
	b->out[b->used++] = c;
}

static void
put_all(struct canon_body *b, struct span s)
{
	b->any = true;
	while (s.len > 0) {
		if (b->used == sizeof b->out)
			flush(b);
		struct span part = span_slice(s, 0, sizeof b->out - b->used);
		memcpy(b->out + b->used, part.ptr, part.len);
		b->used += part.len;
		s = span_skip(s, part.len);
	}
}

/* Something follows: what was held back is not at an end. */
static void
put_held(struct canon_body *b)
{
	for (; b->ends > 0; b->ends--) {
		put(b, '\r');
		put(b, '\n');
	}
	if (b->space)
		put(b, ' ');
	b->space = false;
	b->any = true;
}

/* White space that the relaxed form changes: all but single spaces within a
 * line. Most lines have none; written so that compilers make vectors of it. */
static bool
has_odd_space(struct span line)
{
	unsigned char odd =
	    line.ptr[0] == ' ' || is_wsp(line.ptr[line.len - 1]);

	for (size_t i = 0; i + 1 < line.len; i++) {
		odd |= (unsigned char)(line.ptr[i] == '\t');
		odd |= (unsigned char)((line.ptr[i] == ' ') &
				       (line.ptr[i + 1] == ' '));
	}
	return odd != 0;
}

/* Octets of one line, without a CR. */
static void
take_part(struct canon_body *b, struct span part)
{
	if (b->canon == CANON_SIMPLE || !has_odd_space(part)) {
		put_held(b);
		put_all(b, part);
		return;
	}
	while (part.len > 0) {
		size_t len = 0;

		while (len < part.len && !is_wsp(part.ptr[len]))
			len++;
		if (len > 0) {
			put_held(b);
			put_all(b, span_slice(part, 0, len));
		} else {
			b->space = true;
			len = 1;
		}
		part = span_skip(part, len);
	}
}

static void
take_octet(struct canon_body *b, char c)
{
	if (b->cr && c == '\n') {
		b->cr = b->space = false;
		b->ends++;
		return;
	}
	if (b->cr) {
		put_held(b);
		put(b, '\r');
	}
	b->cr = c == '\r';
	if (b->cr)
		return;
	if (b->canon == CANON_RELAXED && is_wsp(c)) {
		b->space = true;
		return;
	}
	put_held(b);
	put(b, c);
}

void
canon_body_init(
    struct canon_body *body, enum canon canon, canon_sink_fn *sink, void *arg)
{
	body->canon = canon;
	body->sink = sink;
	body->arg = arg;
	body->ends = 0;
	body->cr = body->space = body->any = false;
	body->used = 0;
}

void
canon_body_feed(struct canon_body *body, struct span piece)
{
	while (piece.len > 0) {
		BUG_UNLESS(piece.ptr != NULL);
		size_t len = body->cr ? 0 : span_find(piece, '\r');
		if (len > 0) {
			if (len > piece.len)
				len = piece.len;
			take_part(body, span_slice(piece, 0, len));
		} else {
			take_octet(body, piece.ptr[0]);
			len = 1;
		}
		piece = span_skip(piece, len);
	}
}

void
canon_body_end(struct canon_body *body)
{
	if (body->cr) {
		put_held(body);
		put(body, '\r');
	}
	if (body->any || body->canon == CANON_SIMPLE)
		put_all(body, SPAN("\r\n"));
	flush(body);
}

/* ---- fields ------------------------------------------------------ */

static struct span
without_crlf(struct span s)
{
	if (span_ends_nocase(s, SPAN("\r\n")))
		s.len -= 2;
	return s;
}

/* In place: what is appended never is longer than what it comes from. */
static void
relax_name(struct span name, struct buf *out)
{
	char *to = buf_reserve(out, name.len);
	size_t len = name.len;

	while (len > 0 && is_wsp(name.ptr[len - 1]))
		len--;
	for (size_t i = 0; i < len; i++) {
		char c = name.ptr[i];
		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		to[i] = c;
	}
	buf_added(out, len);
}

/* Unfolds (the CRLFs go, the white space behind them stays), makes one space
 * of each run of white space, and none at both ends. */
static void
relax_value(struct span value, struct buf *out)
{
	char *to = buf_reserve(out, value.len + 1);
	size_t len = 0;
	bool space = false;

	for (size_t i = 0; i < value.len; i++) {
		char c = value.ptr[i];
		bool is_end =
		    c == '\r' && i + 1 < value.len && value.ptr[i + 1] == '\n';
		i += is_end;
		if (is_end)
			continue;
		if (is_wsp(c)) {
			space = len > 0;
			continue;
		}
		if (space)
			to[len++] = ' ';
		space = false;
		to[len++] = c;
	}
	buf_added(out, len);
}

void
canon_field(enum canon canon, struct span raw, struct buf *out)
{
	struct span field = without_crlf(raw);
	size_t colon = span_find(field, ':');

	if (canon == CANON_SIMPLE || colon == SIZE_MAX) {
		buf_append(out, field);
	} else {
		relax_name(span_slice(field, 0, colon), out);
		buf_append_char(out, ':');
		relax_value(span_skip(field, colon + 1), out);
	}
	buf_append_str(out, "\r\n");
}
