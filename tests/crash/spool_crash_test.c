/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Random scripts of messages, outcomes, orders and events against a disk whose
 * power goes at any call; after each restart the spool must be what the model
 * says. Every transaction carries one event line with its own number. So the
 * events found after a restart tell which transactions are there; all that was
 * acknowledged must be among them, and applying exactly these to an empty
 * model must give exactly what the spool recovers: no transaction by halves.
 *
 *   SPOOL_CRASH_SEEDS=n    random scripts (default 400)
 *   SPOOL_CRASH_FIRST=n    first seed: to repeat one that failed
 */

#include "base/buf.h"
#include "base/mem.h"
#include "base/time.h"
#include "simdisk.h"
#include "spool/internal.h"
#include "spool/spool.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TXNS_MAX 4096
#define RCPTS_MAX 3
#define DOMAINS 4
#define LIVES 6 /* crashes per script */
#define ACTIONS_MAX 6
#define TEXTS 6 /* bodies that come again and again */
#define OWN 70 /* octets of a message that has one */

enum state { STATE_SUBMITTED, STATE_ACKED, STATE_REFUSED, STATE_VOID };

struct action {
	enum { ACTION_OUTCOME, ACTION_ORDER } what;
	struct spool_outcome outcome;
	bool is_hold;
	unsigned domain;
};

struct txn {
	_Atomic enum state state;
	bool is_lazy;
	uint64_t mno; /* 0: no message */
	uint32_t size, rcpts;
	uint32_t text; /* which of a few bodies; 0: one of its own */
	struct action actions[ACTIONS_MAX];
	unsigned action_count;
	bool is_exported;
};

struct mail {
	uint64_t mno;
	uint32_t size, rcpts, live, text;
	bool is_told; /* the spool knows it */
	bool is_busy[RCPTS_MAX]; /* an end was submitted */

	struct state_of_rcpt {
		bool done, warned;
		uint8_t attempts;
		int64_t due_us;
	} state[RCPTS_MAX];
};

struct world {
	uint64_t seed, random;
	struct simdisk *disk;
	struct spool *spool;
	struct spool_options options;
	struct txn txns[TXNS_MAX];
	uint32_t txn_count;
	struct mail mails[TXNS_MAX];
	uint32_t mail_count;
	bool is_held[DOMAINS];
	uint32_t exported[TXNS_MAX];
	uint32_t exported_count;
	uint64_t exported_lsn;
	bool may_revive; /* the spool failed: what it refused may be there */
	_Atomic unsigned waiting;
	pthread_mutex_t lock;
	pthread_cond_t news;
	bool is_recovering;
	uint32_t recovered;
	unsigned held_found;
	uint32_t found[TXNS_MAX];
	uint32_t found_count;
};

static struct world world;
static unsigned long checked_messages, crashes, acked_total, checkpoints, moved,
    sharing;

static void __attribute__((noreturn, format(printf, 1, 2)))
fail(const char *format, ...)
{
	va_list args;

	printf("not ok - seed %llu: ", (unsigned long long)world.seed);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	(void)fflush(stdout);
	abort();
}

static uint64_t
draw(struct world *w, uint64_t below)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return (w->random >> 11) % below;
}

/* ---- the model --------------------------------------------------------- */

static struct mail *
find_mail(struct world *w, uint64_t mno)
{
	for (uint32_t i = 0; i < w->mail_count; i++) {
		if (w->mails[i].mno == mno)
			return &w->mails[i];
	}
	return NULL;
}

static void
model_outcome(struct world *w, const struct spool_outcome *o)
{
	struct mail *mail = find_mail(w, o->mno);

	if (!mail)
		return;
	for (uint32_t i = o->rcpt_first; i < o->rcpt_first + o->rcpt_count;
	     i++) {
		struct state_of_rcpt *rcpt = &mail->state[i];

		if (o->kind != SPOOL_DEFERRED) {
			mail->live -= !rcpt->done;
			mail->is_busy[i] = rcpt->done = true;
			continue;
		}
		rcpt->attempts = o->attempts;
		rcpt->warned = o->warned;
		rcpt->due_us = o->due_us;
	}
}

