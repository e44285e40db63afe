/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/header.h"
#include "mail/report.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */

#define NOW INT64_C(1795455889123456)
#define DATE "Mon, 23 Nov 2026 17:44:49 +0000"
#define HOUR INT64_C(3600000000)
#define REPORT_ID "01ARZ3NDEKTSV4RRFFQ69G5FAV"

static const char original_header[] = "Received: from x by y; " DATE "\r\n"
				      "From: A <a@example.com>\r\n"
				      "Subject: Lunch on\r\n Friday\r\n"
				      "Message-ID: <m1@example.com>\r\n"
				      "\r\n";

static const struct report_recipient failed = {
	.address = { "nobody@example.net", 18 },
	.action = REPORT_FAILED,
	.status = { "5.1.1", 5 },
	.remote_mta = { "mx.example.net", 14 },
	.diagnostic = { "550 5.1.1 no such user", 22 },
	.reason = { "The server does not know this address.", 38 },
	.last_attempt_us = NOW - HOUR,
};

static struct report
report_of(const struct report_recipient *recipients, size_t count)
{
	return (struct report){
		.reporting_mta = SPAN("relay.example.com"),
		.from = SPAN("postmaster@relay.example.com"),
		.to = SPAN("a@example.com"),
		.report_id = SPAN(REPORT_ID),
		.original_id = SPAN("01ARZ3NDEKTSV4RRFFQ69G5FAW"),
		.arrival_us = NOW - 2 * HOUR,
		.now_us = NOW,
		.recipients = recipients,
		.recipient_count = count,
		.original_header = SPAN(original_header),
	};
}

/* A composed report taken apart again. */
struct parts {
	struct buf message;
	struct span header;
	struct span body;
	char boundary[100];
	struct span part_header[4], part[4];
	size_t count;
};

static bool
field_find(struct span section, const char *name, struct span *ret_value)
{
	struct header_field field;
	struct span rest = section;

	for (;;) {
		int code = header_next(&rest, &field);
		assert_true(code >= 0);
		if (code == 0)
			return false;
		if (span_eq_nocase(field.name, span_of(name))) {
			*ret_value = span_trim(field.value);
			return true;
		}
	}
}

static void
check_field(struct span section, const char *name, const char *expected)
{
	struct span value = SPAN_EMPTY;

	if (!field_find(section, name, &value)) {
		if (expected != NULL)
			fail_msg("no %s", name);
		return;
	}
	if (expected == NULL || !span_eq(value, span_of(expected)))
		fail_msg("%s: %.*s", name, SPAN_ARG(value));
}

static bool
holds(struct span s, const char *text)
{
	return span_search(s, span_of(text)) != SIZE_MAX;
}

/* Lines that every mail server takes: CRLF only, at most 998 octets, no NUL
 * and no other control character. */
static void
check_lines(struct span s)
{
	while (s.len > 0) {
		size_t end = span_search(s, SPAN("\r\n"));
		assert_true(end <= 998);
		for (size_t i = 0; i < end; i++) {
			unsigned char c = (unsigned char)s.ptr[i];
			assert_true((c >= ' ' && c != 0x7f) || c == '\t');
		}
		s = span_skip(s, end + 2);
	}
}

static void
take_boundary(struct parts *p)
{
	struct span type;
	struct span mark = SPAN("boundary=\"");

	assert_true(field_find(p->header, "Content-Type", &type));
	assert_true(span_starts(type, SPAN("multipart/report;")));
	size_t at = span_search(type, mark);
	assert_true(at != SIZE_MAX);
	type = span_skip(type, at + mark.len);
	struct span boundary = span_cut(&type, '"');
	assert_true(boundary.len > 0 && boundary.len <= 70);
	memcpy(p->boundary, "\r\n--", 4);
	memcpy(p->boundary + 4, boundary.ptr, boundary.len);
	p->boundary[4 + boundary.len] = '\0';
}

