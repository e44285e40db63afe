/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "bounce/report.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* A row: a message, and what it is to be read as: its recipients with commas,
 * the class of the first, and "p" for permanent, "s" for suppresses. */
static const struct row {
	const char *name, *message;
	enum bounce_kind kind;
	const char *recipients;
	enum reply_class class;
	const char *marks;
} rows[] = {
	{ "delivery report",
	  "From: Mail Delivery System <MAILER-DAEMON@relay.example>\nSubject: Undelivered Mail Returned to Sender\n"
	  "MIME-Version: 1.0\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n"
	  "--b\nContent-Type: text/plain\n\nIt did not arrive.\n"
	  "--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; relay.example\n\n"
	  "Final-Recipient: rfc822; ann@one.example\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no such\n user here\n\n"
	  "Final-Recipient: rfc822; bob@two.example\nAction: delayed\nStatus: 4.4.1\n\n"
	  "--b\nContent-Type: message/rfc822\n\nMessage-ID: <1@sender.example>\nX-Token: abc\nTo: ann@one.example\n\nhello\n--b--\n",
	  BOUNCE_DELIVERY_REPORT, "ann@one.example,bob@two.example", CLASS_NO_SUCH_USER, "ps" },
	{ "delayed only",
	  "From: MAILER-DAEMON@relay.example\nSubject: Delayed Mail\n"
	  "Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\n\n"
	  "--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; relay.example\n\n"
	  "Final-Recipient: rfc822; ann@one.example\nAction: delayed\nStatus: 4.1.1\n\n--b--\n",
	  BOUNCE_DELIVERY_REPORT, "ann@one.example", CLASS_NO_SUCH_USER, "" },
	{ "internationalised",
	  "From: MAILER-DAEMON@relay.example\nSubject: Undelivered\n"
	  "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n"
	  "--b\nContent-Type: message/global-delivery-status\nContent-Transfer-Encoding: 8bit\n\nReporting-MTA: dns; relay.example\n\n"
	  "Final-Recipient: utf-8; \xc3\xa4nne@one.example\nAction: failed\nStatus: 5.1.1\n\n--b--\n",
	  BOUNCE_DELIVERY_REPORT, "\xc3\xa4nne@one.example", CLASS_NO_SUCH_USER, "ps" },
	{ "qmail's words",
	  "From: MAILER-DAEMON@relay.example\nSubject: failure notice\n\n"
	  "The mail program at relay.example could not deliver this.\n\n<ann@one.example>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n"
	  "--- Below this line is a copy of the message.\n\nTo: other@two.example\n<other@two.example>:\n",
	  BOUNCE_TEXT, "ann@one.example", CLASS_NO_SUCH_USER, "ps" },
	{ "a list of addresses",
	  "From: Mail Delivery System <Mailer-Daemon@relay.example>\nSubject: Mail delivery failed\n\n"
	  "Your message could not be delivered to all. The following\naddress(es) failed:\n\n  ann@one.example\n    host mx.one.example: 552 5.2.2 mailbox full\n"
	  "  bob@two.example\n    550 user unknown\n\n------ This is a copy of the message ------\n\nTo: carl@three.example\n",
	  BOUNCE_TEXT, "ann@one.example,bob@two.example", CLASS_MAILBOX_FULL, "p" },
	{ "a warning in words",
	  "From: Mail Delivery System <Mailer-Daemon@relay.example>\nSubject: Warning: message delayed 24 hours\n\n"
	  "Your message has not yet been delivered to these recipients:\n\n  ann@one.example\n\nDelivery attempts will continue.\n",
	  BOUNCE_TEXT, "ann@one.example", CLASS_OTHER, "" },
	{ "HTML only",
	  "From: postmaster@relay.example\nSubject: Undeliverable: hello\nContent-Type: text/html; charset=utf-8\n\n"
	  "<html><style>p { x: y@z }</style><p>Delivery has failed to these recipients:</p><p>ann@one.example</p><p>The user does not exist.</p></html>\n",
	  BOUNCE_TEXT, "ann@one.example", CLASS_NO_SUCH_USER, "ps" },
	{ "CR only",
	  "From: MAILER-DAEMON@relay.example\rSubject: failure notice\r\r<ann@one.example>:\ruser unknown\r",
	  BOUNCE_TEXT, "ann@one.example", CLASS_NO_SUCH_USER, "ps" },
	{ "no boundary",
	  "From: MAILER-DAEMON@relay.example\nSubject: failure notice\nContent-Type: multipart/mixed\n\n<ann@one.example>:\nuser unknown\n",
	  BOUNCE_TEXT, "ann@one.example", CLASS_NO_SUCH_USER, "ps" },
	{ "vacation",
	  "From: ann@one.example\nSubject: Out of office\nAuto-Submitted: auto-replied\n\nI am away. Ask bob@one.example: the mailbox is full.\n",
	  BOUNCE_AUTOMATIC_REPLY, "", CLASS_OTHER, "" },
	{ "a person's mail",
	  "From: ann@one.example\nSubject: lunch\n\nThe following addresses failed:\nbob@two.example\n",
	  BOUNCE_NONE, "", CLASS_OTHER, "" },
	{ "nothing", "", BOUNCE_NONE, "", CLASS_OTHER, "" },
};

