/* SPDX-License-Identifier: Apache-2.0 */
#include "client_play.h"

/* Mail to one. */
static const struct smtp_client_rcpt rcpt = {
	.address = { "b@y.example", 11 },
};
static const struct smtp_client_transaction t = {
	.sender = { "a@x.example", 11 },
	.size = PLAY_BODY_SIZE,
	.rcpts = &rcpt,
	.rcpt_count = 1,
};

#define HOST SPAN("relay.example.com")
#define S(name) (1u << SMTP_CLIENT_STEP_##name)
#define STEPS (SMTP_CLIENT_STEP_CLOSED + 1)

/* The diagram on top of client.c, edge by edge. */
static void
test_steps_follow_the_diagram(void **state)
{
	(void)state;

	/* clang-format off */
	static const struct {
		const char *name;
		unsigned next;
		int seconds;
	} diagram[STEPS] = {
		[SMTP_CLIENT_STEP_BANNER] = { "banner", S(EHLO), 300 },
		[SMTP_CLIENT_STEP_EHLO] = { "ehlo", S(HELO) | S(STARTTLS) | S(AUTH) | S(IDLE), 300 },
		[SMTP_CLIENT_STEP_HELO] = { "helo", S(IDLE), 300 },
		[SMTP_CLIENT_STEP_STARTTLS] = { "starttls", S(TLS) | S(AUTH) | S(IDLE), 120 },
		[SMTP_CLIENT_STEP_TLS] = { "tls", S(EHLO), 120 },
		[SMTP_CLIENT_STEP_AUTH] = { "auth", S(IDLE), 120 },
		[SMTP_CLIENT_STEP_IDLE] = { "idle", S(RSET) | S(MAIL) | S(IDLE) | S(QUIT), 300 },
		[SMTP_CLIENT_STEP_MAIL] = { "mail", S(RCPT) | S(IDLE), 300 },
		[SMTP_CLIENT_STEP_RCPT] = { "rcpt", S(DATA) | S(BODY) | S(END) | S(IDLE), 300 },
		[SMTP_CLIENT_STEP_DATA] = { "data", S(BODY) | S(END) | S(IDLE), 120 },
		[SMTP_CLIENT_STEP_BODY] = { "body", S(END), 180 },
		[SMTP_CLIENT_STEP_END] = { "end", S(IDLE), 600 },
		[SMTP_CLIENT_STEP_RSET] = { "rset", S(MAIL), 300 },
		[SMTP_CLIENT_STEP_QUIT] = { "quit", 0, 10 },
		[SMTP_CLIENT_STEP_CLOSED] = { "closed", 0, 0 },
	};

	/* clang-format on */
	for (unsigned from = 0; from < STEPS; from++) {
		unsigned next = diagram[from].next;
		if (from != SMTP_CLIENT_STEP_CLOSED)
			next |= S(CLOSED);
		assert_string_equal(
		    smtp_client_step_name(from), diagram[from].name);
		for (unsigned to = 0; to < STEPS; to++)
			assert_int_equal(smtp_client_step_follows(to, from),
			    (next >> to) & 1);
	}
}

static struct smtp_client *
client_at_banner(void)
{
	struct smtp_client_options options = { .hostname = HOST,
		.tls = SMTP_CLIENT_TLS_OPPORTUNISTIC };
	return smtp_client_new(&options);
}

static enum smtp_client_event_type
feed(struct smtp_client *c, const char *in, struct smtp_client_event *ret_event)
{
	struct span s = span_of(in);
	assert_int_equal(smtp_client_feed(c, s, ret_event), s.len);
	smtp_client_sent(c, smtp_client_output(c).len);
	return ret_event->type;
}

