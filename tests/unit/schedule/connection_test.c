/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

static const struct schedule_policy policy = POLICY;

/* Messages `first` to `last` of one tenant to a.example. */
static void
add_bulk(struct schedule *s, uint64_t first, uint64_t last, int64_t now_us)
{
	for (uint64_t i = first; i <= last; i++)
		add(s, key_of(1, SCHEDULE_BULK, "a.example"), i, now_us);
}

/* The end of a test. */
static void
hang_up(struct schedule *s, struct schedule_connection *c, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		schedule_disconnected(s, &c[i], false, START_US);
	schedule_free(&s);
}

static void
opens_as_many_as_there_is_work(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c[5];
	struct schedule_want want;
	(void)state;

	add_bulk(s, 1, 1, START_US);
	connect_one(s, &c[0], START_US);
	expect_idle(s, START_US); /* one message, one connection */
	assert_int_equal(deliver(s, &c[0], START_US), 1);
	assert_int_equal(deliver(s, &c[0], START_US), 0);
	expect_idle(s, START_US);

	/* The idle one is woken before a new one is opened. */
	add_bulk(s, 2, 2, START_US);
	assert_int_equal(schedule_next_want(s, START_US, &want), SCHEDULE_WAKE);
	assert_ptr_equal(want.connection, &c[0]);
	expect_idle(s, START_US);
	assert_int_equal(deliver(s, &c[0], START_US), 2);
	/* It takes its time, so that others are of use. */
	assert_int_equal(deliver(s, &c[0], START_US + US_PER_S), 0);

	add_bulk(s, 3, 99, START_US);
	assert_int_equal(schedule_next_want(s, START_US, &want), SCHEDULE_WAKE);
	assert_int_equal(deliver(s, &c[0], START_US), 3);
	for (unsigned i = 1; i < 4; i++)
		connect_one(s, &c[i], START_US);
	expect_idle(s, START_US); /* the site's limit */
	for (unsigned i = 0; i < 4; i++)
		schedule_disconnected(s, &c[i], false, START_US);
	connect_one(s, &c[0], START_US);
	hang_up(s, c, 1);
}

static void
opens_gently(void **state)
{
	struct schedule_policy wide = policy;
	struct schedule_connection c[20];
	struct schedule_want want;
	unsigned opening = 0;
	(void)state;

	wide.site_connections = 20;
	struct schedule *s = schedule_new(&wide, 1);
	add_bulk(s, 1, 99, START_US);
	assert_int_equal(
	    schedule_next_want(s, START_US, &want), SCHEDULE_RESOLVE);
	(void)schedule_set_site(s, want.queue, SPAN("mx"), TIME_NEVER);
	while (schedule_next_want(s, START_US, &want) == SCHEDULE_CONNECT)
		schedule_connecting(s, want.site, &c[opening++]);
	assert_int_equal(opening, 2);
	schedule_connected(s, &c[0], START_US);
	while (schedule_next_want(s, START_US, &want) == SCHEDULE_CONNECT)
		schedule_connecting(s, want.site, &c[opening++]);
	assert_int_equal(opening, 4);
	hang_up(s, c, opening);
}

static void
reserved_ones_are_not_for_bulk(void **state)
{
	struct schedule_policy some = policy;
	struct schedule_connection c[4];
	(void)state;

	some.reserved_connections = 1;
	struct schedule *s = schedule_new(&some, 1);
	add_bulk(s, 1, 99, START_US);
	for (unsigned i = 0; i < 3; i++) {
		connect_one(s, &c[i], START_US);
		assert_true(take(s, &c[i], START_US, NULL, NULL));
		assert_false(c[i].is_reserved);
	}
	expect_idle(s, START_US);
	add(s, key_of(1, SCHEDULE_TRANSACTIONAL, "a.example"), 1000, START_US);
	connect_one(s, &c[3], START_US);
	assert_true(c[3].is_reserved);
	assert_int_equal(deliver(s, &c[3], START_US), 1000);
	assert_int_equal(deliver(s, &c[3], START_US), 0);
	expect_idle(s, START_US);
	add(s, key_of(1, SCHEDULE_TRANSACTIONAL, "a.example"), 1001, START_US);
	struct schedule_want want;
	assert_int_equal(schedule_next_want(s, START_US, &want), SCHEDULE_WAKE);
	assert_ptr_equal(want.connection, &c[3]);
	assert_int_equal(deliver(s, &c[3], START_US), 1001);
	hang_up(s, c, 4);
}

