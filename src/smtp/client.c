/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/client.h"

#include "base/mem.h"
#include "smtp/client_internal.h"
#include "smtp/envelope.h"

/*
 *   banner -- ehlo --+-- starttls -- tls -- ehlo again, all forgotten
 *              |     +-- auth, as often as the server asks
 *            helo    |
 *              +-----+-- idle -- quit
 *
 *   idle --+-- rset --+-- mail -- rcpt, each --+-- data -- body --+-- end
 *          +----------+                        +-- body, of BDAT -+
 *
 *   From end, which LMTP has for each recipient, back to idle.
 *   From mail, rcpt and data back to idle when nobody is left to send to; from
 *   everywhere to closed.
 *
 * The step is that of the oldest unanswered command; client_await moves it
 * there. Without commands out it is tls or auth (the driver's turn), idle,
 * body (DATA's) or closed. client_enter asserts each move against the table.
 *
 * Invariants: a transaction is open from smtp_client_start to DONE, and at
 * DONE each recipient has a fate; fates never change. Events are handed out
 * before more input is read.
 */

enum { REPLY_TEXT_MAX = 1024 };

static reply_fn on_quit;

#define BIT(name) (1u << SMTP_CLIENT_STEP_##name)
#define STEP_COUNT (SMTP_CLIENT_STEP_CLOSED + 1)

/* clang-format off */
static const struct rule {
	const char *name;
	reply_fn *on_reply; /* NULL: nothing is expected */
	int seconds;   /* RFC 5321 §4.5.3.2, and our own for the rest */
	unsigned next; /* beside closed */
} rules[STEP_COUNT] = {
	[SMTP_CLIENT_STEP_BANNER] = { "banner", client_on_banner, 300,
		BIT(EHLO) },
	[SMTP_CLIENT_STEP_EHLO] = { "ehlo", client_on_ehlo, 300,
		BIT(HELO) | BIT(STARTTLS) | BIT(AUTH) | BIT(IDLE) },
	[SMTP_CLIENT_STEP_HELO] = { "helo", client_on_helo, 300,
		BIT(IDLE) },
	[SMTP_CLIENT_STEP_STARTTLS] = { "starttls", client_on_starttls, 120,
		BIT(TLS) | BIT(AUTH) | BIT(IDLE) },
	[SMTP_CLIENT_STEP_TLS] = { "tls", NULL, 120,
		BIT(EHLO) },
	[SMTP_CLIENT_STEP_AUTH] = { "auth", client_on_auth, 120,
		BIT(IDLE) },
	[SMTP_CLIENT_STEP_IDLE] = { "idle", NULL, 300,
		BIT(RSET) | BIT(MAIL) | BIT(IDLE) | BIT(QUIT) },
	[SMTP_CLIENT_STEP_RSET] = { "rset", client_on_rset, 300,
		BIT(MAIL) },
	[SMTP_CLIENT_STEP_MAIL] = { "mail", client_on_mail, 300,
		BIT(RCPT) | BIT(IDLE) },
	[SMTP_CLIENT_STEP_RCPT] = { "rcpt", client_on_rcpt, 300,
		BIT(DATA) | BIT(BODY) | BIT(END) | BIT(IDLE) },
	[SMTP_CLIENT_STEP_DATA] = { "data", client_on_data, 120,
		BIT(BODY) | BIT(END) | BIT(IDLE) },
	[SMTP_CLIENT_STEP_BODY] = { "body", client_on_body, 180,
		BIT(END) },
	[SMTP_CLIENT_STEP_END] = { "end", client_on_end, 600,
		BIT(IDLE) },
	[SMTP_CLIENT_STEP_QUIT] = { "quit", on_quit, 10, 0 },
	[SMTP_CLIENT_STEP_CLOSED] = { "closed", NULL, 0, 0 },
};

/* clang-format on */

