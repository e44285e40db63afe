/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"
#include "smtp/internal.h"

#define MAIL "MAIL FROM:<a@b.test>\r\n"
#define RCPT "RCPT TO:<c@d.test>\r\n"
#define OPEN MAIL RCPT
#define OPEN_CODES "250/2.1.0 250/2.1.5"
#define OPEN_EVENTS "MAIL a@b.test|RCPT c@d.test|"
#define BINARY "MAIL FROM:<a@b.test> BODY=BINARYMIME\r\n" RCPT
#define BINARY_EVENTS "MAIL a@b.test BINARY|RCPT c@d.test|"
#define X10 "xxxxxxxxxx"
#define X100 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10
#define X1000 X100 X100 X100 X100 X100 X100 X100 X100 X100 X100

static const struct dialogue data_cases[] = {
	{ "one", OPEN "DATA\r\nx\r\n.\r\nNOOP\r\n",
	    OPEN_CODES " 354 250/2.0.0 250/2.0.0",
	    OPEN_EVENTS "BODY x\r\n|END 3|" },
	{ "empty", OPEN "DATA\r\n.\r\n", OPEN_CODES " 354 250/2.0.0",
	    OPEN_EVENTS "END 0|" },
	{ "dots", OPEN "DATA\r\n..\r\n..x\r\n.y\r\n.\r\n",
	    OPEN_CODES " 354 250/2.0.0",
	    OPEN_EVENTS "BODY .\r\n.x\r\ny\r\n|END 10|" },
	{ "two in a row",
	    OPEN "DATA\r\nx\r\n.\r\n" OPEN "DATA\r\ny\r\n.\r\nQUIT\r\n",
	    OPEN_CODES " 354 250/2.0.0 " OPEN_CODES " 354 250/2.0.0 221/2.0.0",
	    OPEN_EVENTS "BODY x\r\n|END 3|" OPEN_EVENTS
			"BODY y\r\n|END 3|CLOSE|" },
	{ "after the end, A9",
	    OPEN "DATA\r\n.\r\n" RCPT "DATA\r\nBDAT 0 LAST\r\n",
	    OPEN_CODES " 354 250/2.0.0 503/5.5.1 503/5.5.1 503/5.5.1",
	    OPEN_EVENTS "END 0|" },
	{ "no recipient, A9", MAIL "DATA\r\nNOOP\r\n",
	    "250/2.1.0 503/5.5.1 250/2.0.0", "MAIL a@b.test|" },
	{ "all refused, A7",
	    MAIL "RCPT TO:<no@d.test>\r\nDATA\r\nNOOP\r\n" RCPT,
	    "250/2.1.0 550/5.7.1 554/5.5.1 250/2.0.0 250/2.1.5",
	    "MAIL a@b.test|RCPT no@d.test|RCPT c@d.test|" },
	{ "some refused",
	    MAIL "RCPT TO:<no@d.test>\r\nRCPT TO:<later@d.test>\r\n" RCPT
		 "DATA\r\n.\r\n",
	    "250/2.1.0 550/5.7.1 450/4.2.0 250/2.1.5 354 250/2.0.0", NULL },
	{ "binary needs BDAT, RFC 3030 §3", BINARY "DATA\r\n",
	    OPEN_CODES " 503/5.5.1", BINARY_EVENTS },
	{ "commands in the message are text",
	    OPEN "DATA\r\nRSET\r\nQUIT\r\n.\r\n", OPEN_CODES " 354 250/2.0.0",
	    OPEN_EVENTS "BODY RSET\r\nQUIT\r\n|END 12|" },
	{ "at the limit",
	    OPEN "DATA\r\n" X100 X100 X100 X100 X100 X100 X100 X100 X100 X10 X10
		X10 X10 X10 X10 X10 X10 X10 "12345678\r\n.\r\n",
	    OPEN_CODES " 354 250/2.0.0", NULL },
	{ "too big, RFC 1870 §6.3",
	    OPEN "DATA\r\n" X1000 "\r\n.\r\nNOOP\r\n" RCPT,
	    OPEN_CODES " 354 552/5.3.4 250/2.0.0 503/5.5.1",
	    OPEN_EVENTS "RESET|" },
	{ "smuggling in a message too big",
	    OPEN "DATA\r\n" X1000 "\n.\nMAIL FROM:<>\r\n.\r\n",
	    OPEN_CODES " 354 521/5.6.11", OPEN_EVENTS "RESET|CLOSE|" },
};

