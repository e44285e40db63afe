/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "bounce/report.h"

/*
 * Any message: read without trouble, within the limits, nothing suppressed
 * that did not fail, and rendered as one line.
 */

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static struct judge *judge;
	static struct bounce_reader *reader;
	struct arena *arena = arena_new();
	struct buf line = BUF_EMPTY;
	struct bounce_report report;

	if (judge == NULL) {
		judge = judge_new();
		reader = bounce_reader_new(judge);
	}
	bounce_read(reader, span_from(bytes, size), arena, &report);
	BUG_UNLESS(report.kind <= BOUNCE_AUTOMATIC_REPLY);
	BUG_UNLESS(report.recipient_count <= REPORT_RECIPIENTS_MAX);
	for (size_t i = 0; i < report.recipient_count; i++) {
		const struct bounce_recipient *r = &report.recipients[i];
		BUG_UNLESS(r->address.len > 0);
		BUG_UNLESS(!r->suppresses || r->action == ACTION_FAILED);
	}
	bounce_report_render(&report, &line);
	BUG_UNLESS(span_find(buf_span(&line), '\n') == SIZE_MAX);
	buf_done(&line);
	arena_free(&arena);
	return 0;
}
