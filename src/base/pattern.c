/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pattern.h"

#include "base/bug.h"
#include "base/mem.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

/* Steps of one match. The largest honest text with the slowest of our patterns
 * takes some thousands. */
#define STEPS_MAX 100000
#define DEPTH_MAX 1000
#define HEAP_MAX_KIB 1024
#define GRAMS_MAX 12 /* of a literal that the sieve asks for */

struct pattern {
	pcre2_code *code;
	pcre2_match_context *context;
	uint16_t grams[GRAMS_MAX]; /* bits of the sieve, all must be set */
	uint8_t gram_count; /* 0: no literal is sure, always try */
};

/* ---- the sieve --------------------------------------------------------- */

static unsigned char
fold(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static uint16_t
gram_of(const char *p)
{
	uint32_t gram = (uint32_t)fold(p[0]) | (uint32_t)fold(p[1]) << 8 |
			(uint32_t)fold(p[2]) << 16;

	return (uint16_t)((gram * 2654435761U >> 12) % PATTERN_SIEVE_BITS);
}

void
pattern_sieve_fill(struct pattern_sieve *sieve, struct span text)
{
	if (text.len > PATTERN_SUBJECT_MAX)
		text.len = PATTERN_SUBJECT_MAX;
	memset(sieve, 0, sizeof(*sieve));
	for (size_t i = 0; i + 3 <= text.len; i++) {
		uint16_t bit = gram_of(text.ptr + i);
		sieve->bits[bit / 64] |= UINT64_C(1) << bit % 64;
	}
}

bool
pattern_may_match(
    const struct pattern *pattern, const struct pattern_sieve *sieve)
{
	for (size_t i = 0; i < pattern->gram_count; i++) {
		uint16_t bit = pattern->grams[i];
		if (!(sieve->bits[bit / 64] >> bit % 64 & 1))
			return false;
	}
	return true;
}

/* ---- the literal that every match contains ----------------------------- */

static bool
is_plain(char c)
{
	return c != '\0' && strchr("\\^$.[]|()?*+{}", c) == NULL;
}

static bool
is_quantifier(char c)
{
	return c != '\0' && strchr("?*+{", c) != NULL;
}

/* The length of what stands at s and is no plain character: a class, a group
 * with all in it, an escape, a count in braces, a single sign. A bracket in a
 * class must be escaped. */
static size_t
opaque_length(struct span s)
{
	size_t depth = 0;
	bool in_class = false;

	if (s.ptr[0] == '{') {
		size_t end = span_find(s, '}');
		return end == SIZE_MAX ? s.len : end + 1;
	}
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		if (c == '\\')
			i++;
		else if (in_class)
			in_class = c != ']';
		else if (c == '[')
			in_class = true;
		else if (c == '(')
			depth++;
		else if (c == ')' && depth > 0)
			depth--;
		if (depth == 0 && !in_class)
			return i + 1 < s.len ? i + 1 : s.len;
	}
	return s.len;
}

static void
keep_literal(struct pattern *pattern, struct span literal)
{
	size_t count = literal.len >= 3 ? literal.len - 2 : 0;

	if (count > GRAMS_MAX)
		count = GRAMS_MAX;
	if (count <= pattern->gram_count)
		return;
	for (size_t i = 0; i < count; i++)
		pattern->grams[i] = gram_of(literal.ptr + i);
	pattern->gram_count = (uint8_t)count;
}

/* Runs of plain characters outside of any group; the last of a run is not sure
 * when a quantifier follows it. With an alternative at the top, nothing is. */
static void
find_literal(struct pattern *pattern, struct span source)
{
	struct span rest = source;
	struct span run = { rest.ptr, 0 };

	while (rest.len > 0) {
		char c = rest.ptr[0];
		if (c == '|') {
			pattern->gram_count = 0;
			return;
		}
		if (is_plain(c)) {
			run.len++;
			rest = span_skip(rest, 1);
			continue;
		}
		if (is_quantifier(c) && run.len > 0)
			run.len--;
		keep_literal(pattern, run);
		rest = span_skip(rest, opaque_length(rest));
		run = (struct span){ rest.ptr, 0 };
	}
	keep_literal(pattern, run);
}

