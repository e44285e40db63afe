/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "schedule/internal.h"

/* Work per call: so many timers and deliveries whose time has come. What is
 * left makes schedule_next_time say "now". */
#define TIMER_BUDGET 64
#define WHEEL_BUDGET 512
#define LOOKUPS_DEFAULT 256

/* ---- time passes ---- */

static void
timer_run(struct heap_node *t)
{
	switch (t->kind) {
	case TIMER_QUEUE:
		queue_on_timer(LIST_ENTRY(t, struct schedule_queue, timer));
		return;
	case TIMER_SITE:
		site_on_timer(LIST_ENTRY(t, struct schedule_site, timer));
		return;
	case TIMER_GATE:
		site_on_gate(LIST_ENTRY(t, struct schedule_site, gate));
		return;
	case TIMER_TENANT:
		tenant_on_timer(LIST_ENTRY(t, struct tenant, timer));
		return;
	case TIMER_ALL:
		return; /* out of the heap, it is over */
	case TURN_LANE:
		break;
	}
	UNREACHABLE("no lane has a time");
}

static void
timers_run(struct schedule *s)
{
	for (unsigned n = 0; n < TIMER_BUDGET; n++) {
		struct heap_node *t = heap_first(&s->timers);
		if (!t || t->rank > s->now_us)
			return;
		heap_remove(&s->timers, t);
		timer_run(t);
	}
}

static uint32_t
tick_now(const struct schedule *s)
{
	return (uint32_t)((uint64_t)(s->now_us - s->base_us) >> TICK_SHIFT);
}

static void
delivery_on_time(struct schedule *s, uint32_t i)
{
	struct wheel *w = &s->wheel;
	struct delivery *d = slab_at(&s->slab, i);

	wheel_remove(w, &s->slab, i);
	if (s->queues[d->queue]->is_reaped)
		return;
	if (d->warn <= w->now || d->expire <= w->now) {
		wheel_put(w, &s->slab, i, WHEEL_FIRED);
		return;
	}
	if (d->list < LIST_LEVEL || d->due > w->now) {
		delivery_arm(s, i);
		return;
	}
	struct schedule_queue *q = s->queues[d->queue];
	delivery_list_move(q, i, LIST_DUE);
	delivery_arm(s, i);
	queue_update(q);
}

static void
wheel_run(struct schedule *s)
{
	struct wheel *w = &s->wheel;
	uint32_t until = tick_now(s);

	for (unsigned n = 0; n < WHEEL_BUDGET; n++) {
		uint32_t spread = w->heads[WHEEL_SPREAD];
		if (spread != NONE) {
			wheel_remove(w, &s->slab, spread);
			delivery_arm(s, spread);
			continue;
		}
		if (w->heads[WHEEL_READY] != NONE)
			delivery_on_time(s, w->heads[WHEEL_READY]);
		else if (!wheel_advance(w, &s->slab, until))
			return;
	}
}

/* ---- wants ---- */

static bool
may_go(const struct schedule *s)
{
	return s->all_timer.position == NONE;
}

bool
schedule_has_room(const struct schedule *s)
{
	return !s->policy.connections || s->connections < s->policy.connections;
}

static bool
may_look_up(const struct schedule *s)
{
	uint32_t limit =
	    s->policy.lookups ? s->policy.lookups : LOOKUPS_DEFAULT;

	return s->lookups_open < limit;
}

/* Takes the site out of its line; what follows puts it back at the end. */
static struct schedule_site *
line_first(struct list *line)
{
	if (list_is_empty(line))
		return NULL;
	struct schedule_site *site =
	    LIST_ENTRY(line->next, struct schedule_site, want_link);
	list_remove(&site->want_link);
	site->line = NULL;
	return site;
}

static bool
want_wake(struct schedule *s, struct schedule_want *want)
{
	struct schedule_site *site = may_go(s) ? line_first(&s->to_wake) : NULL;

	if (!site)
		return false;
	struct schedule_connection *c = site_wakeable(site);
	BUG_UNLESS(c && c->state == CONNECTION_IDLE);
	list_remove(&c->link);
	c->state = CONNECTION_WOKEN;
	site->goal->coming[c->is_reserved]++;
	site_update(site);
	*want = (struct schedule_want){
		.type = SCHEDULE_WAKE, .site = site, .connection = c
	};
	return true;
}

