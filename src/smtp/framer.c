/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Message bytes: where lines and the message end, and which dots are only
 * stuffing (RFC 5321 §4.5.2).
 *
 *            CR LF                '.'               CR               LF
 *   TEXT ---------------> START -------> AFTER_DOT ----> AFTER_DOT_CR ----> end
 *     ^  \-> AFTER_CR ->/   |                |
 *     +----- other byte ----+----------------+
 *
 * Only bytes that came as CR LF lead to START. A bare CR or LF either ends all
 * (smuggling: others might see a line there) or is normalised; the line that
 * begins behind a normalised one can neither end the message nor lose a dot,
 * so whatever we make of it, we see one message where the sender's strictest
 * reader sees one.
 */
#include "base/bug.h"
#include "smtp/internal.h"

#include <string.h>

enum { NORMALISE_PIECE_MAX = 8192 };

void
framer_begin(struct framer *f, bool dots)
{
	f->state = FRAMER_START;
	f->dots = dots;
	f->line_too_long = false;
	f->line_len = 0;
}

static void
count_line(struct framer *f, size_t n)
{
	f->line_len += n;
	if (f->line_max != 0 && f->line_len > f->line_max)
		f->line_too_long = true;
}

/* The line's text from p on, as far as it is there. */
static const char *
scan_text(struct framer *f, const char *p, const char *end,
    enum framer_outcome *outcome)
{
	const char *lf = memchr(p, '\n', (size_t)(end - p));
	const char *stop = lf != NULL ? lf : end;
	const char *cr = memchr(p, '\r', (size_t)(stop - p));
	count_line(f, (size_t)((cr != NULL ? cr : stop) - p));
	if (cr == NULL) {
		f->state = FRAMER_TEXT;
		*outcome = lf != NULL ? FRAMER_BARE_LF : FRAMER_MORE;
		return stop;
	}
	if (cr + 1 != stop) {
		*outcome = FRAMER_BARE_CR;
		return cr;
	}
	if (lf == NULL) {
		f->state = FRAMER_AFTER_CR;
		return end;
	}
	f->state = FRAMER_START;
	f->line_len = 0;
	return lf + 1;
}

/* Reads on from p; the new p. */
static const char *
step_strict(struct framer *f, const char *p, const char *end,
    enum framer_outcome *outcome)
{
	switch (f->state) {
	case FRAMER_AFTER_CR:
		*outcome = *p == '\n' ? FRAMER_MORE : FRAMER_BARE_CR;
		f->state = FRAMER_START;
		f->line_len = 0;
		return p + 1;
	case FRAMER_AFTER_DOT_CR:
		*outcome = *p == '\n' ? FRAMER_END : FRAMER_BARE_CR;
		return p + 1;
	case FRAMER_AFTER_DOT:
		if (*p != '\r')
			return scan_text(f, p, end, outcome);
		f->state = FRAMER_AFTER_DOT_CR;
		return p + 1;
	case FRAMER_START:
	case FRAMER_TEXT:
		return scan_text(f, p, end, outcome);
	}
	UNREACHABLE("no such state");
}

/* Ends the piece at p: checks it for NUL, which every byte of the message
 * passes exactly once. */
static enum framer_outcome
cut_piece(
    struct span *in, const char *start, const char *p, struct span *ret_piece)
{
	*ret_piece = span_from(start, (size_t)(p - start));
	*in = span_skip(*in, (size_t)(p - in->ptr));
	return span_find(*ret_piece, '\0') != SIZE_MAX ? FRAMER_NUL
						       : FRAMER_MORE;
}

