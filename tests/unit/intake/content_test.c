/* SPDX-License-Identifier: Apache-2.0 */

/* What a message looks like when it lies in the spool, however its bytes were
 * cut on the way in. */

#include "door.h"

static struct door door;

static int
setup(void **state)
{
	static const char config[] =
	    DOOR_CONFIG "limits: {header_size: 4096, header_fields: 20, "
			"received_fields: 5, message_size: 1M, memory: 2M}\n";

	(void)state;
	door_open(&door, config);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	door_close(&door);
	return 0;
}

enum { AS_SENT = 0, WITH_DATE = 1, WITH_ID = 2, BOTH = 3 };

#define H "From: a@x.example\r\nDate: now\r\nMessage-ID: <1@x>\r\n"

/* clang-format off */
static const struct {
	const char *name;
	enum intake_origin origin;
	const char *text;
	const char *stored; /* behind our prefix; NULL: the text itself */
	unsigned added;
	uint32_t flags;
} table[] = {
	{ "plain", INTAKE_SENDMAIL, H "\r\nhello\r\n", NULL, AS_SENT, 0 },
	{ "no date", INTAKE_SENDMAIL, "From: a@x.example\r\n\r\nx\r\n", NULL, BOTH, 0 },
	{ "no id", INTAKE_HTTP, "Date: now\r\n\r\nx\r\n", NULL, WITH_ID, 0 },
	{ "world adds nothing", INTAKE_MX, "From: a@x.example\r\n\r\nx\r\n", NULL, AS_SENT, 0 },
	{ "bcc", INTAKE_SENDMAIL, "Bcc: b@x.example,\r\n c@x.example\r\n" H "bcc : d@x\r\n\r\nBcc: body\r\n",
	  H "\r\nBcc: body\r\n", AS_SENT, 0 },
	{ "resent-bcc", INTAKE_SENDMAIL, H "RESENT-BCC: b@x.example\r\n\r\nx\r\n", H "\r\nx\r\n", AS_SENT, 0 },
	{ "world's bcc stays", INTAKE_MX, "Bcc: b@x.example\r\n\r\nx\r\n", NULL, AS_SENT, 0 },
	{ "return-path", INTAKE_MX, "Return-Path: <f@x>\r\nSubject: s\r\nreturn-path: <g@x>\r\n\r\nx\r\n",
	  "Subject: s\r\n\r\nx\r\n", AS_SENT, 0 },
	{ "final CRLF", INTAKE_SENDMAIL, H "\r\nno end", H "\r\nno end\r\n", AS_SENT, 0 },
	{ "no body", INTAKE_SENDMAIL, H, NULL, AS_SENT, 0 },
	{ "no body, cut", INTAKE_MX, "Subject: s", "Subject: s\r\n", AS_SENT, 0 },
	{ "empty", INTAKE_SENDMAIL, "", "\r\n", BOTH, 0 },
	{ "empty line", INTAKE_SENDMAIL, "\r\n", NULL, BOTH, 0 },
	{ "no header", INTAKE_SENDMAIL, "just text\r\n", "\r\njust text\r\n", BOTH, 0 },
	{ "no header, cut", INTAKE_SENDMAIL, "just text", "\r\njust text\r\n", BOTH, 0 },
	{ "junk line", INTAKE_MX, "Subject: s\r\njunk\r\nBcc: x\r\n\r\nbody\r\n",
	  "Subject: s\r\n\r\njunk\r\nBcc: x\r\n\r\nbody\r\n", AS_SENT, 0 },
	{ "space first", INTAKE_MX, " Subject: s\r\n\r\nx\r\n", "\r\n Subject: s\r\n\r\nx\r\n", AS_SENT, 0 },
	{ "mbox line", INTAKE_SENDMAIL, "From a Mon Nov 23\r\n" H "\r\nx\r\n", H "\r\nx\r\n", AS_SENT, 0 },
	{ "mbox line, world", INTAKE_MX, "From a Mon\r\nSubject: s\r\n\r\n", "\r\nFrom a Mon\r\nSubject: s\r\n\r\n", AS_SENT, 0 },
	{ "8 bit body", INTAKE_MX, "Subject: s\r\n\r\n\xc3\xa4\r\n", NULL, AS_SENT, SPOOL_8BIT },
	{ "8 bit header", INTAKE_MX, "Subject: \xc3\xa4\r\n\r\nx\r\n", NULL, AS_SENT, SPOOL_8BIT },
	{ "dot", INTAKE_MX, "Subject: s\r\n\r\nx\r\n.\r\n..\r\n", NULL, AS_SENT, SPOOL_DOTS },
	{ "dot first", INTAKE_MX, "Subject: s\r\n\r\n.x\r\n", NULL, AS_SENT, SPOOL_DOTS },
	{ "dot inside", INTAKE_MX, "Subject: s\r\n\r\nx.\r\n x.y\r\n", NULL, AS_SENT, 0 },
	{ "auto", INTAKE_MX, "Auto-Submitted: auto-replied\r\n\r\nx\r\n", NULL, AS_SENT, SPOOL_AUTO_SUBMITTED },
	{ "auto no", INTAKE_MX, "Auto-Submitted: no\r\n\r\nx\r\n", NULL, AS_SENT, 0 },
};

