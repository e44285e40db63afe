/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

static const struct schedule_policy policy = POLICY;

static struct schedule_delivery
mail(uint64_t mno, int64_t warn_us, int64_t expire_us)
{
	return (struct schedule_delivery){ .mno = mno,
		.rcpt_count = 1,
		.warn_us = warn_us,
		.expire_us = expire_us };
}

/* Sleeps as a driver does until something but a look-up is wanted. */
static enum schedule_want_type
sleep_to_want(struct schedule *s, int64_t *now_us, struct schedule_want *want)
{
	for (unsigned n = 0; n < 10000; n++) {
		int64_t next_us = schedule_next_time(s);
		if (next_us == TIME_NEVER)
			return SCHEDULE_IDLE;
		if (next_us > *now_us)
			*now_us = next_us;
		if (schedule_next_want(s, *now_us, want) != SCHEDULE_IDLE)
			return want->type;
	}
	fail();
	return SCHEDULE_IDLE;
}

static void
expect_report(struct schedule *s, enum schedule_want_type type, uint64_t mno,
    int64_t at_us)
{
	struct schedule_want want;
	int64_t now_us = START_US;

	assert_int_equal(sleep_to_want(s, &now_us, &want), type);
	assert_int_equal(want.delivery.mno, mno);
	assert_in_range(now_us, at_us, at_us + TICK_US);
	assert_true(want.delivery.warned);
}

/* In whatever state the mail waits, it is warned about once, and expires. */
static void
warning_and_end_come_in_time(void **state)
{
	static const struct schedule_selector all = { 0 };
	int64_t warn_us = START_US + 4 * US_PER_HOUR;
	int64_t end_us = START_US + 5 * US_PER_DAY;
	struct schedule_key key = key_of(1, SCHEDULE_BULK, "a.example");
	struct schedule_connection c;
	struct schedule_want want;
	struct told told = { 0 };
	(void)state;

	enum { UNRESOLVED, HELD, PARKED, CASES };

	for (int kind = 0; kind < CASES; kind++) {
		struct schedule *s = schedule_new(&policy, 1);
		struct schedule_delivery d = mail(9, warn_us, end_us);
		if (kind == HELD)
			(void)schedule_hold(s, &all, SPAN("test"));
		schedule_add(s, &key, &d, START_US);
		if (kind != HELD)
			assert_int_equal(schedule_next_want(s, START_US, &want),
			    SCHEDULE_RESOLVE);
		if (kind == PARKED) {
			(void)schedule_set_site(
			    s, want.queue, SPAN("dead"), TIME_NEVER);
			for (unsigned n = 0; n < 3; n++) {
				assert_int_equal(
				    schedule_next_want(s, START_US, &want),
				    SCHEDULE_CONNECT);
				schedule_connecting(s, want.site, &c);
				schedule_disconnected(s, &c, true, START_US);
			}
			/* The probe connects for ever. */
			int64_t now_us = START_US;
			assert_int_equal(
			    sleep_to_want(s, &now_us, &want), SCHEDULE_CONNECT);
			schedule_connecting(s, want.site, &c);
		}
		expect_report(s, SCHEDULE_WARN, 9, warn_us);
		expect_report(s, SCHEDULE_EXPIRE, 9, end_us);
		struct schedule_stats stats;
		schedule_stats(s, &stats);
		assert_int_equal(stats.deliveries, 0);
		assert_int_equal(stats.recipients, 0);
		(void)told;
		schedule_free(&s);
	}
}

static void
any_order_of_ends_is_kept(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_key key = key_of(1, SCHEDULE_BULK, "a.example");
	struct schedule_want want;
	int64_t now_us = START_US;
	(void)state;

	for (uint64_t i = 1; i <= 1000; i++) {
		uint64_t n = i * 619 % 1009;
		struct schedule_delivery d =
		    mail(i, TIME_NEVER, START_US + (int64_t)n * 7 * US_PER_MIN);
		schedule_add(s, &key, &d, START_US);
	}
	assert_int_equal(
	    schedule_next_want(s, now_us, &want), SCHEDULE_RESOLVE);
	for (uint64_t i = 1; i <= 1000; i++) {
		assert_int_equal(
		    sleep_to_want(s, &now_us, &want), SCHEDULE_EXPIRE);
		int64_t end_us = want.delivery.expire_us;
		assert_in_range(now_us, end_us, end_us + TICK_US);
	}
	assert_true(schedule_next_time(s) == TIME_NEVER);
	schedule_free(&s);
}

/* After a long stop all has expired: every delivery is told once. */
static void
what_ended_long_ago_is_told(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_key key = key_of(1, SCHEDULE_BULK, "a.example");
	struct schedule_want want;
	unsigned expired = 0;
	(void)state;

	for (uint64_t i = 1; i <= 5000; i++) {
		struct schedule_delivery d =
		    mail(i, START_US - US_PER_DAY, START_US - US_PER_HOUR);
		schedule_add(s, &key, &d, START_US);
	}
	while (schedule_next_time(s) <= START_US) {
		(void)schedule_next_want(s, START_US, &want);
		assert_int_not_equal(want.type, SCHEDULE_WARN);
		expired += want.type == SCHEDULE_EXPIRE;
	}
	assert_int_equal(expired, 5000);
	schedule_free(&s);
}

