/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include "base/bug.h"
#include "base/decimal.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Most texts of a message fit: growing to them step by step took half of all
 * allocations. */
enum { SMALLEST = 256 };

void
buf_done(struct buf *b)
{
	mem_free(b->ptr);
	*b = BUF_EMPTY;
}

void
buf_clear(struct buf *b)
{
	b->head = b->len = 0;
}

static void
grow(struct buf *b, size_t need)
{
	size_t capacity = b->capacity ? b->capacity : SMALLEST;

	BUG_UNLESS(need <= SIZE_MAX / 2);
	while (capacity < need)
		capacity *= 2;
	b->ptr = mem_resize(b->ptr, capacity, 1);
	b->capacity = capacity;
}

char *
buf_reserve(struct buf *b, size_t n)
{
	if (b->ptr && b->capacity - b->len >= n)
		return b->ptr + b->len;
	/* Moving less than has been consumed keeps the cost per byte constant;
	 * a nearly full buffer grows instead of moving at every append. */
	size_t unread = buf_size(b);
	if (b->ptr && b->head >= unread && b->head > 0) {
		memmove(b->ptr, b->ptr + b->head, unread);
		b->head = 0;
		b->len = unread;
	}
	BUG_UNLESS(n <= SIZE_MAX / 2 && b->len <= SIZE_MAX / 2 - n);
	if (!b->ptr || b->capacity - b->len < n)
		grow(b, b->len + n);
	return b->ptr + b->len;
}

void
buf_added(struct buf *b, size_t n)
{
	BUG_UNLESS(n <= b->capacity - b->len);
	b->len += n;
}

void
buf_append(struct buf *b, struct span s)
{
	if (!s.len)
		return;
	memcpy(buf_reserve(b, s.len), s.ptr, s.len);
	b->len += s.len;
}

void
buf_append_str(struct buf *b, const char *s)
{
	buf_append(b, span_of(s));
}

void
buf_append_char(struct buf *b, char c)
{
	*buf_reserve(b, 1) = c;
	b->len++;
}

void
buf_append_u64(struct buf *b, uint64_t value)
{
	char *to = buf_reserve(b, DECIMAL_SIZE);

	b->len += (size_t)(decimal_put(to, value) - to);
}

void
buf_printf(struct buf *b, const char *format, ...)
{
	va_list args;
	char *to = buf_reserve(b, SMALLEST);
	size_t room = b->capacity - b->len;

	va_start(args, format);
	int len = vsnprintf(to, room, format, args);
	va_end(args);
	BUG_UNLESS(len >= 0);
	if ((size_t)len >= room) {
		to = buf_reserve(b, (size_t)len + 1);
		va_start(args, format);
		(void)vsnprintf(to, (size_t)len + 1, format, args);
		va_end(args);
	}
	b->len += (size_t)len;
}

static const char *
short_escape(unsigned char c)
{
	switch (c) {
	case '"':
		return "\\\"";
	case '\\':
		return "\\\\";
	case '\b':
		return "\\b";
	case '\f':
		return "\\f";
	case '\n':
		return "\\n";
	case '\r':
		return "\\r";
	case '\t':
		return "\\t";
	default:
		return NULL;
	}
}

/* How many bytes from the start need no escape; C1 controls (U+0080 to
 * U+009F) do, because terminals obey them. */
static size_t
plain_prefix(struct span s)
{
	size_t n = 0;

	while (n < s.len) {
		unsigned char c = (unsigned char)s.ptr[n];
		if (c < 0x20 || c == '"' || c == '\\' || c == 0x7f)
			break;
		if (c < 0x80) {
			n++;
			continue;
		}
		size_t len = span_utf8_length(span_skip(s, n));
		if (!len || (c == 0xc2 && (unsigned char)s.ptr[n + 1] < 0xa0))
			break;
		n += len;
	}
	return n;
}

/* Escapes one character and returns its length. */
static size_t
append_escaped(struct buf *b, struct span s)
{
	unsigned char c = (unsigned char)s.ptr[0];
	const char *escape = short_escape(c);
	size_t len = span_utf8_length(s);

	if (!len) {
		buf_append_str(b, "\xef\xbf\xbd");
		return 1;
	}
	if (escape)
		buf_append_str(b, escape);
	else
		buf_printf(b, "\\u%04x",
		    len == 2 ? (unsigned)(unsigned char)s.ptr[1] : c);
	return len;
}

void
buf_append_json(struct buf *b, struct span s)
{
	buf_append_char(b, '"');
	while (s.len) {
		size_t n = plain_prefix(s);
		buf_append(b, span_slice(s, 0, n));
		s = span_skip(s, n);
		if (s.len)
			s = span_skip(s, append_escaped(b, s));
	}
	buf_append_char(b, '"');
}

void
buf_consume(struct buf *b, size_t n)
{
	BUG_UNLESS(n <= buf_size(b));
	b->head += n;
	if (b->head == b->len)
		buf_clear(b);
}

const char *
buf_cstring(struct buf *b)
{
	*buf_reserve(b, 1) = '\0';
	return b->ptr + b->head;
}
