/* SPDX-License-Identifier: Apache-2.0 */
#include "client_play.h"

#define HOST SPAN("relay.example.com")
#define BYE                                                                    \
	{                                                                      \
		"QUIT", "221 bye\r\n"                                          \
	}
#define START                                                                  \
	{                                                                      \
		"CONNECT", "220 mx\r\n"                                        \
	}
#define EHLO(lines)                                                            \
	{                                                                      \
		"EHLO relay.example.com", "250-mx\r\n" lines                   \
	}
#define LHLO(lines)                                                            \
	{                                                                      \
		"LHLO relay.example.com", "250-mx\r\n" lines                   \
	}
#define SERIAL EHLO("250 8BITMIME\r\n")
#define BURST EHLO("250-DSN\r\n250 PIPELINING\r\n")
#define CHUNKS EHLO("250-DSN\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
#define MAIL(say)                                                              \
	{                                                                      \
		"MAIL FROM:<a@x.example>", say                                 \
	}
#define RCPT(name, say)                                                        \
	{                                                                      \
		"RCPT TO:<" name "@y.example>", say                            \
	}
#define DATA                                                                   \
	{                                                                      \
		"DATA", "354 go\r\n"                                           \
	}
#define BDAT(say)                                                              \
	{                                                                      \
		"BDAT 30 LAST", say                                            \
	}
#define OK "250 2.0.0 ok\r\n"
#define CLOSED_IDLE "ready\nclosed quit\n"
#define BROKE(step) " 421 4.4.2 the session broke (at " step "): gone"
#define SENSELESS(step)                                                        \
	" 451 4.5.0 the server broke the protocol (at " step "): "

static const struct smtp_client_rcpt people[] = {
	{ .address = { "b@y.example", 11 } },
	{ .address = { "c@y.example", 11 } },
	{ .address = { "d@y.example", 11 } },
};

#define MESSAGE(n)                                                             \
	{                                                                      \
		.sender = { "a@x.example", 11 }, .size = PLAY_BODY_SIZE,       \
		.rcpts = people, .rcpt_count = (n),                            \
	}

static const struct smtp_client_transaction one = MESSAGE(1);
static const struct smtp_client_transaction two = MESSAGE(2);
static const struct smtp_client_transaction three = MESSAGE(3);

struct scene {
	const char *name;
	const struct smtp_client_transaction *messages[3];
	const char *expected;
	struct play_row rows[20];
	bool lmtp, body_fails;
	bool whole; /* what matters is what comes in one piece */
};