static void
test_data(void **state)
{
	(void)state;
	rig_check_all(data_cases, COUNT(data_cases), &rig_options);
}

/* Reliability A1. Behind each false end stands a whole second transaction;
 * whatever happens, it must not become one. */
static const struct {
	const char *bytes;
	size_t len;
	bool true_end; /* when bare line ends are normalised first */
} ends[] = {
	{ "\n.\n", 3, false },
	{ "\r.\r", 3, false },
	{ "\r.\n", 3, false },
	{ "\n.\r", 3, false },
	{ "\n.\r\n", 4, false },
	{ "\r\n.\n", 4, false },
	{ "\r.\r\n", 4, false },
	{ "\r\n.\r", 4, false },
	{ "\r\n\0.\r\n", 6, false },
	{ "\r\n.\0\r\n", 6, false },
	{ "\r\n.\r\r\n", 6, false },
	{ "\r\r\n.\r\n", 6, true },
	{ "\n\n.\r\n", 5, false },
	{ "\r\n.\n\r\n", 6, false },
};

static void
smuggle(struct rig *r, size_t i, bool normalise, size_t piece)
{
	struct smtp_server_options o = rig_options;
	o.normalise_newlines = normalise;
	struct buf in = BUF_EMPTY;
	buf_append(&in, SPAN("EHLO c\r\n" OPEN "DATA\r\nx"));
	buf_append(&in, span_from(ends[i].bytes, ends[i].len));
	buf_append(
	    &in, SPAN("MAIL FROM:<evil@b.test>\r\nRCPT TO:<victim@d.test>\r\n"
		      "DATA\r\nFrom: evil\r\n.\r\nQUIT\r\n"));
	rig_open(r, &o);
	rig_feed_split(r, buf_span(&in), piece);
	buf_done(&in);
}

static void
test_smuggling(void **state)
{
	(void)state;
	assert_int_equal(COUNT(ends), 14);
	for (size_t i = 0; i < COUNT(ends); i++) {
		for (size_t piece = 1; piece < 160; piece += 1 + piece / 4) {
			struct rig r;
			smuggle(&r, i, false, piece);
			assert_null(
			    strstr(buf_cstring(&r.events), "MAIL evil"));
			assert_null(strstr(buf_cstring(&r.events), "END"));
			assert_non_null(
			    strstr(buf_cstring(&r.wire), "\r\n521 5.6.11 "));
			assert_true(r.closed);
			rig_close(&r);
		}
	}
}

/* Normalised, it is one message, or the session ends (NUL). Only where the
 * true CRLF.CRLF is among the bytes does the message end there. */
static void
test_smuggling_normalised(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(ends); i++) {
		for (size_t piece = 1; piece < 160; piece += 1 + piece / 4) {
			struct rig r;
			smuggle(&r, i, true, piece);
			const char *events = buf_cstring(&r.events);
			bool split =
			    strstr(events, "MAIL evil@b.test|") != NULL;
			assert_int_equal(split, ends[i].true_end);
			if (memchr(ends[i].bytes, 0, ends[i].len) != NULL)
				assert_null(strstr(events, "END"));
			else if (!split)
				assert_non_null(strstr(events, "evil\r\n|END"));
			rig_close(&r);
		}
	}
}

