/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

/* A whole life on a virtual clock: a driver with look-ups, connections and
 * sites that die and come back, operators who meddle, and a ledger in which
 * every message must end exactly once. */

enum { DOMAINS = 40, SITES = 12, ACTORS = 80, LIMIT = 60 };

enum fate { ABSENT, WAITING, TAKEN, ENDED };

struct entry {
	enum fate fate;
	uint8_t attempts;
	uint16_t domain;
	bool is_warned;
	int64_t due_us, warn_us, expire_us, queued_us;
};

enum acting { FREE, LOOKING, OPENING, WORKING, RESTING };

struct actor {
	enum acting acting;
	int64_t at_us;
	struct schedule_connection connection;
	struct schedule_queue *queue;
	struct schedule_delivery delivery;
	unsigned site;
};

struct world {
	struct schedule *s;
	struct schedule_policy policy;
	uint64_t random;
	int64_t now_us;
	struct entry *ledger;
	uint64_t added, ended, limit;
	struct actor actors[ACTORS];
	bool is_dead[SITES], is_held[DOMAINS];
	unsigned forced[DOMAINS]; /* so many may go early */
	bool is_calm; /* the end: all sites work, nobody meddles */
	uint64_t deferrals;
	unsigned connections;
};

static uint32_t
roll(struct world *w, uint32_t sides)
{
	w->random = hash_mix(w->random + 0x9e3779b97f4a7c15);
	return (uint32_t)(w->random >> 32) % sides;
}

static struct schedule_selector
domain_selector(unsigned domain, char text[static 32])
{
	(void)snprintf(text, 32, "d%u.example", domain);
	return (struct schedule_selector){ .domain = span_of(text) };
}

static unsigned
domain_number(struct span domain)
{
	return (unsigned)strtoul(domain.ptr + 1, NULL, 10);
}

static struct entry *
entry_of(struct world *w, const struct schedule_delivery *d)
{
	assert_in_range(d->mno, 1, w->limit);
	return &w->ledger[d->mno];
}

static void
world_add(struct world *w)
{
	char text[32];
	unsigned domain = roll(w, DOMAINS);
	struct schedule_selector sel = domain_selector(domain, text);
	struct schedule_key key = { 1 + roll(w, 5), 1,
		(enum schedule_class)roll(w, SCHEDULE_CLASSES), sel.domain };
	uint64_t mno = ++w->added;
	struct entry *e = &w->ledger[mno];
	bool is_recovered = roll(w, 4) == 0;

	*e = (struct entry){ .fate = WAITING,
		.attempts = (uint8_t)(is_recovered ? roll(w, 12) : 0),
		.domain = (uint16_t)domain,
		.due_us = w->now_us,
		.warn_us = w->now_us + roll(w, 8) * US_PER_HOUR,
		.expire_us = w->now_us + (1 + roll(w, 40)) * US_PER_HOUR,
		.queued_us = w->now_us };
	if (is_recovered)
		e->due_us += (int64_t)roll(w, 7200) * US_PER_S - US_PER_HOUR;
	schedule_add(w->s, &key,
	    &(struct schedule_delivery){ .mno = mno,
		.rcpt_count = 1 + (uint32_t)(mno % 3),
		.attempts = e->attempts,
		.due_us = e->due_us,
		.warn_us = e->warn_us,
		.expire_us = e->expire_us },
	    w->now_us);
}

static void
ledger_deferred(struct world *w, const struct schedule_delivery *d, bool counts,
    bool is_lookup)
{
	struct entry *e = entry_of(w, d);
	unsigned last = w->policy.delay_count - 1;

	assert_int_equal(d->attempts, e->attempts + counts);
	e->attempts = d->attempts;
	unsigned level = e->attempts ? e->attempts - 1U : 0;
	level = level < last ? level : last;
	int64_t wait_us = d->due_us - w->now_us;
	assert_true(wait_us >= w->policy.delay_us[level] / 100 * 95);
	assert_true(wait_us <= w->policy.delay_us[last] / 100 * 105 + TICK_US);
	if (!is_lookup)
		assert_true(
		    wait_us <= w->policy.delay_us[level] / 100 * 105 + TICK_US);
	e->due_us = d->due_us;
	e->queued_us = w->now_us;
	e->fate = WAITING;
	w->deferrals++;
}

