/* SPDX-License-Identifier: Apache-2.0 */

/* Opening, closing, and what is asked of the spool as a whole. */

#include "spool/spool.h"

#include "base/bug.h"
#include "base/map.h"
#include "base/mem.h"
#include "os/clock.h"
#include "spool/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT_SIZE (64u << 20)
#define SEGMENT_SIZE_MIN (64u << 10)
#define SEGMENT_SIZE_MAX (2048u << 20) /* offsets have 32 bits */
#define JUMBO_SIZE (1u << 20)
#define JUMBO_SIZE_MAX (64u << 20)
#define LAZY_SYNC_US 100000
#define FREE_LOW (UINT64_C(1) << 30)
#define FREE_FULL (UINT64_C(256) << 20)
#define FREE_LOW_PART 10 /* of a small disk */
#define FREE_FULL_PART 25
#define PASS_SEGMENTS 8
#define PASS_AGE_US (60 * US_PER_S)
#define SHARE_MIN (16u << 10)
#define SCRUB_PERIOD_US (INT64_C(7) * 24 * 3600 * US_PER_S)
#define PASS_RATE (UINT64_C(64) << 20)
/* Beyond a batch's pieces: one transaction that has more by itself. */
#define IOV_COUNT (BATCH_PIECES_MAX + 16 + JUMBO_SIZE_MAX / FORMAT_PIECE + 16)

/* ---- waiting ----------------------------------------------------------- */

