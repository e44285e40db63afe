/* SPDX-License-Identifier: Apache-2.0 */
#include "os/random.h"

#include "base/bug.h"

#include <errno.h>
#include <sys/random.h>

void
random_bytes(void *p, size_t len)
{
	char *at = p;

	while (len > 0) {
		/* Up to 256 bytes arrive whole once the pool is ready. */
		ssize_t n = getrandom(at, len < 256 ? len : 256, 0);
		if (n < 0 && errno == EINTR)
			continue;
		BUG_UNLESS(n > 0);
		at += n;
		len -= (size_t)n;
	}
}

uint64_t
random_u64(void)
{
	uint64_t value;

	random_bytes(&value, sizeof value);
	return value;
}
