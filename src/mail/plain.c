/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/internal.h"

bool
char_is_atext(unsigned char c)
{
	static const char specials[] = "!#$%&'*+-/=?^_`{|}~";

	if (c >= 0x80)
		return true;
	if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	    (c >= 'a' && c <= 'z'))
		return true;
	return span_find(SPAN(specials), (char)c) != SIZE_MAX;
}

/* Length of the sequence that starts with `first`; 0: none does. */
static size_t
utf8_length(unsigned char first)
{
	if (first < 0x80)
		return 1;
	if (first >= 0xc2 && first <= 0xdf)
		return 2;
	if (first >= 0xe0 && first <= 0xef)
		return 3;
	if (first >= 0xf0 && first <= 0xf4)
		return 4;
	return 0;
}

bool
utf8_next(struct span *s, uint32_t *ret_point)
{
	static const uint32_t first_bits[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };

	if (s->len == 0)
		return false;
	size_t len = utf8_length((unsigned char)s->ptr[0]);
	if (len == 0 || len > s->len)
		return false;
	/* Overlong forms, surrogates and the end of Unicode are known there. */
	if (!span_is_utf8(span_slice(*s, 0, len)))
		return false;
	uint32_t point = (unsigned char)s->ptr[0] & first_bits[len];
	for (size_t i = 1; i < len; i++)
		point = point << 6 | ((unsigned char)s->ptr[i] & 0x3f);
	*s = span_skip(*s, len);
	*ret_point = point;
	return true;
}

void
utf8_append(uint32_t point, struct buf *out)
{
	if (point < 0x80) {
		buf_append_char(out, (char)point);
		return;
	}
	if (point < 0x800) {
		buf_append_char(out, (char)(0xc0 | point >> 6));
	} else if (point < 0x10000) {
		buf_append_char(out, (char)(0xe0 | point >> 12));
		buf_append_char(out, (char)(0x80 | (point >> 6 & 0x3f)));
	} else {
		buf_append_char(out, (char)(0xf0 | point >> 18));
		buf_append_char(out, (char)(0x80 | (point >> 12 & 0x3f)));
		buf_append_char(out, (char)(0x80 | (point >> 6 & 0x3f)));
	}
	buf_append_char(out, (char)(0x80 | (point & 0x3f)));
}

bool
plain_is_harmless(uint32_t point)
{
	if (point < 0x20 || (point >= 0x7f && point <= 0x9f))
		return false; /* C0, DEL, C1: ESC and CSI among them */
	if (point >= 0x2028 && point <= 0x202e)
		return false; /* line separators, bidirectional overrides */
	return point < 0x2066 || point > 0x2069; /* bidirectional isolates */
}

static bool
is_line_space(char c)
{
	return c == '\r' || c == '\n' || c == '\t' || c == '\v' || c == '\f';
}

/* How much of the start is plain in any kind. */
static size_t
printable_run(struct span s)
{
	size_t n = 0;

	while (n < s.len && s.ptr[n] >= 0x20 && s.ptr[n] < 0x7f)
		n++;
	return n;
}

void
plain_append(struct span s, enum plain kind, struct buf *out)
{
	while (s.len > 0) {
		struct span rest = s;
		uint32_t point = 0;
		size_t run = printable_run(s);
		if (run > 0) {
			buf_append(out, span_slice(s, 0, run));
			s = span_skip(s, run);
			continue;
		}
		if (is_line_space(s.ptr[0])) {
			/* CRLF, and a fold's tab, are one space. */
			while (s.len > 0 && is_line_space(s.ptr[0]))
				s = span_skip(s, 1);
			buf_append_char(out, ' ');
			continue;
		}
		if (!utf8_next(&rest, &point)) {
			buf_append_char(out, '?');
			s = span_skip(s, 1);
			continue;
		}
		if (!plain_is_harmless(point) ||
		    (kind == PLAIN_ASCII && point >= 0x80))
			buf_append_char(out, '?');
		else
			buf_append(out, span_slice(s, 0, s.len - rest.len));
		s = rest;
	}
}