static void
take_parts(struct parts *p)
{
	struct span delimiter = span_of(p->boundary);
	struct span rest = p->body;
	size_t at = span_search(rest, delimiter);

	assert_true(at != SIZE_MAX);
	for (;;) {
		rest = span_skip(rest, at + delimiter.len);
		if (span_eq(rest, SPAN("--\r\n")))
			return;
		assert_true(span_starts(rest, SPAN("\r\n")));
		rest = span_skip(rest, 2);
		at = span_search(rest, delimiter);
		assert_true(at != SIZE_MAX && p->count < 4);
		struct span part = span_slice(rest, 0, at);
		size_t len = header_section_length(part);
		assert_true(len > 0);
		p->part_header[p->count] = span_slice(part, 0, len);
		p->part[p->count++] = span_skip(part, len);
	}
}

static struct parts
compose(const struct report *r)
{
	struct parts p = { .message = BUF_EMPTY };

	report_compose(r, &p.message);
	struct span message = buf_span(&p.message);
	size_t len = header_section_length(message);
	assert_true(len > 0);
	check_lines(message);
	p.header = span_slice(message, 0, len);
	p.body = span_skip(message, len);
	take_boundary(&p);
	take_parts(&p);
	assert_int_equal(p.count, 3);
	return p;
}

/* The field groups of the machine-readable part: 0 is about the message. */
static struct span
status_group(const struct parts *p, size_t n)
{
	struct span rest = p->part[1];

	for (; n > 0; n--) {
		size_t len = header_section_length(rest);
		assert_true(len > 0);
		rest = span_skip(rest, len);
	}
	size_t len = header_section_length(rest);
	return len > 0 ? span_slice(rest, 0, len) : rest;
}

static void
test_failed(void **state)
{
	struct report r = report_of(&failed, 1);
	struct parts p = compose(&r);
	struct span group = status_group(&p, 1);

	(void)state;
	check_field(p.header, "From",
	    "Mail Delivery Service <postmaster@relay.example.com>");
	check_field(p.header, "To", "<a@example.com>");
	check_field(p.header, "Subject",
	    "Undelivered mail: could not deliver to nobody@example.net");
	check_field(p.header, "Date", DATE);
	check_field(
	    p.header, "Message-ID", "<" REPORT_ID "@relay.example.com>");
	check_field(p.header, "In-Reply-To", "<m1@example.com>");
	check_field(p.header, "References", "<m1@example.com>");
	check_field(p.header, "Auto-Submitted", "auto-replied");
	check_field(p.header, "MIME-Version", "1.0");
	check_field(p.header, "Content-Transfer-Encoding", NULL);
	check_field(p.header, "Return-Path", NULL);
	assert_true(holds(p.header, "report-type=delivery-status;"));

	check_field(
	    p.part_header[0], "Content-Type", "text/plain; charset=us-ascii");
	check_field(
	    p.part_header[1], "Content-Type", "message/delivery-status");
	check_field(p.part_header[2], "Content-Type", "text/rfc822-headers");
	for (size_t i = 0; i < 3; i++)
		check_field(
		    p.part_header[i], "Content-Transfer-Encoding", "7bit");

	check_field(
	    status_group(&p, 0), "Reporting-MTA", "dns; relay.example.com");
	check_field(status_group(&p, 0), "Original-Envelope-Id", NULL);
	check_field(status_group(&p, 0), "Arrival-Date",
	    "Mon, 23 Nov 2026 15:44:49 +0000");
	check_field(group, "Original-Recipient", NULL);
	check_field(group, "Final-Recipient", "rfc822; nobody@example.net");
	check_field(group, "Action", "failed");
	check_field(group, "Status", "5.1.1");
	check_field(group, "Remote-MTA", "dns; mx.example.net");
	check_field(group, "Diagnostic-Code", "smtp; 550 5.1.1 no such user");
	check_field(
	    group, "Last-Attempt-Date", "Mon, 23 Nov 2026 16:44:49 +0000");
	check_field(group, "Will-Retry-Until", NULL);
	buf_done(&p.message);
}

