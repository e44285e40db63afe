/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Fetches of policies by HTTPS (RFC 8461 §3.3) on a loop, many at a time: the
 * certificate must be valid for the policy host, redirections are not followed,
 * the answer is text/plain of at most 64 KB and is there in time. Connections
 * go only to the addresses given, and those are looked at once more when they
 * are used. One thread.
 */

#include "base/netaddr.h"
#include "base/span.h"
#include "loop/loop.h"

struct fetcher;

struct fetch_options {
	const char *host; /* "mta-sts.example.com" */
	uint16_t port;
	const struct netaddr *addresses;
	size_t address_count;
	bool allow_private;
	const char *ca_file; /* NULL: the system's */
	int64_t timeout_us;
};

/* `problem` is NULL when the body is good. Both live until it returns. */
typedef void fetch_fn(void *arg, struct span body, const char *problem);

enum { FETCHES_MAX = 50 }; /* under way; more wait for their turn */

MUST_CHECK int fetcher_new(struct loop *loop, struct fetcher **ret_fetcher);
/* Fetches under way are dropped without a word. */
void fetcher_free(struct fetcher **fetcher);
void fetch_start(struct fetcher *fetcher, const struct fetch_options *options,
    fetch_fn *fn, void *arg);
