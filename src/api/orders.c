/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What operators do to queues. What must outlive a crash is written to the
 * spool as orders before it acts and before the answer: holds and releases
 * stand until the contrary is said, what ends or moves mail until it is worked
 * off. To end one message its outcomes are written, and waited for.
 */

#include "api/internal.h"
#include "base/bug.h"
#include "base/mem.h"
#include "os/clock.h"

#include <string.h>

#define REASON_MAX 200
/* Queues of a site that one command may name, and orders that may stand. */
#define QUEUES_OF_SITE_MAX 2000
#define ORDERS_MAX 4000

struct order {
	enum dispatch_operation operation;
	struct selection selection;
	uint64_t mno; /* 0: by selection */
	struct span reason;
	const char *to; /* move: the name of the stream */
	uint32_t *to_streams; /* … by selector */
	enum spool_class *to_classes;
	uint64_t cut_mno;
	struct dispatch_order *handle;
	uint64_t count; /* of what was concerned */
};

static void
act(void *arg, struct dispatch *dispatch)
{
	struct order *o = arg;

	for (size_t i = 0; i < o->selection.count; i++) {
		struct dispatch_request request = {
			.operation = o->operation,
			.selector = o->selection.selectors[i],
			.mno = o->mno,
			.reason = o->reason,
			.order = o->handle,
			.cut_mno = o->cut_mno,
		};

		if (o->to_streams != NULL) {
			request.to_stream = o->to_streams[i];
			request.to_class = o->to_classes[i];
		}
		o->count += dispatch_operate(dispatch, &request);
	}
}

static bool
is_standing(const struct order *o)
{
	return o->operation == DISPATCH_HOLD ||
	       o->operation == DISPATCH_RELEASE;
}

/* Ends or moves all that is selected. */
static bool
is_work(const struct order *o)
{
	return o->mno == 0 && o->operation >= DISPATCH_BOUNCE;
}

/* ---- the spool --------------------------------------------------------- */

static struct spool_order
spool_order_of(const struct order *o, size_t i)
{
	static const enum spool_order_kind kinds[] = {
		[DISPATCH_HOLD] = SPOOL_ORDER_HOLD,
		[DISPATCH_RELEASE] = SPOOL_ORDER_RELEASE,
		[DISPATCH_RETRY] = SPOOL_ORDER_END, /* none of the spool's */
		[DISPATCH_BOUNCE] = SPOOL_ORDER_BOUNCE,
		[DISPATCH_EXPIRE] = SPOOL_ORDER_EXPIRE,
		[DISPATCH_CANCEL] = SPOOL_ORDER_CANCEL,
		[DISPATCH_MOVE] = SPOOL_ORDER_MOVE,
	};
	const struct schedule_selector *sel = &o->selection.selectors[i];

	return (struct spool_order){
		.kind = kinds[o->operation],
		.tenant = sel->tenant,
		.stream = sel->stream,
		.classes = sel->classes,
		.domain = sel->domain,
		.site = sel->site,
		.reason = o->reason,
		.since_us = clock_wall_us(),
		.cut_mno = o->cut_mno,
		.to_stream = o->to_streams != NULL ? o->to_streams[i] : 0,
		.to_class = o->to_streams != NULL ? o->to_classes[i]
						  : SPOOL_TRANSACTIONAL,
	};
}

