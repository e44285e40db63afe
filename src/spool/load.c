/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Loading what a former life left, while mail already flows: what happened
 * since the last checkpoint is read from the log, then each segment's messages
 * are taken from its live file or its records and told, oldest first. At last
 * the files of large bodies are looked through.
 */

#include "base/bug.h"
#include "base/map.h"
#include "base/mem.h"
#include "spool/internal.h"

#include <errno.h>

struct load {
	struct spool *spool;
	spool_live_fn *on_message;
	void *arg;
	struct fold fold;
	uint32_t segment; /* at hand */
};

/* ---- messages ---------------------------------------------------------- */

void
spool_recover_cancel(struct spool *spool)
{
	atomic_store(&spool->is_load_cancelled, true);
}

static bool
is_stopping(struct spool *spool)
{
	if (atomic_load(&spool->is_load_cancelled))
		return true;
	struct segments *all = &spool->segments;

	(void)pthread_mutex_lock(&all->lock);
	bool is_stopping = all->is_closing;
	(void)pthread_mutex_unlock(&all->lock);
	return is_stopping;
}

/* False: the body that it shares cannot be read. */
static bool
share(struct load *load, const struct live_entry *entry, struct slot *slot)
{
	const struct body body = bodies_ref(load->spool, entry->body);

	slot->is_shared = true;
	slot->len = body.handle;
	return body.segment != 0 && !body.is_damaged;
}

static int
on_entry(void *arg, struct live_entry *entry)
{
	struct load *load = arg;
	struct spool *spool = load->spool;
	struct slot slot;

	fold_apply(&load->fold, entry);
	uint32_t live = live_count(entry);
	/* Without its catalogue a spool may have a message twice. */
	if (live == 0 || index_get(&spool->index, entry->message.mno, &slot))
		return 0;
	slot = (struct slot){
		.mno = entry->message.mno,
		.segment = load->segment,
		.at = entry->at,
		.len = entry->len,
		.live = (uint16_t)live,
		.is_file = entry->is_file,
	};
	bool is_readable = entry->body == 0 || share(load, entry, &slot);
	segment_count_live(spool, slot.segment, 1);
	index_put(&spool->index, &slot);
	/* It is still told of: its sender must hear. */
	if (!is_readable)
		quarantine_message(spool, &slot,
		    "the body that it shares is missing or damaged");
	atomic_fetch_add(&spool->recipients, live);
	atomic_fetch_add(&spool->messages, 1);
	if (load->on_message)
		load->on_message(load->arg, &entry->message);
	return is_stopping(spool) ? -ECANCELED : 0;
}

static int
load_segments(
    struct load *load, const struct segment *all, size_t count, bool copies)
{
	struct spool *spool = load->spool;

	for (size_t i = 0; i < count; i++) {
		const struct segment *s = &all[i];
		bool is_empty =
		    s->number < spool->segments.folded && s->live_serial == 0;

		if (((s->number & COPIES_BIT) != 0) != copies)
			continue;
		load->segment = s->number;
		if (!is_empty)
			TRY(fold_each(spool, s->number, on_entry, load));
		atomic_fetch_add(&spool->load_done, 1);
	}
	return 0;
}

/* The bodies that messages share, before any message. Those of the log's tail
 * came with the outcomes. */
static int
load_bodies(struct load *load, const struct segment *all, size_t count)
{
	struct spool *spool = load->spool;

	for (size_t i = 0; i < count; i++) {
		const struct segment *s = &all[i];
		bool is_tail = (s->number & COPIES_BIT) == 0 &&
			       s->number >= spool->segments.folded;
		bool is_empty =
		    s->live_serial == 0 && !atomic_load(&spool->is_incomplete);

		if (is_stopping(spool))
			return -ECANCELED;
		if (!is_tail && !is_empty)
			TRY(fold_bodies(spool, s->number));
	}
	return 0;
}

/* The outcomes of all that no checkpoint covers. */
static int
load_outcomes(struct load *load, const struct segment *all, size_t count)
{
	struct spool *spool = load->spool;

	for (size_t i = 0; i < count; i++) {
		bool is_tail = (all[i].number & COPIES_BIT) == 0 &&
			       all[i].number >= spool->segments.folded;

		if (is_stopping(spool))
			return -ECANCELED;
		if (is_tail)
			TRY(fold_scan(&load->fold, all[i].number));
		atomic_fetch_add(&spool->load_done, 1);
	}
	fold_finish(&load->fold);
	return 0;
}

