/* SPDX-License-Identifier: Apache-2.0 */
#include "base/span.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */

#include "base/mem.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static void
assert_span(struct span s, const char *expected)
{
	if (!span_eq(s, span_of(expected)))
		fail_msg("got \"%.*s\", expected \"%s\"", (int)s.len,
		    s.ptr ? s.ptr : "", expected);
}

static void
test_comparing(void **state)
{
	(void)state;
	assert_true(span_eq(SPAN_EMPTY, SPAN("")));
	assert_false(span_eq(SPAN("a"), SPAN("b")));
	assert_false(span_eq(SPAN("a"), SPAN("ab")));
	assert_true(span_eq_nocase(SPAN("EHLO"), SPAN("ehlo")));
	assert_false(span_eq_nocase(SPAN("a@"), SPAN("a`")));
	assert_false(span_eq_nocase(SPAN("\xc3\x84"), SPAN("\xc3\xa4")));
	assert_true(span_eq_nocase(SPAN_EMPTY, SPAN_EMPTY));
	assert_true(span_starts(SPAN("MAIL FROM"), SPAN("MAIL")));
	assert_true(span_starts(SPAN_EMPTY, SPAN_EMPTY));
	assert_false(span_starts(SPAN("MA"), SPAN("MAIL")));
	assert_true(span_starts_nocase(SPAN("mail from"), SPAN("MAIL")));
	assert_true(span_ends_nocase(SPAN("a.EXAMPLE"), SPAN(".example")));
	assert_false(span_ends_nocase(SPAN("e"), SPAN(".example")));
	assert_true(span_compare(SPAN("a"), SPAN("b")) < 0);
	assert_true(span_compare(SPAN("ab"), SPAN("a")) > 0);
	assert_true(span_compare(SPAN_EMPTY, SPAN("")) == 0);
	assert_true(span_compare(SPAN("\xff"), SPAN("a")) > 0);
}

static void
test_slicing(void **state)
{
	(void)state;
	assert_span(span_slice(SPAN("abcdef"), 2, 3), "cde");
	assert_span(span_slice(SPAN("abc"), 2, 9), "c");
	assert_span(span_slice(SPAN("abc"), 9, 1), "");
	assert_span(span_slice(SPAN_EMPTY, 3, 1), "");
	assert_span(span_skip(SPAN("abc"), 1), "bc");
	assert_span(span_skip(SPAN("abc"), 7), "");
	assert_span(span_trim(SPAN(" \t a b\r\n ")), "a b");
	assert_span(span_trim(SPAN(" \t\r\n ")), "");
	assert_span(span_trim(SPAN_EMPTY), "");
}

static void
test_finding(void **state)
{
	(void)state;
	assert_int_equal(span_find(SPAN("a@b@c"), '@'), 1);
	assert_int_equal(span_find_last(SPAN("a@b@c"), '@'), 3);
	assert_true(span_find(SPAN("abc"), '@') == SIZE_MAX);
	assert_true(span_find_last(SPAN_EMPTY, '@') == SIZE_MAX);
	assert_int_equal(span_search(SPAN("a\r\n.\r\nb"), SPAN("\r\n.")), 1);
	assert_true(span_search(SPAN("ab"), SPAN("abc")) == SIZE_MAX);
	assert_int_equal(span_search(SPAN("ab"), SPAN_EMPTY), 0);
}

static void
test_cutting(void **state)
{
	(void)state;
	struct span rest = SPAN("a,,b");
	assert_span(span_cut(&rest, ','), "a");
	assert_span(rest, ",b");
	assert_span(span_cut(&rest, ','), "");
	assert_span(span_cut(&rest, ','), "b");
	assert_int_equal(rest.len, 0);
	assert_span(span_cut(&rest, ','), "");
}

static void
test_numbers(void **state)
{
	(void)state;

	static const struct {
		const char *text;
		uint64_t max;
		bool is_ok;
		uint64_t value;
	} cases[] = {
		{ "0", UINT64_MAX, true, 0 },
		{ "18446744073709551615", UINT64_MAX, true, UINT64_MAX },
		{ "18446744073709551616", UINT64_MAX, false, 0 },
		{ "99999999999999999999", UINT64_MAX, false, 0 },
		{ "007", 7, true, 7 },
		{ "8", 7, false, 0 },
		{ "", 7, false, 0 },
		{ "-1", 7, false, 0 },
		{ "+1", 7, false, 0 },
		{ " 1", 7, false, 0 },
		{ "1x", 7, false, 0 },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		uint64_t value = 42;
		bool is_ok =
		    span_to_u64(span_of(cases[i].text), cases[i].max, &value);
		assert_int_equal(is_ok, cases[i].is_ok);
		assert_true(value == (is_ok ? cases[i].value : 42));
	}
}

static void
test_copies(void **state)
{
	(void)state;
	char buffer[4] = "xxx";
	assert_true(span_to_cstring(SPAN("abc"), buffer, sizeof buffer));
	assert_string_equal(buffer, "abc");
	assert_false(span_to_cstring(SPAN("abcd"), buffer, sizeof buffer));
	assert_string_equal(buffer, "");
	assert_true(span_to_cstring(SPAN_EMPTY, buffer, 1));
	assert_false(span_to_cstring(SPAN_EMPTY, buffer, 0));
	char *AUTO_FREE copy = span_dup(SPAN("hello"));
	assert_string_equal(copy, "hello");
	char *AUTO_FREE nothing = span_dup(SPAN_EMPTY);
	assert_string_equal(nothing, "");
}

static void
test_utf8(void **state)
{
	(void)state;

	static const struct {
		const char *text;
		size_t first; /* length of the first character, 0: invalid */
	} cases[] = {
		{ "a", 1 },
		{ "\xc3\xa4", 2 },
		{ "\xe2\x82\xac", 3 },
		{ "\xf0\x9f\x93\xae", 4 },
		{ "\xf4\x8f\xbf\xbf", 4 },
		{ "\xed\x9f\xbf", 3 },
		{ "\xc0\x80", 0 },
		{ "\xc1\xbf", 0 },
		{ "\xe0\x9f\xbf", 0 },
		{ "\xf0\x8f\xbf\xbf", 0 },
		{ "\xed\xa0\x80", 0 },
		{ "\xf4\x90\x80\x80", 0 },
		{ "\xf5\x80\x80\x80", 0 },
		{ "\x80", 0 },
		{ "\xc3", 0 },
		{ "\xe2\x82", 0 },
		{ "\xc3(", 0 },
		{ "\xe2\x82(", 0 },
		{ "\xff", 0 },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct span s = span_of(cases[i].text);
		assert_int_equal(span_utf8_length(s), cases[i].first);
		assert_int_equal(span_is_utf8(s), cases[i].first == s.len);
	}
	assert_true(span_is_utf8(SPAN_EMPTY));
	assert_true(span_is_ascii(SPAN("ab\x7f")));
	assert_false(span_is_ascii(SPAN("a\x80")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_comparing),
		cmocka_unit_test(test_slicing),
		cmocka_unit_test(test_finding),
		cmocka_unit_test(test_cutting),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_utf8),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
