/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "schedule/internal.h"

/* A site that is new, or was failing, is opened gently: so many connections at
 * once beyond those that have proved usable. */
#define OPENING_AHEAD 2
#define PROBE_JITTER_PERCENT 20
/* What the open connections take in such a time needs no more of them. */
#define DRAIN_US (100 * US_PER_MS)
#define DRAIN_URGENT_US (10 * US_PER_MS)

/* ---- wishes ---- */

uint32_t
site_usable(const struct schedule_site *site)
{
	return site->open[0] + site->open[1] - site->opening - site->closing;
}

struct ledger_limits
site_limits(const struct schedule_site *site)
{
	const struct schedule_limits *l = &site->limits;
	uint32_t limit = l->connections;

	return (struct ledger_limits){
		.connections = limit,
		.reserved = l->reserved < limit ? l->reserved : limit - 1,
		.own = l->share ? l->share : limit,
		.window_first = l->window_first,
	};
}

/* What no connection is coming for. */
static uint64_t
site_work(const struct schedule_site *site, bool *ret_is_urgent)
{
	const struct goal *goal = site->goal;
	uint64_t urgent =
	    goal->ready[SCHEDULE_TRANSACTIONAL] + goal->ready[SCHEDULE_REPORT];
	uint64_t all = urgent + goal->ready[SCHEDULE_BULK];
	uint64_t coming = (uint64_t)goal->coming[0] + goal->coming[1];

	*ret_is_urgent = urgent > coming;
	return all > coming ? all - coming : 0;
}

static int64_t
drain_us(bool is_urgent)
{
	return is_urgent ? DRAIN_URGENT_US : DRAIN_US;
}

/* The connections there are will have taken it all in a moment. */
static bool
is_soon_served(const struct schedule_site *site, uint64_t work, bool is_urgent)
{
	if (!site_usable(site) || !site->service_us || site->is_urged)
		return false;
	return work * (uint64_t)site->service_us <=
	       (uint64_t)drain_us(is_urgent) * site_usable(site);
}

static bool
may_open(const struct schedule_site *site)
{
	uint32_t open = site->open[0] + site->open[1];

	if (site->denial != LEDGER_YES || site->connect_at_us ||
	    site->message_at_us || site->suspended_us || site->is_retired)
		return false;
	return (!site->spared_at || open < site->spared_at) &&
	       site->opening < site_usable(site) + OPENING_AHEAD;
}

bool
site_could_connect(const struct schedule_site *site, bool *ret_reserved)
{
	bool is_urgent;

	*ret_reserved = false;
	if (site->is_parked)
		return site->is_probe_due && !site->open[0] && !site->open[1] &&
		       may_open(site);
	uint64_t work = site_work(site, &is_urgent);
	if (!work || !may_open(site) || is_soon_served(site, work, is_urgent))
		return false;
	struct ledger_limits limits = site_limits(site);
	if (site->open[0] < limits.connections - limits.reserved)
		return true;
	*ret_reserved = true;
	return site->open[1] < limits.reserved && is_urgent;
}

bool
site_wants_connection(const struct schedule_site *site, bool *ret_reserved)
{
	return site_could_connect(site, ret_reserved) &&
	       !site_lets_others(site);
}

/* The reserved ones may be free when the others are not. */
static enum ledger_answer
ledger_ask(struct schedule_site *site, bool is_reserved)
{
	struct ledger_limits limits = site_limits(site);
	bool is_urgent;
	enum ledger_answer answer =
	    ledger_take(&site->share, &limits, is_reserved);

	(void)site_work(site, &is_urgent);
	if (answer == LEDGER_YES)
		site->grant = is_reserved ? GRANT_RESERVED : GRANT_PLAIN;
	if (answer == LEDGER_FULL && !is_reserved && is_urgent)
		return ledger_ask(site, true);
	return answer;
}

bool
site_be_granted(struct schedule_site *site)
{
	bool reserved;

	if (site->grant != GRANT_NONE)
		return true; /* of the last time, not used */
	if (!site_wants_connection(site, &reserved))
		return false;
	if (!site_may_connect(site)) {
		site_update(site);
		return false;
	}
	site->denial = ledger_ask(site, reserved);
	if (site->denial == LEDGER_YES)
		return true;
	bucket_give(
	    ledger_connections(&site->share), &site->limits.connection_rate);
	site_update(site);
	return false;
}

void
sites_hear_news(struct schedule *s)
{
	struct ledger_share *share;

	if (!atomic_load_explicit(&s->member.has_news, memory_order_acquire))
		return;
	while ((share = ledger_news(s->ledger, &s->member))) {
		struct schedule_site *site =
		    LIST_ENTRY(share, struct schedule_site, share);
		bool reserved;
		site->denial = LEDGER_YES;
		if (!site_wants_connection(site, &reserved))
			ledger_waive(share);
		site_update(site);
	}
}