static const struct dialogue bdat_cases[] = {
	{ "one chunk", OPEN "BDAT 3 LAST\r\nx\r\nNOOP\r\n",
	    OPEN_CODES " 250/2.0.0 250/2.0.0",
	    OPEN_EVENTS "BODY x\r\n|END 3|" },
	{ "chunks", OPEN "BDAT 2\r\nx\rBDAT 3\r\n\nabBDAT 2 LAST\r\n\r\n",
	    OPEN_CODES " 250/2.0.0 250/2.0.0 250/2.0.0",
	    OPEN_EVENTS "BODY x\r\nab\r\n|END 7|" },
	{ "empty last", OPEN "BDAT 3\r\nx\r\nBDAT 0 LAST\r\n",
	    OPEN_CODES " 250/2.0.0 250/2.0.0",
	    OPEN_EVENTS "BODY x\r\n|END 3|" },
	{ "empty at all", OPEN "BDAT 0\r\nBDAT 0 LAST\r\n",
	    OPEN_CODES " 250/2.0.0 250/2.0.0", OPEN_EVENTS "END 0|" },
	{ "no line end, A5", OPEN "BDAT 3 LAST\r\nabc", OPEN_CODES " 250/2.0.0",
	    OPEN_EVENTS "BODY abc|END 3|" },
	{ "dots are text", OPEN "BDAT 8 LAST\r\n.\r\n..\r\n.QUIT\r\n",
	    OPEN_CODES " 250/2.0.0 221/2.0.0",
	    OPEN_EVENTS "BODY .\r\n..\r\n.|END 8|CLOSE|" },
	{ "binary", BINARY "BDAT 7 LAST\r\n\r\0\n.\r\r\n",
	    OPEN_CODES " 250/2.0.0", NULL, 1 },
	{ "bare LF, A2", OPEN "BDAT 4 LAST\r\na\nb\nNOOP\r\n" RCPT,
	    OPEN_CODES " 550/5.6.11 250/2.0.0 503/5.5.1",
	    OPEN_EVENTS "RESET|" },
	{ "bare CR, A2", OPEN "BDAT 3\r\na\rbBDAT 3 LAST\r\nx\r\nNOOP\r\n",
	    OPEN_CODES " 550/5.6.11 503/5.5.1 250/2.0.0",
	    OPEN_EVENTS "RESET|" },
	{ "bare CR between chunks", OPEN "BDAT 2\r\na\rBDAT 1 LAST\r\nb",
	    OPEN_CODES " 250/2.0.0 550/5.6.11", OPEN_EVENTS "BODY a\r|RESET|" },
	{ "bare CR at the end", OPEN "BDAT 2 LAST\r\na\rNOOP\r\n",
	    OPEN_CODES " 550/5.6.11 250/2.0.0", OPEN_EVENTS "BODY a\r|RESET|" },
	{ "false end in a chunk, A2",
	    OPEN "BDAT 27 LAST\r\na\r\n.\nMAIL FROM:<e@b.test>\r\nNOOP\r\n",
	    OPEN_CODES " 550/5.6.11 250/2.0.0", OPEN_EVENTS "RESET|" },
	{ "no mail, C7", "BDAT 6\r\nNOOP\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
	    "503/5.5.1 503/5.5.1 250/2.0.0", "" },
	{ "no recipient, C7", MAIL "BDAT 6 LAST\r\nNOOP\r\n" RCPT,
	    "250/2.1.0 503/5.5.1 250/2.1.5", "MAIL a@b.test|RCPT c@d.test|" },
	{ "all refused", MAIL "RCPT TO:<no@d.test>\r\nBDAT 6 LAST\r\nNOOP\r\n",
	    "250/2.1.0 550/5.7.1 554/5.5.1", NULL },
	{ "wrong verbs between chunks, C7",
	    OPEN "BDAT 3\r\nx\r\nDATA\r\n" MAIL RCPT
		 "NOOP\r\nSTARTTLS\r\nBDAT 0 LAST\r\n",
	    OPEN_CODES " 250/2.0.0 503/5.5.1 503/5.5.1 503/5.5.1 250/2.0.0 "
		       "503/5.5.1 250/2.0.0",
	    OPEN_EVENTS "BODY x\r\n|END 3|" },
	{ "rset between chunks", OPEN "BDAT 3\r\nx\r\nRSET\r\nBDAT 1 LAST\r\nx",
	    OPEN_CODES " 250/2.0.0 250/2.0.0 503/5.5.1",
	    OPEN_EVENTS "BODY x\r\n|RESET|" },
	{ "quit between chunks", OPEN "BDAT 3\r\nx\r\nQUIT\r\n",
	    OPEN_CODES " 250/2.0.0 221/2.0.0",
	    OPEN_EVENTS "BODY x\r\n|RESET|CLOSE|" },
	{ "ehlo between chunks", OPEN "BDAT 3\r\nx\r\nEHLO d\r\n",
	    OPEN_CODES " 250/2.0.0 250",
	    OPEN_EVENTS "BODY x\r\n|RESET|HELO d|" },
	{ "after last, C7", OPEN "BDAT 0 LAST\r\nBDAT 2\r\nab",
	    OPEN_CODES " 250/2.0.0 503/5.5.1", OPEN_EVENTS "END 0|" },
	{ "new message after chunks",
	    OPEN "BDAT 1 LAST\r\nx" OPEN "DATA\r\ny\r\n.\r\n",
	    OPEN_CODES " 250/2.0.0 " OPEN_CODES " 354 250/2.0.0",
	    OPEN_EVENTS "BODY x|END 1|" OPEN_EVENTS "BODY y\r\n|END 3|" },
	{ "too big, C7", OPEN "BDAT 1001\r\n" X1000 "xNOOP\r\nBDAT 1 LAST\r\nx",
	    OPEN_CODES " 552/5.3.4 250/2.0.0 503/5.5.1", OPEN_EVENTS "RESET|" },
	{ "too big together",
	    OPEN "BDAT 10\r\n" X10 "BDAT 1000 LAST\r\n" X1000 "NOOP\r\n",
	    OPEN_CODES " 250/2.0.0 552/5.3.4 250/2.0.0",
	    OPEN_EVENTS "BODY " X10 "|RESET|" },
	{ "enormous, C7", OPEN "BDAT 9223372036854775807 LAST\r\nNOOP\r\n",
	    OPEN_CODES, OPEN_EVENTS "RESET|" },
	{ "overflow, C7", OPEN "BDAT 9223372036854775808\r\nNOOP\r\n",
	    OPEN_CODES " 521/5.5.4", OPEN_EVENTS "RESET|CLOSE|" },
	{ "negative, C7", OPEN "BDAT -1\r\nNOOP\r\n", OPEN_CODES " 521/5.5.4",
	    OPEN_EVENTS "RESET|CLOSE|" },
	{ "missing, C7", "BDAT\r\nNOOP\r\n", "521/5.5.4", "CLOSE|" },
};

