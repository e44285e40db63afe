/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "returns/token.h"

#include <stdint.h>

/* No bytes are a token of ours, whatever they look like. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct return_key key = { .mac = { 7 }, .hash = { 1, 2 } };
	struct return_token token;

	BUG_UNLESS(return_token_check(&key, span_from(data, size), 0, 0,
		       &token) == RETURN_FORGED);
	return 0;
}
