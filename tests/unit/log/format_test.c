/* SPDX-License-Identifier: Apache-2.0 */
#include "log/internal.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */

#include "base/mem.h"

static void
assert_formats(
    const struct log_record *record, const char *text, const char *json)
{
	struct buf b = BUF_EMPTY;

	log_format_text(&b, record);
	assert_string_equal(buf_cstring(&b), text);
	buf_clear(&b);
	log_format_json(&b, record);
	assert_string_equal(buf_cstring(&b), json);
	buf_done(&b);
}

static struct log_record
record_of(const struct log_field *fields)
{
	return (struct log_record){ .wall_us = INT64_C(1795455889123456),
		.level = LOG_INFO,
		.room = "receive",
		.message = "auth failed",
		.fields = fields };
}

static void
test_columns(void **state)
{
	(void)state;
	const struct log_field fields[] = { LOG_C("client", "192.0.2.1"),
		LOG_C("user", NULL), LOG_N("tries", -3), { .name = NULL } };
	struct log_record record = record_of(fields);
	assert_formats(&record,
	    "2026-11-23T17:44:49.123Z info  receive: auth failed  "
	    "client=192.0.2.1 tries=-3\n",
	    "{\"time\":\"2026-11-23T17:44:49.123Z\",\"level\":\"info\","
	    "\"room\":\"receive\",\"message\":\"auth failed\","
	    "\"client\":\"192.0.2.1\",\"tries\":-3}\n");
	record.fields = &fields[3];
	record.level = LOG_WARNING;
	assert_formats(&record,
	    "2026-11-23T17:44:49.123Z warn  receive: auth failed\n",
	    "{\"time\":\"2026-11-23T17:44:49.123Z\",\"level\":\"warning\","
	    "\"room\":\"receive\",\"message\":\"auth failed\"}\n");
}

/* Neither a line end nor a terminal sequence gets through. */
static void
test_hostile_values(void **state)
{
	(void)state;

	static const struct {
		const char *value, *text;
	} cases[] = {
		{ "a@b", "a@b" },
		{ "", "\"\"" },
		{ "two words", "\"two words\"" },
		{ "a=b", "\"a=b\"" },
		{ "x\r\nfake: line", "\"x\\r\\nfake: line\"" },
		{ "\x1b[2J", "\"\\u001b[2J\"" },
		{ "\xc2\x9b"
		  "2J",
		    "\"\\u009b2J\"" },
		{ "%s%n", "%s%n" },
		{ "\xff", "\"\xef\xbf\xbd\"" },
		{ "gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\"" },
		{ "say \"x\\\"", "\"say \\\"x\\\\\\\"\"" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct log_field fields[] = { LOG_C("v", cases[i].value),
			{ .name = NULL } };
		struct log_record record = record_of(fields);
		struct buf b = BUF_EMPTY;
		log_format_text(&b, &record);
		const char *value = strstr(buf_cstring(&b), "  v=");
		assert_non_null(value);
		assert_int_equal(strlen(value), strlen(cases[i].text) + 5);
		assert_memory_equal(
		    value + 4, cases[i].text, strlen(cases[i].text));
		buf_done(&b);
	}
}

static void
test_long_values(void **state)
{
	(void)state;
	for (size_t shift = 0; shift < 4; shift++) {
		char value[3 * LOG_VALUE_MAX];
		memset(value, 'x', shift);
		for (size_t i = shift; i + 4 <= sizeof value; i += 4)
			memcpy(value + i, "\xf0\x9f\x93\xae", 4);
		const struct log_field fields[] = {
			LOG_S("v", span_from(value, sizeof value)),
			{ .name = NULL }
		};
		struct log_record record = record_of(fields);
		struct buf b = BUF_EMPTY;
		log_format_text(&b, &record);
		assert_true(buf_size(&b) < LOG_VALUE_MAX + 100);
		assert_true(buf_size(&b) > LOG_VALUE_MAX);
		assert_true(span_search(buf_span(&b), SPAN("\xef\xbf\xbd")) ==
			    SIZE_MAX);
		assert_non_null(strstr(buf_cstring(&b), "\"...\n"));
		buf_done(&b);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_columns),
		cmocka_unit_test(test_hostile_values),
		cmocka_unit_test(test_long_values),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