static void
all_sites_share_a_limit(void **state)
{
	struct schedule_policy narrow = policy;
	struct schedule_connection c[2];
	(void)state;

	narrow.connections = 2;
	struct schedule *s = schedule_new(&narrow, 1);
	add_bulk(s, 1, 1, START_US);
	add(s, key_of(1, SCHEDULE_BULK, "b.example"), 2, START_US);
	add(s, key_of(1, SCHEDULE_BULK, "c.example"), 3, START_US);
	connect_one(s, &c[0], START_US);
	connect_one(s, &c[1], START_US);
	expect_idle(s, START_US);
	assert_int_equal(deliver(s, &c[0], START_US), 1);
	schedule_disconnected(s, &c[0], false, START_US);
	connect_one(s, &c[0], START_US);
	assert_int_equal(deliver(s, &c[0], START_US), 3);
	hang_up(s, c, 2);
}

/* Fails what CONNECT asks for now; false when nothing is asked. */
static bool
fail_one(struct schedule *s, int64_t now_us, struct told *told)
{
	struct schedule_connection c;
	struct schedule_want want;

	while (schedule_next_want(s, now_us, &want) == SCHEDULE_RESOLVE)
		(void)schedule_set_site(
		    s, want.queue, SPAN("dead"), now_us + 100 * US_PER_DAY);
	if (want.type != SCHEDULE_CONNECT)
		return false;
	schedule_connecting(s, want.site, &c);
	(void)schedule_site_failed(s, c.site, now_us, on_told, told);
	schedule_disconnected(s, &c, true, now_us);
	return true;
}

static void
dead_site_is_parked_and_probed(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c;
	struct schedule_stats stats;
	struct told told = { 0 };
	int64_t now_us = START_US;
	(void)state;

	for (uint64_t i = 1; i <= 10000; i++)
		add(s,
		    key_of((uint32_t)(1 + i % 3), SCHEDULE_BULK, "a.example"),
		    i, now_us);
	unsigned fails = 0;
	while (fail_one(s, now_us, &told))
		fails++;
	assert_int_equal(fails, 3);
	assert_int_equal(told.count, 3); /* not 10,000 */
	assert_int_equal(told.last.attempts, 0);
	schedule_stats(s, &stats);
	assert_int_equal(stats.sites_parked, 1);
	assert_int_equal(stats.deliveries, 10000);

	/* The pauses double to half an hour, ± 20 %. */
	int64_t pause_us = policy.probe_first_us;
	for (unsigned n = 0; n < 12; n++) {
		int64_t before_us = now_us;
		unsigned turns = 0;
		while (!fail_one(s, now_us, &told)) {
			now_us = schedule_next_time(s);
			assert_true(turns++ < 500);
		}
		assert_in_range(
		    now_us - before_us, pause_us * 8 / 10, pause_us * 12 / 10);
		assert_false(fail_one(s, now_us, &told));
		pause_us *= 2;
		if (pause_us > policy.probe_max_us)
			pause_us = policy.probe_max_us;
	}
	assert_int_equal(told.count, 15);

	while (schedule_next_time(s) > now_us || now_us == START_US ||
	       stats.connections == 0) {
		struct schedule_want want;
		now_us = schedule_next_time(s);
		if (schedule_next_want(s, now_us, &want) != SCHEDULE_CONNECT)
			continue;
		schedule_connecting(s, want.site, &c);
		schedule_connected(s, &c, now_us);
		schedule_stats(s, &stats);
	}
	assert_int_equal(stats.sites_parked, 0);
	unsigned delivered = 0;
	while (deliver(s, &c, now_us))
		delivered++;
	assert_true(delivered >= 9990);
	schedule_disconnected(s, &c, false, now_us);
	schedule_free(&s);
}