bool
smtp_client_step_follows(enum smtp_client_step to, enum smtp_client_step from)
{
	BUG_UNLESS((unsigned)to < STEP_COUNT && (unsigned)from < STEP_COUNT);
	if (to == SMTP_CLIENT_STEP_CLOSED)
		return from != SMTP_CLIENT_STEP_CLOSED;
	return (rules[from].next & (1u << to)) != 0;
}

void
client_enter(struct smtp_client *c, enum smtp_client_step to)
{
	BUG_UNLESS(smtp_client_step_follows(to, c->step));
	c->step = to;
}

void
client_expect(struct smtp_client *c, enum smtp_client_step step)
{
	BUG_UNLESS(c->ring_count < CLIENT_RING_SIZE);
	size_t tail = (c->ring_head + c->ring_count) % CLIENT_RING_SIZE;
	c->ring[tail] = (uint8_t)step;
	c->ring_count++;
}

void
client_await(struct smtp_client *c)
{
	if (c->ring_count == 0)
		return;
	enum smtp_client_step next = c->ring[c->ring_head];
	/* BDAT's reply, before the chunk is out, would interrupt it. */
	if (next == SMTP_CLIENT_STEP_END && c->body_open)
		next = SMTP_CLIENT_STEP_BODY;
	if (next != c->step)
		client_enter(c, next);
}

struct smtp_client_event *
client_emit(struct smtp_client *c, enum smtp_client_event_type type)
{
	BUG_UNLESS(c->event_count < CLIENT_EVENTS_MAX);
	struct smtp_client_event *event = &c->events[c->event_count++];
	*event = (struct smtp_client_event){
		.type = type,
		.step = smtp_client_step(c),
	};
	return event;
}

void
client_ready(struct smtp_client *c)
{
	client_enter(c, SMTP_CLIENT_STEP_IDLE);
	client_emit(c, SMTP_CLIENT_READY);
}

struct reply
client_keep_reply(const struct reply *r, struct arena *arena)
{
	struct reply kept = *r;
	size_t len = r->text.len;
	if (len > REPLY_TEXT_MAX) {
		len = REPLY_TEXT_MAX;
		while (len > 0 && ((unsigned char)r->text.ptr[len] >> 6) == 2)
			len--; /* not inside a UTF-8 character */
	}
	kept.text = arena_dup(arena, span_slice(r->text, 0, len));
	return kept;
}

/*
 * The session's end.
 */

/* The end makes moot what was to happen; only DONE is a fact that stays. */
static void
drop_moot_events(struct smtp_client *c)
{
	size_t kept = 0;
	for (size_t i = 0; i < c->event_count; i++) {
		if (c->events[i].type == SMTP_CLIENT_DONE)
			c->events[kept++] = c->events[i];
	}
	c->event_count = kept;
}

static void
abort_body(struct smtp_client *c)
{
	struct smtp_client_event *event =
	    client_emit(c, SMTP_CLIENT_BODY_ABORT);
	event->reply = &c->closing;
	event->text = reply_format(&c->closing, c->session);
}

static void
close_session(struct smtp_client *c)
{
	buf_clear(&c->out);
	c->ring_count = 0;
	c->body_open = false;
	client_enter(c, SMTP_CLIENT_STEP_CLOSED);
}

void
client_over(
    struct smtp_client *c, const struct reply *why, enum client_cause cause)
{
	if (c->step == SMTP_CLIENT_STEP_CLOSED)
		return;
	enum smtp_client_step where = smtp_client_step(c);
	bool local = cause != CLIENT_CAUSE_REPLY;
	c->closing = client_keep_reply(why, c->session);
	drop_moot_events(c);
	if (c->body_open && cause != CLIENT_CAUSE_DRIVER)
		abort_body(c);
	if (c->transaction != NULL) {
		struct smtp_client_fate fate = {
			.kind = SMTP_FATE_TEMPORARY,
			.step = where,
			.reply = c->closing,
			/* The dot may still be in our hands. */
			.unknown = c->body_complete && buf_size(&c->out) == 0,
			.local = local,
		};
		client_mail_over(c, &fate);
	}
	close_session(c);
	struct smtp_client_event *event = client_emit(c, SMTP_CLIENT_CLOSED);
	event->reply = &c->closing;
	event->local = local;
	event->step = where;
}

