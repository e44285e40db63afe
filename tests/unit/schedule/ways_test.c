/* SPDX-License-Identifier: Apache-2.0 */

/* Several ways to one place: turns by weight, and each way's own failures. */

#include "fixture.h"

#define CONNECTIONS 64

struct rig {
	struct schedule *s;
	struct schedule_connection c[CONNECTIONS];
	size_t open;
	uint64_t mno;
	int64_t now_us;
	struct schedule_way ways[3];
	size_t way_count;
	unsigned taken[3]; /* by way */
};

static struct schedule_way
way_of(const char *source, const char *ledger, uint32_t weight)
{
	return (struct schedule_way){ .source = span_of(source),
		.ledger = span_of(ledger),
		.weight = weight,
		.limits = { .connections = 4 } };
}

static void
start(struct rig *r, size_t way_count)
{
	const struct schedule_policy policy = POLICY;

	*r = (struct rig){ .now_us = START_US, .way_count = way_count };
	r->ways[0] = way_of("a", "mx\na", 3);
	r->ways[1] = way_of("b", "mx\nb", 1);
	r->ways[2] = way_of("c", "mx\nc", 1);
	r->s = schedule_new(&policy, 1);
}

static void
add_mail(struct rig *r, unsigned count)
{
	while (count--)
		add(r->s, key_of(1, SCHEDULE_BULK, "example.com"), ++r->mno,
		    r->now_us);
}

static unsigned
index_of(const struct schedule_connection *c)
{
	return (unsigned)(schedule_site_source(c->site).ptr[0] - 'a');
}

static void
set_place(struct rig *r, struct schedule_queue *q)
{
	struct schedule_place place = { .name = SPAN("mx"),
		.pool = SPAN("pool"),
		.ways = r->ways,
		.way_count = r->way_count };

	schedule_set_place(r->s, q, &place, r->now_us + US_PER_HOUR);
}

static void
carry(struct rig *r, struct schedule_connection *c)
{
	while (deliver(r->s, c, r->now_us))
		r->taken[index_of(c)]++;
}

/* Answers all wants; a way of a bit in `dead` cannot be connected. */
static void
pump(struct rig *r, unsigned dead)
{
	struct schedule_want want;
	struct told told = { 0 };

	for (;;) {
		switch (schedule_next_want(r->s, r->now_us, &want)) {
		case SCHEDULE_RESOLVE:
			set_place(r, want.queue);
			continue;
		case SCHEDULE_CONNECT:
			break;
		case SCHEDULE_WAKE:
			carry(r, want.connection);
			continue;
		case SCHEDULE_CLOSE:
			schedule_disconnected(
			    r->s, want.connection, false, r->now_us);
			continue;
		case SCHEDULE_IDLE:
		case SCHEDULE_WARN:
		case SCHEDULE_EXPIRE:
			return;
		}
		assert_true(r->open < CONNECTIONS);
		struct schedule_connection *c = &r->c[r->open++];
		schedule_connecting(r->s, want.site, c);
		unsigned way = index_of(c);
		if (dead & 1U << way) {
			(void)schedule_site_failed(
			    r->s, c->site, r->now_us, on_told, &told);
			schedule_disconnected(r->s, c, true, r->now_us);
			r->open--;
			continue;
		}
		schedule_connected(r->s, c, r->now_us);
		carry(r, c);
	}
}

static uint64_t
waiting(const struct rig *r)
{
	struct schedule_stats stats;

	schedule_stats(r->s, &stats);
	return stats.deliveries;
}

static void
run(struct rig *r, unsigned dead)
{
	for (unsigned i = 0; i < 5000 && waiting(r) > 0; i++) {
		pump(r, dead);
		r->now_us += 50 * US_PER_MS;
	}
	assert_int_equal(waiting(r), 0);
}

static void
finish(struct rig *r)
{
	schedule_free(&r->s);
}

static void
keep_facts(void *arg, const struct schedule_queue_facts *facts)
{
	*(struct schedule_queue_facts *)arg = *facts;
}

static void
weights_divide_a_backlog(void **state)
{
	struct rig r;

	(void)state;
	start(&r, 2);
	add_mail(&r, 400);
	run(&r, 0);
	assert_in_range(r.taken[0], 295, 305);
	assert_in_range(r.taken[1], 95, 105);
	finish(&r);
}

static void
weights_divide_single_messages(void **state)
{
	struct rig r;

	(void)state;
	start(&r, 3);
	for (unsigned i = 0; i < 100; i++) {
		add_mail(&r, 1);
		run(&r, 0);
		r.now_us += 100 * US_PER_MS;
	}
	assert_in_range(r.taken[0], 55, 65);
	assert_in_range(r.taken[1], 17, 23);
	assert_in_range(r.taken[2], 17, 23);
	finish(&r);
}