/* clang-format off */
static const struct scene scenes[] = {
{ "one by one", { &two },
	"ready\nbody dots\ndone\n0 delivered end 250 2.0.0 ok nodsn\n"
	"1 delivered end 250 2.0.0 ok nodsn\n" CLOSED_IDLE,
	{ START, SERIAL, MAIL(OK), RCPT("b", OK), RCPT("c", "251 fwd\r\n"), DATA, { ".", OK }, BYE } },
{ "in one burst", { &two },
	"ready\nbody dots\ndone\n0 delivered end 250 2.0.0 ok\n1 delivered end 250 2.0.0 ok\n" CLOSED_IDLE,
	{ START, BURST, MAIL(OK), RCPT("b", OK), RCPT("c", OK), DATA, { ".", OK }, BYE } },
{ "by BDAT", { &two },
	"ready\nbody chunk\ndone\n0 delivered end 250 2.0.0 ok\n1 delivered end 250 2.0.0 ok\n" CLOSED_IDLE,
	{ START, CHUNKS, MAIL(OK), RCPT("b", OK), RCPT("c", OK), BDAT(OK), BYE } },
{ "by BDAT one by one", { &one },
	"ready\nbody chunk\ndone\n0 delivered end 250 2.0.0 ok nodsn\n" CLOSED_IDLE,
	{ START, EHLO("250 CHUNKING\r\n"), MAIL(OK), RCPT("b", OK), BDAT(OK), BYE } },

{ "each recipient has his fate, serial", { &three },
	"ready\nbody dots\ndone\n0 delivered end 250 2.0.0 ok nodsn\n"
	"1 temporary rcpt 450 4.2.1 slow down\n2 permanent rcpt 550 5.1.1 unknown\n" CLOSED_IDLE,
	{ START, SERIAL, MAIL(OK), RCPT("b", OK), RCPT("c", "450 4.2.1 slow down\r\n"),
	  RCPT("d", "550 5.1.1 unknown\r\n"), DATA, { ".", OK }, BYE } },
{ "each recipient has his fate, burst", { &three },
	"ready\nbody dots\ndone\n0 permanent rcpt 550 5.1.1 unknown\n"
	"1 temporary rcpt 450 4.2.1 slow down\n2 delivered end 250 2.0.0 ok\n" CLOSED_IDLE,
	{ START, BURST, MAIL(OK), RCPT("b", "550 5.1.1 unknown\r\n"),
	  RCPT("c", "450 4.2.1 slow down\r\n"), RCPT("d", OK), DATA, { ".", OK }, BYE } },
{ "each recipient has his fate, BDAT", { &three },
	"ready\nbody chunk\ndone\n0 permanent rcpt 550 5.1.1 unknown\n"
	"1 permanent end 554 5.6.0 spam\n2 temporary rcpt 450 4.2.1 slow down\n" CLOSED_IDLE,
	{ START, CHUNKS, MAIL(OK), RCPT("b", "550 5.1.1 unknown\r\n"),
	  RCPT("c", OK), RCPT("d", "450 4.2.1 slow down\r\n"), BDAT("554 5.6.0 spam\r\n"), BYE } },
{ "552 is too many", { &two },
	"ready\ndone\n0 temporary rcpt 552 too many\n1 permanent rcpt 552 5.2.2 full\n" CLOSED_IDLE,
	{ START, SERIAL, MAIL(OK), RCPT("b", "552 too many\r\n"), RCPT("c", "552 5.2.2 full\r\n"), BYE } },

{ "nobody accepted, serial", { &two },
	"ready\ndone\n0 permanent rcpt 550 no\n1 permanent rcpt 550 no\n" CLOSED_IDLE,
	{ START, SERIAL, MAIL(OK), RCPT("b", "550 no\r\n"), RCPT("c", "550 no\r\n"), BYE } },
{ "nobody accepted, burst", { &two },
	"ready\ndone\n0 permanent rcpt 550 no\n1 temporary rcpt 450 no\n" CLOSED_IDLE,
	{ START, BURST, MAIL(OK), RCPT("b", "550 no\r\n"), RCPT("c", "450 no\r\n"),
	  { "DATA", "554 no valid recipients\r\n" }, BYE } },
{ "nobody accepted, yet 354", { &one },
	"ready\ndone\n0 permanent rcpt 550 no\n" CLOSED_IDLE,
	{ START, BURST, MAIL(OK), RCPT("b", "550 no\r\n"), DATA, { ".", "554 nobody\r\n" }, BYE } },
{ "nobody accepted, yet 354 and 250", { &one },
	"ready\ndone\n0 permanent rcpt 550 no\n" CLOSED_IDLE,
	{ START, BURST, MAIL(OK), RCPT("b", "550 no\r\n"), DATA, { ".", OK }, BYE } },
{ "nobody accepted, BDAT", { &two },
	"ready\nbody chunk\ndone\n0 permanent rcpt 550 no\n1 permanent rcpt 551 no\n" CLOSED_IDLE,
	{ START, CHUNKS, MAIL(OK), RCPT("b", "550 no\r\n"), RCPT("c", "551 no\r\n"),
	  BDAT("503 nobody\r\n"), BYE } },
{ "sender refused, serial", { &two },
	"ready\ndone\n0 permanent mail 553 5.1.8 no\n1 permanent mail 553 5.1.8 no\n" CLOSED_IDLE,
	{ START, SERIAL, MAIL("553 5.1.8 no\r\n"), BYE } },
{ "sender refused for now, burst", { &two },
	"ready\ndone\n0 temporary mail 451 grey\n1 temporary mail 451 grey\n" CLOSED_IDLE,
	{ START, BURST, MAIL("451 grey\r\n"), RCPT("b", "503 mail first\r\n"),
	  RCPT("c", "503 mail first\r\n"), { "DATA", "503 mail first\r\n" }, BYE } },
{ "sender refused, all else taken", { &two },
	"ready\ndone\n0 permanent mail 550 no\n1 permanent mail 550 no\n" CLOSED_IDLE,
	{ START, BURST, MAIL("550 no\r\n"), RCPT("b", OK), RCPT("c", OK), DATA, { ".", OK }, BYE } },
{ "sender refused, BDAT", { &one },
	"ready\nbody chunk\ndone\n0 permanent mail 550 no\n" CLOSED_IDLE,
	{ START, CHUNKS, MAIL("550 no\r\n"), RCPT("b", "503 no\r\n"), BDAT("503 no\r\n"), BYE } },

{ "DATA refused", { &two },
	"ready\ndone\n0 permanent rcpt 550 no\n1 temporary data 451 4.3.0 not now\n" CLOSED_IDLE,
	{ START, BURST, MAIL(OK), RCPT("b", "550 no\r\n"), RCPT("c", OK),
	  { "DATA", "451 4.3.0 not now\r\n" }, BYE } },
{ "the message refused", { &one },
	"ready\nbody dots\ndone\n0 permanent end 554 5.7.1 spam\n" CLOSED_IDLE,
	{ START, BURST, MAIL(OK), RCPT("b", OK), DATA, { ".", "554 5.7.1 spam\r\n" }, BYE } },
{ "the message put off", { &one },
	"ready\nbody dots\ndone\n0 temporary end 452 4.3.1 full\n" CLOSED_IDLE,
	{ START, BURST, MAIL(OK), RCPT("b", OK), DATA, { ".", "452 4.3.1 full\r\n" }, BYE } },
{ "354 and then 550 without reading", { &one },
	"ready\nbody dots\nabort 550 5.7.1 seen enough\ndone\n0 permanent body 550 5.7.1 seen enough\n"
	"closed body 550 5.7.1 seen enough\n",
	{ START, BURST, MAIL(OK), RCPT("b", OK), DATA, { "BODY", "550 5.7.1 seen enough\r\n" } } },
{ "421 in the middle of the body", { &one },
	"ready\nbody dots\nabort 421 bye\ndone\n0 temporary body 421 bye\nclosed body 421 bye\n",
	{ START, BURST, MAIL(OK), RCPT("b", OK), DATA, { "BODY", "421 bye\r\n" } } },
{ "250 in the middle of the body", { &one },
	"ready\nbody dots\nabort" SENSELESS("body") "250 2.0.0 ok\ndone\n"
	"0 temporary body" SENSELESS("body") "250 2.0.0 ok local\nclosed body" SENSELESS("body") "250 2.0.0 ok local\n",
	{ START, BURST, MAIL(OK), RCPT("b", OK), DATA, { "BODY", OK } } },
{ "552 in the middle of a chunk", { &one },
	"ready\nbody chunk\nabort 552 too big\ndone\n0 permanent body 552 too big\nclosed body 552 too big\n",
	{ START, EHLO("250-DSN\r\n250 CHUNKING\r\n"), MAIL(OK), RCPT("b", OK), { "BDAT 30 LAST", NULL }, { "BODY", "552 too big\r\n" } } },
{ "250 in the middle of a chunk", { &one },
	"ready\nbody chunk\nabort" SENSELESS("body") "250 2.0.0 ok\ndone\n"
	"0 temporary body" SENSELESS("body") "250 2.0.0 ok local\nclosed body" SENSELESS("body") "250 2.0.0 ok local\n",
	{ START, EHLO("250 CHUNKING\r\n"), MAIL(OK), RCPT("b", OK), { "BDAT 30 LAST", NULL }, { "BODY", OK } } },
{ "close in the middle of the body", { &one },
	"ready\nbody dots\ndone\n0 temporary body" BROKE("body") " local\nclosed body" BROKE("body") " local\n",
	{ START, BURST, MAIL(OK), RCPT("b", OK), DATA, { "BODY", CLOSE } } },
{ "the body cannot be read", { &one },
	"ready\nbody dots\ndone\n0 temporary body 451 4.3.0 the message could not be read from the queue local\n"
	"closed body 451 4.3.0 the message could not be read from the queue local\n",
	{ START, BURST, MAIL(OK), RCPT("b", OK), DATA }, .body_fails = true },
{ "the chunk cannot be read", { &one },
	"ready\nbody chunk\ndone\n0 temporary body 451 4.3.0 the message could not be read from the queue local\n"
	"closed body 451 4.3.0 the message could not be read from the queue local\n",
	{ START, EHLO("250 CHUNKING\r\n"), MAIL(OK), RCPT("b", OK) }, .body_fails = true },
{ "close after the final dot", { &two },
	"ready\nbody dots\ndone\n0 temporary end" BROKE("end") " unknown local\n"
	"1 permanent rcpt 550 no\nclosed end" BROKE("end") " local\n",
	{ START, BURST, MAIL(OK), RCPT("b", OK), RCPT("c", "550 no\r\n"), DATA, { ".", CLOSE } } },
{ "close after the chunk", { &one },
	"ready\nbody chunk\ndone\n0 temporary end" BROKE("end") " unknown local\nclosed end" BROKE("end") " local\n",
	{ START, CHUNKS, MAIL(OK), RCPT("b", OK), BDAT(CLOSE) } },
{ "close at the next message's MAIL", { &one, &one },
	"ready\nbody dots\ndone\n0 delivered end 250 2.0.0 ok\nready\ndone\n0 temporary mail" BROKE("mail") " local\nclosed mail" BROKE("mail") " local\n",
	{ START, BURST, MAIL(OK), RCPT("b", OK), DATA, { ".", OK }, MAIL(CLOSE), RCPT("b", NULL), { "DATA", NULL } } },
{ "354 after the final dot", { &one },
	"ready\nbody dots\ndone\n0 temporary end" SENSELESS("end") "354 more unknown local\nclosed end" SENSELESS("end") "354 more local\n",
	{ START, BURST, MAIL(OK), RCPT("b", OK), DATA, { ".", "354 more\r\n" } } },
{ "421 after the final dot", { &one },
	"ready\nbody dots\ndone\n0 temporary end 421 bye\nclosed end 421 bye\n",
	{ START, BURST, MAIL(OK), RCPT("b", OK), DATA, { ".", "421 bye\r\n" } } },
{ "421 to MAIL", { &two },
	"ready\ndone\n0 temporary mail 421 bye\n1 temporary mail 421 bye\nclosed mail 421 bye\n",
	{ START, SERIAL, MAIL("421 bye\r\n") } },
{ "421 to the second RCPT", { &three },
	"ready\ndone\n0 temporary rcpt 421 bye\n1 temporary rcpt 421 bye\n2 temporary rcpt 421 bye\nclosed rcpt 421 bye\n",
	{ START, SERIAL, MAIL(OK), RCPT("b", OK), RCPT("c", "421 bye\r\n") } },
{ "421 to DATA", { &two },
	"ready\ndone\n0 permanent rcpt 550 no\n1 temporary data 421 bye\nclosed data 421 bye\n",
	{ START, SERIAL, MAIL(OK), RCPT("b", "550 no\r\n"), RCPT("c", OK), { "DATA", "421 bye\r\n" } } },
{ "354 to MAIL", { &one },
	"ready\ndone\n0 temporary mail" SENSELESS("mail") "354 go local\nclosed mail" SENSELESS("mail") "354 go local\n",
	{ START, SERIAL, MAIL("354 go\r\n") } },
{ "354 to RCPT", { &one },
	"ready\ndone\n0 temporary rcpt" SENSELESS("rcpt") "354 go local\nclosed rcpt" SENSELESS("rcpt") "354 go local\n",
	{ START, SERIAL, MAIL(OK), RCPT("b", "354 go\r\n") } },
{ "250 to DATA", { &one },
	"ready\ndone\n0 temporary data" SENSELESS("data") "250 2.0.0 ok local\nclosed data" SENSELESS("data") "250 2.0.0 ok local\n",
	{ START, SERIAL, MAIL(OK), RCPT("b", OK), { "DATA", OK } } },
{ "BDAT unknown in the middle of a chunk", { &one },
	"ready\nbody chunk\nabort 500 what?\ndone\n0 temporary body 500 what?\nclosed body 500 what?\n",
	{ START, EHLO("250 CHUNKING\r\n"), MAIL(OK), RCPT("b", OK), { "BDAT 30 LAST", NULL }, { "BODY", "500 what?\r\n" } } },
{ "BDAT offered and unknown", { &one },
	"ready\nbody chunk\ndone\n0 temporary end 502 what?\nclosed end 502 what?\n",
	{ START, CHUNKS, MAIL(OK), RCPT("b", OK), BDAT("502 what?\r\n") } },

{ "two messages", { &one, &two },
	"ready\nbody dots\ndone\n0 delivered end 250 2.0.0 ok\n"
	"ready\nbody dots\ndone\n0 delivered end 250 2.0.0 ok\n1 delivered end 250 2.0.0 ok\n" CLOSED_IDLE,
	{ START, BURST, MAIL(OK), RCPT("b", OK), DATA, { ".", OK },
	  MAIL(OK), RCPT("b", OK), RCPT("c", OK), DATA, { ".", OK }, BYE } },
{ "a failed one is reset, serial", { &one, &one },
	"ready\ndone\n0 permanent rcpt 550 no\nready\nbody dots\ndone\n0 delivered end 250 2.0.0 ok nodsn\n" CLOSED_IDLE,
	{ START, SERIAL, MAIL(OK), RCPT("b", "550 no\r\n"), { "RSET", OK },
	  MAIL(OK), RCPT("b", OK), DATA, { ".", OK }, BYE } },
{ "a failed one is reset, burst", { &one, &one },
	"ready\ndone\n0 permanent data 554 no\nready\nbody dots\ndone\n0 delivered end 250 2.0.0 ok\n" CLOSED_IDLE,
	{ START, BURST, MAIL(OK), RCPT("b", OK), { "DATA", "554 no\r\n" }, { "RSET", OK },
	  MAIL(OK), RCPT("b", OK), DATA, { ".", OK }, BYE } },
{ "a failed BDAT is reset", { &one, &one },
	"ready\nbody chunk\ndone\n0 permanent end 554 no\nready\nbody chunk\ndone\n0 delivered end 250 2.0.0 ok\n" CLOSED_IDLE,
	{ START, CHUNKS, MAIL(OK), RCPT("b", OK), BDAT("554 no\r\n"), { "RSET", OK },
	  MAIL(OK), RCPT("b", OK), BDAT(OK), BYE } },
{ "a refused message needs no reset", { &one, &one },
	"ready\nbody dots\ndone\n0 permanent end 554 no\nready\nbody dots\ndone\n0 delivered end 250 2.0.0 ok\n" CLOSED_IDLE,
	{ START, BURST, MAIL(OK), RCPT("b", OK), DATA, { ".", "554 no\r\n" },
	  MAIL(OK), RCPT("b", OK), DATA, { ".", OK }, BYE } },
{ "RSET refused", { &one, &one },
	"ready\ndone\n0 permanent rcpt 550 no\nready\ndone\n0 temporary rset" SENSELESS("rset") "502 no local\nclosed rset" SENSELESS("rset") "502 no local\n",
	{ START, SERIAL, MAIL(OK), RCPT("b", "550 no\r\n"), { "RSET", "502 no\r\n" } } },
{ "more talk after the end", { &one, &one },
	"ready\nbody dots\ndone\n0 delivered end 250 2.0.0 ok\nclosed idle" SENSELESS("idle") "250 2.0.0 again local\n",
	{ START, BURST, MAIL(OK), RCPT("b", OK), DATA, { ".", OK "250 2.0.0 again\r\n" } }, .whole = true },
{ "421 while idle", { &one },
	"ready\nclosed idle 421 4.4.2 idle too long\n",
	{ START, BURST, { "IDLE", "421 4.4.2 idle too long\r\n" } } },
{ "close while idle", { &one },
	"ready\nclosed idle" BROKE("idle") " local\n",
	{ START, BURST, { "IDLE", CLOSE } } },
{ "QUIT answered by a close", { NULL },
	CLOSED_IDLE, { START, BURST, { "QUIT", CLOSE } } },
{ "QUIT answered by 500", { NULL },
	CLOSED_IDLE, { START, BURST, { "QUIT", "500 what?\r\n" } } },
{ "QUIT answered by 421", { NULL },
	CLOSED_IDLE, { START, BURST, { "QUIT", "421 bye\r\n" } } },
{ "QUIT answered by garbage", { NULL },
	CLOSED_IDLE, { START, BURST, { "QUIT", "bye\r\n" } } },

{ "LMTP: a reply each", { &three },
	"ready\nbody dots\ndone\n0 delivered end 250 2.1.5 b\n1 permanent rcpt 550 no\n2 permanent end 552 5.2.2 full\n" CLOSED_IDLE,
	{ START, LHLO("250-DSN\r\n250 PIPELINING\r\n"), MAIL(OK), RCPT("b", OK), RCPT("c", "550 no\r\n"), RCPT("d", OK), DATA,
	  { ".", "250 2.1.5 b\r\n552 5.2.2 full\r\n" }, BYE }, .lmtp = true },
{ "LMTP: close between the replies", { &three },
	"ready\nbody dots\ndone\n0 delivered end 250 2.1.5 b\n1 temporary end 421 bye\n2 temporary end 421 bye unknown\nclosed end 421 bye\n",
	{ START, LHLO("250-DSN\r\n250 PIPELINING\r\n"), MAIL(OK), RCPT("b", OK), RCPT("c", OK), RCPT("d", OK), DATA,
	  { ".", "250 2.1.5 b\r\n421 bye\r\n" } }, .lmtp = true },
{ "LMTP: one reply too many", { &one },
	"ready\nbody dots\ndone\n0 delivered end 250 b\nclosed idle" SENSELESS("idle") "250 c local\n",
	{ START, LHLO("250-DSN\r\n250 PIPELINING\r\n"), MAIL(OK), RCPT("b", OK), DATA, { ".", "250 b\r\n250 c\r\n" } }, .lmtp = true, .whole = true },
{ "LMTP: 354 for nobody", { &one },
	"ready\ndone\n0 permanent rcpt 550 no\nclosed data" SENSELESS("data") "354 go local\n",
	{ START, LHLO("250 PIPELINING\r\n"), MAIL(OK), RCPT("b", "550 no\r\n"), { "DATA", "354 go\r\n" } }, .lmtp = true },
{ "LMTP: BDAT", { &two },
	"ready\nbody chunk\ndone\n0 delivered end 250 b\n1 temporary end 450 c\n" CLOSED_IDLE,
	{ START, LHLO("250-DSN\r\n250-CHUNKING\r\n250 PIPELINING\r\n"), MAIL(OK), RCPT("b", OK), RCPT("c", OK),
	  BDAT("250 b\r\n450 c\r\n"), BYE }, .lmtp = true },
{ "LMTP: BDAT for nobody", { &two },
	"ready\nbody chunk\ndone\n0 permanent rcpt 550 no\n1 permanent rcpt 550 no\n" CLOSED_IDLE,
	{ START, LHLO("250-CHUNKING\r\n250 PIPELINING\r\n"), MAIL(OK), RCPT("b", "550 no\r\n"), RCPT("c", "550 no\r\n"),
	  BDAT("503 nobody\r\n"), BYE }, .lmtp = true },

{ "LIMITS: the rest is for later", { &three },
	"ready\nbody dots\ndone\n0 delivered end 250 2.0.0 ok nodsn\n1 delivered end 250 2.0.0 ok nodsn\n"
	"2 temporary idle 452 4.5.3 the server takes fewer recipients at a time; this one is for the next transaction local\n" CLOSED_IDLE,
	{ START, EHLO("250 LIMITS RCPTMAX=2\r\n"), MAIL(OK), RCPT("b", OK), RCPT("c", OK), DATA, { ".", OK }, BYE } },
};

