/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "schedule/internal.h"

#include <string.h>

/* The first of a slot's list has, instead of a link back, the slot's number. */
#define SLOT_BIT (UINT32_C(1) << 31)

static uint64_t *
used_word(struct wheel *w, uint32_t slot)
{
	if (slot < WHEEL_NEAR)
		return &w->near_used[slot / 64];
	slot -= WHEEL_NEAR;
	return slot < WHEEL_FAR ? &w->far_used[slot / 64] : NULL;
}

static void
set_head(struct wheel *w, struct slab *slab, uint32_t slot, uint32_t head)
{
	uint64_t *word = used_word(w, slot);
	uint64_t bit = UINT64_C(1) << slot % 64;

	w->heads[slot] = head;
	if (head != NONE)
		slab_at(slab, head)->wheel_prev = SLOT_BIT | slot;
	if (word)
		*word = head == NONE ? *word & ~bit : *word | bit;
}

void
wheel_init(struct wheel *w)
{
	memset(w, 0, sizeof *w);
	for (uint32_t i = 0; i < WHEEL_SLOTS; i++)
		w->heads[i] = NONE;
}

void
wheel_put(struct wheel *w, struct slab *slab, uint32_t i, uint32_t slot)
{
	struct delivery *d = slab_at(slab, i);

	BUG_UNLESS(d->wheel_prev == NONE && slot < WHEEL_SLOTS);
	d->wheel_next = w->heads[slot];
	if (d->wheel_next != NONE)
		slab_at(slab, d->wheel_next)->wheel_prev = i;
	set_head(w, slab, slot, i);
}

void
wheel_place(struct wheel *w, struct slab *slab, uint32_t i, uint32_t tick)
{
	if (tick == TICK_NEVER)
		return;
	if (tick <= w->now) {
		wheel_put(w, slab, i, WHEEL_READY);
		return;
	}
	if (tick - w->now < WHEEL_NEAR) {
		wheel_put(w, slab, i, tick % WHEEL_NEAR);
		return;
	}
	uint32_t round = tick / WHEEL_NEAR, last = w->now / WHEEL_NEAR;
	last += WHEEL_FAR - 1;
	if (round > last)
		round = last;
	wheel_put(w, slab, i, WHEEL_NEAR + round % WHEEL_FAR);
}

void
wheel_remove(struct wheel *w, struct slab *slab, uint32_t i)
{
	struct delivery *d = slab_at(slab, i);

	if (d->wheel_prev == NONE)
		return;
	if (d->wheel_prev & SLOT_BIT) {
		uint32_t slot = d->wheel_prev & ~SLOT_BIT;
		BUG_UNLESS(slot < WHEEL_SLOTS && w->heads[slot] == i);
		set_head(w, slab, slot, d->wheel_next);
	} else {
		slab_at(slab, d->wheel_prev)->wheel_next = d->wheel_next;
		if (d->wheel_next != NONE)
			slab_at(slab, d->wheel_next)->wheel_prev =
			    d->wheel_prev;
	}
	d->wheel_prev = d->wheel_next = NONE;
}

/* How many slots after `from` (a power-of-two ring) the next used one is. */
static uint32_t
ring_distance(const uint64_t *used, uint32_t size, uint32_t from)
{
	uint32_t at = from % size;
	uint64_t word = used[at / 64] >> at % 64;

	if (word)
		return (uint32_t)__builtin_ctzll(word);
	uint32_t distance = 64 - at % 64;
	while (distance < size) {
		word = used[(at + distance) % size / 64];
		if (word) {
			distance += (uint32_t)__builtin_ctzll(word);
			break;
		}
		distance += 64;
	}
	return distance < size ? distance : size;
}

uint64_t
wheel_next_tick(const struct wheel *w)
{
	uint64_t tick = UINT64_MAX, round = w->now / WHEEL_NEAR + 1;
	uint32_t near = ring_distance(w->near_used, WHEEL_NEAR, w->now + 1);
	uint32_t far = ring_distance(w->far_used, WHEEL_FAR, (uint32_t)round);

	if (near < WHEEL_NEAR)
		tick = (uint64_t)w->now + 1 + near;
	if (far < WHEEL_FAR && (round + far) * WHEEL_NEAR < tick)
		tick = (round + far) * WHEEL_NEAR;
	return tick;
}

static void
slot_move(struct wheel *w, struct slab *slab, uint32_t slot, uint32_t line)
{
	uint32_t head = w->heads[slot];

	if (head == NONE)
		return;
	BUG_UNLESS(w->heads[line] == NONE);
	set_head(w, slab, slot, NONE);
	set_head(w, slab, line, head);
}

bool
wheel_advance(struct wheel *w, struct slab *slab, uint32_t until)
{
	uint64_t tick = wheel_next_tick(w);

	if (tick > until) {
		if (w->now < until)
			w->now = until;
		return false;
	}
	w->now = (uint32_t)tick;
	slot_move(w, slab, w->now % WHEEL_NEAR, WHEEL_READY);
	if (w->now % WHEEL_NEAR == 0)
		slot_move(w, slab, WHEEL_NEAR + w->now / WHEEL_NEAR % WHEEL_FAR,
		    WHEEL_SPREAD);
	return true;
}