/* A way that cannot be reached is parked by itself, and costs no mail. */
static void
a_dead_way_leaves_the_mail_to_the_others(void **state)
{
	struct rig r;
	struct schedule_stats stats;

	(void)state;
	start(&r, 2);
	add_mail(&r, 50);
	run(&r, 1 << 0);
	assert_int_equal(r.taken[0], 0);
	assert_int_equal(r.taken[1], 50);
	schedule_stats(r.s, &stats);
	assert_int_equal(stats.sites, 1);
	/* It is back: not more than 64 turns are made up for. */
	r.now_us += US_PER_HOUR;
	for (unsigned i = 0; i < 100; i++) {
		add_mail(&r, 10);
		run(&r, 0);
	}
	assert_in_range(r.taken[0], 740, 900);
	assert_int_equal(r.taken[0] + r.taken[1], 1050);
	finish(&r);
}

static void
a_suspended_way_is_left_out_for_its_time(void **state)
{
	struct rig r;
	struct schedule_queue_facts facts = { 0 };

	(void)state;
	start(&r, 2);
	add_mail(&r, 4);
	run(&r, 0);
	unsigned before = r.taken[0];
	for (size_t i = 0; i < r.open; i++)
		if (index_of(&r.c[i]) == 0)
			schedule_site_suspend(
			    r.s, r.c[i].site, r.now_us + US_PER_MIN);
	add_mail(&r, 20);
	run(&r, 0);
	assert_int_equal(r.taken[0], before);
	for (size_t i = 0; i < r.open; i++)
		if (index_of(&r.c[i]) == 1)
			schedule_site_suspend(
			    r.s, r.c[i].site, r.now_us + US_PER_HOUR);
	add_mail(&r, 20);
	pump(&r, 0);
	assert_int_equal(waiting(&r), 20);
	schedule_each_queue(
	    r.s, &(struct schedule_selector){ 0 }, keep_facts, &facts);
	assert_int_equal(facts.bound, SCHEDULE_BOUND_SUSPENDED);
	/* The way that is free first is the one that is told of. */
	assert_true(span_eq(facts.source, SPAN("a")));
	assert_true(facts.bound_until_us < r.now_us + US_PER_MIN);
	finish(&r);
}

static void
nothing_goes_without_a_way(void **state)
{
	struct rig r;
	struct schedule_queue_facts facts = { 0 };
	const struct schedule_selector all = { 0 };

	(void)state;
	start(&r, 0);
	add_mail(&r, 2);
	pump(&r, 0);
	schedule_each_queue(r.s, &all, keep_facts, &facts);
	assert_int_equal(facts.bound, SCHEDULE_BOUND_NO_SOURCE);
	assert_true(span_eq(facts.site, SPAN("mx")));
	assert_true(span_eq(facts.pool, SPAN("pool")));
	/* A source comes: the place is the same. */
	r.way_count = 1;
	schedule_look_up_again(r.s, &all);
	run(&r, 0);
	assert_int_equal(r.taken[0], 2);
	/* And goes: its idle connection is closed. */
	r.way_count = 0;
	add_mail(&r, 1);
	schedule_look_up_again(r.s, &all);
	pump(&r, 0);
	assert_int_equal(waiting(&r), 1);
	struct schedule_stats stats;
	schedule_stats(r.s, &stats);
	assert_int_equal(stats.connections, 0);
	finish(&r);
}

/* Two pools with a source in common do not get twice its connections. */
static void
pools_share_the_limits_of_a_source(void **state)
{
	struct rig r;
	struct schedule_want want;

	(void)state;
	start(&r, 1);
	r.ways[0].limits.connections = 1;
	add_mail(&r, 2);
	add(r.s, key_of(2, SCHEDULE_BULK, "example.com"), ++r.mno, r.now_us);
	assert_int_equal(
	    schedule_next_want(r.s, r.now_us, &want), SCHEDULE_RESOLVE);
	set_place(&r, want.queue);
	assert_int_equal(
	    schedule_next_want(r.s, r.now_us, &want), SCHEDULE_RESOLVE);
	struct schedule_place other = { .name = SPAN("mx"),
		.pool = SPAN("other"),
		.ways = r.ways,
		.way_count = 1 };
	schedule_set_place(r.s, want.queue, &other, r.now_us + US_PER_HOUR);
	assert_int_equal(
	    schedule_next_want(r.s, r.now_us, &want), SCHEDULE_CONNECT);
	schedule_connecting(r.s, want.site, &r.c[0]);
	expect_idle(r.s, r.now_us);
	schedule_connected(r.s, &r.c[0], r.now_us);
	while (deliver(r.s, &r.c[0], r.now_us))
		continue;
	schedule_disconnected(r.s, &r.c[0], false, r.now_us);
	assert_int_equal(
	    schedule_next_want(r.s, r.now_us, &want), SCHEDULE_CONNECT);
	finish(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(weights_divide_a_backlog),
		cmocka_unit_test(weights_divide_single_messages),
		cmocka_unit_test(a_dead_way_leaves_the_mail_to_the_others),
		cmocka_unit_test(a_suspended_way_is_left_out_for_its_time),
		cmocka_unit_test(nothing_goes_without_a_way),
		cmocka_unit_test(pools_share_the_limits_of_a_source),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