/* clang-format on */

static struct play
play_of(const struct scene *s)
{
	return (struct play){
		.options = { .hostname = HOST, .lmtp = s->lmtp },
		.transactions = s->messages,
		.body_fails = s->body_fails,
		.whole = s->whole,
		.row = s->rows,
	};
}

static void
test_scenes(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
		struct play p = play_of(&scenes[i]);
		play_expect(&p, scenes[i].expected, scenes[i].name);
	}
}

/* The message arrives as it was: dots doubled for DATA, untouched by BDAT. */
static void
test_body_arrives(void **state)
{
	(void)state;
	struct play p = play_of(&scenes[1]);
	play_run(&p);
	assert_string_equal(buf_cstring(&p.body_seen),
	    "Subject: x\r\n\r\n..hidden\r\nhello\r\n");
	play_done(&p);
	p = play_of(&scenes[2]);
	play_run(&p);
	assert_string_equal(buf_cstring(&p.body_seen), play_body);
	play_done(&p);
}

/* --- every step, every class of reply --- */

enum step_asked {
	AT_RSET,
	AT_MAIL,
	AT_RCPT,
	AT_DATA,
	AT_END,
	AT_COUNT,
};

static const char *const classes[] = { "250 2.0.0 ok\r\n", "354 go\r\n",
	"450 4.2.0 later\r\n", "550 5.0.0 never\r\n", "421 4.3.2 bye\r\n",
	"nonsense\r\n", "999 nonsense\r\n", CLOSE };

