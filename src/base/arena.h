/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Memory that dies together: all of a session's or message's small pieces.
 * Allocation is a pointer bump; nothing is freed singly. The price: a long
 * session that keeps allocating grows until arena_reset, so limits on what a
 * peer may make us remember come first.
 */

#include "base/span.h"

#include <stddef.h>

struct arena;

struct arena *arena_new(void);
void arena_free(struct arena **arena); /* accepts a NULL arena; nulls it */
/* Forgets everything but keeps the first block for the next use. */
void arena_reset(struct arena *arena);
size_t arena_used(const struct arena *arena); /* bytes handed out */

void *arena_alloc(struct arena *arena, size_t size); /* zeroed, aligned 16 */
struct span arena_dup(struct arena *arena, struct span s); /* NUL follows */
char *arena_strdup(struct arena *arena, struct span s);
struct span arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define ARENA_NEW(arena, type) ((type *)arena_alloc((arena), sizeof(type)))
#define ARENA_ARRAY(arena, type, count)                                        \
	((type *)arena_alloc((arena), sizeof(type) * (count)))
