/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"
#include "schedule/ledger.h"

#include <pthread.h>

#define HOUR US_PER_HOUR

static const struct ledger_limits limits = {
	.connections = 20, .reserved = 2, .own = 10
};

struct two {
	struct schedule_ledger *ledger;
	struct ledger_member members[2];
	struct ledger_share shares[2];
	atomic_uint told[2];
};

static void
count_tell(void *arg)
{
	atomic_fetch_add((atomic_uint *)arg, 1);
}

static void
two_open(struct two *t)
{
	memset(t, 0, sizeof *t);
	t->ledger = schedule_ledger_new();
	for (unsigned i = 0; i < 2; i++) {
		ledger_member_init(&t->members[i], count_tell, &t->told[i]);
		ledger_open(t->ledger, SPAN("mx a"), &t->members[i], START_US,
		    &t->shares[i]);
	}
}

static void
two_close(struct two *t)
{
	for (unsigned i = 0; i < 2; i++) {
		while (t->shares[i].held)
			ledger_give(&t->shares[i], false);
		ledger_close(&t->shares[i], START_US);
	}
	schedule_ledger_unref(&t->ledger);
}

static unsigned
take_all(struct ledger_share *share, const struct ledger_limits *l)
{
	unsigned n = 0;

	while (ledger_take(share, l, false) == LEDGER_YES)
		n++;
	return n;
}

/* One may have what the other does not use, and gives it back, one at a time,
 * down to his own part. */
static void
lends_and_gives_back(void **state)
{
	struct two t;
	(void)state;

	two_open(&t);
	assert_int_equal(take_all(&t.shares[0], &limits), 18);
	for (unsigned i = 0; i < 10; i++) {
		enum ledger_answer answer =
		    ledger_take(&t.shares[1], &limits, false);
		if (i >= 8) {
			/* Eight were the last that the first had too many. */
			assert_int_equal(answer, LEDGER_FULL);
			assert_false(ledger_yields(&t.shares[0], &limits));
			continue;
		}
		assert_int_equal(answer, LEDGER_FULL);
		assert_ptr_equal(
		    ledger_news(t.ledger, &t.members[0]), &t.shares[0]);
		assert_null(ledger_news(t.ledger, &t.members[0]));
		assert_true(ledger_yields(&t.shares[0], &limits));
		assert_false(ledger_yields(&t.shares[0], &limits));
		ledger_give(&t.shares[0], false);
		/* Who gave it may not take it again. */
		assert_int_equal(
		    ledger_take(&t.shares[0], &limits, false), LEDGER_FULL);
		assert_ptr_equal(
		    ledger_news(t.ledger, &t.members[1]), &t.shares[1]);
		assert_int_equal(
		    ledger_take(&t.shares[1], &limits, false), LEDGER_YES);
	}
	assert_int_equal(t.shares[0].held, 10);
	assert_int_equal(t.shares[1].held, 8);
	assert_true(atomic_load(&t.told[0]) > 0);
	/* The reserved ones beyond. */
	assert_int_equal(ledger_take(&t.shares[1], &limits, true), LEDGER_YES);
	assert_int_equal(ledger_take(&t.shares[1], &limits, true), LEDGER_YES);
	assert_int_equal(ledger_take(&t.shares[0], &limits, true), LEDGER_FULL);
	ledger_give(&t.shares[1], true);
	ledger_give(&t.shares[1], true);
	two_close(&t);
}

/* Who does not want any more what he is owed holds nobody up. */
static void
waives(void **state)
{
	struct two t;
	(void)state;

	two_open(&t);
	assert_int_equal(take_all(&t.shares[0], &limits), 18);
	assert_int_equal(
	    ledger_take(&t.shares[1], &limits, false), LEDGER_FULL);
	assert_true(ledger_yields(&t.shares[0], &limits));
	ledger_give(&t.shares[0], false);
	assert_int_equal(
	    ledger_take(&t.shares[0], &limits, false), LEDGER_FULL);
	ledger_waive(&t.shares[1]);
	assert_ptr_equal(ledger_news(t.ledger, &t.members[0]), &t.shares[0]);
	assert_int_equal(ledger_take(&t.shares[0], &limits, false), LEDGER_YES);
	two_close(&t);
}

/* ---- the window ---- */

static uint32_t
successes(struct ledger_share *share, const struct ledger_limits *l, unsigned n)
{
	for (; n > 0; n--) {
		(void)take_all(share, l);
		ledger_success(share, l);
	}
	return ledger_window(share, l);
}