/* Two recipients. 'd', 't', 'p': the first one's fate; '+': then the session
 * goes on, '-': it is over; '?': he may have the message. */
/* clang-format off */
static const char *const outcomes[AT_COUNT][8] = {
	/*             2xx    3xx    4xx    5xx    421    garbage 999    close */
	[AT_RSET] = { "d+",  "t-",  "t-",  "t-",  "t-",  "t-",  "t-",  "t-" },
	[AT_MAIL] = { "d+",  "t-",  "t+",  "p+",  "t-",  "t-",  "t-",  "t-" },
	[AT_RCPT] = { "d+",  "t-",  "t+",  "p+",  "t-",  "t-",  "t-",  "t-" },
	[AT_DATA] = { "t-",  "d+",  "t+",  "p+",  "t-",  "t-",  "t-",  "t-" },
	[AT_END]  = { "d+",  "t-?", "t+",  "p+",  "t-",  "t-?", "t-?", "t-?" },
};

/* clang-format on */

static struct play
play_of_class(size_t at, size_t class, bool pipelining, struct play_row *rows)
{
	static const struct smtp_client_transaction *const messages[] = { &one,
		&two, NULL };
	const struct play_row plan[] = { START,
		{ "EHLO relay.example.com",
		    pipelining ? "250-mx\r\n250-DSN\r\n250 PIPELINING\r\n"
			       : "250-mx\r\n250 DSN\r\n" },
		/* A transaction that leaves something to reset. */
		MAIL(OK), RCPT("b", "550 no\r\n"),
		{ pipelining ? "DATA" : NULL, "554 nobody\r\n" },
		{ "RSET", OK }, MAIL(OK), RCPT("b", OK), RCPT("c", OK), DATA,
		{ ".", OK }, BYE };
	static const size_t places[AT_COUNT] = { 5, 6, 7, 9, 10 };
	size_t n = 0;
	for (size_t i = 0; i < sizeof(plan) / sizeof(plan[0]); i++) {
		if (plan[i].on == NULL)
			continue;
		rows[n] = plan[i];
		if (i == places[at])
			rows[n].say = classes[class];
		n++;
	}
	rows[n] = (struct play_row){ 0 };
	return (struct play){
		.options = { .hostname = HOST },
		.transactions = messages,
		.row = rows,
		.lenient = true,
	};
}

