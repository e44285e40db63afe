/* SPDX-License-Identifier: Apache-2.0 */
#include "client_play.h"

#define HOST SPAN("relay.example.com")
#define EHLO "EHLO relay.example.com"
#define HELO "HELO relay.example.com"
#define LHLO "LHLO relay.example.com"
#define ANY                                                                    \
	{                                                                      \
		.lmtp = false                                                  \
	}
#define C3                                                                     \
	{ "eA==", "334 a\r\n" }, { "eA==", "334 a\r\n" },                      \
	{                                                                      \
		"eA==", "334 a\r\n"                                            \
	}
#define BYE                                                                    \
	{                                                                      \
		"QUIT", "221 bye\r\n"                                          \
	}
#define OPPORTUNISTIC .tls = SMTP_CLIENT_TLS_OPPORTUNISTIC
#define REQUIRE .tls = SMTP_CLIENT_TLS_REQUIRE
#define MECHANISMS                                                             \
	.auth = true, .auth_mechanisms =                                       \
			  SPAN("SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN")
#define NO_MECHANISM                                                           \
	"closed ehlo 454 4.7.0 we are to authenticate, but the server offers " \
	"no mechanism that we can use on this connection local\n"

struct scene {
	const char *name;
	struct smtp_client_options options;
	const char *expected;
	struct play_row rows[15];
	struct span initial, answer;
};

