/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "schedule/internal.h"

#define REPLY_MAX 500

void
text_replace(char **text, struct span now, size_t max)
{
	char *old = *text;
	size_t len = now.len < max ? now.len : max;

	/* A cut must not leave half a character behind. */
	while (len < now.len && len > 0 && (now.ptr[len] & 0xc0) == 0x80)
		len--;
	*text = span_dup(span_slice(now, 0, len));
	mem_free(old);
}

struct schedule_key
schedule_queue_key(const struct schedule_queue *queue)
{
	return (struct schedule_key){ .tenant = queue->tenant,
		.stream = queue->stream,
		.class = (enum schedule_class)queue->class,
		.domain = span_from(queue->domain, queue->domain_len) };
}

void
schedule_queue_set_last_reply(struct schedule_queue *queue, struct span text)
{
	text_replace(&queue->last_reply, text, REPLY_MAX);
	queue->reply_order = ++queue->s->reply_order;
}

struct span
schedule_queue_last_reply(const struct schedule_queue *queue)
{
	const struct goal *goal = queue->goal;

	if (goal && goal->reply_order > queue->reply_order)
		return span_of(goal->last_reply);
	return span_of(queue->last_reply);
}

/* ---- facts ---- */

/* Of a parked goal; in the past: it only waits for mail. */
static int64_t
first_probe(const struct goal *goal)
{
	int64_t at_us = TIME_NEVER;

	LIST_FOR_EACH(link, &goal->ways) {
		const struct schedule_site *site =
		    LIST_ENTRY(link, struct schedule_site, goal_link);
		if (site->is_retired)
			continue;
		if (site->timer.position == NONE)
			return 0;
		if (site->timer.rank < at_us)
			at_us = site->timer.rank;
	}
	return at_us;
}

static int64_t
next_due(const struct schedule_queue *q)
{
	const struct schedule *s = q->s;
	int64_t at_us = TIME_NEVER;

	if (q->is_held)
		return TIME_NEVER;
	for (unsigned i = LIST_LEVEL; i < LISTS; i++) {
		if (!q->lists[i].count)
			continue;
		const struct delivery *d = slab_at(&s->slab, q->lists[i].head);
		if (tick_time(s, d->due) < at_us)
			at_us = tick_time(s, d->due);
	}
	if (queue_ready(q))
		at_us = s->now_us;
	if (at_us != TIME_NEVER && q->pause_until_us > at_us)
		at_us = q->pause_until_us;
	if (at_us != TIME_NEVER && q->goal && goal_is_parked(q->goal) &&
	    first_probe(q->goal) > at_us)
		at_us = first_probe(q->goal);
	return at_us;
}

static int64_t
oldest_expire(const struct schedule_queue *q)
{
	uint32_t tick = TICK_NEVER;

	for (unsigned i = 0; i < LISTS; i++) {
		if (!q->lists[i].count)
			continue;
		const struct delivery *d =
		    slab_at(&q->s->slab, q->lists[i].head);
		if (d->expire < tick)
			tick = d->expire;
	}
	return tick_time(q->s, tick);
}

/* ---- what binds ---- */

/* clang-format off */
static const struct {
	const char *name, *text, *freed_by;
} bounds[] = {
	[SCHEDULE_BOUND_NOTHING]         = { "nothing",         "nothing: it goes", "" },
	[SCHEDULE_BOUND_HOLD]            = { "hold",            "an operator's hold", "posthouse queue release" },
	[SCHEDULE_BOUND_LOOKUP]          = { "lookup",          "its site is being looked up", "the answer" },
	[SCHEDULE_BOUND_LOOKUP_FAILED]   = { "lookup_failed",   "the domain could not be looked up", "a look-up that succeeds" },
	[SCHEDULE_BOUND_PARKED]          = { "parked",          "the site cannot be reached", "a probe that succeeds, or posthouse queue retry" },
	[SCHEDULE_BOUND_SCHEDULE]        = { "schedule",        "the next attempt is not due", "time, or posthouse queue retry" },
	[SCHEDULE_BOUND_MESSAGE_RATE]    = { "message_rate",    "the rate of all mail", "time, or a higher rate" },
	[SCHEDULE_BOUND_TENANT_RATE]     = { "tenant_rate",     "the tenant's rate", "time, or a higher rate" },
	[SCHEDULE_BOUND_DOMAIN_RATE]     = { "domain_rate",     "the domain's rate", "time, or a higher rate" },
	[SCHEDULE_BOUND_SITE_RATE]       = { "site_rate",       "the site's rate", "time, or a higher rate" },
	[SCHEDULE_BOUND_CONNECTION_RATE] = { "connection_rate", "the rate of connections to the site", "time, or a higher rate" },
	[SCHEDULE_BOUND_ALL_CONNECTIONS] = { "all_connections", "the number of all connections", "a connection that ends, or a higher number" },
	[SCHEDULE_BOUND_SPARED]          = { "spared",          "the site refused one more connection", "time" },
	[SCHEDULE_BOUND_CONNECTIONS]     = { "connections",     "the number of connections to the site", "a connection that is free, or a higher number" },
	[SCHEDULE_BOUND_WINDOW]          = { "window",          "the connections that the site has proved to bear", "mail that the site takes" },
	[SCHEDULE_BOUND_PACE]            = { "pace",            "the rate that the site has proved to bear", "time; the rate rises while the site takes mail" },
	[SCHEDULE_BOUND_NO_SOURCE]       = { "no_source",       "no source of its pool can be used", "a source's address on this machine, or another pool" },
	[SCHEDULE_BOUND_SUSPENDED]       = { "suspended",       "the site is suspended after a reply", "time" },
};

