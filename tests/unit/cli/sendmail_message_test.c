/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/sendmail.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct sendmail_identity ann = {
	.address = { "ann@host.example", 16 },
	.host = { "host.example", 12 },
};

static void
expect_list(const struct address_list *list, const char *wanted)
{
	struct buf joined = BUF_EMPTY;

	for (size_t i = 0; i < list->count; i++) {
		buf_append_str(&joined, list->list[i]);
		buf_append_char(&joined, '|');
	}
	assert_string_equal(buf_cstring(&joined), wanted);
	buf_done(&joined);
}

static void
address_lists_are_taken_apart(void **state)
{
	static const struct {
		const char *text, *wanted;
	} cases[] = {
		{ "", "" },
		{ " , ;, ", "" },
		{ "a@x", "a@x|" },
		{ "root", "root@host.example|" },
		{ "a@x,b@y", "a@x|b@y|" },
		{ "Ann B <a@x>, b@y (Bob, really), <c@z>", "a@x|b@y|c@z|" },
		{ "\"B, Ann\" <a@x>", "a@x|" },
		{ "\"a,b\"@x", "\"a,b\"@x|" },
		{ "\"a\\\"b\"@x", "\"a\\\"b\"@x|" },
		{ "friends: a@x, \"C\" <c@y>;, d@z", "a@x|c@y|d@z|" },
		{ "undisclosed-recipients:;", "" },
		{ "a@[IPv6:::1], b@x", "a@[IPv6:::1]|b@x|" },
		{ "<a@x> trailing, b@y", "a@x|b@y|" },
		{ "a@x,\r\n\tb@y\r\n", "a@x|b@y|" },
		{ "a(comment (nested\\)) )@x", "a@x|" },
		{ "two words", "two words@host.example|" },
		{ "<a@x", "a@x|" },
		{ "(never ends", "" },
		{ "\"never ends", "\"never ends@host.example|" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct address_list list = { 0 };

		address_list_add(&list, span_of(cases[i].text), ann.host);
		expect_list(&list, cases[i].wanted);
		address_list_done(&list);
	}
}

static void
lines_become_crlf_lines(void **state)
{
	static const struct {
		const char *in;
		bool ignores_dots;
		const char *out;
	} cases[] = {
		{ "", false, "" },
		{ "a", false, "a\r\n" },
		{ "a\nb\n", false, "a\r\nb\r\n" },
		{ "a\r\nb\r\n", false, "a\r\nb\r\n" },
		{ "a\rb\n\rc", false, "a\r\nb\r\n\r\nc\r\n" },
		{ "a\r\r\nb", false, "a\r\n\r\nb\r\n" },
		{ "a\n.\nb\n", false, "a\r\n" },
		{ "a\n.\nb\n", true, "a\r\n.\r\nb\r\n" },
		{ "a\n.\r\nb\n", false, "a\r\n" },
		{ "a\n..\n.b\n", false, "a\r\n..\r\n.b\r\n" },
		{ "From ann Mon Nov 23\nA: b\n", false, "A: b\r\n" },
		{ ">From ann\nA: b\n", false, "A: b\r\n" },
		{ "A: b\n\nFrom here\n", false, "A: b\r\n\r\nFrom here\r\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct buf out = BUF_EMPTY;

		sendmail_normalise(
		    span_of(cases[i].in), cases[i].ignores_dots, &out);
		assert_string_equal(buf_cstring(&out), cases[i].out);
		buf_done(&out);
	}
}

static void
expect_composed(const struct sendmail_identity *self, const char *in,
    const char *out, const char *recipients)
{
	struct address_list found = { 0 };
	struct buf composed = BUF_EMPTY;

	sendmail_compose(
	    span_of(in), self, recipients ? &found : NULL, &composed);
	assert_string_equal(buf_cstring(&composed), out);
	if (recipients != NULL)
		expect_list(&found, recipients);
	address_list_done(&found);
	buf_done(&composed);
}

#define OWN "From: ann@host.example\r\n"
#define HIDDEN "To: undisclosed-recipients:;\r\n"

static void
what_is_missing_is_added(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "", OWN HIDDEN "\r\n" },
		{ "hello world\r\n", OWN HIDDEN "\r\nhello world\r\n" },
		{ "\r\nhello\r\n", OWN HIDDEN "\r\nhello\r\n" },
		{ "Subject: x\r\n\r\nhello\r\n",
		    OWN HIDDEN "Subject: x\r\n\r\nhello\r\n" },
		{ "from: b@y\r\ncc: c@z\r\n\r\nhello\r\n",
		    "from: b@y\r\ncc: c@z\r\n\r\nhello\r\n" },
		{ "From: b@y\r\nTo: c@z\r\nno field here\r\n",
		    "From: b@y\r\nTo: c@z\r\n\r\nno field here\r\n" },
		{ "From: b@y\r\nTo: c@z\r\n", "From: b@y\r\nTo: c@z\r\n\r\n" },
		{ "From: b@y\r\nTo: c@z,\r\n d@z\r\nBcc: e@z\r\n\r\nx\r\n",
		    "From: b@y\r\nTo: c@z,\r\n d@z\r\nBcc: e@z\r\n\r\nx\r\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		expect_composed(&ann, cases[i].in, cases[i].out, NULL);
}

static void
recipients_are_found_and_bcc_removed(void **state)
{
	(void)state;
	expect_composed(&ann,
	    "To: A <a@x>,\r\n\tb@y\r\nBCC: c@z\r\nFrom: d@w\r\nCc: root\r\n"
	    "\r\nTo: nobody@x\r\n",
	    "To: A <a@x>,\r\n\tb@y\r\nFrom: d@w\r\nCc: root\r\n\r\n"
	    "To: nobody@x\r\n",
	    "a@x|b@y|c@z|root@host.example|");
	/* A message that is sent on has new recipients. */
	expect_composed(&ann,
	    "Resent-To: r@x\r\nResent-Bcc: s@x\r\nTo: a@x\r\nFrom: d@w\r\n"
	    "\r\n",
	    "Resent-To: r@x\r\nTo: a@x\r\nFrom: d@w\r\n\r\n", "r@x|s@x|");
	expect_composed(
	    &ann, "Subject: x\r\n\r\n", OWN HIDDEN "Subject: x\r\n\r\n", "");
}

static void
names_are_quoted_or_encoded(void **state)
{
	static const struct {
		const char *name, *field;
	} cases[] = {
		{ "Ann B", "From: \"Ann B\" <ann@host.example>\r\n" },
		{ "A \"q\" \\", "From: \"A \\\"q\\\" \\\\\" "
				"<ann@host.example>\r\n" },
		{ "\xc3\x84nn B", "From: =?UTF-8?Q?=C3=84nn=20B?= "
				  "<ann@host.example>\r\n" },
		{ "A\r\nBcc: x@y", OWN },
		{ "A\xff", OWN },
		{ "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"
		  "\xc3\xa4\xc3\xa4",
		    "From: =?UTF-8?Q?=C3=A4=C3=A4=C3=A4=C3=A4=C3=A4=C3=A4=C3"
		    "=A4=C3=A4?=\r\n =?UTF-8?Q?=C3=A4?= "
		    "<ann@host.example>\r\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct sendmail_identity self = ann;
		struct buf wanted = BUF_EMPTY;

		self.full_name = span_of(cases[i].name);
		buf_append_str(&wanted, cases[i].field);
		buf_append_str(&wanted, HIDDEN "\r\n");
		expect_composed(&self, "", buf_cstring(&wanted), NULL);
		buf_done(&wanted);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(address_lists_are_taken_apart),
		cmocka_unit_test(lines_become_crlf_lines),
		cmocka_unit_test(what_is_missing_is_added),
		cmocka_unit_test(recipients_are_found_and_bcc_removed),
		cmocka_unit_test(names_are_quoted_or_encoded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
