/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/suppression_index.h"

#include "base/bug.h"
#include "base/hash.h"
#include "base/mem.h"
#include "os/random.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum {
	SHARD_BITS = 16,
	SHARDS = 1 << SHARD_BITS,
	CAUSE_BITS = 4,
	CAUSE_MASK = (1 << CAUSE_BITS) - 1,
	KEY_MAX = 8 + ADDRESS_MAX,
};

_Static_assert(SUPPRESSION_CAUSES - 1 <= CAUSE_MASK, "a cause fits");

/* Whose entry it is; most relays have only one kind. */
enum scope { SCOPE_RELAY, SCOPE_TENANT, SCOPE_STREAM, SCOPES };

/* Ascending; the cause stands in the low bits and does not count. */
struct shard {
	uint64_t *entries;
	uint32_t count, capacity;
};

struct suppression_index {
	pthread_rwlock_t lock; /* of shards */
	struct shard *shards;
	atomic_uint_fast64_t counts[SCOPES];
	atomic_uint_fast64_t capacity; /* entries there is room for */
	uint64_t key[4];
};

struct print {
	uint32_t shard;
	uint64_t entry; /* cause bits 0 */
};

struct suppression_index *
suppression_index_new(void)
{
	struct suppression_index *index = MEM_NEW(struct suppression_index);

	BUG_UNLESS(pthread_rwlock_init(&index->lock, NULL) == 0);
	index->shards = mem_zalloc(SHARDS * sizeof(struct shard));
	random_bytes(index->key, sizeof index->key);
	return index;
}

static void
free_shards(struct shard *shards)
{
	for (size_t i = 0; i < SHARDS; i++)
		mem_free(shards[i].entries);
	mem_free(shards);
}

void
suppression_index_free(struct suppression_index **index)
{
	struct suppression_index *x = *index;

	*index = NULL;
	if (!x)
		return;
	free_shards(x->shards);
	BUG_UNLESS(pthread_rwlock_destroy(&x->lock) == 0);
	mem_wipe(x->key, sizeof x->key);
	mem_free(x);
}

/* ---- fingerprints ------------------------------------------------------ */

static struct print
print_of(
    const struct suppression_index *index, const struct suppression_key *key)
{
	char text[KEY_MAX];
	size_t len = key->address.len;

	if (len > ADDRESS_MAX)
		len = ADDRESS_MAX;
	memcpy(text, &key->tenant, 4);
	memcpy(text + 4, &key->stream, 4);
	if (len > 0)
		memcpy(text + 8, key->address.ptr, len);
	struct span s = span_from(text, 8 + len);
	return (struct print){
		.shard =
		    (uint32_t)(hash_siphash(&index->key[0], s) & (SHARDS - 1)),
		.entry =
		    hash_siphash(&index->key[2], s) & ~(uint64_t)CAUSE_MASK,
	};
}

static enum scope
scope_of(const struct suppression_key *key)
{
	if (key->stream != 0)
		return SCOPE_STREAM;
	return key->tenant != 0 ? SCOPE_TENANT : SCOPE_RELAY;
}

