/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#define MANY 20000U

static const struct schedule_policy policy = POLICY;
static const struct schedule_selector everything = { .tenant = 0 };

static uint64_t
waiting(struct schedule *s)
{
	struct schedule_stats stats;

	schedule_stats(s, &stats);
	return stats.deliveries;
}

/* All below the cut are told once with the tag, newer ones stay and go. */
static void
reaps_below_the_cut(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c;
	struct schedule_delivery d;
	struct schedule_queue *q;
	struct schedule_stats stats;
	unsigned char seen[MANY] = { 0 };
	int tag;
	void *told;
	(void)state;

	for (uint32_t i = 0; i < MANY; i++)
		add(s, key_of(1 + i % 3, SCHEDULE_BULK, "a.example"), i,
		    START_US);
	assert_int_equal(
	    schedule_reap(s, &everything, MANY - 100, &tag), MANY - 100);
	schedule_stats(s, &stats);
	assert_int_equal(stats.reaped, MANY - 100);
	for (uint32_t i = 0; i < MANY - 100; i++) {
		assert_true(schedule_reap_next(s, &q, &d, &told));
		assert_ptr_equal(told, &tag);
		assert_int_equal(schedule_queue_key(q).tenant, 1 + d.mno % 3);
		assert_true(d.mno < MANY - 100 && !seen[d.mno]++);
	}
	assert_false(schedule_reap_next(s, &q, &d, &told));
	assert_int_equal(waiting(s), 100);
	connect_one(s, &c, START_US);
	uint64_t last[3] = { 0 };
	for (uint32_t i = 0; i < 100; i++) {
		uint64_t mno = deliver(s, &c, START_US);
		assert_true(mno >= MANY - 100 && !seen[mno]++);
		assert_true(mno > last[mno % 3]); /* in their order */
		last[mno % 3] = mno;
	}
	assert_int_equal(deliver(s, &c, START_US), 0);
	schedule_disconnected(s, &c, false, START_US);
	schedule_free(&s);
}

/* Retries, and what is on a connection. */
static void
reaps_retries_not_what_is_out(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c;
	struct schedule_delivery d, out;
	struct schedule_queue *q, *of_out;
	void *told;
	int64_t now_us = START_US;
	(void)state;

	add(s, key_of(1, SCHEDULE_BULK, "a.example"), 1, now_us);
	add(s, key_of(1, SCHEDULE_BULK, "a.example"), 2, now_us);
	connect_one(s, &c, now_us);
	assert_int_equal(take(s, &c, now_us, &q, &d), 1);
	(void)schedule_defer(s, q, &d, true, 0, now_us);
	assert_int_equal(take(s, &c, now_us, &of_out, &out), 2);
	assert_int_equal(schedule_reap(s, &everything, 100, NULL), 1);
	/* Neither its retry nor its end comes any more. */
	now_us += 6 * US_PER_DAY;
	expect_idle(s, now_us);
	(void)schedule_defer(s, of_out, &out, true, 0, now_us);
	assert_true(schedule_reap_next(s, &q, &d, &told));
	assert_int_equal(d.mno, 1);
	assert_int_equal(d.attempts, 1);
	assert_false(schedule_reap_next(s, &q, &d, &told));
	struct schedule_want want;
	assert_int_equal(
	    schedule_next_want(s, now_us + US_PER_DAY, &want), SCHEDULE_EXPIRE);
	assert_int_equal(want.delivery.mno, 2);
	assert_int_equal(waiting(s), 0);
	schedule_disconnected(s, &c, false, now_us);
	schedule_free(&s);
}

static void
count_streams(void *arg, const struct schedule_queue_facts *facts)
{
	uint64_t *count = arg;

	count[facts->key.stream] += facts->fresh + facts->retry;
}

/* To a stream that has mail, to one that has none, and on from there. */
static void
moves(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c;
	struct schedule_key key = key_of(1, SCHEDULE_BULK, "a.example");
	const struct schedule_selector one = { .stream = 1 };
	const struct schedule_selector two = { .stream = 2 };
	unsigned char seen[MANY] = { 0 };
	(void)state;

	for (uint32_t i = 1; i < MANY; i++) {
		key.stream = 1 + i % 2;
		add(s, key, i, START_US);
	}
	assert_int_equal(
	    schedule_move(s, &one, MANY, 2, SCHEDULE_TRANSACTIONAL, START_US),
	    MANY / 2 - 1);
	assert_int_equal(
	    schedule_move(s, &two, MANY, 3, SCHEDULE_TRANSACTIONAL, START_US),
	    MANY - 1);
	assert_int_equal(
	    schedule_move(s, &two, MANY, 3, SCHEDULE_TRANSACTIONAL, START_US),
	    0);
	uint64_t count[4] = { 0 };
	schedule_each_queue(s, &everything, count_streams, count);
	assert_int_equal(count[1] + count[2], 0);
	assert_int_equal(count[3], MANY - 1);
	assert_int_equal(schedule_hold(s, &one, SPAN("why")), 0);
	connect_one(s, &c, START_US);
	for (uint32_t i = 1; i < MANY; i++) {
		uint64_t mno = deliver(s, &c, START_US);
		assert_true(mno > 0 && mno < MANY && !seen[mno]++);
	}
	assert_int_equal(waiting(s), 0);
	schedule_disconnected(s, &c, false, START_US);
	schedule_free(&s);
}

/* By site: once the queue is known to go there, and from then on. */
static void
selects_by_site(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	const struct schedule_selector site = { .site = SPAN("mx b*") };
	struct schedule_want want;
	(void)state;

	assert_int_equal(schedule_hold(s, &site, SPAN("why")), 0);
	add(s, key_of(1, SCHEDULE_BULK, "a.example"), 1, START_US);
	add(s, key_of(1, SCHEDULE_BULK, "b.example"), 2, START_US);
	assert_int_equal(
	    schedule_next_want(s, START_US, &want), SCHEDULE_RESOLVE);
	(void)schedule_set_site(
	    s, want.queue, SPAN("mx a"), START_US + US_PER_DAY);
	assert_int_equal(
	    schedule_next_want(s, START_US, &want), SCHEDULE_RESOLVE);
	struct schedule_queue *b = want.queue;
	(void)schedule_set_site(s, b, SPAN("mx b"), START_US + US_PER_DAY);
	struct schedule_queue_facts facts;
	schedule_queue_facts(s, b, &facts);
	assert_true(facts.held);
	assert_int_equal(
	    schedule_next_want(s, START_US, &want), SCHEDULE_CONNECT);
	assert_true(span_eq(schedule_site_name(want.site), SPAN("mx a")));
	struct schedule_connection c;
	schedule_connecting(s, want.site, &c);
	assert_int_equal(schedule_reap(s, &site, 100, NULL), 1);
	schedule_disconnected(s, &c, false, START_US);
	schedule_free(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reaps_below_the_cut),
		cmocka_unit_test(reaps_retries_not_what_is_out),
		cmocka_unit_test(moves),
		cmocka_unit_test(selects_by_site),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
