/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

static const struct schedule_policy policy = POLICY;

static size_t
held_count(struct schedule *s)
{
	struct schedule_stats stats;
	struct schedule_want want;

	/* What is not held asks for its site. */
	size_t asked = 0;
	while (schedule_next_want(s, START_US, &want) == SCHEDULE_RESOLVE)
		asked++;
	schedule_stats(s, &stats);
	return stats.queues - asked;
}

static void
add_three(struct schedule *s)
{
	add(s, key_of(1, SCHEDULE_BULK, "a.example"), 1, START_US);
	add(s, key_of(2, SCHEDULE_BULK, "a.example"), 2, START_US);
	add(s, key_of(1, SCHEDULE_BULK, "mx.b.example"), 3, START_US);
}

static void
selectors_match(void **state)
{
	static const struct {
		struct schedule_selector sel;
		size_t count;
	} cases[] = {
		{ { .tenant = 0, .stream = 0, .domain = { "", 0 } }, 3 },
		{ { .tenant = 0, .stream = 0, .domain = { "*", 1 } }, 3 },
		{ { .tenant = 1, .stream = 0, .domain = { "", 0 } }, 2 },
		{ { .tenant = 1, .stream = 1, .domain = { "", 0 } }, 2 },
		{ { .tenant = 1, .stream = 2, .domain = { "", 0 } }, 0 },
		{ { .tenant = 0, .stream = 0, .domain = { "a.example", 9 } },
		    2 },
		{ { .tenant = 0, .stream = 0, .domain = { "A.Example", 9 } },
		    2 },
		{ { .tenant = 2, .stream = 0, .domain = { "a.example", 9 } },
		    1 },
		{ { .tenant = 0, .stream = 0, .domain = { "*.b.example", 11 } },
		    1 },
		{ { .tenant = 0, .stream = 0, .domain = { "*.a.example", 11 } },
		    0 },
		{ { .tenant = 0, .stream = 0, .domain = { "*.example", 9 } },
		    3 },
		{ { .tenant = 0, .stream = 0, .domain = { "example", 7 } }, 0 },
		{ { .domain = { "m*.b.ex*le", 10 } }, 1 },
		{ { .domain = { "*b*", 3 } }, 1 },
		{ { .domain = { "*a.*.example", 12 } }, 0 },
		{ { .classes = 1 << SCHEDULE_BULK }, 3 },
		{ { .classes = 1 << SCHEDULE_REPORT }, 0 },
		{ { .site = { "*", 1 } }, 0 },
	};

	(void)state;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct schedule *s = schedule_new(&policy, 1);
		add_three(s);
		assert_int_equal(schedule_hold(s, &cases[i].sel, SPAN("why")),
		    cases[i].count);
		assert_int_equal(held_count(s), cases[i].count);
		schedule_free(&s);
		/* The same for queues that come later. */
		s = schedule_new(&policy, 1);
		assert_int_equal(
		    schedule_hold(s, &cases[i].sel, SPAN("why")), 0);
		add_three(s);
		assert_int_equal(held_count(s), cases[i].count);
		schedule_free(&s);
	}
}

static void
latest_rule_decides(void **state)
{
	static const struct schedule_selector all = { 0 },
					      a = { 0, 0, { "a.example", 9 } },
					      one = { .tenant = 1 };
	(void)state;

	struct schedule *s = schedule_new(&policy, 1);
	(void)schedule_hold(s, &all, SPAN("all"));
	(void)schedule_release(s, &a, START_US);
	add_three(s);
	assert_int_equal(held_count(s), 1);
	(void)schedule_hold(s, &one, SPAN("one"));
	assert_int_equal(schedule_release(s, &all, START_US), 3);
	(void)held_count(s);
	add(s, key_of(1, SCHEDULE_BULK, "c.example"), 4, START_US);
	struct schedule_want want;
	assert_int_equal(
	    schedule_next_want(s, START_US, &want), SCHEDULE_RESOLVE);
	schedule_free(&s);
}