static void
model_apply(struct world *w, const struct txn *txn)
{
	if (txn->mno != 0)
		w->mails[w->mail_count++] = (struct mail){
			.mno = txn->mno,
			.size = txn->size,
			.rcpts = txn->rcpts,
			.live = txn->rcpts,
			.text = txn->text,
			.is_told = !w->is_recovering,
		};
	for (unsigned i = 0; i < txn->action_count; i++) {
		const struct action *a = &txn->actions[i];

		if (a->what == ACTION_OUTCOME)
			model_outcome(w, &a->outcome);
		else
			w->is_held[a->domain] = a->is_hold;
	}
}

/* ---- submitting -------------------------------------------------------- */

static void
fill_octets(uint64_t of, uint32_t size, char *ret_octets)
{
	for (uint32_t i = 0; i < size; i++)
		ret_octets[i] =
		    (char)((of * 31 + i) * UINT64_C(0x9e3779b97f4a7c15) >> 40);
}

/* A header of its own, and a body that others may have, too. */
static void
fill_body(uint64_t mno, uint32_t size, uint32_t text, char *ret_body)
{
	uint32_t own = text == 0 ? size : OWN;

	fill_octets(mno, own, ret_body);
	fill_octets(text, size - own, ret_body + own);
}

static const char *const domain_names[DOMAINS] = { "a", "b", "c", "d" };

static bool
add_message(struct world *w, struct txn *txn, struct spool_txn *t)
{
	static const uint32_t sizes[] = { 1, 100, 3000, 4096, 7000, 20000 };
	struct spool_rcpt rcpts[RCPTS_MAX] = { 0 };
	char *AUTO_FREE body = mem_alloc(20001);

	txn->size = (uint32_t)draw(w, sizes[draw(w, 6)] + 1);
	if (w->options.share_bytes > 0 && draw(w, 2)) {
		txn->text = 1 + (uint32_t)draw(w, TEXTS);
		txn->size = OWN + 600 * txn->text * txn->text / 4;
	}
	txn->rcpts = 1 + (uint32_t)draw(w, RCPTS_MAX);
	uint64_t mno = spool_next_mno(w->spool);
	if (find_mail(w, mno))
		fail("number %llu was given twice", (unsigned long long)mno);
	fill_body(mno, txn->size, txn->text, body);
	struct spool_draft *draft = spool_draft_new(w->spool, mno);
	uint32_t own = txn->text == 0 ? 0 : OWN;
	int result = spool_draft_write(draft, span_from(body, own));
	spool_draft_end_own(draft);
	if (result == 0)
		result = spool_draft_write(
		    draft, span_from(body + own, txn->size - own));
	if (result < 0) {
		spool_draft_free(&draft);
		return false;
	}
	for (uint32_t i = 0; i < txn->rcpts; i++)
		rcpts[i] = (struct spool_rcpt){
			.address = SPAN("x@example.org"),
			.notify = (uint8_t)i,
		};
	struct spool_envelope e = {
		.mno = mno,
		.class = SPOOL_REPORT,
		.accepted_us = (int64_t)mno,
		.rcpts = rcpts,
		.rcpt_count = txn->rcpts,
		.prefix = SPAN("P: x\r\n"),
	};
	spool_txn_message(t, &e, &draft);
	txn->mno = mno;
	return true;
}

/* An outcome for a recipient that has no end yet. */
static bool
pick_outcome(struct world *w, struct spool_outcome *ret_outcome)
{
	if (w->mail_count == 0)
		return false;
	/* Mostly recent mail, so that segments die. */
	uint32_t back = (uint32_t)draw(w, draw(w, 4) ? 12 : w->mail_count);
	struct mail *mail = &w->mails[w->mail_count - 1 - back % w->mail_count];
	uint32_t rcpt = (uint32_t)draw(w, mail->rcpts);
	if (mail->is_busy[rcpt] || !mail->is_told)
		return false;
	*ret_outcome = (struct spool_outcome){
		.mno = mail->mno,
		.rcpt_first = rcpt,
		.rcpt_count = 1,
		.kind = SPOOL_BOUNCED,
		.code = 550,
	};
	if (draw(w, 4) == 0) {
		ret_outcome->kind = SPOOL_DEFERRED;
		ret_outcome->attempts = (uint8_t)draw(w, 200);
		ret_outcome->warned = draw(w, 2) != 0;
		ret_outcome->due_us = (int64_t)draw(w, 1u << 30);
	} else {
		mail->is_busy[rcpt] = true;
	}
	return true;
}

