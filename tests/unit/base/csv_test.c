/* SPDX-License-Identifier: Apache-2.0 */
#include "base/csv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void
expect(struct csv *csv, unsigned line, const char *fields)
{
	struct span rest = span_of(fields);
	size_t count = 0;

	assert_int_equal(csv_next(csv), 1);
	assert_int_equal(csv->line, line);
	do {
		struct span want = span_cut(&rest, '|');
		assert_true(span_eq(csv_field(csv, count), want));
		count++;
	} while (rest.len > 0);
	assert_int_equal(csv->count, count);
	assert_int_equal(csv_field(csv, count).len, 0);
}

static void
test_reads(void **state)
{
	struct csv csv = csv_begin(
	    SPAN("a,b\r\n\n\"x,\"\"y\"\"\nz\",2\n'=1,'x,''+\r\nlast"));

	(void)state;
	expect(&csv, 1, "a|b");
	expect(&csv, 3, "x,\"y\"\nz|2");
	expect(&csv, 5, "=1|'x|'+");
	expect(&csv, 6, "last");
	assert_int_equal(csv_next(&csv), 0);
	csv_done(&csv);
}

static void
test_refuses(void **state)
{
	struct csv csv =
	    csv_begin(SPAN("a\"b,c\n1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,"
			   "17\ngood\n\"open\n"));

	(void)state;
	assert_int_equal(csv_next(&csv), ERR_SYNTAX);
	assert_int_equal(csv.line, 1);
	assert_int_equal(csv_next(&csv), ERR_LIMIT);
	expect(&csv, 3, "good");
	assert_int_equal(csv_next(&csv), ERR_SYNTAX);
	assert_int_equal(csv_next(&csv), 0);
	csv_done(&csv);
}

static void
test_writes(void **state)
{
	struct buf out = BUF_EMPTY;

	(void)state;
	csv_append(&out, SPAN("=cmd|' /C calc'!A0"), true);
	csv_append(&out, SPAN("a,\"b\""), false);
	csv_append(&out, SPAN("-1@x.example"), false);
	csv_append(&out, SPAN("'@"), false);
	csv_append(&out, SPAN_EMPTY, false);
	csv_end(&out);
	assert_string_equal(buf_cstring(&out),
	    "'=cmd|' /C calc'!A0,\"a,\"\"b\"\"\",'-1@x.example,''@,\r\n");
	struct csv csv = csv_begin(buf_span(&out));
	assert_int_equal(csv_next(&csv), 1);
	assert_true(span_eq(csv_field(&csv, 0), SPAN("=cmd|' /C calc'!A0")));
	assert_true(span_eq(csv_field(&csv, 2), SPAN("-1@x.example")));
	assert_true(span_eq(csv_field(&csv, 3), SPAN("'@")));
	csv_done(&csv);
	buf_done(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
