/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

static const struct schedule_policy policy = POLICY;

/* 100 in a second, so many at once. */
#define RATE(burst_)                                                           \
	(struct schedule_rate)                                                 \
	{                                                                      \
		.interval_ns = 10000000, .burst = (burst_)                     \
	}

struct run {
	struct schedule *s;
	struct schedule_connection c[4];
	unsigned open;
	int64_t now_us;
	uint64_t gone[5]; /* by tenant */
	uint64_t steps; /* times that the scheduler had to be asked */
};

static void
run_take(struct run *r, struct schedule_connection *c)
{
	struct schedule_queue *q;
	struct schedule_delivery d;

	while (schedule_take(r->s, c, r->now_us, &q, &d)) {
		r->gone[schedule_queue_key(q).tenant]++;
		schedule_done(r->s, q, d.rcpt_count);
		r->steps++;
	}
}

/* Serves the scheduler until a time, sleeping as it says. */
static void
run_until(struct run *r, int64_t until_us)
{
	struct schedule_want want;

	while (r->now_us < until_us) {
		r->steps++;
		switch (schedule_next_want(r->s, r->now_us, &want)) {
		case SCHEDULE_RESOLVE:
			(void)schedule_set_site(r->s, want.queue, SPAN("mx a"),
			    r->now_us + 100 * US_PER_DAY);
			break;
		case SCHEDULE_CONNECT:
			assert_in_range(r->open, 0, 3);
			schedule_connecting(r->s, want.site, &r->c[r->open]);
			schedule_connected(r->s, &r->c[r->open], r->now_us);
			run_take(r, &r->c[r->open++]);
			break;
		case SCHEDULE_WAKE:
			run_take(r, want.connection);
			break;
		case SCHEDULE_IDLE:
		case SCHEDULE_CLOSE:
		case SCHEDULE_WARN:
		case SCHEDULE_EXPIRE:
			r->now_us = schedule_next_time(r->s);
		}
	}
	r->now_us = until_us;
}

static void
run_close(struct run *r)
{
	for (unsigned i = 0; i < r->open; i++)
		schedule_disconnected(r->s, &r->c[i], false, r->now_us);
	schedule_free(&r->s);
}

static struct run
run_with(const struct schedule_policy *p, unsigned per_tenant)
{
	struct run r = { .s = schedule_new(p, 1), .now_us = START_US };
	static const char *const domains[] = { "a.example", "b.example" };

	for (unsigned i = 0; i < per_tenant * 2; i++)
		add(r.s, key_of(1 + i % 2, SCHEDULE_BULK, domains[i / 2 % 2]),
		    i + 1, START_US);
	return r;
}

static void
rate_of_all(void **state)
{
	struct schedule_policy p = policy;
	(void)state;

	p.message_rate = RATE(10);
	struct run r = run_with(&p, 1000);
	run_until(&r, START_US + US_PER_S);
	assert_in_range(r.gone[1] + r.gone[2], 105, 110);
	assert_in_range(r.gone[1], 50, 56);
	run_close(&r);
}

static void
rate_of_a_site(void **state)
{
	struct schedule_policy p = policy;
	(void)state;

	p.site_message_rate = RATE(1);
	struct run r = run_with(&p, 1000);
	run_until(&r, START_US + US_PER_S);
	assert_in_range(r.gone[1] + r.gone[2], 98, 101);
	run_close(&r);
}

static void
on_facts(void *arg, const struct schedule_queue_facts *facts)
{
	*(struct schedule_queue_facts *)arg = *facts;
}

static enum schedule_bound
bound_of(struct schedule *s, uint32_t tenant)
{
	const struct schedule_selector sel = { .tenant = tenant };
	struct schedule_queue_facts facts = { .bound = SCHEDULE_BOUND_WINDOW };

	schedule_each_queue(s, &sel, on_facts, &facts);
	return facts.bound;
}

