/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/pattern.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* clang-format on */

static struct pattern *
compile(const char *source, int flags)
{
	struct pattern *pattern = NULL;
	struct failure why;

	if (pattern_compile(span_of(source), flags, &pattern, &why) < 0)
		fail_msg("%s", why.text);
	return pattern;
}

static void
test_matches(void **state)
{
	/* clang-format off */
	static const struct {
		const char *source, *text;
		bool matches;
		const char *first;
	} rows[] = {
		{ "user unknown", "550 User Unknown", true, "" },
		{ "user unknown", "550 user  unknown", false, NULL },
		{ "user (\\S+) unknown", "user joe unknown", true, "joe" },
		{ "a(b)?c", "ac", true, "" },
		{ "^x$", "a\nx\nb", false, NULL },
		{ "x", "", false, NULL },
		{ "\xc3\xa4rger", "\xc3\xa4RGER", true, "" },
		{ "a", "\xff\xfe" "a", true, "" },
	};

	/* clang-format on */

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct pattern *pattern = compile(rows[i].source, 0);
		struct span found[PATTERN_CAPTURES];
		struct pattern_sieve sieve;
		bool matches =
		    pattern_find(pattern, span_of(rows[i].text), found);
		assert_int_equal(matches, rows[i].matches);
		if (matches)
			assert_true(span_eq(found[1], span_of(rows[i].first)));
		pattern_sieve_fill(&sieve, span_of(rows[i].text));
		if (matches)
			assert_true(pattern_may_match(pattern, &sieve));
		pattern_free(&pattern);
		assert_null(pattern);
	}
}

static void
test_lines(void **state)
{
	struct pattern *pattern = compile("^x$", PATTERN_LINES);

	(void)state;
	assert_true(pattern_matches(pattern, SPAN("a\nx\nb")));
	assert_false(pattern_matches(pattern, SPAN("ax")));
	pattern_free(&pattern);
}

/* What the sieve rules out, and what it must not. */
static void
test_sieve(void **state)
{
	/* clang-format off */
	static const struct {
		const char *source, *text;
		bool may;
	} rows[] = {
		{ "mailbox is full", "the message was delivered", false },
		{ "mailbox (?:is )?full", "MAILBOX FULL", true },
		{ "mailboxx? full", "mailbox full", true },
		{ "abcd|efgh", "efgh", true },
		{ "(abcd|efgh)", "efgh", true },
		{ "ab{100,200}", "abbb", true },
		{ "[xyz)abc]defg", "xdefg", true },
		{ "\\(abcd\\)", "(abcd)", true },
		{ "a.c", "abc", true },
		{ "abc", "ab", false },
		{ "abc", "", false },
	};

	/* clang-format on */

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct pattern *pattern = compile(rows[i].source, 0);
		struct pattern_sieve sieve;
		pattern_sieve_fill(&sieve, span_of(rows[i].text));
		assert_int_equal(
		    pattern_may_match(pattern, &sieve), rows[i].may);
		pattern_free(&pattern);
	}
}

static void
test_refuses(void **state)
{
	static const char *const sources[] = { "", "(", "a**", "[", "\\C" };
	char longest[PATTERN_TEXT_MAX + 2];
	struct pattern *pattern = NULL;
	struct failure why;

	(void)state;
	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
		assert_int_equal(
		    pattern_compile(span_of(sources[i]), 0, &pattern, &why),
		    ERR_SYNTAX);
		assert_true(strlen(why.text) > 0);
		assert_null(pattern);
	}
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(
	    pattern_compile(span_of(longest), 0, &pattern, &why), ERR_SYNTAX);
}

/* A pattern that backtracks without end gives up. */
static void
test_gives_up(void **state)
{
	struct pattern *pattern = compile("(?:a+)+$", 0);
	char text[4000];

	(void)state;
	memset(text, 'a', sizeof(text));
	text[sizeof(text) - 1] = 'b';
	assert_false(pattern_matches(pattern, span_from(text, sizeof(text))));
	pattern_free(&pattern);
}

/* Only so much of a text is looked at. */
static void
test_long_text(void **state)
{
	struct pattern *pattern = compile("x", 0);
	char *text = mem_zalloc(PATTERN_SUBJECT_MAX + 1);

	(void)state;
	text[PATTERN_SUBJECT_MAX] = 'x';
	assert_false(
	    pattern_matches(pattern, span_from(text, PATTERN_SUBJECT_MAX + 1)));
	text[PATTERN_SUBJECT_MAX - 1] = 'x';
	assert_true(
	    pattern_matches(pattern, span_from(text, PATTERN_SUBJECT_MAX + 1)));
	mem_free(text);
	pattern_free(&pattern);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matches),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_sieve),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_gives_up),
		cmocka_unit_test(test_long_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
