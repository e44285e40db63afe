/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

/*
 * Whole flows on a virtual clock: schedulers that share a ledger, and one site
 * that takes a time for each connection and each message, refuses connections
 * beyond what it bears, and defers. Millions of deliveries, no thread, no wait.
 */

#define SCHEDULERS 2
#define LIMIT 20
#define ACTORS 64
#define NOTHING SIZE_MAX

enum acting { FREE, OPENING, CARRYING, RESTING, LEAVING };

struct actor {
	struct schedule_connection connection;
	enum acting acting;
	unsigned scheduler;
	int64_t at_us; /* when what it does is done */
	struct schedule_queue *queue;
	struct schedule_delivery delivery;
};

struct flow {
	struct schedule_ledger *ledger;
	struct schedule *s[SCHEDULERS];
	struct actor actors[ACTORS];
	int64_t now_us;
	uint64_t random;
	unsigned open, most_open, held[SCHEDULERS];
	unsigned bears; /* connections; more are refused */
	int64_t connect_us, carry_us;
	unsigned defer_percent;
	uint64_t done, taken, asked, refused, deferred;
	uint64_t by_tenant[8];
	unsigned char *ends; /* by mno: how often it ended */
	int64_t *added_us; /* by mno: class 0's waits are taken from it */
	int64_t *waits;
	size_t wait_count;
	int64_t stop_us;
	uint64_t stop_done;
	uint32_t stop_tenant; /* 0: all */
};

static const struct schedule_policy policy = {
	.delay_us = { US_PER_MIN, 5 * US_PER_MIN },
	.delay_count = 2,
	.jitter_percent = 5,
	.site_connections = LIMIT,
	.site_share = LIMIT / SCHEDULERS,
	.reserved_connections = 2,
	.window_first = 5,
	.probe_first_us = 30 * US_PER_S,
	.probe_max_us = 30 * US_PER_MIN,
	.fail_limit = 3,
};

static uint32_t
roll(struct flow *f, uint32_t sides)
{
	f->random = hash_mix(f->random + 1);
	return (uint32_t)(f->random >> 32) % sides;
}

static void
flow_open(struct flow *f, const struct schedule_policy *p)
{
	*f = (struct flow){ .ledger = schedule_ledger_new(),
		.now_us = START_US,
		.bears = LIMIT,
		.connect_us = 20 * US_PER_MS,
		.carry_us = 10 * US_PER_MS,
		.stop_us = INT64_MAX,
		.stop_done = UINT64_MAX };
	for (unsigned i = 0; i < SCHEDULERS; i++) {
		f->s[i] = schedule_new(p, i);
		schedule_join(f->s[i], f->ledger, NULL, NULL);
	}
}

static void
flow_close(struct flow *f)
{
	for (unsigned i = 0; i < SCHEDULERS; i++)
		schedule_free(&f->s[i]);
	schedule_ledger_unref(&f->ledger);
	free(f->ends);
	free(f->added_us);
	free(f->waits);
}

static void
flow_ledger(struct flow *f, size_t count)
{
	f->ends = calloc(count, 1);
	f->added_us = calloc(count, sizeof(int64_t));
	f->waits = calloc(count, sizeof(int64_t));
	assert_true(f->ends && f->added_us && f->waits);
}

static void
flow_add(
    struct flow *f, unsigned scheduler, struct schedule_key key, uint64_t mno)
{
	if (f->added_us)
		f->added_us[mno] = f->now_us;
	add(f->s[scheduler], key, mno, f->now_us);
}

/* ---- what the site does ---- */

static void
carry(struct flow *f, struct actor *a)
{
	struct schedule *s = f->s[a->scheduler];

	a->acting = RESTING;
	a->at_us = INT64_MAX;
	if (!schedule_take(
		s, &a->connection, f->now_us, &a->queue, &a->delivery))
		return;
	struct schedule_key key = schedule_queue_key(a->queue);
	f->taken++;
	f->by_tenant[key.tenant]++;
	if (f->added_us && key.class == SCHEDULE_TRANSACTIONAL)
		f->waits[f->wait_count++] =
		    f->now_us - f->added_us[a->delivery.mno];
	a->acting = CARRYING;
	a->at_us = f->now_us + f->carry_us / 2 + roll(f, (uint32_t)f->carry_us);
}

