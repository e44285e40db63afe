/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "deliver/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct result
result_with(enum spool_outcome_kind kind, uint16_t code, const char *step)
{
	return (struct result){
		.kind = kind,
		.step = step,
		.reply = { .code = code, .text = SPAN("text") },
	};
}

static void
test_fates(void **state)
{
	static const struct {
		struct smtp_client_fate fate;
		enum spool_outcome_kind kind;
		bool risk, relayed, local;
	} table[] = {
		{ { .kind = SMTP_FATE_DELIVERED }, SPOOL_DELIVERED, false,
		    false, false },
		{ { .kind = SMTP_FATE_DELIVERED, .relayed_without_dsn = true },
		    SPOOL_DELIVERED, false, true, false },
		{ { .kind = SMTP_FATE_PERMANENT }, SPOOL_BOUNCED, false, false,
		    false },
		{ { .kind = SMTP_FATE_TEMPORARY }, SPOOL_DEFERRED, false, false,
		    false },
		{ { .kind = SMTP_FATE_TEMPORARY,
		      .unknown = true,
		      .local = true },
		    SPOOL_DEFERRED, true, false, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct smtp_client_fate fate = table[i].fate;
		fate.step = SMTP_CLIENT_STEP_END;
		struct result r = result_of_fate(&fate);
		assert_int_equal(r.kind, table[i].kind);
		assert_int_equal(r.duplicate_risk, table[i].risk);
		assert_int_equal(r.relayed, table[i].relayed);
		assert_int_equal(r.local, table[i].local);
		assert_string_equal(r.step, "end");
	}
}

/* One letter and one digit per recipient: d250, b550, t450; the runs as their
 * lengths. */
static void
test_runs(void **state)
{
	static const struct {
		const char *results, *runs;
	} table[] = {
		{ "d", "1" },
		{ "ddd", "3" },
		{ "dbd", "111" },
		{ "ddbbtt", "222" },
		{ "bc", "11" }, /* two codes of 5xx are two facts */
		{ "tu", "2" }, /* two of 4xx are tried again together */
		{ "ta", "11" }, /* but not with one that goes at once */
		{ "tdtdt", "11111" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct result results[8];
		struct run runs[8];
		char lengths[9] = "";
		size_t count = strlen(table[i].results);
		uint32_t covered = 0;
		for (size_t k = 0; k < count; k++) {
			char c = table[i].results[k];
			results[k] = result_with(SPOOL_DEFERRED, 450, "rcpt");
			if (c == 'd')
				results[k].kind = SPOOL_DELIVERED;
			else if (c == 'b' || c == 'c')
				results[k].kind = SPOOL_BOUNCED;
			results[k].again = c == 'a';
			if (c == 'c' || c == 'u')
				results[k].reply.code++;
		}
		size_t n = result_make_runs(results, count, runs);
		for (size_t k = 0; k < n; k++) {
			assert_int_equal(runs[k].first, covered);
			covered += runs[k].count;
			lengths[k] = (char)('0' + runs[k].count);
			lengths[k + 1] = '\0';
		}
		assert_int_equal(covered, count);
		assert_string_equal(lengths, table[i].runs);
	}
}

static void
test_again(void **state)
{
	struct result results[3] = {
		result_with(SPOOL_DELIVERED, 250, "end"),
		result_with(SPOOL_DEFERRED, 452, "rcpt"),
		result_with(SPOOL_DEFERRED, 450, "rcpt"),
	};
	(void)state;
	result_mark_again(results, 3);
	assert_false(results[0].again);
	assert_true(results[1].again);
	assert_false(results[2].again);

	/* "out of space" is another 452 */
	results[1].reply.enhanced = (struct enhanced_code){ 3, 1, 4 };
	result_mark_again(results, 3);
	assert_false(results[1].again);
	results[1].reply.enhanced = (struct enhanced_code){ 5, 3, 4 };
	result_mark_again(results, 3);
	assert_true(results[1].again);

	/* without progress it would go round for ever */
	results[0].kind = SPOOL_BOUNCED;
	result_mark_again(results, 3);
	assert_false(results[1].again);

	/* not in answer to RCPT */
	results[0].kind = SPOOL_DELIVERED;
	results[1].step = "end";
	result_mark_again(results, 3);
	assert_false(results[1].again);
}

static void
test_greetings(void **state)
{
	static const struct {
		uint16_t code;
		bool final;
	} table[] = { { 521, true }, { 556, true }, { 554, false },
		{ 550, false }, { 421, false }, { 450, false } };

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct reply reply = { .code = table[i].code };
		assert_int_equal(
		    result_greeting_is_final(&reply), table[i].final);
	}
}

static void
test_resolve(void **state)
{
	static const struct {
		enum resolve_result result;
		enum spool_outcome_kind kind;
		const char *status;
	} table[] = {
		{ RESOLVE_TEMPORARY, SPOOL_DEFERRED, "4.4.3" },
		{ RESOLVE_NO_DOMAIN, SPOOL_BOUNCED, "5.1.2" },
		{ RESOLVE_NULL_MX, SPOOL_BOUNCED, "5.1.10" },
		{ RESOLVE_NO_ADDRESS, SPOOL_BOUNCED, "5.4.4" },
		{ RESOLVE_PRIVATE, SPOOL_BOUNCED, "5.4.4" },
		{ RESOLVE_LOOP, SPOOL_BOUNCED, "5.4.6" },
	};
	struct arena *arena = arena_new();
	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct result r =
		    result_of_resolve(table[i].result, SPAN_EMPTY);
		assert_int_equal(r.kind, table[i].kind);
		assert_true(r.local);
		assert_true(r.reply.text.len > 0);
		assert_true(span_eq(
		    result_status(&r, arena), span_of(table[i].status)));
		r = result_of_resolve(table[i].result, SPAN("why"));
		assert_true(span_eq(r.reply.text, SPAN("why")));
	}
	arena_free(&arena);
}