/* Each step's own patience, on a walk through a session. */
static void
test_seconds_on_the_way(void **state)
{
	(void)state;

	/* clang-format off */
	static const struct {
		const char *in;
		enum smtp_client_event_type event;
		enum smtp_client_step step;
		int seconds;
	} way[] = {
		{ "", SMTP_CLIENT_NONE, SMTP_CLIENT_STEP_BANNER, 300 },
		{ "220 mx\r\n", SMTP_CLIENT_NONE, SMTP_CLIENT_STEP_EHLO, 300 },
		{ "500 mx\r\n", SMTP_CLIENT_NONE, SMTP_CLIENT_STEP_HELO, 300 },
		{ "250 mx\r\n", SMTP_CLIENT_READY, SMTP_CLIENT_STEP_IDLE, 300 },
		{ "", SMTP_CLIENT_NONE, SMTP_CLIENT_STEP_MAIL, 300 },
		{ "250 ok\r\n", SMTP_CLIENT_NONE, SMTP_CLIENT_STEP_RCPT, 300 },
		{ "250 ok\r\n", SMTP_CLIENT_NONE, SMTP_CLIENT_STEP_DATA, 120 },
		{ "354 go\r\n", SMTP_CLIENT_BODY, SMTP_CLIENT_STEP_BODY, 180 },
		{ "", SMTP_CLIENT_NONE, SMTP_CLIENT_STEP_END, 600 },
		{ "250 ok\r\n", SMTP_CLIENT_DONE, SMTP_CLIENT_STEP_IDLE, 300 },
		{ "", SMTP_CLIENT_READY, SMTP_CLIENT_STEP_IDLE, 300 },
		{ "", SMTP_CLIENT_NONE, SMTP_CLIENT_STEP_QUIT, 10 },
		{ "221 bye\r\n", SMTP_CLIENT_CLOSED, SMTP_CLIENT_STEP_CLOSED, 0 },
	};
	/* clang-format on */
	struct smtp_client *c = client_at_banner();
	for (size_t i = 0; i < sizeof(way) / sizeof(way[0]); i++) {
		struct smtp_client_event e;
		if (way[i].step == SMTP_CLIENT_STEP_MAIL)
			smtp_client_start(c, &t);
		if (way[i].step == SMTP_CLIENT_STEP_END)
			smtp_client_body_sent(c);
		if (way[i].step == SMTP_CLIENT_STEP_QUIT)
			smtp_client_quit(c);
		assert_int_equal(feed(c, way[i].in, &e), way[i].event);
		assert_int_equal(smtp_client_step(c), way[i].step);
		assert_int_equal(smtp_client_step_seconds(c), way[i].seconds);
	}
	smtp_client_free(&c);
}

/* reliability D1: talk that is no reply ends the session, and only that. */
static void
test_hostile_talk(void **state)
{
	(void)state;
	static const char *const talks[] = { "\r\n", "   \r\n", "220\tmx\r\n",
		"22 mx\r\n", "2200 mx\r\n", "000 mx\r\n", "999 mx\r\n",
		"25x mx\r\n", "+OK pop\r\n", "HTTP/1.1 400 Bad Request\r\n",
		"220-a\r\n250 b\r\n", "\x80\xff\r\n" };
	for (size_t i = 0; i < sizeof(talks) / sizeof(talks[0]); i++) {
		struct smtp_client *c = client_at_banner();
		struct smtp_client_event e;
		assert_int_equal(feed(c, talks[i], &e), SMTP_CLIENT_CLOSED);
		assert_int_equal(e.step, SMTP_CLIENT_STEP_BANNER);
		assert_int_equal(e.reply->code, 451);
		assert_true(e.local);
		smtp_client_free(&c);
	}
}

static void
test_endless_talk(void **state)
{
	(void)state;
	static const char *const pieces[] = { "220-and so on\r\n",
		"220 xxxxxxx", "\n",
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" };
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		struct smtp_client *c = client_at_banner();
		struct smtp_client_event e = { 0 };
		size_t fed = 0;
		while (e.type == SMTP_CLIENT_NONE && fed < 1000000)
			fed += smtp_client_feed(c, span_of(pieces[i]), &e);
		assert_int_equal(e.type, SMTP_CLIENT_CLOSED);
		assert_true(fed < 10000);
		smtp_client_free(&c);
	}
}