static void
failed_lookup_pauses_the_queue(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_want want;
	struct told told = { 0 };
	int64_t now_us = START_US;
	(void)state;

	for (uint64_t i = 1; i <= 1000; i++)
		add(s, key_of(1, SCHEDULE_BULK, "a.example"), i, now_us);
	for (unsigned n = 0; n < 8; n++) {
		int64_t before_us = now_us;
		assert_int_equal(
		    sleep_to_want(s, &now_us, &want), SCHEDULE_RESOLVE);
		if (n) {
			int64_t delay_us = policy.delay_us[n < 4 ? n - 1 : 3];
			assert_in_range(now_us - before_us, delay_us / 100 * 95,
			    delay_us / 100 * 105 + TICK_US);
		}
		expect_idle(s, now_us);
		schedule_resolve_failed(
		    s, want.queue, false, now_us, on_told, &told);
		assert_int_equal(told.count, n + 1);
		assert_in_range(told.last.attempts, 1, 3);
		expect_idle(s, now_us);
		struct schedule_queue_facts facts;
		schedule_queue_facts(s, want.queue, &facts);
		assert_true(facts.parked);
		assert_true(facts.next_due_us == told.last.due_us);
	}
	assert_int_equal(sleep_to_want(s, &now_us, &want), SCHEDULE_RESOLVE);
	(void)schedule_set_site(s, want.queue, SPAN("mx"), TIME_NEVER);
	struct schedule_connection c;
	connect_one(s, &c, now_us);
	unsigned delivered = 0;
	while (deliver(s, &c, now_us))
		delivered++;
	assert_in_range(delivered, 998, 1000);
	schedule_disconnected(s, &c, false, now_us);
	schedule_free(&s);
}

static void
lookup_that_fails_for_good_empties_the_queue(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_key key = key_of(1, SCHEDULE_BULK, "a.example");
	struct schedule_want want;
	struct told told = { 0 };
	(void)state;

	for (uint64_t i = 1; i <= 10; i++)
		add(s, key, i, START_US);
	struct schedule_delivery later = mail(11, TIME_NEVER, TIME_NEVER);
	later.attempts = 1;
	later.due_us = START_US + US_PER_HOUR;
	schedule_add(s, &key, &later, START_US);
	assert_int_equal(
	    schedule_next_want(s, START_US, &want), SCHEDULE_RESOLVE);
	schedule_resolve_failed(s, want.queue, true, START_US, on_told, &told);
	assert_int_equal(told.count, 10);
	int64_t now_us = START_US;
	assert_int_equal(sleep_to_want(s, &now_us, &want), SCHEDULE_RESOLVE);
	assert_in_range(now_us, later.due_us, later.due_us + TICK_US);
	schedule_resolve_failed(s, want.queue, true, now_us, on_told, &told);
	assert_int_equal(told.count, 11);
	assert_int_equal(sleep_to_want(s, &now_us, &want), SCHEDULE_IDLE);
	schedule_free(&s);
}

static void
lookups_are_bounded(void **state)
{
	struct schedule_policy few = policy;
	struct schedule_want want;
	char domain[32];
	(void)state;

	few.lookups = 5;
	struct schedule *s = schedule_new(&few, 1);
	for (unsigned i = 0; i < 20; i++) {
		(void)snprintf(domain, sizeof domain, "d%u.example", i);
		add(s, key_of(1, SCHEDULE_BULK, domain), i, START_US);
	}
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(
		    schedule_next_want(s, START_US, &want), SCHEDULE_RESOLVE);
	expect_idle(s, START_US);
	assert_true(schedule_next_time(s) > START_US);
	(void)schedule_set_site(s, want.queue, SPAN("mx"), TIME_NEVER);
	unsigned lookups = 0;
	while (schedule_next_want(s, START_US, &want) == SCHEDULE_CONNECT ||
	       want.type == SCHEDULE_RESOLVE)
		lookups += want.type == SCHEDULE_RESOLVE;
	assert_int_equal(lookups, 1);
	schedule_free(&s);
}

/* A machine that slept, or a clock that jumped: nothing is asked twice. */
static void
late_driver_catches_up(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_key key = key_of(1, SCHEDULE_BULK, "a.example");
	struct schedule_want want;
	unsigned warned = 0, expired = 0;
	(void)state;

	for (uint64_t i = 1; i <= 2000; i++) {
		struct schedule_delivery d =
		    mail(i, START_US + (int64_t)i * US_PER_MIN,
			START_US + (int64_t)i * US_PER_HOUR);
		schedule_add(s, &key, &d, START_US);
	}
	int64_t now_us = START_US + 1000 * US_PER_HOUR + TICK_US;
	while (schedule_next_time(s) <= now_us) {
		(void)schedule_next_want(s, now_us, &want);
		warned += want.type == SCHEDULE_WARN;
		expired += want.type == SCHEDULE_EXPIRE;
	}
	assert_int_equal(expired, 1000);
	assert_int_equal(warned, 1000);
	schedule_free(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(warning_and_end_come_in_time),
		cmocka_unit_test(any_order_of_ends_is_kept),
		cmocka_unit_test(what_ended_long_ago_is_told),
		cmocka_unit_test(failed_lookup_pauses_the_queue),
		cmocka_unit_test(lookup_that_fails_for_good_empties_the_queue),
		cmocka_unit_test(lookups_are_bounded),
		cmocka_unit_test(late_driver_catches_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
