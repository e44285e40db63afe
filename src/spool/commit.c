/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The committer: take all that is waiting, write it as one batch, sync once,
 * tell everybody. The next batch forms during the sync, and a moment longer
 * where there is company.
 *
 * A batch that fails is void: the segment ends before it, its pages are never
 * synced again, those who wait are told. Transactions without a waiter are
 * kept and go first into the next segment. A second failure in a row stops
 * the spool; a full disk does not.
 */

#include "base/bug.h"
#include "base/hash.h"
#include "base/mem.h"
#include "os/clock.h"
#include "spool/internal.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define FAILURES_MAX 2
#define NO_ROOM_PAUSE_US (100 * US_PER_MS)
#define NO_ROOM_BYTES_MAX (64u << 20) /* outcomes kept while there is no room */
#define COMPANY_PAUSE_NS 300000L
#define FRAME (FORMAT_HEADER + 48u) /* BATCH record with its fill */

/* ---- the queue --------------------------------------------------------- */

void
queue_init(struct queue *queue)
{
	(void)pthread_mutex_init(&queue->lock, NULL);
	cond_init_monotonic(&queue->work);
	queue->last = &queue->first;
}

void
queue_done(struct queue *queue)
{
	BUG_UNLESS(!queue->first);
	(void)pthread_mutex_destroy(&queue->lock);
	(void)pthread_cond_destroy(&queue->work);
}

bool
queue_push(struct queue *queue, struct spool_txn *txn)
{
	txn->next = NULL;
	(void)pthread_mutex_lock(&queue->lock);
	bool is_over = queue->is_over;
	if (!is_over) {
		*queue->last = txn;
		queue->last = &txn->next;
	}
	bool is_due = queue->sleep == SLEEP_DEEP ||
		      (queue->sleep == SLEEP_DOZING && txn_is_urgent(txn));
	if (is_due) {
		queue->sleep = SLEEP_AWAKE;
		(void)pthread_cond_signal(&queue->work);
	}
	(void)pthread_mutex_unlock(&queue->lock);
	return !is_over;
}

void
queue_close(struct queue *queue)
{
	(void)pthread_mutex_lock(&queue->lock);
	queue->is_closing = true;
	(void)pthread_cond_signal(&queue->work);
	(void)pthread_mutex_unlock(&queue->lock);
}

void
commit_push(struct spool *spool, struct spool_txn *txn)
{
	if (!txn_is_urgent(txn))
		txn->queued_us = clock_monotonic_us();
	if (!queue_push(&spool->queue, txn))
		commit_refuse(txn, -ECANCELED);
}

void
commit_refuse(struct spool_txn *txn, int code)
{
	txn_abandon(txn);
	txn_finish(txn, code);
}

/* ---- the committer's own list ------------------------------------------ */

static void
pending_add(struct spool *spool, struct spool_txn *txn)
{
	txn->next = NULL;
	*spool->pending_last = txn;
	spool->pending_last = &txn->next;
	if (txn_is_urgent(txn))
		spool->urgent++;
	else
		spool->lazy_bytes += txn_size(txn);
}

static struct spool_txn *
pending_take(struct spool *spool)
{
	struct spool_txn *txn = spool->pending;

	spool->pending = txn->next;
	if (!spool->pending)
		spool->pending_last = &spool->pending;
	if (txn_is_urgent(txn))
		spool->urgent--;
	else
		spool->lazy_bytes -= txn_size(txn);
	txn->next = NULL;
	return txn;
}

static void
pending_put_back(struct spool *spool, struct spool_txn *txn)
{
	txn->next = spool->pending;
	if (!spool->pending)
		spool->pending_last = &txn->next;
	spool->pending = txn;
	if (txn_is_urgent(txn))
		spool->urgent++;
	else
		spool->lazy_bytes += txn_size(txn);
}

static void
take_queue(struct spool *spool)
{
	struct spool_txn *txn = spool->queue.first;

	spool->queue.first = NULL;
	spool->queue.last = &spool->queue.first;
	while (txn) {
		struct spool_txn *next = txn->next;

		pending_add(spool, txn);
		txn = next;
	}
}

/* When what is pending must be written; TIME_NEVER when nothing is. */
static int64_t
due_us(const struct spool *spool)
{
	int64_t due;

	if (spool->urgent > 0)
		return 0;
	if (!spool->pending)
		return TIME_NEVER;
	due = spool->pending->queued_us + spool->options.lazy_sync_us;
	return due > spool->no_room_until_us ? due : spool->no_room_until_us;
}

