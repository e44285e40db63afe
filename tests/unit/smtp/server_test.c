/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"
#include "smtp/internal.h"

#define OPEN "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n"

/* A whole day of a session, without STARTTLS (which drops input). */
static const char dialogue[] =
    "EHLO client.test\r\n"
    "NOOP\r\nXFOO\r\nVRFY x\r\nMAIL FROM:<no@b.test>\r\n"
    "AUTH LOGIN\r\ndXNlcg==\r\n*\r\nAUTH PLAIN QUJD\r\n"
    "AUTH LOGIN\r\ndXNlcg==\r\nZ29vZA==\r\n"
    "MAIL FROM:<a@b.test> SIZE=10 RET=HDRS ENVID=e\r\n"
    "RCPT TO:<c@d.test> NOTIFY=NEVER\r\nRCPT TO:<no@d.test>\r\n"
    "RCPT TO:<later@d.test>\r\nRCPT TO:<>\r\nDATA\r\n"
    "Subject: x\r\n\r\n.\r\r\n" /* bare CR: but see below */
    ;

static const char clean_message[] =
    "Subject: x\r\n\r\n..\r\n...\r\n.a\r\n\r\nlast\r\n.\r\n";

static const char rest_of_day[] =
    "RSET\r\n"
    "MAIL FROM:<a@b.test> BODY=8BITMIME\r\nRCPT TO:<c@d.test>\r\n"
    "BDAT 7\r\na\r\nb\r\n.BDAT 3\r\n\r\n.BDAT 1 LAST\r\n\nNOOP\r\n"
    "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n"
    "BDAT 7\r\na\r\nb\r\n.BDAT 3\r\n\r\n.BDAT 5 LAST\r\nend\r\n"
    "BDAT 4\r\nabcdBDAT 2 LAST\r\nxy"
    "MAIL FROM:<\xc3\xa4@b.test> SMTPUTF8 BODY=BINARYMIME\r\n"
    "RCPT TO:<c@\xc3\xa4.test>\r\nDATA\r\nBDAT 6 LAST\r\n\n\r.\n\r\x01"
    "EHLO again\r\nMAIL FROM:<a@b.test>\r\nEHLO again\r\n"
    "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nQUIT\r\nNOOP\r\n";

static void
play(struct rig *r, const struct smtp_server_options *o, struct span in,
    size_t piece)
{
	rig_open(r, o);
	rig_feed_split(r, in, piece);
}

/* However the bytes are cut, the same is said and the same happens. */
static void
check_splits(const struct smtp_server_options *o, struct span in)
{
	struct rig whole;
	play(&whole, o, in, in.len);
	assert_true(whole.closed);
	for (size_t piece = 1; piece < in.len; piece += 1 + piece / 8) {
		struct rig r;
		play(&r, o, in, piece);
		assert_string_equal(
		    buf_cstring(&r.wire), buf_cstring(&whole.wire));
		assert_string_equal(
		    buf_cstring(&r.events), buf_cstring(&whole.events));
		rig_close(&r);
	}
	/* And in two pieces, cut anywhere. */
	for (size_t at = 1; at < in.len; at++) {
		struct rig r;
		rig_open(&r, o);
		rig_feed(&r, span_slice(in, 0, at));
		rig_feed(&r, span_skip(in, at));
		assert_string_equal(
		    buf_cstring(&r.wire), buf_cstring(&whole.wire));
		assert_string_equal(
		    buf_cstring(&r.events), buf_cstring(&whole.events));
		rig_close(&r);
	}
	rig_close(&whole);
}

static void
test_splits(void **state)
{
	(void)state;
	struct smtp_server_options o = rig_options;
	o.secured = true;
	struct buf in = BUF_EMPTY;
	buf_append_str(&in, dialogue);
	/* The day with a clean message goes on to its end. */
	in.len -= strlen("Subject: x\r\n\r\n.\r\r\n");
	buf_append_str(&in, clean_message);
	buf_append_str(&in, rest_of_day);
	check_splits(&o, buf_span(&in));
	buf_clear(&in);
	/* The other ends at the bare CR. What was passed on before it may
	 * differ; here nothing was left to pass. */
	buf_append_str(&in, dialogue);
	check_splits(&o, buf_span(&in));
	o.normalise_newlines = true;
	buf_append_str(
	    &in, "x\n.\ny\r.\rz\r\n.\r\nNOOP\nBDAT 0 LAST\r\nQUIT\n");
	check_splits(&o, buf_span(&in));
	buf_done(&in);
}

