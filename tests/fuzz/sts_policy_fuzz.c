/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "sts/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is accepted is read again as the same. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span text = span_from(data, size);
	char id[STS_ID_SIZE];
	const char *problem;
	struct buf shown = BUF_EMPTY;

	(void)sts_record_parse(text, id);
	struct sts_policy *p = sts_policy_parse(text, &problem);
	if (p == NULL)
		return 0;
	(void)sts_policy_allows(p, text);
	sts_policy_format(p, &shown);
	struct sts_policy *again = sts_policy_parse(buf_span(&shown), &problem);
	BUG_UNLESS(again != NULL || buf_size(&shown) > STS_POLICY_MAX);
	BUG_UNLESS(again == NULL || again->mark == p->mark);
	sts_policy_unref(&again);
	sts_policy_unref(&p);
	buf_done(&shown);
	return 0;
}