static void
test_bdat(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(bdat_cases); i++) {
		struct dialogue d = bdat_cases[i];
		if (d.length != 0) /* the one with a NUL */
			d.length = sizeof(BINARY) - 1 + 13 + 7;
		rig_check(&d, &rig_options);
	}
}

/* Binary chunks pass through byte for byte. */
static void
test_binary(void **state)
{
	(void)state;
	for (size_t piece = 1; piece < 300; piece += 1 + piece / 3) {
		struct buf in = BUF_EMPTY;
		char all[256];
		for (int i = 0; i < 256; i++)
			all[i] = (char)i;
		buf_append(&in, SPAN("EHLO c\r\n" BINARY "BDAT 256\r\n"));
		buf_append(&in, span_from(all, 256));
		buf_append(&in, SPAN("BDAT 256 LAST\r\n"));
		buf_append(&in, span_from(all, 256));
		struct rig r;
		rig_open(&r, &rig_options);
		rig_feed_split(&r, buf_span(&in), piece);
		size_t at = span_search(buf_span(&r.events), SPAN("BODY ")) + 5;
		struct span body = span_skip(buf_span(&r.events), at);
		assert_memory_equal(body.ptr, all, 256);
		assert_memory_equal(body.ptr + 256, all, 256);
		assert_true(span_eq(span_skip(body, 512), SPAN("|END 512|")));
		buf_done(&in);
		rig_close(&r);
	}
}

