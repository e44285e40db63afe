/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/envelope.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* clang-format on */

#define ALL 0xfff
#define S(text)                                                                \
	{                                                                      \
		(text), sizeof(text) - 1                                       \
	}

static void
test_mail(void **state)
{
	(void)state;

	/* clang-format off */
	static const struct {
		struct smtp_client_transaction t;
		int flags;
		const char *expected;
	} cases[] = {
		{ { .sender = S("a@x") }, 0, "MAIL FROM:<a@x>\r\n" },
		{ { .sender = S("") }, ALL, "MAIL FROM:<> SIZE=0\r\n" },
		{ { .sender = S("a@x"), .size = UINT64_C(5000000000) }, ALL, "MAIL FROM:<a@x> SIZE=5000000000\r\n" },
		{ { .sender = S("a@x"), .size = 1, .ret = SMTP_RET_HDRS, .envid = S("q+2B1") }, SMTP_OFFER_SIZE,
			"MAIL FROM:<a@x> SIZE=1\r\n" },
		{ { .sender = S("a@x"), .ret = SMTP_RET_HDRS, .envid = S("q+2B1") }, SMTP_OFFER_DSN,
			"MAIL FROM:<a@x> RET=HDRS ENVID=q+2B1\r\n" },
		{ { .sender = S("a@x"), .ret = SMTP_RET_FULL }, SMTP_OFFER_DSN, "MAIL FROM:<a@x> RET=FULL\r\n" },
		{ { .sender = S("a@x"), .body = SMTP_BODY_8BITMIME }, SMTP_OFFER_8BITMIME, "MAIL FROM:<a@x> BODY=8BITMIME\r\n" },
		{ { .sender = S("a@x"), .body = SMTP_BODY_BINARYMIME }, ALL, "MAIL FROM:<a@x> SIZE=0 BODY=BINARYMIME\r\n" },
		{ { .sender = S("a@x"), .requiretls = true, .proven = true }, SMTP_OFFER_REQUIRETLS, "MAIL FROM:<a@x> REQUIRETLS\r\n" },
		{ { .sender = S("a@x"), .utf8 = true }, SMTP_OFFER_SMTPUTF8, "MAIL FROM:<a@x> SMTPUTF8\r\n" },
		{ { .sender = S("\xc3\xbc@x") }, SMTP_OFFER_SMTPUTF8, "MAIL FROM:<\xc3\xbc@x> SMTPUTF8\r\n" },
	};

	/* clang-format on */
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct offers o = { .flags = cases[i].flags };
		struct buf out = BUF_EMPTY;
		struct reply r;
		assert_true(envelope_allows(&cases[i].t, &o, &r));
		envelope_append_mail(&cases[i].t, &o, &out);
		assert_string_equal(buf_cstring(&out), cases[i].expected);
		buf_done(&out);
	}
}

/* One recipient's address is enough to need the keyword. */
static void
test_utf8_recipient(void **state)
{
	(void)state;
	static const struct smtp_client_rcpt rcpts[] = {
		{ .address = S("a@y") }, { .address = S("\xc3\xbc@y") }
	};
	struct smtp_client_transaction t = {
		.sender = S("a@x"), .rcpts = rcpts, .rcpt_count = 2
	};
	struct offers o = { .flags = SMTP_OFFER_SMTPUTF8 };
	struct buf out = BUF_EMPTY;
	envelope_append_mail(&t, &o, &out);
	assert_string_equal(buf_cstring(&out), "MAIL FROM:<a@x> SMTPUTF8\r\n");
	buf_clear(&out);
	t.rcpt_count = 1;
	envelope_append_mail(&t, &o, &out);
	assert_string_equal(buf_cstring(&out), "MAIL FROM:<a@x>\r\n");
	buf_done(&out);
}