/* clang-format on */

static void
check_stored(size_t row)
{
	const char *stored =
	    table[row].stored ? table[row].stored : table[row].text;
	struct spool_message *message;
	struct buf text = BUF_EMPTY;

	door_read(&door, &message, &text);
	const struct spool_envelope *e = spool_message_envelope(message);
	struct span all = buf_span(&text);
	struct span body = span_skip(all, e->prefix.len);
	if (!span_eq(body, span_of(stored)))
		fail_msg("%s: [%.*s]", table[row].name, SPAN_ARG(body));
	uint32_t inbound = table[row].origin == INTAKE_MX ? SPOOL_INBOUND : 0;
	if (e->flags != (table[row].flags | inbound))
		fail_msg("%s: flags %u", table[row].name, e->flags);
	assert_true(span_starts(all, SPAN("Received: ")));
	assert_int_equal((table[row].added & WITH_DATE) != 0,
	    door_count(e->prefix, "\nDate: "));
	assert_int_equal((table[row].added & WITH_ID) != 0,
	    door_count(e->prefix, "\nMessage-ID: <"));
	spool_message_unref(&message);
	buf_done(&text);
}

static void
test_table(void **state)
{
	static const size_t steps[] = { 0, 1, 2, 7 };
	struct smtp_mail mail = door_mail("s@sender.example");

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		for (size_t j = 0; j < 4; j++) {
			const struct intake_client client = {
				.origin = table[i].origin,
			};
			uint16_t code =
			    door_send(&door, &client, &mail, "a@local.example",
				span_of(table[i].text), steps[j]);

			if (code != 250)
				fail_msg("%s: %u", table[i].name, code);
			check_stored(i);
		}
	}
}

static void
test_flags_of_addresses(void **state)
{
	const struct intake_client client = { .origin = INTAKE_SENDMAIL };
	struct smtp_mail mail = door_mail("s@sender.example");
	struct spool_message *message;
	struct buf text = BUF_EMPTY;

	(void)state;
	mail.utf8 = true;
	mail.body = SMTP_BODY_BINARYMIME;
	assert_int_equal(250, door_send(&door, &client, &mail, "a@x.example",
				  SPAN("Subject: \xc3\xa4\r\n\r\na\nb\rc"), 0));
	door_read(&door, &message, &text);
	assert_int_equal(SPOOL_UTF8 | SPOOL_BINARY | SPOOL_8BIT,
	    spool_message_envelope(message)->flags);
	/* octet for octet: no CRLF is added to binary mail */
	assert_true(span_ends_nocase(buf_span(&text), SPAN("\r\n\r\na\nb\rc")));
	spool_message_unref(&message);
	buf_done(&text);
}