static void
leave(struct flow *f, struct actor *a, bool failed)
{
	f->open--;
	f->held[a->scheduler]--;
	a->acting = FREE;
	a->at_us = INT64_MAX;
	schedule_disconnected(
	    f->s[a->scheduler], &a->connection, failed, f->now_us);
}

static void
finish(struct flow *f, struct actor *a)
{
	struct schedule *s = f->s[a->scheduler];

	if (roll(f, 100) < f->defer_percent) {
		f->deferred++;
		(void)schedule_defer(
		    s, a->queue, &a->delivery, true, 0, f->now_us);
	} else {
		f->done++;
		if (f->ends)
			assert_int_equal(++f->ends[a->delivery.mno], 1);
		schedule_done(s, a->queue, a->delivery.rcpt_count);
	}
	carry(f, a);
}

static void
actor_turn(struct flow *f, struct actor *a)
{
	switch (a->acting) {
	case OPENING:
		if (f->open > f->bears) {
			f->refused++;
			leave(f, a, true);
			return;
		}
		schedule_connected(
		    f->s[a->scheduler], &a->connection, f->now_us);
		carry(f, a);
		return;
	case CARRYING:
		finish(f, a);
		return;
	case LEAVING:
		leave(f, a, false);
		return;
	case FREE:
	case RESTING:
		break;
	}
	fail_msg("nothing is due");
}

/* ---- the driver ---- */

static void
connect_to(struct flow *f, unsigned scheduler, struct schedule_site *site)
{
	struct actor *a = f->actors;

	while (a->acting != FREE)
		assert_true(++a < f->actors + ACTORS);
	a->acting = OPENING;
	a->scheduler = scheduler;
	a->at_us = f->now_us + f->connect_us;
	schedule_connecting(f->s[scheduler], site, &a->connection);
	f->held[scheduler]++;
	if (++f->open > f->most_open)
		f->most_open = f->open;
	assert_true(f->open <= LIMIT);
}

static bool
pump(struct flow *f, unsigned scheduler)
{
	struct schedule *s = f->s[scheduler];
	struct schedule_want want;
	struct actor *a;

	f->asked++;
	switch (schedule_next_want(s, f->now_us, &want)) {
	case SCHEDULE_IDLE:
		return false;
	case SCHEDULE_RESOLVE:
		(void)schedule_set_site(s, want.queue, SPAN("mx big"),
		    f->now_us + 100 * US_PER_DAY);
		return true;
	case SCHEDULE_CONNECT:
		connect_to(f, scheduler, want.site);
		return true;
	case SCHEDULE_WAKE:
		carry(f, LIST_ENTRY(want.connection, struct actor, connection));
		return true;
	case SCHEDULE_CLOSE:
		a = LIST_ENTRY(want.connection, struct actor, connection);
		assert_int_equal(a->acting, RESTING);
		schedule_closing(s, &a->connection);
		a->acting = LEAVING;
		a->at_us = f->now_us + US_PER_MS;
		return true;
	case SCHEDULE_WARN:
	case SCHEDULE_EXPIRE:
		break;
	}
	fail_msg("nothing is so old");
	return false;
}

static struct actor *
next_actor(struct flow *f)
{
	struct actor *first = f->actors;

	for (struct actor *a = f->actors; a < f->actors + ACTORS; a++)
		if (a->acting != FREE &&
		    (first->acting == FREE || a->at_us < first->at_us))
			first = a;
	return first->acting == FREE || first->acting == RESTING ? NULL : first;
}

static bool
is_over(const struct flow *f)
{
	uint64_t done = f->stop_tenant ? f->by_tenant[f->stop_tenant] : f->done;

	return done >= f->stop_done || f->now_us >= f->stop_us;
}

/* Until the stop, or nothing will ever happen any more. */
static void
flow_run(struct flow *f)
{
	while (!is_over(f)) {
		bool any = false;
		for (unsigned i = 0; i < SCHEDULERS; i++)
			any |= pump(f, i);
		if (any)
			continue;
		struct actor *a = next_actor(f);
		int64_t at_us = a ? a->at_us : INT64_MAX;
		for (unsigned i = 0; i < SCHEDULERS; i++) {
			int64_t next_us = schedule_next_time(f->s[i]);
			if (next_us < at_us)
				at_us = next_us;
		}
		if (at_us >= f->stop_us || at_us == INT64_MAX) {
			f->now_us = f->stop_us;
			return;
		}
		if (at_us > f->now_us)
			f->now_us = at_us;
		if (a && a->at_us <= f->now_us)
			actor_turn(f, a);
	}
}