void
client_decline(
    struct smtp_client *c, const struct reply *why, enum client_cause cause)
{
	client_over(c, why, cause);
	buf_append(&c->out, SPAN("QUIT\r\n"));
}

static void
over_senseless(struct smtp_client *c, struct span what)
{
	struct reply why = REPLY(451, 4, 5, 0, "");
	why.text = arena_printf(c->session,
	    "the server broke the protocol (at %s): %.*s",
	    rules[smtp_client_step(c)].name, SPAN_ARG(what));
	client_over(c, &why, CLIENT_CAUSE_VERDICT);
}

void
client_over_unexpected(struct smtp_client *c, const struct reply *reply)
{
	struct reply kept = client_keep_reply(reply, c->session);
	over_senseless(c, reply_format(&kept, c->session));
}

/* Our QUIT was answered, or would have been: no reason to give. */
static void
end_quietly(struct smtp_client *c)
{
	close_session(c);
	client_emit(c, SMTP_CLIENT_CLOSED)->step = SMTP_CLIENT_STEP_QUIT;
}

void
smtp_client_broken(struct smtp_client *c, struct span why)
{
	if (c->step == SMTP_CLIENT_STEP_CLOSED)
		return;
	if (c->step == SMTP_CLIENT_STEP_QUIT) {
		end_quietly(c);
		return;
	}
	struct reply reply = REPLY(421, 4, 4, 2, "");
	reply.text = arena_printf(c->session, "the session broke (at %s): %.*s",
	    rules[smtp_client_step(c)].name, SPAN_ARG(why));
	client_over(c, &reply, CLIENT_CAUSE_DRIVER);
}

/*
 * Replies in.
 */

/* RFC 5321 §3.8: 421 may answer any command, or none, and ends the session. */
static void
on_unavailable(struct smtp_client *c, const struct reply *reply)
{
	if (c->transaction != NULL)
		client_mail_unavailable(c, reply);
	client_over(c, reply, CLIENT_CAUSE_REPLY);
}

static void
on_quit(struct smtp_client *c, const struct reply *reply)
{
	(void)reply; /* whatever it says, this is the end */
	end_quietly(c);
}

static void
take_reply(struct smtp_client *c, const struct reply *reply)
{
	bool asked = c->ring_count > 0;
	if (asked) {
		c->ring_head = (c->ring_head + 1) % CLIENT_RING_SIZE;
		c->ring_count--;
	}
	if (reply->code == 421 && c->step != SMTP_CLIENT_STEP_QUIT)
		on_unavailable(c, reply);
	else if (asked || c->step == SMTP_CLIENT_STEP_BODY)
		rules[c->step].on_reply(c, reply);
	else
		client_over_unexpected(c, reply);
	client_await(c);
}

/* Consumes from *rest; all of it when nothing can follow in this form. */
static void
read_reply(struct smtp_client *c, struct span *rest)
{
	struct reply reply;
	int r = 0;
	if (c->step != SMTP_CLIENT_STEP_TLS &&
	    c->step != SMTP_CLIENT_STEP_CLOSED) {
		r = reply_parser_feed(c->parser, rest, &reply);
		c->half_reply = r == 0;
	}
	if (r > 0)
		take_reply(c, &reply);
	else if (r < 0 && c->step == SMTP_CLIENT_STEP_QUIT)
		end_quietly(c);
	else if (r < 0)
		over_senseless(c, span_of(reply_parser_error(c->parser)));
	/* What stands in clear text behind the 220 to STARTTLS is not the
	 * server's (CVE-2011-0411, seen from this side). */
	if (c->step == SMTP_CLIENT_STEP_TLS ||
	    c->step == SMTP_CLIENT_STEP_CLOSED)
		*rest = SPAN_EMPTY;
}