static void
test_bdat_normalised(void **state)
{
	(void)state;
	struct smtp_server_options o = rig_options;
	o.normalise_newlines = true;
	const struct dialogue cases[] = {
		{ "bare LF", OPEN "BDAT 4 LAST\r\na\n.\n",
		    OPEN_CODES " 250/2.0.0",
		    OPEN_EVENTS "BODY a\r\n.\r\n|END 6|" },
		{ "CR held over chunks", OPEN "BDAT 2\r\na\rBDAT 2 LAST\r\n\nb",
		    OPEN_CODES " 250/2.0.0 250/2.0.0",
		    OPEN_EVENTS "BODY a\r\nb|END 4|" },
		{ "CR at the end", OPEN "BDAT 2 LAST\r\na\r",
		    OPEN_CODES " 250/2.0.0", OPEN_EVENTS "BODY a\r\n|END 3|" },
		{ "NUL", OPEN "BDAT 3 LAST\r\na\0bNOOP\r\n",
		    OPEN_CODES " 550/5.6.11 250/2.0.0", OPEN_EVENTS "RESET|",
		    sizeof(OPEN) - 1 + 13 + 3 + 6 },
	};
	rig_check_all(cases, COUNT(cases), &o);
}

/* RFC 2033 §4.2: one reply for each accepted recipient, refusals too. */
static void
test_lmtp(void **state)
{
	(void)state;
	struct smtp_server_options o = rig_options;
	o.lmtp = true;
	const struct dialogue cases[] = {
		{ "data", MAIL RCPT RCPT "DATA\r\n.\r\nNOOP\r\n",
		    "250/2.1.0 250/2.1.5 250/2.1.5 354 250/2.0.0 250/2.0.0 "
		    "250/2.0.0",
		    NULL },
		{ "refused are not counted",
		    MAIL RCPT "RCPT TO:<no@d.test>\r\nBDAT 0 LAST\r\n",
		    "250/2.1.0 250/2.1.5 550/5.7.1 250/2.0.0", NULL },
		{ "too big",
		    MAIL RCPT RCPT "DATA\r\n" X1000 "\r\n.\r\nNOOP\r\n",
		    "250/2.1.0 250/2.1.5 250/2.1.5 354 552/5.3.4 552/5.3.4 "
		    "250/2.0.0",
		    NULL },
		{ "last chunk too big",
		    MAIL RCPT RCPT "BDAT 1001 LAST\r\n" X1000 "xNOOP\r\n",
		    "250/2.1.0 250/2.1.5 250/2.1.5 552/5.3.4 552/5.3.4 "
		    "250/2.0.0",
		    NULL },
		{ "first chunk too big",
		    MAIL RCPT RCPT "BDAT 1001\r\n" X1000 "xBDAT 0 LAST\r\n",
		    "250/2.1.0 250/2.1.5 250/2.1.5 552/5.3.4 503/5.5.1", NULL },
		{ "no recipient", MAIL "DATA\r\n", "250/2.1.0 503/5.5.1",
		    NULL },
	};
	rig_check_all(cases, COUNT(cases), &o);
}

