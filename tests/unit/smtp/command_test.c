/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/command.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */

#define COUNT(a) (sizeof(a) / sizeof *(a))

static void
assert_span(struct span s, const char *expected)
{
	if (!span_eq(s, span_of(expected)))
		fail_msg(
		    "got \"%.*s\", expected \"%s\"", SPAN_ARG(s), expected);
}

static void
test_split(void **state)
{
	(void)state;
	static const char *const cases[][3] = {
		{ "NOOP", "NOOP", "" },
		{ "noop  x y ", "noop", "x y" },
		{ "MAIL\tFROM:<>\t", "MAIL", "FROM:<>" },
		{ "", "", "" },
		{ "   ", "", "" },
		{ " NOOP", "", "NOOP" },
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct command c = command_split(span_of(cases[i][0]));
		assert_span(c.verb, cases[i][1]);
		assert_span(c.argument, cases[i][2]);
	}
}

struct path_case {
	const char *argument;
	uint16_t code; /* 0: accepted */
	const char *status;
	const char *address;
};

/* The grammar of RFC 5321 §4.1.1.2; addresses themselves are the mail room's
 * to test. */
static const struct path_case mail_cases[] = {
	{ "FROM:<a@b.test>", 0, "", "a@b.test" },
	{ "from:<a@b.test>", 0, "", "a@b.test" },
	{ "FROM: <a@b.test>", 0, "", "a@b.test" },
	{ "FROM:   <a@b.test>  SIZE=1", 0, "", "a@b.test" },
	{ "FROM:<>", 0, "", "" },
	{ "FROM:<\"a>b\"@b.test> SIZE=1", 0, "", "\"a>b\"@b.test" },
	{ "FROM:<a@[192.0.2.1]>", 0, "", "a@[192.0.2.1]" },
	{ "", 501, "5.1.7", "" },
	{ "FROM", 501, "5.1.7", "" },
	{ "FROM:", 501, "5.1.7", "" },
	{ "FROM:a@b.test", 501, "5.1.7", "" },
	{ "FROM:<a@b.test", 501, "5.1.7", "" },
	{ "FROM <a@b.test>", 501, "5.1.7", "" },
	{ "FROM:<a@b.test>SIZE=1", 501, "5.1.7", "" },
	{ "FROM:<a@b.test>>", 501, "5.1.7", "" },
	{ "FROM:Name <a@b.test>", 501, "5.1.7", "" },
	{ "FROM:<@x:a@b.test>", 501, "5.1.7", "" },
	{ "TO:<a@b.test>", 501, "5.1.7", "" },
	{ "FROM:<postmaster>", 501, "5.1.7", "" },
	/* RFC 6531 §3.5; reliability C12 */
	{ "FROM:<\xc3\xa4@b.test>", 553, "5.6.7", "" },
	{ "FROM:<a@\xc3\xa4.test>", 553, "5.6.7", "" },
	{ "FROM:<\xc3\xa4@b.test> SMTPUTF8", 0, "", "\xc3\xa4@b.test" },
	{ "FROM:<a@\xc3\xa4.test> SMTPUTF8", 0, "", "a@xn--4ca.test" },
	{ "FROM:<\xc3@b.test> SMTPUTF8", 501, "5.1.7", "" },
	{ "FROM:<\xc0\xaf@b.test> SMTPUTF8", 501, "5.1.7", "" },
};

static const struct path_case rcpt_cases[] = {
	{ "TO:<a@b.test>", 0, "", "a@b.test" },
	{ "to: <a@b.test>", 0, "", "a@b.test" },
	{ "TO:<Postmaster>", 0, "", NULL },
	{ "TO:<>", 501, "5.1.3", "" },
	{ "TO:a@b.test", 501, "5.1.3", "" },
	{ "TO:<a@[192.0.2.1]>", 501, "5.1.3", "" },
	{ "TO:<a@b@c.test>", 501, "5.1.3", "" },
	{ "TO:<a%c@b.test>", 501, "5.1.3", "" },
	{ "FROM:<a@b.test>", 501, "5.1.3", "" },
	{ "TO:<\xc3\xa4@b.test>", 553, "5.6.7", "" },
};

static void
check_fault(
    const struct path_case *c, const struct reply *fault, struct arena *arena)
{
	if (fault->code != c->code)
		fail_msg("%s: %u", c->argument, fault->code);
	assert_span(reply_status(fault, arena), c->status);
	assert_true(fault->text.len > 0);
}

static void
test_mail(void **state)
{
	(void)state;
	struct arena *arena = arena_new();
	for (size_t i = 0; i < COUNT(mail_cases); i++) {
		const struct path_case *c = &mail_cases[i];
		struct smtp_mail mail;
		struct reply fault = { 0 };
		int r = command_parse_mail(span_of(c->argument),
		    ADDRESS_ALLOW_LITERAL, arena, &mail, &fault);
		if (r < 0 || c->code != 0)
			check_fault(c, &fault, arena);
		else
			assert_span(mail.sender.text, c->address);
	}
	arena_free(&arena);
}

