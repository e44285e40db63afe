/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

/* Operators, time and reloads. */

#define EVENT(type) "\"type\":\"" type "\""

static const struct stage_mail simple = {
	.body = "Subject: a\r\n\r\nhello\r\n",
	.rcpts = { "a@y.example" },
};

static const char discards[] = "  - {domains: [\"*\"], deliver: discard}\n";
/* Nobody listens there. */
static const char unreachable[] =
    "  - {domains: [\"*\"], deliver: smtp, to: \"127.0.0.1:9\"}\n";

static struct dispatch_request
durable_request(
    struct stage *s, enum dispatch_operation operation, uint64_t cut_mno)
{
	struct spool_txn *txn = spool_txn_new(s->spool);
	struct spool_order order = { .kind = SPOOL_ORDER_BOUNCE,
		.cut_mno = cut_mno };
	spool_txn_order(txn, &order);
	assert_int_equal(spool_txn_commit(&txn), 0);
	return (struct dispatch_request){
		.operation = operation,
		.reason = SPAN("because I say so"),
		.order = dispatch_order_new(s->spool, cut_mno),
		.cut_mno = cut_mno,
	};
}

static size_t
operate(struct stage *s, enum dispatch_operation operation, uint64_t mno)
{
	struct dispatch_request request = {
		.operation = operation,
		.mno = mno,
		.reason = SPAN("because I say so"),
	};
	if (mno == 0 && operation >= DISPATCH_BOUNCE)
		request =
		    durable_request(s, operation, spool_next_mno(s->spool));
	size_t count = dispatch_operate(s->dispatch, &request);
	dispatch_order_unref(&request.order);
	return count;
}

static uint64_t
standing_orders(struct stage *s)
{
	struct spool_stats stats;
	spool_stats(s->spool, &stats);
	return stats.orders;
}

static void
await_no_orders(struct stage *s)
{
	for (int i = 0; i < 1000 && standing_orders(s) > 0; i++)
		stage_run_for(s, 2 * US_PER_MS);
	assert_int_equal(standing_orders(s), 0);
}

static void
reload(struct stage *s, const char *routes)
{
	struct config *config = stage_config(s, routes, "");
	dispatch_reload(s->dispatch, config);
	config_unref(&config);
}

static void
test_hold_and_release(void **state)
{
	struct stage s;
	(void)state;
	stage_open(&s, discards, "");
	assert_int_equal(operate(&s, DISPATCH_HOLD, 0), 0);
	(void)stage_submit(&s, &simple);
	stage_run_for(&s, 30 * US_PER_MS);
	assert_int_equal(stage_count(&s, EVENT("delivered")), 0);
	assert_int_equal(operate(&s, DISPATCH_RELEASE, 0), 1);
	stage_run_until(&s, EVENT("delivered"), 1);
	stage_close(&s);
}

static void
test_bounce(void **state)
{
	struct stage s;
	(void)state;
	stage_open(&s, discards, "");
	(void)operate(&s, DISPATCH_HOLD, 0);
	uint64_t first = stage_submit(&s, &simple);
	(void)stage_submit(&s, &simple);
	(void)stage_submit(&s, &simple);
	stage_run_for(&s, 10 * US_PER_MS);
	assert_int_equal(operate(&s, DISPATCH_BOUNCE, first), 1);
	stage_run_until(&s, EVENT("bounced"), 1);
	assert_int_equal(stage_count(&s, "because I say so"), 1);
	stage_await_reports(&s, 1);
	assert_true(stage_report_says(&s, "because I say so"));
	assert_true(stage_report_says(&s, "Status: 5.0.0"));
	assert_int_equal(operate(&s, DISPATCH_BOUNCE, 0), 2);
	stage_run_until(&s, EVENT("bounced"), 3);
	stage_await_reports(&s, 3);
	assert_int_equal(stage_live(&s), 0);
	struct dispatch_stats stats;
	dispatch_stats(s.dispatch, &stats);
	assert_int_equal(stats.bounced, 3);
	await_no_orders(&s);
	stage_close(&s);
}

/* A crash came between the order and its work: the mail meets it again. */
static void
test_order_replayed(void **state)
{
	struct stage s;
	(void)state;
	stage_open(&s, discards, "");
	uint64_t cut_mno = spool_next_mno(s.spool) + 3;
	struct dispatch_request request =
	    durable_request(&s, DISPATCH_EXPIRE, cut_mno);
	dispatch_replay(s.dispatch, &request);
	dispatch_order_unref(&request.order);
	(void)stage_submit(&s, &simple);
	(void)stage_submit(&s, &simple);
	stage_run_until(&s, EVENT("expired"), 2);
	assert_int_equal(standing_orders(&s), 1);
	dispatch_recovered(s.dispatch);
	(void)stage_submit(&s, &simple); /* at the cut: not meant */
	stage_run_until(&s, EVENT("delivered"), 1);
	await_no_orders(&s);
	assert_int_equal(stage_count(&s, EVENT("expired")), 2);
	assert_int_equal(stage_live(&s), 0);
	stage_close(&s);
}