/* clang-format off */
static const struct scene scenes[] = {
{ "plain", ANY,
	"ready\nclosed quit\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250 mx\r\n" }, BYE } },
{ "banner of several lines", ANY,
	"ready\nclosed quit\n",
	{ { "CONNECT", "220-mx\r\n220-no spam\n220 please\r\n" },
	  { EHLO, "250-mx\r\n250-SIZE 1000\r\n250 PIPELINING\r\n" }, BYE } },
{ "banner says not now", ANY,
	"closed banner 450 4.3.2 later\n",
	{ { "CONNECT", "450 4.3.2 later\r\n" } } },
{ "banner says never", ANY,
	"closed banner 554 5.7.1 listed\n",
	{ { "CONNECT", "554 5.7.1 listed\r\n" } } },
{ "banner says 421", ANY,
	"closed banner 421 4.3.2 too busy\n",
	{ { "CONNECT", "421 4.3.2 too busy\r\n" } } },
{ "banner asks for more", ANY,
	"closed banner 451 4.5.0 the server broke the protocol (at banner): 354 go local\n",
	{ { "CONNECT", "354 go\r\n" } } },
{ "banner of another protocol", ANY,
	"closed banner 451 4.5.0 the server broke the protocol (at banner): no reply code in the line local\n",
	{ { "CONNECT", "SSH-2.0-OpenSSH\r\n" } } },
{ "banner never comes", ANY,
	"closed banner 421 4.4.2 the session broke (at banner): gone local\n",
	{ { "CONNECT", CLOSE } } },
{ "EHLO unknown", ANY,
	"ready\nclosed quit\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "502 what?\r\n" },
	  { HELO, "250 mx\r\n" }, BYE } },
{ "EHLO and HELO unknown", ANY,
	"closed helo 500 what?\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "500 what?\r\n" },
	  { HELO, "500 what?\r\n" } } },
{ "HELO asks for more", ANY,
	"closed helo 451 4.5.0 the server broke the protocol (at helo): 354 go local\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "500 what?\r\n" },
	  { HELO, "354 go\r\n" } } },
{ "EHLO not now", ANY,
	"closed ehlo 450 wait\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "450 wait\r\n" } } },
{ "EHLO asks for more", ANY,
	"closed ehlo 451 4.5.0 the server broke the protocol (at ehlo): 334 hm local\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "334 hm\r\n" } } },
{ "EHLO with two codes", ANY,
	"closed ehlo 451 4.5.0 the server broke the protocol (at ehlo): reply code changes between lines local\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n550 no\r\n" } } },
{ "LHLO has no HELO", { .lmtp = true },
	"closed ehlo 500 what?\n",
	{ { "CONNECT", "220 mx\r\n" }, { LHLO, "500 what?\r\n" } } },
{ "LHLO", { .lmtp = true },
	"ready\nclosed quit\n",
	{ { "CONNECT", "220 mx\r\n" }, { LHLO, "250 mx\r\n" }, BYE } },
{ "EHLO refused, TLS required", { REQUIRE },
	"closed ehlo 454 4.7.10 TLS is required, but the server refuses EHLO local\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "502 what?\r\n" } } },
{ "EHLO refused, AUTH needed", { MECHANISMS },
	"closed ehlo 454 4.7.0 we are to authenticate, but the server refuses EHLO local\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "502 what?\r\n" } } },

{ "TLS", { OPPORTUNISTIC },
	"starttls\nready\nclosed quit\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 STARTTLS\r\n" },
	  { "STARTTLS", "220 go\r\n" }, { "TLS", "ok" },
	  { EHLO, "250 mx\r\n" }, BYE } },
{ "TLS offered again is not taken again", { REQUIRE },
	"starttls\nready\nclosed quit\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 StartTLS\r\n" },
	  { "STARTTLS", "220 go\r\n" }, { "TLS", "ok" },
	  { EHLO, "250-mx\r\n250 STARTTLS\r\n" }, BYE } },
{ "TLS not wanted", ANY,
	"ready\nclosed quit\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 STARTTLS\r\n" }, BYE } },
{ "TLS from the first byte", { REQUIRE, .secured = true },
	"ready\nclosed quit\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 STARTTLS\r\n" }, BYE } },
{ "replies injected behind the 220", { REQUIRE },
	"starttls\nclosed ehlo 450 the true reply\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 STARTTLS\r\n" },
	  { "STARTTLS", "220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n" }, { "TLS", "ok" },
	  { EHLO, "450 the true reply\r\n" } } },
{ "STARTTLS not offered, wanted", { OPPORTUNISTIC },
	"ready\nclosed quit\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250 mx\r\n" }, BYE } },
{ "STARTTLS not offered, required", { REQUIRE },
	"closed ehlo 454 4.7.10 TLS is required, but the server does not offer STARTTLS local\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250 mx\r\n" } } },
{ "STARTTLS then 454, wanted", { OPPORTUNISTIC },
	"ready\nclosed quit\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 STARTTLS\r\n" },
	  { "STARTTLS", "454 4.7.0 no key\r\n" }, BYE } },
{ "STARTTLS then 554, wanted", { OPPORTUNISTIC },
	"ready\nclosed quit\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 STARTTLS\r\n" },
	  { "STARTTLS", "554 no\r\n" }, BYE } },
{ "STARTTLS then 250, wanted", { OPPORTUNISTIC },
	"ready\nclosed quit\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 STARTTLS\r\n" },
	  { "STARTTLS", "250 ok\r\n" }, BYE } },
{ "STARTTLS then 454, required", { REQUIRE },
	"closed starttls 454 4.7.10 TLS is required, but the server refuses STARTTLS: 454 4.7.0 no key local\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 STARTTLS\r\n" },
	  { "STARTTLS", "454 4.7.0 no key\r\n" } } },
{ "STARTTLS then 5xx, required", { REQUIRE },
	"closed starttls 454 4.7.10 TLS is required, but the server refuses STARTTLS: 502 no local\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 STARTTLS\r\n" },
	  { "STARTTLS", "502 no\r\n" } } },
{ "STARTTLS then garbage", { OPPORTUNISTIC },
	"closed starttls 451 4.5.0 the server broke the protocol (at starttls): no reply code in the line local\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 STARTTLS\r\n" },
	  { "STARTTLS", "\x16\x03\x01 garbage\r\n" } } },
{ "STARTTLS then 354", { OPPORTUNISTIC },
	"closed starttls 451 4.5.0 the server broke the protocol (at starttls): 354 go local\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 STARTTLS\r\n" },
	  { "STARTTLS", "354 go\r\n" } } },
{ "STARTTLS then 421", { OPPORTUNISTIC },
	"closed starttls 421 bye\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 STARTTLS\r\n" },
	  { "STARTTLS", "421 bye\r\n" } } },
{ "offers in clear text do not survive TLS", { REQUIRE, MECHANISMS },
	"starttls\n" NO_MECHANISM,
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n" },
	  { "STARTTLS", "220 go\r\n" }, { "TLS", "ok" }, { EHLO, "250 mx\r\n" } } },

