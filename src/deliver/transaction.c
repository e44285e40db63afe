/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "deliver/internal.h"
#include "log/log.h"
#include "os/clock.h"

#include <string.h>

enum { STUFF_PIECE = 64 * 1024 };

/* A tarpit that lets one octet through at a time is not mail's business. */
#define TRANSACTION_MAX_US US_PER_HOUR
#define RATE_MIN 1024 /* octets a second, on top */
/* For a signature, while a server waits. */
#define SIGNING_US (60 * US_PER_S)

static void
forget(struct transaction *t)
{
	spool_message_unref(&t->message);
	signing_cancel(&t->signing);
	signature_unref(&t->signature);
	t->is_sign_clear = false;
	t->queue = NULL;
	t->open = t->body = t->early = t->uncounted = false;
	t->piece = SPAN_EMPTY;
}

/* The message cannot be read now. What is damaged stays queued, to expire with
 * a report rather than to vanish; what is gone has nothing to be sent. */
static void
settle_unopened(struct dispatch *d, struct schedule_queue *queue,
    const struct schedule_delivery *delivery, int err)
{
	LOG(LOG_ERROR, "deliver", "a queued message is unreadable",
	    LOG_N("mno", delivery->mno), LOG_C("reason", error_text(err)));
	if (err == ERR_NOT_FOUND) {
		schedule_done(d->schedule, queue, delivery->rcpt_count);
		return;
	}
	char text[128];
	struct buf line = BUF_EMPTY;
	buf_printf(&line, "cannot read the message from the queue: %s",
	    error_text(err));
	(void)span_to_cstring(buf_span(&line), text, sizeof text);
	buf_done(&line);
	schedule_queue_set_last_reply(queue, span_of(text));
	(void)schedule_defer(
	    d->schedule, queue, delivery, true, 0, loop_now_us(d->loop));
}

bool
transaction_open_message(struct dispatch *d, struct schedule_queue *queue,
    const struct schedule_delivery *delivery,
    struct spool_message **ret_message)
{
	int err = spool_message_open(d->spool, delivery->mno, ret_message);
	if (err == 0)
		return true;
	settle_unopened(d, queue, delivery, err);
	dispatch_pump_soon(d);
	return false;
}

bool
transaction_open(struct connection *c, struct schedule_queue *queue,
    const struct schedule_delivery *delivery)
{
	struct transaction *t = &c->transaction;
	BUG_UNLESS(t->queue == NULL && t->message == NULL);
	if (!transaction_open_message(
		c->dispatch, queue, delivery, &t->message))
		return false;
	t->queue = queue;
	t->rest = *delivery;
	return true;
}

/* RFC 8689 §4.2.1: a certificate says who the host is; that it is the host of
 * the domain, DNSSEC, a policy or the operator must say. */
static bool
has_proved_its_name(const struct connection *c)
{
	const struct plan_host *host = connection_plan_host(c);
	bool is_named = c->plan->route->deliver != CONFIG_DELIVER_MX ||
			c->plan->mx_secure || host->security == SECURITY_STS;
	return c->tls[0] != '\0' && c->tls_verified && is_named;
}

static enum smtp_body
body_kind(uint32_t flags)
{
	if ((flags & SPOOL_BINARY) != 0)
		return SMTP_BODY_BINARYMIME;
	return (flags & SPOOL_8BIT) != 0 ? SMTP_BODY_8BITMIME : SMTP_BODY_7BIT;
}

static uint32_t
batch_size(const struct connection *c)
{
	uint32_t count = c->transaction.rest.rcpt_count;
	uint32_t most = c->limits.recipients;
	uint32_t told = smtp_client_rcpt_max(c->client);
	if (told > 0 && told < most)
		most = told;
	if (most > 1000)
		most = 1000; /* smtp_client's bound */
	if (most == 0)
		most = 1;
	return count < most ? count : most;
}

/* The peer has no part in it, so the attempt does not name it. */
static void
skip_suppressed(struct connection *c)
{
	struct transaction *t = &c->transaction;
	struct attempt a = {
		.message = t->message,
		.counts = true,
		.route = route_kind(c->plan->route),
		.site = c->site != NULL ? schedule_site_name(c->counted.site)
					: SPAN_EMPTY,
	};
	suppressed_settle(c->dispatch, t->queue, &a, &t->rest);
}

/* ---- signing ---- */

