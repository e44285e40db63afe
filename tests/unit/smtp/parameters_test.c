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

struct parameter_case {
	const char *list;
	const char *answer; /* "" accepted, else "501 5.5.4" */
	struct smtp_mail mail; /* what it must make, without sender */
	struct smtp_rcpt rcpt; /* likewise */
};

#define X10 "xxxxxxxxxx"
#define X50 X10 X10 X10 X10 X10
#define X100 X50 X50
#define BAD "501 5.5.4"

/* Reliability C5 and C6. */
static const struct parameter_case mail_cases[] = {
	{ "", "" },
	{ "   ", "" },
	{ "SIZE=0", "" },
	{ "SIZE=1000", "", .mail.size = 1000 },
	{ "size=2147483648", "", .mail.size = 2147483648u },
	{ "SIZE=9223372036854775808", "", .mail.size = 9223372036854775808u },
	{ "SIZE=18446744073709551615", "", .mail.size = UINT64_MAX },
	{ "SIZE=18446744073709551616", BAD },
	{ "SIZE=000000000000000000001", BAD },
	{ "SIZE=-1", BAD },
	{ "SIZE=+1", BAD },
	{ "SIZE=", BAD },
	{ "SIZE", BAD },
	{ "SIZE=1k", BAD },
	{ "SIZE=1 SIZE=1", BAD },
	{ "SIZE=1 size=2", BAD },
	{ "BODY=7BIT", "" },
	{ "BODY=8bitmime", "", .mail.body = SMTP_BODY_8BITMIME },
	{ "BODY=BINARYMIME", "", .mail.body = SMTP_BODY_BINARYMIME },
	{ "BODY=9BIT", BAD },
	{ "BODY", BAD },
	{ "SMTPUTF8", "", .mail.utf8 = true },
	{ "SMTPUTF8=1", BAD },
	{ "SMTPUTF8=", BAD },
	{ "AUTH=<>", "" },
	{ "AUTH=e+3Dmc2@example.com", "" },
	{ "AUTH=a+0Ab", BAD },
	{ "AUTH=a+zzb", BAD },
	{ "AUTH=", BAD },
	{ "RET=FULL", "", .mail.ret = SMTP_RET_FULL },
	{ "ret=hdrs", "", .mail.ret = SMTP_RET_HDRS },
	{ "RET=NONE", BAD },
	{ "ENVID=QQ314159", "", .mail.envid = { "QQ314159", 8 } },
	{ "ENVID=a+2Bb+20c", "", .mail.envid = { "a+2Bb+20c", 9 } },
	{ "ENVID=" X100, "", .mail.envid = { X100, 100 } },
	{ "ENVID=" X100 "x", BAD },
	{ "ENVID=a+0A", BAD },
	{ "ENVID=a+0D", BAD },
	{ "ENVID=a+00", BAD },
	{ "ENVID=a+09", BAD },
	{ "ENVID=a+7F", BAD },
	{ "ENVID=a+C3+A4", BAD },
	{ "ENVID=a+", BAD },
	{ "ENVID=a+2bc+41", "", .mail.envid = { "a+2BcA", 6 } },
	{ "ENVID=a=b", BAD },
	{ "ENVID=\xc3\xa4", BAD },
	{ "=", BAD },
	{ "\"", BAD },
	{ "=1", BAD },
	{ "-SIZE=1", BAD },
	{ "SI ZE=1", "555 5.5.4" },
	{ "XFOO", "555 5.5.4" },
	{ "XFOO=bar", "555 5.5.4" },
	{ "NOTIFY=NEVER", "555 5.5.4" },
	{ "REQUIRETLS", "", .mail.requiretls = true },
	{ "REQUIRETLS=1", BAD },
	{ "SIZE=5 BODY=8BITMIME  SMTPUTF8 RET=HDRS ENVID=x AUTH=<>", "",
	    .mail = { .size = 5,
		.body = SMTP_BODY_8BITMIME,
		.utf8 = true,
		.ret = SMTP_RET_HDRS,
		.envid = { "x", 1 } } },
};

#define ADDRESS_490 X100 X100 X100 X100 X50 X10 X10 X10 X10

static const struct parameter_case rcpt_cases[] = {
	{ "", "" },
	{ "NOTIFY=NEVER", "", .rcpt.notify = SMTP_NOTIFY_NEVER },
	{ "NOTIFY=SUCCESS", "", .rcpt.notify = SMTP_NOTIFY_SUCCESS },
	{ "notify=failure,Delay,SUCCESS", "", .rcpt.notify = 14 },
	{ "NOTIFY=NEVER,SUCCESS", BAD },
	{ "NOTIFY=SUCCESS,NEVER", BAD },
	{ "NOTIFY=", BAD },
	{ "NOTIFY", BAD },
	{ "NOTIFY=,", BAD },
	{ "NOTIFY=SUCCESS,", BAD },
	{ "NOTIFY=,SUCCESS", BAD },
	{ "NOTIFY=SUCCESS,,DELAY", BAD },
	{ "NOTIFY=ALWAYS", BAD },
	{ "NOTIFY=DELAY NOTIFY=DELAY", BAD },
	{ "ORCPT=rfc822;a@b.test", "",
	    .rcpt.orcpt = { "rfc822;a@b.test", 15 } },
	{ "ORCPT=rfc822;a+2Bb@b.test", "",
	    .rcpt.orcpt = { "rfc822;a+2Bb@b.test", 19 } },
	{ "ORCPT=rfc822;" ADDRESS_490 "xxx", "",
	    .rcpt.orcpt = { "rfc822;" ADDRESS_490 "xxx", 500 } },
	{ "ORCPT=rfc822;" ADDRESS_490 "xxxx", BAD },
	{ "ORCPT=rfc822;", BAD },
	{ "ORCPT=;a", BAD },
	{ "ORCPT=a@b.test", BAD },
	{ "ORCPT=rfc 822;a", BAD },
	{ "ORCPT=r,c;a", BAD },
	{ "ORCPT=rfc822;a+0Ab", BAD },
	{ "ORCPT=rfc822;a+0Db", BAD },
	{ "ORCPT=rfc822;a+00b", BAD },
	{ "ORCPT=rfc822;a+GGb", BAD },
	{ "ORCPT=rfc822;\xc3\xa4@b.test", BAD },
	{ "ORCPT=utf-8;\\x{E4}@b.test", "",
	    .rcpt.orcpt = { "utf-8;\\x{E4}@b.test", 19 } },
	{ "SIZE=1", "555 5.5.4" },
	{ "XFOO=\"", "555 5.5.4" },
};

