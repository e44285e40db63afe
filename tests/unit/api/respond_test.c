/* SPDX-License-Identifier: Apache-2.0 */
#include "api/internal.h"
#include "base/time.h"
#include "rig.h"

static void
strangers_text_becomes_json(void **state)
{
	static const struct {
		struct span in;
		const char *out;
	} cases[] = {
		{ { "", 0 }, "" },
		{ { NULL, 0 }, "" },
		{ { "h\xc3\xa9llo", 6 }, "h\xc3\xa9llo" },
		{ { "a\xff", 2 }, "a\xef\xbf\xbd" },
		{ { "\xed\xa0\x80", 3 },
		    "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
		{ { "a\r\n\x1b[2J", 7 }, "a\r\n\x1b[2J" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		json_t *text = json_text(cases[i].in);

		assert_string_equal(json_string_value(text), cases[i].out);
		json_decref(text);
	}
}

static void
a_nul_does_not_end_a_text(void **state)
{
	json_t *text = json_text(span_from("a\0\xff", 3));

	(void)state;
	assert_int_equal(json_string_length(text), 5);
	json_decref(text);
}

static void
times_without_a_time_are_null(void **state)
{
	json_t *one = json_time(0), *two = json_time(TIME_NEVER);
	json_t *three = json_time(US_PER_S);

	(void)state;
	assert_true(json_is_null(one));
	assert_true(json_is_null(two));
	assert_string_equal(
	    json_string_value(three), "1970-01-01T00:00:01.000Z");
	json_decref(one);
	json_decref(two);
	json_decref(three);
	assert_true(api_wall_us(TIME_NEVER) == TIME_NEVER);
}

static void
failures_have_a_status(void **state)
{
	static const struct {
		int code, status;
		const char *name;
	} cases[] = {
		{ ERR_NOT_FOUND, 404, "not_found" },
		{ ERR_EXISTS, 409, "exists" },
		{ ERR_REFUSED, 409, "refused" },
		{ ERR_SYNTAX, 422, "invalid" },
		{ -ENOSPC, 507, "disk_full" },
		{ -EIO, 500, "failed" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct api_response response = { 0 };
		struct call call = { .response = &response };
		struct failure failure = { cases[i].code,
			"the \"thing\" is bad\xff" };

		respond_failure(&call, &failure);
		assert_int_equal(response.status, cases[i].status);
		AUTO_FREE char *wanted = mem_printf(
		    "{\"error\":{\"code\":\"%s\",\"message\":\"the \\\"thing"
		    "\\\" is bad\xef\xbf\xbd\"}}\n",
		    cases[i].name);
		assert_string_equal(buf_cstring(&response.body), wanted);
		api_response_done(&response);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strangers_text_becomes_json),
		cmocka_unit_test(a_nul_does_not_end_a_text),
		cmocka_unit_test(times_without_a_time_are_null),
		cmocka_unit_test(failures_have_a_status),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