/* ---- body files -------------------------------------------------------- */

struct body_files {
	struct spool *spool;
	struct map *seen;
	uint64_t *orphans;
	size_t count;
};

static void
on_body(void *arg, const char *name)
{
	struct body_files *bodies = arg;
	struct slot slot;
	uint64_t mno;

	if (!parse_hex(name, 16, &mno) || name[16] != '\0')
		return;
	/* Mail that came since is none of ours. */
	if (mno >= bodies->spool->first_mno && !bodies->spool->verification)
		return;
	if (index_get(&bodies->spool->index, mno, &slot) && slot.is_file) {
		(void)map_put_u64(bodies->seen, mno, bodies);
		return;
	}
	bodies->orphans = mem_resize(
	    bodies->orphans, bodies->count + 1, sizeof *bodies->orphans);
	bodies->orphans[bodies->count++] = mno;
}

/* A message whose body is gone is still told of: its sender must hear. */
static void
mark_bodiless(struct body_files *bodies)
{
	struct spool *spool = bodies->spool;
	size_t count;
	struct slot *all = index_all(&spool->index, INDEX_FILES, &count);

	for (size_t i = 0; i < count; i++) {
		char *AUTO_FREE path = body_path(spool, all[i].mno);

		/* It may have come, or died, since the files were listed. */
		if (all[i].mno >= spool->first_mno ||
		    map_get_u64(bodies->seen, all[i].mno) ||
		    !index_mark_damaged(&spool->index, all[i].mno))
			continue;
		quarantine_file(spool, path, "the file of a body is missing");
	}
	mem_free(all);
}

static int
check_bodies(struct spool *spool)
{
	const struct spool_io *io = spool->io;
	struct body_files bodies = { .spool = spool, .seen = map_new() };
	char *AUTO_FREE directory = mem_printf("%s/big", spool->directory);

	int result = io->list(io->owner, directory, on_body, &bodies);
	if (result == 0)
		mark_bodiless(&bodies);
	for (size_t i = 0; i < bodies.count && !spool->verification; i++) {
		char *AUTO_FREE path = body_path(spool, bodies.orphans[i]);

		(void)io->unlink(io->owner, path);
	}
	mem_free(bodies.orphans);
	map_free(&bodies.seen, NULL);
	return result;
}

/* ---- all of it --------------------------------------------------------- */

/* Of this life are the segments that the committer has made meanwhile. */
static size_t
count_old(const struct spool *spool, struct segment *all, size_t count)
{
	size_t old = 0;

	for (size_t i = 0; i < count; i++) {
		if (all[i].number < spool->first_segment ||
		    (all[i].number & COPIES_BIT))
			all[old++] = all[i];
	}
	return old;
}

int
load_all(struct spool *spool, spool_live_fn *on_message, void *arg)
{
	struct load load = { .spool = spool,
		.on_message = on_message,
		.arg = arg,
		.fold = { .spool = spool } };
	size_t count;
	struct segment *all = segment_all(spool, &count);

	count = count_old(spool, all, count);
	atomic_store(&spool->load_total, (unsigned)(2 * count + 1));
	int result = load_outcomes(&load, all, count);
	if (result == 0)
		result = load_bodies(&load, all, count);
	if (result == 0)
		result = load_segments(&load, all, count, true);
	if (result == 0)
		result = load_segments(&load, all, count, false);
	if (result == 0)
		result = check_bodies(spool);
	if (result == 0)
		bodies_settle(spool);
	if (result == 0 && on_message)
		on_message(arg, NULL);
	fold_done(&load.fold);
	mem_free(all);
	return result;
}

int
spool_recover(struct spool *spool, spool_live_fn *on_message, void *arg)
{
	struct segments *all = &spool->segments;

	BUG_UNLESS(atomic_load(&spool->is_loading));
	TRY(load_all(spool, on_message, arg));
	(void)pthread_mutex_lock(&all->lock);
	atomic_store(&spool->is_loading, false);
	(void)pthread_cond_signal(&all->chores);
	(void)pthread_cond_signal(&all->sealed);
	(void)pthread_mutex_unlock(&all->lock);
	return 0;
}

void
spool_orders(struct spool *spool, spool_order_fn *fn, void *arg)
{
	for (const struct standing *s = spool->orders; s; s = s->next)
		fn(arg, &s->order);
}
