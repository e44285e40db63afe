/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A transaction as bytes: everything is serialised and summed in the thread
 * that brings it, so that the committer only stamps positions. The message
 * stands first, whatever the order of the calls: an outcome in the same
 * transaction refers to it. A body that it shares stands before it, where the
 * log has none: no part of the transaction, for without it nobody needs it.
 */

#include "base/bug.h"
#include "base/hash.h"
#include "base/mem.h"
#include "os/clock.h"
#include "spool/internal.h"

#include <string.h>

static const char fill[FORMAT_ALIGN];

struct spool_txn *
spool_txn_new(struct spool *spool)
{
	struct spool_txn *txn = MEM_NEW(struct spool_txn);

	txn->spool = spool;
	txn->open_at = SIZE_MAX;
	return txn;
}

void
txn_abandon(struct spool_txn *txn)
{
	spool_draft_free(&txn->draft);
}

/* The memory only: the body's file stays. */
static void
release(struct spool_txn *txn)
{
	draft_keep(&txn->draft);
	buf_done(&txn->message);
	buf_done(&txn->rest);
	mem_free(txn);
}

void
spool_txn_free(struct spool_txn **txn)
{
	if (!*txn)
		return;
	txn_abandon(*txn);
	release(*txn);
	*txn = NULL;
}

void
txn_finish(struct spool_txn *txn, int result)
{
	if (txn->done)
		txn->done(txn->arg, result);
	release(txn);
}

/* ---- the message ------------------------------------------------------- */

static uint32_t
message_crc(const struct spool_txn *txn)
{
	uint32_t crc = hash_crc32c(0, txn->message.ptr + FORMAT_HEADER,
	    buf_size(&txn->message) - FORMAT_HEADER);

	if (txn->inline_len == 0)
		return crc;
	for (const struct draft_chunk *c = txn->draft->first; c; c = c->next)
		crc = hash_crc32c(crc, c->bytes, c->len);
	return crc;
}

/* Behind the envelope: what is the message's alone, and the reference. */
static void
add_shared(struct spool_txn *txn, const struct message_body *body)
{
	size_t rest = body->own_octets.len;

	for (const struct draft_chunk *c = txn->draft->first; rest > 0;
	     c = c->next) {
		size_t part = rest < c->len ? rest : c->len;

		buf_append(&txn->message, span_from(c->bytes, part));
		rest -= part;
	}
	reference_encode(&body->shared,
	    (uint8_t *)buf_reserve(&txn->message, FORMAT_REFERENCE));
	buf_added(&txn->message, FORMAT_REFERENCE);
}

/* The body's record, should it have to be written. */
static void
prepare_body(struct spool_txn *txn, const struct body_reference *shared)
{
	struct txn_body *body = &txn->body;
	const struct record_header h = {
		.type = RECORD_BODY,
		.len = FORMAT_BODY + shared->size,
		.payload_crc = shared->crc,
	};

	body->number = shared->number;
	body->len = h.len;
	record_encode(&h, txn->spool->seal, body->head);
	body_encode(shared->number, body->tenant, body->head + FORMAT_HEADER);
}

static void
add_header(struct spool_txn *txn)
{
	struct record_header h = {
		.type = txn->slot.is_shared ? RECORD_ENVELOPE : RECORD_MESSAGE,
		.len = txn->message_len,
		.payload_crc = message_crc(txn),
	};

	record_encode(&h, txn->spool->seal, (uint8_t *)txn->message.ptr);
}

