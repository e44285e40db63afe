/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

static const struct schedule_policy policy = POLICY;

static void
fresh_mail_goes_in_order(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c;
	(void)state;

	for (uint64_t mno = 1; mno <= 100; mno++)
		add(s, key_of(1, SCHEDULE_BULK, "a.example"), mno, START_US);
	connect_one(s, &c, START_US);
	for (uint64_t mno = 1; mno <= 100; mno++)
		assert_int_equal(deliver(s, &c, START_US), mno);
	assert_int_equal(deliver(s, &c, START_US), 0);
	schedule_disconnected(s, &c, false, START_US);
	schedule_free(&s);
}

static void
classes_go_before_one_another(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c;
	unsigned count[SCHEDULE_CLASSES] = { 0 };
	struct schedule_queue *q;
	(void)state;

	for (uint64_t i = 1; i <= 1000; i++)
		for (int class = 0; class < SCHEDULE_CLASSES; class ++)
			add(s,
			    key_of(1, (enum schedule_class) class, "a.example"),
			    i, START_US);
	connect_one(s, &c, START_US);
	for (unsigned i = 0; i < 1000; i++) {
		assert_true(take(s, &c, START_US, &q, NULL));
		count[schedule_queue_key(q).class]++;
		schedule_done(s, q, 1);
	}
	assert_in_range(count[SCHEDULE_TRANSACTIONAL], 890, 910);
	assert_in_range(count[SCHEDULE_REPORT], 45, 55);
	assert_in_range(count[SCHEDULE_BULK], 45, 55);
	schedule_disconnected(s, &c, false, START_US);
	schedule_free(&s);
}

/* Two tenants, 10,000 against 100 messages: the small one must not need more
 * than twice the turns that it would need alone. */
static void
tenants_go_in_turn(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c;
	unsigned small = 0, turns = 0;
	(void)state;

	for (uint64_t i = 1; i <= 10000; i++)
		add(s, key_of(1, SCHEDULE_BULK, "a.example"), i, START_US);
	for (uint64_t i = 1; i <= 100; i++)
		add(s, key_of(2, SCHEDULE_BULK, "a.example"), 100000 + i,
		    START_US);
	connect_one(s, &c, START_US);
	while (small < 100) {
		small += deliver(s, &c, START_US) > 100000;
		turns++;
	}
	assert_true(turns <= 2 * 100 + 70);
	schedule_disconnected(s, &c, false, START_US);
	schedule_free(&s);
}

static void
tenants_pay_by_recipients(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c;
	struct schedule_key key = key_of(2, SCHEDULE_BULK, "a.example");
	uint64_t rcpts[3] = { 0 };
	struct schedule_queue *q;
	struct schedule_delivery d;
	(void)state;

	for (uint64_t i = 1; i <= 20000; i++)
		add(s, key_of(1, SCHEDULE_BULK, "a.example"), i, START_US);
	for (uint64_t i = 1; i <= 500; i++)
		schedule_add(s, &key,
		    &(struct schedule_delivery){ .mno = 100000 + i,
			.rcpt_count = 100,
			.warn_us = TIME_NEVER,
			.expire_us = TIME_NEVER },
		    START_US);
	connect_one(s, &c, START_US);
	while (rcpts[1] + rcpts[2] < 20000) {
		assert_true(take(s, &c, START_US, &q, &d));
		rcpts[schedule_queue_key(q).tenant] += d.rcpt_count;
		schedule_done(s, q, d.rcpt_count);
	}
	assert_in_range(rcpts[1], 9000, 11000);
	assert_in_range(rcpts[2], 9000, 11000);
	schedule_disconnected(s, &c, false, START_US);
	schedule_free(&s);
}

/* Running dry after a large delivery does not wipe out what it cost. */
static void
debts_outlive_a_pause(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_key key = key_of(2, SCHEDULE_BULK, "a.example");
	struct schedule_delivery large = { .mno = 1000,
		.rcpt_count = 50,
		.warn_us = TIME_NEVER,
		.expire_us = TIME_NEVER };
	struct schedule_connection c;
	struct schedule_queue *q;
	struct schedule_delivery d;
	unsigned others = 0;
	(void)state;

	for (uint64_t i = 1; i <= 500; i++)
		add(s, key_of(1, SCHEDULE_BULK, "a.example"), i, START_US);
	schedule_add(s, &key, &large, START_US);
	connect_one(s, &c, START_US);
	for (unsigned turn = 0; turn < 3; turn++) {
		while (take(s, &c, START_US, &q, &d) != 1000) {
			schedule_done(s, q, d.rcpt_count);
			others++;
		}
		schedule_done(s, q, d.rcpt_count);
		schedule_add(s, &key, &large, START_US);
	}
	assert_in_range(others, 98, 102);
	schedule_disconnected(s, &c, false, START_US);
	schedule_free(&s);
}

static void
retries_get_one_turn_in_four(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_key key = key_of(1, SCHEDULE_BULK, "a.example");
	struct schedule_connection c;
	unsigned retries = 0;
	(void)state;

	for (uint64_t i = 1; i <= 1000; i++) {
		add(s, key, i, START_US);
		schedule_add(s, &key,
		    &(struct schedule_delivery){ .mno = 10000 + i,
			.rcpt_count = 1,
			.attempts = 3,
			.due_us = START_US,
			.warn_us = TIME_NEVER,
			.expire_us = TIME_NEVER },
		    START_US);
	}
	connect_one(s, &c, START_US);
	for (unsigned i = 0; i < 400; i++)
		retries += deliver(s, &c, START_US) > 10000;
	assert_int_equal(retries, 100);
	schedule_disconnected(s, &c, false, START_US);
	schedule_free(&s);
}