/* Sleeps until there is something to write. False: closing, nothing left. */
static bool
wait_for_work(struct spool *spool)
{
	struct queue *queue = &spool->queue;

	(void)pthread_mutex_lock(&queue->lock);
	for (;;) {
		take_queue(spool);
		int64_t due = due_us(spool);
		if (queue->is_closing || due <= clock_monotonic_us())
			break;
		queue->sleep = spool->pending ? SLEEP_DOZING : SLEEP_DEEP;
		cond_wait_until(&queue->work, &queue->lock, due);
		queue->sleep = SLEEP_AWAKE;
	}
	queue->is_over = queue->is_closing && !spool->pending;
	(void)pthread_mutex_unlock(&queue->lock);
	return spool->pending != NULL;
}

/* Where several waited for the last batch, more will come for this one: to let
 * them ride in it costs them a moment, and saves a sync with all its waking. A
 * lone client never waits for company. */
static void
await_company(struct spool *spool)
{
	const struct timespec pause = { .tv_nsec = COMPANY_PAUSE_NS };

	if (spool->urgent > 0 && spool->company > 1) {
		(void)nanosleep(&pause, NULL);
		(void)pthread_mutex_lock(&spool->queue.lock);
		take_queue(spool);
		(void)pthread_mutex_unlock(&spool->queue.lock);
	}
	spool->company = spool->urgent;
}

/* ---- what a commit means ----------------------------------------------- */

void
commit_outcome(struct spool *spool, const struct spool_outcome *outcome)
{
	struct slot slot;

	if (outcome->kind == SPOOL_DEFERRED)
		return;
	uint32_t taken = index_settle(
	    &spool->index, outcome->mno, outcome->rcpt_count, &slot);
	atomic_fetch_sub(&spool->recipients, taken);
	if (taken == 0 || slot.live > 0)
		return;
	atomic_fetch_sub(&spool->messages, 1);
	segment_bury(spool, &slot);
	if (slot.is_shared)
		bodies_unref(spool, slot.len);
}

static void
apply_record(void *arg, enum record_type type, struct span payload)
{
	struct spool *spool = arg;
	struct spool_outcome outcome;
	struct spool_order order;

	if (type == RECORD_ORDER && order_decode(payload, &order)) {
		standing_apply(&spool->orders, &order);
		atomic_store(
		    &spool->order_count, standing_count(spool->orders));
	}
	if (type != RECORD_DONE)
		return;
	for (; payload.len >= FORMAT_DONE;
	     payload = span_skip(payload, FORMAT_DONE)) {
		struct span item = span_slice(payload, 0, FORMAT_DONE);

		if (outcome_decode(type, item, &outcome))
			commit_outcome(spool, &outcome);
	}
}

static void
apply(struct spool *spool, struct spool_txn *txn)
{
	if (txn->slot.mno != 0) {
		segment_count_live(spool, txn->slot.segment, 1);
		index_put(&spool->index, &txn->slot);
		atomic_fetch_add(&spool->recipients, txn->slot.live);
		atomic_fetch_add(&spool->messages, 1);
	}
	txn_each(txn, apply_record, spool);
}

static void
tell_readers(struct spool *spool)
{
	if (atomic_load(&spool->event_waiters) == 0)
		return;
	(void)pthread_mutex_lock(&spool->event_lock);
	(void)pthread_cond_broadcast(&spool->event_news);
	(void)pthread_mutex_unlock(&spool->event_lock);
}

/* ---- a batch ----------------------------------------------------------- */

struct work {
	struct spool_txn *first, **last;
	uint64_t bytes; /* with the frame, without the fill to the page */
	size_t pieces;
	uint32_t records, txns;
	uint8_t frame[FRAME];
	uint8_t pad[FORMAT_HEADER];
};

/* Errors that may pass by themselves. */
static bool
is_passing(int code)
{
	return code == -ENOSPC || code == -EDQUOT || code == -EROFS ||
	       code == -EMFILE || code == -ENFILE || code == -ENOMEM;
}

/* Why this one cannot be written, ever or now; 0: it can. */
static int
refusal(const struct spool *spool, const struct spool_txn *txn, bool is_scarce)
{
	uint64_t most = spool->options.segment_size - FORMAT_PAGE - FRAME;

	if (txn->error < 0)
		return txn->error;
	if (txn_size(txn) > most)
		return ERR_LIMIT;
	return is_scarce && txn->slot.mno != 0 && txn_is_urgent(txn) ? -ENOSPC
								     : 0;
}

