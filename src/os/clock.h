/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

int64_t clock_wall_us(void);
int64_t clock_monotonic_us(void);