static void
test_text_for_people(void **state)
{
	static const char *const expected[] = {
		"This is the mail delivery service at relay.example.com.\r\n",
		"Your message could not be delivered to this address:\r\n",
		"  <nobody@example.net>\r\n",
		"    The server does not know this address.\r\n",
		"    The mail server mx.example.net answered:\r\n",
		"      550-5.1.1 no such user,\r\n",
		"      550 5.1.1 sorry\r\n",
		"No further attempt will be made.",
		"    Lunch on Friday\r\n",
		"    <m1@example.com>\r\n",
		"Accepted on Mon, 23 Nov 2026 15:44:49 +0000\r\n",
		"01ARZ3NDEKTSV4RRFFQ69G5FAW",
	};
	struct report_recipient rcpt = failed;
	struct report r = report_of(&rcpt, 1);

	(void)state;
	rcpt.diagnostic =
	    SPAN("550-5.1.1 no such user,\r\n550 5.1.1 sorry\r\n");
	struct parts p = compose(&r);
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		if (!holds(p.part[0], expected[i]))
			fail_msg("%s is not in: %.*s", expected[i],
			    SPAN_ARG(p.part[0]));
	}
	buf_done(&p.message);
}

static void
test_every_action(void **state)
{
	/* clang-format off */
	static const struct {
		enum report_action action;
		const char *subject, *word, *status;
	} rows[] = {
		{ REPORT_FAILED,
		  "Undelivered mail: could not deliver to n@example.net",
		  "failed", "5.0.0" },
		{ REPORT_DELAYED,
		  "Delayed mail: still trying to deliver to n@example.net",
		  "delayed", "4.0.0" },
		{ REPORT_DELIVERED,
		  "Delivered mail: arrived at n@example.net",
		  "delivered", "2.0.0" },
		{ REPORT_RELAYED,
		  "Relayed mail: handed on for n@example.net",
		  "relayed", "2.0.0" },
	};

	/* clang-format on */

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct report_recipient rcpt = {
			.address = SPAN("n@example.net"),
			.action = rows[i].action,
			.reason = SPAN("So it is."),
			.retry_until_us = NOW + HOUR,
		};
		struct report r = report_of(&rcpt, 1);
		struct parts p = compose(&r);
		struct span group = status_group(&p, 1);
		check_field(p.header, "Subject", rows[i].subject);
		check_field(group, "Action", rows[i].word);
		check_field(group, "Status", rows[i].status);
		check_field(group, "Diagnostic-Code", "x-posthouse; So it is.");
		check_field(group, "Remote-MTA", NULL);
		check_field(group, "Last-Attempt-Date", NULL);
		check_field(group, "Will-Retry-Until",
		    rows[i].action == REPORT_DELAYED
			? "Mon, 23 Nov 2026 18:44:49 +0000"
			: NULL);
		buf_done(&p.message);
	}
}

static void
test_several_recipients(void **state)
{
	struct report_recipient rcpts[3] = { failed, failed, failed };
	struct report r = report_of(rcpts, 3);

	(void)state;
	rcpts[0].action = REPORT_DELIVERED;
	rcpts[0].status = SPAN("2.1.5");
	rcpts[1].address = SPAN("b@example.net");
	rcpts[2].address = SPAN("c@example.net");
	rcpts[2].status = SPAN("5.x\r\nX: y");
	struct parts p = compose(&r);
	check_field(p.header, "Subject",
	    "Undelivered mail: could not deliver to 2 recipients");
	check_field(status_group(&p, 1), "Action", "delivered");
	check_field(
	    status_group(&p, 2), "Final-Recipient", "rfc822; b@example.net");
	check_field(
	    status_group(&p, 3), "Final-Recipient", "rfc822; c@example.net");
	check_field(status_group(&p, 3), "Status", "5.0.0");
	assert_false(holds(p.header, "nobody@"));
	assert_true(holds(p.part[0],
	    "Your message could not be delivered to these addresses:"));
	assert_true(
	    holds(p.part[0], "Your message was delivered to this address:"));
	buf_done(&p.message);
}

static void
test_dsn_parameters(void **state)
{
	struct report_recipient rcpt = failed;
	struct report r = report_of(&rcpt, 1);

	(void)state;
	r.envelope_id = SPAN("QQ314159 a+b\r\nX-Evil: yes");
	rcpt.original = SPAN("rfc822;other@example.org");
	struct parts p = compose(&r);
	check_field(status_group(&p, 0), "Original-Envelope-Id",
	    "QQ314159 a+b X-Evil: yes");
	check_field(status_group(&p, 1), "Original-Recipient",
	    "rfc822;other@example.org");
	assert_true(
	    holds(p.part[0], "    (you wrote to other@example.org)\r\n"));
	buf_done(&p.message);

	rcpt.original = SPAN("other@example.org");
	p = compose(&r);
	check_field(status_group(&p, 1), "Original-Recipient",
	    "rfc822; other@example.org");
	buf_done(&p.message);
}

