/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

/* Stories of one message and a server that says this or that of it. */

#define EVENT(type) "\"type\":\"" type "\""
#define PIPELINING "250-peer.example\r\n250-PIPELINING\r\n"

struct story {
	struct peer peer;
	struct stage stage;
};

static void
begin(struct story *s, const struct peer_script *scripts, size_t count,
    const char *more)
{
	struct netaddr any = peer_ip("127.0.0.1", 0);
	s->peer.tls = NULL;
	peer_start(&s->peer, &any, scripts, count);
	char *AUTO_FREE text = mem_printf("  - {domains: [\"*\"], deliver: "
					  "smtp, to: \"127.0.0.1:%u\"}\n",
	    (unsigned)s->peer.address.port);
	stage_open(&s->stage, text, more);
}

/* The story of this mail begins. */
static void
tell(struct story *s, const struct peer_script *scripts, size_t count,
    const char *more, const struct stage_mail *mail)
{
	begin(s, scripts, count, more);
	(void)stage_submit(&s->stage, mail);
}

static void
end(struct story *s)
{
	stage_close(&s->stage);
	peer_stop(&s->peer);
}

static const struct stage_mail simple = {
	.body = "Subject: a\r\n\r\nhello\r\n",
	.rcpts = { "a@y.example" },
};

static const char fast[] = "retry: {schedule: [100ms], jitter_percent: 0}\n";
static const char fast_and_short[] =
    "retry: {schedule: [100ms], jitter_percent: 0}\n"
    "delivery: {idle_time: 10ms}\n";
static const struct peer_script friendly = { .banner = NULL };

/* Mail to a, b, c … at y.example. */
static struct stage_mail
mail_to(unsigned count)
{
	static const char *const names[] = { "a@y.example", "b@y.example",
		"c@y.example", "d@y.example" };
	struct stage_mail mail = simple;
	for (unsigned i = 0; i < count; i++)
		mail.rcpts[i] = names[i];
	return mail;
}

static void
assert_told(struct story *s, const char *text, size_t count)
{
	if (stage_count(&s->stage, text) != count)
		fail_msg("%s is told %u times, not %zu", text,
		    stage_count(&s->stage, text), count);
}

static void
assert_body(struct story *s, const struct stage_mail *mail, const char *tail)
{
	size_t len = mail->body_len != 0 ? mail->body_len : strlen(mail->body);
	struct buf expected = BUF_EMPTY;
	buf_append(&expected, SPAN(STAGE_PREFIX));
	buf_append(&expected, span_from(mail->body, len));
	buf_append_str(&expected, tail);
	(void)pthread_mutex_lock(&s->peer.lock);
	bool same = span_eq(buf_span(&s->peer.body), buf_span(&expected));
	(void)pthread_mutex_unlock(&s->peer.lock);
	buf_done(&expected);
	assert_true(same);
}

