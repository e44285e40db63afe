/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What operators do to queues. Holds and releases are written to the spool
 * before they act; what ends mail is written by the dispatchers as outcomes,
 * and waited for. So a crash after the answer forgets nothing, but of a bounce
 * of very many, which dispatchers work off over time.
 */

#include "api/internal.h"
#include "base/bug.h"
#include "base/mem.h"
#include "os/clock.h"

#define REASON_MAX 200

struct order {
	enum dispatch_operation operation;
	struct selection selection;
	uint64_t mno; /* 0: by selection */
	struct span reason;
	uint64_t count; /* of what was concerned */
};

static void
act(void *arg, struct dispatch *dispatch)
{
	struct order *o = arg;

	for (size_t i = 0; i < o->selection.count; i++) {
		const struct dispatch_request request = {
			.operation = o->operation,
			.selector = o->selection.selectors[i],
			.mno = o->mno,
			.reason = o->reason,
		};

		o->count += dispatch_operate(dispatch, &request);
	}
}

static int
write_orders(const struct api *api, const struct order *o)
{
	struct spool_txn *txn = spool_txn_new(api->spool);

	for (size_t i = 0; i < o->selection.count; i++) {
		const struct schedule_selector *sel =
		    &o->selection.selectors[i];
		const struct spool_order order = {
			.kind = o->operation == DISPATCH_HOLD
				    ? SPOOL_ORDER_HOLD
				    : SPOOL_ORDER_RELEASE,
			.tenant = sel->tenant,
			.stream = sel->stream,
			.domain = sel->domain,
			.reason = o->reason,
			.since_us = clock_wall_us(),
		};

		spool_txn_order(txn, &order);
	}
	return spool_txn_commit(&txn);
}

bool
orders_await_outcomes(struct call *call)
{
	/* The spool keeps the order of what it is given: behind this empty
	 * transaction nothing of the dispatchers' is left to be written. */
	struct spool_txn *txn = spool_txn_new(call->api->spool);
	int result = spool_txn_commit(&txn);

	if (result == 0)
		return true;
	respond_error(call, 500, "not_stored",
	    "it is done, but could not be written to the spool yet (%s): "
	    "after a crash the mail would be there again",
	    error_text(result));
	return false;
}

static bool
is_standing(const struct order *o)
{
	return o->operation == DISPATCH_HOLD ||
	       o->operation == DISPATCH_RELEASE;
}

static void
carry_out(struct call *call, struct order *o)
{
	if (is_standing(o)) {
		int result = write_orders(call->api, o);

		if (result < 0) {
			respond_error(call, 500, "not_stored",
			    "the order could not be written to the spool "
			    "(%s); nothing was done",
			    error_text(result));
			return;
		}
	}
	call->api->each_dispatch(call->api->owner, act, o);
	if (o->operation == DISPATCH_BOUNCE && !orders_await_outcomes(call))
		return;
	respond_json(call, 200,
	    json_pack("{s:o}", is_standing(o) ? "queues" : "deliveries",
		json_count(o->count)));
}

/* ---- what is asked for ------------------------------------------------- */

struct asked {
	struct selection_names names;
	const char *message, *reason;
	bool all;
};

static bool
find_message(struct call *call, const char *text, struct order *o)
{
	struct spool_message *message;

	if (message_find(call->api->spool, text, &message) < 0) {
		respond_error(call, 404, "not_found",
		    "no message `%.64s` waits here; `posthouse message show` "
		    "tells what became of it",
		    text);
		return false;
	}
	o->mno = spool_message_envelope(message)->mno;
	spool_message_unref(&message);
	/* 0 would mean all messages. */
	BUG_UNLESS(o->mno != 0);
	return true;
}

/* One of: which queues, which message, or all in so many words. */
static bool
check_asked(struct call *call, const struct asked *a, const struct order *o)
{
	bool by_queue = a->names.tenant != NULL || a->names.stream != NULL ||
			a->names.domain != NULL;

	if (by_queue + (a->message != NULL) + a->all != 1) {
		respond_error(call, 400, "bad_selection",
		    "say which: by `tenant`, `stream` or `domain`%s, or all "
		    "queues with `all`",
		    is_standing(o) ? "" : ", or one `message`");
		return false;
	}
	if (a->message != NULL && is_standing(o)) {
		respond_error(call, 400, "bad_selection",
		    "only whole queues can be held or released; a message can "
		    "be retried, bounced or cancelled");
		return false;
	}
	if (span_of(a->reason).len > REASON_MAX) {
		respond_error(call, 400, "bad_field",
		    "the reason may have at most %d octets", REASON_MAX);
		return false;
	}
	return true;
}

static void
take_order(struct call *call, enum dispatch_operation operation)
{
	struct asked a = { 0 };
	struct order o = { .operation = operation };
	const struct body_field fields[] = {
		{ "tenant", BODY_STRING, false, &a.names.tenant },
		{ "stream", BODY_STRING, false, &a.names.stream },
		{ "domain", BODY_STRING, false, &a.names.domain },
		{ "message", BODY_STRING, false, &a.message },
		{ "reason", BODY_STRING, false, &a.reason },
		{ "all", BODY_BOOLEAN, false, &a.all },
	};
	json_t *root;

	if (!body_read(call, fields, 6, &root))
		return;
	o.reason = span_of(a.reason);
	if (check_asked(call, &a, &o) &&
	    (a.message == NULL || find_message(call, a.message, &o)) &&
	    selection_find(call, &a.names, &o.selection)) {
		carry_out(call, &o);
		selection_done(&o.selection);
	}
	json_decref(root);
}

void
queues_hold(struct call *call)
{
	take_order(call, DISPATCH_HOLD);
}

void
queues_release(struct call *call)
{
	take_order(call, DISPATCH_RELEASE);
}

void
queues_retry(struct call *call)
{
	take_order(call, DISPATCH_RETRY);
}

void
queues_bounce(struct call *call)
{
	take_order(call, DISPATCH_BOUNCE);
}