/* clang-format on */

const char *
schedule_bound_text(enum schedule_bound bound)
{
	BUG_UNLESS((size_t)bound < sizeof bounds / sizeof *bounds);
	return bounds[bound].text;
}

const char *
schedule_bound_freed_by(enum schedule_bound bound)
{
	BUG_UNLESS((size_t)bound < sizeof bounds / sizeof *bounds);
	return bounds[bound].freed_by;
}

const char *
schedule_bound_name(enum schedule_bound bound)
{
	BUG_UNLESS((size_t)bound < sizeof bounds / sizeof *bounds);
	return bounds[bound].name;
}

static int64_t
timer_time(const struct heap_node *timer)
{
	return timer->position == NONE ? TIME_NEVER : timer->rank;
}

/* More connections could carry it: why are there none? */
static enum schedule_bound
connections_bound(const struct schedule_site *site, int64_t *until_us)
{
	struct ledger_limits limits = site_limits(site);
	uint32_t open = site->open[0] + site->open[1];

	if (site->connect_at_us) {
		*until_us = site->connect_at_us;
		return SCHEDULE_BOUND_CONNECTION_RATE;
	}
	if (site->spared_at && open >= site->spared_at) {
		*until_us = timer_time(&site->timer);
		return SCHEDULE_BOUND_SPARED;
	}
	if (site->denial == LEDGER_WINDOW)
		return SCHEDULE_BOUND_WINDOW;
	if (site->denial == LEDGER_FULL ||
	    site->open[0] >= limits.connections - limits.reserved)
		return SCHEDULE_BOUND_CONNECTIONS;
	if (site->line == &site->s->to_connect && !schedule_has_room(site->s))
		return SCHEDULE_BOUND_ALL_CONNECTIONS;
	return SCHEDULE_BOUND_NOTHING;
}

static enum schedule_bound
site_bound(const struct schedule_queue *q, const struct schedule_site *site,
    int64_t *until_us)
{
	const struct schedule *s = q->s;

	if (site->is_parked) {
		*until_us = timer_time(&site->timer);
		return SCHEDULE_BOUND_PARKED;
	}
	if (s->all_timer.position != NONE) {
		*until_us = s->all_timer.rank;
		return SCHEDULE_BOUND_MESSAGE_RATE;
	}
	if (q->lane->is_blocked) {
		const struct tenant *tenant =
		    map_get_u64(s->tenants, q->tenant);
		*until_us = timer_time(&tenant->timer);
		return SCHEDULE_BOUND_TENANT_RATE;
	}
	if (site->suspended_us) {
		*until_us = site->suspended_us;
		return SCHEDULE_BOUND_SUSPENDED;
	}
	if (site->message_at_us) {
		*until_us = site->message_at_us;
		bool by_limit = site->rate.interval_ns ==
				site->limits.message_rate.interval_ns;
		return by_limit ? SCHEDULE_BOUND_SITE_RATE
				: SCHEDULE_BOUND_PACE;
	}
	return connections_bound(site, until_us);
}

static bool
is_freer(enum schedule_bound bound, int64_t at_us, enum schedule_bound than,
    int64_t than_us)
{
	if (bound == SCHEDULE_BOUND_NOTHING || than == SCHEDULE_BOUND_NOTHING)
		return than != SCHEDULE_BOUND_NOTHING;
	return at_us < than_us;
}

/* Of several ways the one that is free first. */
static enum schedule_bound
goal_bound(const struct schedule_queue *q, int64_t *until_us,
    const struct schedule_site **ret_site)
{
	enum schedule_bound best = SCHEDULE_BOUND_NO_SOURCE;

	*ret_site = NULL;
	LIST_FOR_EACH(link, &q->goal->ways) {
		const struct schedule_site *site =
		    LIST_ENTRY(link, struct schedule_site, goal_link);
		int64_t at_us = TIME_NEVER;
		if (site->is_retired)
			continue;
		enum schedule_bound bound = site_bound(q, site, &at_us);
		if (*ret_site && !is_freer(bound, at_us, best, *until_us))
			continue;
		best = bound;
		*until_us = at_us;
		*ret_site = site;
	}
	return best;
}

