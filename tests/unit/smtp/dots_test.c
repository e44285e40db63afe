/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/dots.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* clang-format on */

static const struct {
	const char *in, *out;
} cases[] = {
	{ "", "" },
	{ ".", ".." },
	{ "..", "..." },
	{ "...\r\n", "....\r\n" },
	{ ".\r\n", "..\r\n" },
	{ "a.b\r\n", "a.b\r\n" },
	{ "a\r\n.b\r\n", "a\r\n..b\r\n" },
	{ "a\r\n.\r\n", "a\r\n..\r\n" },
	{ ".\r\n.\r\n.\r\n", "..\r\n..\r\n..\r\n" },
	{ "\r\n.\r\n", "\r\n..\r\n" },
	{ "\r\n\r\n..x\r\n\r\n", "\r\n\r\n...x\r\n\r\n" },
	{ "a\r\n.", "a\r\n.." },
	{ "a. \r\n .\r\n", "a. \r\n .\r\n" },
	/* Only CRLF ends a line: what else comes here is not one. */
	{ "a\n.b\r\n", "a\n.b\r\n" },
	{ "a\r.b\r\n", "a\r.b\r\n" },
	{ "a\r\r\n.b", "a\r\r\n..b" },
	{ "a\n\r.b", "a\n\r.b" },
};

#define CASES (sizeof(cases) / sizeof(cases[0]))

static void
test_whole(void **state)
{
	(void)state;
	for (size_t i = 0; i < CASES; i++) {
		struct dots d = { 0 };
		struct buf out = BUF_EMPTY;
		dots_stuff(&d, span_of(cases[i].in), &out);
		assert_string_equal(buf_cstring(&out), cases[i].out);
		buf_done(&out);
	}
}

static void
test_cut_in_three_anywhere(void **state)
{
	(void)state;
	for (size_t i = 0; i < CASES; i++) {
		struct span in = span_of(cases[i].in);
		for (size_t cuts = 0; cuts < (in.len + 1) * (in.len + 1);
		     cuts++) {
			size_t a = cuts / (in.len + 1), b = cuts % (in.len + 1);
			if (a > b)
				continue;
			struct dots d = { 0 };
			struct buf out = BUF_EMPTY;
			dots_stuff(&d, span_slice(in, 0, a), &out);
			dots_stuff(&d, span_slice(in, a, b - a), &out);
			dots_stuff(&d, span_skip(in, b), &out);
			assert_string_equal(buf_cstring(&out), cases[i].out);
			buf_done(&out);
		}
	}
}

static void
test_one_octet_at_a_time(void **state)
{
	(void)state;
	for (size_t i = 0; i < CASES; i++) {
		struct dots d = { 0 };
		struct buf out = BUF_EMPTY;
		for (const char *p = cases[i].in; *p != '\0'; p++)
			dots_stuff(&d, span_from(p, 1), &out);
		assert_string_equal(buf_cstring(&out), cases[i].out);
		buf_done(&out);
	}
}

static void
test_needed(void **state)
{
	(void)state;
	for (size_t i = 0; i < CASES; i++) {
		struct span in = span_of(cases[i].in);
		bool differs = strcmp(cases[i].in, cases[i].out) != 0;
		for (size_t cut = 0; cut <= in.len; cut++) {
			struct dots d = { 0 };
			bool first = dots_needed(&d, span_slice(in, 0, cut));
			bool second = dots_needed(&d, span_skip(in, cut));
			assert_int_equal(first || second, differs);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_cut_in_three_anywhere),
		cmocka_unit_test(test_one_octet_at_a_time),
		cmocka_unit_test(test_needed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