{ "AUTH PLAIN in one line", { MECHANISMS },
	"auth PLAIN\nready\nclosed quit\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 AUTH LOGIN PLAIN\r\n" },
	  { "AUTH PLAIN AGEAYg==", "235 2.7.0 hello\r\n" }, BYE },
	SPAN("AGEAYg=="), SPAN("") },
{ "AUTH of the old form", { MECHANISMS },
	"auth LOGIN\nchallenge VXNlcm5hbWU6\nchallenge UGFzc3dvcmQ6\nready\nclosed quit\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 auth=login\r\n" },
	  { "AUTH LOGIN", "334 VXNlcm5hbWU6\r\n" }, { "eA==", "334 UGFzc3dvcmQ6\r\n" },
	  { "eA==", "235 hello\r\n" }, BYE },
	SPAN(""), SPAN("eA==") },
{ "PLUS needs a channel", { MECHANISMS },
	"auth SCRAM-SHA-256\nready\nclosed quit\n",
	{ { "CONNECT", "220 mx\r\n" },
	  { EHLO, "250-mx\r\n250 AUTH PLAIN SCRAM-SHA-256-PLUS SCRAM-SHA-256\r\n" },
	  { "AUTH SCRAM-SHA-256 eA==", "235 hello\r\n" }, BYE },
	SPAN("eA=="), SPAN("") },
{ "PLUS with a channel", { MECHANISMS, .secured = true },
	"auth SCRAM-SHA-256-PLUS\nready\nclosed quit\n",
	{ { "CONNECT", "220 mx\r\n" },
	  { EHLO, "250-mx\r\n250 AUTH PLAIN SCRAM-SHA-256-PLUS SCRAM-SHA-256\r\n" },
	  { "AUTH SCRAM-SHA-256-PLUS eA==", "235 hello\r\n" }, BYE },
	SPAN("eA=="), SPAN("") },
{ "no password in clear text when TLS was wanted", { OPPORTUNISTIC, MECHANISMS },
	NO_MECHANISM,
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 AUTH PLAIN LOGIN\r\n" } } },
{ "no mechanism in common", { MECHANISMS },
	NO_MECHANISM,
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 AUTH GSSAPI XPLAIN\r\n" } } },
{ "AUTH not offered", { MECHANISMS },
	NO_MECHANISM,
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250 mx\r\n" } } },
{ "AUTH offered, not ours to use", ANY,
	"ready\nclosed quit\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 AUTH PLAIN\r\n" }, BYE } },
{ "wrong password", { MECHANISMS },
	"auth PLAIN\nclosed auth 535 5.7.8 no\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 AUTH PLAIN\r\n" },
	  { "AUTH PLAIN eA==", "535 5.7.8 no\r\n" } }, SPAN("eA=="), SPAN("") },
{ "AUTH not now", { MECHANISMS },
	"auth PLAIN\nclosed auth 454 4.7.0 later\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 AUTH PLAIN\r\n" },
	  { "AUTH PLAIN eA==", "454 4.7.0 later\r\n" } }, SPAN("eA=="), SPAN("") },
{ "AUTH then close", { MECHANISMS },
	"auth PLAIN\nclosed auth 421 4.4.2 the session broke (at auth): gone local\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 AUTH PLAIN\r\n" },
	  { "AUTH PLAIN eA==", CLOSE } }, SPAN("eA=="), SPAN("") },
{ "we give up at the challenge", { MECHANISMS },
	"auth SCRAM-SHA-256\nchallenge cj0=\nclosed auth 454 4.7.0 we gave up authenticating to the server local\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 AUTH SCRAM-SHA-256\r\n" },
	  { "AUTH SCRAM-SHA-256", "334 cj0=\r\n" }, { "*", "501 ok\r\n" } },
	SPAN(""), SPAN("*") },
{ "we give up, the server does not", { MECHANISMS },
	"auth PLAIN\nchallenge \nclosed auth 454 4.7.0 we gave up authenticating to the server local\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 AUTH PLAIN\r\n" },
	  { "AUTH PLAIN", "334\r\n" }, { "*", "235 welcome\r\n" } },
	SPAN(""), SPAN("*") },
{ "we give up before we begin", { MECHANISMS },
	"auth PLAIN\nclosed auth 454 4.7.0 we gave up authenticating to the server local\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 AUTH PLAIN\r\n" } },
	SPAN("*"), SPAN("") },
{ "what cannot be sent is given up", { MECHANISMS },
	"auth PLAIN\nclosed auth 454 4.7.0 we gave up authenticating to the server local\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 AUTH PLAIN\r\n" } },
	SPAN("eA==\r\nRSET"), SPAN("") },
{ "challenges without end", { MECHANISMS },
	"auth LOGIN\nchallenge a\nchallenge a\nchallenge a\nchallenge a\nchallenge a\n"
	"challenge a\nchallenge a\nchallenge a\nchallenge a\nchallenge a\n"
	"closed auth 451 4.5.0 the server broke the protocol (at auth): 334 a local\n",
	{ { "CONNECT", "220 mx\r\n" }, { EHLO, "250-mx\r\n250 AUTH LOGIN\r\n" },
	  { "AUTH LOGIN", "334 a\r\n" }, C3, C3, C3, { "eA==", "334 a\r\n" } },
	SPAN(""), SPAN("eA==") },
};