static void
hold_outlives_its_queue(void **state)
{
	static const struct schedule_selector a = { .domain = {
							"a.example", 9 } };
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_stats stats;
	struct told told = { 0 };
	int64_t now_us = START_US;
	(void)state;

	add(s, key_of(1, SCHEDULE_BULK, "a.example"), 1, now_us);
	assert_int_equal(schedule_hold(s, &a, SPAN("why")), 1);
	assert_int_equal(reap_all(s, &a, on_told, &told), 1);
	now_us += 2 * US_PER_MIN;
	expect_idle(s, now_us);
	schedule_stats(s, &stats);
	assert_int_equal(stats.queues, 0);
	add(s, key_of(1, SCHEDULE_BULK, "a.example"), 2, now_us);
	expect_idle(s, now_us);
	assert_int_equal(schedule_release(s, &a, now_us), 1);
	struct schedule_want want;
	assert_int_equal(
	    schedule_next_want(s, now_us, &want), SCHEDULE_RESOLVE);
	schedule_free(&s);
}

static void
held_mail_stays_even_linked(void **state)
{
	static const struct schedule_selector a = { .domain = {
							"a.example", 9 } };
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c;
	struct schedule_queue *q;
	struct schedule_delivery d;
	(void)state;

	add(s, key_of(1, SCHEDULE_BULK, "a.example"), 1, START_US);
	add(s, key_of(1, SCHEDULE_BULK, "a.example"), 2, START_US);
	connect_one(s, &c, START_US);
	assert_int_equal(take(s, &c, START_US, &q, &d), 1);
	(void)schedule_hold(s, &a, SPAN("because"));
	assert_int_equal(take(s, &c, START_US, NULL, NULL), 0);
	schedule_return(s, q, &d, START_US);
	assert_int_equal(take(s, &c, START_US, NULL, NULL), 0);
	struct schedule_queue_facts facts;
	schedule_queue_facts(s, q, &facts);
	assert_true(facts.held);
	assert_true(span_eq(facts.hold_reason, SPAN("because")));
	assert_int_equal(facts.fresh, 2);
	assert_true(facts.next_due_us == TIME_NEVER);
	(void)schedule_release(s, &a, START_US);
	struct schedule_want want;
	assert_int_equal(schedule_next_want(s, START_US, &want), SCHEDULE_WAKE);
	assert_int_equal(deliver(s, &c, START_US), 1);
	assert_int_equal(deliver(s, &c, START_US), 2);
	schedule_disconnected(s, &c, false, START_US);
	schedule_free(&s);
}

static void
add_retries(struct schedule *s, unsigned count)
{
	struct schedule_key key = key_of(1, SCHEDULE_BULK, "a.example");

	for (unsigned i = 0; i < count; i++)
		schedule_add(s, &key,
		    &(struct schedule_delivery){ .mno = 1 + i,
			.rcpt_count = 1,
			.attempts = (uint8_t)(1 + i % 9),
			.due_us = START_US + US_PER_HOUR + i % 77 * US_PER_S,
			.warn_us = TIME_NEVER,
			.expire_us = TIME_NEVER },
		    START_US);
}

static void
retry_now_makes_all_due(void **state)
{
	static const struct schedule_selector all = { 0 };
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c;
	struct schedule_queue *q;
	struct schedule_delivery d;
	unsigned count = 0;
	(void)state;

	add_retries(s, 500);
	expect_idle(s, START_US);
	assert_int_equal(schedule_retry(s, &all, START_US), 500);
	connect_one(s, &c, START_US);
	/* What fails again waits again: only the 500 are early. */
	while (take(s, &c, START_US, &q, &d)) {
		count++;
		(void)schedule_defer(s, q, &d, true, 0, START_US);
	}
	assert_int_equal(count, 500);
	schedule_disconnected(s, &c, false, START_US);
	schedule_free(&s);
}

static void
one_message_is_retried_and_removed(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c;
	struct told told = { 0 };
	(void)state;

	add_retries(s, 500);
	add(s, key_of(1, SCHEDULE_BULK, "b.example"), 123, START_US);
	assert_int_equal(schedule_retry_message(s, 999, START_US), 0);
	assert_int_equal(schedule_remove_message(s, 123, on_told, &told), 2);
	assert_int_equal(told.count, 2);
	assert_int_equal(schedule_retry_message(s, 123, START_US), 0);
	assert_int_equal(schedule_retry_message(s, 77, START_US), 1);
	connect_one(s, &c, START_US);
	assert_int_equal(deliver(s, &c, START_US), 77);
	assert_int_equal(deliver(s, &c, START_US), 0);
	schedule_disconnected(s, &c, false, START_US);
	schedule_free(&s);
}

