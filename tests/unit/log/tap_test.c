/* SPDX-License-Identifier: Apache-2.0 */
#include "log/tap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct tap_session session = {
	.id = 7, .inbound = true, .peer = "192.0.2.1"
};

static void
nobody_listens(void **state)
{
	(void)state;
	assert_false(tap_is_on());
	tap_lines(&session, TAP_IN, SPAN("EHLO x\r\n"));
}

static void
a_burst_becomes_lines(void **state)
{
	struct tap_listener *l = tap_listen(SPAN("192.0.2."));
	struct buf out = BUF_EMPTY;

	(void)state;
	assert_true(tap_is_on());
	tap_lines(&session, TAP_OUT, SPAN("250-one\r\n250 two\r\n"));
	assert_int_equal(tap_read(l, 0, &out), 2);
	assert_non_null(strstr(buf_cstring(&out), "\"line\":\"250-one\"}\n"));
	assert_non_null(strstr(buf_cstring(&out),
	    "\"session\":7,\"side\":\"server\",\"direction\":\"out\","
	    "\"peer\":\"192.0.2.1\",\"line\":\"250 two\"}\n"));
	assert_int_equal(tap_read(l, 1000, &out), 0);
	buf_done(&out);
	tap_listener_free(&l);
	assert_false(tap_is_on());
}

static void
others_are_not_shown(void **state)
{
	struct tap_listener *l = tap_listen(SPAN("198.51.100.9"));
	struct buf out = BUF_EMPTY;

	(void)state;
	tap_lines(&session, TAP_IN, SPAN("NOOP\r\n"));
	assert_int_equal(tap_read(l, 0, &out), 0);
	buf_done(&out);
	tap_listener_free(&l);
}

static void
a_slow_reader_is_told(void **state)
{
	struct tap_listener *l = tap_listen(SPAN_EMPTY);
	struct buf out = BUF_EMPTY;

	(void)state;
	for (int i = 0; i < 20000; i++)
		tap_lines(&session, TAP_IN, SPAN("NOOP\r\n"));
	size_t count = tap_read(l, 0, &out);
	assert_in_range(count, 1000, 15000);
	assert_in_range(buf_size(&out), 1000, 1100 * 1024);
	assert_non_null(strstr(buf_cstring(&out), "lines were lost"));
	buf_done(&out);
	tap_listener_free(&l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_listens),
		cmocka_unit_test(a_burst_becomes_lines),
		cmocka_unit_test(others_are_not_shown),
		cmocka_unit_test(a_slow_reader_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