static void
retry_comes_when_it_should(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c;
	int64_t now_us = START_US;
	struct schedule_queue *q;
	struct schedule_delivery d;
	struct schedule_want want;
	(void)state;

	add(s, key_of(1, SCHEDULE_BULK, "a.example"), 7, now_us);
	connect_one(s, &c, now_us);
	assert_int_equal(take(s, &c, now_us, &q, &d), 7);
	for (unsigned n = 0; n < 10; n++) {
		int64_t delay_us = policy.delay_us[n < 4 ? n : 3];
		struct schedule_delivery next =
		    schedule_defer(s, q, &d, true, 0, now_us);
		assert_int_equal(next.attempts, n + 1);
		assert_true(next.due_us >= now_us + delay_us / 100 * 95);
		assert_true(
		    next.due_us <= now_us + delay_us / 100 * 105 + TICK_US);
		assert_int_equal(take(s, &c, next.due_us - 1, NULL, NULL), 0);
		while (schedule_next_time(s) < next.due_us)
			expect_idle(s, schedule_next_time(s));
		assert_true(schedule_next_time(s) == next.due_us);
		now_us = next.due_us;
		assert_int_equal(
		    schedule_next_want(s, now_us, &want), SCHEDULE_WAKE);
		assert_ptr_equal(want.connection, &c);
		assert_int_equal(take(s, &c, now_us, &q, &d), 7);
		assert_int_equal(d.attempts, n + 1);
	}
	/* A greylisting hint counts when it is the longer one. */
	d.attempts = 0;
	d = schedule_defer(s, q, &d, true, 7 * US_PER_MIN, now_us);
	assert_true(d.due_us >= now_us + 7 * US_PER_MIN);
	assert_true(d.due_us <= now_us + 7 * US_PER_MIN + TICK_US);
	schedule_disconnected(s, &c, false, now_us);
	schedule_free(&s);
}

static void
parts_end_differently(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_key key = key_of(1, SCHEDULE_BULK, "a.example");
	struct schedule_connection c;
	struct schedule_queue *q;
	struct schedule_delivery d, part;
	struct schedule_stats stats;
	(void)state;

	schedule_add(s, &key,
	    &(struct schedule_delivery){ .mno = 5,
		.rcpt_first = 10,
		.rcpt_count = 6,
		.warn_us = TIME_NEVER,
		.expire_us = TIME_NEVER },
	    START_US);
	connect_one(s, &c, START_US);
	assert_int_equal(take(s, &c, START_US, &q, &d), 5);
	schedule_done(s, q, 2);
	part = d;
	part.rcpt_first = 12;
	part.rcpt_count = 3;
	part = schedule_defer(s, q, &part, true, 0, START_US);
	part = d;
	part.rcpt_first = 15;
	part.rcpt_count = 1;
	schedule_return(s, q, &part, START_US);
	schedule_stats(s, &stats);
	assert_int_equal(stats.in_flight, 0);
	assert_int_equal(stats.recipients, 4);
	assert_int_equal(stats.deliveries, 2);
	assert_int_equal(take(s, &c, START_US, &q, &d), 5);
	assert_int_equal(d.rcpt_first, 15);
	assert_int_equal(d.attempts, 0);
	schedule_done(s, q, 1);
	int64_t later_us = START_US + 2 * US_PER_MIN;
	struct schedule_want want;
	assert_int_equal(take(s, &c, later_us, &q, &d), 0);
	assert_int_equal(schedule_next_want(s, later_us, &want), SCHEDULE_WAKE);
	assert_int_equal(take(s, &c, later_us, &q, &d), 5);
	assert_int_equal(d.rcpt_first, 12);
	assert_int_equal(d.rcpt_count, 3);
	assert_int_equal(d.attempts, 1);
	schedule_done(s, q, 3);
	schedule_disconnected(s, &c, false, START_US);
	schedule_free(&s);
}

static void
site_is_asked_for_again(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c;
	struct schedule_want want;
	int64_t now_us = START_US;
	(void)state;

	for (uint64_t i = 1; i <= 3; i++)
		add(s, key_of(1, SCHEDULE_BULK, "a.example"), i, now_us);
	assert_int_equal(
	    schedule_next_want(s, now_us, &want), SCHEDULE_RESOLVE);
	/* A life of 0 is still good for one delivery: no endless asking. */
	(void)schedule_set_site(s, want.queue, SPAN("mx"), now_us);
	connect_one(s, &c, now_us);
	assert_int_equal(deliver(s, &c, now_us), 1);
	assert_int_equal(deliver(s, &c, now_us), 0);
	assert_int_equal(
	    schedule_next_want(s, now_us, &want), SCHEDULE_RESOLVE);
	expect_idle(s, now_us);
	(void)schedule_set_site(
	    s, want.queue, SPAN("mx"), now_us + US_PER_HOUR);
	assert_int_equal(schedule_next_want(s, now_us, &want), SCHEDULE_WAKE);
	assert_int_equal(deliver(s, &c, now_us), 2);
	assert_int_equal(deliver(s, &c, now_us), 3);
	schedule_disconnected(s, &c, false, now_us);
	schedule_free(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fresh_mail_goes_in_order),
		cmocka_unit_test(classes_go_before_one_another),
		cmocka_unit_test(tenants_go_in_turn),
		cmocka_unit_test(tenants_pay_by_recipients),
		cmocka_unit_test(debts_outlive_a_pause),
		cmocka_unit_test(retries_get_one_turn_in_four),
		cmocka_unit_test(retry_comes_when_it_should),
		cmocka_unit_test(parts_end_differently),
		cmocka_unit_test(site_is_asked_for_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