static void
test_transcript(void **state)
{
	(void)state;
	struct smtp_server_options o = rig_options;
	o.secured = true;
	struct buf in = BUF_EMPTY, codes = BUF_EMPTY;
	struct rig r;
	buf_append_str(&in, dialogue);
	in.len -= strlen("Subject: x\r\n\r\n.\r\r\n");
	buf_append_str(&in, clean_message);
	buf_append_str(&in, rest_of_day);
	play(&r, &o, buf_span(&in), in.len);
	assert_string_equal(rig_codes(&r, &codes),
	    "220 250 250/2.0.0 500/5.5.1 252/2.0.0 550/5.7.1 "
	    "334 334 501/5.7.0 535/5.7.8 334 334 235/2.7.0 "
	    "250/2.1.0 250/2.1.5 550/5.7.1 450/4.2.0 501/5.1.3 354 250/2.0.0 "
	    "250/2.0.0 "
	    "250/2.1.0 250/2.1.5 250/2.0.0 250/2.0.0 550/5.6.11 250/2.0.0 "
	    "250/2.1.0 250/2.1.5 250/2.0.0 250/2.0.0 250/2.0.0 "
	    "503/5.5.1 503/5.5.1 "
	    "250/2.1.0 250/2.1.5 503/5.5.1 250/2.0.0 "
	    "250 250/2.1.0 250 250/2.1.0 250/2.1.5 221/2.0.0");
	assert_string_equal(buf_cstring(&r.events),
	    "HELO client.test|MAIL no@b.test|"
	    "AUTH LOGIN none |AUTH_DATA dXNlcg==|CANCEL|AUTH PLAIN QUJD|"
	    "AUTH LOGIN none |AUTH_DATA dXNlcg==|AUTH_DATA Z29vZA==|"
	    "MAIL a@b.test HDRS 10 e|RCPT c@d.test 1|RCPT no@d.test|"
	    "RCPT later@d.test|"
	    "BODY Subject: x\r\n\r\n.\r\n..\r\na\r\n\r\nlast\r\n|END 32|"
	    "MAIL a@b.test 8BIT|RCPT c@d.test|"
	    "BODY a\r\nb\r\n.\r\n.|RESET|"
	    "MAIL a@b.test|RCPT c@d.test|"
	    "BODY a\r\nb\r\n.\r\n.end\r\n|END 15|"
	    "MAIL \xc3\xa4@b.test BINARY UTF8|RCPT c@xn--4ca.test|"
	    "BODY \n\r.\n\r\x01|END 6|"
	    "HELO again|MAIL a@b.test|RESET|HELO again|"
	    "MAIL a@b.test|RCPT c@d.test|RESET|CLOSE|");
	buf_done(&in);
	buf_done(&codes);
	rig_close(&r);
}

/* Reliability C1, C2: what came in the clear before the handshake is the
 * driver's to drop, and the session forgets what it knew. */
static void
test_starttls(void **state)
{
	(void)state;
	struct rig r;
	struct buf codes = BUF_EMPTY;
	rig_open(&r, &rig_options);
	struct span in = SPAN("EHLO c\r\nSTARTTLS\r\nEHLO evil\r\nNOOP\r\n");
	assert_int_equal(rig_feed(&r, in), strlen("EHLO evil\r\nNOOP\r\n"));
	assert_string_equal(buf_cstring(&r.events), "HELO c|STARTTLS|");
	assert_string_equal(smtp_server_step(r.s), "helo");
	buf_clear(&r.wire);
	rig_feed(&r, SPAN("MAIL FROM:<a@b.test>\r\nSTARTTLS\r\nEHLO d\r\n"));
	assert_string_equal(rig_codes(&r, &codes), "503/5.5.1 503/5.5.1 250");
	assert_null(strstr(buf_cstring(&r.wire), "STARTTLS"));
	assert_non_null(strstr(buf_cstring(&r.wire), "AUTH SCRAM"));
	buf_done(&codes);
	rig_close(&r);
}

