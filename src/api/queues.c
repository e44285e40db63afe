/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Looking at queues. What a scheduler tells is copied on its own thread, and
 * no more than that is done there; names, messages and JSON are looked up on
 * the thread of the request.
 */

#include "api/internal.h"
#include "base/bug.h"
#include "base/mem.h"
#include "base/time.h"

#include <stdlib.h>
#include <string.h>

/* Copied from all dispatchers together; the sums count all there are. */
#define QUEUES_MAX 20000
#define QUEUES_SHOWN 1000
#define DELIVERIES_MAX 10000
#define DELIVERIES_SHOWN 100
#define DOMAINS_OF_MESSAGE 50
#define RECIPIENTS_SHOWN 100

/* ---- copying ----------------------------------------------------------- */

struct queue {
	struct schedule_queue_facts facts; /* its spans are our own */
	char *set_by; /* who set what it waits for */
};

struct queues {
	struct selection *selection;
	struct queue *list;
	size_t count;
	uint64_t total, fresh, retry, recipients, in_flight, held, parked;
};

static struct span
dup_span(struct span s)
{
	return s.len == 0 ? SPAN_EMPTY : span_from(span_dup(s), s.len);
}

static void
free_span(struct span s)
{
	char *text = NULL;

	/* Our own copy, whatever the view says. */
	memcpy(&text, &s.ptr, sizeof(text));
	mem_free(text);
}

static void
copy_facts(
    struct schedule_queue_facts *to, const struct schedule_queue_facts *from)
{
	*to = *from;
	to->key.domain = dup_span(from->key.domain);
	to->site = dup_span(from->site);
	to->hold_reason = dup_span(from->hold_reason);
	to->last_reply = dup_span(from->last_reply);
	to->source = dup_span(from->source);
	to->pool = dup_span(from->pool);
	to->owner = NULL;
}

static void
facts_done(struct schedule_queue_facts *f)
{
	free_span(f->key.domain);
	free_span(f->site);
	free_span(f->hold_reason);
	free_span(f->last_reply);
	free_span(f->source);
	free_span(f->pool);
}

static void
queues_done(struct queues *q)
{
	for (size_t i = 0; i < q->count; i++) {
		facts_done(&q->list[i].facts);
		mem_free(q->list[i].set_by);
	}
	mem_free(q->list);
}

static void
on_queue(void *arg, const struct schedule_queue_facts *facts)
{
	struct queues *q = arg;

	q->total++;
	q->fresh += facts->fresh;
	q->retry += facts->retry;
	q->recipients += facts->recipients;
	q->in_flight += facts->in_flight;
	q->held += facts->held;
	q->parked += facts->parked;
	if (q->count == QUEUES_MAX)
		return;
	if ((q->count & (q->count - 1)) == 0)
		q->list = mem_resize(q->list, q->count == 0 ? 1 : q->count * 2,
		    sizeof(*q->list));
	struct buf set_by = BUF_EMPTY;
	dispatch_who_set(facts, &set_by);
	q->list[q->count].set_by = span_dup(buf_span(&set_by));
	buf_done(&set_by);
	copy_facts(&q->list[q->count++].facts, facts);
}

static void
collect_queues(void *arg, struct dispatch *dispatch)
{
	struct queues *q = arg;

	for (size_t i = 0; i < q->selection->count; i++)
		schedule_each_queue(dispatch_schedule(dispatch),
		    &q->selection->selectors[i], on_queue, q);
}

/* ---- JSON -------------------------------------------------------------- */

static json_t *
queue_json(const struct directory_snapshot *s, const struct queue *q)
{
	const struct schedule_queue_facts *f = &q->facts;
	json_t *root = json_pack("{s:o, s:o, s:s, s:o, s:o}", "tenant",
	    json_tenant_name(s, f->key.tenant), "stream",
	    json_stream_name(s, f->key.stream), "class",
	    class_name(f->key.class), "domain", json_text(f->key.domain),
	    "site", json_text_or_null(f->site));

	json_object_set_new(root, "fresh", json_count(f->fresh));
	json_object_set_new(root, "retry", json_count(f->retry));
	json_object_set_new(root, "in_flight", json_count(f->in_flight));
	json_object_set_new(
	    root, "deliveries", json_count(f->fresh + f->retry));
	json_object_set_new(root, "recipients", json_count(f->recipients));
	json_object_set_new(
	    root, "next_attempt", json_time(api_wall_us(f->next_due_us)));
	json_object_set_new(root, "oldest_expires",
	    json_time(api_wall_us(f->oldest_expire_us)));
	json_object_set_new(root, "held", json_boolean(f->held));
	json_object_set_new(
	    root, "hold_reason", json_text_or_null(f->hold_reason));
	json_object_set_new(root, "parked", json_boolean(f->parked));
	json_object_set_new(
	    root, "last_reply", json_text_or_null(f->last_reply));
	json_object_set_new(
	    root, "site_connections", json_count(f->site_connections));
	json_object_set_new(root, "site_limit", json_count(f->site_limit));
	json_object_set_new(root, "site_window", json_count(f->site_window));
	json_object_set_new(
	    root, "waits_for", json_string(schedule_bound_name(f->bound)));
	json_object_set_new(
	    root, "waits_for_text", json_string(schedule_bound_text(f->bound)));
	json_object_set_new(
	    root, "waits_until", json_time(api_wall_us(f->bound_until_us)));
	json_object_set_new(
	    root, "waits_set_by", json_text_or_null(span_of(q->set_by)));
	json_object_set_new(root, "waits_freed_by",
	    json_text_or_null(span_of(schedule_bound_freed_by(f->bound))));
	json_object_set_new(root, "pool", json_text_or_null(f->pool));
	json_object_set_new(root, "source", json_text_or_null(f->source));
	json_object_set_new(root, "site_pace",
	    f->site_pace ? json_real((double)f->site_pace / 1e6) : json_null());
	return root;
}