/* clang-format on */

static void
test_scenes(void **state)
{
	(void)state;
	static const struct smtp_client_transaction *const none[] = { NULL };
	for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
		const struct scene *s = &scenes[i];
		struct play p = {
			.options = s->options,
			.transactions = none,
			.initial = s->initial,
			.answer = s->answer,
			.row = s->rows,
		};
		p.options.hostname = HOST;
		play_expect(&p, s->expected, s->name);
	}
}

/* A driver that forgets to drop what stood behind the 220 is covered; and the
 * offers of before TLS are gone even where EHLO is refused behind it. */
static void
test_nothing_in_clear_text_survives_tls(void **state)
{
	(void)state;
	struct smtp_client_options options = { .hostname = HOST,
		OPPORTUNISTIC };
	struct smtp_client *c = smtp_client_new(&options);
	struct smtp_client_event e;
	(void)smtp_client_feed(c, SPAN("220 mx\r\n"), &e);
	(void)smtp_client_feed(
	    c, SPAN("250-mx\r\n250-DSN\r\n250 STARTTLS\r\n"), &e);
	struct span in = SPAN("220 go\r\n250-evil\r\n250 CHUNKING\r\n55");
	assert_int_equal(smtp_client_feed(c, in, &e), in.len);
	assert_int_equal(e.type, SMTP_CLIENT_STARTTLS);
	in = SPAN("0 evil\r\n");
	assert_int_equal(smtp_client_feed(c, in, &e), in.len);
	assert_int_equal(e.type, SMTP_CLIENT_NONE);
	smtp_client_secured(c);
	assert_int_equal(smtp_client_offers(c), 0);
	assert_int_equal(smtp_client_step(c), SMTP_CLIENT_STEP_EHLO);
	(void)smtp_client_feed(c, SPAN("502 what?\r\n"), &e);
	(void)smtp_client_feed(c, SPAN("250 mx\r\n"), &e);
	assert_int_equal(e.type, SMTP_CLIENT_READY);
	assert_int_equal(smtp_client_offers(c), 0);
	smtp_client_free(&c);
}

/* RFC 4954 §4: an initial response that makes the line too long waits for the
 * empty challenge. */