static void
check_outcome(const struct play *p, const char *expected)
{
	const struct smtp_client_fate *f = smtp_client_fate(p->c, 0);
	enum smtp_client_fate_kind kind =
	    expected[0] == 'd'   ? SMTP_FATE_DELIVERED
	    : expected[0] == 't' ? SMTP_FATE_TEMPORARY
				 : SMTP_FATE_PERMANENT;
	bool goes_on = expected[1] == '+';
	struct span log = buf_span(&p->log);
	assert_int_equal(f->kind, kind);
	assert_int_equal(f->unknown, expected[2] == '?');
	assert_int_equal(
	    span_search(log, SPAN("closed quit\n")) != SIZE_MAX, goes_on);
	assert_true(smtp_client_fate(p->c, 1)->kind != SMTP_FATE_NONE);
	assert_int_equal(smtp_client_step(p->c), SMTP_CLIENT_STEP_CLOSED);
}

static void
test_every_reply_at_every_step(void **state)
{
	(void)state;
	struct play_row rows[PLAY_ROWS_MAX];
	for (size_t at = 0; at < AT_COUNT; at++) {
		for (size_t i = 0; i < 16; i++) {
			size_t class = i / 2;
			struct play p =
			    play_of_class(at, class, i % 2 == 1, rows);
			play_run(&p);
			if (p.stuck)
				print_error("# at %zu class %zu\n%s", at, class,
				    buf_cstring(&p.log));
			assert_false(p.stuck);
			check_outcome(&p, outcomes[at][class]);
			play_done(&p);
		}
	}
}

