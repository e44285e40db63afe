/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "report/returned_read.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct judge *judge;
static struct arena *arena;

static int
set_up(void **state)
{
	(void)state;
	judge = judge_new();
	arena = arena_new();
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	judge_free(&judge);
	arena_free(&arena);
	return 0;
}

static struct returned_report
read_text(const char *text)
{
	struct returned_report r;

	returned_read(judge, span_of(text), arena, &r);
	return r;
}

#define EQUALS(span, text) assert_true(span_eq((span), SPAN(text)))

static void
test_delivery_report(void **state)
{
	struct returned_report r = read_text(
	    "From: a\r\nContent-Type: multipart/report; boundary=B\r\n\r\n"
	    "--B\r\n\r\nwords\r\n--B\r\nContent-Type: "
	    "message/delivery-status\r\n\r\n"
	    "Reporting-MTA: dns; mx.example\r\n\r\n"
	    "Original-Recipient: rfc822;A@x.example\r\n"
	    "FINAL-RECIPIENT: rfc822; b@y.example\r\nAction: failed\r\n"
	    "Status: 5.1.1 (no such user)\r\n"
	    "Diagnostic-Code: smtp; 550 5.1.1\r\n"
	    "  no such\r\n\tuser\r\n\r\n"
	    "Final-Recipient: rfc822;c@y.example\nAction: delayed\n"
	    "Status: 4.2.2\n\n--B--\r\n");

	(void)state;
	assert_int_equal(r.kind, RETURNED_DELIVERY_REPORT);
	assert_int_equal(r.recipient_count, 2);
	EQUALS(r.reporting_mta, "mx.example");
	EQUALS(r.recipients[0].address, "b@y.example");
	EQUALS(r.recipients[0].original, "A@x.example");
	EQUALS(r.recipients[0].status, "5.1.1");
	EQUALS(r.recipients[0].reply, "550 5.1.1 no such user");
	assert_int_equal(r.recipients[0].action, ACTION_FAILED);
	assert_int_equal(r.recipients[0].class, CLASS_NO_SUCH_USER);
	assert_true(r.recipients[0].suppresses);
	EQUALS(r.recipients[1].address, "c@y.example");
	assert_int_equal(r.recipients[1].action, ACTION_DELAYED);
	assert_false(r.recipients[1].suppresses);
}

static void
test_a_delay_suppresses_nobody(void **state)
{
	struct returned_report r =
	    read_text("A: b\n\nFinal-Recipient: rfc822;c@y.example\n"
		      "Action: delayed\nStatus: 5.1.1\n"
		      "Diagnostic-Code: smtp; 550 5.1.1 no such user\n");

	(void)state;
	assert_int_equal(r.recipient_count, 1);
	assert_false(r.recipients[0].suppresses);
}

static void
test_feedback(void **state)
{
	struct returned_report r = read_text(
	    "From: fbl@provider.example\r\n\r\n--B\r\nContent-Type: "
	    "message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n"
	    "User-Agent: P/1\r\nOriginal-Mail-From: <b+x@b.example>\r\n"
	    "Original-Rcpt-To: <a@x.example>\r\n\r\n--B\r\n"
	    "Content-Type: message/rfc822\r\n\r\n"
	    "Return-Path: <b+y@b.example>\r\nTo: a@x.example\r\n\r\nx\r\n");

	(void)state;
	assert_int_equal(r.kind, RETURNED_FEEDBACK_REPORT);
	EQUALS(r.feedback_type, "abuse");
	EQUALS(r.original_mail_from, "<b+x@b.example>");
	EQUALS(r.original_rcpt_to, "<a@x.example>");
	EQUALS(r.return_path, "<b+y@b.example>");
	EQUALS(r.to, "a@x.example");
}

static void
test_what_reports_nothing(void **state)
{
	(void)state;
	assert_int_equal(
	    read_text("Auto-Submitted: auto-replied\n\nAction: failed\n").kind,
	    RETURNED_AUTOMATIC_REPLY);
	static const char *const texts[] = { "", "\n", ":", "a\r\r\n\n\n",
		/* Its own header is no part. */
		"Final-Recipient: rfc822;a@x\nAction: failed\n\nx",
		"A: b\n\nFinal-Recipient: rfc822;a@x\nAction: flung\n",
		"A: b\n\nFinal-Recipient: rfc822;a@x\n\nAction: failed\n" };
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		assert_int_equal(read_text(texts[i]).kind, RETURNED_NONE);
}

/* G6: ten thousand recipients, endless folding. */
static void
test_is_bounded(void **state)
{
	struct buf text = BUF_EMPTY;

	(void)state;
	buf_append_str(&text, "A: b\n\n");
	for (int i = 0; i < 12000; i++)
		buf_printf(&text,
		    "Final-Recipient: rfc822;a%d@x.example\n"
		    "Action: failed\nStatus: 5.1.1\n\n",
		    i);
	struct returned_report r = read_text(buf_cstring(&text));
	assert_true(r.recipient_count <= REPORT_RECIPIENTS_MAX &&
		    r.recipient_count > 9000);
	buf_clear(&text);
	arena_reset(arena);
	for (size_t i = 0; i < REPORT_BYTES_MAX / 4100; i++) {
		buf_append_str(&text, "Status: ");
		for (int j = 0; j < 4000; j++)
			buf_append_char(&text, 'x');
		for (int j = 0; j < 40; j++)
			buf_append_str(&text, "\n x");
		buf_append_char(&text, '\n');
	}
	(void)read_text(buf_cstring(&text));
	assert_true(arena_used(arena) < 16 * 1024 * 1024);
	buf_done(&text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_delivery_report),
		cmocka_unit_test(test_a_delay_suppresses_nobody),
		cmocka_unit_test(test_feedback),
		cmocka_unit_test(test_what_reports_nothing),
		cmocka_unit_test(test_is_bounded),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
