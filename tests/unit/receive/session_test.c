/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sessions over real sockets: a receiver on a thread of its own, and clients
 * that are clumsy, slow, hasty or ill-willed.
 */

#include "stage.h"

#include <malloc.h>
#include <sys/resource.h>

static struct stage stage;

static int
setup(void **state)
{
	stage_open(&stage, STAGE_CONFIG("message_size: 1M"));
	*state = &stage;
	return 0;
}

static int
setup_hasty(void **state)
{
	stage_open(&stage,
	    STAGE_CONFIG(
		"command_time: 400ms, idle_time: 2s, message_time: 800ms, "
		"connections: 4, connections_per_client: 3, "
		"auth_failures: 1, errors_per_session: 4"));
	*state = &stage;
	return 0;
}

static int
setup_trusting(void **state)
{
	stage_open(&stage,
	    STAGE_CONFIG("message_size: 1M") "trusted_networks: [127.0.0.1]\n");
	*state = &stage;
	return 0;
}

static int
teardown(void **state)
{
	stage_close(*state);
	return 0;
}

#define ENVELOPE                                                               \
	"MAIL FROM:<s@sender.example>\r\nRCPT TO:<r@local.example>\r\n"        \
	"DATA\r\n"
#define MESSAGE "Subject: x\r\n\r\nhello\r\n.\r\n"

/* ---- stories ----------------------------------------------------- */

static void
test_submission(void **state)
{
	struct stage *s = *state;
	struct client c;

	dial(s, STARTTLS, &c);
	expect(&c, "220 relay.example.org ESMTP");
	command(&c, "EHLO me", "250-relay.example.org");
	command(&c, "MAIL FROM:<a@x.example>", "530 5.7.0");
	command(&c, "AUTH PLAIN AGEAYg==", "538 5.7.11");
	command(&c, "STARTTLS", "220 2.0.0");
	secure(s, &c);
	command(&c, "EHLO me", "250-relay.example.org");
	log_in(s, &c, s->door.credential.password);
	expect(&c, "235 2.7.0");
	command(&c, "MAIL FROM:<a@x.example>", "250 2.1.0");
	command(&c, "RCPT TO:<b@far.example>", "250 2.1.5");
	command(&c, "DATA", "354 ");
	say(&c, MESSAGE);
	expect(&c, "250 2.0.0 ");
	assert_int_equal(1, atomic_load(&s->door.accepted));
	struct spool_message *message;
	struct buf text = BUF_EMPTY;
	door_read(&s->door, &message, &text);
	const struct spool_envelope *e = spool_message_envelope(message);
	assert_true(span_eq(span_of(s->door.credential.username), e->user));
	assert_true(span_eq(SPAN("127.0.0.1"), e->client));
	assert_int_equal(1, door_count(buf_span(&text), "with ESMTPSA id"));
	assert_int_equal(1, door_count(buf_span(&text), "(TLSv1.3 "));
	spool_message_unref(&message);
	buf_done(&text);
	command(&c, "QUIT", "221 ");
	expect_end(&c);
	hang_up(&c);
}

/* A credential that is revoked ends in open sessions, too. */
static void
test_revoked(void **state)
{
	struct stage *s = *state;
	struct failure failure;
	struct client c;

	dial(s, IMPLICIT, &c);
	secure(s, &c);
	expect(&c, "220 ");
	command(&c, "EHLO me", "250-");
	log_in(s, &c, s->door.credential.password);
	expect(&c, "235 2.7.0");
	command(&c, "MAIL FROM:<a@x.example>", "250 2.1.0");
	command(&c, "RSET", "250 ");
	assert_int_equal(0, directory_revoke_credential(s->door.directory,
				s->door.credential.username, &failure));
	command(&c, "MAIL FROM:<a@x.example>", "550 5.7.1");
	command(&c, "QUIT", "221 ");
	hang_up(&c);
}

/* trusted_networks: no AUTH on a submission listener, and none elsewhere. */
static void
test_trusted(void **state)
{
	struct stage *s = *state;
	struct client c;

	dial(s, STARTTLS, &c);
	expect(&c, "220 ");
	command(&c, "EHLO me", "250-");
	command(&c, "MAIL FROM:<a@x.example>", "250 2.1.0");
	command(&c, "RCPT TO:<b@far.example>", "250 2.1.5");
	hang_up(&c);
	dial(s, MX, &c);
	expect(&c, "220 ");
	command(&c, "EHLO me", "250-");
	command(&c, "MAIL FROM:<a@x.example>", "250 2.1.0");
	command(&c, "RCPT TO:<b@far.example>", "550 5.7.1");
	hang_up(&c);
}

