/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Numbers as text where each message passes: printf costs ten times more. */

#include <stdint.h>

enum { DECIMAL_SIZE = 20 }; /* the digits of UINT64_MAX */

/* Writes value's digits, without a NUL; returns the end. */
static inline char *
decimal_put(char *to, uint64_t value)
{
	char digits[DECIMAL_SIZE];
	int count = 0;

	do {
		digits[count++] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	while (count > 0)
		*to++ = digits[--count];
	return to;
}