static bool
want_connect(struct schedule *s, struct schedule_want *want)
{
	while (may_go(s) && schedule_has_room(s)) {
		struct schedule_site *site = line_first(&s->to_connect);
		if (!site)
			return false;
		if (!site_be_granted(site))
			continue;
		*want = (struct schedule_want){ .type = SCHEDULE_CONNECT,
			.site = site };
		return true;
	}
	return false;
}

static bool
want_close(struct schedule *s, struct schedule_want *want)
{
	struct schedule_site *site;

	while ((site = line_first(&s->to_close))) {
		struct schedule_connection *c = site_idle(site);
		BUG_UNLESS(c);
		struct ledger_limits limits = site_limits(site);
		if (!site->is_retired &&
		    !ledger_yields(&site->share, &limits)) {
			site_update(site);
			continue;
		}
		list_remove(&c->link);
		c->state = CONNECTION_LENT;
		site_update(site);
		*want = (struct schedule_want){
			.type = SCHEDULE_CLOSE, .site = site, .connection = c
		};
		return true;
	}
	return false;
}

static bool
want_resolve(struct schedule *s, struct schedule_want *want)
{
	if (list_is_empty(&s->to_look_up) || !may_look_up(s))
		return false;
	struct schedule_queue *q =
	    LIST_ENTRY(s->to_look_up.next, struct schedule_queue, place_link);
	q->is_looked_up = true;
	s->lookups_open++;
	queue_update(q);
	*want = (struct schedule_want){ .type = SCHEDULE_RESOLVE, .queue = q };
	return true;
}

/* What is reaped has its end elsewhere. */
static uint32_t
fired_next(struct schedule *s)
{
	struct wheel *w = &s->wheel;

	for (unsigned n = 0; n < WHEEL_BUDGET; n++) {
		uint32_t i = w->heads[WHEEL_FIRED];
		if (i == NONE ||
		    !s->queues[slab_at(&s->slab, i)->queue]->is_reaped)
			return i;
		wheel_remove(w, &s->slab, i);
	}
	return NONE;
}

static bool
want_report(struct schedule *s, struct schedule_want *want)
{
	uint32_t i = fired_next(s);

	if (i == NONE)
		return false;
	struct delivery *d = slab_at(&s->slab, i);
	struct schedule_queue *q = s->queues[d->queue];
	*want = (struct schedule_want){ .queue = q };
	if (d->expire <= tick_now(s)) {
		want->type = SCHEDULE_EXPIRE;
		want->delivery = delivery_remove(q, i);
		queue_update(q);
		return true;
	}
	want->type = SCHEDULE_WARN;
	d->warn = TICK_NEVER;
	wheel_remove(&s->wheel, &s->slab, i);
	delivery_arm(s, i);
	want->delivery = delivery_facts(s, d);
	return true;
}

enum schedule_want_type
schedule_next_want(
    struct schedule *s, int64_t now_us, struct schedule_want *ret_want)
{
	schedule_hear(s, now_us);
	timers_run(s);
	wheel_run(s);
	sites_hear_news(s);
	if (!want_close(s, ret_want) && !want_wake(s, ret_want) &&
	    !want_resolve(s, ret_want) && !want_connect(s, ret_want) &&
	    !want_report(s, ret_want))
		*ret_want = (struct schedule_want){ .type = SCHEDULE_IDLE };
	return ret_want->type;
}

int64_t
schedule_next_time(const struct schedule *s)
{
	const struct wheel *w = &s->wheel;
	const struct heap_node *t = heap_first(&s->timers);
	int64_t at_us = t ? t->rank : TIME_NEVER;

	if (!list_is_empty(&s->to_close) || atomic_load(&s->member.has_news) ||
	    (!list_is_empty(&s->to_wake) && may_go(s)) ||
	    (!list_is_empty(&s->to_connect) && may_go(s) &&
		schedule_has_room(s)) ||
	    (!list_is_empty(&s->to_look_up) && may_look_up(s)) ||
	    w->heads[WHEEL_SPREAD] != NONE || w->heads[WHEEL_READY] != NONE ||
	    w->heads[WHEEL_FIRED] != NONE)
		return s->now_us;
	uint64_t tick = wheel_next_tick(w);
	if (tick < TICK_NEVER && tick_time(s, (uint32_t)tick) < at_us)
		at_us = tick_time(s, (uint32_t)tick);
	return at_us;
}
