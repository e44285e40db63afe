/* SPDX-License-Identifier: Apache-2.0 */

/* About whom, when and to whom a report is written. */

#include "../intake/door.h"
#include "report/notice.h"

#define POSTMASTER "postmaster@relay.example.org"

static struct door door;
static struct config *with_copies;

static int
setup(void **state)
{
	(void)state;
	door_open(&door, DOOR_CONFIG);
	with_copies =
	    door_config(DOOR_CONFIG "reports: {postmaster_copies: true}\n");
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	config_unref(&with_copies);
	door_close(&door);
	return 0;
}

struct row {
	const char *sender;
	uint8_t notify[2];
	enum report_action action[2];
	bool copies;
	const char *to[2]; /* the report's recipients */
	unsigned told; /* recipients the report is about */
};

static void
send_message(
    const struct row *row, size_t filling, struct spool_message **ret_message)
{
	const struct intake_client client = { .origin = INTAKE_SENDMAIL };
	struct smtp_mail mail = door_mail(row->sender);
	struct reply reply;
	struct door_answer answer;
	struct intake_message *m =
	    intake_mail(door.intake, &client, &mail, &reply);

	for (int i = 0; i < 2; i++) {
		struct smtp_rcpt rcpt =
		    door_rcpt(i ? "second@far.example" : "first@far.example");

		rcpt.notify = row->notify[i];
		rcpt.orcpt = SPAN("rfc822;orig+40x");
		intake_rcpt(m, &rcpt, &reply);
	}
	intake_body(m, SPAN("Subject: original\r\n\r\nits body\r\n"));
	for (size_t i = 0; i < filling; i += 21)
		intake_body(m, SPAN("nineteen characters\r\n"));
	door_end(m, &answer);
	assert_int_equal(250, answer.code);
	assert_int_equal(0, spool_message_open(door.spool,
				atomic_load(&door.mno), ret_message));
}

static void
send_original(const struct row *row, struct spool_message **ret_message)
{
	send_message(row, 0, ret_message);
}

static size_t
write_notice(const struct row *row, struct spool_message *message)
{
	struct notice_recipient recipients[2];
	struct intake_message *reports[NOTICE_REPORTS_MAX];
	struct spool_txn *txn = spool_txn_new(door.spool);
	unsigned accepted = atomic_load(&door.accepted);
	size_t count = 9;

	for (uint32_t i = 0; i < 2; i++)
		recipients[i] = (struct notice_recipient){
			.rcpt = i,
			.action = row->action[i],
			.status = SPAN("5.1.1"),
			.diagnostic = SPAN("550 5.1.1 no such user"),
			.reason = SPAN("The receiving server refused it."),
		};
	const struct notice n = {
		.intake = door.intake,
		.config = row->copies ? with_copies : door.config,
		.message = message,
		.recipients = recipients,
		.recipient_count = 2,
		.now_us = clock_wall_us(),
	};
	assert_int_equal(0, notice_add(&n, txn, reports, &count));
	intake_submit(door.intake, &txn, reports, count, NULL, NULL);
	for (int i = 0; count > 0 && atomic_load(&door.accepted) == accepted;
	     i++) {
		assert_true(i < 50000);
		usleep(100);
	}
	return count;
}

static void
check_report(size_t number, const struct row *row)
{
	struct spool_message *message;
	struct buf text = BUF_EMPTY;
	uint32_t want = row->to[1] ? 2 : 1;

	door_read(&door, &message, &text);
	const struct spool_envelope *e = spool_message_envelope(message);
	assert_int_equal(0, e->sender.len);
	assert_int_equal(SPOOL_REPORT, e->class);
	assert_int_equal(SPOOL_REPORT_MAIL | SPOOL_AUTO_SUBMITTED,
	    e->flags & ~(uint32_t)SPOOL_DOTS);
	assert_int_equal(want, e->rcpt_count);
	for (uint32_t i = 0; i < want; i++) {
		assert_int_equal(SMTP_NOTIFY_NEVER, e->rcpts[i].notify);
		if (!span_eq(span_of(row->to[0]), e->rcpts[i].address) &&
		    !span_eq(span_of(row->to[1]), e->rcpts[i].address))
			fail_msg("row %zu: to %.*s", number,
			    SPAN_ARG(e->rcpts[i].address));
	}
	struct span all = buf_span(&text);
	if (door_count(all, "Final-Recipient:") != row->told)
		fail_msg("row %zu: about %zu", number,
		    door_count(all, "Final-Recipient:"));
	assert_int_equal(
	    row->told, door_count(all, "Original-Recipient: rfc822;orig@x"));
	assert_int_equal(1, door_count(all, "Subject: original"));
	spool_message_unref(&message);
	buf_done(&text);
}

#define F REPORT_FAILED
#define D REPORT_DELAYED
#define S REPORT_DELIVERED

#define NONE                                                                   \
	{                                                                      \
		NULL, NULL                                                     \
	}
