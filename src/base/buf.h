/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A growable run of bytes with a read position: appended at the tail, consumed
 * at the head. Consumed bytes are reclaimed when the buffer empties or when an
 * append would otherwise have to grow. Not for unbounded input: the caller
 * checks its limit before it appends.
 */

#include "base/error.h"
#include "base/span.h"

struct buf {
	char *ptr;
	size_t head; /* first unread byte */
	size_t len; /* end of the bytes; unread are head..len */
	size_t capacity;
};

#define BUF_EMPTY ((struct buf){ 0 })

void buf_done(struct buf *b); /* frees and empties */
void buf_clear(struct buf *b);

static inline size_t
buf_size(const struct buf *b)
{
	return b->len - b->head;
}

static inline struct span
buf_span(const struct buf *b)
{
	return (struct span){ b->ptr ? b->ptr + b->head : NULL, buf_size(b) };
}

void buf_append(struct buf *b, struct span s);
void buf_append_str(struct buf *b, const char *s);
void buf_append_char(struct buf *b, char c);
void buf_append_u64(struct buf *b, uint64_t value); /* its digits */
void buf_printf(struct buf *b, const char *format, ...) PRINTF_LIKE(2, 3);
/* Appends s as a JSON string with its quotes. Bytes that are not UTF-8 become
 * U+FFFD, control characters are escaped. */
void buf_append_json(struct buf *b, struct span s);
void buf_consume(struct buf *b, size_t n);
/* Room for at least n more bytes; returns where to write them. Follow with
 * buf_added. */
char *buf_reserve(struct buf *b, size_t n);
void buf_added(struct buf *b, size_t n);
/* A NUL stands behind the bytes without being counted. */
const char *buf_cstring(struct buf *b);
