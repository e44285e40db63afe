/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command lines, one at a time, copied so that their views outlive the input.
 *
 * CR LF ends a line. A bare CR, a bare LF or a NUL is never a mistake of
 * typing: it is how two programs are made to disagree about where a command
 * starts, so the session ends there. Where a listener normalises, a bare LF
 * ends a line and so does a bare CR once the next byte shows that it is one.
 */
#include "smtp/internal.h"

void
line_reset(struct line *l)
{
	buf_clear(&l->buf);
	l->whole = l->held_cr = l->draining = l->after_cr = false;
}

static enum line_outcome
end_drain(struct line *l, struct span *in, size_t taken, bool proper)
{
	*in = span_skip(*in, taken);
	line_reset(l);
	return proper || l->normalise ? LINE_TOO_LONG : LINE_BROKEN;
}

/* The rest of a line that is too long, in constant memory and with the same
 * eyes for what breaks it: how the bytes are cut must not matter. */
static enum line_outcome
drain(struct line *l, struct span *in)
{
	for (size_t i = 0; i < in->len; i++) {
		char c = in->ptr[i];
		if (l->after_cr && c != '\n')
			return end_drain(l, in, i, false);
		if (c == '\n')
			return end_drain(l, in, i + 1, l->after_cr);
		if (c == '\0') {
			l->whole = true;
			return LINE_BROKEN;
		}
		l->after_cr = c == '\r';
	}
	*in = span_skip(*in, in->len);
	return LINE_MORE;
}

static enum line_outcome
begin_drain(struct line *l, struct span *in)
{
	struct span held = buf_span(&l->buf);
	size_t cr = span_find(held, '\r');
	bool broken = cr != SIZE_MAX && cr + 1 < held.len;
	l->after_cr = cr != SIZE_MAX;
	buf_clear(&l->buf);
	l->held_cr = false;
	l->draining = true;
	l->whole = broken;
	return broken ? LINE_BROKEN : drain(l, in);
}

static size_t
limit(const struct line *l, bool is_auth)
{
	return is_auth || span_starts_nocase(buf_span(&l->buf), SPAN("AUTH "))
		   ? LINE_MAX_AUTH
		   : LINE_MAX_COMMAND;
}

/* The buffer ends in LF, or (normalise) in nothing. */
static enum line_outcome
finish(struct line *l, bool is_auth)
{
	struct span text = buf_span(&l->buf);
	l->whole = true;
	bool too_long = text.len > limit(l, is_auth);
	if (span_ends_nocase(text, SPAN("\n")))
		text.len--;
	else if (!l->normalise)
		return LINE_BROKEN;
	if (span_ends_nocase(text, SPAN("\r")))
		text.len--;
	else if (!l->normalise)
		return LINE_BROKEN;
	if (span_find(text, '\r') != SIZE_MAX)
		return LINE_BROKEN;
	l->text = text;
	return too_long ? LINE_TOO_LONG : LINE_READY;
}

/* Where a bare CR stands whose next byte is there to show it; SIZE_MAX: none
 * before `end`. */
static size_t
find_bare_cr(struct span in, size_t end)
{
	size_t cr = span_find(span_slice(in, 0, end), '\r');
	if (cr == SIZE_MAX || cr + 1 >= in.len || in.ptr[cr + 1] == '\n')
		return SIZE_MAX;
	return cr;
}

enum line_outcome
line_take(struct line *l, struct span *in, bool is_auth)
{
	if (l->whole)
		line_reset(l);
	if (in->len == 0)
		return LINE_MORE;
	if (l->draining)
		return drain(l, in);
	if (l->held_cr && in->ptr[0] != '\n')
		return finish(l, is_auth);
	size_t newline = span_find(*in, '\n');
	size_t take = newline == SIZE_MAX ? in->len : newline + 1;
	size_t bare = l->normalise ? find_bare_cr(*in, take) : SIZE_MAX;
	if (bare != SIZE_MAX)
		take = bare + 1;
	struct span piece = span_slice(*in, 0, take);
	if (span_find(piece, '\0') != SIZE_MAX) {
		l->whole = true;
		return LINE_BROKEN;
	}
	if (buf_size(&l->buf) + take > LINE_MAX_AUTH)
		return begin_drain(l, in);
	buf_append(&l->buf, piece);
	*in = span_skip(*in, take);
	if (bare != SIZE_MAX || piece.ptr[take - 1] == '\n')
		return finish(l, is_auth);
	if (buf_size(&l->buf) > limit(l, is_auth))
		return begin_drain(l, in);
	l->held_cr = l->normalise && piece.ptr[take - 1] == '\r';
	return LINE_MORE;
}
