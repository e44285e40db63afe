/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include "base/bug.h"
#include "base/mem.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum {
	ALIGNMENT = 16,
	FIRST_BLOCK = 4096, /* what an idle session pays */
	LARGEST_BLOCK = 64 * 1024,
};

struct block {
	struct block *next; /* the older one */
	size_t size, used; /* of bytes[] */
	alignas(ALIGNMENT) char bytes[];
};

struct arena {
	struct block *block; /* the newest, where allocation happens */
	struct block *first;
	size_t handed_out;
};

static struct block *
block_new(size_t size)
{
	struct block *block = mem_alloc(sizeof *block + size);

	block->next = NULL;
	block->size = size;
	block->used = 0;
	return block;
}

struct arena *
arena_new(void)
{
	struct arena *arena = MEM_NEW(struct arena);

	arena->first = block_new(FIRST_BLOCK - sizeof(struct block));
	arena->block = arena->first;
	return arena;
}

void
arena_reset(struct arena *arena)
{
	while (arena->block != arena->first) {
		struct block *older = arena->block->next;
		mem_free(arena->block);
		arena->block = older;
	}
	arena->first->used = 0;
	arena->handed_out = 0;
}

void
arena_free(struct arena **arena)
{
	if (!*arena)
		return;
	arena_reset(*arena);
	mem_free((*arena)->first);
	mem_free(*arena);
	*arena = NULL;
}

size_t
arena_used(const struct arena *arena)
{
	return arena->handed_out;
}

static void
add_block(struct arena *arena, size_t need)
{
	size_t size = arena->block->size * 2;

	if (size > LARGEST_BLOCK)
		size = LARGEST_BLOCK;
	if (size < need)
		size = need;
	struct block *block = block_new(size);
	block->next = arena->block;
	arena->block = block;
}

/* Not zeroed. */
static void *
take(struct arena *arena, size_t size)
{
	BUG_UNLESS(size <= SIZE_MAX / 2);
	size_t rounded = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);

	if (rounded == 0)
		rounded = ALIGNMENT; /* distinct pieces, distinct addresses */
	if (arena->block->size - arena->block->used < rounded)
		add_block(arena, rounded);
	struct block *block = arena->block;
	void *p = block->bytes + block->used;
	block->used += rounded;
	arena->handed_out += rounded;
	return p;
}

void *
arena_alloc(struct arena *arena, size_t size)
{
	void *p = take(arena, size);

	memset(p, 0, size);
	return p;
}

char *
arena_strdup(struct arena *arena, struct span s)
{
	char *copy = take(arena, s.len + 1);

	(void)span_to_cstring(s, copy, s.len + 1);
	return copy;
}

struct span
arena_dup(struct arena *arena, struct span s)
{
	return (struct span){ arena_strdup(arena, s), s.len };
}

struct span
arena_printf(struct arena *arena, const char *format, ...)
{
	char small[256]; /* holds most of what is printed */
	va_list args;

	va_start(args, format);
	int len = vsnprintf(small, sizeof small, format, args);
	va_end(args);
	BUG_UNLESS(len >= 0);

	char *text = take(arena, (size_t)len + 1);
	if ((size_t)len < sizeof small) {
		memcpy(text, small, (size_t)len + 1);
		return (struct span){ text, (size_t)len };
	}
	va_start(args, format);
	(void)vsnprintf(text, (size_t)len + 1, format, args);
	va_end(args);
	return (struct span){ text, (size_t)len };
}