/* Without descriptors clients wait in the backlog. */
static void
test_no_descriptors(void **state)
{
	struct stage *s = *state;
	struct rlimit before, low;
	struct client c;

	assert_int_equal(0, getrlimit(RLIMIT_NOFILE, &before));
	int next = dup(0);
	assert_true(next >= 0);
	close(next);
	low = before;
	low.rlim_cur = (rlim_t)next + 1; /* the client's, and no more */
	assert_int_equal(0, setrlimit(RLIMIT_NOFILE, &low));
	dial(s, MX, &c);
	struct pollfd p = { .fd = stream_fd(c.stream), .events = POLLIN };
	int heard = poll(&p, 1, 250);
	assert_int_equal(0, setrlimit(RLIMIT_NOFILE, &before));
	assert_int_equal(0, heard);
	expect(&c, "220 ");
	hang_up(&c);
}

/* What was said in the clear behind STARTTLS is not heard (CVE-2011-0411). */
static void
test_starttls_injection(void **state)
{
	struct stage *s = *state;
	struct client c;

	dial(s, MX, &c);
	expect(&c, "220 ");
	command(&c, "EHLO me", "250-");
	say(&c, "STARTTLS\r\nRSET\r\nMAIL FROM:<evil@x.example>\r\n");
	expect(&c, "220 ");
	secure(s, &c);
	command(&c, "MAIL FROM:<a@x.example>", "503 ");
	command(&c, "EHLO me", "250-");
	command(&c, "STARTTLS", "503 ");
	command(&c, "QUIT", "221 ");
	expect_end(&c);
	hang_up(&c);
}

/* Two messages and the farewell in one write; then the same one octet at a
 * time. */
static void
test_bursts(void **state)
{
	static const char all[] =
	    "EHLO me\r\n" ENVELOPE MESSAGE ENVELOPE MESSAGE "QUIT\r\n";
	static const char *const replies[] = { "250-", "250 2.1.0", "250 2.1.5",
		"354 ", "250 2.0.0", "250 2.1.0", "250 2.1.5", "354 ",
		"250 2.0.0", "221 " };
	struct stage *s = *state;

	for (int slow = 0; slow < 2; slow++) {
		struct client c;

		dial(s, MX, &c);
		expect(&c, "220 ");
		for (size_t i = 0; slow && i < sizeof all - 1; i++)
			say_bytes(&c, all + i, 1);
		if (!slow)
			say(&c, all);
		for (size_t i = 0; i < sizeof replies / sizeof *replies; i++)
			expect(&c, replies[i]);
		expect_end(&c);
		hang_up(&c);
		assert_int_equal(2 + 2 * slow, atomic_load(&s->door.accepted));
	}
}

/* A client that sends all and closes its half hears the answers still. */
static void
test_half_close(void **state)
{
	struct stage *s = *state;
	struct client c;

	dial(s, MX, &c);
	expect(&c, "220 ");
	say(&c, "EHLO me\r\n" ENVELOPE MESSAGE "QUIT\r\n");
	assert_int_equal(0, shutdown(stream_fd(c.stream), SHUT_WR));
	expect(&c, "250-");
	expect(&c, "250 2.1.0");
	expect(&c, "250 2.1.5");
	expect(&c, "354 ");
	expect(&c, "250 2.0.0");
	expect(&c, "221 ");
	expect_end(&c);
	hang_up(&c);
}

/* The reply that says why arrives, although much was sent behind the fault. */
static void
test_last_word(void **state)
{
	struct stage *s = *state;
	struct client c;

	for (int tls = 0; tls < 2; tls++) {
		dial(s, MX, &c);
		expect(&c, "220 ");
		command(&c, "EHLO me", "250-");
		if (tls) {
			command(&c, "STARTTLS", "220 ");
			secure(s, &c);
			command(&c, "EHLO me", "250-");
		}
		say(&c, ENVELOPE);
		expect(&c, "250 ");
		expect(&c, "250 ");
		expect(&c, "354 ");
		say(&c, "Subject: x\r\n\r\nbare\nline\r\n");
		for (int i = 0; i < 5000; i++)
			say(&c, "more and more of it\r\n");
		say(&c, ".\r\nMAIL FROM:<smuggled@x.example>\r\n");
		expect(&c, "521 5.6.11");
		expect_end(&c);
		hang_up(&c);
	}
	assert_int_equal(0, atomic_load(&s->door.accepted));
}

