/* SPDX-License-Identifier: Apache-2.0 */
#include "config/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void
parses_and_formats(void **state)
{
	static const struct {
		const char *text;
		uint64_t size;
		const char *shown;
	} rows[] = {
		{ "0", 0, "0" },
		{ "1", 1, "1" },
		{ "1023", 1023, "1023" },
		{ "1024", 1024, "1K" },
		{ "1025", 1025, "1025" },
		{ "512K", 512 << 10, "512K" },
		{ "2048K", 2 << 20, "2M" },
		{ "50M", 50 << 20, "50M" },
		{ "3G", UINT64_C(3) << 30, "3G" },
		{ "5000T", UINT64_C(5000) << 40, "5000T" },
		{ "0K", 0, "0" },
		{ "18446744073709551615", UINT64_MAX, "18446744073709551615" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct buf out = BUF_EMPTY;
		uint64_t size = 1;
		assert_true(config_parse_size(span_of(rows[i].text), &size));
		assert_true(size == rows[i].size);
		config_format_size(size, &out);
		assert_string_equal(buf_cstring(&out), rows[i].shown);
		buf_done(&out);
	}
}

static void
refuses(void **state)
{
	static const char *const rows[] = { "", "K", "-1", "1k", "1KB", "1 K",
		"1.5M", "0x10", "18446744073709551616", "99999999999999999T",
		"16777216T" };

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		uint64_t size = 7;
		assert_false(config_parse_size(span_of(rows[i]), &size));
		assert_true(size == 7);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_and_formats),
		cmocka_unit_test(refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
