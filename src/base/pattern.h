/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Patterns (PCRE2) on text of strangers. A compiled pattern is immutable and
 * may be used by all threads at once; matching allocates a little and never
 * waits. Bounded: a match that needs more steps than the limits here counts as
 * none, so no text can hold a thread up. Text is bytes, not characters: letters
 * of ASCII match in any case, all other bytes match themselves.
 *
 * Many patterns on one text: make the text's sieve once and ask
 * pattern_may_match first. It knows, without matching, that most cannot: a
 * pattern's longest literal must be in the text.
 */

#include "base/error.h"
#include "base/span.h"

#define PATTERN_TEXT_MAX 1024 /* a pattern's source */
#define PATTERN_CAPTURES 4 /* of a match, the whole included */
#define PATTERN_SUBJECT_MAX 65536 /* bytes looked at; the rest is ignored */

enum pattern_flags {
	PATTERN_LINES = 1, /* ^ and $ stand at each line's start and end */
};

struct pattern;

/* ERR_SYNTAX and a sentence with the column on a bad pattern. */
MUST_CHECK int pattern_compile(struct span source, int flags,
    struct pattern **ret_pattern, struct failure *ret_failure);
void pattern_free(struct pattern **pattern); /* nulls it; accepts NULL */

/* Which groups of three letters a text has. */
#define PATTERN_SIEVE_BITS 8192

struct pattern_sieve {
	uint64_t bits[PATTERN_SIEVE_BITS / 64];
};

void pattern_sieve_fill(struct pattern_sieve *sieve, struct span text);
/* False: it does not match, for certain. */
bool pattern_may_match(
    const struct pattern *pattern, const struct pattern_sieve *sieve);

bool pattern_matches(const struct pattern *pattern, struct span text);
/* ret_captures[0] is the match, [1] what the first parentheses took, …; views
 * into text, empty where a group took no part. Untouched when false. */
bool pattern_find(const struct pattern *pattern, struct span text,
    struct span ret_captures[static PATTERN_CAPTURES]);
