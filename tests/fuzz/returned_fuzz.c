/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "report/returned_read.h"
#include "returns/token.h"

#include <stdint.h>

/* What comes back, and where to: a report is read within its bounds, and no
 * bytes are a token of ours. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct return_key key = { .mac = { 7 }, .hash = { 1, 2 } };
	static struct judge *judge;
	struct arena *arena = arena_new();
	struct returned_report report;
	struct return_token token;
	struct span text = span_from(data, size);

	if (judge == NULL)
		judge = judge_new();
	returned_read(judge, text, arena, &report);
	BUG_UNLESS(report.recipient_count <= REPORT_RECIPIENTS_MAX);
	for (size_t i = 0; i < report.recipient_count; i++)
		BUG_UNLESS(!report.recipients[i].suppresses ||
			   report.recipients[i].action == ACTION_FAILED);
	BUG_UNLESS(
	    return_token_check(&key, text, 0, 0, &token) == RETURN_FORGED);
	arena_free(&arena);
	return 0;
}
