/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The rate that a site bears: a provider that takes so many a second and
 * refuses the rest, on the virtual clock.
 */

#include "fixture.h"

#define CONNECTIONS 4
#define SERVICE_US (5 * US_PER_MS)

struct provider {
	struct schedule *s;
	int64_t now_us;
	uint64_t mno;
	struct schedule_connection c[CONNECTIONS];

	struct {
		struct schedule_queue *queue;
		struct schedule_delivery d;
		int64_t until_us; /* 0: idle */
	} busy[CONNECTIONS];

	double limit, tokens; /* a second's at most */
	unsigned taken, refused;
};

static void
start(struct provider *p, double limit, struct schedule_ledger *ledger)
{
	struct schedule_policy policy = POLICY;

	*p = (struct provider){ .now_us = START_US, .limit = limit };
	policy.delay_us[0] = 10 * US_PER_S;
	p->s = schedule_new(&policy, 1);
	if (ledger)
		schedule_join(p->s, ledger, NULL, NULL);
}

static void
keep_backlog(struct provider *p)
{
	struct schedule_stats stats;

	schedule_stats(p->s, &stats);
	for (uint64_t i = stats.deliveries; i < 500; i++)
		add(p->s, key_of(1, SCHEDULE_BULK, "example.com"), ++p->mno,
		    p->now_us);
}

static void
next_of(struct provider *p, unsigned i)
{
	if (schedule_take(
		p->s, &p->c[i], p->now_us, &p->busy[i].queue, &p->busy[i].d))
		p->busy[i].until_us = p->now_us + SERVICE_US;
	else
		p->busy[i].until_us = 0;
}

static void
answer(struct provider *p, unsigned i)
{
	if (p->tokens >= 1) {
		p->tokens -= 1;
		p->taken++;
		schedule_done(p->s, p->busy[i].queue, 1);
	} else {
		p->refused++;
		(void)schedule_defer(
		    p->s, p->busy[i].queue, &p->busy[i].d, true, 0, p->now_us);
		schedule_site_slow(
		    p->s, p->c[i].site, SPAN("421 4.7.28 too fast"), p->now_us);
	}
	next_of(p, i);
}

static void
serve_wants(struct provider *p)
{
	struct schedule_want want;
	unsigned i;

	for (;;) {
		switch (schedule_next_want(p->s, p->now_us, &want)) {
		case SCHEDULE_RESOLVE:
			(void)schedule_set_site(
			    p->s, want.queue, SPAN("mx"), TIME_NEVER);
			continue;
		case SCHEDULE_CONNECT:
			for (i = 0; p->c[i].site; i++)
				assert_true(i + 1 < CONNECTIONS);
			schedule_connecting(p->s, want.site, &p->c[i]);
			schedule_connected(p->s, &p->c[i], p->now_us);
			next_of(p, i);
			continue;
		case SCHEDULE_WAKE:
			next_of(p, (unsigned)(want.connection - p->c));
			continue;
		case SCHEDULE_CLOSE:
		case SCHEDULE_IDLE:
		case SCHEDULE_WARN:
		case SCHEDULE_EXPIRE:
			return;
		}
	}
}

static void
run(struct provider *p, unsigned seconds)
{
	int64_t end_us = p->now_us + seconds * US_PER_S;

	p->taken = p->refused = 0;
	for (; p->now_us < end_us; p->now_us += US_PER_MS) {
		p->tokens += p->limit / 1000;
		if (p->tokens > p->limit / 2)
			p->tokens = p->limit / 2;
		keep_backlog(p);
		for (unsigned i = 0; i < CONNECTIONS; i++)
			if (p->busy[i].until_us &&
			    p->busy[i].until_us <= p->now_us)
				answer(p, i);
		serve_wants(p);
	}
}

static void
keep_facts(void *arg, const struct schedule_queue_facts *facts)
{
	*(struct schedule_queue_facts *)arg = *facts;
}

static void
finish(struct provider *p)
{
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		if (p->busy[i].until_us)
			schedule_done(p->s, p->busy[i].queue, 1);
		if (p->c[i].site)
			schedule_disconnected(p->s, &p->c[i], false, p->now_us);
	}
	schedule_free(&p->s);
}