/* No verdict on the server, nor on the mail: the key must be mended. */
static void
settle_unsigned(struct connection *c, const struct failure *failure)
{
	struct transaction *t = &c->transaction;
	struct dispatch *d = c->dispatch;
	uint32_t count = t->rest.rcpt_count;
	char id[MSGID_TEXT_SIZE];
	const struct spool_envelope *m = spool_message_envelope(t->message);
	LOG(LOG_ERROR, "deliver", "a message cannot be signed and waits",
	    LOG_C("message_id", msgid_format(&m->id, id)),
	    LOG_S("header_from", m->header_from),
	    LOG_C("reason", failure->text));
	if (t->arena == NULL)
		t->arena = arena_new();
	arena_reset(t->arena);
	struct result *results = ARENA_ARRAY(t->arena, struct result, count);
	for (uint32_t i = 0; i < count; i++)
		results[i] = (struct result){
			.kind = SPOOL_DEFERRED,
			.local = true,
			.step = "sign",
			.reply = REPLY(451, 4, 7, 5,
			    "the message cannot be signed for its sender "
			    "domain now: the administrator finds the reason "
			    "in the log"),
		};
	struct attempt a = connection_attempt(c);
	a.delivery = t->rest;
	outcome_settle(d, t->queue, &a, results);
	forget(t);
}

static void
on_signed(void *arg, struct signature *signature, const struct failure *failure)
{
	struct connection *c = arg;
	struct transaction *t = &c->transaction;
	BUG_UNLESS(c->state == CONNECTION_SIGNING && t->queue != NULL);
	t->signing = NULL;
	t->signature = signature;
	t->is_sign_clear = signature != NULL;
	c->state = CONNECTION_SESSION;
	if (signature == NULL)
		settle_unsigned(c, failure);
	c->moved = true;
	session_go_on(c);
	connection_drive(c);
}

/* False: the connection waits. */
static bool
is_sign_clear(struct connection *c)
{
	struct transaction *t = &c->transaction;
	struct dispatch *d = c->dispatch;
	const struct spool_envelope *m = spool_message_envelope(t->message);
	enum config_deliver way = c->plan->route->deliver;
	bool leaves = way == CONFIG_DELIVER_MX || way == CONFIG_DELIVER_SMTP;
	if (t->is_sign_clear || d->signing == NULL || !leaves)
		return true;
	const struct signing_message message = {
		.mno = m->mno,
		.tenant = m->tenant,
		.header_from = m->header_from,
		.is_urgent = m->class != SPOOL_BULK,
		.loop = d->loop,
		.fn = on_signed,
		.arg = c,
	};
	t->is_sign_clear = signing_ask(d->signing, &message, &t->signature,
			       &t->signing) != SIGNING_UNDER_WAY;
	if (!t->is_sign_clear) {
		c->state = CONNECTION_SIGNING;
		connection_set_timer(c, SIGNING_US);
	}
	return t->is_sign_clear;
}

/* ---- beginning ---- */

bool
transaction_start(struct connection *c)
{
	struct transaction *t = &c->transaction;
	const struct spool_envelope *m = spool_message_envelope(t->message);
	skip_suppressed(c);
	if (t->rest.rcpt_count == 0) {
		forget(t);
		return false;
	}
	if (!is_sign_clear(c))
		return true;
	uint32_t count = suppressed_before(
	    c->dispatch, m, t->rest.rcpt_first, batch_size(c));
	struct span sender = m->sender;
	BUG_UNLESS(count > 0 && t->rest.rcpt_first + count <= m->rcpt_count);
	if (t->arena == NULL)
		t->arena = arena_new();
	arena_reset(t->arena);
	if (c->plan->config->returns.domain != NULL)
		sender = return_path_sender(c, &count);
	struct smtp_client_rcpt *rcpts =
	    ARENA_ARRAY(t->arena, struct smtp_client_rcpt, count);
	for (uint32_t i = 0; i < count; i++) {
		const struct spool_rcpt *r = &m->rcpts[t->rest.rcpt_first + i];
		rcpts[i] = (struct smtp_client_rcpt){
			.address = r->address,
			.notify = r->notify,
			.orcpt = r->orcpt,
		};
	}
	t->smtp = (struct smtp_client_transaction){
		.sender = sender,
		.size = spool_message_size(t->message) +
			signature_text(t->signature).len,
		.body = body_kind(m->flags),
		.utf8 = (m->flags & SPOOL_UTF8) != 0,
		.requiretls = (m->flags & SPOOL_REQUIRETLS) != 0 &&
			      c->plan->route->deliver != CONFIG_DELIVER_LMTP,
		.proven = has_proved_its_name(c),
		.ret = (enum smtp_ret)m->ret,
		.envid = m->envid,
		.rcpts = rcpts,
		.rcpt_count = count,
	};
	t->open = true;
	t->body = t->early = false;
	t->piece = SPAN_EMPTY;
	t->started_us = loop_now_us(c->dispatch->loop);
	c->deadline_us = t->started_us + TRANSACTION_MAX_US +
			 (int64_t)(t->smtp.size / RATE_MIN) * US_PER_S;
	c->transactions++;
	dispatch_count(&c->dispatch->counters.transactions, 1);
	smtp_client_start(c->client, &t->smtp);
	return true;
}