static bool
fits(const struct spool *spool, const struct work *work,
    const struct spool_txn *txn)
{
	uint64_t bytes = work->bytes + txn_size(txn);

	if (!spool->active || bytes > spool->options.segment_size - spool->tail)
		return false;
	if (work->txns == 0)
		return true;
	return bytes <= BATCH_BYTES_MAX &&
	       work->pieces + txn_pieces(txn) <= BATCH_PIECES_MAX;
}

/* Whether it goes into this batch; what it shares is then kept alive. */
static bool
take(struct spool *spool, const struct work *work, struct spool_txn *txn)
{
	if (spool->active)
		txn_claim_body(txn, spool->active->number);
	if (fits(spool, work, txn))
		return true;
	txn_release_body(txn);
	return false;
}

static void
gather(struct spool *spool, struct work *work)
{
	bool is_scarce = segment_is_scarce(spool);

	if (is_scarce)
		atomic_store(&spool->no_room, 1);
	while (spool->pending) {
		int code = refusal(spool, spool->pending, is_scarce);

		if (code < 0 && !spool->pending->done)
			spool_fail(spool, code);
		if (code < 0) {
			commit_refuse(pending_take(spool), code);
			continue;
		}
		struct spool_txn *txn = pending_take(spool);
		if (!take(spool, work, txn)) {
			pending_put_back(spool, txn);
			break;
		}
		*work->last = txn;
		work->last = &txn->next;
		work->bytes += txn_size(txn);
		work->pieces += txn_pieces(txn);
		work->records += txn->records + txn->body.is_written;
		work->txns++;
	}
}

static void
frame(struct spool *spool, struct work *work, uint64_t bytes)
{
	struct batch b = {
		.number = spool->batch_no++,
		.durable_lsn = atomic_load(&spool->durable_lsn),
		.next_mno = atomic_load(&spool->next_mno),
		.wall_us = clock_wall_us(),
		.records = work->records,
		.bytes = (uint32_t)bytes,
	};
	uint8_t *payload = work->frame + FORMAT_HEADER;

	batch_encode(&b, payload);
	struct record_header h = {
		.lsn = LSN(spool->active->number, spool->tail),
		.len = FORMAT_BATCH,
		.payload_crc = hash_crc32c(0, payload, FORMAT_BATCH),
		.type = RECORD_BATCH,
		.epoch = (uint16_t)spool->epoch,
	};
	record_encode(&h, spool->seal, work->frame);
	if (bytes - work->bytes < FORMAT_HEADER)
		return;
	struct record_header pad = {
		.lsn = h.lsn + work->bytes,
		.len = (uint32_t)(bytes - work->bytes - FORMAT_HEADER),
		.type = RECORD_PAD,
		.epoch = h.epoch,
	};
	record_encode(&pad, spool->seal, work->pad);
}

static int
sync_active(struct spool *spool)
{
	int64_t start = clock_monotonic_us();
	int result = spool->io->datasync(spool->io->owner, spool->active->file);
	uint64_t took = (uint64_t)(clock_monotonic_us() - start);

	atomic_fetch_add(&spool->syncs, 1);
	atomic_fetch_add(&spool->sync_us_total, took);
	if (took > atomic_load(&spool->sync_us_max))
		atomic_store(&spool->sync_us_max, took);
	return result;
}

static int
write_batch(struct spool *spool, struct work *work)
{
	static const uint8_t zeros[FORMAT_PAGE];
	uint64_t bytes = format_paged(work->bytes);
	uint64_t lsn = LSN(spool->active->number, spool->tail) + FRAME;
	struct iovec *iov = spool->iov;
	const uint8_t *from = zeros;
	size_t count = 0, rest = bytes - work->bytes;

	memset(work->frame, 0, sizeof work->frame);
	memset(work->pad, 0, sizeof work->pad);
	frame(spool, work, bytes);
	iov[count++] = (struct iovec){ work->frame, sizeof work->frame };
	for (struct spool_txn *t = work->first; t; t = t->next) {
		count += txn_stamp(t, lsn, iov + count);
		lsn += txn_size(t);
	}
	size_t pad = rest < FORMAT_HEADER ? 0 : FORMAT_HEADER;
	iov[count++] = (struct iovec){ work->pad, pad };
	memcpy(&iov[count].iov_base, &from, sizeof from);
	iov[count++].iov_len = rest - pad;
	TRY(io_write(spool->io, spool->active->file, iov, count, spool->tail));
	TRY(sync_active(spool));
	atomic_fetch_add(&spool->bytes_written, bytes);
	return 0;
}

