/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Does the resolver validate? A thread of its own finds out at the start, and
 * again until the answer is yes: the zone of the trust anchor, asked of the
 * same servers, must be secure; and the same zone under an anchor with keys
 * that nobody has, made up on the spot, must be refused as bogus. So nothing
 * of the Internet is needed but what the anchor is for, and a closed network
 * with its own root proves itself, too.
 *
 * Servers that take the signatures out of answers fail it. Then it is better
 * to believe what they say, unvalidated, than to find every signed domain
 * bogus; but nothing that builds on validation (DANE) may be used.
 */

#include "resolve/resolve.h"

struct resolve_proof;

struct resolve_verdict {
	bool validates;
	char problem[320]; /* why not, for people */
};

/* Blocks for at most 2 * timeout_us. `options` as for resolver_new, with
 * .dnssec; its timeout is for each of the two questions (0: 5 s). */
void resolve_prove(const struct resolver_options *options,
    struct resolve_verdict *ret_verdict);

/* On the proof's thread: after the first try, and then whenever the verdict
 * changes from no to yes. Must only hand over. */
typedef void resolve_proof_fn(void *arg, const struct resolve_verdict *verdict);

/* Copies the options. */
MUST_CHECK int resolve_proof_start(const struct resolver_options *options,
    resolve_proof_fn *fn, void *arg, struct resolve_proof **ret_proof);
/* Waits for a try under way to notice: within a tenth of a second. */
void resolve_proof_stop(struct resolve_proof **proof);