static int
encode_message(struct spool_txn *txn, const struct spool_envelope *envelope)
{
	struct spool_draft *draft = txn->draft;
	struct spool_envelope e = *envelope;
	struct message_body body = { .is_file = draft->path != NULL };

	TRY(draft_finish(draft));
	e.body_size = draft->size;
	body.piece_crcs = buf_span(&draft->piece_crcs);
	body.is_shared =
	    recent_match(txn->spool, e.tenant, draft, &body.shared);
	if (body.is_shared)
		/* Only its length counts: it is in pieces. */
		body.own_octets = span_from("", (size_t)draft->own);
	memset(buf_reserve(&txn->message, FORMAT_HEADER), 0, FORMAT_HEADER);
	buf_added(&txn->message, FORMAT_HEADER);
	TRY(message_encode(&e, &body, &txn->message));
	if (body.is_shared) {
		add_shared(txn, &body);
		txn->body.tenant = e.tenant;
		prepare_body(txn, &body.shared);
	} else if (!body.is_file) {
		txn->inline_len = (uint32_t)draft->size;
	}
	txn->message_len = (uint32_t)(buf_size(&txn->message) - FORMAT_HEADER) +
			   txn->inline_len;
	txn->slot = (struct slot){
		.mno = e.mno,
		.len = txn->message_len,
		.live = (uint16_t)e.rcpt_count,
		.is_file = body.is_file,
		.is_shared = body.is_shared,
	};
	add_header(txn);
	txn->records++;
	return 0;
}

void
spool_txn_message(struct spool_txn *txn, const struct spool_envelope *envelope,
    struct spool_draft **draft)
{
	BUG_UNLESS(!txn->draft && (*draft)->mno == envelope->mno);
	txn->draft = *draft;
	*draft = NULL;
	int result = encode_message(txn, envelope);
	if (result < 0)
		txn->error = result;
}

/* ---- other records ----------------------------------------------------- */

static void
close_record(struct spool_txn *txn)
{
	if (txn->open_at == SIZE_MAX)
		return;
	uint8_t *at = (uint8_t *)txn->rest.ptr + txn->open_at;
	size_t len = buf_size(&txn->rest) - txn->open_at - FORMAT_HEADER;
	struct record_header h = {
		.type = (uint8_t)txn->open_type,
		.len = (uint32_t)len,
		.payload_crc = hash_crc32c(0, at + FORMAT_HEADER, len),
	};

	record_encode(&h, txn->spool->seal, at);
	buf_append(&txn->rest, span_from(fill, format_aligned(len) - len));
	txn->open_at = SIZE_MAX;
}

static void
open_record(struct spool_txn *txn, enum record_type type)
{
	close_record(txn);
	char *at = buf_reserve(&txn->rest, FORMAT_HEADER);

	memset(at, 0, FORMAT_HEADER);
	txn->open_type = type;
	txn->open_at = buf_size(&txn->rest);
	buf_added(&txn->rest, FORMAT_HEADER);
	txn->records++;
}

void
spool_txn_outcome(struct spool_txn *txn, const struct spool_outcome *outcome)
{
	enum record_type type =
	    outcome->kind == SPOOL_DEFERRED ? RECORD_DEFER : RECORD_DONE;

	if (txn->open_at == SIZE_MAX || txn->open_type != type)
		open_record(txn, type);
	txn->has_outcome = true;
	outcome_encode(outcome, &txn->rest);
}

void
spool_txn_order(struct spool_txn *txn, const struct spool_order *order)
{
	open_record(txn, RECORD_ORDER);
	int result = order_encode(order, &txn->rest);
	if (result < 0)
		txn->error = result;
}

void
spool_txn_event(struct spool_txn *txn, struct span lines)
{
	if (lines.len > BATCH_BYTES_MAX) {
		txn->error = ERR_LIMIT;
		return;
	}
	open_record(txn, RECORD_EVENT);
	buf_append(&txn->rest, lines);
}

struct spool_txn *
txn_of_orders(struct spool *spool)
{
	if (!spool->orders)
		return NULL;
	struct spool_txn *txn = spool_txn_new(spool);
	for (const struct standing *s = spool->orders; s; s = s->next)
		spool_txn_order(txn, &s->order);
	txn_seal(txn);
	return txn;
}

/* ---- to the committer -------------------------------------------------- */

