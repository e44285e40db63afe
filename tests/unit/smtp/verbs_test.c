/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"
#include "smtp/internal.h"

#define MAIL "MAIL FROM:<a@b.test>\r\n"
#define RCPT "RCPT TO:<c@d.test>\r\n"

/* What each verb answers, and where. RFC sections name the clause held. */
static const struct dialogue plain_cases[] = {
	{ "noop, §4.1.1.9", "NOOP\r\nnoop x y\r\n", "250/2.0.0 250/2.0.0", "" },
	{ "vrfy, §3.5.3", "VRFY a\r\nVRFY\r\n", "252/2.0.0 501/5.5.4", "" },
	{ "expn, §3.5.3", "EXPN list\r\nEXPN\r\n", "502/5.5.1 502/5.5.1", "" },
	{ "help, §4.1.1.8", "HELP\r\nHELP MAIL\r\n", "214/2.0.0 214/2.0.0",
	    "" },
	{ "quit, §4.1.1.10", "QUIT\r\nNOOP\r\n", "221/2.0.0", "CLOSE|" },
	{ "quit in mail", MAIL "QUIT\r\n", "250/2.1.0 221/2.0.0",
	    "MAIL a@b.test|RESET|CLOSE|" },
	{ "unknown, §4.2.4", "XFOO\r\n\r\n 	\r\n",
	    "500/5.5.1 500/5.5.1 500/5.5.1", "" },
	{ "arguments, §4.1.1.5",
	    "QUIT now\r\nRSET x\r\nDATA x\r\nSTARTTLS x\r\n",
	    "501/5.5.4 501/5.5.4 503/5.5.1 501/5.5.4", "" },
	{ "order, §4.1.4", RCPT "DATA\r\n", "503/5.5.1 503/5.5.1", "" },
	{ "nested mail, §3.3", MAIL MAIL "RSET\r\n" MAIL,
	    "250/2.1.0 503/5.5.1 250/2.0.0 250/2.1.0",
	    "MAIL a@b.test|RESET|MAIL a@b.test|" },
	{ "mail refused", "MAIL FROM:<no@x.test>\r\n" RCPT MAIL,
	    "550/5.7.1 503/5.5.1 250/2.1.0", "MAIL no@x.test|MAIL a@b.test|" },
	{ "mail deferred", "MAIL FROM:<later@x.test>\r\n", "450/4.2.0", NULL },
	{ "mail closes", "MAIL FROM:<bye@x.test>\r\nNOOP\r\n", "421/4.3.2",
	    "MAIL bye@x.test|CLOSE|" },
	{ "rcpt closes", MAIL "RCPT TO:<bye@x.test>\r\nNOOP\r\n",
	    "250/2.1.0 421/4.3.2",
	    "MAIL a@b.test|RCPT bye@x.test|RESET|CLOSE|" },
	{ "rset, §4.1.1.5", "RSET\r\n" MAIL RCPT "RSET\r\n" RCPT "RSET\r\n",
	    "250/2.0.0 250/2.1.0 250/2.1.5 250/2.0.0 503/5.5.1 250/2.0.0",
	    "MAIL a@b.test|RCPT c@d.test|RESET|" },
	{ "ehlo resets, §4.1.4", MAIL "EHLO d\r\n" RCPT,
	    "250/2.1.0 250 503/5.5.1", "MAIL a@b.test|RESET|HELO d|" },
	{ "helo resets", MAIL "HELO d\r\n", "250/2.1.0 250",
	    "MAIL a@b.test|RESET|HELO d|" },
	{ "bad ehlo resets nothing", MAIL "EHLO\r\n" RCPT,
	    "250/2.1.0 501/5.5.4 250/2.1.5", "MAIL a@b.test|RCPT c@d.test|" },
	{ "hello names", "EHLO\r\nHELO\r\nEHLO a b\r\nEHLO a\033b\r\n",
	    "501/5.5.4 501/5.5.4 501/5.5.4 501/5.5.4", "" },
	{ "lhlo, RFC 2033", "LHLO d\r\n", "500/5.5.1", "" },
	{ "case, §2.4", "mail from:<a@b.test>\r\nrCpT tO:<c@d.test>\r\n",
	    "250/2.1.0 250/2.1.5", NULL },
	{ "space before line end, §4.1.1", "NOOP \t\r\nRSET  \r\n",
	    "250/2.0.0 250/2.0.0", "" },
	{ "parameters",
	    "MAIL FROM:<a@b.test> BODY=8BITMIME SMTPUTF8 RET=HDRS "
	    "ENVID=x SIZE=9 AUTH=<>\r\n"
	    "RCPT TO:<c@d.test> NOTIFY=DELAY ORCPT=rfc822;e@f.test\r\n",
	    "250/2.1.0 250/2.1.5",
	    "MAIL a@b.test 8BIT UTF8 HDRS 9 x|"
	    "RCPT c@d.test 8 rfc822;e@f.test|" },
	{ "unknown parameter, §4.1.1.11",
	    "MAIL FROM:<a@b.test> X=1\r\n" MAIL
	    "RCPT TO:<c@d.test> X=1\r\n" RCPT,
	    "555/5.5.4 250/2.1.0 555/5.5.4 250/2.1.5",
	    "MAIL a@b.test|RCPT c@d.test|" },
	{ "size, RFC 1870 §6.1",
	    "MAIL FROM:<a@b.test> SIZE=1001\r\n"
	    "MAIL FROM:<a@b.test> SIZE=1000\r\n",
	    "552/5.3.4 250/2.1.0", "MAIL a@b.test 1000|" },
	{ "utf8 recipient without SMTPUTF8, RFC 6531",
	    MAIL "RCPT TO:<\xc3\xa4@d.test>\r\n", "250/2.1.0 553/5.6.7",
	    "MAIL a@b.test|" },
	{ "utf8 recipient",
	    "MAIL FROM:<> SMTPUTF8\r\nRCPT TO:<\xc3\xa4@d.test>\r\n",
	    "250/2.1.0 250/2.1.5", "MAIL  UTF8|RCPT \xc3\xa4@d.test|" },
	{ "literal recipient", MAIL "RCPT TO:<c@[127.0.0.1]>\r\n",
	    "250/2.1.0 501/5.1.3", "MAIL a@b.test|" },
	{ "too many recipients, §4.5.3.1.10",
	    MAIL RCPT RCPT RCPT RCPT RCPT RCPT RCPT "DATA\r\n",
	    "250/2.1.0 250/2.1.5 250/2.1.5 250/2.1.5 250/2.1.5 250/2.1.5 "
	    "452/4.5.3 452/4.5.3 354",
	    NULL },
	{ "starttls in mail, RFC 3207 §4", MAIL "STARTTLS\r\n",
	    "250/2.1.0 503/5.5.1", "MAIL a@b.test|" },
	{ "bare LF", "NOOP\nMAIL FROM:<a@b.test>\r\n", "521/5.5.2", "CLOSE|" },
	{ "bare CR", "NO\rOP\r\nNOOP\r\n", "521/5.5.2", "CLOSE|" },
	{ "NUL", "NO\0OP\r\nNOOP\r\n", "521/5.5.2", "CLOSE|", 13 },
	{ "bare LF in mail", MAIL "NOOP\n", "250/2.1.0 521/5.5.2",
	    "MAIL a@b.test|RESET|CLOSE|" },
	{ "HTTP", "POST / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<>\r\n",
	    "521/5.5.1", "CLOSE|" },
	{ "HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "521/5.5.1", "CLOSE|" },
	{ "source route, B2", MAIL "RCPT TO:<@x.test:c@d.test>\r\n",
	    "250/2.1.0 501/5.1.3", "MAIL a@b.test|" },
};

static void
test_plain(void **state)
{
	(void)state;
	rig_check_all(plain_cases, COUNT(plain_cases), &rig_options);
}

static void
test_before_hello(void **state)
{
	(void)state;
	static const char *const inputs[] = { MAIL, RCPT, "DATA\r\n",
		"AUTH PLAIN\r\n" };
	for (size_t i = 0; i < COUNT(inputs); i++) {
		struct rig r;
		struct buf codes = BUF_EMPTY;
		rig_open(&r, &rig_options);
		rig_feed(&r, span_of(inputs[i]));
		assert_string_equal(rig_codes(&r, &codes), "220 503/5.5.1");
		assert_string_equal(smtp_server_step(r.s), "helo");
		buf_done(&codes);
		rig_close(&r);
	}
}

static void
test_literals(void **state)
{
	(void)state;
	struct smtp_server_options o = rig_options;
	o.allow_literals = true;
	rig_check(
	    &(struct dialogue){ "literals", MAIL "RCPT TO:<c@[127.0.0.1]>\r\n",
		"250/2.1.0 250/2.1.5", "MAIL a@b.test|RCPT c@[127.0.0.1]|" },
	    &o);
}

static void
test_normalised(void **state)
{
	(void)state;
	struct smtp_server_options o = rig_options;
	o.normalise_newlines = true;
	rig_check(&(struct dialogue){ "bare LF lines", "NOOP\nNOOP\rNOOP\r\n",
		      "250/2.0.0 250/2.0.0 250/2.0.0", "" },
	    &o);
	rig_check(&(struct dialogue){ "NUL", "NO\0OP\nNOOP\n", "521/5.5.2",
		      "CLOSE|", 11 },
	    &o);
}

static void
check_keywords(const struct smtp_server_options *o, const char *hello,
    const char *expected)
{
	struct rig r;
	rig_open(&r, o);
	rig_feed(&r, span_of(hello));
	assert_string_equal(buf_cstring(&r.wire), expected);
	rig_close(&r);
}

static void
test_keywords(void **state)
{
	(void)state;
	struct smtp_server_options o = rig_options;
	o.banner = SPAN("ready");
	check_keywords(&o, "EHLO c\r\n",
	    "220 mx.test ESMTP ready\r\n"
	    "250-mx.test\r\n250-PIPELINING\r\n250-SIZE 1000\r\n"
	    "250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n"
	    "250-CHUNKING\r\n250-BINARYMIME\r\n250-DSN\r\n250-STARTTLS\r\n"
	    "250-LIMITS RCPTMAX=5\r\n250 HELP\r\n");
	o.secured = true;
	o.size_max = 0;
	o.banner = SPAN_EMPTY;
	check_keywords(&o, "EHLO c\r\n",
	    "220 mx.test ESMTP\r\n"
	    "250-mx.test\r\n250-PIPELINING\r\n250-SIZE\r\n"
	    "250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n"
	    "250-CHUNKING\r\n250-BINARYMIME\r\n250-DSN\r\n"
	    "250-AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n"
	    "250-LIMITS RCPTMAX=5\r\n250 HELP\r\n");
	o.lmtp = true;
	o.auth = false;
	o.recipients_max = 0;
	check_keywords(&o, "LHLO c\r\n",
	    "220 mx.test LMTP\r\n"
	    "250-mx.test\r\n250-PIPELINING\r\n250-SIZE\r\n"
	    "250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n"
	    "250-CHUNKING\r\n250-BINARYMIME\r\n250-DSN\r\n"
	    "250-LIMITS RCPTMAX=1000\r\n250 HELP\r\n");
	check_keywords(
	    &rig_options, "HELO c\r\n", "220 mx.test ESMTP\r\n250 mx.test\r\n");
}

/* RFC 2033 §4.1: neither HELO nor EHLO. */
static void
test_lmtp_hello(void **state)
{
	(void)state;
	struct smtp_server_options o = rig_options;
	o.lmtp = true;
	rig_check(&(struct dialogue){ "lmtp", "HELO c\r\nEHLO c\r\nLHLO d\r\n",
		      "500/5.5.1 500/5.5.1 250", "HELO d|" },
	    &o);
}

static void
feed_many(struct rig *r, const char *line, size_t count)
{
	for (size_t i = 0; i < count && !r->closed; i++)
		rig_feed(r, span_of(line));
}

/* Reliability C8: whatever is repeated a million times ends the session. */
static void
test_repetition(void **state)
{
	(void)state;

	static const struct {
		const char *setup, *line, *last;
		size_t replies; /* before the 421 */
	} cases[] = {
		{ "EHLO c\r\n", "XFOO\r\n", "500/5.5.1 421/4.7.0", 20 },
		{ "EHLO c\r\n", "MAIL FROM:x\r\n", "501/5.1.7 421/4.7.0", 20 },
		{ "EHLO c\r\n", "NOOP\r\n", "250/2.0.0 421/4.7.0", 50 },
		{ "EHLO c\r\n", "RSET\r\n", "250/2.0.0 421/4.7.0", 50 },
		{ "EHLO c\r\n", "EHLO c\r\n", "250 421/4.7.0", 50 },
		{ "EHLO c\r\n", "VRFY x\r\n", "252/2.0.0 421/4.7.0", 50 },
		{ "EHLO c\r\n", "HELP\r\n", "214/2.0.0 421/4.7.0", 50 },
		{ "EHLO c\r\n", MAIL "RSET\r\n",
		    "250/2.1.0 250/2.0.0 421/4.7.0", 50 },
		{ "EHLO c\r\n", "MAIL FROM:<no@x.test>\r\n",
		    "550/5.7.1 421/4.7.0", 50 },
		{ "EHLO c\r\n" MAIL, "DATA\r\n", "503/5.5.1 421/4.7.0", 49 },
		{ "EHLO c\r\n" MAIL RCPT, "BDAT 0\r\n", "250/2.0.0 421/4.7.0",
		    49 },
		{ "EHLO c\r\n", "BDAT 0 LAST\r\n", "503/5.5.1 421/4.7.0", 50 },
		{ "EHLO c\r\n" MAIL, "RCPT TO:x\r\n", "452/4.5.3", 100 },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct rig r;
		struct buf codes = BUF_EMPTY;
		rig_open(&r, &rig_options);
		rig_feed(&r, span_of(cases[i].setup));
		buf_clear(&r.wire);
		feed_many(&r, cases[i].line, 100);
		const char *got = rig_codes(&r, &codes);
		struct span tail = span_of(got);
		tail = span_skip(tail, tail.len - strlen(cases[i].last));
		if (!span_eq(tail, span_of(cases[i].last)))
			fail_msg("%s: %s", cases[i].line, got);
		size_t replies = 0;
		for (const char *p = got; p != NULL; p = strchr(p + 1, ' '))
			replies++;
		assert_int_equal(replies, cases[i].replies + r.closed);
		buf_done(&codes);
		rig_close(&r);
	}
}

/* Refused recipients are remembered too, so there is an end to them. */
static void
test_recipient_flood(void **state)
{
	(void)state;
	struct smtp_server_options o = rig_options;
	o.errors_max = 0;
	struct rig r;
	struct buf codes = BUF_EMPTY;
	rig_open(&r, &o);
	rig_feed(&r, SPAN("EHLO c\r\n" MAIL));
	buf_clear(&r.wire);
	buf_clear(&r.events);
	feed_many(&r, "RCPT TO:<no@d.test>\r\n", 7);
	assert_string_equal(rig_codes(&r, &codes),
	    "550/5.7.1 550/5.7.1 550/5.7.1 550/5.7.1 550/5.7.1 "
	    "452/4.5.3 452/4.5.3");
	buf_clear(&r.wire);
	size_t used = arena_used(r.s->arena);
	feed_many(&r, "RCPT TO:<no@d.test>\r\n", 100000);
	assert_false(r.closed);
	assert_int_equal(arena_used(r.s->arena), used);
	rig_close(&r);
	buf_done(&codes);
}

/* A message between makes idle commands harmless: kept connections say RSET
 * after each. */
static void
test_idle_count_starts_again(void **state)
{
	(void)state;
	struct rig r;
	rig_open(&r, &rig_options);
	rig_feed(&r, SPAN("EHLO c\r\n"));
	for (int i = 0; i < 200; i++)
		rig_feed(&r,
		    SPAN("RSET\r\nNOOP\r\n" MAIL RCPT "DATA\r\nx\r\n.\r\n"));
	assert_false(r.closed);
	rig_close(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_before_hello),
		cmocka_unit_test(test_literals),
		cmocka_unit_test(test_normalised),
		cmocka_unit_test(test_keywords),
		cmocka_unit_test(test_lmtp_hello),
		cmocka_unit_test(test_repetition),
		cmocka_unit_test(test_recipient_flood),
		cmocka_unit_test(test_idle_count_starts_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
