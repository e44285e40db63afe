/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/header.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* clang-format on */

struct row {
	const char *value;
	int count; /* -1: refused */
	const char *first;
};

/* clang-format off */
static const struct row rows[] = {
	{ " user@example.com",                       1, "user@example.com" },
	{ " User@Example.COM",                       1, "User@example.com" },
	{ " John Doe <j@example.com>",               1, "j@example.com" },
	{ "<j@example.com>",                         1, "j@example.com" },
	{ " \"Doe, John <x@evil>\" <j@example.com>", 1, "j@example.com" },
	{ " \"a \\\" b\" <j@example.com>",           1, "j@example.com" },
	{ " John Q. Public <j@example.com>",         1, "j@example.com" },
	{ " =?utf-8?q?J=C3=B6rg?= <j@example.com>",  1, "j@example.com" },
	{ " J\xc3\xb6rg <j@b\xc3\xbc" "cher.example>", 1, "j@xn--bcher-kva.example" },
	{ " j@example.com (John Doe)",               1, "j@example.com" },
	{ " (one (two \\) three)) j@example.com",    1, "j@example.com" },
	{ " (a@evil.example)<j@example.com>(b)",     1, "j@example.com" },
	{ " John\r\n\t<j@example.com>\r\n ",         1, "j@example.com" },
	{ " John < j@example.com >",                 1, "j@example.com" },
	{ " \"john doe\"@example.com",               1, "\"john doe\"@example.com" },
	{ " \"a@evil.example\"@example.com",         1, "\"a@evil.example\"@example.com" },
	{ " a%b@example.com",                        1, "a%b@example.com" },
	{ " j@[192.0.2.1]",                          1, "j@[192.0.2.1]" },
	{ " j@[IPv6:2001:DB8::1]",                   1, "j@[IPv6:2001:db8::1]" },
	{ " a@example.com, b@example.net",           2, "a@example.com" },
	{ " A <a@example.com>,\r\n B <b@example.net>, c@d", 3, "a@example.com" },
	{ " Team: a@example.com, B <b@example.net>;", 2, "a@example.com" },
	{ " Team: a@example.com;, c@d",              2, "a@example.com" },
	{ " x@y, \"The Team\" : a@b;",               2, "x@y" },
	{ " undisclosed-recipients:;",               0, "" },
	{ " Nobody: (nobody) ; (really)",            0, "" },

	{ "",                                        -1, NULL },
	{ " ",                                       -1, NULL },
	{ " (only a comment)",                       -1, NULL },
	{ " user",                                   -1, NULL },
	{ " John Doe",                               -1, NULL },
	{ " <>",                                     -1, NULL },
	{ " John <>",                                -1, NULL },
	{ " <@relay.example:j@example.com>",         -1, NULL },
	{ " <@a,@b:j@example.com>",                  -1, NULL },
	{ " a@b@c",                                  -1, NULL },
	{ " a@b c@d",                                -1, NULL },
	{ " a@b <c@d>",                              -1, NULL },
	{ " a@evil.example <c@d>",                   -1, NULL },
	{ " <a@b> <c@d>",                            -1, NULL },
	{ " <a@b> c@d",                              -1, NULL },
	{ " <a@b",                                   -1, NULL },
	{ " a@b>",                                   -1, NULL },
	{ " a@b,",                                   -1, NULL },
	{ " ,a@b",                                   -1, NULL },
	{ " a@b,,c@d",                               -1, NULL },
	{ " a@b;",                                   -1, NULL },
	{ " Team: a@b",                              -1, NULL },
	{ " Team: a@b,;",                            -1, NULL },
	{ " Team: Inner: a@b;;",                     -1, NULL },
	{ " : a@b;",                                 -1, NULL },
	{ " a . b@c",                                -1, NULL },
	{ " a.@c",                                   -1, NULL },
	{ " .a@c",                                   -1, NULL },
	{ " a..b@c",                                 -1, NULL },
	{ " \"a\".b@c",                              -1, NULL },
	{ " \"\"@c",                                 -1, NULL },
	{ " \"a\r\n b\"@c",                          -1, NULL },
	{ " \"a@b",                                  -1, NULL },
	{ " \"a\\",                                  -1, NULL },
	{ " a@b (comment",                           -1, NULL },
	{ " (\\",                                    -1, NULL },
	{ " a@b )",                                  -1, NULL },
	{ " a@b. c",                                 -1, NULL },
	{ " a@b.c.",                                 -1, NULL },
	{ " a@b .c",                                 -1, NULL },
	{ " a@good.example (x) .evil.example",       -1, NULL },
	{ " a@\"b\"",                                -1, NULL },
	{ " a@",                                     -1, NULL },
	{ " @b",                                     -1, NULL },
	{ " a@[192.0.2.1",                           -1, NULL },
	{ " a@[x]",                                  -1, NULL },
	{ " a@=?utf-8?q?evil.example?=",             -1, NULL },
	{ " =?utf-8?q?a=40example.com?=",            -1, NULL },
	{ " <=?utf-8?q?a=40example.com?=>",          -1, NULL },
	{ " a@b\xff.example",                        -1, NULL },
	{ " a@xn--a",                                -1, NULL },
	{ " John [x] <a@b>",                         -1, NULL },
};

/* clang-format on */

static void
test_from(void **state)
{
	struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];
		struct span first = SPAN("untouched");
		size_t count = 77;
		int code = header_from_address(
		    span_of(row->value), arena, &count, &first);
		if ((code == 0) != (row->count >= 0))
			fail_msg("%s: got %d", row->value, code);
		if (row->count < 0) {
			assert_int_equal(code, ERR_SYNTAX);
			assert_int_equal(count, 77);
			assert_true(span_eq(first, SPAN("untouched")));
			continue;
		}
		if ((int)count != row->count)
			fail_msg("%s: count %zu", row->value, count);
		if (!span_eq(first, span_of(row->first)))
			fail_msg("%s: first %.*s", row->value, SPAN_ARG(first));
	}
	arena_free(&arena);
}

static void
test_deep_comment(void **state)
{
	struct arena *arena = arena_new();
	struct buf value = BUF_EMPTY;
	struct span first;
	size_t count = 0;

	(void)state;
	for (size_t i = 0; i < 100000; i++)
		buf_append_char(&value, '(');
	assert_int_equal(
	    header_from_address(buf_span(&value), arena, &count, &first),
	    ERR_SYNTAX);
	for (size_t i = 0; i < 100000; i++)
		buf_append_char(&value, ')');
	buf_append_str(&value, "a@b");
	assert_int_equal(
	    header_from_address(buf_span(&value), arena, &count, &first), 0);
	assert_int_equal(count, 1);
	buf_done(&value);
	arena_free(&arena);
}

static void
test_nul(void **state)
{
	struct arena *arena = arena_new();
	struct span first;
	size_t count = 0;

	(void)state;
	assert_int_equal(
	    header_from_address(SPAN("a\0b@c"), arena, &count, &first),
	    ERR_SYNTAX);
	assert_int_equal(
	    header_from_address(SPAN("a@c\0"), arena, &count, &first),
	    ERR_SYNTAX);
	assert_int_equal(
	    header_from_address(SPAN("\0<a@c>"), arena, &count, &first),
	    ERR_SYNTAX);
	assert_int_equal(
	    header_from_address(SPAN("\"a\0b\"@c"), arena, &count, &first),
	    ERR_SYNTAX);
	arena_free(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_from),
		cmocka_unit_test(test_deep_comment),
		cmocka_unit_test(test_nul),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
