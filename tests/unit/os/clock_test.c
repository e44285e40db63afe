/* SPDX-License-Identifier: Apache-2.0 */
#include "os/clock.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
/* clang-format on */

#include "base/time.h"

static void
test_clocks(void **state)
{
	(void)state;
	int64_t wall = clock_wall_us();
	assert_true(wall / US_PER_S - time(NULL) <= 1);
	assert_true(time(NULL) - wall / US_PER_S <= 1);
	int64_t before = clock_monotonic_us();
	struct timespec pause = { .tv_nsec = 2000000 };
	assert_int_equal(nanosleep(&pause, NULL), 0);
	int64_t passed = clock_monotonic_us() - before;
	assert_true(passed >= 2000);
	assert_true(passed < 60 * US_PER_S);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clocks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