static void
succeed(struct spool *spool, struct work *work)
{
	spool->failures = 0;
	spool->tail += format_paged(work->bytes);
	segment_advance(spool, spool->tail);
	atomic_store(
	    &spool->durable_lsn, LSN(spool->active->number, spool->tail));
	atomic_store(&spool->written_segment, spool->active->number);
	atomic_fetch_add(&spool->batches, 1);
	atomic_fetch_add(&spool->transactions, work->txns);
	for (struct spool_txn *t = work->first; t; t = t->next)
		apply(spool, t);
	tell_readers(spool);
	for (struct spool_txn *t = work->first, *next; t; t = next) {
		next = t->next;
		txn_finish(t, 0);
	}
}

static void
count_failure(struct spool *spool, int code)
{
	if (is_passing(code))
		return;
	if (++spool->failures >= FAILURES_MAX)
		spool_fail(spool, code);
}

static void
pause_for_room(struct spool *spool, int code)
{
	spool->no_room_until_us = clock_monotonic_us() + NO_ROOM_PAUSE_US;
	if (spool->lazy_bytes > NO_ROOM_BYTES_MAX)
		spool_fail(spool, code);
}

static void
fail_batch(struct spool *spool, struct work *work, int code)
{
	struct spool_txn *kept = NULL;

	for (struct spool_txn *t = work->first; t; t = t->next)
		txn_release_body(t);
	segment_seal(spool);
	count_failure(spool, code);
	if (is_passing(code))
		atomic_store(&spool->no_room, 1);
	for (struct spool_txn *t = work->first, *next; t; t = next) {
		next = t->next;
		if (t->done) {
			/* Its body's file stays: the record that names it may
			 * have reached the disk. */
			txn_finish(t, code);
			continue;
		}
		t->next = kept;
		kept = t;
	}
	for (struct spool_txn *t = kept, *next; t; t = next) {
		next = t->next;
		pending_put_back(spool, t);
	}
	if (is_passing(code))
		pause_for_room(spool, code);
}

/* No segment is to be had: those who wait are told, the others stay. */
static void
fail_for_room(struct spool *spool, int code)
{
	struct spool_txn *all = spool->pending;

	count_failure(spool, code);
	atomic_store(&spool->no_room, 1);
	spool->pending = NULL;
	spool->pending_last = &spool->pending;
	spool->urgent = 0;
	spool->lazy_bytes = 0;
	for (struct spool_txn *t = all, *next; t; t = next) {
		next = t->next;
		if (txn_is_urgent(t))
			commit_refuse(t, code);
		else
			pending_add(spool, t);
	}
	pause_for_room(spool, code);
}

static int
rotate(struct spool *spool)
{
	TRY(segment_rotate(spool));
	struct spool_txn *orders = txn_of_orders(spool);
	if (orders)
		pending_put_back(spool, orders);
	if (!segment_is_scarce(spool))
		atomic_store(&spool->no_room, 0);
	return 0;
}

static void
commit_once(struct spool *spool)
{
	struct work work = { .bytes = FRAME };
	int result = 0;

	work.last = &work.first;
	if (spool->active && !spool->active->is_whole &&
	    segment_is_prepared(spool))
		result = rotate(spool);
	if (result == 0)
		gather(spool, &work);
	if (result == 0 && work.txns == 0 && spool->pending) {
		result = rotate(spool);
		if (result == 0)
			gather(spool, &work);
	}
	if (result < 0) {
		fail_for_room(spool, result);
		return;
	}
	if (work.txns == 0)
		return;
	result = write_batch(spool, &work);
	if (result == 0)
		succeed(spool, &work);
	else
		fail_batch(spool, &work, result);
}

static bool
is_closing(struct spool *spool)
{
	(void)pthread_mutex_lock(&spool->queue.lock);
	bool closing = spool->queue.is_closing;
	(void)pthread_mutex_unlock(&spool->queue.lock);
	return closing;
}

void *
commit_thread(void *arg)
{
	struct spool *spool = arg;

	while (wait_for_work(spool)) {
		int failed = atomic_load(&spool->failed);

		await_company(spool);
		if (failed == 0)
			commit_once(spool);
		/* A spool that closes does not wait for room. */
		if (failed == 0 && spool->no_room_until_us > 0 &&
		    spool->pending && is_closing(spool) &&
		    clock_monotonic_us() < spool->no_room_until_us)
			failed = -ENOSPC;
		while (failed < 0 && spool->pending)
			commit_refuse(pending_take(spool), failed);
	}
	return NULL;
}