/* What is not worked off when the service ends stands for the next one. */
static void
test_order_kept(void **state)
{
	struct stage s;
	(void)state;
	stage_open(&s, discards, "");
	(void)operate(&s, DISPATCH_HOLD, 0);
	(void)stage_submit(&s, &simple);
	assert_int_equal(operate(&s, DISPATCH_BOUNCE, 0), 1);
	spool_stop(s.spool);
	dispatch_free(&s.dispatch);
	assert_int_equal(standing_orders(&s), 1);
	stage_close(&s);
}

static struct schedule_key moved_key;

static void
on_moved(void *arg, const struct schedule_queue_facts *facts)
{
	(void)arg;
	moved_key = facts->key;
}

/* To another stream: what waits now, and what comes back after a crash. */
static void
test_move(void **state)
{
	struct stage s;
	const struct schedule_selector all = { .tenant = 0 };
	(void)state;
	stage_open(&s, discards, "");
	(void)operate(&s, DISPATCH_HOLD, 0);
	(void)stage_submit(&s, &simple);
	struct dispatch_request request =
	    durable_request(&s, DISPATCH_MOVE, spool_next_mno(s.spool) + 2);
	request.to_stream = 2;
	request.to_class = SPOOL_BULK;
	assert_int_equal(dispatch_operate(s.dispatch, &request), 1);
	dispatch_order_unref(&request.order);
	(void)stage_submit(&s, &simple);
	schedule_each_queue(
	    dispatch_schedule(s.dispatch), &all, on_moved, NULL);
	assert_int_equal(moved_key.stream, 2);
	assert_int_equal(moved_key.class, SCHEDULE_BULK);
	(void)operate(&s, DISPATCH_RELEASE, 0);
	stage_run_until(&s, EVENT("delivered"), 2);
	assert_int_equal(standing_orders(&s), 1);
	stage_close(&s);
}

/* A move of which a restart finds nothing is forgotten. */
static void
test_move_forgotten(void **state)
{
	struct stage s;
	(void)state;
	stage_open(&s, discards, "");
	struct dispatch_request request =
	    durable_request(&s, DISPATCH_MOVE, spool_next_mno(s.spool));
	dispatch_replay(s.dispatch, &request);
	dispatch_order_unref(&request.order);
	dispatch_recovered(s.dispatch);
	await_no_orders(&s);
	stage_close(&s);
}

/* No room for the record and the report when the recipient ends: both come
 * when there is, once. */
static void
test_bounce_on_a_full_disk(void **state)
{
	struct stage s;
	(void)state;
	stage_open(&s, discards, "");
	(void)operate(&s, DISPATCH_HOLD, 0);
	uint64_t mno = stage_submit(&s, &simple);
	stage_run_for(&s, 10 * US_PER_MS);
	atomic_store(&stage_disk_is_full, true);
	assert_int_equal(operate(&s, DISPATCH_BOUNCE, mno), 1);
	stage_run_for(&s, 100 * US_PER_MS);
	atomic_store(&stage_disk_is_full, false);
	assert_int_equal(stage_reports(&s), 0);
	stage_await_reports(&s, 1);
	stage_run_until(&s, EVENT("bounced"), 1);
	assert_true(stage_report_says(&s, "because I say so"));
	assert_int_equal(stage_live(&s), 0);
	struct dispatch_stats stats;
	dispatch_stats(s.dispatch, &stats);
	assert_int_equal(stats.bounced, 1);
	stage_close(&s);
}

static void
test_cancel(void **state)
{
	struct stage s;
	(void)state;
	stage_open(&s, discards, "");
	(void)operate(&s, DISPATCH_HOLD, 0);
	uint64_t mno = stage_submit(&s, &simple);
	assert_int_equal(operate(&s, DISPATCH_CANCEL, mno), 1);
	stage_run_until(&s, EVENT("cancelled"), 1);
	assert_false(dispatch_busy(s.dispatch));
	stage_run_for(&s, 20 * US_PER_MS);
	assert_int_equal(stage_reports(&s), 0);
	assert_int_equal(stage_live(&s), 0);
	stage_close(&s);
}

static void
test_retry_now(void **state)
{
	struct stage s;
	(void)state;
	stage_open(&s, unreachable, "");
	uint64_t mno = stage_submit(&s, &simple);
	stage_run_until(&s, EVENT("deferred"), 1);
	assert_int_equal(operate(&s, DISPATCH_RETRY, 0), 1);
	stage_run_until(&s, EVENT("deferred"), 2);
	assert_int_equal(operate(&s, DISPATCH_RETRY, mno), 1);
	stage_close(&s);
}