static void
test_rcpt(void **state)
{
	(void)state;

	/* clang-format off */
	static const struct {
		struct smtp_client_rcpt r;
		int flags;
		const char *expected;
	} cases[] = {
		{ { S("b@y"), SMTP_NOTIFY_NEVER, S("rfc822;b@y") }, 0, "RCPT TO:<b@y>\r\n" },
		{ { S("b@y"), 0, S("") }, ALL, "RCPT TO:<b@y>\r\n" },
		{ { S("b@y"), SMTP_NOTIFY_NEVER, S("") }, ALL, "RCPT TO:<b@y> NOTIFY=NEVER\r\n" },
		{ { S("b@y"), SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_FAILURE | SMTP_NOTIFY_DELAY, S("") }, ALL,
			"RCPT TO:<b@y> NOTIFY=SUCCESS,FAILURE,DELAY\r\n" },
		{ { S("b@y"), SMTP_NOTIFY_DELAY, S("rfc822;b+2Bc@y") }, ALL,
			"RCPT TO:<b@y> NOTIFY=DELAY ORCPT=rfc822;b+2Bc@y\r\n" },
		{ { S("b@y"), 0, S("utf-8;\xc3\xbc@y") }, SMTP_OFFER_DSN, "RCPT TO:<b@y>\r\n" },
		{ { S("b@y"), 0, S("utf-8;\xc3\xbc@y") }, ALL, "RCPT TO:<b@y> ORCPT=utf-8;\xc3\xbc@y\r\n" },
		{ { S("\"a b>\\\"c\"@y"), 0, S("") }, 0, "RCPT TO:<\"a b>\\\"c\"@y>\r\n" },
		{ { S("b@[192.0.2.1]"), 0, S("") }, 0, "RCPT TO:<b@[192.0.2.1]>\r\n" },
	};

	/* clang-format on */
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct offers o = { .flags = cases[i].flags };
		struct buf out = BUF_EMPTY;
		struct reply r;
		assert_true(envelope_allows_rcpt(&cases[i].r, &o, &r));
		envelope_append_rcpt(&cases[i].r, &o, &out);
		assert_string_equal(buf_cstring(&out), cases[i].expected);
		buf_done(&out);
	}
}

static const struct span harmful[] = { S("a@x\r\nRSET"), S("a@x\n"), S("a@x\r"),
	S("a\0b@x"), S("a\x7f@x"), S("a b@x"), S("a@x> BODY=8BITMIME"),
	S("<a@x"), S("\"a@x"), S("\"a\\\"@x"), S("\"a\\\r\n\"@x"),
	S("\"a\nb\"@x"), S("a@x\t") };

static void
test_harmful_addresses(void **state)
{
	(void)state;
	struct offers o = { .flags = ALL };
	for (size_t i = 0; i < sizeof(harmful) / sizeof(harmful[0]); i++) {
		struct smtp_client_transaction t = { .sender = harmful[i] };
		struct smtp_client_rcpt rcpt = { .address = harmful[i] };
		struct reply r;
		assert_false(envelope_allows(&t, &o, &r));
		assert_true(r.enhanced.subject == 1 && r.enhanced.detail == 7);
		assert_false(envelope_allows_rcpt(&rcpt, &o, &r));
		assert_true(r.enhanced.subject == 1 && r.enhanced.detail == 3);
	}
	char endless[600];
	memset(endless, 'a', sizeof(endless));
	struct smtp_client_rcpt rcpt = { .address = {
					     endless, sizeof(endless) } };
	struct reply r;
	assert_false(envelope_allows_rcpt(&rcpt, &o, &r));
	rcpt.address = SPAN_EMPTY;
	assert_false(envelope_allows_rcpt(&rcpt, &o, &r));
}