static const char feedback[] =
	"From: <abuse@provider.example>\nSubject: FW: offer\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\n\n"
	"--b\nContent-Type: text/plain\n\nA complaint.\n"
	"--b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: Loop/1\nVersion: 1\nOriginal-Rcpt-To: <ann@one.example>\n"
	"Arrival-Date: Thu, 8 Mar 2029 14:00:00 +0000\nSource-IP: 192.0.2.1\nReported-Domain: sender.example\n\n"
	"--b\nContent-Type: message/rfc822\n\nMessage-ID: <1@sender.example>\nReturn-Path: <t@bounces.sender.example>\nX-Token: abc\n\nhello\n--b--\n";

/* clang-format on */

struct fixture {
	struct judge *judge;
	struct bounce_reader *reader;
	struct arena *arena;
};

static int
set_up(void **state)
{
	struct fixture *f = MEM_NEW(struct fixture);

	f->judge = judge_new();
	f->reader = bounce_reader_new(f->judge);
	f->arena = arena_new();
	*state = f;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;

	bounce_reader_free(&f->reader);
	judge_free(&f->judge);
	arena_free(&f->arena);
	mem_free(f);
	return 0;
}

static void
check_row(struct fixture *f, const struct row *row)
{
	struct bounce_report report;
	struct buf names = BUF_EMPTY;

	bounce_read(f->reader, span_of(row->message), f->arena, &report);
	for (size_t i = 0; i < report.recipient_count; i++) {
		if (i > 0)
			buf_append_char(&names, ',');
		buf_append(&names, report.recipients[i].address);
	}
	print_message("%s\n", row->name);
	assert_int_equal(report.kind, row->kind);
	assert_string_equal(buf_cstring(&names), row->recipients);
	buf_done(&names);
	if (report.recipient_count == 0)
		return;
	const struct bounce_recipient *r = &report.recipients[0];
	assert_string_equal(
	    reply_class_name(r->class), reply_class_name(row->class));
	assert_int_equal(r->is_permanent, strchr(row->marks, 'p') != NULL);
	assert_int_equal(r->suppresses, strchr(row->marks, 's') != NULL);
}

static void
test_rows(void **state)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check_row(*state, &rows[i]);
}

static void
test_original(void **state)
{
	struct fixture *f = *state;
	struct bounce_report report;

	bounce_read(f->reader, span_of(rows[0].message), f->arena, &report);
	assert_true(
	    span_eq(report.original.message_id, SPAN("1@sender.example")));
	assert_int_equal(report.original.x_field_count, 1);
	assert_true(span_eq(report.original.x_fields[0].value, SPAN("abc")));
	assert_true(span_eq(
	    report.recipients[0].reply, SPAN("550 5.1.1 no such user here")));
	assert_int_equal(report.recipients[1].action, ACTION_DELAYED);
}

static void
test_feedback(void **state)
{
	struct fixture *f = *state;
	struct bounce_report report;
	struct buf line = BUF_EMPTY;

	bounce_read(f->reader, span_of(feedback), f->arena, &report);
	assert_int_equal(report.kind, BOUNCE_FEEDBACK_REPORT);
	assert_true(span_eq(report.feedback.type, SPAN("abuse")));
	assert_true(span_eq(report.feedback.source_ip, SPAN("192.0.2.1")));
	assert_int_equal(report.feedback.recipient_count, 1);
	assert_true(
	    span_eq(report.feedback.recipients[0], SPAN("ann@one.example")));
	assert_true(span_eq(
	    report.original.return_path, SPAN("t@bounces.sender.example")));
	bounce_report_render(&report, &line);
	assert_non_null(
	    strstr(buf_cstring(&line), "\"kind\":\"feedback_report\""));
	buf_done(&line);
}

/* A report within a report within …, and more recipients than are kept. */
static void
test_bounds(void **state)
{
	struct fixture *f = *state;
	struct buf message = BUF_EMPTY;
	struct bounce_report report;

	for (int i = 0; i < 10000; i++)
		buf_printf(&message,
		    "Content-Type: multipart/report; boundary=b%d\n\n--b%d\n",
		    i, i);
	bounce_read(f->reader, buf_span(&message), f->arena, &report);
	assert_int_equal(report.recipient_count, 0);
	buf_clear(&message);
	buf_append_str(&message,
	    "From: MAILER-DAEMON@relay.example\nContent-Type: "
	    "message/delivery-status\n\n");
	for (int i = 0; i < REPORT_RECIPIENTS_MAX + 10; i++)
		buf_printf(&message,
		    "Final-Recipient: rfc822;u%d@one.example\nAction: failed\n"
		    "Status: 5.1.1\n\n",
		    i);
	bounce_read(f->reader, buf_span(&message), f->arena, &report);
	assert_in_range(report.recipient_count, 1, REPORT_RECIPIENTS_MAX);
	buf_done(&message);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_rows, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_original, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
		    test_feedback, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bounds, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
