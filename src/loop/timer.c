/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "loop/internal.h"

enum { CHILDREN = 4 };

static bool
is_before(const struct timer_entry *a, const struct timer_entry *b)
{
	return a->due_us < b->due_us ||
	       (a->due_us == b->due_us && a->sequence < b->sequence);
}

static void
place(struct timer_heap *heap, uint32_t at, struct timer_entry entry)
{
	heap->entries[at] = entry;
	entry.timer->position = at;
}

static void
sift_up(struct timer_heap *heap, uint32_t at, struct timer_entry entry)
{
	while (at > 0) {
		uint32_t parent = (at - 1) / CHILDREN;
		if (!is_before(&entry, &heap->entries[parent]))
			break;
		place(heap, at, heap->entries[parent]);
		at = parent;
	}
	place(heap, at, entry);
}

/* The earliest child of `at`, or `count` when it has none. */
static uint32_t
first_child(const struct timer_heap *heap, uint32_t at)
{
	uint32_t begin = at * CHILDREN + 1, best = begin;

	if (begin >= heap->count)
		return heap->count;
	for (uint32_t i = begin + 1; i < begin + CHILDREN && i < heap->count;
	     i++)
		if (is_before(&heap->entries[i], &heap->entries[best]))
			best = i;
	return best;
}

static void
sift_down(struct timer_heap *heap, uint32_t at, struct timer_entry entry)
{
	for (;;) {
		uint32_t child = first_child(heap, at);
		if (child == heap->count ||
		    !is_before(&heap->entries[child], &entry))
			break;
		place(heap, at, heap->entries[child]);
		at = child;
	}
	place(heap, at, entry);
}

void
timer_heap_add(
    struct timer_heap *heap, struct loop_timer *timer, int64_t due_us)
{
	if (heap->count == heap->capacity) {
		/* Child positions must not wrap. */
		BUG_UNLESS(heap->count < UINT32_MAX / (2 * CHILDREN));
		heap->capacity = heap->capacity ? heap->capacity * 2 : 64;
		heap->entries = mem_resize(
		    heap->entries, heap->capacity, sizeof *heap->entries);
	}
	struct timer_entry entry = { due_us, heap->next_sequence++, timer };
	sift_up(heap, heap->count++, entry);
}

void
timer_heap_remove(struct timer_heap *heap, struct loop_timer *timer)
{
	uint32_t at = timer->position;

	BUG_UNLESS(at < heap->count && heap->entries[at].timer == timer);
	struct timer_entry last = heap->entries[--heap->count];
	if (at == heap->count)
		return;
	if (at > 0 && is_before(&last, &heap->entries[(at - 1) / CHILDREN]))
		sift_up(heap, at, last);
	else
		sift_down(heap, at, last);
}

void
timer_heap_done(struct timer_heap *heap)
{
	for (uint32_t i = 0; i < heap->count; i++)
		heap->entries[i].timer->loop = NULL;
	mem_free(heap->entries);
	*heap = (struct timer_heap){ 0 };
}
