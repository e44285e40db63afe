/* SPDX-License-Identifier: Apache-2.0 */
#include "bounce/judge.h"

#include <stdio.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* A row: the refusal, then class, "p" permanent and "s" suppresses. */
static const struct row {
	uint16_t code;
	const char *status, *text;
	enum reply_class class;
	const char *marks;
} rows[] = {
	/* the address is wrong */
	{ 550, "5.1.1", "<joe@example.com>: Recipient address rejected: User unknown in local recipient table", CLASS_NO_SUCH_USER, "ps" },
	{ 550, "5.1.1", "The email account that you tried to reach does not exist. Please try\n550-5.1.1 double-checking the recipient's email address", CLASS_NO_SUCH_USER, "ps" },
	{ 554, "", "delivery error: dd This user doesn't have a yahoo.com account (joe@yahoo.com) [0]", CLASS_NO_SUCH_USER, "ps" },
	{ 550, "5.5.0", "Requested action not taken: mailbox unavailable (S2017062302). [X.prod.protection.outlook.com]", CLASS_NO_SUCH_USER, "ps" },
	{ 550, "5.1.10", "RESOLVER.ADR.RecipientNotFound; Recipient joe@example.com not found by SMTP address lookup", CLASS_NO_SUCH_USER, "ps" },
	{ 550, "5.4.1", "Recipient address rejected: Access denied. AS(201806281) [X.eop-nam02.prod.protection.outlook.com]", CLASS_NO_SUCH_USER, "ps" },
	{ 550, "", "sorry, no mailbox here by that name. (#5.1.1 - chkuser)", CLASS_NO_SUCH_USER, "ps" },
	{ 550, "", "Message was not accepted -- invalid mailbox. Local mailbox joe@mail.ru is unavailable: user not found", CLASS_NO_SUCH_USER, "ps" },
	{ 550, "5.1.1", "Adresse d au moins un destinataire invalide. Invalid recipient. OFR204_418", CLASS_NO_SUCH_USER, "ps" },
	{ 550, "", "Empfänger unbekannt", CLASS_NO_SUCH_USER, "ps" },
	{ 450, "4.1.1", "<joe@example.com>: Recipient address rejected: User unknown in local recipient table", CLASS_NO_SUCH_USER, "" },
	{ 0, "5.1.1", "", CLASS_NO_SUCH_USER, "ps" },
	{ 0, "5.1.2", "", CLASS_NO_SUCH_DOMAIN, "ps" },
	{ 0, "5.4.4", "Host or domain name not found. Name service error for name=example.com type=A: Host not found", CLASS_NO_SUCH_DOMAIN, "ps" },
	{ 0, "4.4.3", "Name service error for name=example.com type=MX: Host not found, try again", CLASS_NETWORK, "" },
	{ 556, "5.1.10", "Recipient address has a null MX", CLASS_NO_SUCH_DOMAIN, "ps" },
	{ 551, "5.1.6", "User not local; please try <joe@example.net>", CLASS_MOVED, "ps" },
	{ 551, "5.7.1", "Delivery not authorized", CLASS_POLICY, "p" },
	{ 551, "", "", CLASS_MOVED, "ps" },
	{ 554, "", "INVALID IP FOR SENDING MAIL OF DOMAIN example.com", CLASS_POLICY, "p" },
	{ 0, "5.0.0", "the group you tried to contact may not exist, or you may not have permission to post messages to it", CLASS_POLICY, "p" },
	/* the mailbox is there and takes nothing */
	{ 552, "5.2.2", "The email account that you tried to reach is over quota", CLASS_MAILBOX_FULL, "p" },
	{ 452, "4.2.2", "The recipient's inbox is out of storage space", CLASS_MAILBOX_FULL, "" },
	{ 550, "5.1.1", "<joe@example.com>: user mailbox is full", CLASS_MAILBOX_FULL, "p" },
	{ 554, "5.2.2", "mailbox full", CLASS_MAILBOX_FULL, "p" },
	{ 552, "", "Requested mail action aborted: exceeded storage allocation", CLASS_MAILBOX_FULL, "p" },
	{ 552, "", "", CLASS_MAILBOX_FULL, "p" },
	{ 550, "5.2.1", "The email account that you tried to reach is disabled.", CLASS_MAILBOX_DISABLED, "ps" },
	{ 550, "5.7.1", "This mailbox is temporarily disabled", CLASS_MAILBOX_DISABLED, "" },
	{ 554, "", "delivery error: dd This mailbox is disabled (554.30).", CLASS_MAILBOX_DISABLED, "ps" },
	{ 0, "5.2.1", "", CLASS_MAILBOX_DISABLED, "p" },
	/* the message */
	{ 552, "5.3.4", "Message size exceeds fixed maximum message size", CLASS_TOO_LARGE, "p" },
	{ 552, "5.7.0", "This message was blocked because its content presents a potential security issue.", CLASS_CONTENT, "p" },
	{ 550, "5.7.1", "Our system has detected that this message is likely unsolicited mail.", CLASS_CONTENT, "p" },
	{ 550, "", "Message rejected as spam by Content Filtering.", CLASS_CONTENT, "p" },
	/* the sender */
	{ 550, "5.7.26", "This mail has been blocked because the sender is unauthenticated.", CLASS_AUTHENTICATION, "p" },
	{ 550, "5.7.1", "Unauthenticated email from example.com is not accepted due to domain's DMARC policy.", CLASS_AUTHENTICATION, "p" },
	{ 550, "5.7.25", "The IP address sending this message does not have a PTR record setup", CLASS_AUTHENTICATION, "p" },
	{ 550, "5.1.8", "<joe@example.com>: Sender address rejected: Domain not found", CLASS_POLICY, "p" },
	{ 550, "5.1.1", "Sender verify failed", CLASS_POLICY, "p" },
	{ 550, "", "Sender unknown", CLASS_POLICY, "p" },
	{ 550, "5.7.1", "Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", CLASS_REPUTATION, "p" },
	{ 550, "5.1.1", "192.0.2.1 is listed at Spamhaus; user unknown", CLASS_REPUTATION, "p" },
	{ 550, "5.7.1", "Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3140).", CLASS_REPUTATION, "p" },
	{ 421, "4.7.0", "[TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints - 4.16.55.1", CLASS_RATE_LIMIT, "" },
	{ 550, "5.7.1", "Mail from 192.0.2.1 refused, see http://www.barracudacentral.org/lookups", CLASS_REPUTATION, "p" },
	{ 554, "", "5.7.1 [CS01] Message blocked. Please visit https://postmaster.yahooinc.com/error-codes", CLASS_REPUTATION, "p" },
	{ 550, "", "5.1.0 sender rejected by Proofpoint Dynamic Reputation", CLASS_REPUTATION, "p" },
	{ 550, "5.7.1", "Access denied by policy", CLASS_POLICY, "p" },
	{ 550, "5.7.1", "", CLASS_POLICY, "p" },
	{ 550, "5.7.1", "Unable to relay for joe@example.com", CLASS_RELAYING_DENIED, "p" },
	{ 554, "5.7.1", "<joe@example.com>: Relay access denied", CLASS_RELAYING_DENIED, "p" },
	{ 553, "", "sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", CLASS_RELAYING_DENIED, "p" },
	/* it will pass */
	{ 450, "4.2.0", "<joe@example.com>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/example.com.html", CLASS_GREYLIST, "" },
	{ 550, "5.7.1", "greylisted, try again in 300 seconds", CLASS_GREYLIST, "" },
	{ 421, "4.7.28", "Our system has detected an unusual rate of unsolicited mail", CLASS_RATE_LIMIT, "" },
	{ 450, "4.2.1", "The user you are trying to contact is receiving mail too quickly.", CLASS_RATE_LIMIT, "" },
	{ 550, "5.2.1", "The user you are trying to contact is receiving mail at a rate that prevents additional messages from being delivered.", CLASS_RATE_LIMIT, "" },
	{ 421, "", "too many connections from your host", CLASS_RATE_LIMIT, "" },
	{ 530, "5.7.0", "Must issue a STARTTLS command first", CLASS_TLS, "p" },
	{ 0, "4.4.1", "connect to mx.example.com[192.0.2.1]:25: Connection timed out", CLASS_NETWORK, "" },
	{ 0, "5.4.6", "Too many hops", CLASS_NETWORK, "p" },
	{ 451, "4.3.0", "Temporary lookup failure", CLASS_NETWORK, "" },
	/* nothing known */
	{ 550, "", "nope", CLASS_OTHER, "p" },
	{ 450, "", "", CLASS_OTHER, "" },
	{ 0, "", "", CLASS_OTHER, "" },
	{ 0, "5.0.0", "", CLASS_OTHER, "p" },
};

