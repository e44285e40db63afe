/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Two threads beside the committer. The keeper does what can wait: removes
 * body files and segments that are dead, prepares new ones, looks how much
 * space is left. The stager syncs large bodies, which may take long, before
 * their transactions go to the committer, so that no other mail waits.
 */

#include "base/mem.h"
#include "os/clock.h"
#include "spool/internal.h"

#include <errno.h>

#define PERIOD_US US_PER_S
#define HYSTERESIS 4 /* a quarter above a mark it is over */
#define POOL_WANTED 2 /* one to go on with, one kept for outcomes */
#define BUSY_BYTES (1u << 20)

/* Below the mark; or not far enough above it, where it was already. */
static bool
is_below(uint64_t free, uint64_t mark, bool was_below)
{
	return free < mark || (was_below && free < mark + mark / HYSTERESIS);
}

void
keeper_measure_space(struct spool *spool)
{
	const struct spool_options *o = &spool->options;
	int64_t free =
	    spool->io->free_bytes(spool->io->owner, spool->directory);
	int before = atomic_load(&spool->space), space = SPOOL_SPACE_OK;

	if (free < 0)
		return;
	if (is_below((uint64_t)free, o->free_low, before >= SPOOL_SPACE_LOW))
		space = SPOOL_SPACE_LOW;
	if (is_below((uint64_t)free, o->free_full, before >= SPOOL_SPACE_FULL))
		space = SPOOL_SPACE_FULL;
	atomic_store(&spool->space, space);
}

static void
remove_bodies(struct spool *spool)
{
	struct segments *all = &spool->segments;

	(void)pthread_mutex_lock(&all->lock);
	uint64_t *dead = all->dead_bodies;
	size_t count = all->dead_count;
	all->dead_bodies = NULL;
	all->dead_count = all->dead_capacity = 0;
	(void)pthread_mutex_unlock(&all->lock);
	for (size_t i = 0; i < count; i++) {
		char *AUTO_FREE path = body_path(spool, dead[i]);

		/* What stays behind is removed at the next start. */
		(void)spool->io->unlink(spool->io->owner, path);
	}
	mem_free(dead);
}

/* Files are prepared when there is traffic: a spool that is opened and closed,
 * or sees little mail, never writes 64 MiB of zeros. */
static size_t
pool_wanted(const struct spool *spool)
{
	uint64_t busy = spool->options.segment_size / 4;

	if (atomic_load(&spool->no_room) || spool->segments.prepare_error < 0)
		return POOL_WANTED;
	if (busy > BUSY_BYTES)
		busy = BUSY_BYTES;
	return atomic_load(&spool->bytes_written) < busy ? 0 : POOL_WANTED;
}

/* False: no use in trying again soon. */
static bool
fill_pool(struct spool *spool)
{
	struct segments *all = &spool->segments;

	for (;;) {
		(void)pthread_mutex_lock(&all->lock);
		bool is_full =
		    all->pool_count >= pool_wanted(spool) || all->is_closing;
		(void)pthread_mutex_unlock(&all->lock);
		if (is_full)
			break;
		int result = segment_prepare(spool);
		(void)pthread_mutex_lock(&all->lock);
		all->prepare_error = result;
		(void)pthread_mutex_unlock(&all->lock);
		if (result < 0)
			return false;
	}
	/* Recycling may have brought what preparing could not. */
	(void)pthread_mutex_lock(&all->lock);
	if (all->pool_count > 0)
		all->prepare_error = 0;
	(void)pthread_mutex_unlock(&all->lock);
	if (segment_is_prepared(spool))
		atomic_store(&spool->no_room, 0);
	return true;
}

void *
keeper_thread(void *arg)
{
	struct spool *spool = arg;
	struct segments *all = &spool->segments;
	int64_t next_fill_us = 0;

	for (;;) {
		int64_t now = clock_monotonic_us();

		remove_bodies(spool);
		segment_recycle(spool);
		if (now >= next_fill_us && !fill_pool(spool))
			next_fill_us = clock_monotonic_us() + PERIOD_US;
		keeper_measure_space(spool);
		(void)pthread_mutex_lock(&all->lock);
		if (!all->is_closing)
			cond_wait_until(&all->chores, &all->lock,
			    clock_monotonic_us() + PERIOD_US);
		bool is_closing = all->is_closing;
		(void)pthread_mutex_unlock(&all->lock);
		if (is_closing)
			break;
	}
	remove_bodies(spool);
	return NULL;
}

/* ---- the stager -------------------------------------------------------- */

void
stage_push(struct spool *spool, struct spool_txn *txn)
{
	if (!queue_push(&spool->stage, txn))
		commit_refuse(txn, -ECANCELED);
}

static struct spool_txn *
stage_take(struct queue *queue)
{
	(void)pthread_mutex_lock(&queue->lock);
	while (!queue->first && !queue->is_closing) {
		queue->sleep = SLEEP_DEEP;
		(void)pthread_cond_wait(&queue->work, &queue->lock);
	}
	queue->sleep = SLEEP_AWAKE;
	struct spool_txn *txn = queue->first;
	queue->is_over = !txn;
	if (txn) {
		queue->first = txn->next;
		if (!queue->first)
			queue->last = &queue->first;
	}
	(void)pthread_mutex_unlock(&queue->lock);
	return txn;
}

void *
stager_thread(void *arg)
{
	struct spool *spool = arg;
	struct spool_txn *txn;

	while ((txn = stage_take(&spool->stage))) {
		int result = draft_settle(txn->draft);

		if (result < 0)
			txn->error = result;
		commit_push(spool, txn);
	}
	return NULL;
}