static void
test_status_and_line(void **state)
{
	static const struct {
		enum spool_outcome_kind kind;
		bool local;
		struct reply reply;
		const char *status, *line;
	} table[] = {
		{ SPOOL_BOUNCED, false,
		    { 550, { 1, 1, 5 }, { "no such user", 12 } }, "5.1.1",
		    "550 5.1.1 no such user" },
		{ SPOOL_BOUNCED, false, { 550, { 0 }, { "no", 2 } }, "5.0.0",
		    "550 no" },
		/* the class follows what became of it */
		{ SPOOL_BOUNCED, false,
		    { 550, { 7, 1, 4 }, { "a\nb\x1b[1m", 7 } }, "5.7.1",
		    "550 4.7.1 a b [1m" },
		{ SPOOL_DEFERRED, true, { 451, { 4, 1, 4 }, { "refused", 7 } },
		    "4.4.1", "refused" },
		{ SPOOL_EXPIRED, false,
		    { 0, { 4, 7, 5 }, { "450 4.2.0 later", 15 } }, "5.4.7",
		    "450 4.2.0 later" },
		{ SPOOL_DELIVERED, false, { 250, { 0 }, { "ok", 2 } }, "2.0.0",
		    "250 ok" },
	};
	struct arena *arena = arena_new();
	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct result r = {
			.kind = table[i].kind,
			.local = table[i].local,
			.reply = table[i].reply,
		};
		struct span status = result_status(&r, arena);
		struct span line = result_line(&r, arena);
		assert_true(span_eq(status, span_of(table[i].status)));
		assert_true(span_eq(line, span_of(table[i].line)));
	}
	arena_free(&arena);
}

static void
test_min_delay(void **state)
{
	struct result r = result_with(SPOOL_DEFERRED, 451, "rcpt");
	(void)state;
	assert_int_equal(result_min_delay_us(&r), 0);
	r.reply.text = SPAN("you are Greylisted, try later");
	assert_int_equal(result_min_delay_us(&r), 5 * US_PER_MIN);
	r.local = true;
	assert_int_equal(result_min_delay_us(&r), 0);
}

static void
test_pace(void **state)
{
	static const struct {
		uint16_t code;
		struct enhanced_code enhanced;
		const char *text;
		enum result_pace pace;
	} cases[] = {
		{ 421, { 3, 2, 4 }, "closing", RESULT_PACE_FAST },
		{ 421, { 7, 0, 4 }, "Too many connections from you",
		    RESULT_PACE_CROWDED },
		{ 421, { 0 }, "too many concurrent sessions",
		    RESULT_PACE_CROWDED },
		{ 450, { 7, 1, 4 }, "message rate exceeded", RESULT_PACE_FAST },
		{ 450, { 7, 1, 4 }, "Sender not known", RESULT_PACE_FINE },
		{ 450, { 2, 0, 4 }, "mailbox: over the limit",
		    RESULT_PACE_FINE },
		{ 550, { 7, 1, 5 }, "rate", RESULT_PACE_FINE },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct result r =
		    result_with(SPOOL_DEFERRED, cases[i].code, "mail");
		r.reply.enhanced = cases[i].enhanced;
		r.reply.text = span_of(cases[i].text);
		assert_int_equal(result_pace(&r), cases[i].pace);
		r.local = true;
		assert_int_equal(result_pace(&r), RESULT_PACE_FINE);
	}
}

static struct config_route
route_to(enum config_deliver deliver, const char *to)
{
	return (struct config_route){
		.deliver = deliver,
		.to = (char *)(uintptr_t)to,
		.port = 25,
	};
}

static void
test_site_names(void **state)
{
	struct config_route route = route_to(CONFIG_DELIVER_MX, NULL);
	(void)state;
	char *name = route_site_name(&route, "mx.example.com");
	assert_string_equal(name, "mx mx.example.com");
	mem_free(name);

	/* whatever makes another connection makes another site */
	route.port = 2525;
	route.tls = CONFIG_ROUTE_TLS_REQUIRE;
	name = route_site_name(&route, "mx.example.com");
	assert_string_equal(name, "mx mx.example.com port=2525 tls=require");
	mem_free(name);
	name = route_place(&route);
	assert_string_equal(name, "mx port=2525 tls=require");
	mem_free(name);

	route = route_to(CONFIG_DELIVER_LMTP, "unix:/run/lmtp");
	route.tls = CONFIG_ROUTE_TLS_NONE;
	name = route_site_name(&route, NULL);
	assert_string_equal(name, "lmtp unix:/run/lmtp tls=none");
	mem_free(name);

	route = route_to(CONFIG_DELIVER_DISCARD, NULL);
	name = route_site_name(&route, NULL);
	assert_string_equal(name, "discard");
	mem_free(name);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fates),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_again),
		cmocka_unit_test(test_greetings),
		cmocka_unit_test(test_resolve),
		cmocka_unit_test(test_status_and_line),
		cmocka_unit_test(test_min_delay),
		cmocka_unit_test(test_pace),
		cmocka_unit_test(test_site_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