static void
sites_are_looked_up_again(void **state)
{
	static const struct schedule_selector all = { 0 };
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c;
	struct schedule_want want;
	(void)state;

	add(s, key_of(1, SCHEDULE_BULK, "a.example"), 1, START_US);
	add(s, key_of(1, SCHEDULE_BULK, "a.example"), 2, START_US);
	connect_one(s, &c, START_US);
	assert_int_equal(deliver(s, &c, START_US), 1);
	schedule_look_up_again(s, &all);
	assert_int_equal(deliver(s, &c, START_US), 0);
	assert_int_equal(
	    schedule_next_want(s, START_US, &want), SCHEDULE_RESOLVE);
	expect_idle(s, START_US);
	(void)schedule_set_site(s, want.queue, SPAN("elsewhere"), TIME_NEVER);
	assert_int_equal(
	    schedule_next_want(s, START_US, &want), SCHEDULE_CONNECT);
	assert_true(span_eq(schedule_site_name(want.site), SPAN("elsewhere")));
	schedule_disconnected(s, &c, false, START_US);
	schedule_connecting(s, want.site, &c);
	schedule_connected(s, &c, START_US);
	assert_int_equal(deliver(s, &c, START_US), 2);
	/* One that cannot be reached is left behind, too. */
	for (unsigned n = 0; n < 3; n++) {
		schedule_disconnected(s, &c, n > 0, START_US);
		add(s, key_of(1, SCHEDULE_BULK, "a.example"), 3, START_US);
		(void)schedule_next_want(s, START_US, &want);
		schedule_connecting(s, want.site, &c);
	}
	schedule_disconnected(s, &c, true, START_US);
	expect_idle(s, START_US);
	schedule_look_up_again(s, &all);
	assert_int_equal(
	    schedule_next_want(s, START_US, &want), SCHEDULE_RESOLVE);
	(void)schedule_set_site(s, want.queue, SPAN("third"), TIME_NEVER);
	connect_one(s, &c, START_US);
	assert_int_equal(deliver(s, &c, START_US), 3);
	schedule_disconnected(s, &c, false, START_US);
	schedule_free(&s);
}

static void
on_queue(void *arg, const struct schedule_queue_facts *facts)
{
	struct schedule_queue_facts *sum = arg;

	sum->fresh += facts->fresh;
	sum->retry += facts->retry;
	sum->recipients += facts->recipients;
}

static void
looking_adds_up(void **state)
{
	static const struct schedule_selector all = { 0 };
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_queue_facts sum = { 0 };
	struct told told = { 0 };
	(void)state;

	add_retries(s, 50);
	add_three(s);
	schedule_each_queue(s, &all, on_queue, &sum);
	assert_int_equal(sum.fresh, 3);
	assert_int_equal(sum.retry, 50);
	assert_int_equal(sum.recipients, 53);
	assert_int_equal(
	    schedule_each_delivery(s, &all, 20, on_told, &told), 20);
	assert_int_equal(
	    schedule_each_delivery(s, &all, 1000, on_told, &told), 53);
	assert_int_equal(told.count, 73);
	schedule_free(&s);
}

static void
latest_reply_is_shown(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_want want;
	char text[600];
	(void)state;

	add(s, key_of(1, SCHEDULE_BULK, "a.example"), 1, START_US);
	assert_int_equal(
	    schedule_next_want(s, START_US, &want), SCHEDULE_RESOLVE);
	assert_int_equal(schedule_queue_last_reply(want.queue).len, 0);
	struct schedule_site *site =
	    schedule_set_site(s, want.queue, SPAN("mx"), TIME_NEVER);
	schedule_queue_set_last_reply(want.queue, SPAN("queue 1"));
	schedule_site_set_last_reply(site, SPAN("site"));
	assert_true(
	    span_eq(schedule_queue_last_reply(want.queue), SPAN("site")));
	memset(text, 'x', sizeof text);
	memcpy(text + 499, "\xc3\xa4", 2); /* would be cut in half */
	schedule_queue_set_last_reply(want.queue, span_from(text, sizeof text));
	assert_int_equal(schedule_queue_last_reply(want.queue).len, 499);
	schedule_free(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(selectors_match),
		cmocka_unit_test(latest_rule_decides),
		cmocka_unit_test(hold_outlives_its_queue),
		cmocka_unit_test(held_mail_stays_even_linked),
		cmocka_unit_test(retry_now_makes_all_due),
		cmocka_unit_test(one_message_is_retried_and_removed),
		cmocka_unit_test(sites_are_looked_up_again),
		cmocka_unit_test(looking_adds_up),
		cmocka_unit_test(latest_reply_is_shown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