/* Where the entry stands or would stand. */
static uint32_t
place_in(const struct shard *shard, uint64_t entry)
{
	uint32_t low = 0, high = shard->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (shard->entries[middle] < entry)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool
stands_at(const struct shard *shard, uint32_t at, uint64_t entry)
{
	return at < shard->count &&
	       (shard->entries[at] & ~(uint64_t)CAUSE_MASK) == entry;
}

/* ---- changes ----------------------------------------------------------- */

static void
set_capacity(
    struct suppression_index *index, struct shard *shard, uint32_t capacity)
{
	shard->entries =
	    mem_resize(shard->entries, capacity, sizeof *shard->entries);
	atomic_fetch_add(&index->capacity, capacity - shard->capacity);
	shard->capacity = capacity;
}

void
suppression_index_reserve(struct suppression_index *index, uint64_t entries)
{
	uint64_t mean = entries / SHARDS;
	uint64_t capacity = mean + mean / 16;

	if (capacity > UINT32_MAX / 2)
		return;
	BUG_UNLESS(pthread_rwlock_wrlock(&index->lock) == 0);
	for (size_t i = 0; i < SHARDS; i++) {
		if (index->shards[i].capacity < capacity)
			set_capacity(
			    index, &index->shards[i], (uint32_t)capacity);
	}
	BUG_UNLESS(pthread_rwlock_unlock(&index->lock) == 0);
}

void
suppression_index_replace(
    struct suppression_index *index, struct suppression_index *from)
{
	struct shard *old;

	BUG_UNLESS(pthread_rwlock_wrlock(&index->lock) == 0);
	old = index->shards;
	index->shards = from->shards;
	memcpy(index->key, from->key, sizeof index->key);
	for (unsigned i = 0; i < SCOPES; i++)
		atomic_store(&index->counts[i], atomic_load(&from->counts[i]));
	atomic_store(&index->capacity, atomic_load(&from->capacity));
	BUG_UNLESS(pthread_rwlock_unlock(&index->lock) == 0);
	free_shards(old);
	from->shards = mem_zalloc(SHARDS * sizeof(struct shard));
	for (unsigned i = 0; i < SCOPES; i++)
		atomic_store(&from->counts[i], 0);
	atomic_store(&from->capacity, 0);
}

static void
insert(struct suppression_index *index, struct shard *shard, uint32_t at,
    uint64_t entry)
{
	if (shard->count == shard->capacity)
		set_capacity(
		    index, shard, shard->capacity + shard->capacity / 16 + 2);
	memmove(shard->entries + at + 1, shard->entries + at,
	    (shard->count - at) * sizeof *shard->entries);
	shard->entries[at] = entry;
	shard->count++;
}

void
suppression_index_put(struct suppression_index *index,
    const struct suppression_key *key, enum suppression_cause cause)
{
	BUG_UNLESS(pthread_rwlock_wrlock(&index->lock) == 0);
	struct print p = print_of(index, key);
	struct shard *shard = &index->shards[p.shard];
	uint32_t at = place_in(shard, p.entry);
	if (stands_at(shard, at, p.entry)) {
		shard->entries[at] = p.entry | (uint64_t)cause;
	} else {
		insert(index, shard, at, p.entry | (uint64_t)cause);
		atomic_fetch_add(&index->counts[scope_of(key)], 1);
	}
	BUG_UNLESS(pthread_rwlock_unlock(&index->lock) == 0);
}

void
suppression_index_remove(
    struct suppression_index *index, const struct suppression_key *key)
{
	BUG_UNLESS(pthread_rwlock_wrlock(&index->lock) == 0);
	struct print p = print_of(index, key);
	struct shard *shard = &index->shards[p.shard];
	uint32_t at = place_in(shard, p.entry);
	if (stands_at(shard, at, p.entry)) {
		shard->count--;
		memmove(shard->entries + at, shard->entries + at + 1,
		    (shard->count - at) * sizeof *shard->entries);
		atomic_fetch_sub(&index->counts[scope_of(key)], 1);
	}
	BUG_UNLESS(pthread_rwlock_unlock(&index->lock) == 0);
}

/* ---- looking ----------------------------------------------------------- */

static bool
find_one(const struct suppression_index *index,
    const struct suppression_key *key, enum suppression_cause *ret_cause)
{
	struct print p = print_of(index, key);
	const struct shard *shard = &index->shards[p.shard];
	uint32_t at = place_in(shard, p.entry);

	if (!stands_at(shard, at, p.entry))
		return false;
	*ret_cause = (enum suppression_cause)(shard->entries[at] & CAUSE_MASK);
	return true;
}

bool
suppression_index_is_empty(const struct suppression_index *index)
{
	return atomic_load(&index->counts[SCOPE_RELAY]) == 0 &&
	       atomic_load(&index->counts[SCOPE_TENANT]) == 0 &&
	       atomic_load(&index->counts[SCOPE_STREAM]) == 0;
}

bool
suppression_index_find(struct suppression_index *index,
    const struct suppression_key *key, enum suppression_cause *ret_cause)
{
	const struct suppression_key keys[SCOPES] = {
		[SCOPE_RELAY] = { 0, 0, key->address },
		[SCOPE_TENANT] = { key->tenant, 0, key->address },
		[SCOPE_STREAM] = { key->tenant, key->stream, key->address },
	};
	bool found = false;

	BUG_UNLESS(pthread_rwlock_rdlock(&index->lock) == 0);
	for (unsigned i = 0; i < SCOPES && !found; i++) {
		if (atomic_load(&index->counts[i]) > 0)
			found = find_one(index, &keys[i], ret_cause);
	}
	BUG_UNLESS(pthread_rwlock_unlock(&index->lock) == 0);
	return found;
}

struct suppression_memory
suppression_index_memory(struct suppression_index *index)
{
	struct suppression_memory m = {
		.bytes = SHARDS * sizeof(struct shard) +
			 atomic_load(&index->capacity) * sizeof(uint64_t),
	};

	for (unsigned i = 0; i < SCOPES; i++)
		m.entries += atomic_load(&index->counts[i]);
	return m;
}