static void
add_actions(struct world *w, struct txn *txn, struct spool_txn *t)
{
	uint64_t count = draw(w, ACTIONS_MAX);

	for (uint64_t i = 0; i < count; i++) {
		struct action *a = &txn->actions[txn->action_count];

		if (draw(w, 12) == 0) {
			a->what = ACTION_ORDER;
			a->is_hold = draw(w, 2) != 0;
			a->domain = (unsigned)draw(w, DOMAINS);
			struct spool_order order = {
				.kind = a->is_hold ? SPOOL_ORDER_HOLD
						   : SPOOL_ORDER_RELEASE,
				.domain = span_of(domain_names[a->domain]),
			};
			spool_txn_order(t, &order);
			txn->action_count++;
		} else if (pick_outcome(w, &a->outcome)) {
			a->what = ACTION_OUTCOME;
			spool_txn_outcome(t, &a->outcome);
			txn->action_count++;
		}
	}
}

static void
on_done(void *arg, int result)
{
	struct txn *txn = arg;

	/* What a dead disk refuses may have reached the platter. */
	if (result == 0)
		txn->state = STATE_ACKED;
	else if (!simdisk_is_dead(world.disk))
		txn->state = STATE_REFUSED;
	(void)pthread_mutex_lock(&world.lock);
	world.waiting--;
	(void)pthread_cond_signal(&world.news);
	(void)pthread_mutex_unlock(&world.lock);
}

static void
submit_one(struct world *w)
{
	struct txn *txn = &w->txns[w->txn_count];
	struct spool_txn *t = spool_txn_new(w->spool);
	char line[32];

	*txn = (struct txn){ .state = STATE_SUBMITTED };
	(void)snprintf(line, sizeof line, "%u\n", w->txn_count);
	/* The event first, in the middle or last. */
	uint64_t place = draw(w, 3);
	if (place == 0)
		spool_txn_event(t, span_of(line));
	if (draw(w, 2) && !add_message(w, txn, t)) {
		spool_txn_free(&t);
		return;
	}
	if (place == 1)
		spool_txn_event(t, span_of(line));
	add_actions(w, txn, t);
	if (place == 2)
		spool_txn_event(t, span_of(line));
	w->txn_count++;
	txn->is_lazy = !w->is_recovering && txn->mno == 0 && draw(w, 3) == 0;
	if (!txn->is_lazy)
		w->waiting++;
	spool_txn_submit(&t, txn->is_lazy ? NULL : on_done, txn);
}

/* Transactions of one thread keep their order (but for large bodies): what was
 * submitted before one that is acknowledged is durable, too; what was refused
 * before it will never be there. */
static void
settle(struct world *w, uint32_t first)
{
	(void)pthread_mutex_lock(&w->lock);
	while (w->waiting > 0)
		(void)pthread_cond_wait(&w->news, &w->lock);
	(void)pthread_mutex_unlock(&w->lock);
	uint32_t last = UINT32_MAX;
	for (uint32_t i = first; i < w->txn_count; i++) {
		const struct txn *txn = &w->txns[i];

		if (txn->state == STATE_ACKED && txn->size <= 8192)
			last = i;
		acked_total += txn->state == STATE_ACKED;
	}
	for (uint32_t i = 0; last != UINT32_MAX && i < last; i++) {
		struct txn *txn = &w->txns[i];

		if (txn->state == STATE_SUBMITTED && txn->is_lazy)
			txn->state = STATE_ACKED;
		if (txn->state == STATE_REFUSED &&
		    (i < first || txn->size <= 8192))
			txn->state = STATE_VOID;
	}
	for (uint32_t i = first; i < w->txn_count; i++) {
		if (w->txns[i].state == STATE_ACKED)
			model_apply(w, &w->txns[i]);
	}
}

/* ---- events ------------------------------------------------------------ */

static int
on_export(void *arg, struct span lines)
{
	struct world *w = arg;
	uint64_t id;

	if (!span_to_u64(span_trim(lines), TXNS_MAX, &id))
		fail("an event that was never written");
	if (!w->txns[id].is_exported)
		w->exported[w->exported_count++] = (uint32_t)id;
	w->txns[id].is_exported = true;
	return 0;
}

static void
export_events(struct world *w)
{
	int result;

	do
		result =
		    spool_events_read(w->spool, &w->exported_lsn, on_export, w);
	while (result > 0);
	if (result == 0)
		spool_events_exported(w->spool, w->exported_lsn);
}