static void
test_line_max(void **state)
{
	(void)state;
	struct smtp_server_options o = rig_options;
	o.header_line_max = 20;
	const struct dialogue cases[] = {
		{ "at the limit", OPEN "DATA\r\n" X10 X10 "\r\n.\r\n",
		    OPEN_CODES " 354 250/2.0.0", NULL },
		{ "over it", OPEN "DATA\r\n" X10 X10 "x\r\n.\r\nNOOP\r\n",
		    OPEN_CODES " 354 554/5.6.0 250/2.0.0",
		    OPEN_EVENTS "RESET|" },
		{ "in a chunk", OPEN "BDAT 22 LAST\r\n" X10 X10 "xxNOOP\r\n",
		    OPEN_CODES " 554/5.6.0 250/2.0.0", OPEN_EVENTS "RESET|" },
		{ "over two chunks",
		    OPEN "BDAT 11\r\n" X10 "xBDAT 10 LAST\r\n" X10 "NOOP\r\n",
		    OPEN_CODES " 250/2.0.0 554/5.6.0 250/2.0.0", NULL },
		{ "binary has no lines", BINARY "BDAT 30 LAST\r\n" X10 X10 X10,
		    OPEN_CODES " 250/2.0.0", NULL },
		{ "the next message starts afresh",
		    OPEN "DATA\r\n" X10 X10 "x\r\n.\r\n" OPEN
			 "DATA\r\nx\r\n.\r\n",
		    OPEN_CODES " 354 554/5.6.0 " OPEN_CODES " 354 250/2.0.0",
		    NULL },
	};
	rig_check_all(cases, COUNT(cases), &o);
}

static void
assert_small(const struct smtp_server *s)
{
	assert_true(s->line.buf.capacity < 8192);
	assert_true(s->framer.scratch.capacity < 32768);
	assert_true(s->output.capacity < 8192);
	assert_true(arena_used(s->arena) < 4096);
	assert_int_equal(s->event_count, 0);
}

/* Many chunks of one octet, a long message of one line: what the session holds
 * stays as small as it was (reliability R12, C7). */
static void
check_bounded(bool normalise)
{
	struct smtp_server_options o = rig_options;
	o.size_max = 0;
	o.normalise_newlines = normalise;
	struct rig r;
	rig_open(&r, &o);
	rig_feed(&r, SPAN("EHLO c\r\n" OPEN));
	for (int i = 0; i < 20000; i++) {
		rig_feed(&r, SPAN("BDAT 1\r\nx"));
		buf_clear(&r.wire);
		buf_clear(&r.events);
	}
	rig_feed(&r, SPAN("BDAT 0 LAST\r\n"));
	assert_non_null(strstr(buf_cstring(&r.events), "END 20000|"));
	assert_small(r.s);
	rig_feed(&r, SPAN(OPEN "DATA\r\n"));
	for (int i = 0; i < 10000; i++) {
		rig_feed(&r, SPAN(X1000));
		buf_clear(&r.events);
		r.in_body = false;
	}
	rig_feed(&r, SPAN("\r\n.\r\n"));
	assert_non_null(strstr(buf_cstring(&r.events), "END 10000002|"));
	assert_small(r.s);
	rig_close(&r);
}

static void
test_bounded(void **state)
{
	(void)state;
	check_bounded(false);
	check_bounded(true);
}

/* Large spans, not one event per line. */
static void
test_few_events(void **state)
{
	(void)state;
	struct smtp_server_options o = rig_options;
	o.size_max = 0;
	struct buf in = BUF_EMPTY;
	buf_append(&in, SPAN("EHLO c\r\n" OPEN "DATA\r\n"));
	for (int i = 0; i < 1000; i++)
		buf_append(&in, SPAN("a line of the message\r\n"));
	buf_append(&in, SPAN(".\r\n"));
	struct rig r;
	rig_open(&r, &o);
	rig_feed(&r, buf_span(&in));
	assert_int_equal(r.body_events, 1);
	assert_non_null(strstr(buf_cstring(&r.events), "END 23000|"));
	buf_done(&in);
	rig_close(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_data),
		cmocka_unit_test(test_smuggling),
		cmocka_unit_test(test_smuggling_normalised),
		cmocka_unit_test(test_bdat),
		cmocka_unit_test(test_binary),
		cmocka_unit_test(test_bdat_normalised),
		cmocka_unit_test(test_lmtp),
		cmocka_unit_test(test_line_max),
		cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_few_events),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
