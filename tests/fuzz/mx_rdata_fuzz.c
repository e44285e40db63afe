/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "resolve/mxdata.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is accepted is a name that is normal already. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mx_record record;
	char name[DNS_NAME_SIZE];

	if (mx_rdata_parse(span_from(data, size), &record) && *record.name) {
		BUG_UNLESS(dns_name_normalise(span_of(record.name), name));
		BUG_UNLESS(strcmp(name, record.name) == 0);
	}
	if (dns_name_normalise(span_from(data, size), name))
		BUG_UNLESS(strlen(name) > 0 && strlen(name) <= size);
	return 0;
}
