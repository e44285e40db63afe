/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* clang-format on */

static void
test_append_and_consume(void **state)
{
	(void)state;
	struct buf b = BUF_EMPTY;
	assert_int_equal(buf_size(&b), 0);
	assert_null(buf_span(&b).ptr);
	buf_append(&b, SPAN_EMPTY);
	assert_string_equal(buf_cstring(&b), "");
	buf_append_str(&b, "hello ");
	buf_append_char(&b, 'w');
	buf_append(&b, SPAN("orld"));
	buf_consume(&b, 6);
	assert_true(span_eq(buf_span(&b), SPAN("world")));
	assert_string_equal(buf_cstring(&b), "world");
	buf_consume(&b, 5);
	assert_int_equal(b.len, 0); /* reclaimed */
	buf_printf(&b, "%d-%s", 7, "x");
	assert_string_equal(buf_cstring(&b), "7-x");
	buf_clear(&b);
	assert_int_equal(buf_size(&b), 0);
	buf_done(&b);
	assert_null(b.ptr);
	buf_done(&b);
}

static void
test_long_printf(void **state)
{
	(void)state;
	struct buf b = BUF_EMPTY;
	char text[500];
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	buf_append_str(&b, "<");
	buf_printf(&b, "%s", text);
	buf_append_str(&b, ">");
	assert_int_equal(buf_size(&b), sizeof text + 1);
	assert_memory_equal(b.ptr + 1, text, sizeof text - 1);
	assert_int_equal(b.ptr[b.len - 1], '>');
	buf_done(&b);
}

/* A stream that flows through needs no more room than it has unread. */
static void
test_numbers(void **state)
{
	static const struct {
		uint64_t value;
		const char *text;
	} cases[] = {
		{ 0, "0" },
		{ 7, "7" },
		{ 10, "10" },
		{ 909, "909" },
		{ UINT64_MAX, "18446744073709551615" },
	};
	struct buf b = BUF_EMPTY;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		buf_clear(&b);
		buf_append_u64(&b, cases[i].value);
		assert_string_equal(buf_cstring(&b), cases[i].text);
	}
	buf_done(&b);
}

static void
test_reclaims_room(void **state)
{
	(void)state;
	struct buf b = BUF_EMPTY;
	unsigned char next_in = 0, next_out = 0;
	for (int turn = 0; turn < 10000; turn++) {
		for (int i = 0; i < 100; i++)
			buf_append_char(&b, (char)next_in++);
		while (buf_size(&b) > 30) {
			assert_int_equal(
			    (unsigned char)buf_span(&b).ptr[0], next_out++);
			buf_consume(&b, 1);
		}
	}
	assert_true(b.capacity <= 512);
	buf_done(&b);
}

static void
test_reserve(void **state)
{
	(void)state;
	struct buf b = BUF_EMPTY;
	memcpy(buf_reserve(&b, 1000), "abc", 3);
	assert_true(b.capacity >= 1000);
	buf_added(&b, 3);
	assert_true(span_eq(buf_span(&b), SPAN("abc")));
	assert_non_null(buf_reserve(&b, 0));
	buf_done(&b);
}

static void
test_json(void **state)
{
	(void)state;

	static const struct {
		struct span in;
		const char *out;
	} cases[] = {
		{ { NULL, 0 }, "\"\"" },
		{ { "abc", 3 }, "\"abc\"" },
		{ { "a\"b\\", 4 }, "\"a\\\"b\\\\\"" },
		{ { "\b\f\n\r\t", 5 }, "\"\\b\\f\\n\\r\\t\"" },
		{ { "\0\x1b[2J\x7f", 6 }, "\"\\u0000\\u001b[2J\\u007f\"" },
		{ { "\xc3\xa4\xc2\xa0", 4 }, "\"\xc3\xa4\xc2\xa0\"" },
		{ { "\xc2\x9b", 2 }, "\"\\u009b\"" },
		{ { "\xff\xc3", 2 }, "\"\xef\xbf\xbd\xef\xbf\xbd\"" },
		{ { "\xed\xa0\x80", 3 },
		    "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct buf b = BUF_EMPTY;
		buf_append_json(&b, cases[i].in);
		assert_string_equal(buf_cstring(&b), cases[i].out);
		buf_done(&b);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_append_and_consume),
		cmocka_unit_test(test_long_printf),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_reclaims_room),
		cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_json),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
