/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/csv.h"

/* What was read is written, and read again to the same. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_copy(const struct csv *csv)
{
	struct buf copy = BUF_EMPTY;
	bool is_blank = csv->count == 1 && csv_field(csv, 0).len == 0;

	for (size_t i = 0; i < csv->count; i++)
		csv_append(&copy, csv_field(csv, i), i == 0);
	csv_end(&copy);
	struct csv again = csv_begin(buf_span(&copy));
	int code = csv_next(&again);
	/* Quoting may make a record longer than one may be. */
	if (code == 1) {
		BUG_UNLESS(again.count == csv->count);
		for (size_t i = 0; i < csv->count; i++)
			BUG_UNLESS(
			    span_eq(csv_field(&again, i), csv_field(csv, i)));
		BUG_UNLESS(csv_next(&again) == 0);
	} else {
		BUG_UNLESS(is_blank || code == ERR_LIMIT);
	}
	csv_done(&again);
	buf_done(&copy);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct csv csv = csv_begin(span_from(data, size));
	unsigned line = 0;
	int code;

	while ((code = csv_next(&csv)) != 0) {
		BUG_UNLESS(csv.line > line && csv.count <= CSV_FIELDS_MAX);
		line = csv.line;
		if (code == 1)
			check_copy(&csv);
	}
	csv_done(&csv);
	return 0;
}