#define SENDER                                                                 \
	{                                                                      \
		"s@near.example", NULL                                         \
	}
#define BOTH                                                                   \
	{                                                                      \
		"s@near.example", POSTMASTER                                   \
	}
#define MASTER                                                                 \
	{                                                                      \
		POSTMASTER, NULL                                               \
	}
#define UNSET SMTP_NOTIFY_UNSET
#define NEVER SMTP_NOTIFY_NEVER
#define SUCCESS SMTP_NOTIFY_SUCCESS
#define FAILURE SMTP_NOTIFY_FAILURE
#define DELAY SMTP_NOTIFY_DELAY

static void
test_rules(void **state)
{
	/* clang-format off */
	static const struct row table[] = {
		{ "s@near.example", { UNSET, UNSET },     { F, F }, false, SENDER, 2 },
		{ "s@near.example", { UNSET, UNSET },     { D, D }, false, SENDER, 2 },
		{ "s@near.example", { UNSET, UNSET },     { S, S }, false, NONE,   0 },
		{ "s@near.example", { NEVER, UNSET },     { F, F }, false, SENDER, 1 },
		{ "s@near.example", { NEVER, NEVER },     { F, D }, false, NONE,   0 },
		{ "s@near.example", { SUCCESS, UNSET },   { S, S }, false, SENDER, 1 },
		{ "s@near.example", { SUCCESS, SUCCESS }, { REPORT_RELAYED, S }, false, SENDER, 2 },
		{ "s@near.example", { SUCCESS, DELAY },   { F, F }, false, NONE,   0 },
		{ "s@near.example", { FAILURE, FAILURE }, { F, D }, false, SENDER, 1 },
		{ "",               { UNSET, UNSET },     { F, F }, false, NONE,   0 },
		{ "s@near.example", { UNSET, UNSET },     { F, F }, true,  BOTH,   2 },
		{ "s@near.example", { UNSET, UNSET },     { D, D }, true,  SENDER, 2 },
		{ "s@near.example", { SUCCESS, UNSET },   { S, S }, true,  SENDER, 1 },
		{ "s@near.example", { NEVER, NEVER },     { F, F }, true,  NONE,   0 },
		{ "",               { UNSET, NEVER },     { F, F }, true,  MASTER, 1 },
		{ "",               { UNSET, UNSET },     { D, D }, true,  NONE,   0 },
		{ POSTMASTER,       { UNSET, UNSET },     { F, F }, true,  MASTER, 2 },
	};
	/* clang-format on */

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct spool_message *message;

		send_original(&table[i], &message);
		size_t count = write_notice(&table[i], message);
		spool_message_unref(&message);
		if (count != (table[i].to[0] ? 1 : 0))
			fail_msg("row %zu: %zu reports", i, count);
		if (count > 0)
			check_report(i, &table[i]);
	}
}

/* A report that cannot be delivered is the end of the matter. */
static void
test_no_loop(void **state)
{
	const struct row failing = { "s@near.example", { UNSET, UNSET },
		{ F, F }, true, BOTH, 2 };
	const struct row about_report = { .action = { F, F }, .copies = true };
	struct spool_message *message;

	(void)state;
	send_original(&failing, &message);
	assert_int_equal(1, write_notice(&failing, message));
	spool_message_unref(&message);
	assert_int_equal(0,
	    spool_message_open(door.spool, atomic_load(&door.mno), &message));
	assert_int_equal(2, spool_message_envelope(message)->rcpt_count);
	assert_int_equal(0, write_notice(&about_report, message));
	spool_message_unref(&message);
}

/* The body's file of the only message that has one. mem_free. */
static char *
only_file(const char *directory)
{
	char *path = NULL;
	DIR *d = opendir(directory);
	struct dirent *entry;

	assert_non_null(d);
	while ((entry = readdir(d))) {
		if (entry->d_name[0] == '.')
			continue;
		assert_null(path);
		path = mem_printf("%s/%s", directory, entry->d_name);
	}
	closedir(d);
	assert_non_null(path);
	return path;
}

/* The body's file is damaged: the sender is told all the same, with what is
 * left of the message. */
static void
test_damaged_original(void **state)
{
	const struct row row = { "s@near.example", { UNSET, UNSET }, { F, F },
		false, SENDER, 2 };
	struct spool_message *message;
	struct buf text = BUF_EMPTY;

	(void)state;
	send_message(&row, 100000, &message);
	AUTO_FREE char *big = mem_printf("%s/spool/big", door.path);
	AUTO_FREE char *path = only_file(big);
	assert_int_equal(0, truncate(path, 10));
	assert_int_equal(1, write_notice(&row, message));
	spool_message_unref(&message);
	door_read(&door, &message, &text);
	struct span all = buf_span(&text);
	assert_int_equal(2, door_count(all, "Final-Recipient:"));
	assert_int_equal(1, door_count(all, "Received: "));
	spool_message_unref(&message);
	buf_done(&text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_no_loop),
		cmocka_unit_test(test_damaged_original),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