static void
ledger_end(struct world *w, const struct schedule_delivery *d, enum fate from)
{
	struct entry *e = entry_of(w, d);

	assert_int_equal(e->fate, from);
	assert_int_equal(d->rcpt_count, 1 + d->mno % 3);
	e->fate = ENDED;
	w->ended++;
}

static void
on_lookup_deferred(
    void *arg, struct schedule_queue *queue, const struct schedule_delivery *d)
{
	(void)queue;
	assert_int_equal(entry_of(arg, d)->fate, WAITING);
	ledger_deferred(arg, d, true, true);
}

static void
on_site_deferred(
    void *arg, struct schedule_queue *queue, const struct schedule_delivery *d)
{
	(void)queue;
	assert_int_equal(entry_of(arg, d)->fate, WAITING);
	ledger_deferred(arg, d, false, false);
}

static void
on_removed(
    void *arg, struct schedule_queue *queue, const struct schedule_delivery *d)
{
	(void)queue;
	ledger_end(arg, d, WAITING);
}

static struct actor *
actor_free(struct world *w)
{
	for (unsigned i = 0; i < ACTORS; i++)
		if (w->actors[i].acting == FREE)
			return &w->actors[i];
	fail();
	return NULL;
}

static void
actor_take(struct world *w, struct actor *a)
{
	if (!schedule_take(
		w->s, &a->connection, w->now_us, &a->queue, &a->delivery)) {
		a->acting = RESTING;
		a->at_us = w->now_us + 10 * US_PER_S;
		return;
	}
	struct entry *e = entry_of(w, &a->delivery);
	unsigned domain = domain_number(schedule_queue_key(a->queue).domain);
	assert_int_equal(e->fate, WAITING);
	assert_int_equal(e->domain, domain);
	assert_int_equal(e->attempts, a->delivery.attempts);
	if (e->due_us > w->now_us)
		assert_true(w->forced[domain]-- > 0);
	assert_false(w->is_held[domain]);
	e->fate = TAKEN;
	a->acting = WORKING;
	a->at_us = w->now_us + (1 + roll(w, 500)) * US_PER_MS;
}

static void
actor_leave(struct world *w, struct actor *a, bool failed)
{
	if (failed)
		(void)schedule_site_failed(
		    w->s, a->connection.site, w->now_us, on_site_deferred, w);
	schedule_disconnected(w->s, &a->connection, failed, w->now_us);
	a->acting = FREE;
	w->connections--;
}

static void
actor_finish(struct world *w, struct actor *a)
{
	unsigned luck = w->is_calm ? 0 : roll(w, 20);
	struct entry *e = entry_of(w, &a->delivery);

	assert_int_equal(e->fate, TAKEN);
	if (luck < 14) {
		ledger_end(w, &a->delivery, TAKEN);
		schedule_done(w->s, a->queue, a->delivery.rcpt_count);
	} else if (luck < 19) {
		struct schedule_delivery d = schedule_defer(
		    w->s, a->queue, &a->delivery, luck < 17, 0, w->now_us);
		ledger_deferred(w, &d, luck < 17, false);
	} else {
		schedule_return(w->s, a->queue, &a->delivery, w->now_us);
		e->fate = WAITING;
		e->queued_us = w->now_us;
		e->due_us = w->now_us;
		actor_leave(w, a, false);
		return;
	}
	actor_take(w, a);
}

static void
actor_answer_lookup(struct world *w, struct actor *a)
{
	unsigned domain = domain_number(schedule_queue_key(a->queue).domain);
	char name[32];

	a->acting = FREE;
	if (!w->is_calm && roll(w, 10) == 0) {
		schedule_resolve_failed(
		    w->s, a->queue, false, w->now_us, on_lookup_deferred, w);
		return;
	}
	(void)snprintf(name, sizeof name, "%u", domain % SITES);
	(void)schedule_set_site(w->s, a->queue, span_of(name),
	    w->now_us + roll(w, 3600) * US_PER_S);
}