/* Clients that can send binary mail announce all of theirs as such. */
static void
test_text_announced_as_binary(void **state)
{
	static const struct {
		const char *body;
		uint32_t flags;
	} rows[] = {
		{ "text\r\n", 0 },
		{ "text\r\n\xc3\xa4\r\n", SPOOL_8BIT },
		{ "no end", SPOOL_BINARY },
		{ "bare\nLF\r\n", SPOOL_BINARY },
		{ "bare\rCR\r\n", SPOOL_BINARY },
		{ "CR\r\r\n", SPOOL_BINARY },
	};
	const struct intake_client client = { .origin = INTAKE_MX };
	struct smtp_mail mail = door_mail("s@sender.example");
	struct spool_message *message;
	struct buf text = BUF_EMPTY, stored = BUF_EMPTY;

	(void)state;
	mail.body = SMTP_BODY_BINARYMIME;
	for (size_t i = 0; i < 6 + 2; i++) {
		size_t row = i < 6 ? i : 0;
		buf_clear(&text);
		buf_append_str(&text, "Subject: s\r\n\r\n");
		for (size_t j = 0; i >= 6 && j < 992 + i; j++)
			buf_append_char(&text, 'x'); /* 998 and 999 in all */
		if (i >= 6)
			buf_append_str(&text, "\r\n");
		buf_append_str(&text, rows[row].body);
		uint32_t flags = i == 7 ? SPOOL_BINARY : rows[row].flags;
		flags |= SPOOL_INBOUND;
		for (size_t step = 0; step < 3; step++) {
			assert_int_equal(
			    250, door_send(&door, &client, &mail,
				     "a@local.example", buf_span(&text), step));
			door_read(&door, &message, &stored);
			if (spool_message_envelope(message)->flags != flags)
				fail_msg("row %zu, step %zu", i, step);
			spool_message_unref(&message);
		}
	}
	buf_done(&text);
	buf_done(&stored);
}

/* The limit holds for all doors: sendmail knows no SIZE. */
static void
test_size(void **state)
{
	const struct intake_client client = { .origin = INTAKE_SENDMAIL };
	struct smtp_mail mail = door_mail("s@sender.example");
	struct buf text = BUF_EMPTY;

	(void)state;
	buf_append_str(&text, "Subject: big\r\n\r\n");
	while (buf_size(&text) < 1024 * 1024 - 2)
		buf_append_char(&text, 'x');
	buf_append_str(&text, "\r\n");
	assert_int_equal(250, door_send(&door, &client, &mail,
				  "a@local.example", buf_span(&text), 4093));
	buf_append_str(&text, ".");
	assert_int_equal(552, door_send(&door, &client, &mail,
				  "a@local.example", buf_span(&text), 4093));
	assert_int_equal(552, door_send(&door, &client, &mail,
				  "a@local.example", buf_span(&text), 0));
	buf_done(&text);
}

/* Sixteen times 128 KiB under way, where 2 MiB are what all may have. */
static void
test_memory(void **state)
{
	const struct intake_client client = { .origin = INTAKE_SENDMAIL };
	struct smtp_mail mail = door_mail("s@sender.example");
	static char text[128 * 1024];
	struct intake_message *m[16];
	struct reply reply;

	(void)state;
	memset(text, 'x', sizeof(text));
	memcpy(text, "A: b\r\n\r\n", 8);
	for (size_t i = 0; i < 16; i++) {
		m[i] = intake_mail(door.intake, &client, &mail, &reply);
		assert_non_null(m[i]);
		intake_body(m[i], span_from(text, sizeof(text)));
	}
	/* All is taken, and nothing of it is free until somebody ends. */
	struct smtp_rcpt rcpt = { .recipient = { .text = SPAN("a@x.example"),
				      .domain = SPAN("x.example") } };
	intake_rcpt(m[0], &rcpt, &reply);
	assert_int_equal(452, reply.code);
	assert_int_equal(452, door_send(&door, &client, &mail,
				  "a@local.example", SPAN("A: b\r\n"), 0));
	for (size_t i = 0; i < 16; i++)
		intake_abort(&m[i]);
	assert_int_equal(250, door_send(&door, &client, &mail,
				  "a@local.example", SPAN("A: b\r\n"), 0));
}