/* READY waits until the input is used up: a server that says more than it was
 * asked would have its surplus taken for the next transaction's replies. */
static bool
take_event(
    struct smtp_client *c, bool more_input, struct smtp_client_event *ret_event)
{
	if (c->event_count == 0)
		return false;
	if (c->events[0].type == SMTP_CLIENT_READY && more_input)
		return false;
	*ret_event = c->events[0];
	c->event_count--;
	for (size_t i = 0; i < c->event_count; i++)
		c->events[i] = c->events[i + 1];
	return true;
}

size_t
smtp_client_feed(
    struct smtp_client *c, struct span in, struct smtp_client_event *ret_event)
{
	struct span rest = in;
	*ret_event = (struct smtp_client_event){ .type = SMTP_CLIENT_NONE };
	while (!take_event(c, rest.len > 0, ret_event)) {
		if (rest.len == 0)
			break;
		read_reply(c, &rest);
	}
	return in.len - rest.len;
}

struct span
smtp_client_output(const struct smtp_client *c)
{
	return buf_span(&c->out);
}

void
smtp_client_sent(struct smtp_client *c, size_t n)
{
	buf_consume(&c->out, n);
}

/*
 * Life and facts.
 */

struct smtp_client *
smtp_client_new(const struct smtp_client_options *options)
{
	struct smtp_client *c = MEM_NEW(struct smtp_client);
	c->session = arena_new();
	c->memory = arena_new();
	c->parser = reply_parser_new();
	c->options = *options;
	c->options.hostname = arena_dup(c->session, options->hostname);
	c->options.auth_mechanisms =
	    arena_dup(c->session, options->auth_mechanisms);
	c->secured = options->secured;
	c->step = SMTP_CLIENT_STEP_BANNER;
	client_expect(c, SMTP_CLIENT_STEP_BANNER);
	if (!envelope_is_word(options->hostname))
		client_over(c,
		    &REPLY(451, 4, 3, 5, "our own host name is malformed"),
		    CLIENT_CAUSE_VERDICT);
	return c;
}

/* A password went through it. */
static void
wipe(struct buf *b)
{
	if (b->ptr != NULL)
		mem_wipe(b->ptr, b->capacity);
	buf_done(b);
}

void
smtp_client_free(struct smtp_client **c)
{
	if (*c == NULL)
		return;
	wipe(&(*c)->auth_held);
	wipe(&(*c)->out);
	reply_parser_free(&(*c)->parser);
	arena_free(&(*c)->memory);
	arena_free(&(*c)->session);
	mem_free(*c);
	*c = NULL;
}

void
smtp_client_quit(struct smtp_client *c)
{
	if (c->step == SMTP_CLIENT_STEP_CLOSED)
		return;
	drop_moot_events(c);
	client_enter(c, SMTP_CLIENT_STEP_QUIT);
	buf_append(&c->out, SPAN("QUIT\r\n"));
	client_expect(c, SMTP_CLIENT_STEP_QUIT);
}

int
smtp_client_offers(const struct smtp_client *c)
{
	return c->offers.flags;
}

uint32_t
smtp_client_rcpt_max(const struct smtp_client *c)
{
	return c->offers.rcpt_max;
}

uint32_t
smtp_client_mail_max(const struct smtp_client *c)
{
	return c->offers.mail_max;
}

bool
smtp_client_chunking_refused(const struct smtp_client *c)
{
	return c->chunking_refused;
}

enum smtp_client_step
smtp_client_step(const struct smtp_client *c)
{
	return c->body_open ? SMTP_CLIENT_STEP_BODY : c->step;
}

const char *
smtp_client_step_name(enum smtp_client_step step)
{
	BUG_UNLESS((unsigned)step < STEP_COUNT);
	return rules[step].name;
}

int
smtp_client_step_seconds(const struct smtp_client *c)
{
	return rules[smtp_client_step(c)].seconds;
}