/* --- what is decided here --- */

static const struct smtp_client_rcpt odd[] = {
	{ .address = { "b@y.example>\r\nDATA", 18 } },
	{ .address = { "gr\xc3\xbc"
		       "n@y.example",
	      15 } },
	{ .address = { "b@y.example", 11 } },
};

static void
expect_fates(const struct smtp_client_transaction *t, const char *offers,
    const struct play_row *then, const char *expected)
{
	struct play_row rows[PLAY_ROWS_MAX] = { START,
		{ "EHLO relay.example.com", offers } };
	const struct smtp_client_transaction *const messages[] = { t, NULL };
	size_t n = 2;
	while (then != NULL && then->on != NULL)
		rows[n++] = *then++;
	rows[n++] = (struct play_row)BYE;
	struct play p = {
		.options = { .hostname = HOST, .chunk_min = UINT32_MAX },
		.transactions = messages,
		.row = rows,
	};
	play_expect(&p, expected, offers);
}

static void
test_decided_without_a_byte(void **state)
{
	(void)state;
	struct smtp_client_transaction t = MESSAGE(1);
	t.size = 1001;
	expect_fates(&t, "250-mx\r\n250 SIZE 1000\r\n", NULL,
	    "ready\ndone\n0 permanent idle 552 5.3.4 the message is larger "
	    "than the server accepts local\n" CLOSED_IDLE);
	t = one;
	t.body = SMTP_BODY_8BITMIME;
	expect_fates(&t, "250 mx\r\n", NULL,
	    "ready\ndone\n0 permanent idle 554 5.6.3 the message needs "
	    "8BITMIME or BINARYMIME, which the server does not offer "
	    "local\n" CLOSED_IDLE);
	t.body = SMTP_BODY_7BIT;
	t.utf8 = true;
	expect_fates(&t, "250-mx\r\n250 8BITMIME\r\n", NULL,
	    "ready\ndone\n0 permanent idle 553 5.6.7 the message needs "
	    "SMTPUTF8, which the server does not offer local\n" CLOSED_IDLE);
	t = one;
	t.rcpts = odd;
	expect_fates(&t, "250 mx\r\n", NULL,
	    "ready\ndone\n0 permanent idle 553 5.1.3 the recipient address "
	    "is malformed local\n" CLOSED_IDLE);
}