static void
test_harmful_parameters(void **state)
{
	(void)state;
	static const struct span values[] = { S("x\r\nRSET"), S("x y"),
		S("x\0y"), S("\n") };
	struct offers with = { .flags = ALL }, without = { .flags = 0 };
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		struct smtp_client_transaction t = { .sender = S("a@x"),
			.envid = values[i] };
		struct smtp_client_rcpt rcpt = { .address = S("b@y"),
			.orcpt = values[i] };
		struct reply r;
		assert_false(envelope_allows(&t, &with, &r));
		assert_true(r.enhanced.subject == 6 && r.enhanced.detail == 0);
		assert_false(envelope_allows_rcpt(&rcpt, &with, &r));
		/* Where it is not sent it does no harm. */
		assert_true(envelope_allows(&t, &without, &r));
		assert_true(envelope_allows_rcpt(&rcpt, &without, &r));
	}
}

static void
test_what_offers_forbid(void **state)
{
	(void)state;

	/* clang-format off */
	static const struct {
		struct smtp_client_transaction t;
		struct offers o;
		uint16_t code, subject, detail; /* code 0: allowed */
	} cases[] = {
		{ { .size = 1000 }, { .flags = SMTP_OFFER_SIZE, .size_max = 1000 }, 0, 0, 0 },
		{ { .size = 1001 }, { .flags = SMTP_OFFER_SIZE, .size_max = 1000 }, 552, 3, 4 },
		{ { .size = 1001 }, { .flags = SMTP_OFFER_SIZE, .size_max = 0 }, 0, 0, 0 },
		{ { .body = SMTP_BODY_8BITMIME }, { .flags = 0 }, 554, 6, 3 },
		{ { .body = SMTP_BODY_8BITMIME }, { .flags = SMTP_OFFER_8BITMIME }, 0, 0, 0 },
		{ { .body = SMTP_BODY_BINARYMIME }, { .flags = SMTP_OFFER_BINARYMIME }, 554, 6, 3 },
		{ { .body = SMTP_BODY_BINARYMIME }, { .flags = SMTP_OFFER_BINARYMIME | SMTP_OFFER_CHUNKING }, 0, 0, 0 },
		{ { .utf8 = true }, { .flags = 0 }, 553, 6, 7 },
		{ { .utf8 = true }, { .flags = SMTP_OFFER_SMTPUTF8 }, 0, 0, 0 },
		{ { .sender = S("\xc3\xbc@x") }, { .flags = 0 }, 553, 6, 7 },
		{ { .requiretls = true, .proven = true }, { .flags = SMTP_OFFER_REQUIRETLS }, 0, 0, 0 },
		{ { .requiretls = true, .proven = true }, { .flags = 0 }, 550, 7, 30 },
		{ { .requiretls = true }, { .flags = SMTP_OFFER_REQUIRETLS }, 550, 7, 30 },
	};

	/* clang-format on */
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct reply r = { 0 };
		bool allowed = envelope_allows(&cases[i].t, &cases[i].o, &r);
		assert_int_equal(allowed, cases[i].code == 0);
		assert_int_equal(r.code, cases[i].code);
		assert_int_equal(r.enhanced.subject, cases[i].subject);
		assert_int_equal(r.enhanced.detail, cases[i].detail);
	}
}

static void
test_word(void **state)
{
	(void)state;
	assert_true(envelope_is_word(SPAN("relay.example.com")));
	assert_true(envelope_is_word(SPAN("[192.0.2.1]")));
	assert_false(envelope_is_word(SPAN_EMPTY));
	assert_false(envelope_is_word(SPAN("a b")));
	assert_false(envelope_is_word(SPAN("a\r\n")));
	static char large[12289];
	memset(large, 'a', sizeof(large));
	assert_true(envelope_is_word(span_from(large, 12288)));
	assert_false(envelope_is_word(span_from(large, 12289)));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mail),
		cmocka_unit_test(test_utf8_recipient),
		cmocka_unit_test(test_rcpt),
		cmocka_unit_test(test_harmful_addresses),
		cmocka_unit_test(test_harmful_parameters),
		cmocka_unit_test(test_what_offers_forbid),
		cmocka_unit_test(test_word),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