static void
repeat(const char *line, size_t count, const char *end, struct buf *ret)
{
	buf_clear(ret);
	for (size_t i = 0; i < count; i++)
		buf_append_str(ret, line);
	buf_append_str(ret, end);
}

static void
test_refusals(void **state)
{
	const struct {
		enum intake_origin origin;
		const char *line;
		size_t count;
		const char *end;
		uint16_t code;
	} rows[] = {
		{ INTAKE_MX, "Received: x\r\n", 5, "\r\nx\r\n", 250 },
		{ INTAKE_MX, "Received: x\r\n", 6, "\r\nx\r\n", 554 },
		{ INTAKE_MX, "received : x\r\n", 6, "\r\nx\r\n", 554 },
		{ INTAKE_MX, "X: y\r\n", 20, "\r\nx\r\n", 250 },
		{ INTAKE_MX, "X: y\r\n", 21, "\r\nx\r\n", 554 },
		{ INTAKE_MX, "From: a@x\r\n", 2, "\r\nx\r\n", 250 },
		{ INTAKE_SENDMAIL, "From: a@x\r\n", 2, "\r\nx\r\n", 554 },
		/* 4,096 octets of header section are the limit */
		{ INTAKE_MX, "", 0, NULL, 250 },
		{ INTAKE_MX, "", 1, NULL, 552 },
	};
	struct smtp_mail mail = door_mail("s@sender.example");
	struct buf text = BUF_EMPTY;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct intake_client client = { .origin =
							  rows[i].origin };
		if (rows[i].end) {
			repeat(rows[i].line, rows[i].count, rows[i].end, &text);
		} else {
			repeat("X: ", 1, "", &text);
			while (buf_size(&text) < 4092 + rows[i].count)
				buf_append_char(&text, 'y');
			buf_append_str(&text, "\r\n\r\n");
			assert_int_equal(4096 + rows[i].count, buf_size(&text));
			for (int j = 0; j < 1000; j++)
				buf_append_str(&text, "body body\r\n");
		}
		for (size_t step = 0; step < 2; step++) {
			uint16_t code = door_send(&door, &client, &mail,
			    "a@local.example", buf_span(&text), step);

			if (code != rows[i].code)
				fail_msg("row %zu: %u", i, code);
		}
	}
	mail.body = SMTP_BODY_BINARYMIME;
	const struct intake_client world = { .origin = INTAKE_MX };
	assert_int_equal(550, door_send(&door, &world, &mail, "a@local.example",
				  SPAN("Subject: a\nb\r\n\r\nx\r\n"), 0));
	assert_int_equal(550, door_send(&door, &world, &mail, "a@local.example",
				  SPAN("Subject: a\rb\r\n\r\nx\r\n"), 0));
	buf_done(&text);
}

/* Larger than what the spool keeps in memory. */
static void
test_large(void **state)
{
	const struct intake_client client = { .origin = INTAKE_MX };
	struct smtp_mail mail = door_mail("");
	struct spool_message *message;
	struct buf text = BUF_EMPTY, stored = BUF_EMPTY;

	(void)state;
	repeat("Subject: big\r\n\r\n", 1, "", &text);
	for (int i = 0; i < 20000; i++)
		buf_printf(&text, "line %d of a large body\r\n", i);
	assert_int_equal(250, door_send(&door, &client, &mail,
				  "a@local.example", buf_span(&text), 4093));
	door_read(&door, &message, &stored);
	const struct spool_envelope *e = spool_message_envelope(message);
	assert_true(span_eq(
	    buf_span(&text), span_skip(buf_span(&stored), e->prefix.len)));
	spool_message_unref(&message);
	buf_done(&stored);
	buf_done(&text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_flags_of_addresses),
		cmocka_unit_test(test_text_announced_as_binary),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_large),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
