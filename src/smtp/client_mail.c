/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/client_internal.h"
#include "smtp/envelope.h"

/*
 * One transaction: MAIL, a RCPT for each recipient, then the message by DATA
 * or BDAT. With PIPELINING (RFC 2920) all commands leave in one burst, without
 * it one by one. A recipient's fate is settled once, by the first reply that
 * decides it; replies to what a failure made pointless are consumed without
 * effect. A transaction that the server still holds at its end is reset at the
 * start of the next one, in the same burst.
 */

enum {
	/* A larger body is not worth sending before RCPT is answered: a round
	 * trip costs less than a body that nobody takes. */
	BURST_BODY_MAX = 1024 * 1024,
};

/*
 * Fates.
 */

static struct smtp_client_fate
fate_by(struct smtp_client *c, const struct reply *reply)
{
	struct smtp_client_fate fate = {
		.kind = SMTP_FATE_TEMPORARY,
		.step = c->step,
		.reply = client_keep_reply(reply, c->memory),
	};
	if (reply_is_completion(reply)) {
		fate.kind = SMTP_FATE_DELIVERED;
		fate.relayed_without_dsn = !client_offered(c, SMTP_OFFER_DSN);
	} else if (reply_is_permanent(reply)) {
		fate.kind = SMTP_FATE_PERMANENT;
	}
	return fate;
}

static bool
is_open(const struct recipient *r)
{
	return r->fate.kind == SMTP_FATE_NONE;
}

static void
settle(struct recipient *r, const struct smtp_client_fate *fate)
{
	BUG_UNLESS(fate->kind != SMTP_FATE_NONE);
	if (is_open(r))
		r->fate = *fate;
}

static void
settle_rest(struct smtp_client *c, const struct smtp_client_fate *fate)
{
	for (size_t i = 0; i < c->rcpt_count; i++)
		settle(&c->rcpts[i], fate);
}

/* Whom the reply to RCPT answers. */
static struct recipient *
next_asked(struct smtp_client *c)
{
	while (!c->rcpts[c->read_cursor].asked) {
		c->read_cursor++;
		BUG_UNLESS(c->read_cursor < c->rcpt_count);
	}
	return &c->rcpts[c->read_cursor];
}

/* Whom the next of LMTP's final replies answers (RFC 2033 §4.2); NULL when
 * nobody is left. */
static struct recipient *
next_open(struct smtp_client *c)
{
	for (size_t i = 0; i < c->rcpt_count; i++) {
		if (is_open(&c->rcpts[i]))
			return &c->rcpts[i];
	}
	return NULL;
}

static void
finish(struct smtp_client *c)
{
	BUG_UNLESS(next_open(c) == NULL && !c->body_open);
	BUG_UNLESS(c->ring_count == 0);
	c->transaction = NULL;
	client_emit(c, SMTP_CLIENT_DONE);
	client_ready(c);
}

void
client_mail_over(struct smtp_client *c, const struct smtp_client_fate *fate)
{
	settle_rest(c, fate);
	c->transaction = NULL;
	client_emit(c, SMTP_CLIENT_DONE);
}

void
client_mail_unavailable(struct smtp_client *c, const struct reply *reply)
{
	struct smtp_client_fate fate = fate_by(c, reply);
	if (c->step == SMTP_CLIENT_STEP_RCPT)
		settle(next_asked(c), &fate);
	else if (c->step != SMTP_CLIENT_STEP_END || !c->options.lmtp)
		settle_rest(c, &fate);
	else if (next_open(c) != NULL)
		settle(next_open(c), &fate);
}

const struct smtp_client_fate *
smtp_client_fate(const struct smtp_client *c, size_t rcpt_index)
{
	BUG_UNLESS(c->transaction == NULL && rcpt_index < c->rcpt_count);
	return &c->rcpts[rcpt_index].fate;
}

/*
 * Commands.
 */

static void
send_rset(struct smtp_client *c)
{
	buf_append(&c->out, SPAN("RSET\r\n"));
	client_expect(c, SMTP_CLIENT_STEP_RSET);
	c->mail_open = false;
}

static void
send_mail(struct smtp_client *c)
{
	envelope_append_mail(c->transaction, &c->offers, &c->out);
	client_expect(c, SMTP_CLIENT_STEP_MAIL);
}

/* False when all have been asked. */
static bool
send_rcpt(struct smtp_client *c)
{
	while (c->send_cursor < c->rcpt_count) {
		size_t i = c->send_cursor++;
		if (!is_open(&c->rcpts[i]))
			continue;
		envelope_append_rcpt(
		    &c->transaction->rcpts[i], &c->offers, &c->out);
		client_expect(c, SMTP_CLIENT_STEP_RCPT);
		c->rcpts[i].asked = true;
		return true;
	}
	return false;
}