static bool
write_orders(struct call *call, const struct order *o)
{
	struct spool_txn *txn = spool_txn_new(call->api->spool);

	for (size_t i = 0; i < o->selection.count; i++) {
		const struct spool_order order = spool_order_of(o, i);

		spool_txn_order(txn, &order);
	}
	int result = spool_txn_commit(&txn);
	if (result == 0)
		return true;
	respond_error(call, 500, "not_stored",
	    "the order could not be written to the spool (%s); nothing was "
	    "done",
	    error_text(result));
	return false;
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

/* ---- all of a site's --------------------------------------------------- */

struct site_queues {
	const struct selection *asked;
	struct selection found;
};

static void
on_queue(void *arg, const struct schedule_queue_facts *facts)
{
	struct site_queues *all = arg;
	struct selection *found = &all->found;

	if (found->count > QUEUES_OF_SITE_MAX)
		return;
	found->selectors = mem_resize(
	    found->selectors, found->count + 1, sizeof(*found->selectors));
	found->selectors[found->count++] = (struct schedule_selector){
		.tenant = facts->key.tenant,
		.stream = facts->key.stream,
		.classes = (uint8_t)(1U << facts->key.class),
		.domain = span_from(
		    span_dup(facts->key.domain), facts->key.domain.len),
	};
}

static void
collect(void *arg, struct dispatch *dispatch)
{
	struct site_queues *all = arg;

	for (size_t i = 0; i < all->asked->count; i++)
		schedule_each_queue(dispatch_schedule(dispatch),
		    &all->asked->selectors[i], on_queue, all);
}

static void
free_texts(struct selection *selection)
{
	for (size_t i = 0; i < selection->count; i++) {
		char *text = NULL;

		/* Our own copy, whatever the view says. */
		memcpy(
		    &text, &selection->selectors[i].domain.ptr, sizeof(text));
		mem_free(text);
	}
}

/* After a restart a queue's site is not known before its mail may go: what ends
 * or moves mail of a site names its queues instead. */
static bool
name_queues(struct call *call, struct order *o)
{
	struct site_queues all = { .asked = &o->selection };

	call->api->each_dispatch(call->api->owner, collect, &all);
	if (all.found.count > QUEUES_OF_SITE_MAX) {
		respond_error(call, 409, "too_many_queues",
		    "more than %d queues go to this site: name a tenant, a "
		    "stream or domains, too",
		    QUEUES_OF_SITE_MAX);
		free_texts(&all.found);
		selection_done(&all.found);
		return false;
	}
	selection_done(&o->selection);
	o->selection = all.found;
	return true;
}

/* ---- carrying out ------------------------------------------------------ */

static bool
has_room(struct call *call, const struct order *o)
{
	struct spool_stats stats;

	spool_stats(call->api->spool, &stats);
	if (stats.orders + o->selection.count <= ORDERS_MAX)
		return true;
	respond_error(call, 409, "too_many_orders",
	    "%llu orders on queues stand already: wait until some are worked "
	    "off (moves are forgotten by a restart when their mail is gone)",
	    (unsigned long long)stats.orders);
	return false;
}

static bool
begin(struct call *call, struct order *o)
{
	if (is_standing(o))
		return has_room(call, o) && write_orders(call, o);
	if (!is_work(o))
		return true;
	if (!has_room(call, o))
		return false;
	o->cut_mno = spool_next_mno(call->api->spool);
	if (!write_orders(call, o))
		return false;
	o->handle = dispatch_order_new(call->api->spool, o->cut_mno);
	return true;
}

static void
carry_out(struct call *call, struct order *o)
{
	if (!begin(call, o))
		return;
	call->api->each_dispatch(call->api->owner, act, o);
	dispatch_order_unref(&o->handle);
	if (o->mno != 0 && o->operation >= DISPATCH_BOUNCE &&
	    !orders_await_outcomes(call))
		return;
	respond_json(call, 200,
	    json_pack("{s:o}", is_standing(o) ? "queues" : "deliveries",
		json_count(o->count)));
}

/* ---- what is asked for ------------------------------------------------- */

struct asked {
	struct selection_names names;
	const char *message, *reason, *to;
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

/* Globs that let everything through, "*" and "*.*", select nothing. */
static bool
narrows(const char *glob)
{
	return glob != NULL &&
	       (glob[0] == '\0' || glob[strspn(glob, "*.")] != '\0');
}

static bool
names_queues(const struct selection_names *n)
{
	return n->tenant != NULL || n->stream != NULL || narrows(n->domain) ||
	       narrows(n->site) || n->class != NULL;
}

static bool
check_target(struct call *call, const struct asked *a, const struct order *o)
{
	bool moves = o->operation == DISPATCH_MOVE;

	if (moves && a->to == NULL) {
		respond_error(call, 400, "bad_field",
		    "say where to: `to` names another stream of the tenant");
		return false;
	}
	if (!moves && a->to != NULL) {
		respond_error(call, 400, "bad_field", "only a move has a `to`");
		return false;
	}
	if (moves && a->names.tenant == NULL) {
		respond_error(call, 400, "bad_selection",
		    "say whose mail is moved, by `tenant`: streams are a "
		    "tenant's own");
		return false;
	}
	return true;
}

/* One of: which queues, which message, or all in so many words. */
static bool
check_asked(struct call *call, const struct asked *a, const struct order *o)
{
	bool whole = is_standing(o) || o->operation == DISPATCH_MOVE;

	if (names_queues(&a->names) + (a->message != NULL) + a->all != 1) {
		respond_error(call, 400, "bad_selection",
		    "say which: by `tenant`, `stream`, `domain`, `site` or "
		    "`class`%s, or all queues with `all`",
		    whole ? "" : ", or one `message`");
		return false;
	}
	if (a->message != NULL && whole) {
		respond_error(call, 400, "bad_selection",
		    "only whole queues can be held, released or moved; a "
		    "message can be retried, bounced, expired or cancelled");
		return false;
	}
	if (span_of(a->reason).len > REASON_MAX) {
		respond_error(call, 400, "bad_field",
		    "the reason may have at most %d octets", REASON_MAX);
		return false;
	}
	return check_target(call, a, o);
}

static const struct directory_stream *
find_target(
    const struct directory_snapshot *s, uint32_t tenant, const char *name)
{
	size_t count;
	const struct directory_stream *all = directory_streams(s, &count);

	for (size_t i = 0; i < count; i++) {
		if (all[i].tenant == tenant && strcmp(all[i].name, name) == 0)
			return &all[i];
	}
	return NULL;
}

/* All selectors are of one tenant. */
static bool
find_targets(struct call *call, struct order *o)
{
	struct directory_snapshot *s = directory_snapshot(call->api->directory);
	size_t count = o->selection.count;
	const struct directory_stream *to = NULL;

	if (count > 0)
		to = find_target(s, o->selection.selectors[0].tenant, o->to);
	if (count > 0 && to == NULL)
		respond_error(call, 404, "not_found",
		    "the tenant has no stream `%.64s`; `posthouse stream list` "
		    "shows them",
		    o->to);
	o->to_streams = mem_zalloc((count + 1) * sizeof(*o->to_streams));
	o->to_classes = mem_zalloc((count + 1) * sizeof(*o->to_classes));
	for (size_t i = 0; to != NULL && i < count; i++) {
		o->to_streams[i] = to->id;
		o->to_classes[i] = to->class == DIRECTORY_BULK
				       ? SPOOL_BULK
				       : SPOOL_TRANSACTIONAL;
	}
	directory_snapshot_unref(&s);
	return count == 0 || to != NULL;
}

static void
take_selected(struct call *call, struct order *o)
{
	bool by_site = is_work(o) && o->selection.site != NULL;

	if (by_site && !name_queues(call, o))
		return;
	if (o->operation != DISPATCH_MOVE || find_targets(call, o))
		carry_out(call, o);
	mem_free(o->to_streams);
	mem_free(o->to_classes);
	if (by_site)
		free_texts(&o->selection);
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
		{ "site", BODY_STRING, false, &a.names.site },
		{ "class", BODY_STRING, false, &a.names.class },
		{ "message", BODY_STRING, false, &a.message },
		{ "reason", BODY_STRING, false, &a.reason },
		{ "to", BODY_STRING, false, &a.to },
		{ "all", BODY_BOOLEAN, false, &a.all },
	};
	json_t *root;

	if (!body_read(call, fields, sizeof fields / sizeof *fields, &root))
		return;
	o.reason = span_of(a.reason);
	o.to = a.to;
	/* Holds and releases stand, and meet mail as it comes. */
	if (check_asked(call, &a, &o) && (is_standing(&o) || is_loaded(call)) &&
	    (a.message == NULL || find_message(call, a.message, &o)) &&
	    selection_find(call, &a.names, &o.selection)) {
		take_selected(call, &o);
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

void
queues_expire(struct call *call)
{
	take_order(call, DISPATCH_EXPIRE);
}

void
queues_cancel(struct call *call)
{
	take_order(call, DISPATCH_CANCEL);
}

void
queues_move(struct call *call)
{
	take_order(call, DISPATCH_MOVE);
}