static void
probe_waits_for_mail(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct told told = { 0 };
	struct schedule_delivery d;
	int64_t now_us = START_US;
	(void)state;

	add_bulk(s, 1, 1, now_us);
	for (unsigned n = 0; n < 3; n++) {
		assert_true(fail_one(s, now_us, &told));
		d = told.last;
		assert_false(fail_one(s, d.due_us - 1, &told));
		now_us = d.due_us;
	}
	/* Parked for about 30 s, but its one message is due after a minute. */
	assert_int_equal(told.count, 3);
	assert_true(fail_one(s, now_us, &told));
	assert_int_equal(told.count, 4);
	schedule_free(&s);
}

/* One more than the limit would be refused while an old one says goodbye. */
static void
closing_connection_counts(void **state)
{
	struct schedule_policy one = policy;
	struct schedule_connection c[2];
	(void)state;

	one.site_connections = 1;
	struct schedule *s = schedule_new(&one, 1);
	add_bulk(s, 1, 3, START_US);
	connect_one(s, &c[0], START_US);
	assert_int_equal(deliver(s, &c[0], START_US), 1);
	schedule_closing(s, &c[0]);
	expect_idle(s, START_US);
	schedule_disconnected(s, &c[0], false, START_US);
	connect_one(s, &c[1], START_US);
	while (deliver(s, &c[1], START_US))
		continue;
	/* Idle, then closing: new mail does not wake it. */
	schedule_closing(s, &c[1]);
	add_bulk(s, 4, 4, START_US);
	expect_idle(s, START_US);
	schedule_disconnected(s, &c[1], false, START_US);
	connect_one(s, &c[0], START_US);
	assert_int_equal(deliver(s, &c[0], START_US), 4);
	hang_up(s, c, 1);
}

/* A connection that was opened before the site was parked, and fails only after
 * the time of the first probe, must not take that probe with it. */
static void
late_failure_does_not_stop_probes(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection slow;
	struct schedule_want want;
	struct told told = { 0 };
	int64_t now_us = START_US;
	(void)state;

	add_bulk(s, 1, 100, now_us);
	while (schedule_next_want(s, now_us, &want) == SCHEDULE_RESOLVE)
		(void)schedule_set_site(
		    s, want.queue, SPAN("dead"), now_us + 100 * US_PER_DAY);
	assert_int_equal(want.type, SCHEDULE_CONNECT);
	schedule_connecting(s, want.site, &slow);
	for (unsigned n = 0; n < 3; n++)
		assert_true(fail_one(s, now_us, &told));
	now_us += 45 * US_PER_S;
	expect_idle(s, now_us);
	(void)schedule_site_failed(s, slow.site, now_us, on_told, &told);
	schedule_disconnected(s, &slow, true, now_us);
	assert_true(fail_one(s, now_us, &told));
	schedule_free(&s);
}

static void
working_site_is_spared_not_parked(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c;
	struct schedule_stats stats;
	struct told told = { 0 };
	(void)state;

	add_bulk(s, 1, 100, START_US);
	connect_one(s, &c, START_US);
	assert_true(fail_one(s, START_US, &told));
	assert_false(fail_one(s, START_US, &told));
	assert_int_equal(told.count, 0);
	schedule_stats(s, &stats);
	assert_int_equal(stats.sites_parked, 0);
	assert_int_equal(deliver(s, &c, START_US), 1);
	assert_false(fail_one(s, START_US + 20 * US_PER_S, &told));
	assert_true(fail_one(s, START_US + 40 * US_PER_S, &told));
	schedule_disconnected(s, &c, false, START_US + 40 * US_PER_S);
	schedule_free(&s);
}

/* A server that takes no more of us keeps what it has: a connection that ends
 * in good order is replaced at once, and an operator's retry lifts the bound. */
