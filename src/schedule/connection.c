/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "schedule/internal.h"

/* A site that is new, or was failing, is opened gently: so many connections at
 * once beyond those that have proved usable. */
#define OPENING_AHEAD 2
#define PROBE_JITTER_PERCENT 20

/* ---- wishes ---- */

uint32_t
site_usable(const struct schedule_site *site)
{
	return site->open[0] + site->open[1] - site->opening - site->closing;
}

bool
site_wants_connection(const struct schedule_site *site, bool *ret_reserved)
{
	const struct schedule_policy *policy = &site->s->policy;
	uint32_t limit = policy->site_connections;
	uint32_t reserved = policy->reserved_connections;
	uint64_t urgent =
	    site->ready[SCHEDULE_TRANSACTIONAL] + site->ready[SCHEDULE_REPORT];
	uint64_t coming = (uint64_t)site->coming[0] + site->coming[1];

	*ret_reserved = false;
	if (site->is_parked)
		return site->is_probe_due && !site->open[0] && !site->open[1];
	if (site->spared_at && site->open[0] + site->open[1] >= site->spared_at)
		return false;
	if (site->opening >= site_usable(site) + OPENING_AHEAD)
		return false;
	if (reserved >= limit)
		reserved = limit - 1;
	if (site->open[0] < limit - reserved)
		return urgent + site->ready[SCHEDULE_BULK] > coming;
	*ret_reserved = true;
	return site->open[1] < reserved && urgent > coming;
}

struct schedule_connection *
site_wakeable(const struct schedule_site *site)
{
	uint64_t urgent =
	    site->ready[SCHEDULE_TRANSACTIONAL] + site->ready[SCHEDULE_REPORT];
	uint64_t coming = (uint64_t)site->coming[0] + site->coming[1];

	/* The latest to fall idle: the others may time out in peace. */
	if (!list_is_empty(&site->idle[0]) &&
	    urgent + site->ready[SCHEDULE_BULK] > coming)
		return LIST_ENTRY(
		    site->idle[0].prev, struct schedule_connection, link);
	if (!list_is_empty(&site->idle[1]) && urgent > coming)
		return LIST_ENTRY(
		    site->idle[1].prev, struct schedule_connection, link);
	return NULL;
}

void
site_update(struct schedule_site *site)
{
	struct schedule *s = site->s;
	bool reserved;
	struct list *line = NULL;

	if (site_wakeable(site))
		line = &s->to_wake;
	else if (site_wants_connection(site, &reserved))
		line = &s->to_connect;
	if (line == site->line)
		return; /* keeps its turn */
	list_remove(&site->want_link);
	site->line = line;
	if (line)
		list_append(line, &site->want_link);
}

/* ---- parking ---- */

static void
site_relink(struct schedule_site *site)
{
	LIST_FOR_EACH(link, &site->queues)
		queue_update(
		    LIST_ENTRY(link, struct schedule_queue, site_link));
	site_update(site);
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
	site_relink(site);
}

void
site_unpark(struct schedule_site *site)
{
	if (!site->is_parked)
		return;
	site->is_parked = site->is_probe_due = false;
	site->probes = 0;
	site->s->sites_parked--;
	heap_remove(&site->s->timers, &site->timer);
	site_relink(site);
}

void
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
site_probe_if_due(struct schedule_site *site)
{
	if (site->timer.position == NONE)
		site_probe_now(site);
}

void
site_on_timer(struct schedule_site *site)
{
	site->spared_at = 0;
	if (!site->is_parked) {
		site_update(site);
		return;
	}
	LIST_FOR_EACH(link, &site->queues) {
		struct schedule_queue *q =
		    LIST_ENTRY(link, struct schedule_queue, site_link);
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
	bool reserved;

	/* When the wish has passed meanwhile, any kind will do. */
	(void)site_wants_connection(site, &reserved);
	*c = (struct schedule_connection){ .site = site,
		.state = CONNECTION_OPENING,
		.is_reserved = reserved };
	list_init(&c->link);
	site->open[reserved]++;
	site->coming[reserved]++;
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
		site->coming[c->is_reserved]--;
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

static void
site_failed_once(struct schedule_site *site)
{
	struct schedule *s = site->s;

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
	s->connections--;
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
