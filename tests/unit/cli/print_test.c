/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"
#include "cli/internal.h"
#include "os/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void
times_are_told_from_now(void **state)
{
	static const struct {
		int64_t from_now_us;
		const char *next, *past;
	} cases[] = {
		{ -5 * US_PER_S - 1, "now", "5 s" },
		{ 0, "now", "0 s" },
		{ 30 * US_PER_S + US_PER_S / 2, "in 30 s", "0 s" },
		{ 4 * US_PER_MIN + US_PER_S, "in 4 min", "0 s" },
		{ -2 * US_PER_HOUR - US_PER_S, "now", "2 h" },
	};

	char time[TIME_RFC3339_SIZE], text[WHEN_SIZE];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		time_format_rfc3339(
		    clock_wall_us() + cases[i].from_now_us, time);
		assert_string_equal(when_next(time, text), cases[i].next);
		assert_string_equal(when_past(time, text), cases[i].past);
	}
	assert_string_equal(when_next("", text), "-");
	assert_string_equal(when_past("soon", text), "-");
}

static void
sizes_are_rounded(void **state)
{
	static const struct {
		long long bytes;
		const char *text;
	} cases[] = {
		{ 0, "0 B" },
		{ 999, "999 B" },
		{ 1000, "1.0 KB" },
		{ 12345, "12 KB" },
		{ 9900000, "9.9 MB" },
		{ 5000000000000000, "5000 TB" },
	};

	char text[WHEN_SIZE];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_string_equal(
		    format_bytes(cases[i].bytes, text), cases[i].text);
}

static void
an_event_is_one_line(void **state)
{
	static const struct {
		const char *json, *line;
	} cases[] = {
		{ "{\"type\":\"accepted\",\"time\":\"T\",\"message_id\":\"I\","
		  "\"recipient\":\"a@b\"}",
		    "T  accepted    I  <> -> a@b" },
		{ "{\"type\":\"delivered\",\"time\":\"T\",\"message_id\":\"I\","
		  "\"sender\":\"s@x\",\"recipient\":\"a@b\",\"code\":250,"
		  "\"enhanced\":\"2.0.0\",\"reply\":\"250 2.0.0 ok\","
		  "\"peer_host\":\"mx.b\"}",
		    "T  delivered   I  s@x -> a@b  250 2.0.0 ok  at mx.b" },
		{ "{\"type\":\"expired\",\"time\":\"T\",\"message_id\":\"I\","
		  "\"sender\":\"s@x\",\"recipient\":\"a@b\","
		  "\"enhanced\":\"4.4.7\",\"reply\":\"a\\u001b[2J\\nb\"}",
		    "T  expired     I  s@x -> a@b  4.4.7  a?[2J?b" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		json_t *event = json_loads(cases[i].json, 0, NULL);
		struct buf line = BUF_EMPTY;

		assert_non_null(event);
		event_line(event, &line);
		assert_string_equal(buf_cstring(&line), cases[i].line);
		buf_done(&line);
		json_decref(event);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_are_told_from_now),
		cmocka_unit_test(sizes_are_rounded),
		cmocka_unit_test(an_event_is_one_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
