/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

static void
bodies_are_read_strictly(void **state)
{
	static const struct {
		const char *body, *code;
	} cases[] = {
		{ "", "bad_json" },
		{ "{", "bad_json" },
		{ "[]", "bad_json" },
		{ "\"x\"", "bad_json" },
		{ "{\"name\":\"a\"} x", "bad_json" },
		{ "{\"name\":\"a\",\"name\":\"b\"}", "bad_json" },
		{ "{\"name\":\"\\u0000\"}", "bad_json" },
		{ "{\"name\":\"\xff\"}", "bad_json" },
		{ "{\"name\":NaN}", "bad_json" },
		{ "{}", "missing_field" },
		{ "{\"name\":null}", "missing_field" },
		{ "{\"name\":1}", "bad_field" },
		{ "{\"name\":[\"a\"]}", "bad_field" },
		{ "{\"name\":\"a\",\"colour\":\"red\"}", "unknown_field" },
		{ "{\"name\":\"a\",\"__proto__\":{}}", "unknown_field" },
	};
	struct rig rig;

	(void)state;
	rig_open(&rig);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_equal(
		    rig_ask(&rig, "POST", "/api/v1/tenants", cases[i].body),
		    400);
		assert_string_equal(rig_error(&rig), cases[i].code);
	}
	rig_close(&rig);
}

static void
depth_is_bounded(void **state)
{
	struct buf body = BUF_EMPTY;
	struct rig rig;

	(void)state;
	rig_open(&rig);
	buf_append_str(&body, "{\"networks\":");
	for (int i = 0; i < 100000; i++)
		buf_append_char(&body, '[');
	assert_int_equal(
	    rig_ask(&rig, "POST", "/api/v1/credentials", buf_cstring(&body)),
	    400);
	assert_string_equal(rig_error(&rig), "bad_json");
	buf_done(&body);
	rig_close(&rig);
}

static void
lists_have_strings_only(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	assert_int_equal(rig_ask(&rig, "POST", "/api/v1/credentials",
			     "{\"networks\":[\"::1\", 7]}"),
	    400);
	assert_string_equal(rig_error(&rig), "bad_field");
	assert_int_equal(rig_ask(&rig, "POST", "/api/v1/credentials",
			     "{\"networks\":\"::1\"}"),
	    400);
	rig_close(&rig);
}

static void
numbers_in_queries_are_checked(void **state)
{
	static const char *const bad[] = { "-1", "x", "1x", "10001",
		"99999999999999999999", " 1" };
	struct rig rig;

	(void)state;
	rig_open(&rig);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		const char *const query[] = { "limit", bad[i], NULL };

		rig.query = query;
		assert_int_equal(
		    rig_ask(&rig, "GET", "/api/v1/tenants", ""), 400);
		assert_string_equal(rig_error(&rig), "bad_query");
	}
	rig.query = NULL;
	rig_close(&rig);
}

static void
times_are_points_or_ages(void **state)
{
	static const struct {
		const char *since;
		int status;
	} cases[] = {
		{ "2026-11-23T17:44:49Z", 200 },
		{ "2h", 200 },
		{ "", 200 },
		{ "yesterday", 400 },
		{ "2026-13-01T00:00:00Z", 400 },
		{ "99999999w", 400 },
	};
	struct rig rig;

	(void)state;
	rig_open(&rig);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *const query[] = { "since", cases[i].since, NULL };

		rig.query = query;
		assert_int_equal(rig_ask(&rig, "GET", "/api/v1/events", ""),
		    cases[i].status);
	}
	rig.query = NULL;
	rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bodies_are_read_strictly),
		cmocka_unit_test(depth_is_bounded),
		cmocka_unit_test(lists_have_strings_only),
		cmocka_unit_test(numbers_in_queries_are_checked),
		cmocka_unit_test(times_are_points_or_ages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
