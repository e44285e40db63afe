/* SPDX-License-Identifier: Apache-2.0 */
#include "os/random.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* clang-format on */

/* Every byte of a piece longer than one call gives is written. */
static void
test_bytes(void **state)
{
	(void)state;
	unsigned char bytes[1000], seen[1000] = { 0 };
	for (int turn = 0; turn < 20; turn++) {
		memset(bytes, 0, sizeof bytes);
		random_bytes(bytes, sizeof bytes);
		for (size_t i = 0; i < sizeof bytes; i++)
			seen[i] |= bytes[i];
	}
	for (size_t i = 0; i < sizeof seen; i++)
		assert_int_not_equal(seen[i], 0);
	assert_true(random_u64() != random_u64());
	random_bytes(bytes, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
