/* SPDX-License-Identifier: Apache-2.0 */
#include "event/event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void
names_go_both_ways(void **state)
{
	enum event_type type;

	(void)state;
	for (int i = 0; i < EVENT_TYPES; i++) {
		const char *name = event_type_name((enum event_type)i);

		assert_true(event_type_parse(span_of(name), &type));
		assert_int_equal(type, i);
	}
	assert_false(event_type_parse(SPAN("Accepted"), &type));
	assert_false(event_type_parse(SPAN(""), &type));
}

static void
a_full_line_has_every_field_once(void **state)
{
	struct buf out = BUF_EMPTY;
	struct event e = { .type = EVENT_DEFERRED,
		.time_us = 1700000000123456,
		.message_id = msgid_make(1700000000000000, 1, 42, 7),
		.event_id = msgid_random(1700000000000000, 1, 2),
		.tenant = SPAN("default"),
		.stream = SPAN("bulk"),
		.recipient = SPAN("a@example.com"),
		.size = 4096,
		.attempt = 2,
		.code = 451,
		.enhanced = SPAN("4.7.1"),
		.reply = SPAN("grey\r\nlisted \"now\" \x1b[31m"),
		.tls = SPAN("TLSv1.3 X"),
		.attempt_us = 1234567,
		.next_attempt_us = 1700000060000000 };

	(void)state;
	event_render(&e, &out);
	const char *text = buf_cstring(&out);
	assert_non_null(strstr(text,
	    "{\"type\":\"deferred\",\"time\":\"2023-11-14T22:13:20.123Z\""));
	assert_non_null(strstr(text, "\"attempt_seconds\":1.234"));
	assert_non_null(strstr(text, "\"tls_verified\":false"));
	assert_non_null(
	    strstr(text, "\"next_attempt\":\"2023-11-14T22:14:20.000Z\""));
	assert_null(strstr(text, "sender"));
	assert_null(strstr(text, "duplicate_risk"));
	buf_clear(&out);
	e.mno = 77;
	e.recipients = 3;
	event_render(&e, &out);
	text = buf_cstring(&out);
	assert_non_null(strstr(text, "\"mno\":77,\"recipients\":3"));
	assert_null(strstr(text, "message_id"));
	buf_done(&out);
}

/* A peer's bytes can neither end a line nor reach a terminal raw. */
static void
hostile_text_stays_one_line(void **state)
{
	struct buf out = BUF_EMPTY;
	struct event e = { .type = EVENT_BOUNCED,
		.reply = SPAN("a\nb\r\n\"c\\\0d\xff\x1b") };

	(void)state;
	event_render(&e, &out);
	struct span line = buf_span(&out);
	assert_int_equal(span_find(line, '\n'), line.len - 1);
	assert_true(span_is_utf8(line));
	for (size_t i = 0; i + 1 < line.len; i++)
		assert_true((unsigned char)line.ptr[i] >= ' ');
	buf_done(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_go_both_ways),
		cmocka_unit_test(a_full_line_has_every_field_once),
		cmocka_unit_test(hostile_text_stays_one_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