/* ---- the body ---- */

void
transaction_body_begin(struct connection *c, bool dot_stuff)
{
	struct transaction *t = &c->transaction;
	const struct spool_envelope *m = spool_message_envelope(t->message);
	BUG_UNLESS(t->open);
	t->body = true;
	t->data = dot_stuff;
	t->stuff = dot_stuff && (m->flags & SPOOL_DOTS) != 0;
	t->early = t->completed = false;
	t->offset = 0;
	t->dots = (struct dots){ 0 };
	t->piece = SPAN_EMPTY;
	memcpy(t->tail, "\r\n", 2);
	if (tap_is_on())
		tap_lines(&c->tap, TAP_NOTE,
		    arena_printf(t->arena, "message of %llu octets",
			(unsigned long long)t->smtp.size));
}

static void
remember_tail(struct transaction *t, struct span piece)
{
	if (piece.len == 1) {
		t->tail[0] = t->tail[1];
		t->tail[1] = piece.ptr[0];
	} else {
		memcpy(t->tail, piece.ptr + piece.len - 2, 2);
	}
}

static int
next_piece(struct transaction *t, struct span *ret_piece)
{
	struct span head = signature_text(t->signature), piece;
	if (t->offset < head.len)
		piece = span_skip(head, t->offset);
	else
		TRY(spool_message_read(
		    t->message, t->offset - head.len, &piece));
	if (piece.len == 0) {
		*ret_piece = SPAN_EMPTY;
		return 0;
	}
	if (t->stuff)
		piece = span_slice(piece, 0, STUFF_PIECE);
	t->offset += piece.len;
	remember_tail(t, piece);
	if (t->stuff) {
		buf_clear(&t->stuffed);
		dots_stuff(&t->dots, piece, &t->stuffed);
		piece = buf_span(&t->stuffed);
	}
	*ret_piece = piece;
	return 0;
}

int
transaction_body_next(struct transaction *t)
{
	BUG_UNLESS(t->body && t->piece.len == 0);
	TRY(next_piece(t, &t->piece));
	if (t->piece.len > 0)
		return 1;
	/* RFC 5321 §4.1.1.4: DATA's octets end with a line's end. A message
	 * that came by BDAT need not (RFC 3030 §2). */
	if (t->data && !t->completed && memcmp(t->tail, "\r\n", 2) != 0) {
		t->completed = true;
		t->piece = t->tail[1] == '\r' ? SPAN("\n") : SPAN("\r\n");
		return 1;
	}
	return 0;
}

bool
transaction_body_ends_here(const struct transaction *t)
{
	return t->offset >= t->smtp.size && memcmp(t->tail, "\r\n", 2) == 0;
}

/* ---- the end ---- */

/* A kept connection that the server had given up in the meantime: nothing was
 * said of this message, so nothing happened to it. */
static bool
never_began(const struct connection *c)
{
	const struct smtp_client_fate *f = smtp_client_fate(c->client, 0);
	bool at_mail = f->step == SMTP_CLIENT_STEP_MAIL ||
		       f->step == SMTP_CLIENT_STEP_RSET ||
		       f->step == SMTP_CLIENT_STEP_IDLE;
	return c->transactions > 1 && at_mail &&
	       f->kind == SMTP_FATE_TEMPORARY &&
	       (f->local || f->reply.code == 421) &&
	       smtp_client_step(c->client) == SMTP_CLIENT_STEP_CLOSED;
}

