/* SPDX-License-Identifier: Apache-2.0 */

/* Who may hand mail over, to whom, and what happens to it between MAIL and
 * its acknowledgement. */

#include "door.h"

static int
setup(void **state)
{
	static struct door door;

	door_open(&door, DOOR_CONFIG "limits: {recipients: 3}\n");
	*state = &door;
	return 0;
}

static int
teardown(void **state)
{
	door_close(*state);
	return 0;
}

static const struct intake_client world = { .origin = INTAKE_MX };
static const struct intake_client friend = { .origin = INTAKE_SUBMISSION,
	.trusted = true };
static const struct intake_client shim = { .origin = INTAKE_SENDMAIL };

#define TEXT SPAN("Subject: x\r\n\r\nhello\r\n")

static void
test_who_may(void **state)
{
	static const struct {
		struct intake_client client;
		const char *recipients;
		uint16_t code;
	} table[] = {
		{ { .origin = INTAKE_MX }, "a@local.example", 250 },
		{ { .origin = INTAKE_MX }, "a@elsewhere.example", 550 },
		{ { .origin = INTAKE_MX }, "postmaster", 250 },
		{ { .origin = INTAKE_MX, .trusted = true },
		    "a@elsewhere.example", 550 },
		{ { .origin = INTAKE_SUBMISSION }, "a@local.example", 530 },
		{ { .origin = INTAKE_SUBMISSION, .trusted = true },
		    "a@elsewhere.example", 250 },
		{ { .origin = INTAKE_SENDMAIL }, "a@elsewhere.example", 250 },
		{ { .origin = INTAKE_HTTP }, "a@elsewhere.example", 250 },
		{ { .origin = INTAKE_HTTP, .tenant = 99 },
		    "a@elsewhere.example", 550 },
		/* the fourth is one too many; a repeated one is none */
		{ { .origin = INTAKE_HTTP },
		    "a@x.example b@x.example "
		    "a@x.example c@x.example",
		    250 },
		{ { .origin = INTAKE_HTTP },
		    "a@x.example b@x.example "
		    "c@x.example d@x.example",
		    452 },
	};
	struct smtp_mail mail = door_mail("s@sender.example");

	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		uint16_t code = door_send(*state, &table[i].client, &mail,
		    table[i].recipients, TEXT, 0);

		if (code != table[i].code)
			fail_msg("row %zu: %u", i, code);
	}
}

static void
test_revoked_credential(void **state)
{
	struct door *d = *state;
	struct failure failure;
	struct smtp_mail mail = door_mail("s@sender.example");
	struct directory_snapshot *s = directory_snapshot(d->directory);
	const struct intake_client client = {
		.origin = INTAKE_SUBMISSION,
		.user = span_of(d->credential.username),
		.credential = d->credential.id,
	};

	directory_snapshot_unref(&s);
	assert_int_equal(
	    250, door_send(d, &client, &mail, "a@x.example", TEXT, 0));
	assert_int_equal(0, directory_revoke_credential(d->directory,
				d->credential.username, &failure));
	assert_int_equal(
	    550, door_send(d, &client, &mail, "a@x.example", TEXT, 0));
}

static void
test_envelope(void **state)
{
	struct door *d = *state;
	struct smtp_mail mail = door_mail("s@sender.example");
	struct spool_message *message;
	struct buf text = BUF_EMPTY;

	mail.envid = SPAN("id+2B");
	mail.ret = SMTP_RET_HDRS;
	assert_int_equal(
	    250, door_send(d, &friend, &mail,
		     "b@z.example a@y.example c@z.example", TEXT, 0));
	assert_int_equal(2, atomic_load(&d->groups));
	door_read(d, &message, &text);
	const struct spool_envelope *e = spool_message_envelope(message);
	assert_int_equal(3, e->rcpt_count);
	assert_true(span_eq(SPAN("a@y.example"), e->rcpts[0].address));
	assert_true(span_eq(SPAN("id+2B"), e->envid));
	assert_int_equal(SMTP_RET_HDRS, e->ret);
	assert_true(span_eq(SPAN("x"), e->subject));
	assert_true(e->expire_us > e->accepted_us);
	spool_message_unref(&message);
	buf_done(&text);
}

