/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Rates. Who may not send yet is unlinked as a whole and stands in one timer:
 * all mail, a site, a tenant's lanes, a domain's queue. No delivery is touched,
 * so that a million that wait cost nothing. Buckets of all mail, of sites and
 * of tenants are the ledger's: schedulers draw from the same ones.
 */

#include "base/bug.h"
#include "base/mem.h"
#include "schedule/internal.h"

#define HEAD_START 128 /* recipients */
/* A bucket that nobody drew from for so long shows that the rate is not made
 * use of. */
#define PACE_IDLE_NS (INT64_C(1000) * US_PER_S)
#define MEASURED_MIN 5 /* messages that make a rate, */
#define MEASURED_LEAST_US (100 * US_PER_MS) /* over this at least */

/* ---- all mail, and sites ---- */

static void
gate_arm(struct schedule_site *site)
{
	const int64_t times[] = { site->message_at_us, site->connect_at_us,
		site->patience_us, site->suspended_us, site->turn_at_us };
	int64_t at_us = TIME_NEVER;

	for (unsigned i = 0; i < sizeof times / sizeof *times; i++)
		if (times[i] && times[i] < at_us)
			at_us = times[i];
	if (at_us == TIME_NEVER)
		heap_remove(&site->s->timers, &site->gate);
	else
		heap_set(&site->s->timers, &site->gate, at_us);
}

bool
site_is_paced(const struct schedule_site *site)
{
	return atomic_load_explicit(site->share.pace, memory_order_relaxed);
}

/* The slower of what is allowed and what it bears. */
static struct schedule_rate
site_rate(struct schedule_site *site)
{
	struct schedule_rate allowed = site->limits.message_rate;

	if (!site_is_paced(site))
		return allowed;
	int64_t now_ns = site->s->now_us * 1000;
	int64_t next_ns = atomic_load(&ledger_messages(&site->share)->next_ns);
	int64_t pace = ledger_pace(
	    &site->share, next_ns > now_ns - PACE_IDLE_NS, site->s->now_us);
	if (!pace)
		return allowed;
	struct schedule_rate borne = {
		.interval_ns = INT64_C(1000000000000000) / pace,
		.burst = (uint32_t)(pace / 50000000) + 1, /* of 20 ms */
	};
	return allowed.interval_ns > borne.interval_ns ? allowed : borne;
}

bool
site_open_gate(struct schedule_site *site)
{
	struct schedule *s = site->s;
	const struct schedule_policy *p = &s->policy;
	int64_t at_us;

	if (s->all_timer.position != NONE || site->message_at_us ||
	    site->suspended_us)
		return false;
	if (!bucket_take(
		ledger_all(s->ledger), &p->message_rate, s->now_us, &at_us)) {
		heap_set(&s->timers, &s->all_timer, at_us);
		return false;
	}
	site->rate = site_rate(site);
	if (bucket_take(
		ledger_messages(&site->share), &site->rate, s->now_us, &at_us))
		return true;
	bucket_give(ledger_all(s->ledger), &p->message_rate);
	site->message_at_us = at_us;
	gate_arm(site);
	return false;
}

void
site_shut_gate(struct schedule_site *site)
{
	const struct schedule_policy *p = &site->s->policy;

	bucket_give(ledger_all(site->s->ledger), &p->message_rate);
	bucket_give(ledger_messages(&site->share), &site->rate);
}

bool
site_may_connect(struct schedule_site *site)
{
	int64_t at_us;

	if (bucket_take(ledger_connections(&site->share),
		&site->limits.connection_rate, site->s->now_us, &at_us))
		return true;
	site->connect_at_us = at_us;
	gate_arm(site);
	return false;
}

void
site_be_patient(struct schedule_site *site, uint64_t ready, int64_t until_us)
{
	if (site->patience_us)
		return;
	site->patience_us = until_us;
	site->patience_ready = ready;
	site->patience_taken = site->taken;
	gate_arm(site);
}

void
site_wait_for_turn(struct schedule_site *site)
{
	if (site->turn_at_us)
		return;
	site->turn_at_us = site->s->now_us + TURN_PATIENCE_US;
	gate_arm(site);
}

