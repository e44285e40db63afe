/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "schedule/internal.h"

/* A class that waits while others go has every 20th turn. */
#define TURNS_PASSED 19
/* A tenant's turns are ranked by the recipients served so far: the least goes
 * next. A huge delivery counts as so many at most. */
#define COST_MAX 10000

static int
class_pick(struct goal *goal, bool reserved)
{
	int classes = reserved ? SCHEDULE_BULK : SCHEDULE_CLASSES;
	int chosen = -1;

	for (int c = 0; c < classes; c++) {
		if (!heap_first(&goal->rings[c]))
			continue;
		if (chosen < 0 || goal->passed[c] >= TURNS_PASSED)
			chosen = c;
	}
	for (int c = chosen + 1; chosen >= 0 && c < classes; c++)
		if (heap_first(&goal->rings[c]))
			goal->passed[c]++;
	if (chosen >= 0)
		goal->passed[chosen] = 0;
	return chosen;
}

static struct schedule_queue *
goal_pick(struct goal *goal, bool reserved)
{
	int class = class_pick(goal, reserved);

	if (class < 0)
		return NULL;
	struct lane *lane =
	    LIST_ENTRY(heap_first(&goal->rings[class]), struct lane, turn);
	return LIST_ENTRY(lane->queues.next, struct schedule_queue, place_link);
}

/* Lets the others of the lane and of the ring go first. */
static void
turn_end(struct schedule_queue *q, uint32_t rcpt_count)
{
	struct lane *lane = q->lane;
	struct goal *goal = q->goal;
	uint32_t cost = rcpt_count < COST_MAX ? rcpt_count : COST_MAX;

	if (lane->turn.rank > goal->served[q->class])
		goal->served[q->class] = lane->turn.rank;
	heap_set(&goal->rings[q->class], &lane->turn, lane->turn.rank + cost);
	list_remove(&q->place_link);
	list_append(&lane->queues, &q->place_link);
}

/* The queue to serve, checked to be servable still. */
static struct schedule_queue *
queue_next(struct goal *goal, bool reserved)
{
	struct schedule_queue *q;

	while ((q = goal_pick(goal, reserved))) {
		/* Its site may have to be looked up again by now. */
		queue_update(q);
		if (q->place == PLACE_LANE)
			break;
	}
	return q;
}

static struct schedule_delivery
queue_pop(struct schedule_queue *q)
{
	struct schedule_delivery d = delivery_remove(q, queue_pick(q));

	q->was_served = true;
	if (q->place == PLACE_LANE)
		turn_end(q, d.rcpt_count);
	return d;
}

/* The queue whose turn it is and that the rates let go. */
static struct schedule_queue *
queue_permitted(struct schedule_site *site, bool reserved)
{
	struct schedule_queue *q;

	if (site->is_retired || site_is_lent(site) || site_lets_others(site) ||
	    !site_open_gate(site))
		return NULL;
	while ((q = queue_next(site->goal, reserved)))
		if (limit_take(q))
			return q;
	site_shut_gate(site);
	return NULL;
}

/* How long one delivery keeps a connection, and that the site bears this
 * many. */
static void
note_service(struct schedule_site *site, const struct schedule_connection *c)
{
	struct ledger_limits limits = site_limits(site);
	int64_t took_us = site->s->now_us - c->taken_us;

	if (took_us < 1)
		took_us = 1;
	site->service_us = site->service_us
			       ? (7 * site->service_us + took_us + 7) / 8
			       : took_us;
	ledger_success(&site->share, &limits);
}

bool
schedule_take(struct schedule *s, struct schedule_connection *c, int64_t now_us,
    struct schedule_queue **ret_queue, struct schedule_delivery *ret_delivery)
{
	struct schedule_site *site = c->site;

	schedule_hear(s, now_us);
	BUG_UNLESS(site && c->state != CONNECTION_OPENING);
	connection_leave_state(c);
	if (c->state == CONNECTION_BUSY)
		note_service(site, c);
	struct schedule_queue *q = queue_permitted(site, c->is_reserved);
	if (!q) {
		c->state = CONNECTION_IDLE;
		list_append(&site->idle[c->is_reserved], &c->link);
		site_update(site);
		return false;
	}
	c->state = CONNECTION_BUSY;
	c->taken_us = s->now_us;
	site->taken++;
	site_count_turn(site);
	struct schedule_delivery d = queue_pop(q);
	q->in_flight += d.rcpt_count;
	s->in_flight += d.rcpt_count;
	queue_update(q);
	*ret_queue = q;
	*ret_delivery = d;
	return true;
}

/* ---- giving back ---- */

static void
give_back(struct schedule_queue *q, uint32_t rcpt_count)
{
	BUG_UNLESS(q->in_flight >= rcpt_count);
	q->in_flight -= rcpt_count;
	q->s->in_flight -= rcpt_count;
}

void
schedule_done(
    struct schedule *s, struct schedule_queue *queue, uint32_t rcpt_count)
{
	BUG_UNLESS(queue->s == s);
	give_back(queue, rcpt_count);
	queue_update(queue);
}