static void
test_odd_recipients_do_not_harm_others(void **state)
{
	(void)state;
	struct smtp_client_transaction t = MESSAGE(3);
	t.rcpts = odd;
	const struct play_row then[] = { MAIL(OK), RCPT("b", OK), DATA,
		{ ".", OK }, { NULL, NULL } };
	expect_fates(&t, "250 mx\r\n", then,
	    "ready\nbody dots\ndone\n"
	    "0 permanent idle 553 5.1.3 the recipient address is malformed "
	    "local\n"
	    "1 permanent idle 553 5.6.7 the address needs SMTPUTF8, which the "
	    "server does not offer local\n"
	    "2 delivered end 250 2.0.0 ok nodsn\n" CLOSED_IDLE);
}

/* chunk_min says "only when needed": here it is. */
static void
test_binary_needs_bdat(void **state)
{
	(void)state;
	struct smtp_client_transaction t = MESSAGE(1);
	t.body = SMTP_BODY_BINARYMIME;
	const struct play_row then[] = {
		{ "MAIL FROM:<a@x.example> BODY=BINARYMIME", OK },
		RCPT("b", OK), BDAT(OK), { NULL, NULL }
	};
	expect_fates(&t, "250-mx\r\n250-BINARYMIME\r\n250 CHUNKING\r\n", then,
	    "ready\nbody chunk\ndone\n"
	    "0 delivered end 250 2.0.0 ok nodsn\n" CLOSED_IDLE);
}

/* A body too large for a burst waits for RCPT's answers. */
static void
test_large_body_waits(void **state)
{
	(void)state;
	struct smtp_client_options options = { .hostname = HOST };
	struct smtp_client *c = smtp_client_new(&options);
	struct smtp_client_event e;
	struct smtp_client_transaction t = MESSAGE(1);
	t.size = UINT64_C(5000000000);
	(void)smtp_client_feed(c, SPAN("220 mx\r\n"), &e);
	(void)smtp_client_feed(
	    c, SPAN("250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n"), &e);
	smtp_client_start(c, &t);
	smtp_client_sent(c, smtp_client_output(c).len);
	(void)smtp_client_feed(c, SPAN("250 ok\r\n"), &e);
	assert_int_equal(e.type, SMTP_CLIENT_NONE);
	assert_int_equal(smtp_client_output(c).len, 0);
	(void)smtp_client_feed(c, SPAN("250 ok\r\n"), &e);
	assert_int_equal(e.type, SMTP_CLIENT_BODY);
	assert_int_equal(smtp_client_step(c), SMTP_CLIENT_STEP_BODY);
	assert_int_equal(smtp_client_step_seconds(c), 180);
	assert_true(
	    span_eq(smtp_client_output(c), SPAN("BDAT 5000000000 LAST\r\n")));
	smtp_client_free(&c);
}

