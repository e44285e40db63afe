/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the tools' command lines have in common. Each function ends the program
 * with status 2 and a sentence when the value is not of its kind. */

#include "base/netaddr.h"

#include <stdint.h>

_Noreturn void option_fail(const char *format, ...)
    __attribute__((format(printf, 1, 2)));
uint64_t option_number(
    const char *name, const char *value, uint64_t min, uint64_t max);
double option_share(const char *name, const char *value); /* 0..1 */
struct netaddr option_address(const char *name, const char *value);