/* ---- fairness ---- */

static int64_t
small_tenant_takes(uint32_t flood)
{
	struct flow f;

	flow_open(&f, &policy);
	for (uint32_t i = 0; i < flood; i++)
		flow_add(&f, 0, key_of(1, SCHEDULE_BULK, "a.example"), i + 1);
	/* The site is known and warm in both cases. */
	for (uint32_t i = 0; i < 2000; i++)
		flow_add(&f, 0, key_of(3, SCHEDULE_BULK, "a.example"),
		    flood + i + 1);
	f.stop_tenant = 3;
	f.stop_done = 2000;
	flow_run(&f);
	int64_t began_us = f.now_us;
	for (uint32_t i = 0; i < 100; i++)
		flow_add(&f, 0, key_of(2, SCHEDULE_BULK, "b.example"),
		    flood + 2000 + i + 1);
	f.stop_tenant = 2;
	f.stop_done = 100;
	flow_run(&f);
	int64_t took_us = f.now_us - began_us;
	flow_close(&f);
	return took_us;
}

/* 100 messages beside a million of another tenant: hardly longer than alone. */
static void
small_beside_large(void **state)
{
	int64_t alone_us = small_tenant_takes(0);
	int64_t beside_us = small_tenant_takes(1000000);
	(void)state;

	print_message("100 messages: alone %lld ms, beside 1,000,000 %lld ms\n",
	    (long long)alone_us / 1000, (long long)beside_us / 1000);
	assert_true(beside_us * 10 <= alone_us * 13);
}

/* Over time a head start is no larger part. */
static void
equals_share_equally(void **state)
{
	struct flow f;
	(void)state;

	flow_open(&f, &policy);
	for (uint32_t i = 0; i < 200000; i++)
		flow_add(&f, i % 2,
		    key_of(1 + i % 4, SCHEDULE_BULK,
			i % 2 ? "a.example" : "b.example"),
		    i + 1);
	f.stop_done = 100000;
	flow_run(&f);
	for (unsigned t = 1; t <= 4; t++)
		assert_in_range(f.by_tenant[t], 22500, 27500);
	flow_close(&f);
}