/* The record at this place in rest; its size with the fill. */
static uint64_t
record_at(const struct spool_txn *txn, size_t at, struct record_header *ret_h)
{
	const uint8_t *p = (const uint8_t *)txn->rest.ptr + at;

	BUG_UNLESS(record_decode(p, txn->spool->seal, ret_h));
	return FORMAT_HEADER + format_aligned(ret_h->len);
}

void
txn_seal(struct spool_txn *txn)
{
	struct record_header h;

	close_record(txn);
	if (txn->error < 0 || txn->records < 2)
		return;
	if (txn->slot.mno != 0)
		record_set_flags((uint8_t *)txn->message.ptr, RECORD_MORE);
	for (size_t at = 0; at < buf_size(&txn->rest);) {
		uint64_t size = record_at(txn, at, &h);
		bool is_last = at + size == buf_size(&txn->rest);

		record_set_flags((uint8_t *)txn->rest.ptr + at,
		    is_last ? RECORD_LAST : RECORD_MORE);
		at += size;
	}
}

uint64_t
txn_size(const struct spool_txn *txn)
{
	uint64_t size = buf_size(&txn->rest);

	if (txn->slot.mno != 0)
		size += FORMAT_HEADER + format_aligned(txn->message_len);
	if (txn->body.is_written)
		size += FORMAT_HEADER + format_aligned(txn->body.len);
	return size;
}

size_t
txn_pieces(const struct spool_txn *txn)
{
	size_t pieces = 3;

	if (txn->body.is_written)
		pieces += 2;
	if (txn->inline_len > 0 || txn->body.is_written) {
		for (const struct draft_chunk *c = txn->draft->first; c;
		     c = c->next)
			pieces++;
	}
	return pieces;
}

/* What is stored was found damaged just now: the message gets one of its own,
 * which nobody else refers to. */
static void
renumber_body(struct spool_txn *txn)
{
	uint64_t number = spool_next_mno(txn->spool);
	const struct body_reference shared = {
		.number = number,
		.size = txn->body.len - FORMAT_BODY,
		.crc = draft_body_crc(txn->draft, number, txn->body.tenant),
	};
	uint8_t *record = (uint8_t *)txn->message.ptr;
	size_t size = buf_size(&txn->message);

	reference_encode(&shared, record + size - FORMAT_REFERENCE);
	prepare_body(txn, &shared);
	add_header(txn);
	if (txn->records > 1)
		record_set_flags(record, RECORD_MORE);
}

void
txn_claim_body(struct spool_txn *txn, uint32_t segment)
{
	struct txn_body *body = &txn->body;

	if (body->number == 0 || body->is_claimed)
		return;
	int result = bodies_claim(
	    txn->spool, body->number, segment, body->len, &txn->slot.len);
	if (result == ERR_CORRUPT) {
		renumber_body(txn);
		result = bodies_claim(txn->spool, body->number, segment,
		    body->len, &txn->slot.len);
	}
	BUG_UNLESS(result >= 0);
	body->is_claimed = true;
	body->is_written = result > 0;
}

void
txn_release_body(struct spool_txn *txn)
{
	struct txn_body *body = &txn->body;

	if (!body->is_claimed)
		return;
	body->is_claimed = body->is_written = false;
	bodies_unref(txn->spool, txn->slot.len);
}

/* The octets of the draft from `skip` on, and fill. */
static size_t
stamp_octets(
    struct spool_txn *txn, uint64_t skip, uint32_t len, struct iovec *iov)
{
	const char *from = fill;
	size_t count = 0;

	for (struct draft_chunk *c = txn->draft->first; c; c = c->next) {
		size_t part = skip < c->len ? (size_t)skip : c->len;

		skip -= part;
		iov[count++] = (struct iovec){ c->bytes + part, c->len - part };
	}
	memcpy(&iov[count].iov_base, &from, sizeof from);
	iov[count++].iov_len = format_aligned(len) - len;
	return count;
}