static int
on_event(void *arg, struct span lines)
{
	struct world *w = arg;
	uint64_t id;

	if (!span_to_u64(span_trim(lines), TXNS_MAX, &id) || id >= w->txn_count)
		fail("an event that was never written");
	for (uint32_t i = 0; i < w->found_count; i++) {
		if (w->found[i] == id)
			fail("event %u is there twice", (unsigned)id);
	}
	w->found[w->found_count++] = (uint32_t)id;
	return 0;
}

/* ---- after a restart --------------------------------------------------- */

static void
check_body(struct world *w, const struct mail *mail)
{
	char *AUTO_FREE body = mem_alloc(20010);
	struct spool_message *message;
	struct span piece;

	int result = spool_message_open(w->spool, mail->mno, &message);
	if (result < 0)
		fail("message %llu cannot be opened: %s",
		    (unsigned long long)mail->mno, error_text(result));
	memcpy(body, "P: x\r\n", 6);
	fill_body(mail->mno, mail->size, mail->text, body + 6);
	if (spool_message_size(message) != mail->size + 6u)
		fail("message %llu has another size",
		    (unsigned long long)mail->mno);
	for (uint64_t at = 0; at < mail->size + 6u; at += piece.len) {
		if (spool_message_read(message, at, &piece) < 0)
			fail("a message cannot be read");
		if (memcmp(piece.ptr, body + at, piece.len) != 0)
			fail("message %llu is altered",
			    (unsigned long long)mail->mno);
	}
	spool_message_unref(&message);
	checked_messages++;
}

static void
check_run(const struct mail *mail, const struct spool_live_run *run, uint32_t i)
{
	const struct state_of_rcpt *want = &mail->state[i];

	if (want->done)
		fail("recipient %u of %llu is done and there", i,
		    (unsigned long long)mail->mno);
	if (run->attempts != want->attempts || run->warned != want->warned ||
	    run->due_us != want->due_us)
		fail("recipient %u of %llu has another schedule", i,
		    (unsigned long long)mail->mno);
	if (run->notify != i || !span_eq(run->domain, SPAN("example.org")))
		fail("recipient %u of %llu is another", i,
		    (unsigned long long)mail->mno);
}

static void
on_message(void *arg, const struct spool_live *message)
{
	struct world *w = arg;
	uint32_t live = 0;

	if (!message)
		return;
	struct mail *mail = find_mail(w, message->mno);
	if (!mail || mail->live == 0)
		fail("message %llu should not be there",
		    (unsigned long long)message->mno);
	for (uint32_t i = 0; i < message->run_count; i++) {
		const struct spool_live_run *run = &message->runs[i];

		for (uint32_t k = 0; k < run->rcpt_count; k++)
			check_run(mail, run, run->rcpt_first + k);
		live += run->rcpt_count;
	}
	if (live != mail->live)
		fail("message %llu has %u live recipients, %u wanted",
		    (unsigned long long)mail->mno, live, mail->live);
	if (message->class != SPOOL_REPORT || message->has_sender ||
	    message->accepted_us != (int64_t)mail->mno)
		fail("message %llu is another", (unsigned long long)mail->mno);
	w->recovered++;
	mail->is_told = true;
	/* Mail is taken, and done with, while the rest is loaded. */
	if (draw(w, 4) == 0 && w->txn_count + 8 < TXNS_MAX)
		submit_one(w);
}

static void
on_order(void *arg, const struct spool_order *order)
{
	struct world *w = arg;

	if (order->kind != SPOOL_ORDER_HOLD || order->domain.len != 1)
		fail("an order that was never given");
	unsigned domain = (unsigned)(order->domain.ptr[0] - 'a');
	if (domain >= DOMAINS || !w->is_held[domain])
		fail("a hold that should not stand");
	w->held_found++;
}

/* Which transactions are there, in the order of the log: those exported before
 * and those whose events are found. */
static void
rebuild_model(struct world *w)
{
	bool *AUTO_FREE is_there = mem_zalloc(TXNS_MAX);
	uint64_t lsn = 0;
	int result;

	w->found_count = 0;
	w->mail_count = 0;
	memset(w->is_held, 0, sizeof w->is_held);
	do
		result = spool_events_read(w->spool, &lsn, on_event, w);
	while (result > 0);
	if (result < 0)
		fail("events cannot be read: %s", error_text(result));
	for (uint32_t i = 0; i < w->exported_count; i++) {
		is_there[w->exported[i]] = true;
		model_apply(w, &w->txns[w->exported[i]]);
	}
	for (uint32_t i = 0; i < w->found_count; i++) {
		if (!is_there[w->found[i]])
			model_apply(w, &w->txns[w->found[i]]);
		is_there[w->found[i]] = true;
	}
	for (uint32_t i = 0; i < w->txn_count; i++) {
		enum state state = w->txns[i].state;

		if (state == STATE_ACKED && !is_there[i])
			fail("transaction %u was acknowledged and is lost", i);
		if (state == STATE_VOID && is_there[i] && !w->may_revive)
			fail("transaction %u was refused and is there", i);
		w->txns[i].state = is_there[i] ? STATE_ACKED : STATE_VOID;
	}
}