static void
test_octets_by_data(void **state)
{
	static const struct {
		struct stage_mail mail;
		const char *tail;
	} table[] = {
		{ { .body = "A: b\r\n\r\nplain\r\n" }, "" },
		{ { .body = "A: b\r\n\r\n.\r\n..\r\n.x\r\n\r\n.\r\n",
		      .flags = SPOOL_DOTS },
		    "" },
		{ { .body = "A: b\r\n\r\n\xc3\xa9\xff\x80\r\n",
		      .flags = SPOOL_8BIT },
		    "" },
		/* DATA cannot carry a last line without its end */
		{ { .body = "A: b\r\n\r\nno end" }, "\r\n" },
		{ { .body = "A: b\r\n\r\n.", .flags = SPOOL_DOTS }, "\r\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct story s;
		struct stage_mail mail = table[i].mail;
		mail.rcpts[0] = "a@y.example";
		tell(&s, &friendly, 1, "", &mail);
		stage_run_until(&s.stage, EVENT("delivered"), 1);
		assert_body(&s, &mail, table[i].tail);
		assert_int_equal(stage_live(&s.stage), 0);
		assert_true(peer_heard(&s.peer, "EHLO relay.example.com"));
		assert_int_equal(peer_heard(&s.peer, "BODY=8BITMIME"),
		    (mail.flags & SPOOL_8BIT) != 0);
		assert_told(&s, "\"code\":250", 1);
		assert_told(&s, "\"attempt\":1,", 1);
		assert_told(&s, "\"tenant\":\"default\"", 1);
		assert_told(&s, "\"route\":\"smtp\"", 1);
		end(&s);
	}
}

static void
test_octets_by_bdat(void **state)
{
	static const struct peer_script chunking = {
		.hello = PIPELINING "250-8BITMIME\r\n250 CHUNKING",
	};
	static const struct stage_mail mail = {
		.body = "A: b\r\n\r\n.\r\n\xff no end",
		.flags = SPOOL_DOTS | SPOOL_8BIT,
		.rcpts = { "a@y.example" },
	};
	struct story s;
	(void)state;
	tell(&s, &chunking, 1, "", &mail);
	stage_run_until(&s.stage, EVENT("delivered"), 1);
	assert_true(peer_heard(&s.peer, "BDAT "));
	assert_body(&s, &mail, "");
	end(&s);
}

/* Longer than any buffer on the way, with dots everywhere. */
static void
test_large_message(void **state)
{
	struct buf body = BUF_EMPTY;
	struct story s;
	(void)state;
	buf_append(&body, SPAN("A: b\r\n\r\n"));
	for (unsigned i = 0; i < 60000; i++)
		buf_printf(&body, ".%u lines of dots, and more dots\r\n", i);
	struct stage_mail mail = {
		.body = body.ptr,
		.body_len = buf_size(&body),
		.flags = SPOOL_DOTS,
		.rcpts = { "a@y.example" },
	};
	tell(&s, &friendly, 1, "", &mail);
	stage_run_until(&s.stage, EVENT("delivered"), 1);
	assert_body(&s, &mail, "");
	buf_done(&body);
	end(&s);
}

static void
test_temporary_then_delivered(void **state)
{
	static const struct peer_script scripts[] = {
		{ .rcpt = { "450 4.2.0 come back" } },
		{ .banner = NULL },
	};
	struct story s;
	(void)state;
	tell(&s, scripts, 2, fast_and_short, &simple);
	stage_run_until(&s.stage, EVENT("deferred"), 1);
	assert_told(&s, "\"reply\":\"450 4.2.0 come back\"", 1);
	assert_told(&s, "\"next_attempt\":", 1);
	assert_told(&s, "\"step\":\"rcpt\"", 1);
	stage_run_until(&s.stage, EVENT("delivered"), 1);
	assert_told(&s, "\"attempt\":2,", 1);
	assert_int_equal(stage_reports(&s.stage), 0);
	assert_int_equal(stage_live(&s.stage), 0);
	struct dispatch_stats stats;
	dispatch_stats(s.stage.dispatch, &stats);
	assert_int_equal(stats.delivered, 1);
	assert_int_equal(stats.deferred, 1);
	assert_int_equal(stats.bounced, 0);
	end(&s);
}

static void
test_permanent(void **state)
{
	static const struct {
		struct peer_script script;
		const char *step, *status;
	} table[] = {
		{ { .mail = "553 5.1.8 not from you" }, "mail", "5.1.8" },
		{ { .rcpt = { "550 5.1.1 no such user" } }, "rcpt", "5.1.1" },
		{ { .data = "554 5.7.1 not this" }, "data", "5.7.1" },
		{ { .end = "550 5.7.1 spam\x1b[31m" }, "end", "5.7.1" },
		{ { .end = "550-first\r\n550 second" }, "end", "5.0.0" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct story s;
		tell(&s, &table[i].script, 1, "", &simple);
		stage_run_until(&s.stage, EVENT("bounced"), 1);
		char *AUTO_FREE step =
		    mem_printf("\"step\":\"%s\"", table[i].step);
		char *AUTO_FREE status =
		    mem_printf("Status: %s\r\n", table[i].status);
		assert_told(&s, step, 1);
		stage_await_reports(&s.stage, 1);
		assert_int_equal(stage_reports(&s.stage), 1);
		assert_true(stage_report_says(&s.stage, "Action: failed\r\n"));
		assert_true(stage_report_says(&s.stage, status));
		assert_true(stage_report_says(
		    &s.stage, "Final-Recipient: rfc822; a@y.example\r\n"));
		assert_int_equal(stage_live(&s.stage), 0);
		end(&s);
	}
}

static void
test_null_sender_gets_no_report(void **state)
{
	static const struct peer_script refusing = {
		.rcpt = { "550 5.1.1 no" },
	};
	struct stage_mail mail = simple;
	struct story s;
	(void)state;
	mail.sender = "";
	tell(&s, &refusing, 1, "", &mail);
	stage_run_until(&s.stage, EVENT("bounced"), 1);
	stage_run_for(&s.stage, 50 * US_PER_MS);
	assert_true(peer_heard(&s.peer, "MAIL FROM:<>"));
	assert_int_equal(stage_reports(&s.stage), 0);
	end(&s);
}

static void
test_each_recipient_his_own(void **state)
{
	static const struct peer_script scripts[] = {
		{ .rcpt = { NULL, "450 4.2.1 later", "550 5.1.1 never" } },
		{ .banner = NULL },
	};
	struct stage_mail mail = mail_to(4);
	struct story s;
	(void)state;
	tell(&s, scripts, 2, fast_and_short, &mail);
	stage_run_until(&s.stage, EVENT("bounced"), 1);
	assert_told(&s, EVENT("delivered"), 2);
	assert_told(&s, EVENT("deferred"), 1);
	stage_run_until(&s.stage, EVENT("delivered"), 3);
	stage_await_reports(&s.stage, 1);
	assert_int_equal(peer_bodies(&s.peer), 2);
	assert_int_equal(stage_live(&s.stage), 0);
	assert_true(stage_report_says(&s.stage, "rfc822; c@y.example"));
	end(&s);
}

/* One command at a time: a RCPT follows on the reply to the one before. */
static void
test_without_pipelining(void **state)
{
	static const struct peer_script serial = {
		.hello = "250-peer.example\r\n250 8BITMIME",
		.rcpt = { NULL, "550 5.1.1 never" },
	};
	struct stage_mail mail = mail_to(3);
	struct story s;
	(void)state;
	tell(&s, &serial, 1, "", &mail);
	stage_run_until(&s.stage, EVENT("delivered"), 2);
	assert_told(&s, EVENT("bounced"), 1);
	assert_int_equal(peer_bodies(&s.peer), 1);
	end(&s);
}

static void
test_too_many_recipients(void **state)
{
	static const struct peer_script scripts[] = {
		{ .rcpt = { NULL, NULL, "452 4.5.3 enough", "552 enough" } },
	};
	struct stage_mail mail = mail_to(4);
	struct story s;
	(void)state;
	tell(&s, scripts, 1, "", &mail);
	stage_run_until(&s.stage, EVENT("delivered"), 4);
	assert_told(&s, EVENT("deferred"), 0);
	assert_int_equal(peer_bodies(&s.peer), 2);
	assert_int_equal(peer_connections(&s.peer), 1);
	end(&s);
}

static void
test_batches(void **state)
{
	struct stage_mail mail = mail_to(3);
	struct story s;
	(void)state;
	tell(&s, &friendly, 1, "delivery: {recipients_per_transaction: 2}\n",
	    &mail);
	stage_run_until(&s.stage, EVENT("delivered"), 3);
	assert_int_equal(peer_bodies(&s.peer), 2);
	assert_int_equal(peer_connections(&s.peer), 1);
	assert_int_equal(stage_live(&s.stage), 0);
	end(&s);
}

static void
test_silence_after_the_dot(void **state)
{
	static const struct peer_script scripts[] = {
		{ .end = "" },
		{ .banner = NULL },
	};
	struct story s;
	(void)state;
	tell(&s, scripts, 2, fast, &simple);
	stage_run_until(&s.stage, EVENT("deferred"), 1);
	assert_told(&s, "\"duplicate_risk\":true", 1);
	stage_run_until(&s.stage, EVENT("delivered"), 1);
	assert_told(&s, "\"duplicate_risk\":true", 1);
	end(&s);
}

/* No doubt about a message whose dot was never sent. */
static void
test_silence_before_the_dot(void **state)
{
	static const struct peer_script scripts[] = {
		{ .data = "" },
		{ .banner = NULL },
	};
	struct story s;
	(void)state;
	tell(&s, scripts, 2, fast, &simple);
	stage_run_until(&s.stage, EVENT("delivered"), 1);
	assert_told(&s, EVENT("deferred"), 1);
	assert_told(&s, "\"duplicate_risk\":true", 0);
	end(&s);
}

static void
test_slow_final_reply(void **state)
{
	static const struct peer_script scripts[] = {
		{ .end = "250-" /* and nothing more */ },
		{ .banner = NULL },
	};
	struct story s;
	(void)state;
	tell(&s, scripts, 2,
	    "retry: {schedule: [10ms], jitter_percent: 0}\n"
	    "delivery: {final_reply_time: 100ms}\n",
	    &simple);
	stage_run_until(&s.stage, "did not answer in time", 1);
	assert_told(&s, "\"duplicate_risk\":true", 1);
	end(&s);
}

/* None of it is an answer to what was asked. */
static void
test_senseless_servers(void **state)
{
	static const struct peer_script table[] = {
		{ .data = "354 go on\r\n250 2.0.0 taken already" },
		{ .mail = "354 go on" },
		{ .mail = "999 what" },
		{ .mail = "250-one\r\n550 two" },
		{ .rcpt = { "250 ok\r\n250 ok\r\n250 ok\r\n250 ok" } },
		{ .end = "354 more" },
		{ .end = "hello" },
		{ .mail = "421 4.3.2 closing" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct story s;
		tell(&s, &table[i], 1, "", &simple);
		stage_run_until(&s.stage, EVENT("deferred"), 1);
		assert_told(&s, EVENT("delivered"), 0);
		assert_told(&s, EVENT("bounced"), 0);
		assert_int_equal(stage_live(&s.stage), 1);
		end(&s);
	}
}

static void
test_connection_is_kept(void **state)
{
	struct story s;
	(void)state;
	begin(&s, &friendly, 1, "");
	for (unsigned i = 1; i <= 3; i++) {
		(void)stage_submit(&s.stage, &simple);
		stage_run_until(&s.stage, EVENT("delivered"), i);
	}
	assert_int_equal(peer_connections(&s.peer), 1);
	assert_int_equal(peer_bodies(&s.peer), 3);
	end(&s);
}

static void
test_connection_ends_in_time(void **state)
{
	struct story s;
	(void)state;
	begin(&s, &friendly, 1,
	    "delivery: {messages_per_connection: 2, idle_time: 20ms}\n");
	for (unsigned i = 1; i <= 3; i++) {
		(void)stage_submit(&s.stage, &simple);
		stage_run_until(&s.stage, EVENT("delivered"), i);
	}
	assert_int_equal(peer_connections(&s.peer), 2);
	stage_run_for(&s.stage, 60 * US_PER_MS);
	assert_true(peer_heard(&s.peer, "QUIT"));
	struct dispatch_stats stats;
	dispatch_stats(s.stage.dispatch, &stats);
	assert_int_equal(stats.connections_open, 0);
	assert_int_equal(stats.connections_made, 2);
	end(&s);
}

/* The server has closed a kept connection: nobody's fault, no attempt. */
static void
test_kept_connection_was_closed(void **state)
{
	static const struct peer_script scripts[] = {
		{ .close_at_second_mail = true },
		{ .banner = NULL },
	};
	struct story s;
	(void)state;
	begin(&s, scripts, 2, "");
	for (unsigned i = 1; i <= 2; i++) {
		(void)stage_submit(&s.stage, &simple);
		stage_run_until(&s.stage, EVENT("delivered"), i);
	}
	assert_told(&s, EVENT("deferred"), 0);
	assert_int_equal(peer_connections(&s.peer), 2);
	end(&s);
}

static void
test_chunking_refused(void **state)
{
	static const struct peer_script scripts[] = {
		{ .hello = PIPELINING "250 CHUNKING",
		    .bdat = "500 5.5.1 what is BDAT?" },
		{ .hello = PIPELINING "250 CHUNKING" },
	};
	struct story s;
	(void)state;
	tell(&s, scripts, 2, "", &simple);
	stage_run_until(&s.stage, EVENT("delivered"), 1);
	assert_told(&s, EVENT("deferred"), 0);
	assert_true(peer_heard(&s.peer, "DATA"));
	end(&s);
}

/* Without BDAT there is no way to send it: an attempt like any other. */
static void
test_chunking_refused_to_binary(void **state)
{
	static const struct peer_script script = {
		.hello = PIPELINING "250-8BITMIME\r\n250-BINARYMIME\r\n"
				    "250 CHUNKING",
		.bdat = "500 5.5.1 what is BDAT?",
	};
	struct stage_mail mail = simple;
	struct story s;
	(void)state;
	mail.flags = SPOOL_BINARY;
	tell(&s, &script, 1, "", &mail);
	stage_run_until(&s.stage, EVENT("deferred"), 1);
	assert_int_equal(peer_connections(&s.peer), 1);
	end(&s);
}

static void
test_eight_bits_refused(void **state)
{
	static const struct peer_script seven = {
		.hello = "250 peer.example",
	};
	static const struct stage_mail mail = {
		.body = "A: b\r\n\r\n\xff\r\n",
		.flags = SPOOL_8BIT,
		.rcpts = { "a@y.example" },
	};
	struct story s;
	(void)state;
	tell(&s, &seven, 1, "", &mail);
	stage_run_until(&s.stage, EVENT("bounced"), 1);
	assert_told(&s, "\"enhanced\":\"5.6.3\"", 1);
	/* the server never said it */
	assert_told(&s, "\"code\":", 0);
	end(&s);
}

static void
test_success_report(void **state)
{
	struct stage_mail mail = simple;
	struct story s;
	(void)state;
	mail.notify = SMTP_NOTIFY_SUCCESS;
	tell(&s, &friendly, 1, "", &mail);
	stage_await_reports(&s.stage, 1);
	assert_true(stage_report_says(&s.stage, "Action: relayed\r\n"));
	end(&s);
}

static void
test_drain_lets_finish(void **state)
{
	static const struct peer_script mute = { .end = "250-" };
	struct story s;
	(void)state;
	tell(&s, &mute, 1, "", &simple);
	while (peer_bodies(&s.peer) == 0)
		stage_run_for(&s.stage, 5 * US_PER_MS);
	assert_true(dispatch_busy(s.stage.dispatch));
	dispatch_drain(
	    s.stage.dispatch, loop_now_us(s.stage.loop) + 100 * US_PER_MS);
	stage_run_for(&s.stage, 30 * US_PER_MS);
	assert_true(dispatch_busy(s.stage.dispatch));
	stage_run_for(&s.stage, 150 * US_PER_MS);
	assert_false(dispatch_busy(s.stage.dispatch));
	/* Nothing is recorded: after the restart it is as it was. */
	assert_told(&s, EVENT("deferred"), 0);
	assert_int_equal(stage_live(&s.stage), 1);
	end(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_octets_by_data),
		cmocka_unit_test(test_octets_by_bdat),
		cmocka_unit_test(test_large_message),
		cmocka_unit_test(test_temporary_then_delivered),
		cmocka_unit_test(test_permanent),
		cmocka_unit_test(test_null_sender_gets_no_report),
		cmocka_unit_test(test_each_recipient_his_own),
		cmocka_unit_test(test_without_pipelining),
		cmocka_unit_test(test_too_many_recipients),
		cmocka_unit_test(test_batches),
		cmocka_unit_test(test_silence_after_the_dot),
		cmocka_unit_test(test_silence_before_the_dot),
		cmocka_unit_test(test_slow_final_reply),
		cmocka_unit_test(test_senseless_servers),
		cmocka_unit_test(test_connection_is_kept),
		cmocka_unit_test(test_connection_ends_in_time),
		cmocka_unit_test(test_kept_connection_was_closed),
		cmocka_unit_test(test_chunking_refused),
		cmocka_unit_test(test_chunking_refused_to_binary),
		cmocka_unit_test(test_eight_bits_refused),
		cmocka_unit_test(test_success_report),
		cmocka_unit_test(test_drain_lets_finish),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