static void
test_rcpt(void **state)
{
	(void)state;
	struct arena *arena = arena_new();
	for (size_t i = 0; i < COUNT(rcpt_cases); i++) {
		const struct path_case *c = &rcpt_cases[i];
		struct smtp_rcpt rcpt;
		struct reply fault = { 0 };
		int r = command_parse_rcpt(
		    span_of(c->argument), 0, arena, &rcpt, &fault);
		if (r < 0 || c->code != 0)
			check_fault(c, &fault, arena);
		else if (c->address != NULL)
			assert_span(rcpt.recipient.text, c->address);
	}
	struct smtp_rcpt rcpt;
	struct reply fault = { 0 };
	assert_int_equal(command_parse_rcpt(SPAN("TO:<\xc3\xa4@b.test>"),
			     ADDRESS_ALLOW_UTF8, arena, &rcpt, &fault),
	    0);
	assert_true(rcpt.recipient.needs_utf8);
	assert_int_equal(command_parse_rcpt(SPAN("TO:<a@[192.0.2.1]>"),
			     ADDRESS_ALLOW_LITERAL, arena, &rcpt, &fault),
	    0);
	assert_true(rcpt.recipient.is_literal);
	arena_free(&arena);
}

/* Reliability C7 */
static void
test_bdat(void **state)
{
	(void)state;

	static const struct {
		const char *argument;
		bool ok, last;
		uint64_t size;
	} cases[] = {
		{ "0", true, false, 0 },
		{ "0 LAST", true, true, 0 },
		{ "86 last", true, true, 86 },
		{ "2147483648", true, false, 2147483648u },
		{ "4294967295 LAST", true, true, 4294967295u },
		{ "9223372036854775807", true, false, INT64_MAX },
		{ "9223372036854775808", false, false, 0 },
		{ "18446744073709551616", false, false, 0 },
		{ "", false, false, 0 },
		{ "-1", false, false, 0 },
		{ "+1", false, false, 0 },
		{ "0x10", false, false, 0 },
		{ "1.5", false, false, 0 },
		{ "LAST", false, false, 0 },
		{ "1 FIRST", false, false, 0 },
		{ "1 LAST LAST", false, false, 0 },
		{ "1LAST", false, false, 0 },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		uint64_t size = 0;
		bool last = false;
		int r = command_parse_bdat(
		    span_of(cases[i].argument), &size, &last);
		if ((r == 0) != cases[i].ok)
			fail_msg("BDAT %s: %d", cases[i].argument, r);
		assert_int_equal(size, cases[i].size);
		assert_int_equal(last, cases[i].last);
	}
}

static void
test_auth(void **state)
{
	(void)state;

	static const struct {
		const char *argument;
		uint16_t code; /* 0: accepted */
		const char *mechanism, *initial;
		bool has_initial;
	} cases[] = {
		{ "PLAIN", 0, "PLAIN", "", false },
		{ "plain =", 0, "plain", "", true },
		{ "PLAIN AGEAYg==", 0, "PLAIN", "AGEAYg==", true },
		{ "PLAIN  AGEAYg==", 0, "PLAIN", "AGEAYg==", true },
		{ "", 501, "", "", false },
		{ "PLAIN AGEAYg", 501, "", "", false },
		{ "PLAIN AGE=Yg==", 501, "", "", false },
		{ "PLAIN A===", 501, "", "", false },
		{ "PLAIN AGEA x", 501, "", "", false },
		{ "PLAIN *", 501, "", "", false },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct command_auth auth;
		struct reply fault = { 0 };
		int r = command_parse_auth(
		    span_of(cases[i].argument), &auth, &fault);
		assert_int_equal(r < 0, cases[i].code != 0);
		assert_int_equal(fault.code, cases[i].code);
		if (r < 0)
			continue;
		assert_span(auth.mechanism, cases[i].mechanism);
		assert_span(auth.initial, cases[i].initial);
		assert_int_equal(auth.has_initial, cases[i].has_initial);
	}
}

/* Lengths 1 to 5 mod 4, padding, alphabet (CVE-2018-6789). */
static void
test_base64(void **state)
{
	(void)state;

	static const struct {
		const char *text;
		bool ok;
	} cases[] = {
		{ "", true },
		{ "A", false },
		{ "AA", false },
		{ "AAA", false },
		{ "AAAA", true },
		{ "AAAAA", false },
		{ "AA==", true },
		{ "AAA=", true },
		{ "A===", false },
		{ "====", false },
		{ "==", false },
		{ "=AAA", false },
		{ "AA=A", false },
		{ "AA==AAAA", false },
		{ "ab/+", true },
		{ "ab-_", false },
		{ "ab c", false },
		{ "ab\tc", false },
		{ "AAA\xc3", false },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		if (command_is_base64(span_of(cases[i].text)) != cases[i].ok)
			fail_msg("\"%s\"", cases[i].text);
	}
	assert_false(command_is_base64(SPAN("AA\0A")));
}

static void
test_client_name(void **state)
{
	(void)state;
	char long_name[257];
	memset(long_name, 'a', sizeof(long_name));
	assert_true(command_is_client_name(SPAN("mx.example.test")));
	assert_true(command_is_client_name(SPAN("[192.0.2.1]")));
	assert_true(command_is_client_name(SPAN("my_pc")));
	assert_true(command_is_client_name(SPAN("b\xc3\xbc"
						"cher.test")));
	assert_true(command_is_client_name(span_from(long_name, 255)));
	assert_false(command_is_client_name(span_from(long_name, 256)));
	assert_false(command_is_client_name(SPAN_EMPTY));
	assert_false(command_is_client_name(SPAN("a b")));
	assert_false(command_is_client_name(SPAN("a\033[31m")));
	assert_false(command_is_client_name(SPAN("a\177")));
	assert_false(command_is_client_name(SPAN("a\xff")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_mail),
		cmocka_unit_test(test_rcpt),
		cmocka_unit_test(test_bdat),
		cmocka_unit_test(test_auth),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_client_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