static size_t
stamp_body(struct spool_txn *txn, uint64_t lsn, struct iovec *iov)
{
	struct txn_body *body = &txn->body;

	record_stamp(
	    body->head, lsn, (uint16_t)txn->spool->epoch, txn->spool->seal);
	bodies_place(txn->spool, txn->slot.len, LSN_OFFSET(lsn) / FORMAT_ALIGN);
	iov[0] = (struct iovec){ body->head, sizeof body->head };
	return 1 + stamp_octets(txn, txn->draft->own, body->len, iov + 1);
}

static size_t
stamp_message(struct spool_txn *txn, uint64_t lsn, struct iovec *iov)
{
	size_t pad = format_aligned(txn->message_len) - txn->message_len;
	size_t count = 0;

	record_stamp((uint8_t *)txn->message.ptr, lsn,
	    (uint16_t)txn->spool->epoch, txn->spool->seal);
	txn->slot.segment = LSN_SEGMENT(lsn);
	txn->slot.at = LSN_OFFSET(lsn) / FORMAT_ALIGN;
	iov[count++] =
	    (struct iovec){ txn->message.ptr, buf_size(&txn->message) };
	if (txn->inline_len > 0)
		return count +
		       stamp_octets(txn, 0, txn->message_len, iov + count);
	const char *from = fill;
	memcpy(&iov[count].iov_base, &from, sizeof from);
	iov[count++].iov_len = pad;
	return count;
}

size_t
txn_stamp(struct spool_txn *txn, uint64_t lsn, struct iovec *iov)
{
	uint64_t rest_at = lsn + txn_size(txn) - buf_size(&txn->rest);
	struct record_header h;
	size_t count = 0;

	if (txn->body.is_written) {
		count = stamp_body(txn, lsn, iov);
		lsn += FORMAT_HEADER + format_aligned(txn->body.len);
	}
	if (txn->slot.mno != 0)
		count += stamp_message(txn, lsn, iov + count);
	for (size_t at = 0; at < buf_size(&txn->rest);) {
		record_stamp((uint8_t *)txn->rest.ptr + at, rest_at + at,
		    (uint16_t)txn->spool->epoch, txn->spool->seal);
		at += record_at(txn, at, &h);
	}
	if (buf_size(&txn->rest) > 0)
		iov[count++] =
		    (struct iovec){ txn->rest.ptr, buf_size(&txn->rest) };
	return count;
}

void
txn_each(const struct spool_txn *txn, record_fn *fn, void *arg)
{
	struct record_header h;

	for (size_t at = 0; at < buf_size(&txn->rest);) {
		const char *payload = txn->rest.ptr + at + FORMAT_HEADER;
		uint64_t size = record_at(txn, at, &h);

		fn(arg, (enum record_type)h.type, span_from(payload, h.len));
		at += size;
	}
}

void
spool_txn_submit(struct spool_txn **txn, spool_done_fn *done, void *arg)
{
	struct spool_txn *t = *txn;

	*txn = NULL;
	t->done = done;
	t->arg = arg;
	txn_seal(t);
	if (t->error == 0 && t->draft && t->draft->path)
		stage_push(t->spool, t);
	else
		commit_push(t->spool, t);
}

struct waiter {
	pthread_mutex_t lock;
	pthread_cond_t news;
	bool is_done;
	int result;
};

static void
on_done(void *arg, int result)
{
	struct waiter *waiter = arg;

	(void)pthread_mutex_lock(&waiter->lock);
	waiter->result = result;
	waiter->is_done = true;
	(void)pthread_cond_signal(&waiter->news);
	(void)pthread_mutex_unlock(&waiter->lock);
}

int
spool_txn_commit(struct spool_txn **txn)
{
	struct waiter waiter = {
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.news = PTHREAD_COND_INITIALIZER,
	};

	spool_txn_submit(txn, on_done, &waiter);
	(void)pthread_mutex_lock(&waiter.lock);
	while (!waiter.is_done)
		(void)pthread_cond_wait(&waiter.news, &waiter.lock);
	(void)pthread_mutex_unlock(&waiter.lock);
	(void)pthread_cond_destroy(&waiter.news);
	(void)pthread_mutex_destroy(&waiter.lock);
	return waiter.result;
}