static void
recover(struct world *w)
{
	uint32_t live = 0, first = w->txn_count;

	for (uint32_t i = 0; i < w->mail_count; i++)
		live += w->mails[i].live > 0;
	w->recovered = w->held_found = 0;
	spool_orders(w->spool, on_order, w);
	if (spool_recover(w->spool, on_message, w) < 0)
		fail("recovery failed");
	if (live != w->recovered)
		fail("%u messages recovered, %u wanted", w->recovered, live);
	w->is_recovering = false;
	settle(w, first);
}

static void
check_all(struct world *w)
{
	uint32_t live = 0;
	unsigned held = 0;
	struct spool_stats stats;

	w->is_recovering = true;
	rebuild_model(w);
	for (unsigned i = 0; i < DOMAINS; i++)
		held += w->is_held[i];
	recover(w);
	if (held != w->held_found)
		fail("%u holds stand, %u wanted", w->held_found, held);
	for (uint32_t i = 0; i < w->mail_count; i++) {
		if (w->mails[i].live == 0)
			continue;
		live++;
		check_body(w, &w->mails[i]);
	}
	spool_stats(w->spool, &stats);
	if (stats.quarantined > 0)
		fail("%llu records quarantined after a mere crash",
		    (unsigned long long)stats.quarantined);
	if (stats.messages != live)
		fail("%llu messages counted, %u wanted",
		    (unsigned long long)stats.messages, live);
}

static void
on_problem(void *arg, const char *file, uint64_t offset, const char *problem)
{
	(void)arg;
	fail("verify: %s at %llu: %s", file, (unsigned long long)offset,
	    problem);
}

static void
restart(struct world *w)
{
	struct failure failure = { 0 };

	if (draw(w, 4) == 0)
		simdisk_kill(w->disk);
	else
		simdisk_power_cycle(w->disk);
	crashes++;
	struct verification v = { .fn = on_problem };
	int result = verify_with(&w->options, &v);
	if (result < 0 && result != ERR_NOT_FOUND)
		fail("verify: %s", error_text(result));
	/* Now and then the power goes again while it recovers. */
	if (draw(w, 3) == 0)
		simdisk_cut_at(w->disk, 1 + draw(w, 12));
	while (spool_open(&w->options, &w->spool, &failure) < 0) {
		if (!simdisk_is_dead(w->disk))
			fail("cannot open: %s", failure.text);
		simdisk_power_cycle(w->disk);
		crashes++;
	}
	/* Disarmed before it is looked at: the spool's threads already write. */
	simdisk_cut_at(w->disk, 0);
	if (simdisk_is_dead(w->disk)) {
		spool_close(&w->spool);
		simdisk_power_cycle(w->disk);
		if (spool_open(&w->options, &w->spool, &failure) < 0)
			fail("cannot open: %s", failure.text);
	}
	check_all(w);
	w->may_revive = false;
}

/* ---- scripts ----------------------------------------------------------- */

static void
begin(struct world *w, uint64_t seed)
{
	memset(w, 0, sizeof *w);
	w->seed = seed;
	w->random = seed * UINT64_C(0xd1342543de82ef95) + 1442695040888963407u;
	w->disk = simdisk_new(seed);
	w->options = (struct spool_options){
		.directory = "/spool",
		.segment_size = 64 << 10,
		.jumbo_size = 8 << 10,
		.lazy_sync_us = 300,
		.free_low = 2,
		.free_full = 1,
		.io = simdisk_io(w->disk),
		/* Checkpoints as often as can be, often, or never. */
		.pass_segments = 1 + (uint32_t)draw(w, 3),
		.pass_age_us = 1 + (int64_t)draw(w, 2) * US_PER_S,
		.pass_rate = UINT64_MAX / US_PER_S / 1000,
	};
	if (draw(w, 8) == 0)
		w->options.pass_segments = UINT32_MAX;
	/* Room for all the bodies that come again, for some, or for none. */
	if (draw(w, 4)) {
		w->options.share_bytes = draw(w, 2) ? 1 << 20 : 8 << 10;
		w->options.share_min = 300;
	}
	(void)pthread_mutex_init(&w->lock, NULL);
	(void)pthread_cond_init(&w->news, NULL);
	restart(w);
}