void
schedule_site_suspend(
    struct schedule *s, struct schedule_site *site, int64_t until_us)
{
	BUG_UNLESS(site->s == s);
	if (site->is_retired || until_us <= site->suspended_us)
		return;
	site->suspended_us = until_us;
	gate_arm(site);
	site_update(site);
}

/* Messages per 10^6 s, of the last one to two seconds; 0: too few to say. */
static int64_t
measured_rate(const struct schedule_site *site)
{
	const struct mark *since = &site->marks[1];
	int64_t now_us = site->s->now_us;

	if (!since->at_us || now_us - since->at_us > 10 * US_PER_S)
		since = &site->marks[0];
	uint64_t count = site->taken - since->taken;
	int64_t took_us = now_us - since->at_us;
	if (count < MEASURED_MIN)
		return 0;
	if (took_us < MEASURED_LEAST_US)
		took_us = MEASURED_LEAST_US;
	return (int64_t)((double)count * 1e12 / (double)took_us);
}

void
schedule_site_slow(struct schedule *s, struct schedule_site *site,
    struct span reply, int64_t now_us)
{
	schedule_hear(s, now_us);
	ledger_slow(&site->share, measured_rate(site), reply, s->now_us);
}

static void
pass(int64_t *at_us, int64_t now_us)
{
	if (*at_us <= now_us)
		*at_us = 0;
}

void
site_on_gate(struct schedule_site *site)
{
	int64_t now_us = site->s->now_us;
	bool was_patient = site->patience_us;

	pass(&site->message_at_us, now_us);
	pass(&site->connect_at_us, now_us);
	pass(&site->patience_us, now_us);
	pass(&site->suspended_us, now_us);
	pass(&site->turn_at_us, now_us);
	if (was_patient && !site->patience_us &&
	    site->taken - site->patience_taken < site->patience_ready)
		site->is_urged = true;
	gate_arm(site);
	site_update(site);
}

/* ---- tenants ---- */

void
lane_on_ready(struct lane *lane, uint64_t less, uint64_t more)
{
	uint64_t *total = &lane->goal->ready[lane->class];

	BUG_UNLESS(lane->ready >= less);
	lane->ready += more - less;
	if (lane->is_blocked)
		return;
	BUG_UNLESS(*total >= less);
	*total += more - less;
}

/* Who comes, or comes back, is a few turns ahead of the others, so that a small
 * tenant is through before it shares with a large one; over time it gets no
 * more than anybody, for what it is given counts. */
void
lane_enter_ring(struct lane *lane)
{
	struct goal *goal = lane->goal;
	int64_t rank = goal->served[lane->class] - HEAD_START;

	if (lane->is_blocked || lane->turn.position != NONE)
		return;
	if (lane->turn.rank > rank)
		rank = lane->turn.rank;
	heap_set(&goal->rings[lane->class], &lane->turn, rank);
}

static void
lane_block(struct lane *lane, struct tenant *tenant, int64_t until_us)
{
	struct goal *goal = lane->goal;

	heap_remove(&goal->rings[lane->class], &lane->turn);
	BUG_UNLESS(goal->ready[lane->class] >= lane->ready);
	goal->ready[lane->class] -= lane->ready;
	lane->is_blocked = true;
	list_append(&tenant->lanes, &lane->block_link);
	heap_set(&tenant->s->timers, &tenant->timer, until_us);
	goal_update(goal);
}

static void
lane_unblock(struct lane *lane)
{
	struct goal *goal = lane->goal;

	list_remove(&lane->block_link);
	lane->is_blocked = false;
	goal->ready[lane->class] += lane->ready;
	if (!list_is_empty(&lane->queues))
		lane_enter_ring(lane);
	goal_update(goal);
}

void
tenant_on_timer(struct tenant *tenant)
{
	LIST_FOR_EACH_SAFE(link, &tenant->lanes)
		lane_unblock(LIST_ENTRY(link, struct lane, block_link));
}