static void
send_data(struct smtp_client *c)
{
	buf_append(&c->out, SPAN("DATA\r\n"));
	client_expect(c, SMTP_CLIENT_STEP_DATA);
}

static void
open_body(struct smtp_client *c)
{
	c->body_open = true;
	client_emit(c, SMTP_CLIENT_BODY)->dot_stuff = !c->bdat;
}

/* RFC 3030 §2: the chunk follows its command without waiting. */
static void
send_bdat(struct smtp_client *c)
{
	buf_printf(&c->out, "BDAT %llu LAST\r\n",
	    (unsigned long long)c->transaction->size);
	client_expect(c, SMTP_CLIENT_STEP_END);
	open_body(c);
}

static void
send_envelope(struct smtp_client *c)
{
	send_mail(c);
	if (!client_offered(c, SMTP_OFFER_PIPELINING))
		return;
	while (send_rcpt(c))
		;
	if (!c->bdat)
		send_data(c);
	else if (c->transaction->size <= BURST_BODY_MAX)
		send_bdat(c);
}

/* Nothing is out: what comes next? */
static void
go_on(struct smtp_client *c)
{
	if (send_rcpt(c))
		return;
	if (c->accepted == 0)
		finish(c);
	else if (c->bdat)
		send_bdat(c);
	else
		send_data(c);
}

static bool
uses_bdat(const struct smtp_client *c, const struct smtp_client_transaction *t)
{
	if (!client_offered(c, SMTP_OFFER_CHUNKING))
		return false;
	if (t->body == SMTP_BODY_BINARYMIME)
		return true;
	return c->options.chunk_min != UINT32_MAX &&
	       t->size >= c->options.chunk_min;
}

static bool
allows_one_more(const struct smtp_client *c, size_t i, size_t asked,
    struct reply *ret_refusal)
{
	const struct smtp_client_rcpt *r = &c->transaction->rcpts[i];
	if (!envelope_allows_rcpt(r, &c->offers, ret_refusal))
		return false;
	if (c->offers.rcpt_max == 0 || asked < c->offers.rcpt_max)
		return true;
	*ret_refusal = REPLY(452, 4, 5, 3,
	    "the server takes fewer recipients at a time; this one is for the "
	    "next transaction");
	return false;
}

/* What the offers or the envelope itself forbid is decided without a byte
 * sent. Returns how many recipients are left. */
static size_t
judge(struct smtp_client *c)
{
	struct reply refusal;
	bool allowed = envelope_allows(c->transaction, &c->offers, &refusal);
	size_t left = 0;
	for (size_t i = 0; i < c->rcpt_count; i++) {
		if (allowed && allows_one_more(c, i, left, &refusal)) {
			left++;
			continue;
		}
		struct smtp_client_fate fate = fate_by(c, &refusal);
		fate.local = true;
		settle(&c->rcpts[i], &fate);
	}
	return left;
}

void
smtp_client_start(
    struct smtp_client *c, const struct smtp_client_transaction *t)
{
	BUG_UNLESS(c->step == SMTP_CLIENT_STEP_IDLE && c->event_count == 0);
	BUG_UNLESS(t->rcpt_count >= 1 && t->rcpt_count <= CLIENT_RCPTS_MAX);
	arena_reset(c->memory);
	c->transaction = t;
	c->rcpts = ARENA_ARRAY(c->memory, struct recipient, t->rcpt_count);
	c->rcpt_count = t->rcpt_count;
	c->send_cursor = c->read_cursor = c->accepted = 0;
	c->body_complete = false;
	c->bdat = uses_bdat(c, t);
	if (c->half_reply) {
		client_over(c,
		    &REPLY(451, 4, 5, 0, "the server spoke out of turn"),
		    CLIENT_CAUSE_VERDICT);
		return;
	}
	if (judge(c) == 0) {
		finish(c);
		return;
	}
	bool resets = c->mail_open;
	if (resets)
		send_rset(c);
	if (!resets || client_offered(c, SMTP_OFFER_PIPELINING))
		send_envelope(c);
	client_await(c);
}

/*
 * Replies, in the order of their commands.
 */

/* A server that cannot forget is one whose next reply means nothing. */
void
client_on_rset(struct smtp_client *c, const struct reply *reply)
{
	if (!reply_is_completion(reply))
		client_over_unexpected(c, reply);
	else if (c->ring_count == 0)
		send_envelope(c);
}

void
client_on_mail(struct smtp_client *c, const struct reply *reply)
{
	if (reply_is_intermediate(reply)) {
		client_over_unexpected(c, reply);
		return;
	}
	c->mail_open = reply_is_completion(reply);
	if (!c->mail_open) {
		struct smtp_client_fate fate = fate_by(c, reply);
		settle_rest(c, &fate);
	}
	if (c->ring_count == 0)
		go_on(c);
}