/* clang-format on */

static struct refusal
refusal_of(const struct row *row)
{
	struct refusal r = { .code = row->code, .text = span_of(row->text) };
	unsigned class = 0, subject = 0, detail = 0;

	if (row->status[0] != '\0')
		assert_int_equal(
		    sscanf(row->status, "%u.%u.%u", &class, &subject, &detail),
		    3);
	r.status_class = (uint8_t) class;
	r.status_subject = (uint16_t)subject;
	r.status_detail = (uint16_t)detail;
	return r;
}

static void
test_table(void **state)
{
	struct judge *judge = judge_new();
	size_t wrong = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct refusal refusal = refusal_of(&rows[i]);
		struct judgement j;
		judge_reply(judge, &refusal, &j);
		const char *marks = j.suppresses     ? "ps"
				    : j.is_permanent ? "p"
						     : "";
		if (j.class == rows[i].class &&
		    strcmp(marks, rows[i].marks) == 0)
			continue;
		wrong++;
		print_message("%u %s %s: %s \"%s\" by line %u\n", rows[i].code,
		    rows[i].status, rows[i].text, reply_class_name(j.class),
		    marks, j.rule);
	}
	assert_int_equal(wrong, 0);
	judge_free(&judge);
	assert_null(judge);
}

/* No code and no status suppresses by its class alone, and some causes never
 * do, whatever stands before them. */