static void
actor_act(struct world *w, struct actor *a)
{
	switch (a->acting) {
	case LOOKING:
		actor_answer_lookup(w, a);
		break;
	case OPENING:
		if (w->is_dead[a->site]) {
			actor_leave(w, a, true);
			break;
		}
		schedule_connected(w->s, &a->connection, w->now_us);
		actor_take(w, a);
		break;
	case WORKING:
		actor_finish(w, a);
		break;
	case RESTING:
		actor_leave(w, a, false);
		break;
	case FREE:
		break;
	}
}

static void
world_report(struct world *w, const struct schedule_want *want)
{
	struct entry *e = entry_of(w, &want->delivery);
	bool is_end = want->type == SCHEDULE_EXPIRE;
	int64_t time_us = is_end ? e->expire_us : e->warn_us;
	int64_t since_us = time_us > e->queued_us ? time_us : e->queued_us;

	assert_int_equal(e->fate, WAITING);
	assert_true(time_us <= w->now_us);
	assert_true(w->now_us <= since_us + 2 * TICK_US);
	if (is_end) {
		ledger_end(w, &want->delivery, WAITING);
		return;
	}
	assert_false(e->is_warned);
	e->is_warned = true;
}

static void
world_serve(struct world *w)
{
	struct schedule_want want;

	while (schedule_next_time(w->s) <= w->now_us) {
		struct actor *a;
		switch (schedule_next_want(w->s, w->now_us, &want)) {
		case SCHEDULE_IDLE:
			break;
		case SCHEDULE_RESOLVE:
			a = actor_free(w);
			a->acting = LOOKING;
			a->queue = want.queue;
			a->at_us = w->now_us + roll(w, 2000) * US_PER_MS;
			break;
		case SCHEDULE_CONNECT:
			a = actor_free(w);
			a->acting = OPENING;
			a->site = (unsigned)strtoul(
			    schedule_site_name(want.site).ptr, NULL, 10);
			a->at_us = w->now_us + roll(w, 3000) * US_PER_MS;
			schedule_connecting(w->s, want.site, &a->connection);
			assert_true(++w->connections <= LIMIT);
			break;
		case SCHEDULE_WAKE:
			a = LIST_ENTRY(
			    want.connection, struct actor, connection);
			assert_int_equal(a->acting, RESTING);
			actor_take(w, a);
			break;
		case SCHEDULE_CLOSE:
			fail_msg("there is nobody else");
			break;
		case SCHEDULE_WARN:
		case SCHEDULE_EXPIRE:
			world_report(w, &want);
			break;
		}
	}
}

static void
ledger_force(struct world *w, unsigned domain)
{
	for (uint64_t mno = 1; mno <= w->added; mno++)
		if (w->ledger[mno].domain == domain &&
		    w->ledger[mno].fate == WAITING)
			w->forced[domain]++;
}

static void
world_meddle(struct world *w)
{
	char text[32];
	unsigned domain = roll(w, DOMAINS);
	struct schedule_selector sel = domain_selector(domain, text);

	switch (roll(w, 8)) {
	case 0:
		(void)schedule_hold(w->s, &sel, SPAN("test"));
		w->is_held[domain] = true;
		break;
	case 1:
	case 2:
		(void)schedule_release(w->s, &sel, w->now_us);
		w->is_held[domain] = false;
		break;
	case 3:
		ledger_force(w, domain);
		(void)schedule_retry(w->s, &sel, w->now_us);
		break;
	case 4:
		if (roll(w, 10) == 0)
			(void)reap_all(w->s, &sel, on_removed, w);
		break;
	case 5:
		(void)schedule_remove_message(
		    w->s, 1 + roll(w, (uint32_t)w->limit), on_removed, w);
		break;
	default:
		w->is_dead[roll(w, SITES)] ^= true;
		break;
	}
}

static int64_t
world_next_time(struct world *w)
{
	int64_t at_us = schedule_next_time(w->s);

	for (unsigned i = 0; i < ACTORS; i++)
		if (w->actors[i].acting != FREE && w->actors[i].at_us < at_us)
			at_us = w->actors[i].at_us;
	return at_us;
}