/* ---- compiling and matching -------------------------------------------- */

static int
refuse(struct span source, int error, size_t offset, struct failure *f)
{
	PCRE2_UCHAR text[128] = { 0 };

	(void)pcre2_get_error_message(error, text, sizeof(text));
	return failure_set(f, ERR_SYNTAX, "pattern `%.*s`, column %zu: %s",
	    SPAN_ARG(source), offset + 1, (const char *)text);
}

int
pattern_compile(struct span source, int flags, struct pattern **ret_pattern,
    struct failure *ret_failure)
{
	uint32_t options =
	    PCRE2_CASELESS | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY;
	int error = 0;
	PCRE2_SIZE offset = 0;

	if (source.len == 0 || source.len > PATTERN_TEXT_MAX)
		return failure_set(ret_failure, ERR_SYNTAX,
		    "a pattern has 1 to %d characters, not %zu",
		    PATTERN_TEXT_MAX, source.len);
	if (flags & PATTERN_LINES)
		options |= PCRE2_MULTILINE;
	pcre2_code *code = pcre2_compile(
	    (PCRE2_SPTR)source.ptr, source.len, options, &error, &offset, NULL);
	if (code == NULL)
		return refuse(source, error, offset, ret_failure);
	/* Without JIT, where memory may not be made executable, the
	 * interpreter matches the same, slower. */
	(void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
	struct pattern *pattern = MEM_NEW(struct pattern);
	pattern->code = code;
	pattern->context = pcre2_match_context_create(NULL);
	if (pattern->context == NULL)
		bug("out of memory", __FILE__, __LINE__);
	pcre2_set_match_limit(pattern->context, STEPS_MAX);
	pcre2_set_depth_limit(pattern->context, DEPTH_MAX);
	pcre2_set_heap_limit(pattern->context, HEAP_MAX_KIB);
	find_literal(pattern, source);
	*ret_pattern = pattern;
	return 0;
}

void
pattern_free(struct pattern **pattern)
{
	if (*pattern == NULL)
		return;
	pcre2_match_context_free((*pattern)->context);
	pcre2_code_free((*pattern)->code);
	mem_free(*pattern);
	*pattern = NULL;
}

bool
pattern_find(const struct pattern *pattern, struct span text,
    struct span ret_captures[static PATTERN_CAPTURES])
{
	static const char empty[] = "";
	const char *start = text.ptr != NULL ? text.ptr : empty;

	if (text.len > PATTERN_SUBJECT_MAX)
		text.len = PATTERN_SUBJECT_MAX;
	pcre2_match_data *data =
	    pcre2_match_data_create(PATTERN_CAPTURES, NULL);
	if (data == NULL)
		return false;
	int count = pcre2_match(pattern->code, (PCRE2_SPTR)start, text.len, 0,
	    0, data, pattern->context);
	/* 0: more groups than there is room for */
	if (count == 0)
		count = PATTERN_CAPTURES;
	const PCRE2_SIZE *end = pcre2_get_ovector_pointer(data);
	for (int i = 0; count > 0 && i < PATTERN_CAPTURES; i++, end += 2) {
		bool took =
		    i < count && end[0] != PCRE2_UNSET && end[0] <= end[1];
		ret_captures[i] =
		    took ? span_from(start + end[0], end[1] - end[0])
			 : SPAN_EMPTY;
	}
	pcre2_match_data_free(data);
	return count > 0;
}

bool
pattern_matches(const struct pattern *pattern, struct span text)
{
	struct span captures[PATTERN_CAPTURES];

	return pattern_find(pattern, text, captures);
}