static void
count_attempt(struct schedule_delivery *d)
{
	if (d->attempts < UINT8_MAX)
		d->attempts++;
}

struct schedule_delivery
schedule_defer(struct schedule *s, struct schedule_queue *queue,
    const struct schedule_delivery *d, bool counts, int64_t min_delay_us,
    int64_t now_us)
{
	struct schedule_delivery deferred = *d;

	schedule_hear(s, now_us);
	BUG_UNLESS(queue->s == s);
	give_back(queue, d->rcpt_count);
	if (counts)
		count_attempt(&deferred);
	delivery_defer(queue, &deferred, 0, min_delay_us);
	queue_update(queue);
	return deferred;
}

void
schedule_return(struct schedule *s, struct schedule_queue *queue,
    const struct schedule_delivery *d, int64_t now_us)
{
	schedule_hear(s, now_us);
	give_back(queue, d->rcpt_count);
	(void)delivery_add(queue, d, d->attempts ? LIST_DUE : LIST_FRESH, true);
	queue_update(queue);
}

/* ---- failures that come before any mail ---- */

static struct schedule_queue *
parked_pick(struct goal *goal)
{
	LIST_FOR_EACH(link, &goal->queues) {
		struct schedule_queue *q =
		    LIST_ENTRY(link, struct schedule_queue, goal_link);
		if (!queue_is_servable(q))
			continue;
		list_remove(&q->goal_link);
		list_append(&goal->queues, &q->goal_link);
		return q;
	}
	return NULL;
}

bool
schedule_site_failed(struct schedule *s, struct schedule_site *site,
    int64_t now_us, schedule_delivery_fn *fn, void *arg)
{
	struct goal *goal = site->goal;

	schedule_hear(s, now_us);
	LIST_FOR_EACH(link, &goal->ways)
		if (site_usable(
			LIST_ENTRY(link, struct schedule_site, goal_link)) > 0)
			return false;
	struct schedule_queue *q =
	    goal_is_parked(goal) ? parked_pick(goal) : queue_next(goal, false);
	if (!q)
		return false;
	struct schedule_delivery d = queue_pop(q);
	delivery_defer(q, &d, 0, 0);
	queue_update(q);
	fn(arg, q, &d);
	return true;
}

static void
lookup_end(struct schedule_queue *q)
{
	if (!q->is_looked_up)
		return;
	q->is_looked_up = false;
	q->s->lookups_open--;
}

void
schedule_set_place(struct schedule *s, struct schedule_queue *queue,
    const struct schedule_place *place, int64_t valid_until_us)
{
	BUG_UNLESS(queue->s == s);
	lookup_end(queue);
	queue->lookup_failures = 0;
	queue->pause_until_us = 0;
	queue->valid_until_us = valid_until_us;
	queue->was_served = false;
	goal_bind(queue, place);
	holds_apply(queue);
	queue_update(queue);
}

struct schedule_site *
schedule_set_site(struct schedule *s, struct schedule_queue *queue,
    struct span site_name, int64_t valid_until_us)
{
	struct schedule_way way = {
		.ledger = site_name, .weight = 1, .by_policy = true
	};
	struct schedule_place place = {
		.name = site_name, .ways = &way, .way_count = 1
	};

	schedule_set_place(s, queue, &place, valid_until_us);
	return LIST_ENTRY(
	    queue->goal->ways.next, struct schedule_site, goal_link);
}

/* The pause, and the next attempt of the one that is told, are the same time:
 * as late as the message's own schedule or the queue's failures ask for. */
static void
lookup_pause(struct schedule_queue *q, schedule_delivery_fn *fn, void *arg)
{
	struct schedule *s = q->s;

	if (q->lookup_failures < UINT8_MAX)
		q->lookup_failures++;
	unsigned level = level_of(s, q->lookup_failures);
	q->is_limited = false;
	if (!queue_ready(q)) {
		q->pause_until_us =
		    s->now_us + jittered(s, s->policy.delay_us[level],
				    s->policy.jitter_percent);
		return;
	}
	struct schedule_delivery d = delivery_remove(q, queue_pick(q));
	count_attempt(&d);
	delivery_defer(q, &d, level, 0);
	q->pause_until_us = d.due_us;
	fn(arg, q, &d);
}

void
schedule_resolve_failed(struct schedule *s, struct schedule_queue *queue,
    bool permanent, int64_t now_us, schedule_delivery_fn *fn, void *arg)
{
	schedule_hear(s, now_us);
	BUG_UNLESS(queue->s == s);
	lookup_end(queue);
	if (queue->is_held) {
		queue_update(queue);
		return;
	}
	if (!permanent)
		lookup_pause(queue, fn, arg);
	while (permanent && queue_ready(queue)) {
		struct schedule_delivery d =
		    delivery_remove(queue, queue_pick(queue));
		fn(arg, queue, &d);
	}
	queue_update(queue);
}
