/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "schedule/internal.h"

/* Blocks stay for the next backlog; they are given back with the scheduler. */

static void
slab_grow(struct slab *slab)
{
	if (slab->block_count == slab->block_capacity) {
		uint32_t capacity =
		    slab->block_capacity ? slab->block_capacity * 2 : 16;
		slab->blocks =
		    mem_resize(slab->blocks, capacity, sizeof(void *));
		slab->block_capacity = capacity;
	}
	uint32_t first = slab->block_count * SLAB_BLOCK;
	/* The top bit of a link marks a wheel slot. */
	BUG_UNLESS(first < UINT32_C(1) << 31);
	struct delivery *block = mem_alloc(SLAB_BLOCK * sizeof *block);
	for (uint32_t i = 0; i < SLAB_BLOCK; i++) {
		block[i].list = LIST_FREE;
		block[i].next = i + 1 < SLAB_BLOCK ? first + i + 1 : NONE;
	}
	slab->blocks[slab->block_count++] = block;
	slab->free_head = first;
}

uint32_t
slab_take(struct slab *slab)
{
	if (slab->used == slab->block_count * SLAB_BLOCK)
		slab_grow(slab);
	uint32_t i = slab->free_head;
	struct delivery *d = slab_at(slab, i);
	BUG_UNLESS(d->list == LIST_FREE);
	slab->free_head = d->next;
	slab->used++;
	return i;
}

void
slab_give(struct slab *slab, uint32_t i)
{
	struct delivery *d = slab_at(slab, i);

	BUG_UNLESS(d->list != LIST_FREE && slab->used > 0);
	d->list = LIST_FREE;
	d->next = slab->free_head;
	slab->free_head = i;
	slab->used--;
}

void
slab_done(struct slab *slab)
{
	for (uint32_t i = 0; i < slab->block_count; i++)
		mem_free(slab->blocks[i]);
	mem_free(slab->blocks);
	*slab = (struct slab){ .free_head = NONE };
}
