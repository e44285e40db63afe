/* SPDX-License-Identifier: Apache-2.0 */

/* The PROXY header, as a stranger behind a proxy, or a broken proxy, sends it.
 * What is a header must be one at each longer input and none at a shorter. */

#include "base/bug.h"
#include "base/mem.h"
#include "receive/internal.h"

static int
parse_copy(const uint8_t *data, size_t len, struct netaddr *ret_client)
{
	char *copy = mem_dup(data, len > 0 ? len : 1);
	int result = proxy_parse(span_from(copy, len), ret_client);

	mem_free(copy);
	return result;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t none[1];
	struct netaddr client, again;

	if (size == 0)
		data = none;
	int length = parse_copy(data, size, &client);
	if (length <= 0)
		return 0;
	BUG_UNLESS((size_t)length <= size && length <= PROXY_HEADER_MAX);
	BUG_UNLESS(client.family == NETADDR_NONE ||
		   client.family == NETADDR_IP4 ||
		   client.family == NETADDR_IP6);
	BUG_UNLESS(parse_copy(data, (size_t)length, &again) == length);
	BUG_UNLESS(parse_copy(data, (size_t)length - 1, &again) == 0);
	return 0;
}