static void
spared_site_replaces_what_ended_well(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	const struct schedule_selector all = { 0 };
	struct schedule_connection c[2];
	struct told told = { 0 };
	(void)state;

	add_bulk(s, 1, 100, START_US);
	connect_one(s, &c[0], START_US);
	assert_true(fail_one(s, START_US, &told));
	assert_int_equal(deliver(s, &c[0], START_US), 1);
	expect_idle(s, START_US);
	schedule_disconnected(s, &c[0], false, START_US);
	connect_one(s, &c[0], START_US);
	assert_int_equal(deliver(s, &c[0], START_US), 2);
	expect_idle(s, START_US);
	(void)schedule_retry(s, &all, START_US);
	connect_one(s, &c[1], START_US);
	assert_int_equal(deliver(s, &c[1], START_US), 3);
	hang_up(s, c, 2);
}

/* Only failures in a row count. */
static void
success_forgives_failures(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c;
	struct schedule_stats stats;
	struct told told = { 0 };
	(void)state;

	add_bulk(s, 1, 100, START_US);
	for (unsigned n = 0; n < 5; n++) {
		assert_true(fail_one(s, START_US, &told));
		assert_true(fail_one(s, START_US, &told));
		connect_one(s, &c, START_US);
		assert_true(deliver(s, &c, START_US));
		schedule_disconnected(s, &c, false, START_US);
		schedule_stats(s, &stats);
		assert_int_equal(stats.sites_parked, 0);
	}
	assert_int_equal(told.count, 10);
	schedule_free(&s);
}

static unsigned owners_freed;

static void
on_owner(void *owner)
{
	assert_string_equal(owner, "owner");
	owners_freed++;
}

static void
site_goes_with_its_last_user(void **state)
{
	static char owner[] = "owner";
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c;
	struct schedule_want want;
	int64_t now_us = START_US;
	(void)state;

	owners_freed = 0;
	schedule_on_site_free(s, on_owner);
	add_bulk(s, 1, 1, now_us);
	assert_int_equal(
	    schedule_next_want(s, now_us, &want), SCHEDULE_RESOLVE);
	struct schedule_site *site =
	    schedule_set_site(s, want.queue, SPAN("mx"), now_us + US_PER_HOUR);
	assert_null(schedule_site_owner(site));
	schedule_place_set_owner(want.queue, owner);
	connect_one(s, &c, now_us);
	assert_int_equal(deliver(s, &c, now_us), 1);
	/* The empty queue lives for a minute; the connection keeps the site. */
	now_us += 2 * US_PER_MIN;
	expect_idle(s, now_us);
	struct schedule_stats stats;
	schedule_stats(s, &stats);
	assert_int_equal(stats.queues, 0);
	assert_int_equal(stats.sites, 1);
	assert_int_equal(owners_freed, 0);
	schedule_disconnected(s, &c, false, now_us);
	assert_int_equal(owners_freed, 1);

	add_bulk(s, 2, 2, now_us);
	assert_int_equal(
	    schedule_next_want(s, now_us, &want), SCHEDULE_RESOLVE);
	(void)schedule_set_site(
	    s, want.queue, SPAN("one"), now_us + US_PER_HOUR);
	schedule_place_set_owner(want.queue, owner);
	(void)schedule_set_site(
	    s, want.queue, SPAN("two"), now_us + US_PER_HOUR);
	assert_int_equal(owners_freed, 2);
	schedule_place_set_owner(want.queue, owner);
	schedule_free(&s);
	assert_int_equal(owners_freed, 3);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opens_as_many_as_there_is_work),
		cmocka_unit_test(opens_gently),
		cmocka_unit_test(reserved_ones_are_not_for_bulk),
		cmocka_unit_test(all_sites_share_a_limit),
		cmocka_unit_test(dead_site_is_parked_and_probed),
		cmocka_unit_test(probe_waits_for_mail),
		cmocka_unit_test(closing_connection_counts),
		cmocka_unit_test(late_failure_does_not_stop_probes),
		cmocka_unit_test(working_site_is_spared_not_parked),
		cmocka_unit_test(spared_site_replaces_what_ended_well),
		cmocka_unit_test(success_forgives_failures),
		cmocka_unit_test(site_goes_with_its_last_user),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
