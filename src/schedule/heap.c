/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "schedule/internal.h"

/* A binary heap: a few nodes move often, most never reach the top. */

void
heap_node_init(struct heap_node *node, enum heap_kind kind)
{
	*node = (struct heap_node){ .position = NONE, .kind = kind };
}

static void
heap_store(struct heap *heap, uint32_t position, struct heap_node *node)
{
	heap->nodes[position] = node;
	node->position = position;
}

static void
sift_up(struct heap *heap, struct heap_node *node, uint32_t at)
{
	while (at > 0) {
		uint32_t parent = (at - 1) / 2;
		if (heap->nodes[parent]->rank <= node->rank)
			break;
		heap_store(heap, at, heap->nodes[parent]);
		at = parent;
	}
	heap_store(heap, at, node);
}

static void
sift_down(struct heap *heap, struct heap_node *node, uint32_t at)
{
	for (;;) {
		uint32_t child = 2 * at + 1;
		if (child >= heap->count)
			break;
		if (child + 1 < heap->count &&
		    heap->nodes[child + 1]->rank < heap->nodes[child]->rank)
			child++;
		if (heap->nodes[child]->rank >= node->rank)
			break;
		heap_store(heap, at, heap->nodes[child]);
		at = child;
	}
	heap_store(heap, at, node);
}

void
heap_remove(struct heap *heap, struct heap_node *node)
{
	if (node->position == NONE)
		return;
	uint32_t at = node->position;
	BUG_UNLESS(at < heap->count && heap->nodes[at] == node);
	node->position = NONE;
	struct heap_node *last = heap->nodes[--heap->count];
	if (last == node)
		return;
	sift_up(heap, last, at);
	sift_down(heap, last, last->position);
}

void
heap_set(struct heap *heap, struct heap_node *node, int64_t rank)
{
	if (node->position != NONE && node->rank == rank)
		return;
	heap_remove(heap, node);
	if (heap->count == heap->capacity) {
		heap->capacity = heap->capacity ? heap->capacity * 2 : 8;
		heap->nodes =
		    mem_resize(heap->nodes, heap->capacity, sizeof(void *));
	}
	node->rank = rank;
	sift_up(heap, node, heap->count++);
}

struct heap_node *
heap_first(const struct heap *heap)
{
	return heap->count ? heap->nodes[0] : NULL;
}