static void
world_calm(struct world *w)
{
	static const struct schedule_selector all = { 0 };

	w->is_calm = true;
	memset(w->is_dead, 0, sizeof w->is_dead);
	memset(w->is_held, 0, sizeof w->is_held);
	(void)schedule_release(w->s, &all, w->now_us);
}

static void
world_run(struct world *w)
{
	while (w->ended < w->limit) {
		if (w->added < w->limit && roll(w, 20) == 0)
			for (unsigned n = roll(w, 90); n; n--)
				if (w->added < w->limit)
					world_add(w);
		if (!w->is_calm && w->now_us > START_US + 30 * US_PER_HOUR)
			world_calm(w);
		if (!w->is_calm && roll(w, 20) == 0)
			world_meddle(w);
		world_serve(w);
		int64_t next_us = world_next_time(w);
		if (next_us == TIME_NEVER) {
			assert_true(w->added < w->limit);
			continue;
		}
		if (next_us > w->now_us)
			w->now_us = next_us;
		for (unsigned i = 0; i < ACTORS; i++)
			if (w->actors[i].at_us <= w->now_us)
				actor_act(w, &w->actors[i]);
	}
}

static void
everything_ends_once(void **state)
{
	(void)state;

	for (uint64_t seed = 1; seed <= 12; seed++) {
		struct world *w = calloc(1, sizeof *w);
		assert_non_null(w);
		w->policy = (struct schedule_policy)POLICY;
		w->policy.connections = LIMIT;
		w->policy.lookups = ACTORS - LIMIT;
		w->policy.reserved_connections = 1;
		w->s = schedule_new(&w->policy, seed);
		w->random = seed;
		w->now_us = START_US;
		w->limit = 3000;
		w->ledger = calloc(w->limit + 1, sizeof *w->ledger);
		assert_non_null(w->ledger);
		world_run(w);
		assert_true(w->deferrals > 100);
		struct schedule_stats stats;
		schedule_stats(w->s, &stats);
		assert_int_equal(stats.deliveries, 0);
		assert_int_equal(stats.recipients, 0);
		/* Idle connections leave, empty queues and sites follow. */
		for (unsigned i = 0; i < ACTORS; i++)
			if (w->actors[i].acting > LOOKING)
				actor_leave(w, &w->actors[i], false);
		w->now_us += US_PER_HOUR;
		world_serve(w);
		schedule_stats(w->s, &stats);
		assert_int_equal(stats.queues, 0);
		assert_int_equal(stats.sites, 0);
		assert_int_equal(stats.connections, 0);
		schedule_free(&w->s);
		free(w->ledger);
		free(w);
	}
}

/* The cost of a delivery does not grow with the backlog: this would take
 * minutes if it did. */
static void
half_a_million_go_through(void **state)
{
	enum { COUNT = 500000 };
	struct schedule_policy policy = POLICY;
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c;
	struct schedule_stats stats;
	struct schedule_queue *q;
	struct schedule_delivery d;
	(void)state;

	struct schedule_want want;
	int64_t now_us = START_US;
	for (uint64_t i = 1; i <= COUNT; i++)
		add(s, key_of(1, SCHEDULE_BULK, "a.example"), i, START_US);
	schedule_stats(s, &stats);
	assert_true(stats.bytes / COUNT <= 50);
	connect_one(s, &c, now_us);
	for (unsigned i = 0; i < COUNT; i++) {
		assert_true(take(s, &c, now_us, &q, &d));
		(void)schedule_defer(s, q, &d, true, 0, now_us);
	}
	assert_false(take(s, &c, now_us, &q, &d));
	for (unsigned done = 0; done < COUNT;) {
		now_us = schedule_next_time(s);
		while (schedule_next_time(s) <= now_us)
			if (schedule_next_want(s, now_us, &want) ==
			    SCHEDULE_WAKE)
				while (deliver(s, &c, now_us))
					done++;
	}
	assert_true(now_us < START_US + 2 * US_PER_MIN);
	schedule_disconnected(s, &c, false, now_us);
	schedule_free(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_ends_once),
		cmocka_unit_test(half_a_million_go_through),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
