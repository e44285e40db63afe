/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"
#include "sts/results.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */

#define DAY INT64_C(20000) /* 2024-10-04 */

static const struct sts_reporter reporter = { "Ours", "pm@relay.test" };

static const char report[] =
    "{\"organization-name\":\"Ours\",\"date-range\":{"
    "\"start-datetime\":\"2024-10-04T00:00:00Z\","
    "\"end-datetime\":\"2024-10-04T23:59:59Z\"},"
    "\"contact-info\":\"pm@relay.test\","
    "\"report-id\":\"2024-10-04.a.test\",\"policies\":["
    "{\"policy\":{\"policy-type\":\"tlsa\",\"policy-string\":["
    "\"3 1 1 ab\",\"3 1 1 cd\"],\"policy-domain\":\"a.test\"},"
    "\"summary\":{\"total-successful-session-count\":2,"
    "\"total-failure-session-count\":3},\"failure-details\":["
    "{\"result-type\":\"validation-failure\","
    "\"sending-mta-ip\":\"192.0.2.1\","
    "\"receiving-mx-hostname\":\"mx.a.test\","
    "\"receiving-ip\":\"192.0.2.9\",\"failed-session-count\":2},"
    "{\"result-type\":\"dnssec-invalid\","
    "\"receiving-mx-hostname\":\"mx.a.test\","
    "\"failed-session-count\":1}]},"
    "{\"policy\":{\"policy-type\":\"sts\",\"policy-string\":["
    "\"version: STSv1\"],\"policy-domain\":\"a.test\"},"
    "\"summary\":{\"total-successful-session-count\":1,"
    "\"total-failure-session-count\":0}}]}";

static void
fill(struct sts_results *s)
{
	struct sts_result r = { .wall_us = DAY * US_PER_DAY + 5,
		.domain = SPAN("a.test"),
		.kind = STS_KIND_TLSA,
		.policy = SPAN("3 1 1 ab\n3 1 1 cd\n"),
		.mx = SPAN("mx.a.test"),
		.address = SPAN("192.0.2.9"),
		.source = SPAN("192.0.2.1") };

	sts_results_add(s, &r);
	sts_results_add(s, &r);
	r.failure = "validation-failure";
	sts_results_add(s, &r);
	sts_results_add(s, &r);
	r.failure = "dnssec-invalid";
	r.address = r.source = SPAN_EMPTY;
	sts_results_add(s, &r);
	r.failure = NULL;
	r.kind = STS_KIND_STS;
	r.policy = SPAN("version: STSv1\n");
	sts_results_add(s, &r);
}

static void
assert_composes(struct sts_results *s)
{
	struct buf out = BUF_EMPTY;

	assert_true(sts_results_compose(s, DAY, "a.test", &reporter, &out));
	assert_string_equal(buf_cstring(&out), report);
	buf_done(&out);
}

static void
a_day_becomes_a_report(void **state)
{
	struct sts_results *s = sts_results_new();
	char domain[256];
	int64_t day = 0;
	(void)state;

	fill(s);
	assert_composes(s);
	assert_false(sts_results_due(s, DAY, domain, &day));
	assert_true(sts_results_due(s, DAY + 1, domain, &day));
	assert_string_equal(domain, "a.test");
	assert_int_equal(day, DAY);
	sts_results_drop(s, DAY, "a.test");
	assert_false(sts_results_due(s, DAY + 1, domain, &day));
	sts_results_free(&s);
}

static void
a_restart_loses_nothing(void **state)
{
	struct sts_results *s = sts_results_new();
	struct buf kept = BUF_EMPTY, again = BUF_EMPTY;
	(void)state;

	assert_false(sts_results_save(s, &kept));
	fill(s);
	assert_true(sts_results_save(s, &kept));
	assert_false(sts_results_save(s, &again));
	sts_results_free(&s);
	s = sts_results_new();
	sts_results_load(s, buf_span(&kept));
	assert_composes(s);
	sts_results_load(s, SPAN("nonsense\nday\tx\nfailure\t1\n"
				 "day\t1\tb.test\tother\t1\tp\n"
				 "day\t1\n\n\tday"));
	assert_composes(s);
	buf_done(&kept);
	sts_results_free(&s);
}

static void
there_is_an_end_to_it(void **state)
{
	struct sts_results *s = sts_results_new();
	struct sts_result r = { .wall_us = DAY * US_PER_DAY,
		.failure = "validation-failure",
		.policy = SPAN("p\tq\rr") };
	struct buf out = BUF_EMPTY;
	char name[64];
	(void)state;

	for (int i = 0; i < 10500; i++) {
		(void)snprintf(name, sizeof name, "d%d.test", i);
		r.domain = span_of(name);
		sts_results_add(s, &r);
	}
	assert_false(
	    sts_results_compose(s, DAY, "d10400.test", &reporter, &out));
	r.domain = SPAN("d1.test");
	for (int i = 0; i < 100; i++) {
		(void)snprintf(name, sizeof name, "mx%d.test", i);
		r.mx = span_of(name);
		sts_results_add(s, &r);
	}
	assert_true(sts_results_compose(s, DAY, "d1.test", &reporter, &out));
	assert_non_null(
	    strstr(buf_cstring(&out), "\"total-failure-session-count\":101"));
	assert_null(strstr(buf_cstring(&out), "mx50.test"));
	assert_non_null(strstr(buf_cstring(&out), "\"p q r\""));
	buf_done(&out);
	sts_results_free(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_day_becomes_a_report),
		cmocka_unit_test(a_restart_loses_nothing),
		cmocka_unit_test(there_is_an_end_to_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