static void
test_long_initial_response(void **state)
{
	(void)state;
	static const struct smtp_client_transaction *const none[] = { NULL };
	char initial[600];
	memset(initial, 'A', sizeof(initial));
	char sent[sizeof(initial) + 1] = { 0 };
	memcpy(sent, initial, sizeof(initial));
	const struct play_row rows[] = {
		{ "CONNECT", "220 mx\r\n" },
		{ EHLO, "250-mx\r\n250 AUTH PLAIN\r\n" },
		{ "AUTH PLAIN", "334 \r\n" },
		{ sent, "235 ok\r\n" },
		BYE,
		{ NULL, NULL },
	};
	struct play p = {
		.options = { .hostname = HOST, MECHANISMS },
		.transactions = none,
		.initial = span_from(initial, sizeof(initial)),
		.row = rows,
	};
	play_expect(&p, "auth PLAIN\nready\nclosed quit\n", "long initial");
}

/* The session breaks off with a QUIT where it can. */
static void
test_farewell(void **state)
{
	(void)state;
	struct smtp_client_options options = { .hostname = HOST };
	struct smtp_client *c = smtp_client_new(&options);
	struct smtp_client_event e;
	struct span in = SPAN("554 no\r\nmore");
	assert_int_equal(smtp_client_feed(c, in, &e), in.len);
	assert_int_equal(e.type, SMTP_CLIENT_CLOSED);
	assert_int_equal(e.reply->code, 554);
	assert_true(span_eq(smtp_client_output(c), SPAN("QUIT\r\n")));
	in = SPAN("220 never mind\r\n");
	assert_int_equal(smtp_client_feed(c, in, &e), in.len);
	assert_int_equal(e.type, SMTP_CLIENT_NONE);
	/* All of these are too late, and harmless. */
	smtp_client_quit(c);
	smtp_client_secured(c);
	smtp_client_auth_response(c, SPAN("eA=="));
	smtp_client_auth_cancel(c);
	smtp_client_body_sent(c);
	smtp_client_body_failed(c);
	smtp_client_broken(c, SPAN("late"));
	assert_int_equal(smtp_client_feed(c, SPAN_EMPTY, &e), 0);
	assert_int_equal(e.type, SMTP_CLIENT_NONE);
	smtp_client_free(&c);
	assert_null(c);
	smtp_client_free(&c);
}

static void
test_bad_host_name(void **state)
{
	(void)state;
	static const struct span names[] = { { "", 0 }, { "a b", 3 },
		{ "a\r\nRSET", 7 }, { "a\0b", 3 } };
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct smtp_client_options options = { .hostname = names[i] };
		struct smtp_client *c = smtp_client_new(&options);
		struct smtp_client_event e;
		(void)smtp_client_feed(c, SPAN_EMPTY, &e);
		assert_int_equal(e.type, SMTP_CLIENT_CLOSED);
		assert_int_equal(e.reply->code, 451);
		assert_true(e.local);
		assert_int_equal(smtp_client_output(c).len, 0);
		smtp_client_free(&c);
	}
}

static void
test_offers_are_told(void **state)
{
	(void)state;
	struct smtp_client_options options = { .hostname = HOST };
	struct smtp_client *c = smtp_client_new(&options);
	struct smtp_client_event e;
	(void)smtp_client_feed(c, SPAN("220 mx\r\n"), &e);
	assert_int_equal(smtp_client_offers(c), 0);
	(void)smtp_client_feed(c,
	    SPAN("250-mx\r\n250-DSN\r\n250-SIZE 5\r\n"
		 "250 LIMITS RCPTMAX=20 MAILMAX=3\r\n"),
	    &e);
	assert_int_equal(e.type, SMTP_CLIENT_READY);
	assert_int_equal(
	    smtp_client_offers(c), SMTP_OFFER_DSN | SMTP_OFFER_SIZE);
	assert_int_equal(smtp_client_rcpt_max(c), 20);
	assert_int_equal(smtp_client_mail_max(c), 3);
	assert_false(smtp_client_chunking_refused(c));
	smtp_client_free(&c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scenes),
		cmocka_unit_test(test_nothing_in_clear_text_survives_tls),
		cmocka_unit_test(test_long_initial_response),
		cmocka_unit_test(test_farewell),
		cmocka_unit_test(test_bad_host_name),
		cmocka_unit_test(test_offers_are_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