static void
test_delay_warning(void **state)
{
	struct stage_mail mail = simple;
	struct stage s;
	(void)state;
	mail.warn = true;
	mail.accepted_ago_us = 4 * US_PER_HOUR + US_PER_MIN;
	stage_open(&s, unreachable, "");
	(void)operate(&s, DISPATCH_HOLD, 0);
	(void)stage_submit(&s, &mail);
	stage_await_reports(&s, 1);
	assert_true(stage_report_says(&s, "Action: delayed\r\n"));
	assert_true(stage_report_says(&s, "Will-Retry-Until: "));
	stage_run_for(&s, 20 * US_PER_MS);
	assert_int_equal(stage_reports(&s), 1);
	assert_int_equal(stage_live(&s), 1);
	stage_close(&s);
}

static void
test_expires_while_held(void **state)
{
	struct stage_mail mail = simple;
	struct stage s;
	(void)state;
	mail.expire_in_us = 100 * US_PER_MS;
	stage_open(&s, discards, "");
	(void)operate(&s, DISPATCH_HOLD, 0);
	(void)stage_submit(&s, &mail);
	stage_run_until(&s, EVENT("expired"), 1);
	assert_int_equal(stage_count(&s, "the queue was held"), 1);
	stage_await_reports(&s, 1);
	assert_int_equal(stage_live(&s), 0);
	stage_close(&s);
}

/* Mail that waits at one place goes to the other after the reload. */
static void
test_reload_moves_mail(void **state)
{
	struct stage s;
	(void)state;
	stage_open(
	    &s, unreachable, "retry: {schedule: [200ms], jitter_percent: 0}\n");
	(void)stage_submit(&s, &simple);
	stage_run_until(&s, EVENT("deferred"), 1);
	reload(&s, discards);
	(void)operate(&s, DISPATCH_RETRY, 0);
	stage_run_until(&s, EVENT("delivered"), 1);
	assert_int_equal(stage_count(&s, "\"route\":\"discard\""), 1);
	stage_close(&s);
}

/* A look-up that nobody answers is under way. */
static void
begin_lookup(struct stage *s)
{
	static const struct fake_answer silent = {
		.domain = "y.example",
		.silent = true,
	};
	fake_answers = &silent;
	fake_answer_count = 1;
	stage_open(s, "  - {domains: [\"*\"], deliver: mx}\n", "");
	(void)stage_submit(s, &simple);
	stage_run_for(s, 10 * US_PER_MS);
}

static void
end_lookup(struct stage *s)
{
	stage_close(s);
	fake_answers = NULL;
	fake_answer_count = 0;
}

/* It begins anew under the new config. */
static void
test_reload_during_lookup(void **state)
{
	struct stage s;
	(void)state;
	begin_lookup(&s);
	assert_int_equal(stage_count(&s, "\"type\""), 0);
	reload(&s, discards);
	stage_run_until(&s, EVENT("delivered"), 1);
	end_lookup(&s);
}

/* What is under way when the dispatcher goes is let go of in good order. */
static void
test_end_during_lookup(void **state)
{
	struct stage s;
	(void)state;
	begin_lookup(&s);
	assert_int_equal(stage_live(&s), 1);
	end_lookup(&s);
}

static void
test_domains_have_a_home(void **state)
{
	unsigned homes[4] = { 0 };
	(void)state;
	for (unsigned i = 0; i < 400; i++) {
		char name[32];
		(void)snprintf(name, sizeof name, "d%u.example", i);
		uint32_t home = dispatch_home(span_of(name), 4);
		assert_int_equal(home, dispatch_home(span_of(name), 4));
		assert_true(home < 4);
		homes[home]++;
	}
	for (unsigned i = 0; i < 4; i++)
		assert_in_range(homes[i], 60, 140);
	assert_int_equal(dispatch_home(SPAN("x"), 1), 0);
}

/* All dispatchers together connect as often as the config says. */
static void
test_limits_are_divided(void **state)
{
	static const uint32_t limits[] = { 1, 2, 3, 7, 20, 2000 };
	struct stage s;
	(void)state;
	for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
		char *AUTO_FREE more = mem_printf(
		    "delivery: {connections_per_site: %u}\n", limits[i]);
		stage_open(&s, discards, more);
		for (uint32_t count = 1; count < 20; count++) {
			uint32_t share = dispatch_share(s.config, count);
			uint32_t sum = 0;
			assert_in_range(share, 1, count);
			for (uint32_t n = 0; n < share; n++)
				sum += dispatch_part(limits[i], share, n);
			assert_int_equal(sum, limits[i]);
		}
		stage_close(&s);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hold_and_release),
		cmocka_unit_test(test_bounce),
		cmocka_unit_test(test_order_replayed),
		cmocka_unit_test(test_order_kept),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_move_forgotten),
		cmocka_unit_test(test_bounce_on_a_full_disk),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_retry_now),
		cmocka_unit_test(test_delay_warning),
		cmocka_unit_test(test_expires_while_held),
		cmocka_unit_test(test_reload_moves_mail),
		cmocka_unit_test(test_reload_during_lookup),
		cmocka_unit_test(test_end_during_lookup),
		cmocka_unit_test(test_domains_have_a_home),
		cmocka_unit_test(test_limits_are_divided),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
