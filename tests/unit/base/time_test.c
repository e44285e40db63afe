/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
/* clang-format on */

#define COUNT(a) (sizeof(a) / sizeof *(a))

static void
test_parse_duration(void **state)
{
	(void)state;

	static const struct {
		const char *text;
		int64_t us; /* -1: refused */
	} cases[] = {
		{ "250ms", 250 * US_PER_MS },
		{ "30s", 30 * US_PER_S },
		{ "5m", 5 * US_PER_MIN },
		{ "4h", 4 * US_PER_HOUR },
		{ "5d", 5 * US_PER_DAY },
		{ "2w", 14 * US_PER_DAY },
		{ "1h30m", 90 * US_PER_MIN },
		{ "0s", 0 },
		{ "7us", 7 },
		{ "15250284w", INT64_C(15250284) * 7 * US_PER_DAY },
		{ "", -1 },
		{ "5", -1 },
		{ "h", -1 },
		{ "5 m", -1 },
		{ "-5m", -1 },
		{ "1.5h", -1 },
		{ "5M", -1 },
		{ "30m1h", -1 },
		{ "1h1h", -1 },
		{ "15250285w", -1 },
		{ "9223372036854775807s", -1 },
		{ "9223372036854775808us", -1 },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		int64_t us = -1;
		bool is_ok = time_parse_duration(span_of(cases[i].text), &us);
		assert_int_equal(is_ok, cases[i].us >= 0);
		assert_true(us == cases[i].us);
	}
}

static void
test_format_duration(void **state)
{
	(void)state;

	static const struct {
		int64_t us;
		const char *text;
	} cases[] = {
		{ 0, "0s" },
		{ 250 * US_PER_MS, "250ms" },
		{ 90 * US_PER_MIN, "1h30m" },
		{ 4 * US_PER_HOUR, "4h" },
		{ 5 * US_PER_DAY, "5d" },
		{ 14 * US_PER_DAY, "2w" },
		{ 1, "1us" },
		{ -30 * US_PER_S, "-30s" },
		{ TIME_NEVER, "never" },
	};

	char buffer[24];

	for (size_t i = 0; i < COUNT(cases); i++)
		assert_string_equal(
		    time_format_duration(cases[i].us, buffer, sizeof buffer),
		    cases[i].text);
	(void)time_format_duration(INT64_MIN, buffer, sizeof buffer);
	assert_true(strlen(buffer) < sizeof buffer);
	int64_t us;
	(void)time_format_duration(TIME_NEVER - 1, buffer, sizeof buffer);
	assert_true(time_parse_duration(span_of(buffer), &us));
}

static void
test_format_age(void **state)
{
	(void)state;

	static const struct {
		int64_t us;
		const char *text;
	} cases[] = {
		{ -5, "just now" },
		{ 59 * US_PER_S, "just now" },
		{ 60 * US_PER_S, "1 min" },
		{ 3 * US_PER_MIN + 59 * US_PER_S, "3 min" },
		{ 125 * US_PER_MIN, "2 h 5 min" },
		{ 120 * US_PER_MIN, "2 h" },
		{ 4 * US_PER_DAY + 3 * US_PER_HOUR, "4 d" },
	};

	char buffer[24];

	for (size_t i = 0; i < COUNT(cases); i++)
		assert_string_equal(
		    time_format_age(cases[i].us, buffer, sizeof buffer),
		    cases[i].text);
	(void)time_format_age(INT64_MAX, buffer, sizeof buffer);
}

static void
test_formats(void **state)
{
	(void)state;

	static const struct {
		int64_t us;
		const char *rfc3339, *rfc5322;
	} cases[] = {
		{ 0, "1970-01-01T00:00:00.000Z",
		    "Thu, 1 Jan 1970 00:00:00 +0000" },
		{ INT64_C(1795455889123456), "2026-11-23T17:44:49.123Z",
		    "Mon, 23 Nov 2026 17:44:49 +0000" },
		{ -1, "1969-12-31T23:59:59.999Z",
		    "Wed, 31 Dec 1969 23:59:59 +0000" },
		{ INT64_C(951782400) * US_PER_S, "2000-02-29T00:00:00.000Z",
		    "Tue, 29 Feb 2000 00:00:00 +0000" },
		{ INT64_MAX, "9999-12-31T23:59:59.999Z",
		    "Fri, 31 Dec 9999 23:59:59 +0000" },
		{ INT64_MIN, "0000-01-01T00:00:00.000Z",
		    "Sat, 1 Jan 0000 00:00:00 +0000" },
	};

	char a[TIME_RFC3339_SIZE], b[TIME_RFC5322_SIZE];

	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_string_equal(
		    time_format_rfc3339(cases[i].us, a), cases[i].rfc3339);
		assert_string_equal(
		    time_format_rfc5322(cases[i].us, b), cases[i].rfc5322);
	}
}

/* Against the C library, through 800 years in steps of 11.3 days. */
static void
test_calendar(void **state)
{
	(void)state;
	for (int64_t s = INT64_C(-12000000000); s < INT64_C(13000000000);
	     s += 976543) {
		time_t t = (time_t)s;
		struct tm tm;
		char expected[64], got[TIME_RFC5322_SIZE];
		assert_non_null(gmtime_r(&t, &tm));
		assert_true(strftime(expected, sizeof expected,
				"%a, %-d %b %Y %H:%M:%S +0000", &tm) > 0);
		assert_string_equal(
		    time_format_rfc5322(s * US_PER_S, got), expected);
		char stamp[TIME_RFC3339_SIZE];
		int64_t back;
		time_format_rfc3339(s * US_PER_S, stamp);
		assert_true(time_parse_rfc3339(span_of(stamp), &back));
		assert_true(back == s * US_PER_S);
	}
}

static void
test_parse_rfc3339(void **state)
{
	(void)state;

	static const struct {
		const char *text;
		bool is_ok;
		int64_t us;
	} cases[] = {
		{ "2026-11-23T17:44:49.123Z", true, 1795455889123000 },
		{ "2026-11-23t17:44:49z", true, 1795455889000000 },
		{ "2026-11-23T18:44:49+01:00", true, 1795455889000000 },
		{ "2026-11-23T13:14:49.1234567-04:30", true, 1795455889123456 },
		{ "1970-01-01T00:00:00Z", true, 0 },
		{ "1990-12-31T23:59:60Z", true, 662688000000000 },
		{ "2024-02-29T00:00:00Z", true, 1709164800000000 },
		{ "2023-02-29T00:00:00Z", false, 0 },
		{ "2023-04-31T00:00:00Z", false, 0 },
		{ "2023-00-10T00:00:00Z", false, 0 },
		{ "2023-13-10T00:00:00Z", false, 0 },
		{ "2023-10-10T24:00:00Z", false, 0 },
		{ "2023-10-10T00:00:00", false, 0 },
		{ "2023-10-10T00:00:00.Z", false, 0 },
		{ "2023-10-10T00:00:00+0100", false, 0 },
		{ "2023-10-10T00:00:00Zx", false, 0 },
		{ "2023-10-10 00:00:00Z", false, 0 },
		{ "23-10-10T00:00:00Z", false, 0 },
		{ "", false, 0 },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		int64_t us = 0;
		assert_int_equal(
		    time_parse_rfc3339(span_of(cases[i].text), &us),
		    cases[i].is_ok);
		assert_true(us == cases[i].us);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_duration),
		cmocka_unit_test(test_format_duration),
		cmocka_unit_test(test_format_age),
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_calendar),
		cmocka_unit_test(test_parse_rfc3339),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