/* Until the handshake is reported done, not one octet is taken. */
static void
test_tls_takes_nothing(void **state)
{
	(void)state;
	struct smtp_server *s = smtp_server_new(&rig_options);
	struct smtp_server_event e;
	smtp_server_greet(s, NULL);
	struct span in = SPAN("STARTTLS\r\nQUIT\r\n");
	assert_int_equal(smtp_server_feed(s, in, &e), 10);
	assert_int_equal(e.type, SMTP_SERVER_STARTTLS);
	assert_int_equal(smtp_server_feed(s, SPAN("QUIT\r\n"), &e), 0);
	assert_int_equal(e.type, SMTP_SERVER_NONE);
	assert_string_equal(smtp_server_step(s), "tls");
	/* A failure there has no channel for a reply. */
	smtp_server_sent(s, smtp_server_output(s).len);
	smtp_server_terminate(s, &REPLY(421, 4, 3, 2, "bye"));
	assert_int_equal(smtp_server_output(s).len, 0);
	assert_int_equal(smtp_server_feed(s, SPAN("x"), &e), 0);
	assert_int_equal(e.type, SMTP_SERVER_CLOSE);
	assert_int_equal(smtp_server_feed(s, SPAN("x"), &e), 1);
	smtp_server_free(&s);
}

static void
test_no_starttls(void **state)
{
	(void)state;
	struct smtp_server_options o = rig_options;
	o.starttls = false;
	rig_check(&(struct dialogue){ "not offered", "STARTTLS\r\n",
		      "502/5.5.1", "" },
	    &o);
	o.starttls = true;
	o.secured = true;
	rig_check(
	    &(struct dialogue){ "twice", "STARTTLS\r\n", "503/5.5.1", "" }, &o);
}

static void
test_refused_greeting(void **state)
{
	(void)state;
	struct smtp_server *s = smtp_server_new(&rig_options);
	struct smtp_server_event e;
	assert_int_equal(smtp_server_feed(s, SPAN("EHLO c\r\n"), &e), 0);
	smtp_server_greet(s, &REPLY(554, 5, 7, 1, "not you"));
	assert_true(
	    span_eq(smtp_server_output(s), SPAN("554 5.7.1 not you\r\n")));
	assert_int_equal(smtp_server_feed(s, SPAN_EMPTY, &e), 0);
	assert_int_equal(e.type, SMTP_SERVER_CLOSE);
	assert_true(e.text.len > 0);
	smtp_server_free(&s);
}