/* The dot that never left our hands cannot have been taken. */
static void
test_dot_not_yet_written(void **state)
{
	(void)state;
	for (int written = 0; written < 2; written++) {
		struct smtp_client_options options = { .hostname = HOST };
		struct smtp_client *c = smtp_client_new(&options);
		struct smtp_client_event e;
		(void)smtp_client_feed(c, SPAN("220 mx\r\n"), &e);
		(void)smtp_client_feed(
		    c, SPAN("250-mx\r\n250 PIPELINING\r\n"), &e);
		smtp_client_start(c, &one);
		struct span in = SPAN("250 ok\r\n250 ok\r\n354 go\r\n");
		assert_int_equal(smtp_client_feed(c, in, &e), in.len);
		assert_int_equal(e.type, SMTP_CLIENT_BODY);
		smtp_client_sent(c, smtp_client_output(c).len);
		smtp_client_body_sent(c);
		assert_true(span_eq(smtp_client_output(c), SPAN(".\r\n")));
		assert_int_equal(smtp_client_step_seconds(c), 600);
		smtp_client_sent(c, written ? 3 : 1);
		smtp_client_broken(c, SPAN("gone"));
		(void)smtp_client_feed(c, SPAN_EMPTY, &e);
		assert_int_equal(e.type, SMTP_CLIENT_DONE);
		assert_int_equal(smtp_client_fate(c, 0)->unknown, written);
		smtp_client_free(&c);
	}
}

/* A server that is in the middle of a word nobody asked for. */
static void
test_half_a_reply_before_mail(void **state)
{
	(void)state;
	struct smtp_client_options options = { .hostname = HOST };
	struct smtp_client *c = smtp_client_new(&options);
	struct smtp_client_event e;
	(void)smtp_client_feed(c, SPAN("220 mx\r\n"), &e);
	(void)smtp_client_feed(c, SPAN("250 mx\r\n25"), &e);
	assert_int_equal(e.type, SMTP_CLIENT_READY);
	smtp_client_start(c, &one);
	assert_int_equal(smtp_client_output(c).len, 0);
	(void)smtp_client_feed(c, SPAN("0 ok\r\n"), &e);
	assert_int_equal(e.type, SMTP_CLIENT_DONE);
	assert_int_equal(smtp_client_fate(c, 0)->kind, SMTP_FATE_TEMPORARY);
	assert_true(smtp_client_fate(c, 0)->local);
	(void)smtp_client_feed(c, SPAN_EMPTY, &e);
	assert_int_equal(e.type, SMTP_CLIENT_CLOSED);
	smtp_client_free(&c);
}

/* All of a thousand, in one burst, with the longest replies. */
static void
test_thousand_recipients(void **state)
{
	(void)state;
	static struct smtp_client_rcpt rcpts[1000];
	for (size_t i = 0; i < 1000; i++)
		rcpts[i] = people[0];
	struct smtp_client_transaction t = MESSAGE(1);
	t.rcpts = rcpts;
	t.rcpt_count = 1000;
	struct smtp_client_options options = { .hostname = HOST };
	struct smtp_client *c = smtp_client_new(&options);
	struct smtp_client_event e;
	(void)smtp_client_feed(c, SPAN("220 mx\r\n"), &e);
	(void)smtp_client_feed(c, SPAN("250-mx\r\n250 PIPELINING\r\n"), &e);
	smtp_client_start(c, &t);
	(void)smtp_client_feed(c, SPAN("250 ok\r\n"), &e);
	char line[3001];
	for (size_t i = 1; i + 1 < sizeof(line); i += 2)
		memcpy(line + i, "\xc3\xbc", 2); /* cut before, not within */
	memcpy(line, "550 ", 4);
	memcpy(line + sizeof(line) - 3, "\r\n", 3);
	for (size_t i = 0; i < 1000; i++)
		(void)smtp_client_feed(
		    c, span_of(i == 7 ? "250 ok\r\n" : line), &e);
	(void)smtp_client_feed(c, SPAN("354 go\r\n"), &e);
	assert_int_equal(e.type, SMTP_CLIENT_BODY);
	smtp_client_body_sent(c);
	(void)smtp_client_feed(c, SPAN("250 ok\r\n"), &e);
	assert_int_equal(e.type, SMTP_CLIENT_DONE);
	assert_int_equal(smtp_client_fate(c, 7)->kind, SMTP_FATE_DELIVERED);
	assert_int_equal(smtp_client_fate(c, 8)->kind, SMTP_FATE_PERMANENT);
	assert_int_equal(smtp_client_fate(c, 999)->kind, SMTP_FATE_PERMANENT);
	assert_int_equal(smtp_client_fate(c, 999)->reply.text.len, 1023);
	smtp_client_free(&c);
}

static void
test_chunking_refused_is_told(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
		struct play p = play_of(&scenes[i]);
		struct span name = span_of(scenes[i].name);
		bool refused = span_starts(name, SPAN("BDAT")) &&
			       span_search(name, SPAN("unknown")) != SIZE_MAX;
		play_run(&p);
		assert_int_equal(smtp_client_chunking_refused(p.c), refused);
		play_done(&p);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scenes),
		cmocka_unit_test(test_body_arrives),
		cmocka_unit_test(test_every_reply_at_every_step),
		cmocka_unit_test(test_decided_without_a_byte),
		cmocka_unit_test(test_odd_recipients_do_not_harm_others),
		cmocka_unit_test(test_binary_needs_bdat),
		cmocka_unit_test(test_large_body_waits),
		cmocka_unit_test(test_dot_not_yet_written),
		cmocka_unit_test(test_half_a_reply_before_mail),
		cmocka_unit_test(test_thousand_recipients),
		cmocka_unit_test(test_chunking_refused_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