void
cond_init_monotonic(pthread_cond_t *cond)
{
	pthread_condattr_t attributes;

	(void)pthread_condattr_init(&attributes);
	(void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	(void)pthread_cond_init(cond, &attributes);
	(void)pthread_condattr_destroy(&attributes);
}

void
cond_wait_until(
    pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline_us)
{
	struct timespec ts = {
		.tv_sec = deadline_us / US_PER_S,
		.tv_nsec = deadline_us % US_PER_S * 1000,
	};

	if (deadline_us == TIME_NEVER)
		(void)pthread_cond_wait(cond, lock);
	else
		(void)pthread_cond_timedwait(cond, lock, &ts);
}

/* ---- small questions --------------------------------------------------- */

uint64_t
spool_next_mno(struct spool *spool)
{
	return atomic_fetch_add(&spool->next_mno, 1);
}

uint64_t
spool_id_key(const struct spool *spool)
{
	return spool->id_key;
}

uint16_t
spool_node(const struct spool *spool)
{
	return spool->options.node;
}

enum spool_space
spool_space(const struct spool *spool)
{
	if (atomic_load(&spool->failed) < 0)
		return SPOOL_FAILED;
	if (atomic_load(&spool->no_room))
		return SPOOL_SPACE_FULL;
	return (enum spool_space)atomic_load(&spool->space);
}

void
spool_fail(struct spool *spool, int code)
{
	int none = 0;

	BUG_UNLESS(code < 0);
	(void)atomic_compare_exchange_strong(&spool->failed, &none, code);
	spool_events_wake(spool);
}

static unsigned
loaded_percent(const struct spool *spool)
{
	unsigned total = atomic_load(&spool->load_total);

	if (!atomic_load(&spool->is_loading))
		return 100;
	return total == 0 ? 0
			  : (unsigned)(UINT64_C(99) *
				       atomic_load(&spool->load_done) / total);
}

void
spool_stats(struct spool *spool, struct spool_stats *ret_stats)
{
	struct spool_stats stats = {
		.messages = atomic_load(&spool->messages),
		.recipients = atomic_load(&spool->recipients),
		.index_bytes = index_bytes(&spool->index) + bodies_bytes(spool),
		.recent_bytes = recent_bytes(&spool->recent),
		.bytes_written = atomic_load(&spool->bytes_written),
		.batches = atomic_load(&spool->batches),
		.syncs = atomic_load(&spool->syncs),
		.transactions = atomic_load(&spool->transactions),
		.sync_us_total = atomic_load(&spool->sync_us_total),
		.sync_us_max = atomic_load(&spool->sync_us_max),
		.quarantined = atomic_load(&spool->quarantined),
		.orders = atomic_load(&spool->order_count),
		.durable_lsn = atomic_load(&spool->durable_lsn),
		.failed = atomic_load(&spool->failed),
		.checkpoints = atomic_load(&spool->checkpoints),
		.messages_moved = atomic_load(&spool->messages_moved),
		.scrubbed = atomic_load(&spool->scrubbed),
		.checkpoint_error = atomic_load(&spool->checkpoint_error),
		.loaded_percent = loaded_percent(spool),
	};

	bodies_count(spool, &stats.bodies_shared, &stats.messages_sharing);
	(void)pthread_mutex_lock(&spool->segments.lock);
	stats.segments = spool->segments.count;
	stats.segments_free = spool->segments.pool_count;
	(void)pthread_mutex_unlock(&spool->segments.lock);
	*ret_stats = stats;
}

struct superblock
spool_superblock(const struct spool *spool, enum superblock_kind kind)
{
	return (struct superblock){
		.kind = kind,
		.epoch = spool->epoch,
		.seal = spool->seal,
		.id_key = spool->id_key,
		.durable_lsn = atomic_load(&spool->durable_lsn),
		.next_mno = atomic_load(&spool->next_mno),
		.wall_us = clock_wall_us(),
	};
}

/* ---- opening ----------------------------------------------------------- */

static struct spool_options
fill_options(const struct spool_options *given)
{
	struct spool_options o = *given;

	if (o.segment_size == 0)
		o.segment_size = SEGMENT_SIZE;
	if (o.segment_size < SEGMENT_SIZE_MIN)
		o.segment_size = SEGMENT_SIZE_MIN;
	if (o.segment_size > SEGMENT_SIZE_MAX)
		o.segment_size = SEGMENT_SIZE_MAX;
	o.segment_size = format_paged(o.segment_size);
	if (o.jumbo_size == 0)
		o.jumbo_size = JUMBO_SIZE;
	if (o.jumbo_size > JUMBO_SIZE_MAX)
		o.jumbo_size = JUMBO_SIZE_MAX;
	if (o.jumbo_size > o.segment_size / 4)
		o.jumbo_size = (uint32_t)(o.segment_size / 4);
	if (o.lazy_sync_us == 0)
		o.lazy_sync_us = LAZY_SYNC_US;
	if (o.free_low == 0)
		o.free_low = FREE_LOW;
	if (o.free_full == 0)
		o.free_full = FREE_FULL;
	if (o.pass_segments == 0)
		o.pass_segments = PASS_SEGMENTS;
	if (o.pass_age_us == 0)
		o.pass_age_us = PASS_AGE_US;
	if (o.pass_rate == 0)
		o.pass_rate = PASS_RATE;
	if (o.scrub_period_us == 0)
		o.scrub_period_us = SCRUB_PERIOD_US;
	if (o.share_min == 0)
		o.share_min = SHARE_MIN;
	return o;
}

struct spool *
spool_new(const struct spool_options *options)
{
	struct spool *spool = MEM_NEW(struct spool);

	spool->options = fill_options(options);
	spool->io = options->io ? options->io : &spool_io_disk;
	spool->directory = mem_strdup(options->directory);
	spool->lock_file = -1;
	spool->pending_last = &spool->pending;
	spool->iov = mem_alloc(IOV_COUNT * sizeof *spool->iov);
	atomic_store(&spool->is_loading, true);
	spool->damage = map_new();
	atomic_store(&spool->next_mno, 1);
	index_init(&spool->index);
	bodies_init(&spool->bodies);
	recent_init(&spool->recent);
	queue_init(&spool->queue);
	queue_init(&spool->stage);
	(void)pthread_mutex_init(&spool->segments.lock, NULL);
	cond_init_monotonic(&spool->segments.chores);
	cond_init_monotonic(&spool->segments.sealed);
	(void)pthread_mutex_init(&spool->event_lock, NULL);
	cond_init_monotonic(&spool->event_news);
	return spool;
}

void
spool_free(struct spool *spool)
{
	queue_done(&spool->queue);
	queue_done(&spool->stage);
	segments_free(spool);
	index_done(&spool->index);
	bodies_done(&spool->bodies);
	recent_done(&spool->recent);
	standing_free(&spool->orders);
	map_free(&spool->damage, NULL);
	if (spool->lock_file >= 0)
		(void)spool->io->close(spool->io->owner, spool->lock_file);
	(void)pthread_mutex_destroy(&spool->event_lock);
	(void)pthread_cond_destroy(&spool->event_news);
	mem_free(spool->iov);
	mem_free(spool->directory);
	mem_free(spool);
}

/* mkdir -p; the names above are made durable, too. */
static int
make_directory(const struct spool_io *io, const char *directory)
{
	char *AUTO_FREE path = mem_strdup(directory);

	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		TRY(io->mkdir(io->owner, path));
		*p = '/';
	}
	TRY(io->mkdir(io->owner, path));
	char *slash = strrchr(path, '/');
	if (slash == path || !slash)
		return io->sync_directory(io->owner, slash ? "/" : ".");
	*slash = '\0';
	return io->sync_directory(io->owner, path);
}