/* Where terminate strikes, and what is said and left behind. */
static void
test_terminate(void **state)
{
	(void)state;

	static const struct {
		const char *input, *codes, *events;
	} cases[] = {
		{ "", "220 421/4.3.2", "CLOSE|" },
		{ "EHLO c\r\n", "220 250 421/4.3.2", "HELO c|CLOSE|" },
		{ "EHLO c\r\n" OPEN, "220 250 250/2.1.0 250/2.1.5 421/4.3.2",
		    "HELO c|MAIL a@b.test|RCPT c@d.test|RESET|CLOSE|" },
		{ "EHLO c\r\n" OPEN "DATA\r\nx",
		    "220 250 250/2.1.0 250/2.1.5 354 421/4.3.2",
		    "HELO c|MAIL a@b.test|RCPT c@d.test|BODY x|RESET|CLOSE|" },
		{ "EHLO c\r\n" OPEN "BDAT 9\r\nx",
		    "220 250 250/2.1.0 250/2.1.5 421/4.3.2",
		    "HELO c|MAIL a@b.test|RCPT c@d.test|BODY x|RESET|CLOSE|" },
		{ "QUIT\r\n", "220 221/2.0.0", "CLOSE|" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct rig r;
		struct buf codes = BUF_EMPTY;
		rig_open(&r, &rig_options);
		rig_feed(&r, span_of(cases[i].input));
		smtp_server_terminate(r.s, &REPLY(421, 4, 3, 2, "bye"));
		smtp_server_terminate(r.s, &REPLY(421, 4, 3, 2, "bye"));
		rig_feed(&r, SPAN("NOOP\r\n"));
		assert_string_equal(rig_codes(&r, &codes), cases[i].codes);
		assert_string_equal(buf_cstring(&r.events), cases[i].events);
		assert_string_equal(smtp_server_step(r.s), "closed");
		buf_done(&codes);
		rig_close(&r);
	}
}

/* A message that is being committed gets its own answer first. */
static void
test_terminate_during_commit(void **state)
{
	(void)state;
	struct rig r;
	struct buf codes = BUF_EMPTY;
	rig_open(&r, &rig_options);
	r.hold_end = true;
	rig_feed(&r, SPAN("EHLO c\r\n" OPEN "DATA\r\n.\r\nNOOP\r\n"));
	assert_true(smtp_server_in_transaction(r.s));
	smtp_server_terminate(r.s, &REPLY(421, 4, 3, 2, "bye"));
	assert_true(smtp_server_waits_for_answer(r.s));
	smtp_server_answer(r.s, &REPLY(250, 2, 0, 0, "kept"));
	rig_feed(&r, SPAN_EMPTY);
	assert_true(r.closed);
	assert_string_equal(rig_codes(&r, &codes),
	    "220 250 250/2.1.0 250/2.1.5 354 250/2.0.0 421/4.3.2");
	assert_null(strstr(buf_cstring(&r.events), "RESET"));
	buf_done(&codes);
	rig_close(&r);
}

/* An answer that comes after the end is not a bug: lookups take time. */
static void
test_late_answers(void **state)
{
	(void)state;
	struct smtp_server_options o = rig_options;
	o.secured = true;
	static const char *const inputs[] = { "EHLO c\r\nMAIL FROM:<>\r\n",
		"EHLO c\r\nAUTH PLAIN\r\n" };
	for (size_t i = 0; i < COUNT(inputs); i++) {
		struct smtp_server *s = smtp_server_new(&o);
		struct smtp_server_event e;
		smtp_server_greet(s, NULL);
		struct span in = span_of(inputs[i]);
		do {
			in = span_skip(in, smtp_server_feed(s, in, &e));
		} while (in.len > 0);
		assert_true(smtp_server_waits_for_answer(s));
		smtp_server_terminate(s, &REPLY(421, 4, 3, 2, "bye"));
		size_t said = smtp_server_output(s).len;
		if (i == 0) {
			smtp_server_answer(s, &REPLY(250, 2, 1, 0, "ok"));
		} else {
			smtp_server_auth_challenge(s, SPAN("QQ=="));
			smtp_server_auth_done(s);
			smtp_server_auth_failed(s, &REPLY(535, 5, 7, 8, "no"));
		}
		assert_int_equal(smtp_server_output(s).len, said);
		smtp_server_free(&s);
	}
}

/* RFC 3848, RFC 6531 §4.3 */
static void
test_protocol(void **state)
{
	(void)state;

	static const struct {
		const char *input;
		bool lmtp, secured;
		const char *protocol;
	} cases[] = {
		{ "", false, false, "SMTP" },
		{ "HELO c\r\n", false, false, "SMTP" },
		{ "EHLO c\r\n", false, false, "ESMTP" },
		{ "EHLO c\r\n", false, true, "ESMTPS" },
		{ "EHLO c\r\nAUTH PLAIN Z29vZA==\r\n", false, true, "ESMTPSA" },
		{ "LHLO c\r\n", true, false, "LMTP" },
		{ "LHLO c\r\nAUTH PLAIN Z29vZA==\r\n", true, true, "LMTPSA" },
		{ "EHLO c\r\nMAIL FROM:<> SMTPUTF8\r\n", false, true,
		    "UTF8SMTPS" },
		{ "LHLO c\r\nMAIL FROM:<> SMTPUTF8\r\n", true, false,
		    "UTF8LMTP" },
		{ "EHLO c\r\nMAIL FROM:<> SMTPUTF8\r\nRSET\r\n", false, false,
		    "ESMTP" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct smtp_server_options o = rig_options;
		o.lmtp = cases[i].lmtp;
		o.secured = cases[i].secured;
		struct rig r;
		rig_open(&r, &o);
		rig_feed(&r, span_of(cases[i].input));
		assert_true(span_eq(
		    smtp_server_protocol(r.s), span_of(cases[i].protocol)));
		rig_close(&r);
	}
}

static void
test_protocol_at_mail(void **state)
{
	(void)state;
	struct smtp_server *s = smtp_server_new(&rig_options);
	struct smtp_server_event e;
	smtp_server_greet(s, NULL);
	(void)smtp_server_feed(s, SPAN("EHLO c\r\n"), &e);
	(void)smtp_server_feed(s, SPAN("MAIL FROM:<> SMTPUTF8\r\n"), &e);
	assert_int_equal(e.type, SMTP_SERVER_MAIL);
	assert_true(span_eq(smtp_server_protocol(s), SPAN("UTF8SMTP")));
	smtp_server_answer(s, &REPLY(550, 5, 7, 1, "no"));
	assert_true(span_eq(smtp_server_protocol(s), SPAN("ESMTP")));
	smtp_server_free(&s);
}

static void
test_in_transaction(void **state)
{
	(void)state;
	struct rig r;
	rig_open(&r, &rig_options);
	rig_feed(&r, SPAN("EHLO c\r\n"));
	assert_false(smtp_server_in_transaction(r.s));
	rig_feed(&r, SPAN(OPEN "RCPT TO:<no@x.test>\r\n"));
	assert_true(smtp_server_in_transaction(r.s));
	rig_feed(&r, SPAN("DATA\r\n"));
	assert_string_equal(smtp_server_step(r.s), "data");
	rig_feed(&r, SPAN(".\r\n"));
	assert_false(smtp_server_in_transaction(r.s));
	rig_close(&r);
}

/* The options may be gone after smtp_server_new. */
static void
test_options_are_copied(void **state)
{
	(void)state;
	char name[] = "mx.test";
	struct smtp_server_options o = { .hostname = span_of(name) };
	struct smtp_server *s = smtp_server_new(&o);
	memset(name, '!', sizeof(name) - 1);
	smtp_server_greet(s, NULL);
	assert_true(
	    span_eq(smtp_server_output(s), SPAN("220 mx.test ESMTP\r\n")));
	smtp_server_free(&s);
	smtp_server_free(&s);
}

/* README.md draws these; a change there and here goes together. */
static void
test_step_table(void **state)
{
	(void)state;
	static const char *const graph[] = {
		"greeting > helo closed",
		"helo > ready tls chunk closed",
		"ready > tls auth-check mail-check chunk closed",
		"tls > helo closed",
		"auth > ready auth-check closed",
		"auth-check > ready auth closed",
		"mail-check > ready envelope closed",
		"envelope > ready rcpt-check data chunk closed",
		"rcpt-check > envelope closed",
		"data > ready commit closed",
		"chunk > helo ready envelope chunks commit closed",
		"chunks > ready chunk closed",
		"commit > ready closed",
		"closed >",
	};
	assert_int_equal(COUNT(graph), STEP_COUNT);
	for (unsigned i = 0; i < STEP_COUNT; i++) {
		struct buf row = BUF_EMPTY;
		buf_printf(&row, "%s >", server_step_name(i));
		for (unsigned to = 0; to < STEP_COUNT; to++) {
			if ((server_step_next(i) & STEP_BIT(to)) != 0)
				buf_printf(&row, " %s", server_step_name(to));
		}
		assert_string_equal(buf_cstring(&row), graph[i]);
		buf_done(&row);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_splits),
		cmocka_unit_test(test_transcript),
		cmocka_unit_test(test_starttls),
		cmocka_unit_test(test_tls_takes_nothing),
		cmocka_unit_test(test_no_starttls),
		cmocka_unit_test(test_refused_greeting),
		cmocka_unit_test(test_terminate),
		cmocka_unit_test(test_terminate_during_commit),
		cmocka_unit_test(test_late_answers),
		cmocka_unit_test(test_protocol),
		cmocka_unit_test(test_protocol_at_mail),
		cmocka_unit_test(test_in_transaction),
		cmocka_unit_test(test_options_are_copied),
		cmocka_unit_test(test_step_table),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
