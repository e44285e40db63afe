/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/dots.h"

#include <string.h>

/*
 * Dots are rarer than line ends, so the search is for them; whether one starts
 * a line is seen from the two octets before it, which for the first two octets
 * of a piece are remembered from the piece before.
 */

static bool
starts_line(const struct dots *d, struct span piece, size_t i)
{
	if (i == 0)
		return !d->in_line;
	if (piece.ptr[i - 1] != '\n')
		return false;
	return i == 1 ? d->after_cr : piece.ptr[i - 2] == '\r';
}

static void
remember_end(struct dots *d, struct span piece)
{
	if (piece.len == 0)
		return;
	bool at_line_start = starts_line(d, piece, piece.len);
	d->after_cr = piece.ptr[piece.len - 1] == '\r';
	d->in_line = !at_line_start;
}

/* Position of the next dot that starts a line, or piece.len. */
static size_t
next_leading_dot(const struct dots *d, struct span piece, size_t from)
{
	while (from < piece.len) {
		const char *dot =
		    memchr(piece.ptr + from, '.', piece.len - from);
		if (dot == NULL)
			return piece.len;
		size_t at = (size_t)(dot - piece.ptr);
		if (starts_line(d, piece, at))
			return at;
		from = at + 1;
	}
	return piece.len;
}

void
dots_stuff(struct dots *d, struct span piece, struct buf *out)
{
	size_t done = 0;
	size_t dot = next_leading_dot(d, piece, 0);
	while (dot < piece.len) {
		/* Up to and with the dot; the next run begins with it again. */
		buf_append(out, span_slice(piece, done, dot - done + 1));
		done = dot;
		dot = next_leading_dot(d, piece, dot + 1);
	}
	buf_append(out, span_skip(piece, done));
	remember_end(d, piece);
}

bool
dots_needed(struct dots *d, struct span piece)
{
	bool needed = next_leading_dot(d, piece, 0) < piece.len;
	remember_end(d, piece);
	return needed;
}