static uint64_t
backlog(const struct schedule_queue_facts *f)
{
	return f->fresh + f->retry + f->in_flight;
}

/* The largest first, then by domain. */
static int
compare_queues(const void *a, const void *b)
{
	const struct schedule_queue_facts *x =
	    &((const struct queue *)a)->facts;
	const struct schedule_queue_facts *y =
	    &((const struct queue *)b)->facts;

	if (backlog(x) != backlog(y))
		return backlog(x) < backlog(y) ? 1 : -1;
	return span_compare(x->key.domain, y->key.domain);
}

static json_t *
totals_json(const struct queues *q)
{
	const struct count counts[] = {
		{ "queues", q->total },
		{ "fresh", q->fresh },
		{ "retry", q->retry },
		{ "deliveries", q->fresh + q->retry },
		{ "recipients", q->recipients },
		{ "in_flight", q->in_flight },
		{ "held", q->held },
		{ "parked", q->parked },
		{ 0 },
	};

	return json_counts(counts);
}

static json_t *
queues_json(
    struct call *call, struct queues *q, uint64_t offset, uint64_t limit)
{
	struct directory_snapshot *s = directory_snapshot(call->api->directory);
	json_t *list = json_array();

	if (q->count > 1)
		qsort(q->list, q->count, sizeof(*q->list), compare_queues);
	for (uint64_t i = offset; i < q->count && i - offset < limit; i++)
		json_array_append_new(list, queue_json(s, &q->list[i]));
	directory_snapshot_unref(&s);
	return json_pack(
	    "{s:o, s:o}", "queues", list, "totals", totals_json(q));
}

bool
queues_selected(struct call *call, struct selection *ret_selection)
{
	const struct selection_names names = {
		.tenant = query_text(call, "tenant"),
		.stream = query_text(call, "stream"),
		.domain = query_text(call, "domain"),
		.site = query_text(call, "site"),
		.class = query_text(call, "class"),
	};

	return selection_find(call, &names, ret_selection);
}

void
queues_list(struct call *call)
{
	uint64_t limit = QUEUES_SHOWN, offset = 0;
	struct selection selection;
	struct queues q = { .selection = &selection };

	if (!query_number(call, "limit", QUEUES_MAX, &limit) ||
	    !query_number(call, "offset", QUEUES_MAX, &offset) ||
	    !queues_selected(call, &selection))
		return;
	call->api->each_dispatch(call->api->owner, collect_queues, &q);
	respond_json(call, 200, queues_json(call, &q, offset, limit));
	queues_done(&q);
	selection_done(&selection);
}

json_t *
queues_of_message(const struct api *api, const struct spool_envelope *envelope)
{
	struct schedule_selector selectors[DOMAINS_OF_MESSAGE];
	struct selection selection = { .selectors = selectors };
	struct queues q = { .selection = &selection };
	struct directory_snapshot *s = directory_snapshot(api->directory);
	json_t *list = json_array();
	struct span last = SPAN_EMPTY;

	for (uint32_t i = 0;
	     i < envelope->rcpt_count && selection.count < DOMAINS_OF_MESSAGE;
	     i++) {
		struct span domain =
		    address_domain_of(envelope->rcpts[i].address);

		if (selection.count > 0 && span_eq(domain, last))
			continue;
		last = domain;
		selectors[selection.count++] = (struct schedule_selector){
			.tenant = envelope->tenant,
			.stream = envelope->stream,
			.domain = domain,
		};
	}
	api->each_dispatch(api->owner, collect_queues, &q);
	/* It may have been moved to another stream. */
	for (size_t i = 0; q.count == 0 && i < selection.count; i++)
		selectors[i].stream = 0;
	if (q.count == 0)
		api->each_dispatch(api->owner, collect_queues, &q);
	for (size_t i = 0; i < q.count; i++)
		json_array_append_new(list, queue_json(s, &q.list[i]));
	queues_done(&q);
	directory_snapshot_unref(&s);
	return list;
}

/* ---- deliveries -------------------------------------------------------- */

struct delivery {
	struct schedule_delivery facts;
	size_t queue; /* index */
};

struct deliveries {
	struct selection *selection;
	size_t limit;
	struct delivery *list;
	size_t count;
	const struct schedule *schedule; /* being read */
	const struct schedule_queue *queue; /* the one told of last */
	struct queues queues;
};