static void
test_early_talker(void **state)
{
	struct stage *s = *state;
	struct client c;

	/* the proxy's header keeps the session from beginning before the
	 * client has spoken */
	dial(s, PROXY, &c);
	say(&c, "PROXY TCP4 192.0.2.7 127.0.0.1 1 25\r\nEHLO me\r\n");
	expect(&c, "554 5.5.1");
	expect_end(&c);
	hang_up(&c);
	dial(s, MX, &c);
	expect(&c, "220 ");
	say(&c, "POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO me\r\n");
	expect(&c, "521 ");
	expect_end(&c);
	hang_up(&c);
}

static void
test_proxy(void **state)
{
	struct stage *s = *state;
	struct spool_message *message;
	struct buf text = BUF_EMPTY;
	struct client c;

	dial(s, PROXY, &c);
	say(&c, "PROXY TCP4 192.0.2");
	usleep(20000);
	say(&c, ".7 127.0.0.1 1 25\r\n");
	expect(&c, "220 ");
	say(&c, "EHLO me\r\n" ENVELOPE MESSAGE);
	expect(&c, "250-");
	expect(&c, "250 ");
	expect(&c, "250 ");
	expect(&c, "354 ");
	expect(&c, "250 2.0.0");
	hang_up(&c);
	door_read(&s->door, &message, &text);
	assert_true(span_eq(
	    SPAN("192.0.2.7"), spool_message_envelope(message)->client));
	spool_message_unref(&message);
	buf_done(&text);
	/* a TLS handshake right behind the header, in the same write */
	dial(s, PROXY_TLS, &c);
	say(&c, "PROXY TCP6 2001:db8::7 ::1 1 465\r\n");
	secure(s, &c);
	expect(&c, "220 ");
	command(&c, "EHLO me", "250-");
	hang_up(&c);
	dial(s, PROXY, &c);
	say(&c, "EHLO me\r\n");
	expect_end(&c);
	hang_up(&c);
}

static void
test_lmtp(void **state)
{
	struct stage *s = *state;
	struct client c;

	dial(s, LMTP, &c);
	expect(&c, "220 ");
	command(&c, "EHLO me", "500 ");
	command(&c, "LHLO me", "250-");
	command(&c, "MAIL FROM:<>", "250 ");
	command(&c, "RCPT TO:<a@local.example>", "250 ");
	command(&c, "RCPT TO:<b@local.example>", "250 ");
	command(&c, "RCPT TO:<b@far.example>", "550 5.7.1");
	command(&c, "DATA", "354 ");
	say(&c, MESSAGE);
	expect(&c, "250 2.0.0");
	expect(&c, "250 2.0.0");
	command(&c, "QUIT", "221 ");
	expect_end(&c);
	hang_up(&c);
	assert_int_equal(1, atomic_load(&s->door.accepted));
}

/* Idle sessions end, an open transaction may be finished, one that is given up
 * ends its session, and nobody comes in. */
static void
test_drain(void **state)
{
	struct stage *s = *state;
	struct client idle, busy, quitter, asking;

	dial(s, MX, &idle);
	dial(s, MX, &busy);
	dial(s, MX, &quitter);
	dial(s, IMPLICIT, &asking); /* no handshake yet */
	expect(&idle, "220 ");
	expect(&busy, "220 ");
	expect(&quitter, "220 ");
	command(&busy, "EHLO me", "250-");
	say(&busy, ENVELOPE);
	expect(&busy, "250 ");
	expect(&busy, "250 ");
	expect(&busy, "354 ");
	command(&quitter, "HELO me", "250 ");
	command(&quitter, "MAIL FROM:<>", "250 ");
	drain(s);
	expect(&idle, "421 4.3.2");
	expect_end(&idle);
	expect_end(&asking);
	say(&busy, MESSAGE ENVELOPE);
	expect(&busy, "250 2.0.0");
	expect(&busy, "421 4.3.2");
	expect_end(&busy);
	command(&quitter, "RSET", "250 ");
	expect(&quitter, "421 4.3.2");
	expect_end(&quitter);
	hang_up(&idle);
	hang_up(&busy);
	hang_up(&quitter);
	hang_up(&asking);
	assert_int_equal(1, atomic_load(&s->door.accepted));
}

