/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The MTA-STS policies of the domains that mail goes to. One thread looks for
 * them by DNS and HTTPS, many at a time; those that ask get an answer from
 * memory, at once or posted to their loop. A policy counts until its max_age
 * is over, whatever becomes of its host or its record meanwhile (RFC 8461
 * §5.1), and survives restarts in DATA_DIR/mta-sts.cache. A domain whose
 * policy cannot be had counts as one without.
 *
 * Bounds: 10,000 domains are remembered, the least recently asked for go
 * first; the record is looked at again after at most an hour, the policy
 * itself after a day.
 */

#include "config/config.h"
#include "loop/loop.h"
#include "sts/policy.h"

struct sts_store;

/* `path`: of the file that keeps them. Reads it and starts the thread. */
MUST_CHECK int sts_store_start(struct config *config, const char *path,
    struct sts_store **ret_store, struct failure *ret_failure);
/* Another config; whether validation by DNSSEC works. Any thread. */
void sts_store_set_config(struct sts_store *store, struct config *config);
void sts_store_validates(struct sts_store *store, bool validates);
/* Writes what is not on the disk and ends the thread: nobody is told of
 * anything any more. */
void sts_store_stop(struct sts_store *store);
/* Nobody asks any more. */
void sts_store_free(struct sts_store **store);

struct sts_answer {
	struct sts_policy *policy; /* borrowed; NULL: none */
	const char *id; /* "" without */
	int64_t valid_until_us; /* monotonic: ask again then */
};

typedef void sts_fn(void *arg, const struct sts_answer *answer);

struct sts_query;
/* On the loop's thread, where fn is called, maybe before this returns: then the
 * handle is NULL. Domain in canonical form. */
struct sts_query *sts_ask(struct sts_store *store, struct loop *loop,
    struct span domain, sts_fn *fn, void *arg);
void sts_cancel(struct sts_query **query);
