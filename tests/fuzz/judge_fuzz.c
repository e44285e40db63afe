/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "bounce/judge.h"

/*
 * Judging any text: the same answer twice, nothing suppressed that is not
 * permanent. The first four bytes are the code and the status.
 */

static struct refusal
refusal_from(const uint8_t *bytes, size_t size)
{
	struct refusal r = { 0 };

	if (size < 4)
		return r;
	r.code = (uint16_t)(bytes[0] % 2 ? 400 + bytes[0] % 200 : 0);
	r.status_class = bytes[1] % 3 ? (uint8_t)(4 + bytes[1] % 2) : 0;
	r.status_subject = bytes[2];
	r.status_detail = bytes[3];
	r.text = span_from(bytes + 4, size - 4);
	return r;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static struct judge *judge;
	struct judgement first, second;

	if (judge == NULL)
		judge = judge_new();
	struct refusal r = refusal_from(bytes, size);
	judge_reply(judge, &r, &first);
	judge_reply(judge, &r, &second);
	BUG_UNLESS(first.class < REPLY_CLASSES && first.class == second.class);
	BUG_UNLESS(first.rule == second.rule && first.rule > 0);
	BUG_UNLESS(!first.suppresses || first.is_permanent);
	BUG_UNLESS(!first.suppresses || first.class <= CLASS_MOVED ||
		   first.class == CLASS_MAILBOX_DISABLED);
	return 0;
}
