/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Signatures for mail on its way out (DKIM), made at the first dispatch of a
 * message and kept for its other deliveries and its retries. A pool of threads
 * of the process does the work, transactional mail first; a dispatcher asks
 * and is told on its loop, so that no reactor ever waits. What waits is
 * bounded by the connections: each has one request at most.
 *
 * A key that cannot be read is a reason not to send: never a reason to send
 * without a signature.
 *
 * Threads: all functions may be called by any.
 */

#include "config/config.h"
#include "directory/directory.h"
#include "loop/loop.h"
#include "spool/spool.h"

struct signing;

struct signing_options {
	struct config *config;
	struct directory *directory;
	struct spool *spool;
};

/* The threads start with the first domain's first message. */
struct signing *signing_new(const struct signing_options *options);
/* Ends the threads: what is asked stays unanswered, and can be cancelled.
 * Before the loops of those who ask are gone. */
void signing_stop(struct signing *signing);
/* When all is cancelled. */
void signing_free(struct signing **signing);
/* All but the number of threads. */
void signing_set_config(struct signing *signing, struct config *config);

/* The fields to put before a message. Counted. */
struct signature;

struct span signature_text(const struct signature *signature);
void signature_unref(struct signature **signature);

/* On the loop of who asked, unless it was cancelled. signature NULL: why
 * stands in the failure; else it is the callee's. */
typedef void signing_fn(
    void *arg, struct signature *signature, const struct failure *failure);

/* What is to be signed, and who wants to know. */
struct signing_message {
	uint64_t mno;
	uint32_t tenant;
	struct span header_from; /* its domain decides who signs */
	bool is_urgent; /* transactional */
	struct loop *loop;
	signing_fn *fn;
	void *arg;
};

struct signing_request;

enum signing_answer {
	SIGNING_NONE, /* no sender domain: goes as it is */
	SIGNING_DONE, /* *ret_signature */
	SIGNING_UNDER_WAY, /* *ret_request; fn will run */
};

enum signing_answer signing_ask(struct signing *signing,
    const struct signing_message *message, struct signature **ret_signature,
    struct signing_request **ret_request);
/* On the same loop's thread: fn does not run any more. */
void signing_cancel(struct signing_request **request);

struct signing_stats {
	uint64_t made, reused, failed;
};

void signing_stats(struct signing *signing, struct signing_stats *ret_stats);
