/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Hash map from bytes, or from a 64-bit number, to a pointer. Keys of bytes are
 * copied; values belong to the caller. Open addressing with a keyed hash
 * (SipHash with a per-process secret), so that strangers who choose keys
 * cannot make it slow.
 * Not thread-safe. Do not add while iterating; removing the current one is
 * allowed.
 */

#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map;

struct map *map_new(void);
/* Frees the map; calls free_value (may be NULL) on each value. */
void map_free(struct map **map, void (*free_value)(void *));
size_t map_count(const struct map *map);

/* The value before, or NULL. A NULL value is not allowed. */
void *map_put(struct map *map, struct span key, void *value);
void *map_get(const struct map *map, struct span key);
void *map_remove(struct map *map, struct span key);

/* The same for numbers; do not mix both kinds in one map. */
void *map_put_u64(struct map *map, uint64_t key, void *value);
void *map_get_u64(const struct map *map, uint64_t key);
void *map_remove_u64(struct map *map, uint64_t key);

struct map_cursor {
	size_t position;
	struct span key;
	uint64_t number;
	void *value;
};

/* Start with a zeroed cursor; false at the end. */
bool map_next(const struct map *map, struct map_cursor *cursor);