static struct schedule_connection *
idle_for_work(const struct schedule_site *site)
{
	const struct goal *goal = site->goal;

	if (site->message_at_us || site->suspended_us || site->is_retired)
		return NULL;
	uint64_t urgent =
	    goal->ready[SCHEDULE_TRANSACTIONAL] + goal->ready[SCHEDULE_REPORT];
	uint64_t coming = (uint64_t)goal->coming[0] + goal->coming[1];

	/* The latest to fall idle: the others may time out in peace. */
	if (!list_is_empty(&site->idle[0]) &&
	    urgent + goal->ready[SCHEDULE_BULK] > coming)
		return LIST_ENTRY(
		    site->idle[0].prev, struct schedule_connection, link);
	if (!list_is_empty(&site->idle[1]) && urgent > coming)
		return LIST_ENTRY(
		    site->idle[1].prev, struct schedule_connection, link);
	return NULL;
}

bool
site_could_go(const struct schedule_site *site)
{
	return idle_for_work(site) != NULL;
}

struct schedule_connection *
site_wakeable(const struct schedule_site *site)
{
	struct schedule_connection *c = idle_for_work(site);

	return c && !site_lets_others(site) ? c : NULL;
}

bool
site_is_lent(const struct schedule_site *site)
{
	if (!atomic_load_explicit(site->share.owed, memory_order_relaxed))
		return false;
	struct ledger_limits limits = site_limits(site);
	return ledger_may_yield(&site->share, &limits);
}

struct schedule_connection *
site_idle(const struct schedule_site *site)
{
	for (unsigned i = 0; i < 2; i++)
		if (!list_is_empty(&site->idle[i]))
			return LIST_ENTRY(site->idle[i].next,
			    struct schedule_connection, link);
	return NULL;
}

static struct list *
right_line(struct schedule_site *site)
{
	struct schedule *s = site->s;
	bool is_urgent, reserved;

	if ((site->is_retired || site_is_lent(site)) && site_idle(site))
		return &s->to_close;
	if (site_wakeable(site))
		return &s->to_wake;
	if (site_wants_connection(site, &reserved))
		return &s->to_connect;
	uint64_t work = site_work(site, &is_urgent);
	if (!work)
		site->is_urged = false;
	else if (site_lets_others(site))
		site_wait_for_turn(site);
	else if (may_open(site) && !site->is_parked)
		site_be_patient(site, work, s->now_us + drain_us(is_urgent));
	/* Who would not take it keeps nobody from a place. */
	if (!work || (site->denial == LEDGER_YES && !may_open(site)))
		ledger_waive(&site->share);
	return NULL;
}

static void
line_up(struct schedule_site *site)
{
	struct list *line = right_line(site);

	if (line == site->line)
		return; /* keeps its turn */
	list_remove(&site->want_link);
	site->line = line;
	if (line)
		list_append(line, &site->want_link);
}

void
goal_update(struct goal *goal)
{
	LIST_FOR_EACH(link, &goal->ways)
		line_up(LIST_ENTRY(link, struct schedule_site, goal_link));
}

void
site_update(struct schedule_site *site)
{
	goal_update(site->goal);
}

/* ---- parking ---- */

/* The goal's last way was parked, or its first one is free again. */
static void
goal_relink(struct goal *goal)
{
	LIST_FOR_EACH(link, &goal->queues)
		queue_update(
		    LIST_ENTRY(link, struct schedule_queue, goal_link));
	goal_update(goal);
}

static int64_t
probe_pause(struct schedule_site *site)
{
	const struct schedule_policy *policy = &site->s->policy;
	int64_t pause_us = policy->probe_first_us;

	for (uint32_t i = 0; i < site->probes; i++) {
		if (pause_us > policy->probe_max_us / 2) {
			pause_us = policy->probe_max_us;
			break;
		}
		pause_us *= 2;
	}
	return jittered(site->s, pause_us, PROBE_JITTER_PERCENT);
}

static void
site_park(struct schedule_site *site)
{
	struct schedule *s = site->s;

	if (site->is_parked)
		site->probes++;
	else
		s->sites_parked++;
	site->spared_at = 0;
	site->is_probe_due = false;
	heap_set(&s->timers, &site->timer, s->now_us + probe_pause(site));
	if (site->is_parked)
		return;
	site->is_parked = true;
	site->goal->parked_count++;
	goal_relink(site->goal);
}

void
site_unpark(struct schedule_site *site)
{
	if (!site->is_parked)
		return;
	site->is_parked = site->is_probe_due = false;
	site->probes = 0;
	site->s->sites_parked--;
	site->goal->parked_count--;
	heap_remove(&site->s->timers, &site->timer);
	goal_relink(site->goal);
}

static void
site_probe_now(struct schedule_site *site)
{
	if (site->spared_at) {
		heap_remove(&site->s->timers, &site->timer);
		site->spared_at = 0;
		site_update(site);
		return;
	}
	if (!site->is_parked || site->open[0] || site->open[1])
		return;
	heap_remove(&site->s->timers, &site->timer);
	site->is_probe_due = true;
	site_update(site);
}

