/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

#include "base/bug.h"
#include "base/hash.h"
#include "base/mem.h"

enum { SMALLEST = 16 };

struct slot {
	uint64_t hash; /* for numbers too: spares hashing on growth */
	struct span key; /* our copy; NULL for numbers */
	uint64_t number;
	void *value; /* NULL: free; &gone: removed, but probing goes on */
};

struct map {
	struct slot *slots;
	size_t size; /* a power of two */
	size_t count; /* with a value */
	size_t used; /* with a value or gone */
};

static char gone;

static bool
is_live(const struct slot *slot)
{
	return slot->value && slot->value != &gone;
}

struct map *
map_new(void)
{
	struct map *map = MEM_NEW(struct map);

	map->size = SMALLEST;
	map->slots = mem_zalloc(sizeof *map->slots * SMALLEST);
	return map;
}

void
map_free(struct map **map, void (*free_value)(void *))
{
	if (!*map)
		return;
	for (size_t i = 0; i < (*map)->size; i++) {
		struct slot *slot = &(*map)->slots[i];
		if (!is_live(slot))
			continue;
		if (free_value)
			free_value(slot->value);
		mem_free((void *)(uintptr_t)slot->key.ptr);
	}
	mem_free((*map)->slots);
	mem_free(*map);
	*map = NULL;
}

size_t
map_count(const struct map *map)
{
	return map->count;
}

static bool
is_match(const struct slot *slot, const struct slot *wanted)
{
	return slot->hash == wanted->hash && slot->number == wanted->number &&
	       span_eq(slot->key, wanted->key);
}

/* The slot that holds wanted's key, or NULL. */
static struct slot *
find(const struct map *map, const struct slot *wanted)
{
	size_t mask = map->size - 1;

	for (size_t i = wanted->hash & mask;; i = (i + 1) & mask) {
		struct slot *slot = &map->slots[i];
		if (!slot->value)
			return NULL;
		if (slot->value != &gone && is_match(slot, wanted))
			return slot;
	}
}

static struct slot *
find_vacant(struct slot *slots, size_t size, uint64_t hash)
{
	size_t i = hash & (size - 1);

	while (is_live(&slots[i]))
		i = (i + 1) & (size - 1);
	return &slots[i];
}

/* Rebuilds when three quarters are used; the size follows the live ones, so
 * that a map with much coming and going only loses its gone slots. */
static void
make_room(struct map *map)
{
	if (map->used + 1 <= map->size / 4 * 3)
		return;
	size_t size = SMALLEST;
	while (size / 2 < map->count + 1)
		size *= 2;
	struct slot *slots = mem_resize(NULL, size, sizeof *slots);
	for (size_t i = 0; i < size; i++)
		slots[i] = (struct slot){ 0 };
	for (size_t i = 0; i < map->size; i++) {
		const struct slot *old = &map->slots[i];
		if (is_live(old))
			*find_vacant(slots, size, old->hash) = *old;
	}
	mem_free(map->slots);
	map->slots = slots;
	map->size = size;
	map->used = map->count;
}

static void *
put(struct map *map, struct slot wanted, void *value)
{
	BUG_UNLESS(value && value != &gone);
	struct slot *slot = find(map, &wanted);

	if (slot) {
		void *before = slot->value;
		slot->value = value;
		return before;
	}
	make_room(map);
	slot = find_vacant(map->slots, map->size, wanted.hash);
	if (!slot->value)
		map->used++;
	if (wanted.key.ptr)
		wanted.key.ptr = span_dup(wanted.key);
	*slot = wanted;
	slot->value = value;
	map->count++;
	return NULL;
}

static void *
take_out(struct map *map, const struct slot *wanted)
{
	struct slot *slot = find(map, wanted);

	if (!slot)
		return NULL;
	void *value = slot->value;
	mem_free((void *)(uintptr_t)slot->key.ptr);
	*slot = (struct slot){ .value = &gone };
	map->count--;

	/* Before a free slot no probe needs the mark. */
	size_t mask = map->size - 1;
	size_t i = (size_t)(slot - map->slots);
	if (map->slots[(i + 1) & mask].value)
		return value;
	for (; map->slots[i].value == &gone; i = (i - 1) & mask) {
		map->slots[i].value = NULL;
		map->used--;
	}
	return value;
}

static struct slot
slot_of_key(struct span key)
{
	/* A pointer even for the empty key: it tells keys from numbers. */
	if (!key.ptr)
		key = SPAN("");
	return (struct slot){ .hash = hash_keyed(key), .key = key };
}

static struct slot
slot_of_number(uint64_t number)
{
	return (
	    struct slot){ .hash = hash_keyed_u64(number), .number = number };
}

void *
map_put(struct map *map, struct span key, void *value)
{
	return put(map, slot_of_key(key), value);
}

void *
map_get(const struct map *map, struct span key)
{
	struct slot wanted = slot_of_key(key);
	struct slot *slot = find(map, &wanted);

	return slot ? slot->value : NULL;
}

void *
map_remove(struct map *map, struct span key)
{
	struct slot wanted = slot_of_key(key);

	return take_out(map, &wanted);
}

void *
map_put_u64(struct map *map, uint64_t key, void *value)
{
	return put(map, slot_of_number(key), value);
}

void *
map_get_u64(const struct map *map, uint64_t key)
{
	struct slot wanted = slot_of_number(key);
	struct slot *slot = find(map, &wanted);

	return slot ? slot->value : NULL;
}

void *
map_remove_u64(struct map *map, uint64_t key)
{
	struct slot wanted = slot_of_number(key);

	return take_out(map, &wanted);
}

bool
map_next(const struct map *map, struct map_cursor *cursor)
{
	while (cursor->position < map->size) {
		const struct slot *slot = &map->slots[cursor->position++];
		if (!is_live(slot))
			continue;
		cursor->key = slot->key;
		cursor->number = slot->number;
		cursor->value = slot->value;
		return true;
	}
	return false;
}
