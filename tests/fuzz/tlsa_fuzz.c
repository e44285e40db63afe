/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "tls/dane.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tls_dane_record record;

	if (!tls_dane_parse(span_from(data, size), &record)) {
		BUG_UNLESS(size < 3);
		return 0;
	}
	BUG_UNLESS(record.data.len == size - 3);
	if (tls_dane_is_usable(&record))
		BUG_UNLESS(record.usage == 2 || record.usage == 3);
	return 0;
}
