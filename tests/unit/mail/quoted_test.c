/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/internal.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* clang-format on */

#define X10 "xxxxxxxxxx"
#define X70 X10 X10 X10 X10 X10 X10 X10

static void
test_table(void **state)
{
	static const struct {
		const char *text, *quoted;
	} rows[] = {
		{ "", "" },
		{ "plain\r\n\r\ntext", "plain\r\n\r\ntext" },
		{ "a=b\r\n", "a=3Db\r\n" },
		{ "gr\xc3\xbc\xc3\x9f\r\n", "gr=C3=BC=C3=9F\r\n" },
		{ "\tends in \r\n \t", "\tends in=20\r\n =09" },
		{ "\x7f\x01\r\n", "=7F=01\r\n" },
		{ X70 "12345\r\n", X70 "12345\r\n" },
		{ X70 "123456", X70 "12345=\r\n6" },
		{ X70 "123\xff", X70 "123=\r\n=FF" },
		{ X70 "12\xff", X70 "12=FF" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct buf out = BUF_EMPTY;

		quoted_append(span_of(rows[i].text), &out);
		assert_string_equal(buf_cstring(&out), rows[i].quoted);
		buf_done(&out);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