static struct tenant *
tenant_of(struct schedule *s, uint32_t id)
{
	struct tenant *tenant = map_get_u64(s->tenants, id);

	if (tenant)
		return tenant;
	tenant = MEM_NEW(struct tenant);
	tenant->s = s;
	tenant->messages = ledger_tenant(s->ledger, id);
	heap_node_init(&tenant->timer, TIMER_TENANT);
	list_init(&tenant->lanes);
	(void)map_put_u64(s->tenants, id, tenant);
	return tenant;
}

/* ---- domains ---- */

static struct domain *
domain_of(struct schedule_queue *q)
{
	struct span name = span_from(q->domain, q->domain_len);
	struct domain *domain = q->domain_limit;

	if (domain)
		return domain;
	domain = map_get(q->s->domains, name);
	if (!domain) {
		domain = MEM_NEW(struct domain);
		(void)map_put(q->s->domains, name, domain);
	}
	domain->users++;
	q->domain_limit = domain;
	return domain;
}

void
domain_release(struct schedule_queue *q)
{
	struct domain *domain = q->domain_limit;

	if (!domain || --domain->users)
		return;
	(void)map_remove(q->s->domains, span_from(q->domain, q->domain_len));
	mem_free(domain);
}

int64_t
domain_keep_until(const struct schedule_queue *q)
{
	return q->domain_limit
		   ? atomic_load(&q->domain_limit->messages.next_ns) / 1000
		   : 0;
}

/* ---- taking ---- */

static bool
tenant_take(struct schedule_queue *q)
{
	struct schedule *s = q->s;
	const struct schedule_rate *rate = &s->policy.tenant_message_rate;
	int64_t at_us;

	if (rate->interval_ns <= 0)
		return true;
	struct tenant *tenant = tenant_of(s, q->tenant);
	if (bucket_take(tenant->messages, rate, s->now_us, &at_us))
		return true;
	lane_block(q->lane, tenant, at_us);
	return false;
}

static bool
domain_take(struct schedule_queue *q)
{
	struct schedule *s = q->s;
	const struct schedule_rate *rate = &s->policy.domain_message_rate;
	int64_t at_us;

	if (rate->interval_ns <= 0 ||
	    bucket_take(&domain_of(q)->messages, rate, s->now_us, &at_us))
		return true;
	q->pause_until_us = at_us;
	q->is_limited = true;
	queue_update(q);
	return false;
}

bool
limit_take(struct schedule_queue *q)
{
	struct schedule *s = q->s;
	const struct schedule_rate *rate = &s->policy.tenant_message_rate;

	if (!tenant_take(q))
		return false;
	if (domain_take(q))
		return true;
	if (rate->interval_ns > 0)
		bucket_give(tenant_of(s, q->tenant)->messages, rate);
	return false;
}

/* ---- the whole ---- */

/* With other rates: nobody waits by the old ones. */
void
limits_renew(struct schedule *s)
{
	struct map_cursor cursor = { 0 };

	heap_remove(&s->timers, &s->all_timer);
	while (map_next(s->tenants, &cursor)) {
		struct tenant *tenant = cursor.value;
		heap_remove(&s->timers, &tenant->timer);
		tenant_on_timer(tenant);
	}
	for (uint32_t i = 0; i < s->queue_count; i++) {
		struct schedule_queue *q = queue_at(s, i);
		if (!q || !q->is_limited)
			continue;
		q->is_limited = false;
		q->pause_until_us = 0;
		queue_update(q);
	}
	LIST_FOR_EACH(link, &s->sites) {
		struct schedule_site *site =
		    LIST_ENTRY(link, struct schedule_site, all_link);
		if (!site->has_limits)
			site->limits = limits_of_policy(&s->policy);
		site->message_at_us = site->connect_at_us = 0;
		site->denial = LEDGER_YES;
		gate_arm(site);
		site_update(site);
	}
}

void
limits_init(struct schedule *s)
{
	s->tenants = map_new();
	s->domains = map_new();
	heap_node_init(&s->all_timer, TIMER_ALL);
}

void
limits_done(struct schedule *s)
{
	map_free(&s->tenants, mem_free);
	map_free(&s->domains, mem_free);
}