static void
test_hostile_peer(void **state)
{
	struct report_recipient rcpt = failed;
	struct report r = report_of(&rcpt, 1);
	struct buf reply = BUF_EMPTY;

	(void)state;
	buf_append(
	    &reply, SPAN("550-no\r\n550 \x1b[2J\0 way\r\n\r\n--=_0_" REPORT_ID
			 "--\r\nBcc: a@b\r\n.\r\n\xff\xc2\x9b "));
	for (size_t i = 0; i < 100000; i++)
		buf_append_char(&reply, 'x');
	rcpt.diagnostic = buf_span(&reply);
	rcpt.remote_mta = SPAN("mx\r\nAction: delivered");
	rcpt.reason = SPAN("bad\r\n\r\nthing");
	struct parts p = compose(&r);
	struct span group = status_group(&p, 1);
	struct span value;
	check_field(group, "Action", "failed");
	check_field(group, "Bcc", NULL);
	check_field(group, "Remote-MTA", "dns; mx Action: delivered");
	assert_true(field_find(group, "Diagnostic-Code", &value));
	assert_true(span_is_ascii(value));
	assert_true(span_starts(value, SPAN("smtp; 550-no 550 ?[2J? way")));
	assert_true(value.len < 5000);
	assert_true(span_is_ascii(buf_span(&p.message)));
	buf_done(&p.message);
	buf_done(&reply);
}

static void
test_boundary_is_in_no_content(void **state)
{
	struct report r = report_of(&failed, 1);

	(void)state;
	r.return_full = true;
	r.original_header = SPAN("X: --=_0_" REPORT_ID "\r\n\r\n");
	r.original_body = SPAN("--=_1_" REPORT_ID "--\r\n");
	struct parts p = compose(&r);
	assert_string_equal(p.boundary, "\r\n--=_2_" REPORT_ID);
	assert_true(holds(p.part[2], "--=_1_" REPORT_ID "--\r\n"));
	buf_done(&p.message);
}

static void
test_full_return(void **state)
{
	struct report r = report_of(&failed, 1);
	struct buf full = BUF_EMPTY;

	(void)state;
	r.return_full = true;
	r.original_body = SPAN("caf\xc3\xa9\r\n.\r\n..\r\n\r\n");
	struct parts p = compose(&r);
	check_field(p.header, "Content-Transfer-Encoding", "8bit");
	check_field(p.part_header[0], "Content-Transfer-Encoding", "7bit");
	check_field(p.part_header[2], "Content-Type", "message/rfc822");
	check_field(p.part_header[2], "Content-Transfer-Encoding", "8bit");
	buf_append_str(&full, original_header);
	buf_append(&full, r.original_body);
	assert_true(span_eq(p.part[2], buf_span(&full)));
	buf_done(&full);
	buf_done(&p.message);
}

static void
test_body_that_cannot_travel(void **state)
{
	static char long_line[1003];
	struct span bodies[] = {
		SPAN("a\0b\r\n"),
		SPAN("a\nb\r\n"),
		SPAN("a\rb\r\n"),
		SPAN("a\r"),
		span_from(long_line, sizeof(long_line)),
	};

	(void)state;
	memset(long_line, 'x', sizeof(long_line));
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct report r = report_of(&failed, 1);
		r.return_full = true;
		r.original_body = bodies[i];
		struct parts p = compose(&r);
		check_field(
		    p.part_header[2], "Content-Type", "text/rfc822-headers");
		buf_done(&p.message);
	}
}