/* BDAT was offered and is not known: once more, without. There is no other way
 * for a binary message, which has then been tried. */
static void
note_chunking(struct connection *c, struct result *results, size_t count)
{
	struct dispatch *d = c->dispatch;
	const struct netaddr *address = &c->plan->addresses[c->at].address;
	if (!smtp_client_chunking_refused(c->client))
		return;
	dispatch_hint(d, address)->no_chunks_until_us =
	    loop_now_us(d->loop) + US_PER_DAY;
	if (c->transaction.smtp.body == SMTP_BODY_BINARYMIME)
		return;
	for (size_t i = 0; i < count; i++)
		results[i].again |= results[i].kind == SPOOL_DEFERRED;
}

/* The server answered what it had not heard to its end. Nothing it says from
 * here on can be matched to what we say, least of all a 250. */
static void
distrust(struct connection *c, struct result *results, size_t count)
{
	if (c->transaction.piece.len == 0 &&
	    smtp_client_output(c->client).len == 0)
		return;
	c->is_out_of_step = true;
	for (size_t i = 0; i < count; i++) {
		if (results[i].kind != SPOOL_DELIVERED)
			continue;
		results[i].kind = SPOOL_DEFERRED;
		results[i].local = true;
		results[i].relayed = false;
		results[i].reply = REPLY(451, 4, 5, 0,
		    "the server answered before it had the whole message");
	}
}

/* We went without TLS only because it did not work now. That a server insists
 * on it (RFC 3207 §4: 530) is then no verdict on the mail. */
static void
forgive_plain(const struct connection *c, struct result *results, size_t count)
{
	int offers = smtp_client_offers(c->client);
	if (c->tls[0] != '\0' || offers < 0 ||
	    (offers & SMTP_OFFER_STARTTLS) == 0 ||
	    c->plan->route->tls != CONFIG_ROUTE_TLS_OPPORTUNISTIC)
		return;
	for (size_t i = 0; i < count; i++) {
		bool by_plain =
		    results[i].reply.code == 530 ||
		    (results[i].local && c->transaction.smtp.requiretls);
		if (results[i].kind == SPOOL_BOUNCED && by_plain)
			results[i].kind = SPOOL_DEFERRED;
	}
}

static struct result *
make_results(struct connection *c, size_t count)
{
	struct transaction *t = &c->transaction;
	struct result *results = ARENA_ARRAY(t->arena, struct result, count);
	bool lmtp = c->plan->route->deliver == CONFIG_DELIVER_LMTP;
	for (size_t i = 0; i < count; i++) {
		results[i] = result_of_fate(smtp_client_fate(c->client, i));
		results[i].relayed &= !lmtp; /* it was the last hop */
	}
	distrust(c, results, count);
	forgive_plain(c, results, count);
	result_mark_again(results, count);
	note_chunking(c, results, count);
	for (size_t i = 0; t->uncounted && i < count; i++)
		results[i].again |=
		    results[i].kind == SPOOL_DEFERRED && results[i].local;
	return results;
}

void
transaction_done(struct connection *c)
{
	struct transaction *t = &c->transaction;
	struct dispatch *d = c->dispatch;
	size_t count = t->smtp.rcpt_count;
	BUG_UNLESS(t->open && t->queue != NULL);
	struct result *results = make_results(c, count);
	t->open = t->body = t->early = false;
	t->piece = SPAN_EMPTY;
	if (never_began(c)) {
		transaction_release(c);
		return;
	}
	/* One is enough: they came in one breath. */
	if (c->site != NULL && count > 0)
		site_note_result(c->site, &c->counted, &results[count - 1]);
	struct attempt a = connection_attempt(c);
	a.delivery = t->rest;
	a.delivery.rcpt_count = (uint32_t)count;
	a.took_us = clock_monotonic_us() - t->started_us;
	t->rest.rcpt_first += (uint32_t)count;
	t->rest.rcpt_count -= (uint32_t)count;
	outcome_settle(d, t->queue, &a, results);
	if (t->rest.rcpt_count == 0)
		forget(t);
}

void
transaction_release(struct connection *c)
{
	struct transaction *t = &c->transaction;
	struct dispatch *d = c->dispatch;
	if (t->queue == NULL)
		return;
	schedule_return(d->schedule, t->queue, &t->rest, loop_now_us(d->loop));
	forget(t);
	dispatch_pump_soon(d);
}
