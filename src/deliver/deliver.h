/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * From the spool to the world: one dispatcher per reactor turns its scheduler's
 * wants into lookups, connections and transactions, and what comes of them into
 * outcomes, events and delivery reports. All deliveries of one recipient domain
 * belong to one dispatcher (dispatch_home).
 *
 * Everything but dispatch_home and dispatch_stats is for the loop's thread.
 */

#include "config/config.h"
#include "deliver/signing.h"
#include "directory/directory.h"
#include "intake/intake.h"
#include "loop/loop.h"
#include "report/suppressor.h"
#include "resolve/resolve.h"
#include "schedule/schedule.h"
#include "spool/spool.h"
#include "tls/stream.h"

struct dispatch;
struct judge;
struct return_key;
struct returned;

struct dispatch_options {
	struct loop *loop;
	struct config *config; /* counted */
	struct spool *spool;
	struct directory *directory; /* for the names in events */
	struct intake *intake; /* for delivery reports */
	/* For refusals, and for whom they suppress; NULL: neither is done. */
	const struct judge *judge;
	struct suppressor *suppressor;
	/* Of the process; must outlive this. NULL: nothing is signed. */
	struct signing *signing;
	struct sts_store *sts; /* policies of domains; NULL: none */
	/* For returns.domain; NULL: senders stay, and what comes back waits. */
	const struct return_key *return_key;
	struct returned *returned;
	struct sts_results *results; /* of TLS, for reports; NULL: nowhere */
	/* What the dispatchers of the process share; NULL: there is one. */
	struct schedule_ledger *ledger;
	/* Number so and so (from 0) of so many dispatchers that get mail: of a
	 * site's connections each may always have his part, and what the others
	 * do not use; the number of all connections is divided. */
	uint32_t share, number;
	/* Of connections, beside the config's limit: the process has other uses
	 * for its descriptors. */
	uint32_t connections_cap;
	/* Whether validation by DNSSEC works is being found out: what needs
	 * DNS waits for dispatch_set_validation. */
	bool awaits_validation;
};

MUST_CHECK int dispatch_new(const struct dispatch_options *options,
    struct dispatch **ret_dispatch, struct failure *ret_failure);
void dispatch_free(struct dispatch **dispatch);
void dispatch_reload(struct dispatch *dispatch, struct config *config);

/* The verdict. When validation does not work, answers are believed without,
 * and DANE is off. */
void dispatch_set_validation(struct dispatch *dispatch, bool works);

/* How many of `count` dispatchers may get mail: with more of them than a limit
 * allows connections, one each would be too many. */
uint32_t dispatch_share(const struct config *config, uint32_t count);
/* Which of `count` dispatchers a domain belongs to. Any thread. */
uint32_t dispatch_home(struct span domain, uint32_t count);

struct dispatch_delivery {
	uint64_t mno;
	uint32_t tenant, stream;
	enum spool_class class;
	struct span domain;
	uint32_t rcpt_first, rcpt_count;
	uint8_t attempts;
	bool wants_delay_warning;
	int64_t accepted_us, due_us, expire_us; /* wall; due 0: at once */
};

void dispatch_add(
    struct dispatch *dispatch, const struct dispatch_delivery *delivery);

/* Starts no new transactions; when the open ones are done or the time is over
 * connections are closed. dispatch_busy tells when. */
void dispatch_drain(struct dispatch *dispatch, int64_t deadline_us);
bool dispatch_busy(const struct dispatch *dispatch);

/* ---- operators ---- */

enum dispatch_operation {
	DISPATCH_HOLD,
	DISPATCH_RELEASE,
	DISPATCH_RETRY,
	DISPATCH_BOUNCE,
	DISPATCH_EXPIRE,
	DISPATCH_CANCEL,
	DISPATCH_MOVE,
};

/* A command that is durable in the spool, as one or more orders of this
 * cut_mno. Counted, by any thread: when all dispatchers have worked it off,
 * the last one withdraws the orders. */
struct dispatch_order;

struct dispatch_order *dispatch_order_new(
    struct spool *spool, uint64_t cut_mno);
struct dispatch_order *dispatch_order_ref(struct dispatch_order *order);
void dispatch_order_unref(struct dispatch_order **order);

struct dispatch_request {
	enum dispatch_operation operation;
	struct schedule_selector selector;
	uint64_t mno; /* RETRY … CANCEL: this message only; 0: all */
	struct span reason; /* HOLD, BOUNCE, EXPIRE, CANCEL */
	/* BOUNCE … MOVE of all: the order and its cut. */
	struct dispatch_order *order;
	uint64_t cut_mno;
	uint32_t to_stream; /* MOVE */
	enum spool_class to_class;
};

/* The number of queues (hold, release) or deliveries concerned. Only acts
 * here: what must outlive a crash is the caller's (spool_txn_order), once for
 * all dispatchers, before. BOUNCE, EXPIRE and CANCEL take the deliveries out at
 * once; outcomes, events and reports follow, at a bounded rate. Of one message
 * they are submitted when this returns. */
size_t dispatch_operate(
    struct dispatch *dispatch, const struct dispatch_request *request);
/* At a restart, before any dispatch_add: an order that is not worked off. It
 * meets the mail as it comes, until dispatch_recovered says that all of it
 * has. */
void dispatch_replay(
    struct dispatch *dispatch, const struct dispatch_request *request);
void dispatch_recovered(struct dispatch *dispatch);

/* Queues of a stream (0: of all) find their ways anew: its pool has changed. */
void dispatch_look_up_again(struct dispatch *dispatch, uint32_t stream);

/* The config's sources, as this machine has them. On the loop's thread. */
typedef void dispatch_source_fn(
    void *arg, const struct config_source *source, bool is_missing);
void dispatch_each_source(
    const struct dispatch *dispatch, dispatch_source_fn *fn, void *arg);

/* Who set what a queue waits for: "/etc/…/shaping.yaml:12: max_connections",
 * or the reply that did. Appends nothing when there is nobody to name. */
void dispatch_who_set(
    const struct schedule_queue_facts *facts, struct buf *out);

/* For looking; const, and only on the loop's thread. */
const struct schedule *dispatch_schedule(const struct dispatch *dispatch);

struct dispatch_stats {
	uint64_t connections_open, connections_made, connections_failed;
	/* recipients */
	uint64_t delivered, deferred, bounced, expired, suppressed;
	uint64_t unreadable; /* expired because the message was damaged */
	uint64_t transactions;
};

void dispatch_stats(const struct dispatch *dispatch,
    struct dispatch_stats *ret_stats); /* any thread */
