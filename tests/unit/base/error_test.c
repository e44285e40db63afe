/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */

#include "base/span.h"

static void
test_texts(void **state)
{
	(void)state;
	assert_string_equal(error_text(-ENOENT), "No such file or directory");
	assert_string_equal(error_text(0), "success");
	for (int code = ERR_VERSION; code <= ERR_CORRUPT; code++)
		assert_string_not_equal(error_text(code), "unknown error");
	assert_string_equal(error_text(ERR_VERSION - 1), "unknown error");
	assert_string_equal(error_text(ERR_BASE), "unknown error");
	assert_string_equal(error_text(INT_MIN), "unknown error");
	assert_string_equal(error_text(-9999), "unknown error");
}

static void
test_failure(void **state)
{
	(void)state;
	struct failure f = { 0 };
	assert_int_equal(failure_set(NULL, -EIO, "unused"), -EIO);
	assert_int_equal(failure_set(&f, -EIO, "cannot read %s", "x"), -EIO);
	assert_int_equal(f.code, -EIO);
	assert_string_equal(f.text, "cannot read x");
	/* wrapping the old text in the new one */
	failure_set(&f, ERR_CORRUPT, "spool: %s", f.text);
	assert_string_equal(f.text, "spool: cannot read x");
}

static void
test_long_failure(void **state)
{
	(void)state;
	char text[700];
	for (size_t shift = 0; shift < 3; shift++) {
		memset(text, 'x', shift);
		for (size_t i = shift; i + 3 < sizeof text; i += 3)
			memcpy(text + i, "\xe2\x82\xac", 4);
		struct failure f;
		failure_set(&f, -EIO, "%s", text);
		size_t len = strlen(f.text);
		assert_true(len >= FAILURE_TEXT_MAX - 4);
		assert_true(len < FAILURE_TEXT_MAX);
		assert_true(span_is_utf8(span_of(f.text)));
	}
}

static int
fail_with(int code)
{
	TRY(code);
	return 7;
}

static void
test_try(void **state)
{
	(void)state;
	assert_int_equal(fail_with(-EIO), -EIO);
	assert_int_equal(fail_with(0), 7);
	assert_int_equal(fail_with(3), 7);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_failure),
		cmocka_unit_test(test_long_failure),
		cmocka_unit_test(test_try),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