static void
check(const struct parameter_case *c, bool is_mail, struct arena *arena)
{
	struct buf argument = BUF_EMPTY;
	buf_printf(
	    &argument, "%s:<a@b.test> %s", is_mail ? "FROM" : "TO", c->list);
	struct smtp_mail mail = { 0 };
	struct smtp_rcpt rcpt = { 0 };
	struct reply fault = { 0 };
	int r = is_mail ? command_parse_mail(
			      buf_span(&argument), 0, arena, &mail, &fault)
			: command_parse_rcpt(
			      buf_span(&argument), 0, arena, &rcpt, &fault);
	struct span answer = r < 0 ? reply_format(&fault, arena) : SPAN_EMPTY;
	if ((r < 0) != (c->answer[0] != '\0') ||
	    !span_starts(answer, span_of(c->answer)))
		fail_msg("%s: \"%.*s\"", c->list, SPAN_ARG(answer));
	/* What is kept must not look into the line. */
	memset(argument.ptr, '!', argument.len);
	assert_true(mail.size == c->mail.size);
	assert_int_equal(mail.body, c->mail.body);
	assert_int_equal(mail.utf8, c->mail.utf8);
	assert_int_equal(mail.requiretls, c->mail.requiretls);
	assert_int_equal(mail.ret, c->mail.ret);
	assert_true(span_eq(mail.envid, c->mail.envid));
	assert_int_equal(rcpt.notify, c->rcpt.notify);
	assert_true(span_eq(rcpt.orcpt, c->rcpt.orcpt));
	buf_done(&argument);
}

static void
test_mail(void **state)
{
	(void)state;
	struct arena *arena = arena_new();
	for (size_t i = 0; i < COUNT(mail_cases); i++)
		check(&mail_cases[i], true, arena);
	arena_free(&arena);
}

static void
test_rcpt(void **state)
{
	(void)state;
	struct arena *arena = arena_new();
	for (size_t i = 0; i < COUNT(rcpt_cases); i++)
		check(&rcpt_cases[i], false, arena);
	arena_free(&arena);
}

/* RFC 6533 §3: with SMTPUTF8 the address may come raw; it is kept in ASCII. */
static void
test_orcpt_utf8(void **state)
{
	(void)state;

	static const struct {
		const char *list, *orcpt; /* NULL: refused */
	} cases[] = {
		{ "ORCPT=utf-8;\xc3\xa4@b.test", "utf-8;\\x{E4}@b.test" },
		{ "ORCPT=UTF-8;\xe2\x82\xac\xf0\x9f\x93\xac@b",
		    "UTF-8;\\x{20AC}\\x{1F4EC}@b" },
		{ "ORCPT=rfc822;\xc3\xa4@b.test", NULL },
		{ "ORCPT=utf-8;\xc3@b.test", NULL },
		{ "ORCPT=utf-8;\xc2\x85@b.test", NULL },
		{ "ORCPT=utf-8;\xc3\xa4+0A@b.test", NULL },
	};
	struct arena *arena = arena_new();
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct buf argument = BUF_EMPTY;
		buf_printf(&argument, "TO:<a@b.test> %s", cases[i].list);
		struct smtp_rcpt rcpt = { 0 };
		struct reply fault = { 0 };
		int r = command_parse_rcpt(buf_span(&argument),
		    ADDRESS_ALLOW_UTF8, arena, &rcpt, &fault);
		assert_int_equal(r == 0, cases[i].orcpt != NULL);
		if (r == 0 && !span_eq(rcpt.orcpt, span_of(cases[i].orcpt)))
			fail_msg("\"%.*s\"", SPAN_ARG(rcpt.orcpt));
		buf_done(&argument);
	}
	arena_free(&arena);
}

/* The reply names the parameter, never more than a bit of it. */
static void
test_unknown_name(void **state)
{
	(void)state;
	struct arena *arena = arena_new();
	struct smtp_mail mail;
	struct reply fault = { 0 };
	assert_true(command_parse_mail(SPAN("FROM:<> X" X100 "=1"), 0, arena,
			&mail, &fault) < 0);
	assert_true(span_starts(fault.text, SPAN("unknown parameter Xxxx")));
	assert_true(fault.text.len < 64);
	arena_free(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mail),
		cmocka_unit_test(test_rcpt),
		cmocka_unit_test(test_orcpt_utf8),
		cmocka_unit_test(test_unknown_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
