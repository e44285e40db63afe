/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A heap with four children per node: as shallow as a session count needs,
 * and the children of a node lie in two cache lines. Due times stand in the
 * heap itself, so that sifting does not touch the timers but to tell them
 * their new position.
 */

#include "loop/loop.h"

#include <stdint.h>

struct timer_entry {
	int64_t due_us;
	uint64_t sequence; /* order of setting, for equal times */
	struct loop_timer *timer;
};

struct timer_heap {
	struct timer_entry *entries;
	uint32_t count, capacity;
	uint64_t next_sequence;
};

void timer_heap_add(
    struct timer_heap *heap, struct loop_timer *timer, int64_t due_us);
void timer_heap_remove(struct timer_heap *heap, struct loop_timer *timer);
/* Frees the heap and tells the timers left in it that they are not set. */
void timer_heap_done(struct timer_heap *heap);