static void
end(struct world *w)
{
	spool_close(&w->spool);
	simdisk_free(&w->disk);
	(void)pthread_mutex_destroy(&w->lock);
	(void)pthread_cond_destroy(&w->news);
}

/* Works until the power goes, or for `rounds`. */
static void
live(struct world *w, unsigned rounds)
{
	for (unsigned i = 0; i < rounds && w->txn_count + 8 < TXNS_MAX; i++) {
		uint32_t first = w->txn_count;
		uint64_t together = 1 + draw(w, 5);

		for (uint64_t k = 0; k < together; k++)
			submit_one(w);
		settle(w, first);
		if (simdisk_is_dead(w->disk) ||
		    spool_space(w->spool) == SPOOL_FAILED)
			break;
		if (draw(w, 6) == 0)
			export_events(w);
	}
}

static void
break_something(struct world *w)
{
	static const enum simdisk_call kinds[] = { SIMDISK_SYNC, SIMDISK_WRITE,
		SIMDISK_RENAME, SIMDISK_SYNC_DIRECTORY, SIMDISK_SYNC,
		SIMDISK_WRITE, SIMDISK_SYNC, SIMDISK_WRITE, SIMDISK_SYNC };

	static const char *const paths[] = { ".seg", ".seg", ".tmp", "",
		".live", ".live", ".catalogue", "MANIFEST", "MANIFEST" };
	uint64_t i = draw(w, 9);

	simdisk_fail(w->disk, kinds[i], paths[i], (unsigned)draw(w, 20),
	    1 + (unsigned)(draw(w, 4) == 0), draw(w, 2) ? -EIO : -ENOSPC);
}

static void
die_and_restart(struct world *w)
{
	struct spool_stats stats;

	spool_stats(w->spool, &stats);
	checkpoints += stats.checkpoints;
	moved += stats.messages_moved;
	sharing += stats.messages_sharing;
	w->may_revive = spool_space(w->spool) == SPOOL_FAILED;
	/* Sometimes in good order. */
	if (!simdisk_is_dead(w->disk) && draw(w, 4))
		simdisk_cut_at(w->disk, 1);
	spool_close(&w->spool);
	restart(w);
}

static void
run_random(struct world *w, uint64_t seed)
{
	begin(w, seed);
	for (unsigned i = 0; i < LIVES; i++) {
		if (draw(w, 3) == 0)
			break_something(w);
		if (draw(w, 8))
			simdisk_cut_at(w->disk, 1 + draw(w, 150));
		live(w, 5 + (unsigned)draw(w, 60));
		die_and_restart(w);
	}
	end(w);
}

/* The same script, cut at each of its calls in turn. */
static unsigned
run_every_call(struct world *w, uint64_t seed)
{
	unsigned calls = 0;

	for (uint64_t at = 1;; at++) {
		begin(w, seed);
		simdisk_cut_at(w->disk, at);
		live(w, 25);
		bool was_cut = simdisk_is_dead(w->disk);
		die_and_restart(w);
		end(w);
		calls++;
		if (!was_cut)
			return calls;
	}
}

static uint64_t
number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	uint64_t value;

	if (!text || !span_to_u64(span_of(text), UINT64_MAX, &value))
		return otherwise;
	return value;
}

int
main(void)
{
	uint64_t seeds = number("SPOOL_CRASH_SEEDS", 400);
	uint64_t first = number("SPOOL_CRASH_FIRST", 1);

	printf("1..2\n");
	unsigned calls = run_every_call(&world, first + 1000000);
	printf("ok 1 - power cut at each of %u calls\n", calls);
	for (uint64_t i = 0; i < seeds; i++)
		run_random(&world, first + i);
	printf("ok 2 - %llu random scripts: %lu crashes, %lu transactions "
	       "acknowledged, %lu checkpoints, %lu messages moved, "
	       "%lu shared a body when the power went, %lu compared\n",
	    (unsigned long long)seeds, crashes, acked_total, checkpoints, moved,
	    sharing, checked_messages);
	return 0;
}