static void
test_never_suppress(void **state)
{
	static const char *const texts[] = { "mailbox full", "over quota",
		"greylisted", "blocked using zen.spamhaus.org", "spam rejected",
		"rate limited", "SPF check failed", "DMARC policy",
		"relay access denied", "message too large", "TLS required" };
	struct judge *judge = judge_new();
	struct judgement j;

	(void)state;
	for (uint16_t code = 500; code < 560; code++) {
		struct refusal r = { .code = code };
		judge_reply(judge, &r, &j);
		assert_true(!j.suppresses || code == 551 || code == 556);
	}
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct refusal r = { 550, 5, 1, 1, span_of(texts[i]) };
		judge_reply(judge, &r, &j);
		assert_false(j.suppresses);
	}
	judge_free(&judge);
}

/* What is temporary never suppresses. */
static void
test_temporary_never_suppresses(void **state)
{
	struct judge *judge = judge_new();

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct refusal r = refusal_of(&rows[i]);
		struct judgement j;
		r.code = 450;
		if (r.status_class != 0)
			r.status_class = 4;
		judge_reply(judge, &r, &j);
		assert_false(j.is_permanent);
		assert_false(j.suppresses);
	}
	judge_free(&judge);
}

static void
test_names(void **state)
{
	enum reply_class class;

	(void)state;
	for (size_t i = 0; i < REPLY_CLASSES; i++) {
		const char *name = reply_class_name((enum reply_class)i);
		assert_true(reply_class_parse(span_of(name), &class));
		assert_int_equal(class, i);
	}
	assert_false(reply_class_parse(SPAN("nonsense"), &class));
	assert_false(reply_class_parse(SPAN_EMPTY, &class));
}

static void
test_bad_rules(void **state)
{
	static const struct {
		const char *rules, *why;
	} bad[] = {
		{ "nonsense reply - x", "line 1" },
		{ "# c\n\nother maybe - x", "line 3" },
		{ "other reply 250 x", "line 1" },
		{ "other reply , x", "line 1" },
		{ "other reply 5", "line 1" },
		{ "other reply - (", "line 1" },
	};
	struct judge *judge = NULL;
	struct failure why;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(
		    judge_read(span_of(bad[i].rules), &judge, &why),
		    ERR_SYNTAX);
		assert_non_null(strstr(why.text, bad[i].why));
		assert_null(judge);
	}
	assert_int_equal(judge_read(SPAN_EMPTY, &judge, &why), 0);
	judge_free(&judge);
}

/* Long and strange texts are no trouble. */
static void
test_bounds(void **state)
{
	static char text[100000];
	struct judge *judge = judge_new();
	struct judgement j;

	(void)state;
	for (int fill = 0; fill < 256; fill++) {
		memset(text, fill, sizeof(text));
		struct refusal r = { 550, 0, 0, 0,
			span_from(text, sizeof(text)) };
		judge_reply(judge, &r, &j);
		assert_false(j.suppresses);
	}
	judge_free(&judge);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_never_suppress),
		cmocka_unit_test(test_temporary_never_suppresses),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_bad_rules),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