/* A piece is a view and so ends where a stuffed dot is left out. */
static enum framer_outcome
take_strict(struct framer *f, struct span *in, struct span *ret_piece)
{
	const char *p = in->ptr, *start = p, *end = p + in->len;
	while (p < end) {
		if (f->state == FRAMER_START && f->dots && *p == '.') {
			if (p > start)
				break;
			f->state = FRAMER_AFTER_DOT;
			start = ++p;
			continue;
		}
		enum framer_outcome outcome = FRAMER_MORE;
		p = step_strict(f, p, end, &outcome);
		if (outcome != FRAMER_MORE) {
			*in = span_skip(*in, (size_t)(p - in->ptr));
			return outcome;
		}
		if (f->state == FRAMER_AFTER_DOT_CR)
			start = p; /* this CR can only be the end's */
	}
	return cut_piece(in, start, p, ret_piece);
}

static void
end_line(struct framer *f, enum framer_state next)
{
	buf_append(&f->scratch, SPAN("\r\n"));
	f->line_len = 0;
	f->state = next;
}

/* The bytes up to the next CR or LF. One by one: looking ahead for each of the
 * two would read a run of the other again and again. */
static size_t
copy_text(struct framer *f, struct span in)
{
	size_t n = 0;
	while (n < in.len && in.ptr[n] != '\r' && in.ptr[n] != '\n')
		n++;
	buf_append(&f->scratch, span_slice(in, 0, n));
	count_line(f, n);
	return n;
}

/* Normalising, from in's start: bytes taken. SIZE_MAX: the end, one taken. */
static size_t
step_normalise(struct framer *f, struct span in)
{
	char c = in.ptr[0];
	switch (f->state) {
	case FRAMER_START:
		f->state = f->dots && c == '.' ? FRAMER_AFTER_DOT : FRAMER_TEXT;
		return f->state == FRAMER_AFTER_DOT;
	case FRAMER_AFTER_CR:
		end_line(f, c == '\n' ? FRAMER_START : FRAMER_TEXT);
		return c == '\n';
	case FRAMER_AFTER_DOT:
		f->state = c == '\r' ? FRAMER_AFTER_DOT_CR : FRAMER_TEXT;
		return c == '\r';
	case FRAMER_AFTER_DOT_CR:
		if (c == '\n')
			return SIZE_MAX;
		end_line(f, FRAMER_TEXT);
		return 0;
	case FRAMER_TEXT:
		if (c == '\r') {
			f->state = FRAMER_AFTER_CR;
			return 1;
		}
		if (c == '\n') {
			end_line(f, FRAMER_TEXT);
			return 1;
		}
		return copy_text(f, in);
	}
	UNREACHABLE("no such state");
}

static enum framer_outcome
take_normalise(struct framer *f, struct span *in, struct span *ret_piece)
{
	buf_clear(&f->scratch);
	struct span rest = span_slice(*in, 0, NORMALISE_PIECE_MAX);
	size_t total = rest.len;
	enum framer_outcome outcome = FRAMER_MORE;
	while (rest.len > 0 && outcome == FRAMER_MORE) {
		size_t n = step_normalise(f, rest);
		if (n == SIZE_MAX) {
			outcome = FRAMER_END;
			n = 1;
		}
		rest = span_skip(rest, n);
	}
	*in = span_skip(*in, total - rest.len);
	*ret_piece = buf_span(&f->scratch);
	if (span_find(*ret_piece, '\0') != SIZE_MAX)
		return FRAMER_NUL;
	return outcome;
}

enum framer_outcome
framer_take(struct framer *f, struct span *in, struct span *ret_piece)
{
	*ret_piece = SPAN_EMPTY;
	if (f->normalise)
		return take_normalise(f, in, ret_piece);
	return take_strict(f, in, ret_piece);
}

enum framer_outcome
framer_finish(struct framer *f, struct span *ret_piece)
{
	*ret_piece = SPAN_EMPTY;
	if (f->state != FRAMER_AFTER_CR)
		return FRAMER_MORE;
	if (!f->normalise)
		return FRAMER_BARE_CR;
	buf_clear(&f->scratch);
	end_line(f, FRAMER_TEXT);
	*ret_piece = buf_span(&f->scratch);
	return FRAMER_MORE;
}
