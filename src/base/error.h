/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Operating errors. A function that can fail returns 0 (or a count) on success
 * and a negative code on failure: a negated errno, or one of ERR_* below.
 * Outputs (`ret_x`, last) are untouched on failure. The third kind of bad
 * news, a mail outcome such as a 550, is data and never an error code.
 *
 * `struct failure` carries the sentence for people: it names the thing, the
 * reason and the remedy. Functions that act for an operator fill one.
 */

#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

enum {
	ERR_BASE = -10000,
	ERR_CORRUPT = ERR_BASE - 1, /* checksum or structure is wrong */
	ERR_TRUNCATED = ERR_BASE - 2, /* input ends too early */
	ERR_SYNTAX = ERR_BASE - 3, /* not of the grammar */
	ERR_LIMIT = ERR_BASE - 4, /* a configured limit is reached */
	ERR_NOT_FOUND = ERR_BASE - 5,
	ERR_EXISTS = ERR_BASE - 6,
	ERR_TLS = ERR_BASE - 7, /* handshake or record layer */
	ERR_DNS = ERR_BASE - 8,
	ERR_REFUSED = ERR_BASE - 9, /* policy says no */
	ERR_CLOSED = ERR_BASE - 10, /* the other side is gone */
	ERR_VERSION = ERR_BASE - 11, /* a format newer than this program */
};

/* A short static text for any code above or negated errno. Thread-safe. */
const char *error_text(int code);

/* What non-blocking work came to. */
enum progress {
	PROGRESS_DONE,
	PROGRESS_WAIT, /* would block: come back when readiness says so */
	PROGRESS_CLOSED, /* orderly end of the stream */
	PROGRESS_FAILED,
};

#define FAILURE_TEXT_MAX 512

struct failure {
	int code; /* negative */
	char text[FAILURE_TEXT_MAX];
};

/* Fills *f (which may be NULL) and returns code, so that a caller can write
 * `return failure_set(f, -errno, "cannot open %s: …", path);`. */
int failure_set(struct failure *f, int code, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* Drops a result on purpose: gcc takes no plain cast for that. */
#define IGNORE(expr) ((void)!(expr))

/* The one macro that hides a return: passes an operating error up. */
#define TRY(expr)                                                              \
	do {                                                                   \
		int try_code_ = (expr);                                        \
		if (try_code_ < 0)                                             \
			return try_code_;                                      \
	} while (0)