/* Whatever the limit: what is taken settles within 10 % below it, and few are
 * refused on the way. */
static void
settles_below_the_limit(void **state)
{
	static const double limits[] = { 5, 50, 300 };

	(void)state;
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		struct provider p;
		start(&p, limits[i], NULL);
		run(&p, 90);
		run(&p, 120);
		print_message("%.0f/s: %.2f taken, %u refused in 120 s\n",
		    limits[i], p.taken / 120.0, p.refused);
		assert_in_range(p.taken, (unsigned)(limits[i] * 120 * 0.9),
		    (unsigned)(limits[i] * 120 * 1.005) + 1);
		assert_true(p.refused < p.taken / 20 + 10);
		finish(&p);
	}
}

static void
recovers_when_the_limit_rises(void **state)
{
	struct provider p;
	struct schedule_queue_facts facts = { 0 };

	(void)state;
	start(&p, 50, NULL);
	run(&p, 60);
	schedule_each_queue(
	    p.s, &(struct schedule_selector){ 0 }, keep_facts, &facts);
	assert_in_range(facts.site_pace, 40000000, 60000000);
	assert_string_equal(facts.pace_reply, "421 4.7.28 too fast");
	p.limit = 200;
	run(&p, 60);
	run(&p, 60);
	assert_in_range(p.taken, 200 * 60 * 9 / 10, 200 * 60 + 110);
	p.limit = 20;
	run(&p, 60);
	run(&p, 60);
	assert_in_range(p.taken, 20 * 60 * 9 / 10, 20 * 60 + 11);
	/* And is forgotten when nobody refuses any more. */
	p.limit = 100000;
	run(&p, 240);
	run(&p, 10);
	assert_true(p.taken > 5000);
	finish(&p);
}

static void
is_not_made_of_single_refusals(void **state)
{
	struct provider p;
	struct schedule_queue_facts facts = { 0 };

	(void)state;
	start(&p, 0, NULL);
	add(p.s, key_of(1, SCHEDULE_BULK, "example.com"), 1, p.now_us);
	serve_wants(&p);
	answer(&p, 0);
	assert_int_equal(p.refused, 1);
	schedule_each_queue(
	    p.s, &(struct schedule_selector){ 0 }, keep_facts, &facts);
	assert_int_equal(facts.site_pace, 0);
	finish(&p);
}

struct kept {
	size_t count;
	struct schedule_learned learned;
	char name[32], reply[64];
};

static void
on_learned(void *arg, const struct schedule_learned *learned)
{
	struct kept *kept = arg;

	kept->count++;
	kept->learned = *learned;
	assert_true(
	    span_to_cstring(learned->name, kept->name, sizeof kept->name));
	assert_true(
	    span_to_cstring(learned->reply, kept->reply, sizeof kept->reply));
}

static void
outlives_a_restart(void **state)
{
	struct provider p;
	struct kept kept = { 0 };
	struct schedule_ledger *first = schedule_ledger_new();
	struct schedule_ledger *second = schedule_ledger_new();

	(void)state;
	start(&p, 50, first);
	run(&p, 60);
	finish(&p);
	schedule_ledger_each_learned(first, on_learned, &kept);
	assert_int_equal(kept.count, 1);
	assert_string_equal(kept.name, "mx");
	kept.learned.name = span_of(kept.name);
	kept.learned.reply = span_of(kept.reply);
	schedule_ledger_learn(second, &kept.learned, START_US);
	start(&p, 50, second);
	run(&p, 20);
	print_message("%u refused after a restart\n", p.refused);
	assert_in_range(p.taken, 50 * 20 * 85 / 100, 50 * 21);
	assert_true(p.refused < 10);
	finish(&p);
	schedule_ledger_unref(&first);
	schedule_ledger_unref(&second);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(settles_below_the_limit),
		cmocka_unit_test(recovers_when_the_limit_rises),
		cmocka_unit_test(is_not_made_of_single_refusals),
		cmocka_unit_test(outlives_a_restart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