static void
rate_of_a_tenant(void **state)
{
	struct schedule_policy p = policy;
	(void)state;

	p.tenant_message_rate = RATE(1);
	struct run r = run_with(&p, 1000);
	add(r.s, key_of(3, SCHEDULE_TRANSACTIONAL, "a.example"), 9999,
	    START_US);
	run_until(&r, START_US + US_PER_S);
	assert_in_range(r.gone[1], 98, 101);
	assert_in_range(r.gone[2], 98, 101);
	assert_int_equal(r.gone[3], 1); /* no business of his */
	assert_int_equal(bound_of(r.s, 1), SCHEDULE_BOUND_TENANT_RATE);
	/* A reload lifts it at once. */
	p.tenant_message_rate.interval_ns = 0;
	schedule_set_policy(r.s, &p);
	run_until(&r, START_US + US_PER_S + US_PER_MS);
	assert_int_equal(r.gone[1] + r.gone[2], 2000);
	run_close(&r);
}

static void
rate_of_a_domain(void **state)
{
	struct schedule_policy p = policy;
	(void)state;

	p.domain_message_rate = RATE(1);
	struct run r = run_with(&p, 1000);
	run_until(&r, START_US + US_PER_S);
	assert_in_range(r.gone[1] + r.gone[2], 196, 202);
	assert_int_equal(bound_of(r.s, 1), SCHEDULE_BOUND_DOMAIN_RATE);
	run_close(&r);
}

/* An hour's rate is kept though the queue was empty in between. */
static void
rate_outlives_the_queue(void **state)
{
	struct schedule_policy p = policy;
	(void)state;

	p.domain_message_rate =
	    (struct schedule_rate){ .interval_ns = US_PER_HOUR * 1000 };
	struct run r = { .s = schedule_new(&p, 1), .now_us = START_US };
	for (unsigned i = 0; i < 20; i++) {
		add(r.s, key_of(1, SCHEDULE_BULK, "a.example"), i + 1,
		    r.now_us);
		run_until(&r, r.now_us + 10 * US_PER_MIN);
	}
	/* Over 3 h 10 min: at 0, 1, 2 and 3 hours. */
	assert_int_equal(r.gone[1], 4);
	run_close(&r);
}

static void
rate_of_connections(void **state)
{
	struct schedule_policy p = policy;
	struct schedule_connection c[4];
	struct schedule_want want;
	int64_t now_us = START_US;
	(void)state;

	p.site_connection_rate = RATE(2);
	struct schedule *s = schedule_new(&p, 1);
	for (unsigned i = 0; i < 100; i++)
		add(s, key_of(1, SCHEDULE_BULK, "a.example"), i + 1, now_us);
	connect_one(s, &c[0], now_us);
	connect_one(s, &c[1], now_us);
	expect_idle(s, now_us);
	struct schedule_queue *q;
	assert_true(take(s, &c[0], now_us, &q, NULL) > 0);
	assert_int_equal(bound_of(s, 1), SCHEDULE_BOUND_CONNECTION_RATE);
	expect_idle(s, now_us + 9 * US_PER_MS);
	now_us = schedule_next_time(s);
	assert_int_equal(now_us, START_US + 10 * US_PER_MS);
	assert_int_equal(
	    schedule_next_want(s, now_us, &want), SCHEDULE_CONNECT);
	schedule_done(s, q, 1);
	schedule_disconnected(s, &c[0], false, now_us);
	schedule_disconnected(s, &c[1], false, now_us);
	schedule_free(&s);
}

/* A million that a rate keeps back costs nothing but its timer. */
static void
blocked_mail_is_not_touched(void **state)
{
	struct schedule_policy p = policy;
	(void)state;

	p.tenant_message_rate =
	    (struct schedule_rate){ .interval_ns = US_PER_S * 1000 };
	uint64_t steps[2];
	for (unsigned i = 0; i < 2; i++) {
		struct run r = run_with(&p, i ? 500000 : 500);
		run_until(&r, START_US + 60 * US_PER_S);
		assert_in_range(r.gone[1] + r.gone[2], 119, 122);
		steps[i] = r.steps;
		run_close(&r);
	}
	assert_true(steps[1] <= steps[0] + 10);
}