/* The client is gone while its message is on the way to the disk. */
static void
test_gone_while_committing(void **state)
{
	struct stage *s = *state;

	for (int i = 0; i < 20; i++) {
		struct client c;

		dial(s, MX, &c);
		say(&c, "");
		expect(&c, "220 ");
		say(&c, "EHLO me\r\n" ENVELOPE MESSAGE);
		if (i % 2)
			stream_abort(c.stream);
		hang_up(&c);
	}
	for (int i = 0; atomic_load(&s->door.accepted) < 20; i++) {
		assert_true(i < 50000);
		usleep(100);
	}
}

/* What the tap shows of a session that tries to get secrets shown. */
static void
test_tap(void **state)
{
	static const char *const pieces[] = { "EHLO m", "e\r\nAU",
		"TH PLAIN c2VjcmV0\r\nAUTH LOGIN\r\nc2VjcmV0\r\n", "NOOP\r\n",
		ENVELOPE "Subject: secret\r\n\r\n", "secret\r\n.\r\n" };
	struct stage *s = *state;
	struct buf lines = BUF_EMPTY;
	struct tap_listener *l = tap_listen(SPAN_EMPTY);
	struct client c;

	dial(s, MX, &c);
	expect(&c, "220 ");
	for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
		say(&c, pieces[i]);
		usleep(20000);
	}
	expect(&c, "250-");
	for (int i = 0; i < 3; i++)
		expect(&c, "50");
	command(&c, "QUIT", "250 2.0.0");
	while (tap_read(l, 50000, &lines) > 0)
		continue;
	struct span all = buf_span(&lines);
	assert_int_equal(0, door_count(all, "c2VjcmV0"));
	assert_int_equal(0, door_count(all, "secret\""));
	assert_true(door_count(all, "\"line\":\"NOOP\"") == 1);
	assert_true(door_count(all, "\"line\":\"MAIL FROM:") == 1);
	tap_listener_free(&l);
	buf_done(&lines);
	hang_up(&c);
}

/* ---- limits and deadlines ---------------------------------------- */

static void
test_auth_failure_closes(void **state)
{
	struct stage *s = *state;
	struct client c;

	dial(s, IMPLICIT, &c);
	secure(s, &c);
	expect(&c, "220 ");
	command(&c, "EHLO me", "250-");
	command(&c, "AUTH PLAIN =", "501 5.5.2");
	command(&c, "AUTH NOSUCH", "504 ");
	command(&c, "AUTH LOGIN", "334 VXNlcm5hbWU6");
	command(&c, "*", "501 5.7.0");
	int64_t start = clock_monotonic_us();
	log_in(s, &c, "wrong");
	expect(&c, "535 5.7.8");
	assert_true(clock_monotonic_us() - start >= US_PER_S * 9 / 10);
	expect(&c, "421 4.7.0");
	expect_end(&c);
	hang_up(&c);
	struct receive_stats stats;
	receive_stats(s->shared, &stats);
	assert_int_equal(1, stats.auth_failures);
}

static void
test_connection_limits(void **state)
{
	struct stage *s = *state;
	struct client c[4];

	for (int i = 0; i < 3; i++) {
		dial(s, MX, &c[i]);
		expect(&c[i], "220 ");
	}
	dial(s, MX, &c[3]);
	expect(&c[3], "421 4.7.0");
	expect_end(&c[3]);
	hang_up(&c[3]);
	command(&c[0], "QUIT", "221 ");
	expect_end(&c[0]);
	hang_up(&c[0]);
	dial(s, MX, &c[0]);
	expect(&c[0], "220 ");
	for (int i = 0; i < 3; i++)
		hang_up(&c[i]);
}

/* Says `piece` each 100 ms until the session ends; how long that took. */
static int64_t
dribble(struct client *c, const char *piece)
{
	int64_t start = clock_monotonic_us();

	for (int i = 0; i < 80 && !c->closed; i++) {
		struct pollfd p = { .fd = stream_fd(c->stream),
			.events = POLLIN };

		say(c, piece);
		if (poll(&p, 1, 100) == 1)
			hear(c);
	}
	return clock_monotonic_us() - start;
}