static enum schedule_bound
bound_of(const struct schedule_queue *q, int64_t *until_us,
    const struct schedule_site **ret_site)
{
	if (!queue_has_mail(q))
		return SCHEDULE_BOUND_NOTHING;
	if (q->is_held)
		return SCHEDULE_BOUND_HOLD;
	if (q->pause_until_us > q->s->now_us) {
		*until_us = q->pause_until_us;
		return q->is_limited ? SCHEDULE_BOUND_DOMAIN_RATE
				     : SCHEDULE_BOUND_LOOKUP_FAILED;
	}
	if (!queue_ready(q)) {
		*until_us = next_due(q);
		return SCHEDULE_BOUND_SCHEDULE;
	}
	if (q->is_looked_up || q->place == PLACE_LOOKUP || !q->goal)
		return SCHEDULE_BOUND_LOOKUP;
	return goal_bound(q, until_us, ret_site);
}

static const struct schedule_site *
goal_first_way(const struct goal *goal)
{
	LIST_FOR_EACH(link, &goal->ways) {
		const struct schedule_site *site =
		    LIST_ENTRY(link, struct schedule_site, goal_link);
		if (!site->is_retired)
			return site;
	}
	return NULL;
}

void
schedule_queue_facts(const struct schedule *s,
    const struct schedule_queue *queue, struct schedule_queue_facts *ret_facts)
{
	const struct goal *goal = queue->goal;
	const struct schedule_site *site = goal ? goal_first_way(goal) : NULL;
	uint64_t retry = 0;

	BUG_UNLESS(queue->s == s);
	for (unsigned i = LIST_DUE; i < LISTS; i++)
		retry += queue->lists[i].count;
	*ret_facts = (struct schedule_queue_facts){
		.key = schedule_queue_key(queue),
		.fresh = queue->lists[LIST_FRESH].count,
		.retry = retry,
		.recipients = queue->recipients,
		.in_flight = queue->in_flight,
		.next_due_us = next_due(queue),
		.oldest_expire_us = oldest_expire(queue),
		.held = queue->is_held,
		.parked =
		    (goal && goal_is_parked(goal)) ||
		    (queue->pause_until_us > s->now_us && !queue->is_limited),
		.hold_reason = span_of(queue->hold_reason),
		.last_reply = schedule_queue_last_reply(queue),
		.site_limit = s->policy.site_connections,
		.site_window = s->policy.site_connections,
		.bound_until_us = TIME_NEVER,
	};
	ret_facts->bound = bound_of(queue, &ret_facts->bound_until_us, &site);
	if (!goal)
		return;
	ret_facts->site = goal_name(goal);
	ret_facts->site_connections = goal->connections;
	ret_facts->pool = span_from(goal->name + goal->name_len + 1,
	    goal->key_len - goal->name_len - 1);
	if (!site)
		return;
	struct ledger_limits limits = site_limits(site);
	ret_facts->site_limit = limits.connections;
	ret_facts->site_window = ledger_window(&site->share, &limits);
	ret_facts->source = schedule_site_source(site);
	ret_facts->owner = goal->owner;
	if (!site_is_paced(site))
		return;
	ret_facts->site_pace = atomic_load(site->share.pace);
	ledger_pace_reply(
	    &site->share, ret_facts->pace_reply, sizeof ret_facts->pace_reply);
}

void
schedule_each_queue(const struct schedule *s,
    const struct schedule_selector *sel, schedule_queue_fn *fn, void *arg)
{
	for (uint32_t i = 0; i < s->queue_count; i++) {
		const struct schedule_queue *q = queue_at(s, i);
		struct schedule_queue_facts facts;
		if (!q || !queue_matches(q, sel) ||
		    (!queue_has_mail(q) && !q->in_flight))
			continue;
		schedule_queue_facts(s, q, &facts);
		fn(arg, &facts);
	}
}

static size_t
each_in_list(struct schedule_queue *q, unsigned list, size_t limit,
    schedule_delivery_fn *fn, void *arg)
{
	uint32_t i = q->lists[list].head;
	size_t count = 0;

	for (; i != NONE && count < limit; count++) {
		const struct delivery *d = slab_at(&q->s->slab, i);
		struct schedule_delivery facts = delivery_facts(q->s, d);
		i = d->next;
		fn(arg, q, &facts);
	}
	return count;
}

size_t
schedule_each_delivery(const struct schedule *s,
    const struct schedule_selector *sel, size_t limit, schedule_delivery_fn *fn,
    void *arg)
{
	size_t count = 0;

	for (uint32_t i = 0; i < s->queue_count && count < limit; i++) {
		struct schedule_queue *q = queue_at(s, i);
		if (!q || !queue_matches(q, sel))
			continue;
		for (unsigned list = 0; list < LISTS; list++)
			count += each_in_list(q, list, limit - count, fn, arg);
	}
	return count;
}

void
schedule_stats(const struct schedule *s, struct schedule_stats *ret_stats)
{
	*ret_stats = (struct schedule_stats){
		.queues = map_count(s->queues_by_key),
		.sites = s->goal_count,
		.sites_parked = s->sites_parked,
		.connections = s->connections,
		.deliveries = s->slab.used,
		.recipients = s->recipients + s->in_flight,
		.in_flight = s->in_flight,
		.reaped = s->reaped_count,
		.bytes = (uint64_t)s->slab.block_count * SLAB_BLOCK *
			     sizeof(struct delivery) +
			 s->queue_bytes,
	};
}