static void
test_events(void **state)
{
	struct door *d = *state;
	struct smtp_mail mail = door_mail("s@sender.example");
	struct buf lines = BUF_EMPTY;

	assert_int_equal(250,
	    door_send(d, &friend, &mail, "a@x.example b@x.example", TEXT, 0));
	/* refused at END: told for a tenant, not for the world */
	struct span two = SPAN("From: a@x.example\r\nFrom: b@x.example\r\n"
			       "Subject: twice\r\n\r\n.\r\n");
	assert_int_equal(
	    554, door_send(d, &shim, &mail, "c@x.example", two, 0));
	struct buf loop = BUF_EMPTY;
	for (int i = 0; i < 60; i++)
		buf_append_str(&loop, "Received: from a by b; now\r\n");
	assert_int_equal(554,
	    door_send(d, &world, &mail, "c@local.example", buf_span(&loop), 0));
	buf_done(&loop);
	for (int i = 0; i < 2000; i++) {
		buf_clear(&lines);
		door_events(d, &lines);
		if (door_count(buf_span(&lines), "\"type\":\"rejected\"") > 0)
			break;
		usleep(1000);
	}
	assert_int_equal(
	    2, door_count(buf_span(&lines), "\"type\":\"accepted\""));
	assert_int_equal(
	    1, door_count(buf_span(&lines), "\"type\":\"rejected\""));
	assert_int_equal(1, door_count(buf_span(&lines),
				"\"code\":554,\"enhanced\":\"5.6.0\""));
	assert_int_equal(
	    1, door_count(buf_span(&lines), "\"subject\":\"twice\""));
	buf_done(&lines);
}

static void
test_sender_wants(void **state)
{
	static const struct {
		const char *sender;
		uint32_t flags;
		uint8_t notify;
		bool success, failure, delay;
	} table[] = {
		{ "s@x", 0, SMTP_NOTIFY_UNSET, false, true, true },
		{ "s@x", 0, SMTP_NOTIFY_NEVER, false, false, false },
		{ "s@x", 0, SMTP_NOTIFY_SUCCESS, true, false, false },
		{ "s@x", 0, SMTP_NOTIFY_FAILURE, false, true, false },
		{ "s@x", 0, SMTP_NOTIFY_DELAY, false, false, true },
		{ "", 0, SMTP_NOTIFY_FAILURE, false, false, false },
		{ "s@x", SPOOL_REPORT_MAIL, SMTP_NOTIFY_FAILURE, false, false,
		    false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		const struct spool_rcpt rcpt = { .notify = table[i].notify };
		const struct spool_envelope e = {
			.sender = span_of(table[i].sender),
			.flags = table[i].flags,
			.rcpts = &rcpt,
			.rcpt_count = 1,
		};

		assert_int_equal(table[i].success,
		    intake_sender_wants(&e, 0, SMTP_NOTIFY_SUCCESS));
		assert_int_equal(table[i].failure,
		    intake_sender_wants(&e, 0, SMTP_NOTIFY_FAILURE));
		assert_int_equal(table[i].delay,
		    intake_sender_wants(&e, 0, SMTP_NOTIFY_DELAY));
	}
}

static void
test_abort_and_reload(void **state)
{
	struct door *d = *state;
	struct smtp_mail mail = door_mail("s@sender.example");
	struct smtp_rcpt rcpt = door_rcpt("a@elsewhere.example");
	struct reply reply;
	struct intake_message *m =
	    intake_mail(d->intake, &world, &mail, &reply);

	assert_non_null(m);
	struct config *other = door_config(
	    "hostname: r.example\nlisteners:\n"
	    "  - {address: \"127.0.0.1:2525\", service: mx, tls: none}\n"
	    "routes:\n"
	    "  - {domains: [elsewhere.example], deliver: discard}\n");
	intake_set_config(d->intake, other);
	config_unref(&other);
	/* an open transaction keeps the rules it began with */
	intake_rcpt(m, &rcpt, &reply);
	assert_int_equal(550, reply.code);
	intake_body(m, SPAN("Subject: never\r\n\r\n"));
	intake_abort(&m);
	assert_null(m);
	m = intake_mail(d->intake, &world, &mail, &reply);
	intake_rcpt(m, &rcpt, &reply);
	assert_int_equal(250, reply.code);
	assert_int_equal(1, intake_recipients(m));
	intake_abort(&m);
	assert_int_equal(0, atomic_load(&d->accepted));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_who_may, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_revoked_credential, setup, teardown),
		cmocka_unit_test_setup_teardown(test_envelope, setup, teardown),
		cmocka_unit_test_setup_teardown(test_events, setup, teardown),
		cmocka_unit_test(test_sender_wants),
		cmocka_unit_test_setup_teardown(
		    test_abort_and_reload, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