static void
test_deadlines(void **state)
{
	struct stage *s = *state;
	struct client silent, slow, writer;

	dial(s, MX, &silent);
	dial(s, MX, &slow);
	expect(&silent, "220 ");
	expect(&slow, "220 ");
	/* a command that never ends is cut as surely as silence */
	int64_t took = dribble(&slow, "x");
	assert_in_range(took, US_PER_S / 5, US_PER_S);
	expect(&slow, "421 4.4.2 no complete command");
	expect(&silent, "421 4.4.2 no complete command");
	/* a message that never ends */
	dial(s, MX, &writer);
	expect(&writer, "220 ");
	say(&writer, "EHLO me\r\n" ENVELOPE "Subject: x\r\n");
	expect(&writer, "250-");
	expect(&writer, "250 ");
	expect(&writer, "250 ");
	expect(&writer, "354 ");
	took = dribble(&writer, "x\r\n");
	assert_in_range(took, US_PER_S / 2, 3 * US_PER_S / 2);
	expect(&writer, "421 4.4.2 the message took too long");
	hang_up(&silent);
	hang_up(&slow);
	hang_up(&writer);
	struct receive_stats stats;
	receive_stats(s->shared, &stats);
	assert_int_equal(3, stats.timeouts);
}

/* Commands that mean nothing keep a session all the same. */
static void
test_commands_keep(void **state)
{
	struct stage *s = *state;
	struct client c;

	dial(s, MX, &c);
	expect(&c, "220 ");
	for (int i = 0; i < 4; i++) {
		usleep(150000);
		command(&c, "NOOP", "250 ");
	}
	command(&c, "QUIT", "221 ");
	hang_up(&c);
}

static void
test_errors_end(void **state)
{
	struct stage *s = *state;
	struct client c;

	dial(s, MX, &c);
	expect(&c, "220 ");
	say(&c, "X1\r\nX2\r\nX3\r\nX4\r\nX5\r\nQUIT\r\n");
	for (int i = 0; i < 4; i++)
		expect(&c, "500 ");
	expect(&c, "421 4.7.0");
	expect_end(&c);
	hang_up(&c);
}

enum { CROWD = 90 };

/* Octets of the heap that a session and its client here hold at rest. Nothing
 * under a sanitizer, which has a heap of its own. */
static size_t
size_at_rest(struct stage *s, int listener, bool tls)
{
	static struct client crowd[CROWD];
	size_t before = mallinfo2().uordblks;

	for (int i = 0; i < CROWD; i++) {
		dial(s, listener, &crowd[i]);
		if (tls)
			secure(s, &crowd[i]);
		expect(&crowd[i], "220 ");
		say(&crowd[i], "EHLO me\r\nNOOP\r\nHELP\r\n");
		expect(&crowd[i], "250-");
		expect(&crowd[i], "250 ");
		expect(&crowd[i], "214-");
	}
	size_t after = mallinfo2().uordblks;
	for (int i = 0; i < CROWD; i++)
		hang_up(&crowd[i]);
	return after > before ? (after - before) / CROWD : 0;
}

/* reliability.md R11. */
static void
test_size_at_rest(void **state)
{
	size_t plain = size_at_rest(*state, MX, false);
	size_t tls = size_at_rest(*state, IMPLICIT, true);

	print_message(
	    "at rest: plain %zu octets, TLS (both ends) %zu\n", plain, tls);
	assert_true(plain <= 32 * 1024);
	assert_true(tls <= 2 * 64 * 1024);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define PATIENT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define HASTY(test) cmocka_unit_test_setup_teardown(test, setup_hasty, teardown)
		PATIENT(test_submission),
		PATIENT(test_revoked),
		cmocka_unit_test_setup_teardown(
		    test_trusted, setup_trusting, teardown),
		PATIENT(test_no_descriptors),
		PATIENT(test_starttls_injection),
		PATIENT(test_bursts),
		PATIENT(test_half_close),
		PATIENT(test_last_word),
		PATIENT(test_early_talker),
		PATIENT(test_proxy),
		PATIENT(test_lmtp),
		PATIENT(test_drain),
		PATIENT(test_gone_while_committing),
		PATIENT(test_tap),
		HASTY(test_auth_failure_closes),
		HASTY(test_connection_limits),
		HASTY(test_deadlines),
		HASTY(test_commands_keep),
		HASTY(test_errors_end),
		PATIENT(test_size_at_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