/* A parked site stands in no line before its probe is due, and a probe whose
 * time has come waits here for mail to go with it. */
void
goal_probe_if_due(struct goal *goal)
{
	LIST_FOR_EACH(link, &goal->ways) {
		struct schedule_site *site =
		    LIST_ENTRY(link, struct schedule_site, goal_link);
		if (site->is_parked && !site->is_retired &&
		    site->timer.position == NONE)
			site_probe_now(site);
	}
}

void
goal_probe_now(struct goal *goal)
{
	LIST_FOR_EACH(link, &goal->ways) {
		struct schedule_site *site =
		    LIST_ENTRY(link, struct schedule_site, goal_link);
		if (!site->is_retired)
			site_probe_now(site);
	}
}

void
site_on_timer(struct schedule_site *site)
{
	site->spared_at = 0;
	if (!site->is_parked) {
		site_update(site);
		return;
	}
	LIST_FOR_EACH(link, &site->goal->queues) {
		struct schedule_queue *q =
		    LIST_ENTRY(link, struct schedule_queue, goal_link);
		if (queue_is_servable(q)) {
			site_probe_now(site);
			return;
		}
	}
}

/* ---- connections ---- */

void
schedule_connecting(struct schedule *s, struct schedule_site *site,
    struct schedule_connection *c)
{
	bool reserved = site->grant == GRANT_RESERVED;

	if (site->grant == GRANT_NONE)
		ledger_force(&site->share, false);
	site->grant = GRANT_NONE;
	site->is_urged = false;
	*c = (struct schedule_connection){ .site = site,
		.state = CONNECTION_OPENING,
		.is_reserved = reserved };
	list_init(&c->link);
	site->open[reserved]++;
	site->goal->connections++;
	site->goal->coming[reserved]++;
	site->opening++;
	s->connections++;
	site_update(site);
}

/* Out of what its state says of it, except being open. */
void
connection_leave_state(struct schedule_connection *c)
{
	struct schedule_site *site = c->site;

	list_remove(&c->link);
	if (c->state == CONNECTION_OPENING)
		site->opening--;
	if (c->state == CONNECTION_CLOSING)
		site->closing--;
	if (c->state == CONNECTION_OPENING || c->state == CONNECTION_WOKEN)
		site->goal->coming[c->is_reserved]--;
}

void
schedule_connected(
    struct schedule *s, struct schedule_connection *c, int64_t now_us)
{
	struct schedule_site *site = c->site;

	schedule_hear(s, now_us);
	BUG_UNLESS(c->state == CONNECTION_OPENING);
	/* Still coming: it is about to take. */
	site->opening--;
	c->state = CONNECTION_WOKEN;
	site->failures = 0;
	site_unpark(site);
	site_update(site);
}

void
schedule_closing(struct schedule *s, struct schedule_connection *c)
{
	struct schedule_site *site = c->site;

	BUG_UNLESS(site && site->s == s && c->state != CONNECTION_OPENING);
	connection_leave_state(c);
	c->state = CONNECTION_CLOSING;
	site->closing++;
	site_update(site);
}

void
schedule_site_pushback(
    struct schedule *s, struct schedule_site *site, bool halve)
{
	struct ledger_limits limits = site_limits(site);

	BUG_UNLESS(site->s == s);
	ledger_failure(&site->share, &limits, halve);
}

static void
site_failed_once(struct schedule_site *site)
{
	struct schedule *s = site->s;

	if (site->is_retired)
		return;
	if (site_usable(site)) {
		/* It works, but wants no more of us: 421, or a full table.
		 * Those that end in good order may be replaced. */
		site->spared_at = site_usable(site);
		heap_set(&s->timers, &site->timer,
		    s->now_us + jittered(s, s->policy.probe_first_us,
				    PROBE_JITTER_PERCENT));
		return;
	}
	site->failures++;
	if (site->is_parked ? site->is_probe_due
			    : site->failures >= s->policy.fail_limit)
		site_park(site);
}

void
schedule_disconnected(struct schedule *s, struct schedule_connection *c,
    bool failed, int64_t now_us)
{
	struct schedule_site *site = c->site;

	schedule_hear(s, now_us);
	BUG_UNLESS(site && site->open[c->is_reserved] > 0);
	connection_leave_state(c);
	site->open[c->is_reserved]--;
	site->goal->connections--;
	ledger_give(&site->share, c->is_reserved);
	s->connections--;
	if (failed)
		schedule_site_pushback(s, site, false);
	*c = (struct schedule_connection){ .site = NULL };
	list_init(&c->link);
	/* A probe that ended in whatever way is over. */
	if (failed || (site->is_parked && site->is_probe_due))
		site_failed_once(site);
	/* The time of the next probe came while this one was still open. */
	if (site->is_parked && site->timer.position == NONE)
		site_on_timer(site);
	site_update(site);
	site_free_if_unused(site);
}
