/* SPDX-License-Identifier: Apache-2.0 */

#include "base/bug.h"
#include "base/mem.h"
#include "os/clock.h"
#include "spool/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#define OPEN_FILES_MAX 256
#define POOL_MAX 4 /* beside what a checkpoint frees */
#define ZEROS (64u << 10)
#define PREPARE_WRITE (1u << 20)
#define PREPARE_SYNC (4u << 20) /* small, so that mail's syncs get in between */

char *
segment_path(const struct spool *spool, uint32_t number)
{
	return mem_printf("%s/%016" PRIx32 ".seg", spool->directory, number);
}

char *
body_path(const struct spool *spool, uint64_t mno)
{
	return mem_printf("%s/big/%016" PRIx64, spool->directory, mno);
}

static void
lock(struct spool *spool)
{
	(void)pthread_mutex_lock(&spool->segments.lock);
}

static void
unlock(struct spool *spool)
{
	(void)pthread_mutex_unlock(&spool->segments.lock);
}

/* ---- the table --------------------------------------------------------- */

/* Index of the first one with at least this number. */
static size_t
lower_bound(const struct segments *all, uint32_t number)
{
	size_t low = 0, high = all->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (all->all[middle]->number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void
insert(struct segments *all, struct segment *segment)
{
	if (all->count == all->capacity) {
		all->capacity = all->capacity ? 2 * all->capacity : 16;
		all->all = mem_resize(
		    all->all, all->capacity, sizeof(struct segment *));
	}
	size_t at = lower_bound(all, segment->number);
	BUG_UNLESS(at == all->count || all->all[at]->number != segment->number);
	memmove(all->all + at + 1, all->all + at,
	    (all->count - at) * sizeof(struct segment *));
	all->all[at] = segment;
	all->count++;
}

struct segment *
segment_add(struct spool *spool, uint32_t number)
{
	struct segment *segment = MEM_NEW(struct segment);

	*segment =
	    (struct segment){ .number = number, .epoch = -1, .file = -1 };
	lock(spool);
	insert(&spool->segments, segment);
	unlock(spool);
	return segment;
}

void
segment_add_copies(
    struct spool *spool, uint32_t number, uint64_t end, uint64_t live)
{
	struct segment *segment = MEM_NEW(struct segment);

	*segment = (struct segment){
		.number = number,
		.epoch = (uint16_t)spool->epoch,
		.file = -1,
		.end = end,
		.live = live,
	};
	lock(spool);
	insert(&spool->segments, segment);
	unlock(spool);
}

/* Closes the file that was not used for longest. */
static void
close_idle(struct spool *spool)
{
	struct segments *all = &spool->segments;
	struct segment *oldest = NULL;

	for (size_t i = 0; i < all->count; i++) {
		struct segment *s = all->all[i];

		if (s->file >= 0 && s->refs == 0 && !s->is_active &&
		    (!oldest || s->used < oldest->used))
			oldest = s;
	}
	if (!oldest)
		return;
	(void)spool->io->close(spool->io->owner, oldest->file);
	oldest->file = -1;
	all->open_files--;
}

static int
ref_at(struct spool *spool, size_t i, struct segment **ret_segment)
{
	struct segments *all = &spool->segments;

	if (i == all->count)
		return ERR_NOT_FOUND;
	struct segment *segment = all->all[i];
	if (segment->file < 0) {
		char *AUTO_FREE path = segment_path(spool, segment->number);

		if (all->open_files >= OPEN_FILES_MAX)
			close_idle(spool);
		int file = spool->io->open(spool->io->owner, path, O_RDONLY);
		if (file < 0)
			return file;
		segment->file = file;
		all->open_files++;
	}
	segment->refs++;
	segment->used = ++all->tick;
	*ret_segment = segment;
	return 0;
}

int
segment_ref(struct spool *spool, uint32_t number, struct segment **ret_segment)
{
	lock(spool);
	size_t i = lower_bound(&spool->segments, number);
	if (i < spool->segments.count &&
	    spool->segments.all[i]->number != number)
		i = spool->segments.count;
	int result = ref_at(spool, i, ret_segment);
	unlock(spool);
	return result;
}

int
segment_ref_from(
    struct spool *spool, uint32_t number, struct segment **ret_segment)
{
	lock(spool);
	struct segments *all = &spool->segments;
	size_t i = lower_bound(all, number);
	/* Copies are no part of the log. */
	if (i < all->count && (all->all[i]->number & COPIES_BIT))
		i = all->count;
	int result = ref_at(spool, i, ret_segment);
	unlock(spool);
	return result;
}

void
segment_unref(struct spool *spool, struct segment *segment)
{
	lock(spool);
	BUG_UNLESS(segment->refs > 0);
	segment->refs--;
	if (segment->refs == 0 && segment->live == 0 && !segment->is_active)
		(void)pthread_cond_signal(&spool->segments.chores);
	unlock(spool);
}

uint64_t
segment_end(struct spool *spool, const struct segment *segment)
{
	lock(spool);
	uint64_t end = segment->end;
	unlock(spool);
	return end;
}

void
segment_count_live(struct spool *spool, uint32_t number, int change)
{
	struct segments *all = &spool->segments;

	lock(spool);
	size_t i = lower_bound(all, number);
	BUG_UNLESS(i < all->count && all->all[i]->number == number);
	struct segment *segment = all->all[i];
	BUG_UNLESS(change > 0 || segment->live > 0);
	segment->live += (uint64_t)(int64_t)change;
	if (segment->live == 0 && !segment->is_active)
		(void)pthread_cond_signal(&all->chores);
	unlock(spool);
}

void
segment_advance(struct spool *spool, uint64_t end)
{
	lock(spool);
	spool->active->end = end;
	unlock(spool);
}

void
segment_mark_damaged(struct spool *spool, struct segment *segment)
{
	lock(spool);
	segment->is_damaged = true;
	unlock(spool);
}

void
segment_touch(struct spool *spool, uint32_t number)
{
	struct segments *all = &spool->segments;

	lock(spool);
	size_t i = lower_bound(all, number);
	if (i < all->count && all->all[i]->number == number)
		all->all[i]->is_touched = true;
	unlock(spool);
}

void
segment_untouch(struct spool *spool)
{
	struct segments *all = &spool->segments;

	lock(spool);
	for (size_t i = 0; i < all->count; i++)
		all->all[i]->is_touched = false;
	unlock(spool);
}

uint64_t
segment_adopt(struct spool *spool, const struct catalogue_item *item)
{
	struct segments *all = &spool->segments;
	uint64_t useless = item->live_serial;

	lock(spool);
	size_t i = lower_bound(all, item->segment);
	if (i < all->count && all->all[i]->number == item->segment) {
		struct segment *s = all->all[i];

		useless =
		    s->live_serial == item->live_serial ? 0 : s->live_serial;
		s->live_serial = item->live_serial;
		s->live_crc = item->live_crc;
		s->entries = item->entries;
		s->live_bytes = item->live_bytes;
	}
	unlock(spool);
	return useless;
}

struct segment *
segment_all(struct spool *spool, size_t *ret_count)
{
	struct segments *all = &spool->segments;

	lock(spool);
	struct segment *copy = mem_resize(NULL, all->count + 1, sizeof *copy);
	for (size_t i = 0; i < all->count; i++)
		copy[i] = *all->all[i];
	*ret_count = all->count;
	unlock(spool);
	return copy;
}

void
segment_bury(struct spool *spool, const struct slot *slot)
{
	struct segments *all = &spool->segments;

	segment_count_live(spool, slot->segment, -1);
	if (!slot->is_file)
		return;
	lock(spool);
	if (all->dead_count == all->dead_capacity) {
		all->dead_capacity =
		    all->dead_capacity ? 2 * all->dead_capacity : 16;
		all->dead_bodies = mem_resize(
		    all->dead_bodies, all->dead_capacity, sizeof(uint64_t));
	}
	all->dead_bodies[all->dead_count++] = slot->mno;
	(void)pthread_cond_signal(&all->chores);
	unlock(spool);
}

void
segments_free(struct spool *spool)
{
	struct segments *all = &spool->segments;

	for (size_t i = 0; i < all->count; i++) {
		BUG_UNLESS(all->all[i]->refs == 0);
		if (all->all[i]->file >= 0)
			(void)spool->io->close(
			    spool->io->owner, all->all[i]->file);
		mem_free(all->all[i]);
	}
	for (size_t i = 0; i < all->pool_count; i++)
		mem_free(all->pool[i]);
	mem_free(all->all);
	mem_free(all->pool);
	mem_free(all->dead_bodies);
	(void)pthread_mutex_destroy(&all->lock);
	(void)pthread_cond_destroy(&all->chores);
	(void)pthread_cond_destroy(&all->sealed);
}

/* ---- the pool of prepared files ---------------------------------------- */

static void
pool_add(struct spool *spool, char *path_take)
{
	struct segments *all = &spool->segments;

	lock(spool);
	all->pool = mem_resize(all->pool, all->pool_count + 1, sizeof(char *));
	all->pool[all->pool_count++] = path_take;
	unlock(spool);
}

/* NULL when there is none. */
static char *
pool_take(struct spool *spool)
{
	struct segments *all = &spool->segments;
	char *path = NULL;

	lock(spool);
	if (all->pool_count > 0)
		path = all->pool[--all->pool_count];
	(void)pthread_cond_signal(&all->chores);
	unlock(spool);
	return path;
}

static char *
pool_path(struct spool *spool)
{
	lock(spool);
	uint64_t serial = spool->segments.pool_serial++;
	unlock(spool);
	return mem_printf("%s/%016" PRIx64 ".free", spool->directory, serial);
}

bool
segment_is_prepared(struct spool *spool)
{
	lock(spool);
	bool is_prepared = spool->segments.pool_count > 0;
	unlock(spool);
	return is_prepared;
}

bool
segment_is_scarce(struct spool *spool)
{
	lock(spool);
	bool is_scarce = spool->segments.pool_count == 0 &&
			 spool->segments.prepare_error < 0;
	unlock(spool);
	return is_scarce;
}

/* At most PREPARE_WRITE bytes of zeros; how many is in *ret_len. */
static int
write_some_zeros(const struct spool_io *io, int file, uint64_t at,
    uint64_t size, uint64_t *ret_len)
{
	static const char zeros[ZEROS];
	struct iovec iov[PREPARE_WRITE / ZEROS] = { 0 };
	const char *from = zeros;
	uint64_t len = 0;
	size_t count = 0;

	for (; count < PREPARE_WRITE / ZEROS && at + len < size; count++) {
		uint64_t rest = size - at - len;

		memcpy(&iov[count].iov_base, &from, sizeof from);
		iov[count].iov_len = rest < ZEROS ? rest : ZEROS;
		len += iov[count].iov_len;
	}
	TRY(io_write(io, file, iov, count, at));
	*ret_len = len;
	return 0;
}

static int
write_zeros(struct spool *spool, int file, uint64_t size)
{
	const struct spool_io *io = spool->io;
	uint64_t len;

	for (uint64_t at = 0; at < size; at += len) {
		TRY(write_some_zeros(io, file, at, size, &len));
		if ((at + len) % PREPARE_SYNC == 0)
			TRY(io->datasync(io->owner, file));
		lock(spool);
		bool is_closing = spool->segments.is_closing;
		unlock(spool);
		if (is_closing)
			return -ECANCELED;
	}
	return io->datasync(io->owner, file);
}

int
segment_prepare(struct spool *spool)
{
	const struct spool_io *io = spool->io;
	char *AUTO_FREE path = mem_printf("%s/prepare.tmp", spool->directory);
	char *to = pool_path(spool);

	int file = io->open(io->owner, path, O_RDWR | O_CREAT | O_TRUNC);
	int result = file;
	if (file >= 0) {
		result = write_zeros(spool, file, spool->options.segment_size);
		(void)io->close(io->owner, file);
	}
	if (result == 0)
		result = io->rename(io->owner, path, to);
	if (result == 0) {
		pool_add(spool, to);
		return 0;
	}
	(void)io->unlink(io->owner, path);
	mem_free(to);
	return result;
}

/* ---- a new active segment ---------------------------------------------- */

void
segment_seal(struct spool *spool)
{
	if (!spool->active)
		return;
	lock(spool);
	spool->active->end = spool->tail;
	spool->active->is_active = false;
	spool->active->sealed_us = clock_monotonic_us();
	/* Also when nothing was ever written to it: the next superblock has to
	 * say that a batch which failed there is void. */
	atomic_store(
	    &spool->durable_lsn, LSN(spool->active->number, spool->tail));
	(void)pthread_cond_signal(&spool->segments.chores);
	(void)pthread_cond_signal(&spool->segments.sealed);
	unlock(spool);
	spool->active = NULL;
}

/* Gives the file its superblock and its name, both durable. */
static int
christen(struct spool *spool, const char *from, int flags, uint32_t number)
{
	const struct spool_io *io = spool->io;
	char *AUTO_FREE to = segment_path(spool, number);
	struct superblock sb = spool_superblock(spool, SUPERBLOCK_SEGMENT);
	uint8_t page[FORMAT_PAGE];

	sb.serial = number;
	superblock_encode(&sb, page);
	TRY(io_put(io, from, flags, span_from(page, sizeof page)));
	TRY(io->rename(io->owner, from, to));
	return io->sync_directory(io->owner, spool->directory);
}

int
segment_rotate(struct spool *spool)
{
	const struct spool_io *io = spool->io;
	char *AUTO_FREE from = pool_take(spool);
	bool is_whole = from != NULL;

	segment_seal(spool);
	/* Without a prepared file the log goes on in one that grows: slower,
	 * but nobody waits. */
	if (!from)
		from = mem_printf("%s/grow.tmp", spool->directory);
	/* A number is never used twice, even if this fails half way. */
	uint32_t number = spool->next_segment++;
	int result = christen(spool, from, is_whole ? 0 : O_TRUNC, number);
	if (result < 0) {
		(void)io->unlink(io->owner, from);
		return result;
	}
	char *AUTO_FREE path = segment_path(spool, number);
	int file = io->open(io->owner, path, O_RDWR);
	if (file < 0)
		return file;
	struct segment *segment = segment_add(spool, number);
	lock(spool);
	segment->file = file;
	segment->epoch = (uint16_t)spool->epoch;
	segment->is_whole = is_whole;
	segment->is_active = true;
	segment->end = FORMAT_PAGE;
	spool->segments.open_files++;
	unlock(spool);
	spool->active = segment;
	spool->tail = FORMAT_PAGE;
	return 0;
}

/* ---- recycling --------------------------------------------------------- */

/* Outcomes must outlive the messages they tell of. So the log is freed from its
 * old end, and only while nothing older is kept elsewhere; but what the
 * catalogue covers goes in any order. Standing orders are repeated in the first
 * batch of each segment: one durable batch in a later segment has them. */
static bool
is_dead(struct spool *spool, size_t i)
{
	const struct segments *all = &spool->segments;
	const struct segment *s = all->all[i];

	if (s->is_active || s->live > 0 || s->refs > 0)
		return false;
	if (s->number & COPIES_BIT)
		return true;
	if (LSN(s->number, s->end) > all->exported ||
	    atomic_load(&spool->written_segment) <= s->number)
		return false;
	bool has_copies = (all->all[all->count - 1]->number & COPIES_BIT) != 0;
	return s->number < all->folded || (i == 0 && !has_copies);
}

/* A segment that nothing needs, taken out of the table. */
static struct segment *
take_dead(struct spool *spool)
{
	struct segments *all = &spool->segments;
	struct segment *segment = NULL;
	size_t i = 0;

	lock(spool);
	bool may = !all->is_stuck && !atomic_load(&spool->is_loading);
	/* Above what is folded in only the first can be free. */
	while (may && i < all->count && !is_dead(spool, i))
		i++;
	if (may && i < all->count) {
		segment = all->all[i];
		all->count--;
		memmove(all->all + i, all->all + i + 1,
		    (all->count - i) * sizeof(struct segment *));
		all->open_files -= segment->file >= 0;
	}
	unlock(spool);
	return segment;
}

/* What could not be read may be readable another day. */
static int
set_aside(struct spool *spool, const char *path, uint32_t number)
{
	const struct spool_io *io = spool->io;
	char *AUTO_FREE aside = mem_printf("%s/quarantine", spool->directory);
	char *AUTO_FREE to = mem_printf("%s/%016" PRIx32 ".seg", aside, number);

	TRY(io->rename(io->owner, path, to));
	return io->sync_directory(io->owner, aside);
}

static int
reuse(struct spool *spool, const char *path)
{
	char *to = pool_path(spool);
	int result = spool->io->rename(spool->io->owner, path, to);

	if (result == 0)
		result = spool->io->sync_directory(
		    spool->io->owner, spool->directory);
	if (result < 0)
		mem_free(to);
	else
		pool_add(spool, to);
	return result;
}

/* More are given back to the file system. Where mail waits, segments come free
 * by the handful, at each checkpoint: kept until the next one, they need not be
 * prepared anew while mail waits for the disk. */
static size_t
pool_max(const struct spool *spool)
{
	bool is_ample = atomic_load(&spool->space) == SPOOL_SPACE_OK;

	return is_ample ? POOL_MAX + spool->options.pass_segments : POOL_MAX;
}

/* The name must be gone for good before the next segment goes: a message must
 * not come back without the outcomes that were behind it. */
static int
retire(struct spool *spool, const struct segment *segment)
{
	const struct spool_io *io = spool->io;
	char *AUTO_FREE path = segment_path(spool, segment->number);

	lock(spool);
	bool is_needed = spool->segments.pool_count < pool_max(spool);
	unlock(spool);
	if (segment->is_whole && is_needed && !segment->is_damaged)
		return reuse(spool, path);
	if (segment->is_damaged)
		TRY(set_aside(spool, path, segment->number));
	else
		TRY(io->unlink(io->owner, path));
	return io->sync_directory(io->owner, spool->directory);
}

/* What the catalogue says of a segment that is gone is void. */
static void
remove_live_file(struct spool *spool, const struct segment *segment)
{
	char *AUTO_FREE path =
	    live_path(spool, segment->number, segment->live_serial);

	if (segment->live_serial != 0)
		(void)spool->io->unlink(spool->io->owner, path);
}

void
segment_recycle(struct spool *spool)
{
	struct segment *segment;

	while ((segment = take_dead(spool))) {
		if (segment->file >= 0)
			(void)spool->io->close(spool->io->owner, segment->file);
		int result = retire(spool, segment);
		if (result == 0)
			remove_live_file(spool, segment);
		mem_free(segment);
		if (result < 0) {
			lock(spool);
			spool->segments.is_stuck = true;
			unlock(spool);
		}
	}
}
