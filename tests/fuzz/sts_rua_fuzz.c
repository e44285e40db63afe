/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "sts/rua.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char address[64];
	size_t at = 0;

	while (
	    sts_rua_next(span_from(data, size), &at, address, sizeof address))
		BUG_UNLESS(strlen(address) > 0 && at <= size + 1);
	return 0;
}
