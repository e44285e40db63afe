/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#define MAIL "MAIL FROM:<a@b.test>\r\n"

static struct smtp_server_options
secured(void)
{
	struct smtp_server_options o = rig_options;
	o.secured = true;
	return o;
}

/* RFC 4954; reliability C3 and C4. */
static const struct dialogue cases[] = {
	{ "initial response, §4", "AUTH PLAIN Z29vZA==\r\n", "235/2.7.0",
	    "AUTH PLAIN Z29vZA==|" },
	{ "case of the name", "auth plain Z29vZA==\r\n", "235/2.7.0",
	    "AUTH PLAIN Z29vZA==|" },
	{ "challenge", "AUTH PLAIN\r\nZ29vZA==\r\n", "334 235/2.7.0",
	    "AUTH PLAIN none |AUTH_DATA Z29vZA==|" },
	{ "empty initial response", "AUTH PLAIN =\r\nZ29vZA==\r\n",
	    "334 235/2.7.0", "AUTH PLAIN |AUTH_DATA Z29vZA==|" },
	{ "two steps", "AUTH LOGIN\r\ndXNlcg==\r\nZ29vZA==\r\n",
	    "334 334 235/2.7.0",
	    "AUTH LOGIN none |AUTH_DATA dXNlcg==|AUTH_DATA Z29vZA==|" },
	{ "empty response", "AUTH LOGIN\r\n\r\nZ29vZA==\r\n",
	    "334 334 235/2.7.0",
	    "AUTH LOGIN none |AUTH_DATA |AUTH_DATA Z29vZA==|" },
	{ "wrong", "AUTH PLAIN QUJD\r\nAUTH PLAIN Z29vZA==\r\n",
	    "535/5.7.8 235/2.7.0", NULL },
	{ "cancelled, §4", "AUTH LOGIN\r\n*\r\nNOOP\r\n",
	    "334 501/5.7.0 250/2.0.0", "AUTH LOGIN none |CANCEL|" },
	{ "not base64", "AUTH LOGIN\r\nA\r\nNOOP\r\n",
	    "334 501/5.5.2 250/2.0.0", "AUTH LOGIN none |CANCEL|" },
	{ "commands are no responses", "AUTH LOGIN\r\nQUIT now\r\nNOOP\r\n",
	    "334 501/5.5.2 250/2.0.0", NULL },
	{ "initial not base64", "AUTH PLAIN A\r\nNOOP\r\n",
	    "501/5.5.2 250/2.0.0", "" },
	{ "no mechanism", "AUTH\r\n", "501/5.5.4", "" },
	{ "unknown mechanism, §4",
	    "AUTH GSSAPI\r\nAUTH PLAI\r\nAUTH PLAINX\r\n",
	    "504/5.5.4 504/5.5.4 504/5.5.4", "" },
	{ "twice, §4", "AUTH PLAIN Z29vZA==\r\nAUTH PLAIN Z29vZA==\r\n",
	    "235/2.7.0 503/5.5.1", NULL },
	{ "in mail, §4", MAIL "AUTH PLAIN Z29vZA==\r\n", "250/2.1.0 503/5.5.1",
	    "MAIL a@b.test|" },
	{ "bare LF", "AUTH LOGIN\r\nQQ==\nMAIL FROM:<>\r\n", "334 521/5.5.2",
	    "AUTH LOGIN none |CLOSE|" },
	{ "NUL", "AUTH LOGIN\r\nQ\0==\r\n", "334 521/5.5.2",
	    "AUTH LOGIN none |CLOSE|", 18 },
};

static void
test_exchange(void **state)
{
	(void)state;
	struct smtp_server_options o = secured();
	rig_check_all(cases, COUNT(cases), &o);
}

/* Not offered afterwards (RFC 4954 §4 forbids a second AUTH). */
static void
test_keyword_goes(void **state)
{
	(void)state;
	struct smtp_server_options o = secured();
	struct rig r;
	rig_open(&r, &o);
	rig_feed(&r, SPAN("EHLO c\r\nAUTH PLAIN Z29vZA==\r\n"));
	assert_non_null(strstr(buf_cstring(&r.wire), "AUTH SCRAM-SHA-256"));
	buf_clear(&r.wire);
	rig_feed(&r, SPAN("EHLO c\r\n"));
	assert_null(strstr(buf_cstring(&r.wire), "AUTH"));
	rig_close(&r);
}