/* RFC 5321 §4.5.3.1.10: 552 here meant "too many recipients" once, which is
 * temporary; with a status code that says otherwise it is taken at its word. */
static bool
is_too_many(const struct reply *reply)
{
	const struct enhanced_code *e = &reply->enhanced;
	return reply->code == 552 &&
	       (e->class == 0 || (e->subject == 5 && e->detail == 3));
}

void
client_on_rcpt(struct smtp_client *c, const struct reply *reply)
{
	struct recipient *r = next_asked(c);
	if (reply_is_intermediate(reply)) {
		client_over_unexpected(c, reply);
		return;
	}
	c->read_cursor++;
	if (reply_is_completion(reply)) {
		c->accepted += is_open(r);
	} else {
		struct smtp_client_fate fate = fate_by(c, reply);
		if (is_too_many(reply))
			fate.kind = SMTP_FATE_TEMPORARY;
		settle(r, &fate);
	}
	if (c->ring_count == 0)
		go_on(c);
}

/* RFC 2920 §3.1: a server may say 354 even though every RCPT failed; a single
 * dot gets out of it. LMTP's server must not (RFC 2033 §4.2), and how many
 * replies would follow is anyone's guess. */
static void
on_data_for_nobody(struct smtp_client *c, const struct reply *reply)
{
	if (c->options.lmtp) {
		client_over_unexpected(c, reply);
		return;
	}
	buf_append(&c->out, SPAN(".\r\n"));
	client_expect(c, SMTP_CLIENT_STEP_END);
}

void
client_on_data(struct smtp_client *c, const struct reply *reply)
{
	if (reply_is_completion(reply)) {
		client_over_unexpected(c, reply);
	} else if (!reply_is_intermediate(reply)) {
		struct smtp_client_fate fate = fate_by(c, reply);
		settle_rest(c, &fate);
		finish(c);
	} else if (c->accepted == 0) {
		on_data_for_nobody(c, reply);
	} else {
		client_enter(c, SMTP_CLIENT_STEP_BODY);
		open_body(c);
	}
}

void
smtp_client_body_sent(struct smtp_client *c)
{
	if (c->step == SMTP_CLIENT_STEP_CLOSED)
		return;
	BUG_UNLESS(c->body_open);
	c->body_open = false;
	c->body_complete = true;
	if (!c->bdat) {
		buf_append(&c->out, SPAN(".\r\n"));
		client_expect(c, SMTP_CLIENT_STEP_END);
	}
	client_await(c);
}

void
smtp_client_body_failed(struct smtp_client *c)
{
	if (c->step == SMTP_CLIENT_STEP_CLOSED)
		return;
	BUG_UNLESS(c->body_open);
	client_over(c,
	    &REPLY(
		451, 4, 3, 0, "the message could not be read from the queue"),
	    CLIENT_CAUSE_DRIVER);
}

/* BDAT was offered and is now unknown, or out of place although recipients
 * were accepted. The mail is not to blame, and whether the chunk was read or
 * now counts as commands nobody knows: the session must end. */
static bool
refuses_bdat(const struct smtp_client *c, const struct reply *reply)
{
	return c->bdat && c->accepted > 0 && reply->code >= 500 &&
	       reply->code <= 504;
}

static void
on_bdat_refused(struct smtp_client *c, const struct reply *reply)
{
	struct smtp_client_fate fate = fate_by(c, reply);
	fate.kind = SMTP_FATE_TEMPORARY;
	settle_rest(c, &fate);
	c->chunking_refused = true;
	client_over(c, reply, CLIENT_CAUSE_REPLY);
}

/* The server refuses before the body is out. There is no way to stop a body
 * but to close. */
void
client_on_body(struct smtp_client *c, const struct reply *reply)
{
	if (reply_is_positive(reply)) {
		client_over_unexpected(c, reply);
	} else if (refuses_bdat(c, reply)) {
		on_bdat_refused(c, reply);
	} else {
		struct smtp_client_fate fate = fate_by(c, reply);
		settle_rest(c, &fate);
		client_over(c, reply, CLIENT_CAUSE_REPLY);
	}
}

void
client_on_end(struct smtp_client *c, const struct reply *reply)
{
	if (reply_is_intermediate(reply)) {
		client_over_unexpected(c, reply);
		return;
	}
	if (refuses_bdat(c, reply)) {
		on_bdat_refused(c, reply);
		return;
	}
	/* RFC 3030 §2: after a failed BDAT only RSET makes the state sure. */
	c->mail_open = c->bdat && !reply_is_completion(reply);
	struct smtp_client_fate fate = fate_by(c, reply);
	if (!c->options.lmtp)
		settle_rest(c, &fate);
	else if (next_open(c) != NULL)
		settle(next_open(c), &fate);
	if (next_open(c) != NULL)
		client_expect(c, SMTP_CLIENT_STEP_END);
	else
		finish(c);
}