static void
window_opens_and_narrows(void **state)
{
	struct ledger_limits l = limits;
	struct two t;
	(void)state;

	l.window_first = 5;
	two_open(&t);
	struct ledger_share *share = &t.shares[0];
	assert_int_equal(ledger_window(share, &l), 5);
	assert_int_equal(take_all(share, &l), 5);
	assert_int_equal(ledger_take(share, &l, false), LEDGER_WINDOW);
	/* Doubles in a round of successes, up to the limit. */
	assert_int_equal(successes(share, &l, 5), 10);
	assert_int_equal(successes(share, &l, 9), 19);
	assert_int_equal(share->held, 18);
	/* One failure, one step; more in the same round change nothing. */
	ledger_failure(share, &l, false);
	for (unsigned i = 0; i < 10; i++)
		ledger_failure(share, &l, true);
	assert_int_equal(ledger_window(share, &l), 18);
	/* Then one more in a round. */
	assert_int_equal(successes(share, &l, 17), 18);
	assert_int_equal(successes(share, &l, 1), 19);
	/* Half of it when there are too many. */
	ledger_failure(share, &l, true);
	assert_int_equal(ledger_window(share, &l), 9);
	/* Never none. */
	for (unsigned i = 0; i < 1000; i++)
		ledger_failure(share, &l, true);
	assert_int_equal(ledger_window(share, &l), 1);
	/* What is not used proves nothing. */
	while (share->held)
		ledger_give(share, false);
	for (unsigned i = 0; i < 100; i++)
		ledger_success(share, &l);
	assert_int_equal(ledger_window(share, &l), 1);
	two_close(&t);
}

static void
window_is_remembered_for_a_day(void **state)
{
	struct ledger_limits l = limits;
	struct schedule_ledger *ledger = schedule_ledger_new();
	struct ledger_member member;
	struct ledger_share share;
	(void)state;

	l.window_first = 5;
	ledger_member_init(&member, NULL, NULL);
	for (unsigned i = 0; i < 3; i++) {
		int64_t now_us = START_US + i * i * 20 * HOUR;
		ledger_open(ledger, SPAN("mx a"), &member, now_us, &share);
		/* After 20 hours still, after 60 no more. */
		assert_int_equal(ledger_window(&share, &l), i == 1 ? 4 : 5);
		if (i == 0)
			ledger_failure(&share, &l, false);
		ledger_close(&share, now_us);
	}
	schedule_ledger_unref(&ledger);
}

/* ---- rates ---- */

static void
bucket_keeps_the_rate(void **state)
{
	const struct schedule_rate rate = { .interval_ns = 10000000,
		.burst = 5 };
	struct bucket bucket = { 0 };
	int64_t now_us = START_US, at_us = 0;
	unsigned n = 0;
	(void)state;

	for (; now_us < START_US + US_PER_S; now_us += 777)
		n += bucket_take(&bucket, &rate, now_us, &at_us);
	assert_in_range(n, 103, 105);
	assert_false(bucket_take(&bucket, &rate, now_us, &at_us) &&
		     bucket_take(&bucket, &rate, now_us, &at_us));
	/* Told when, it may then, and not before. */
	assert_false(bucket_take(&bucket, &rate, at_us - 1, &at_us));
	assert_true(bucket_take(&bucket, &rate, at_us, &at_us));
	bucket_give(&bucket, &rate);
	assert_true(bucket_take(&bucket, &rate, at_us, &at_us));
}

/* ---- threads ---- */

struct worker {
	struct schedule_ledger *ledger;
	struct ledger_member member;
	atomic_int *open;
	atomic_int *most;
	pthread_t thread;
};

static void *
work(void *arg)
{
	struct worker *w = arg;
	struct ledger_limits l = limits;
	struct ledger_share share;
	int64_t at_us;
	const struct schedule_rate rate = { .interval_ns = 1000 };

	l.window_first = 5;
	for (unsigned round = 0; round < 200; round++) {
		ledger_open(
		    w->ledger, SPAN("mx a"), &w->member, START_US, &share);
		for (unsigned i = 0; i < 50; i++) {
			bool yes = ledger_take(&share, &l, false) == LEDGER_YES;
			if (yes) {
				int n = atomic_fetch_add(w->open, 1) + 1;
				if (n > atomic_load(w->most))
					atomic_store(w->most, n);
			}
			ledger_success(&share, &l);
			(void)bucket_take(ledger_messages(&share), &rate,
			    START_US + i, &at_us);
			if (share.held && (!yes || ledger_yields(&share, &l))) {
				atomic_fetch_sub(w->open, 1);
				ledger_give(&share, false);
			}
			(void)ledger_news(w->ledger, &w->member);
		}
		for (; share.held; ledger_give(&share, false))
			atomic_fetch_sub(w->open, 1);
		ledger_close(&share, START_US);
	}
	return NULL;
}

static void
never_more_than_the_limit(void **state)
{
	struct worker workers[4];
	atomic_int open = 0, most = 0;
	struct schedule_ledger *ledger = schedule_ledger_new();
	(void)state;

	for (unsigned i = 0; i < 4; i++) {
		workers[i] = (struct worker){
			.ledger = ledger, .open = &open, .most = &most
		};
		ledger_member_init(&workers[i].member, NULL, NULL);
		assert_int_equal(
		    pthread_create(&workers[i].thread, NULL, work, &workers[i]),
		    0);
	}
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
	assert_true(atomic_load(&most) <= 18);
	assert_int_equal(atomic_load(&open), 0);
	schedule_ledger_unref(&ledger);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lends_and_gives_back),
		cmocka_unit_test(waives),
		cmocka_unit_test(window_opens_and_narrows),
		cmocka_unit_test(window_is_remembered_for_a_day),
		cmocka_unit_test(bucket_keeps_the_rate),
		cmocka_unit_test(never_more_than_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