static void
test_not_possible(void **state)
{
	(void)state;
	rig_check(&(struct dialogue){ "in the clear, §6",
		      "AUTH PLAIN Z29vZA==\r\n", "538/5.7.11", "" },
	    &rig_options);
	struct smtp_server_options o = secured();
	o.auth = false;
	rig_check(&(struct dialogue){ "not offered", "AUTH PLAIN\r\n",
		      "502/5.5.1", "" },
	    &o);
}

static void
test_required(void **state)
{
	(void)state;
	struct smtp_server_options o = secured();
	o.auth_required = true;
	rig_check(&(struct dialogue){ "required, §6",
		      MAIL "RCPT TO:<c@d.test>\r\nAUTH PLAIN Z29vZA==\r\n" MAIL,
		      "530/5.7.0 503/5.5.1 235/2.7.0 250/2.1.0",
		      "AUTH PLAIN Z29vZA==|MAIL a@b.test|" },
	    &o);
	o.secured = false;
	rig_check(
	    &(struct dialogue){ "required and plain", MAIL, "530/5.7.0", "" },
	    &o);
}

static void
test_failures_end(void **state)
{
	(void)state;
	struct smtp_server_options o = secured();
	o.errors_max = 3;
	rig_check(&(struct dialogue){ "failures",
		      "AUTH PLAIN QUJD\r\nAUTH PLAIN\r\n*\r\n"
		      "AUTH PLAIN QUJD\r\nAUTH PLAIN Z29vZA==\r\n",
		      "535/5.7.8 334 501/5.7.0 535/5.7.8 421/4.7.0", NULL },
	    &o);
}

static void
test_long_lines(void **state)
{
	(void)state;

	static const struct {
		size_t len;
		const char *codes, *events;
	} lengths[] = {
		{ 12284, "334 535/5.7.8 250/2.0.0", NULL },
		{ 12288, "334 500/5.5.6 250/2.0.0",
		    "AUTH PLAIN none |CANCEL|" },
		{ 100000, "334 500/5.5.6 250/2.0.0",
		    "AUTH PLAIN none |CANCEL|" },
	};
	struct smtp_server_options o = secured();
	for (size_t i = 0; i < COUNT(lengths); i++) {
		struct buf in = BUF_EMPTY;
		buf_append_str(&in, "AUTH PLAIN\r\n");
		for (size_t n = 0; n < lengths[i].len; n++)
			buf_append_char(&in, 'A');
		buf_append_str(&in, "\r\nNOOP\r\n");
		rig_check(&(struct dialogue){ "long", buf_cstring(&in),
			      lengths[i].codes, lengths[i].events },
		    &o);
		buf_done(&in);
	}
}

/* A challenge goes out on one line, however long. */
static void
test_long_challenge(void **state)
{
	(void)state;
	struct smtp_server_options o = secured();
	struct smtp_server *s = smtp_server_new(&o);
	struct smtp_server_event e;
	smtp_server_greet(s, NULL);
	(void)smtp_server_feed(s, SPAN("EHLO c\r\n"), &e);
	struct span in = SPAN("AUTH PLAIN\r\n");
	assert_int_equal(smtp_server_feed(s, in, &e), in.len);
	assert_int_equal(e.type, SMTP_SERVER_AUTH);
	assert_false(e.has_initial);
	assert_true(smtp_server_waits_for_answer(s));
	/* Nothing is taken meanwhile. */
	in = SPAN("QUIT\r\n");
	assert_int_equal(smtp_server_feed(s, in, &e), 0);
	assert_int_equal(e.type, SMTP_SERVER_NONE);
	smtp_server_sent(s, smtp_server_output(s).len);
	char challenge[2000];
	memset(challenge, 'A', sizeof(challenge));
	smtp_server_auth_challenge(s, span_from(challenge, sizeof(challenge)));
	struct span out = smtp_server_output(s);
	assert_int_equal(out.len, 2006);
	assert_int_equal(span_find(out, '\n'), 2005);
	assert_false(smtp_server_waits_for_answer(s));
	smtp_server_free(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exchange),
		cmocka_unit_test(test_keyword_goes),
		cmocka_unit_test(test_not_possible),
		cmocka_unit_test(test_required),
		cmocka_unit_test(test_failures_end),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_long_challenge),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
