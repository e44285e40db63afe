/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "smtp/client.h"
#include "smtp/offers.h"
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* clang-format on */

static struct offers
parse(const char *text)
{
	struct offers o;
	offers_parse(span_of(text), &o);
	return o;
}

static void
test_keywords(void **state)
{
	(void)state;

	static const struct {
		const char *text;
		int flags;
	} cases[] = {
		{ "", 0 },
		{ "PIPELINING", 0 }, /* that is the greeting */
		{ "mx\nPIPELINING", SMTP_OFFER_PIPELINING },
		{ "mx\npipelining\n8bitMIME",
		    SMTP_OFFER_PIPELINING | SMTP_OFFER_8BITMIME },
		{ "mx\nSMTPUTF8\nCHUNKING\nBINARYMIME",
		    SMTP_OFFER_SMTPUTF8 | SMTP_OFFER_CHUNKING |
			SMTP_OFFER_BINARYMIME },
		{ "mx\nDSN\nSTARTTLS\nENHANCEDSTATUSCODES\nREQUIRETLS",
		    SMTP_OFFER_DSN | SMTP_OFFER_STARTTLS | SMTP_OFFER_ENHANCED |
			SMTP_OFFER_REQUIRETLS },
		{ "mx\nXPIPELINING\nPIPELINING2\nPIPE\nHELP\n\n ", 0 },
		{ "mx\n  DSN  ", SMTP_OFFER_DSN },
		{ "mx\nDSN now", SMTP_OFFER_DSN },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(parse(cases[i].text).flags, cases[i].flags);
}

static void
test_size(void **state)
{
	(void)state;
	assert_true(parse("mx\nSIZE 1000").size_max == 1000);
	assert_int_equal(parse("mx\nSIZE").flags, SMTP_OFFER_SIZE);
	assert_true(parse("mx\nSIZE").size_max == 0);
	assert_true(parse("mx\nSIZE 0").size_max == 0);
	assert_true(parse("mx\nSIZE -1").size_max == 0);
	assert_true(parse("mx\nSIZE 10M").size_max == 0);
	assert_true(parse("mx\nSIZE=77").size_max == 77);
	assert_true(
	    parse("mx\nSIZE 18446744073709551615").size_max == UINT64_MAX);
	assert_true(parse("mx\nSIZE 18446744073709551616").size_max == 0);
}

static void
test_limits(void **state)
{
	(void)state;
	struct offers o =
	    parse("mx\nLIMITS RCPTMAX=20 mailmax=5 RCPTDOMAINMAX=1");
	assert_int_equal(o.rcpt_max, 20);
	assert_int_equal(o.mail_max, 5);
	o = parse("mx\nLIMITS RCPTMAX=0 MAILMAX=-1");
	assert_int_equal(o.rcpt_max, 0);
	assert_int_equal(o.mail_max, 0);
	o = parse("mx\nLIMITS RCPTMAX=1000000 MAILMAX= =3 RCPTMAX");
	assert_int_equal(o.rcpt_max, 0);
	assert_int_equal(o.mail_max, 0);
	assert_int_equal(parse("mx\nLIMITS").rcpt_max, 0);
}

static void
test_auth(void **state)
{
	(void)state;
	struct offers o =
	    parse("mx\nAUTH PLAIN  login\nAUTH=CRAM-MD5 X\nauth SCRAM-SHA-256");
	assert_int_equal(o.flags, SMTP_OFFER_AUTH);
	assert_true(offers_has_mechanism(&o, SPAN("PLAIN")));
	assert_true(offers_has_mechanism(&o, SPAN("LOGIN")));
	assert_true(offers_has_mechanism(&o, SPAN("CRAM-MD5")));
	assert_true(offers_has_mechanism(&o, SPAN("SCRAM-SHA-256")));
	assert_false(offers_has_mechanism(&o, SPAN("SCRAM-SHA-256-PLUS")));
	assert_false(offers_has_mechanism(&o, SPAN("SCRAM-SHA")));
	assert_false(offers_has_mechanism(&o, SPAN("PLAIN login")));
	assert_false(offers_has_mechanism(&o, SPAN("")));
}

/* More mechanisms than anyone has: what does not fit is dropped whole. */
static void
test_auth_is_bounded(void **state)
{
	(void)state;
	struct buf text = BUF_EMPTY;
	buf_append_str(&text, "mx\nAUTH");
	while (buf_size(&text) < 1900)
		buf_append_str(&text, " MECHANISM");
	buf_append_str(&text, " PLAIN");
	struct offers o;
	offers_parse(buf_span(&text), &o);
	buf_done(&text);
	assert_true(o.auth_len <= sizeof(o.auth));
	assert_true(offers_has_mechanism(&o, SPAN("MECHANISM")));
	assert_false(offers_has_mechanism(&o, SPAN("PLAIN")));
	assert_false(offers_has_mechanism(&o, SPAN("MECH")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keywords),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_auth),
		cmocka_unit_test(test_auth_is_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
