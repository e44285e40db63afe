/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which deliveries have been reported on by mail that came back: a second
 * report of the same kind changes nothing. Blocks on the disk.
 */

#include "directory/directory.h"

struct directory_return {
	uint64_t mno; /* of the message reported on */
	uint32_t rcpt; /* index in its envelope */
	uint32_t kind; /* the caller's; different ones do not meet */
	uint64_t by_mno; /* of the report */
	int64_t expire_us; /* wall; it is forgotten then */
};

/* 1: this report is the first, or the same that was the first before. 0:
 * another one was. Durable when it returns. */
MUST_CHECK int directory_claim_return(struct directory *d,
    const struct directory_return *claim, int64_t now_us,
    struct failure *ret_failure);