static int
make_directories(const struct spool *spool)
{
	const struct spool_io *io = spool->io;
	char *AUTO_FREE big = mem_printf("%s/big", spool->directory);
	char *AUTO_FREE aside = mem_printf("%s/quarantine", spool->directory);

	TRY(make_directory(io, spool->directory));
	TRY(io->mkdir(io->owner, big));
	return io->mkdir(io->owner, aside);
}

static int
start_thread(pthread_t *thread, void *(*run)(void *), struct spool *spool)
{
	return -pthread_create(thread, NULL, run, spool);
}

/* Of those that were started, in the order in which they can end. */
static void
stop_threads(struct spool *s, unsigned started)
{
	queue_close(&s->stage);
	if (started > 1)
		(void)pthread_join(s->stager, NULL);
	queue_close(&s->queue);
	if (started > 0)
		(void)pthread_join(s->committer, NULL);
	(void)pthread_mutex_lock(&s->segments.lock);
	s->segments.is_closing = true;
	(void)pthread_cond_signal(&s->segments.chores);
	(void)pthread_cond_signal(&s->segments.sealed);
	(void)pthread_mutex_unlock(&s->segments.lock);
	if (started > 3)
		(void)pthread_join(s->folder, NULL);
	if (started > 2)
		(void)pthread_join(s->keeper, NULL);
}

static int
start_threads(struct spool *spool)
{
	const struct {
		pthread_t *thread;
		void *(*run)(void *);
	} all[] = {
		{ &spool->committer, commit_thread },
		{ &spool->stager, stager_thread },
		{ &spool->keeper, keeper_thread },
		{ &spool->folder, folder_thread },
	};

	for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++) {
		int result = start_thread(all[i].thread, all[i].run, spool);

		if (result < 0) {
			stop_threads(spool, i);
			return result;
		}
	}
	return 0;
}

static int
lock_and_scan(struct spool *spool, struct failure *ret_failure)
{
	char *AUTO_FREE path = mem_printf("%s/LOCK", spool->directory);
	int result = make_directories(spool);

	if (result < 0)
		return failure_set(ret_failure, result,
		    "cannot make the spool directory %s: %s", spool->directory,
		    error_text(result));
	result = spool->io->lock(spool->io->owner, path);
	if (result == -EWOULDBLOCK)
		return failure_set(ret_failure, ERR_EXISTS,
		    "another process uses the spool %s", spool->directory);
	if (result < 0)
		return failure_set(ret_failure, result, "cannot lock %s: %s",
		    path, error_text(result));
	spool->lock_file = result;
	return recover_scan(spool, ret_failure);
}

/* A disk that is hardly larger than the defaults would always seem full. */
static void
fit_watermarks(struct spool *spool, const struct spool_options *given)
{
	const struct spool_io *io = spool->io;
	struct spool_options *o = &spool->options;
	int64_t total =
	    io->total_bytes ? io->total_bytes(io->owner, spool->directory) : 0;

	if (total <= 0)
		return;
	uint64_t low = (uint64_t)total / FREE_LOW_PART;
	uint64_t full = (uint64_t)total / FREE_FULL_PART;
	if (given->free_low == 0 && low < o->free_low)
		o->free_low = low;
	if (given->free_full == 0 && full < o->free_full)
		o->free_full = full;
}

int
spool_open(const struct spool_options *options, struct spool **ret_spool,
    struct failure *ret_failure)
{
	struct spool *spool = spool_new(options);
	int result = lock_and_scan(spool, ret_failure);

	if (result == 0) {
		fit_watermarks(spool, options);
		keeper_measure_space(spool);
		result = start_threads(spool);
		if (result < 0)
			failure_set(ret_failure, result,
			    "cannot start the spool's threads: %s",
			    error_text(result));
	}
	if (result < 0) {
		spool_free(spool);
		return result;
	}
	*ret_spool = spool;
	return 0;
}

void
spool_stop(struct spool *s)
{
	if (!s || s->is_stopped)
		return;
	s->is_stopped = true;
	stop_threads(s, 4);
}

void
spool_close(struct spool **spool)
{
	struct spool *s = *spool;

	if (!s)
		return;
	spool_stop(s);
	/* Without a clean end the next start takes more care, that is all; but
	 * of a failed spool it may take a batch for good that was refused. */
	IGNORE(manifest_write(s, true));
	spool_free(s);
	*spool = NULL;
}