/* NUL, ESC and bare LF in a reply arrive nowhere. */
static void
test_control_bytes_in_reply(void **state)
{
	(void)state;
	struct smtp_client *c = client_at_banner();
	struct smtp_client_event e;
	struct span in = SPAN("554-a\0b\x1b[31m\n554 c\rd\r\n");
	assert_int_equal(smtp_client_feed(c, in, &e), in.len);
	assert_int_equal(e.type, SMTP_CLIENT_CLOSED);
	assert_int_equal(e.reply->code, 554);
	for (size_t i = 0; i < e.reply->text.len; i++) {
		char ch = e.reply->text.ptr[i];
		assert_true(ch == '\n' || (unsigned char)ch >= ' ');
	}
	smtp_client_free(&c);
}

/* The connection dies after each single octet of the server's talk: the
 * recipients are delivered when, and only when, the last reply was whole. */
static void
test_break_at_every_octet(void **state)
{
	(void)state;
	static const struct smtp_client_transaction *const messages[] = { &t,
		NULL };
	static const char said[] =
	    "220 mx\r\n250-mx\r\n250-DSN\r\n250 PIPELINING\r\n250 2.1.0 ok\r\n"
	    "250 2.1.5 ok\r\n354 go\r\n250 2.0.0 taken\r\n";
	for (size_t end = 1; end < sizeof(said); end++) {
		const struct play_row rows[] = { { "CONNECT", "220 mx\r\n" },
			{ "EHLO relay.example.com",
			    "250-mx\r\n250-DSN\r\n250 PIPELINING\r\n" },
			{ "MAIL FROM:<a@x.example>", "250 2.1.0 ok\r\n" },
			{ "RCPT TO:<b@y.example>", "250 2.1.5 ok\r\n" },
			{ "DATA", "354 go\r\n" },
			{ ".", "250 2.0.0 taken\r\n" }, { "QUIT", NULL },
			{ NULL, NULL } };
		struct play p = {
			.options = { .hostname = HOST },
			.transactions = messages,
			.row = rows,
			.split = 1,
			.break_after = end,
		};
		play_run(&p);
		assert_false(p.stuck);
		assert_int_equal(
		    smtp_client_step(p.c), SMTP_CLIENT_STEP_CLOSED);
		if (p.current != NULL || end == sizeof(said) - 1) {
			const struct smtp_client_fate *f =
			    smtp_client_fate(p.c, 0);
			assert_int_equal(f->kind, end == sizeof(said) - 1
						      ? SMTP_FATE_DELIVERED
						      : SMTP_FATE_TEMPORARY);
		}
		play_done(&p);
	}
}

/* Events that are due are not lost when the connection breaks under them. */
static void
test_broken_between_events(void **state)
{
	(void)state;
	struct smtp_client *c = client_at_banner();
	struct smtp_client_event e;
	(void)feed(c, "220 mx\r\n", &e);
	assert_int_equal(feed(c, "250 mx\r\n", &e), SMTP_CLIENT_READY);
	struct smtp_client_transaction large = t;
	large.utf8 = true; /* refused at once */
	smtp_client_start(c, &large);
	smtp_client_broken(c, SPAN("gone"));
	assert_int_equal(feed(c, "", &e), SMTP_CLIENT_DONE);
	assert_int_equal(smtp_client_fate(c, 0)->kind, SMTP_FATE_PERMANENT);
	assert_int_equal(feed(c, "", &e), SMTP_CLIENT_CLOSED);
	assert_int_equal(feed(c, "250 late\r\n", &e), SMTP_CLIENT_NONE);
	smtp_client_free(&c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_steps_follow_the_diagram),
		cmocka_unit_test(test_seconds_on_the_way),
		cmocka_unit_test(test_hostile_talk),
		cmocka_unit_test(test_endless_talk),
		cmocka_unit_test(test_control_bytes_in_reply),
		cmocka_unit_test(test_break_at_every_octet),
		cmocka_unit_test(test_broken_between_events),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
