/* SPDX-License-Identifier: Apache-2.0 */
#include "os/clock.h"

#include "base/bug.h"
#include "base/time.h"

#include <time.h>

static int64_t
read_clock(clockid_t clock)
{
	struct timespec now;

	BUG_UNLESS(clock_gettime(clock, &now) == 0);
	return now.tv_sec * US_PER_S + now.tv_nsec / 1000;
}

int64_t
clock_wall_us(void)
{
	return read_clock(CLOCK_REALTIME);
}

int64_t
clock_monotonic_us(void)
{
	return read_clock(CLOCK_MONOTONIC);
}
