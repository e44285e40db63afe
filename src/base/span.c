/* SPDX-License-Identifier: Apache-2.0 */
#include "base/span.h"

#include "base/mem.h"

#include <string.h>

static unsigned char
to_lower(char c)
{
	unsigned char u = (unsigned char)c;

	return u >= 'A' && u <= 'Z' ? (unsigned char)(u | 0x20) : u;
}

static bool
equal_nocase(const char *a, const char *b, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (to_lower(a[i]) != to_lower(b[i]))
			return false;
	return true;
}

struct span
span_of(const char *cstring)
{
	if (!cstring)
		return SPAN_EMPTY;
	return (struct span){ cstring, strlen(cstring) };
}

bool
span_eq(struct span a, struct span b)
{
	return a.len == b.len && (!a.len || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool
span_eq_nocase(struct span a, struct span b)
{
	return a.len == b.len && equal_nocase(a.ptr, b.ptr, a.len);
}

bool
span_starts(struct span s, struct span prefix)
{
	return s.len >= prefix.len &&
	       (!prefix.len || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

bool
span_starts_nocase(struct span s, struct span prefix)
{
	return s.len >= prefix.len &&
	       equal_nocase(s.ptr, prefix.ptr, prefix.len);
}

bool
span_ends_nocase(struct span s, struct span suffix)
{
	if (s.len < suffix.len)
		return false;
	return equal_nocase(
	    span_skip(s, s.len - suffix.len).ptr, suffix.ptr, suffix.len);
}

int
span_compare(struct span a, struct span b)
{
	size_t len = a.len < b.len ? a.len : b.len;
	int order = len ? memcmp(a.ptr, b.ptr, len) : 0;

	if (order)
		return order;
	return (a.len > b.len) - (a.len < b.len);
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct span
span_trim(struct span s)
{
	while (s.len && is_blank(s.ptr[0]))
		s = span_skip(s, 1);
	while (s.len && is_blank(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

size_t
span_find(struct span s, char c)
{
	const char *p = s.len ? memchr(s.ptr, c, s.len) : NULL;

	return p ? (size_t)(p - s.ptr) : SIZE_MAX;
}

size_t
span_find_last(struct span s, char c)
{
	const char *p = s.len ? memrchr(s.ptr, c, s.len) : NULL;

	return p ? (size_t)(p - s.ptr) : SIZE_MAX;
}

size_t
span_search(struct span haystack, struct span needle)
{
	if (!needle.len)
		return 0;
	if (haystack.len < needle.len)
		return SIZE_MAX;
	const char *p =
	    memmem(haystack.ptr, haystack.len, needle.ptr, needle.len);
	return p ? (size_t)(p - haystack.ptr) : SIZE_MAX;
}

struct span
span_cut(struct span *rest, char separator)
{
	struct span all = *rest;
	size_t at = span_find(all, separator);

	if (at == SIZE_MAX) {
		*rest = span_skip(all, all.len);
		return all;
	}
	*rest = span_skip(all, at + 1);
	return span_slice(all, 0, at);
}

bool
span_to_u64(struct span s, uint64_t max, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (!s.len)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] < '0' || s.ptr[i] > '9')
			return false;
		uint64_t digit = (uint64_t)(s.ptr[i] - '0');
		if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
		    __builtin_add_overflow(value, digit, &value) || value > max)
			return false;
	}
	*ret_value = value;
	return true;
}

bool
span_to_cstring(struct span s, char *buffer, size_t size)
{
	if (!size)
		return false;
	if (s.len >= size) {
		buffer[0] = '\0';
		return false;
	}
	if (s.len)
		memcpy(buffer, s.ptr, s.len);
	buffer[s.len] = '\0';
	return true;
}

char *
span_dup(struct span s)
{
	char *copy = mem_alloc(s.len + 1);

	(void)span_to_cstring(s, copy, s.len + 1);
	return copy;
}

/* Eight bytes at a time as far as they go. */
static size_t
ascii_words(struct span s)
{
	size_t n = 0;
	uint64_t word;

	for (; n + sizeof word <= s.len; n += sizeof word) {
		memcpy(&word, s.ptr + n, sizeof word);
		if (word & UINT64_C(0x8080808080808080))
			break;
	}
	return n;
}

bool
span_is_ascii(struct span s)
{
	for (size_t i = ascii_words(s); i < s.len; i++)
		if ((unsigned char)s.ptr[i] >= 0x80)
			return false;
	return true;
}

static bool
is_continuation(struct span s, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		if (((unsigned char)s.ptr[i] & 0xc0) != 0x80)
			return false;
	return true;
}

/* RFC 3629 §4: the second byte decides about overlong forms, surrogates and
 * values beyond U+10FFFF. */
size_t
span_utf8_length(struct span s)
{
	if (!s.len)
		return 0;
	unsigned char first = (unsigned char)s.ptr[0];
	if (first < 0x80)
		return 1;
	size_t len = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
	if (first < 0xc2 || first > 0xf4 || s.len < len)
		return 0;
	unsigned char second = (unsigned char)s.ptr[1];
	if ((first == 0xe0 && second < 0xa0) ||
	    (first == 0xed && second > 0x9f) ||
	    (first == 0xf0 && second < 0x90) ||
	    (first == 0xf4 && second > 0x8f))
		return 0;
	return is_continuation(s, 1, len) ? len : 0;
}

bool
span_is_utf8(struct span s)
{
	s = span_skip(s, ascii_words(s));
	while (s.len) {
		size_t len = span_utf8_length(s);
		if (!len)
			return false;
		s = span_skip(s, len);
	}
	return true;
}
