/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A borrowed view of bytes: pointer and length, not NUL-terminated, never
 * stored past the life of what it looks into. The empty span may have a NULL
 * pointer. Case folding is ASCII only; mail never depends on the locale.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct span {
	const char *ptr;
	size_t len;
};

#define SPAN(literal) ((struct span){ (literal), sizeof(literal) - 1 })
#define SPAN_EMPTY ((struct span){ NULL, 0 })
/* For printf's "%.*s". */
#define SPAN_ARG(s) (int)(s).len, (s).ptr

struct span span_of(const char *cstring); /* NULL gives the empty span */

static inline struct span
span_from(const void *ptr, size_t len)
{
	return (struct span){ ptr, len };
}

bool span_eq(struct span a, struct span b);
bool span_eq_nocase(struct span a, struct span b);
bool span_starts(struct span s, struct span prefix);
bool span_starts_nocase(struct span s, struct span prefix);
bool span_ends_nocase(struct span s, struct span suffix);
int span_compare(struct span a, struct span b); /* like memcmp, then length */

static inline struct span
span_skip(struct span s, size_t n)
{
	if (n > s.len)
		n = s.len;
	/* NULL + 0 is undefined in C */
	return (struct span){ n ? s.ptr + n : s.ptr, s.len - n };
}

/* Bytes from start (clamped) on, at most len. */
static inline struct span
span_slice(struct span s, size_t start, size_t len)
{
	s = span_skip(s, start);
	if (len < s.len)
		s.len = len;
	return s;
}

struct span span_trim(struct span s); /* spaces, tabs, CR, LF at both ends */

/* Position of a byte, or SIZE_MAX. */
size_t span_find(struct span s, char c);
size_t span_find_last(struct span s, char c);
size_t span_search(struct span haystack, struct span needle);

/* Cuts *rest at the first `separator`: returns what stands before it and
 * leaves *rest after it; without a separator returns all and empties *rest. */
struct span span_cut(struct span *rest, char separator);

/* Whole span as a number; false when empty, not all digits, or > max. */
bool span_to_u64(struct span s, uint64_t max, uint64_t *ret_value);

/* Copies with a NUL; false (and an empty string) when it does not fit. */
bool span_to_cstring(struct span s, char *buffer, size_t size);
char *span_dup(struct span s); /* NUL-terminated; mem_free it */

bool span_is_ascii(struct span s);
bool span_is_utf8(struct span s); /* RFC 3629: no overlong, no surrogates */
/* Bytes of the first character, 0 when empty or not valid UTF-8. */
size_t span_utf8_length(struct span s);