static void
test_hostile_header(void **state)
{
	struct report r = report_of(&failed, 1);
	struct buf header = BUF_EMPTY;

	(void)state;
	buf_append(
	    &header, SPAN("Subject: \x1b]0;evil\x07 gr\xc3\xbc\xc3\x9f\r\n"
			  "Message-ID: <a b\r\n\tX: y@z>\r\n"
			  "A\0B: c\rd\r\n"
			  "Long: "));
	for (size_t i = 0; i < 5000; i++)
		buf_append_char(&header, 'x');
	buf_append_str(&header, "\r\n\r\nnot header\r\n");
	r.original_header = buf_span(&header);
	struct parts p = compose(&r);
	check_field(p.header, "In-Reply-To", NULL);
	check_field(p.header, "Content-Transfer-Encoding", NULL);
	check_field(
	    p.part_header[0], "Content-Type", "text/plain; charset=utf-8");
	check_field(p.part_header[1], "Content-Transfer-Encoding", "7bit");
	for (size_t i = 0; i < 3; i += 2)
		check_field(p.part_header[i], "Content-Transfer-Encoding",
		    "quoted-printable");
	assert_true(span_is_ascii(buf_span(&p.message)));
	assert_true(holds(p.part[2], "Subject: ?]0;evil? gr=C3=BC=C3=9F\r\n"));
	assert_true(holds(p.part[2], "A?B: c?d\r\n"));
	assert_false(holds(p.part[2], "not header"));
	buf_done(&p.message);
	buf_done(&header);
}

static void
test_header_without_end(void **state)
{
	struct report r = report_of(&failed, 1);

	(void)state;
	r.original_header = SPAN("A: b");
	struct parts p = compose(&r);
	assert_true(span_eq(p.part[2], SPAN("A: b\r\n")));
	buf_done(&p.message);
	r.original_header = SPAN_EMPTY;
	p = compose(&r);
	assert_int_equal(p.part[2].len, 0);
	buf_done(&p.message);
}

static void
test_internationalised(void **state)
{
	struct report_recipient rcpt = failed;
	struct report r = report_of(&rcpt, 1);

	(void)state;
	rcpt.address = SPAN("j\xc3\xb6rg@xn--bcher-kva.example");
	rcpt.original = SPAN("utf-8;j\\x{F6}rg@example.org");
	rcpt.diagnostic = SPAN("550 5.1.1 r\xc3\xa9sum\xc3\xa9");
	r.needs_utf8 = true;
	struct parts p = compose(&r);
	check_field(p.header, "Subject",
	    "Undelivered mail: could not deliver to 1 recipient");
	check_field(p.header, "Content-Transfer-Encoding", "8bit");
	assert_true(holds(p.header, "report-type=global-delivery-status;"));
	check_field(
	    p.part_header[0], "Content-Type", "text/plain; charset=utf-8");
	check_field(
	    p.part_header[1], "Content-Type", "message/global-delivery-status");
	check_field(p.part_header[1], "Content-Transfer-Encoding", "8bit");
	check_field(p.part_header[2], "Content-Type", "message/global-headers");
	check_field(status_group(&p, 1), "Final-Recipient",
	    "utf-8; j\xc3\xb6rg@xn--bcher-kva.example");
	check_field(status_group(&p, 1), "Original-Recipient",
	    "utf-8;j\\x{F6}rg@example.org");
	check_field(status_group(&p, 1), "Diagnostic-Code",
	    "smtp; 550 5.1.1 r\xc3\xa9sum\xc3\xa9");
	buf_done(&p.message);

	r.return_full = true;
	p = compose(&r);
	check_field(p.part_header[2], "Content-Type", "message/global");
	buf_done(&p.message);

	/* For a sender whose system knows ASCII only. */
	r.needs_utf8 = false;
	r.original_header = SPAN("A: b\r\n\r\n");
	p = compose(&r);
	check_field(
	    p.part_header[1], "Content-Type", "message/delivery-status");
	check_field(p.part_header[1], "Content-Transfer-Encoding", "7bit");
	check_field(status_group(&p, 1), "Final-Recipient",
	    "utf-8; j\\x{F6}rg@xn--bcher-kva.example");
	check_field(
	    status_group(&p, 1), "Diagnostic-Code", "smtp; 550 5.1.1 r?sum?");
	buf_done(&p.message);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_failed),
		cmocka_unit_test(test_text_for_people),
		cmocka_unit_test(test_every_action),
		cmocka_unit_test(test_several_recipients),
		cmocka_unit_test(test_dsn_parameters),
		cmocka_unit_test(test_hostile_peer),
		cmocka_unit_test(test_boundary_is_in_no_content),
		cmocka_unit_test(test_full_return),
		cmocka_unit_test(test_body_that_cannot_travel),
		cmocka_unit_test(test_hostile_header),
		cmocka_unit_test(test_header_without_end),
		cmocka_unit_test(test_internationalised),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