static int
compare_waits(const void *a, const void *b)
{
	const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* Password resets while a million newsletters flow: none waits for more than
 * one message. */
static void
transactional_beside_bulk(void **state)
{
	enum { FLOOD = 1000000, RESETS = 2000 };

	struct flow f;
	(void)state;

	flow_open(&f, &policy);
	flow_ledger(&f, FLOOD + RESETS + 1);
	for (uint64_t i = 1; i <= FLOOD; i++)
		flow_add(&f, 0, key_of(1, SCHEDULE_BULK, "a.example"), i);
	f.stop_us = f.now_us + US_PER_S;
	flow_run(&f);
	for (uint64_t i = 1; i <= RESETS; i++) {
		flow_add(&f, 0, key_of(2, SCHEDULE_TRANSACTIONAL, "a.example"),
		    FLOOD + i);
		f.stop_us = f.now_us + roll(&f, 20 * US_PER_MS);
		flow_run(&f);
	}
	assert_true(f.wait_count >= RESETS - 10);
	qsort(f.waits, f.wait_count, sizeof *f.waits, compare_waits);
	int64_t p99 = f.waits[f.wait_count * 99 / 100];
	print_message("transactional beside bulk: p50 %lld us, p99 %lld us, "
		      "most %lld us; a message takes 10 ms\n",
	    (long long)f.waits[f.wait_count / 2], (long long)p99,
	    (long long)f.waits[f.wait_count - 1]);
	assert_true(p99 <= 10 * US_PER_MS);
	assert_true(f.waits[f.wait_count - 1] <= 30 * US_PER_MS);
	flow_close(&f);
}

static void
three_new_for_one_retry(void **state)
{
	enum { EACH = 100000 };

	struct flow f;
	(void)state;

	flow_open(&f, &policy);
	f.defer_percent = 100;
	for (uint64_t i = 1; i <= EACH; i++)
		flow_add(&f, 0, key_of(1, SCHEDULE_BULK, "a.example"), i);
	f.stop_us = f.now_us + 25 * US_PER_S;
	flow_run(&f);
	/* What was tried is due again, and there is new mail. */
	struct schedule_selector all = { .tenant = 0 };
	(void)schedule_retry(f.s[0], &all, f.now_us);
	struct schedule_stats stats;
	schedule_stats(f.s[0], &stats);
	assert_true(stats.deliveries >= EACH - LIMIT);
	uint64_t fresh = 0, retries = 0;
	f.defer_percent = 0;
	for (unsigned i = 0; i < 40000; i++) {
		struct actor *a = next_actor(&f);
		assert_non_null(a);
		f.now_us = a->at_us;
		actor_turn(&f, a);
		if (a->acting != CARRYING)
			continue;
		fresh += a->delivery.attempts == 0;
		retries += a->delivery.attempts > 0;
	}
	assert_in_range(fresh, 29900, 30100);
	assert_in_range(retries, 9900, 10100);
	flow_close(&f);
}

/* ---- limits ---- */

/* One busy domain may have all connections, though its scheduler's part is half
 * of them; when the other's mail comes it has its half within moments. */
static void
one_domain_has_the_whole_limit(void **state)
{
	struct flow f;
	(void)state;

	flow_open(&f, &policy);
	for (uint32_t i = 0; i < 200000; i++)
		flow_add(&f, 0, key_of(1, SCHEDULE_BULK, "a.example"), i + 1);
	f.stop_us = f.now_us + 5 * US_PER_S;
	flow_run(&f);
	assert_int_equal(f.held[0], LIMIT - policy.reserved_connections);
	for (uint32_t i = 0; i < 200000; i++)
		flow_add(&f, 1, key_of(1, SCHEDULE_BULK, "b.example"),
		    200000 + i + 1);
	f.stop_us = f.now_us + 2 * US_PER_S;
	flow_run(&f);
	assert_in_range(f.held[1], 8, 10);
	assert_int_equal(
	    f.held[0] + f.held[1], LIMIT - policy.reserved_connections);
	assert_true(f.most_open <= LIMIT);
	flow_close(&f);
}

/* The site bears fewer than we would open: we come to know it, and hardly knock
 * in vain. */
static void
window_finds_what_a_site_bears(void **state)
{
	struct flow f;
	(void)state;

	flow_open(&f, &policy);
	f.bears = 7;
	for (uint32_t i = 0; i < 300000; i++)
		flow_add(&f, 0, key_of(1, SCHEDULE_BULK, "a.example"), i + 1);
	f.stop_us = f.now_us + 5 * US_PER_MIN;
	flow_run(&f);
	print_message("a site that bears 7: %llu delivered in 5 min, %llu "
		      "refused connections\n",
	    (unsigned long long)f.done, (unsigned long long)f.refused);
	/* Of 7 connections' 210,000. */
	assert_true(f.done >= 180000);
	assert_true(f.refused <= 30);
	flow_close(&f);
}

/* ---- conservation ---- */

static void
on_reaped(struct flow *f, unsigned scheduler)
{
	struct schedule_queue *q;
	struct schedule_delivery d;
	void *tag;

	for (unsigned i = 0; i < 100; i++) {
		if (!schedule_reap_next(f->s[scheduler], &q, &d, &tag))
			return;
		assert_int_equal(++f->ends[d.mno], 1);
		f->done++;
	}
}

static void
meddle(struct flow *f, uint64_t added)
{
	static const char *const domains[] = { "a.example", "b.example",
		"c.example", "*" };
	const char *domain = domains[roll(f, 4)];
	const struct schedule_selector sel = { .tenant = roll(f, 5),
		.domain = span_of(domain) };

	for (unsigned i = 0; i < SCHEDULERS; i++) {
		switch (roll(f, 6)) {
		case 0:
			(void)schedule_hold(f->s[i], &sel, SPAN("why"));
			break;
		case 1:
			(void)schedule_reap(f->s[i], &sel, added / 2, NULL);
			break;
		case 2:
			(void)schedule_move(f->s[i], &sel, added,
			    1 + roll(f, 3), roll(f, 2) * 2, f->now_us);
			break;
		case 3:
			(void)schedule_retry(f->s[i], &sel, f->now_us);
			break;
		default:
			(void)schedule_release(f->s[i],
			    &(struct schedule_selector){ .tenant = 0 },
			    f->now_us);
		}
		on_reaped(f, i);
	}
}

/* A million deliveries, deferred, held, moved, ended, refused: each ends once,
 * and the site never sees one connection too many. */
static void
each_ends_exactly_once(void **state)
{
	enum { COUNT = 1000000, PORTION = 5000 };

	static const char *const domains[] = { "a.example", "b.example",
		"c.example" };
	struct schedule_policy p = policy;
	struct flow f;
	(void)state;

	p.delay_us[0] = 2 * US_PER_S;
	p.delay_us[1] = 10 * US_PER_S;
	p.tenant_message_rate =
	    (struct schedule_rate){ .interval_ns = 200000, .burst = 100 };
	flow_open(&f, &p);
	flow_ledger(&f, 2 * COUNT);
	f.carry_us = US_PER_MS;
	f.defer_percent = 5;
	f.bears = 18;
	for (uint64_t added = 0; added < COUNT;) {
		for (unsigned i = 0; i < PORTION; i++) {
			uint32_t d = roll(&f, 3);
			struct schedule_key key = key_of(1 + roll(&f, 4),
			    (enum schedule_class)roll(&f, 3), domains[d]);
			key.stream = 1 + roll(&f, 2);
			flow_add(&f, d % SCHEDULERS, key, ++added);
		}
		f.wait_count = 0;
		f.stop_us = f.now_us + 400 * US_PER_MS;
		flow_run(&f);
		if (roll(&f, 3) == 0)
			meddle(&f, added);
	}
	for (unsigned i = 0; i < SCHEDULERS; i++)
		(void)schedule_release(f.s[i],
		    &(struct schedule_selector){ .tenant = 0 }, f.now_us);
	f.stop_us = INT64_MAX;
	f.stop_done = COUNT;
	struct schedule_stats stats[SCHEDULERS];
	do {
		f.wait_count = 0;
		for (unsigned i = 0; i < SCHEDULERS; i++)
			on_reaped(&f, i);
		f.stop_us = f.now_us + US_PER_S;
		flow_run(&f);
	} while (f.done < COUNT);
	for (uint64_t mno = 1; mno <= COUNT; mno++)
		assert_int_equal(f.ends[mno], 1);
	for (unsigned i = 0; i < SCHEDULERS; i++) {
		schedule_stats(f.s[i], &stats[i]);
		assert_int_equal(stats[i].deliveries + stats[i].reaped, 0);
		assert_int_equal(stats[i].recipients, 0);
	}
	flow_close(&f);
}

/* ---- cost ---- */

/* Asking per message delivered: the same whatever waits. */
static void
costs_the_same_at_any_depth(void **state)
{
	uint64_t asked[2];
	(void)state;

	for (unsigned i = 0; i < 2; i++) {
		struct flow f;
		flow_open(&f, &policy);
		uint32_t depth = i ? 1000000 : 6000;
		for (uint32_t n = 0; n < depth; n++)
			flow_add(&f, 0, key_of(1, SCHEDULE_BULK, "a.example"),
			    n + 1);
		f.stop_done = 1000;
		flow_run(&f);
		f.asked = 0;
		f.stop_done = 5000;
		flow_run(&f);
		asked[i] = f.asked;
		struct schedule_stats stats;
		schedule_stats(f.s[0], &stats);
		if (i)
			print_message("memory: %.1f octets a delivery\n",
			    (double)stats.bytes / (double)stats.deliveries);
		flow_close(&f);
	}
	assert_true(asked[1] <= asked[0] + asked[0] / 50 + 10);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_beside_large),
		cmocka_unit_test(equals_share_equally),
		cmocka_unit_test(transactional_beside_bulk),
		cmocka_unit_test(three_new_for_one_retry),
		cmocka_unit_test(one_domain_has_the_whole_limit),
		cmocka_unit_test(window_finds_what_a_site_bears),
		cmocka_unit_test(each_ends_exactly_once),
		cmocka_unit_test(costs_the_same_at_any_depth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