static void
on_delivery(
    void *arg, struct schedule_queue *queue, const struct schedule_delivery *d)
{
	struct deliveries *all = arg;
	struct schedule_queue_facts facts;

	BUG_UNLESS(all->count < all->limit);
	if (queue != all->queue) {
		schedule_queue_facts(all->schedule, queue, &facts);
		on_queue(&all->queues, &facts);
		all->queue = queue;
	}
	if ((all->count & (all->count - 1)) == 0)
		all->list = mem_resize(all->list,
		    all->count == 0 ? 1 : all->count * 2, sizeof(*all->list));
	all->list[all->count++] =
	    (struct delivery){ .facts = *d, .queue = all->queues.count - 1 };
}

static void
collect_deliveries(void *arg, struct dispatch *dispatch)
{
	struct deliveries *all = arg;

	all->schedule = dispatch_schedule(dispatch);
	all->queue = NULL;
	for (size_t i = 0; i < all->selection->count && all->count < all->limit;
	     i++)
		(void)schedule_each_delivery(all->schedule,
		    &all->selection->selectors[i], all->limit - all->count,
		    on_delivery, all);
}

static json_t *
recipients_json(
    const struct spool_envelope *e, const struct schedule_delivery *d)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < d->rcpt_count && i < RECIPIENTS_SHOWN; i++) {
		uint32_t at = d->rcpt_first + i;

		if (at < e->rcpt_count)
			json_array_append_new(
			    list, json_text(e->rcpts[at].address));
	}
	return list;
}

static void
set_message(json_t *root, struct spool_message *message,
    const struct schedule_delivery *d)
{
	const struct spool_envelope *e = spool_message_envelope(message);
	char id[MSGID_TEXT_SIZE];

	json_object_set_new(
	    root, "message_id", json_string(msgid_format(&e->id, id)));
	json_object_set_new(root, "sender", json_text(e->sender));
	json_object_set_new(root, "recipients", recipients_json(e, d));
	json_object_set_new(root, "recipient_count", json_count(d->rcpt_count));
	json_object_set_new(root, "subject", json_text(e->subject));
	json_object_set_new(
	    root, "size", json_count(spool_message_size(message)));
	json_object_set_new(root, "accepted", json_time(e->accepted_us));
	json_object_set_new(root, "user", json_text_or_null(e->user));
}

/* NULL when it found its end meanwhile. */
static json_t *
delivery_json(struct call *call, const struct directory_snapshot *s,
    const struct deliveries *all, const struct delivery *d)
{
	const struct schedule_queue_facts *f =
	    &all->queues.list[d->queue].facts;
	struct spool_message *message;
	json_t *root = json_object();
	int64_t due_us = d->facts.due_us;

	if (spool_message_open(call->api->spool, d->facts.mno, &message) < 0) {
		json_decref(root);
		return NULL;
	}
	set_message(root, message, &d->facts);
	spool_message_unref(&message);
	json_object_set_new(root, "tenant", json_tenant_name(s, f->key.tenant));
	json_object_set_new(root, "stream", json_stream_name(s, f->key.stream));
	json_object_set_new(
	    root, "class", json_string(class_name(f->key.class)));
	json_object_set_new(root, "domain", json_text(f->key.domain));
	json_object_set_new(root, "attempts", json_count(d->facts.attempts));
	/* A queue that waits makes its mail wait. */
	if (due_us < f->next_due_us)
		due_us = f->next_due_us;
	json_object_set_new(
	    root, "next_attempt", json_time(api_wall_us(due_us)));
	json_object_set_new(
	    root, "expires", json_time(api_wall_us(d->facts.expire_us)));
	json_object_set_new(root, "held", json_boolean(f->held));
	json_object_set_new(root, "parked", json_boolean(f->parked));
	json_object_set_new(
	    root, "hold_reason", json_text_or_null(f->hold_reason));
	json_object_set_new(
	    root, "last_reply", json_text_or_null(f->last_reply));
	return root;
}

static void
respond_deliveries(struct call *call, const struct deliveries *all)
{
	struct directory_snapshot *s = directory_snapshot(call->api->directory);
	json_t *list = json_array();

	for (size_t i = 0; i < all->count; i++) {
		json_t *one = delivery_json(call, s, all, &all->list[i]);

		if (one != NULL)
			json_array_append_new(list, one);
	}
	directory_snapshot_unref(&s);
	respond_json(call, 200,
	    json_pack("{s:o, s:b}", "deliveries", list, "more",
		all->count == all->limit));
}

void
queues_deliveries(struct call *call)
{
	uint64_t limit = DELIVERIES_SHOWN;
	struct selection selection;
	struct deliveries all = { .selection = &selection };

	if (!query_number(call, "limit", DELIVERIES_MAX, &limit) ||
	    !queues_selected(call, &selection))
		return;
	all.limit = (size_t)limit;
	call->api->each_dispatch(call->api->owner, collect_deliveries, &all);
	respond_deliveries(call, &all);
	mem_free(all.list);
	queues_done(&all.queues);
	selection_done(&selection);
}