/* Connections that take it all in a moment need no more of them; one that is
 * stuck does. */
static void
opens_no_more_than_needed(void **state)
{
	struct schedule *s = schedule_new(&policy, 1);
	struct schedule_connection c[2];
	struct schedule_queue *q;
	struct schedule_want want;
	int64_t now_us = START_US;
	(void)state;

	add(s, key_of(1, SCHEDULE_BULK, "a.example"), 1, now_us);
	connect_one(s, &c[0], now_us);
	for (unsigned i = 2; i < 52; i++)
		add(s, key_of(1, SCHEDULE_BULK, "a.example"), i, now_us);
	assert_int_equal(deliver(s, &c[0], now_us), 1);
	now_us += US_PER_MS; /* that is what each takes */
	assert_int_equal(take(s, &c[0], now_us, &q, NULL), 2);
	expect_idle(s, now_us); /* 50 ms for the rest */
	expect_idle(s, now_us + 90 * US_PER_MS);
	/* It takes much longer. */
	now_us += 101 * US_PER_MS;
	assert_int_equal(
	    schedule_next_want(s, now_us, &want), SCHEDULE_CONNECT);
	schedule_connecting(s, want.site, &c[1]);
	schedule_done(s, q, 1);
	schedule_disconnected(s, &c[0], false, now_us);
	schedule_disconnected(s, &c[1], false, now_us);
	schedule_free(&s);
}

static void
window_bounds_a_new_site(void **state)
{
	struct schedule_policy p = policy;
	struct schedule_connection c[20];
	struct schedule_queue *q[20];
	struct schedule_want want;
	int64_t now_us = START_US;
	(void)state;

	p.site_connections = 20;
	p.window_first = 3;
	struct schedule *s = schedule_new(&p, 1);
	for (unsigned i = 0; i < 1000; i++)
		add(s, key_of(1, SCHEDULE_BULK, "a.example"), i + 1, now_us);
	for (unsigned i = 0; i < 3; i++) {
		connect_one(s, &c[i], now_us);
		assert_true(take(s, &c[i], now_us, &q[i], NULL) > 0);
	}
	expect_idle(s, now_us);
	assert_int_equal(bound_of(s, 1), SCHEDULE_BOUND_WINDOW);
	/* A round of successes doubles it. */
	now_us += US_PER_S;
	for (unsigned i = 0; i < 3; i++) {
		schedule_done(s, q[i], 1);
		assert_true(take(s, &c[i], now_us, &q[i], NULL) > 0);
		connect_one(s, &c[3 + i], now_us);
		assert_true(take(s, &c[3 + i], now_us, &q[3 + i], NULL) > 0);
	}
	expect_idle(s, now_us);
	schedule_site_pushback(s, c[0].site, true);
	assert_int_equal(schedule_next_want(s, now_us, &want), SCHEDULE_IDLE);
	for (unsigned i = 0; i < 6; i++) {
		schedule_done(s, q[i], 1);
		schedule_disconnected(s, &c[i], false, now_us);
	}
	for (unsigned i = 0; i < 3; i++)
		connect_one(s, &c[i], now_us);
	expect_idle(s, now_us);
	for (unsigned i = 0; i < 3; i++)
		schedule_disconnected(s, &c[i], false, now_us);
	schedule_free(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rate_of_all),
		cmocka_unit_test(rate_of_a_site),
		cmocka_unit_test(rate_of_a_tenant),
		cmocka_unit_test(rate_of_a_domain),
		cmocka_unit_test(rate_outlives_the_queue),
		cmocka_unit_test(rate_of_connections),
		cmocka_unit_test(blocked_mail_is_not_touched),
		cmocka_unit_test(opens_no_more_than_needed),
		cmocka_unit_test(window_bounds_a_new_site),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
