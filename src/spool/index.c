/* SPDX-License-Identifier: Apache-2.0 */

/* Number to place, for every message with a live recipient: open addressing
 * with linear probing. Sharded so that growing one table stalls little; it
 * grows by a quarter, for memory counts more than the time that takes. */

#include "base/bug.h"
#include "base/hash.h"
#include "base/mem.h"
#include "spool/internal.h"

#include <stdlib.h>
#include <string.h>

#define TABLE_MIN 16

void
index_init(struct index *index)
{
	memset(index, 0, sizeof *index);
	for (size_t i = 0; i < INDEX_SHARDS; i++)
		(void)pthread_mutex_init(&index->shards[i].lock, NULL);
}

void
index_done(struct index *index)
{
	for (size_t i = 0; i < INDEX_SHARDS; i++) {
		mem_free(index->shards[i].table);
		(void)pthread_mutex_destroy(&index->shards[i].lock);
	}
}

static struct index_shard *
lock_shard(struct index *index, uint64_t mno)
{
	struct index_shard *shard =
	    &index->shards[hash_mix(mno) % INDEX_SHARDS];

	(void)pthread_mutex_lock(&shard->lock);
	return shard;
}

static void
unlock_shard(struct index_shard *shard)
{
	(void)pthread_mutex_unlock(&shard->lock);
}

static size_t
home(const struct index_shard *shard, uint64_t mno)
{
	/* The high bits choose a place; a shard is chosen by the low ones. */
	return (size_t)((unsigned __int128)hash_mix(mno) * shard->size >> 64);
}

static size_t
after(const struct index_shard *shard, size_t i)
{
	return i + 1 == shard->size ? 0 : i + 1;
}

/* The slot of mno, or the empty one where it would go. */
static struct slot *
find(const struct index_shard *shard, uint64_t mno)
{
	size_t i = home(shard, mno);

	while (shard->table[i].mno != 0 && shard->table[i].mno != mno)
		i = after(shard, i);
	return &shard->table[i];
}

static void
grow(struct index_shard *shard)
{
	struct slot *old = shard->table;
	size_t old_size = shard->size;

	shard->size = old_size ? old_size + old_size / 4 : TABLE_MIN;
	shard->table = mem_zalloc(shard->size * sizeof *shard->table);
	for (size_t i = 0; i < old_size; i++) {
		if (old[i].mno != 0)
			*find(shard, old[i].mno) = old[i];
	}
	mem_free(old);
}

void
index_put(struct index *index, const struct slot *slot)
{
	BUG_UNLESS(slot->mno != 0 && slot->live > 0);
	struct index_shard *shard = lock_shard(index, slot->mno);
	if (8 * (shard->count + 1) > 7 * shard->size)
		grow(shard);
	struct slot *at = find(shard, slot->mno);
	shard->count += at->mno == 0;
	*at = *slot;
	unlock_shard(shard);
}

bool
index_get(struct index *index, uint64_t mno, struct slot *ret_slot)
{
	struct index_shard *shard = lock_shard(index, mno);
	bool is_there = false;

	if (mno != 0 && shard->size > 0) {
		const struct slot *at = find(shard, mno);

		is_there = at->mno != 0;
		if (is_there)
			*ret_slot = *at;
	}
	unlock_shard(shard);
	return is_there;
}

static size_t
distance(const struct index_shard *shard, size_t from, size_t to)
{
	return to >= from ? to - from : to + shard->size - from;
}

/* Closes the gap, so that no probe ends before what it looks for. */
static void
remove_slot(struct index_shard *shard, struct slot *slot)
{
	size_t gap = (size_t)(slot - shard->table);

	for (size_t i = after(shard, gap); shard->table[i].mno != 0;
	     i = after(shard, i)) {
		size_t wanted = home(shard, shard->table[i].mno);

		if (distance(shard, wanted, i) < distance(shard, gap, i))
			continue;
		shard->table[gap] = shard->table[i];
		gap = i;
	}
	shard->table[gap] = (struct slot){ 0 };
	shard->count--;
}

uint32_t
index_settle(
    struct index *index, uint64_t mno, uint32_t n, struct slot *ret_slot)
{
	struct index_shard *shard = lock_shard(index, mno);
	uint32_t taken = 0;

	if (mno != 0 && shard->size > 0) {
		struct slot *at = find(shard, mno);

		taken = n < at->live ? n : at->live;
		at->live -= (uint16_t)taken;
		if (at->mno != 0)
			*ret_slot = *at;
		if (at->mno != 0 && at->live == 0)
			remove_slot(shard, at);
	}
	unlock_shard(shard);
	return taken;
}

bool
index_mark_damaged(struct index *index, uint64_t mno)
{
	struct index_shard *shard = lock_shard(index, mno);
	bool is_news = false;

	if (shard->size > 0) {
		struct slot *at = find(shard, mno);

		is_news = at->mno != 0 && !at->is_damaged;
		if (is_news)
			at->is_damaged = true;
	}
	unlock_shard(shard);
	return is_news;
}

static int
compare_place(const void *a, const void *b)
{
	const struct slot *x = a, *y = b;

	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	return x->at < y->at ? -1 : x->at > y->at;
}

struct slot *
index_all(struct index *index, enum index_which which, size_t *ret_count)
{
	struct slot *all = NULL;
	size_t count = 0, capacity = 0;

	for (size_t i = 0; i < INDEX_SHARDS; i++) {
		struct index_shard *shard = &index->shards[i];

		(void)pthread_mutex_lock(&shard->lock);
		for (size_t k = 0; k < shard->size; k++) {
			const struct slot *at = &shard->table[k];

			if (at->mno == 0 ||
			    (which == INDEX_FILES && !at->is_file) ||
			    (which == INDEX_SHARED && !at->is_shared))
				continue;
			if (count == capacity) {
				capacity = capacity ? 2 * capacity : 64;
				all = mem_resize(all, capacity, sizeof *all);
			}
			all[count++] = *at;
		}
		unlock_shard(shard);
	}
	if (count > 0)
		qsort(all, count, sizeof *all, compare_place);
	*ret_count = count;
	return all;
}

uint64_t
index_bytes(struct index *index)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < INDEX_SHARDS; i++) {
		struct index_shard *shard = &index->shards[i];

		(void)pthread_mutex_lock(&shard->lock);
		bytes += shard->size * sizeof *shard->table;
		(void)pthread_mutex_unlock(&shard->lock);
	}
	return bytes;
}

bool
index_find(struct index *index, const struct slot *place, struct slot *ret_slot)
{
	bool is_there = false;

	for (size_t i = 0; i < INDEX_SHARDS && !is_there; i++) {
		struct index_shard *shard = &index->shards[i];

		(void)pthread_mutex_lock(&shard->lock);
		for (size_t k = 0; k < shard->size && !is_there; k++) {
			const struct slot *at = &shard->table[k];

			is_there =
			    at->mno != 0 && compare_place(at, place) == 0;
			if (is_there)
				*ret_slot = *at;
		}
		unlock_shard(shard);
	}
	return is_there;
}

bool
index_move(struct index *index, const struct slot *from, const struct slot *to)
{
	struct index_shard *shard = lock_shard(index, from->mno);
	bool is_there = false;

	if (shard->size > 0) {
		struct slot *at = find(shard, from->mno);

		is_there = at->mno != 0 && compare_place(at, from) == 0;
		if (is_there) {
			at->segment = to->segment;
			at->at = to->at;
		}
	}
	unlock_shard(shard);
	return is_there;
}
