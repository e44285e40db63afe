/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/bodies.h"

#include "base/bug.h"
#include "base/mem.h"
#include "spool/internal.h"

#include <stdlib.h>

void
bodies_init(struct bodies *bodies)
{
	(void)pthread_mutex_init(&bodies->lock, NULL);
	bodies->by_number = map_new();
}

void
bodies_done(struct bodies *bodies)
{
	for (uint32_t i = 0; i < bodies->count; i++)
		mem_free(bodies->all[i]);
	mem_free(bodies->all);
	mem_free(bodies->unused);
	map_free(&bodies->by_number, NULL);
	(void)pthread_mutex_destroy(&bodies->lock);
}

static struct bodies *
lock(struct spool *spool)
{
	(void)pthread_mutex_lock(&spool->bodies.lock);
	return &spool->bodies;
}

static void
unlock(struct bodies *bodies)
{
	(void)pthread_mutex_unlock(&bodies->lock);
}

/* ---- entries; under the lock ------------------------------------------- */

static uint32_t
take_handle(struct bodies *bodies)
{
	if (bodies->unused_count > 0)
		return bodies->unused[--bodies->unused_count];
	if (bodies->count == bodies->capacity) {
		uint32_t capacity =
		    bodies->capacity ? 2 * bodies->capacity : 16;

		bodies->all =
		    mem_resize(bodies->all, capacity, sizeof(struct body *));
		bodies->unused = mem_resize(
		    bodies->unused, capacity, sizeof *bodies->unused);
		bodies->capacity = capacity;
	}
	return bodies->count++;
}

static struct body *
add(struct bodies *bodies, const struct body *place)
{
	struct body *body = mem_alloc(sizeof *body);

	*body = *place;
	body->handle = take_handle(bodies);
	bodies->all[body->handle] = body;
	bodies->live++;
	(void)map_put_u64(bodies->by_number, body->number, body);
	return body;
}

static void
drop(struct bodies *bodies, struct body *body)
{
	(void)map_remove_u64(bodies->by_number, body->number);
	bodies->all[body->handle] = NULL;
	bodies->unused[bodies->unused_count++] = body->handle;
	bodies->live--;
	mem_free(body);
}

static struct body *
at_handle(const struct bodies *bodies, uint32_t handle)
{
	return handle < bodies->count ? bodies->all[handle] : NULL;
}

/* The same body in the same place, or NULL. */
static struct body *
same(const struct bodies *bodies, const struct body *body)
{
	struct body *now = at_handle(bodies, body->handle);

	return now && now->number == body->number &&
		       now->segment == body->segment && now->at == body->at
		   ? now
		   : NULL;
}

/* One more ref. The segment whose count it adds to, or 0. */
static uint32_t
take_ref(struct bodies *bodies, struct body *body)
{
	bodies->refs++;
	return body->refs++ == 0 ? body->segment : 0;
}

/* ---- loading ----------------------------------------------------------- */

void
bodies_found(struct spool *spool, const struct body *place)
{
	struct bodies *bodies = lock(spool);

	if (place->number != 0 &&
	    !map_get_u64(bodies->by_number, place->number))
		add(bodies, place)->is_found = true;
	unlock(bodies);
}

struct body
bodies_ref(struct spool *spool, uint64_t number)
{
	const struct body lost = { .number = number, .is_found = true };
	struct bodies *bodies = lock(spool);
	struct body *body = map_get_u64(bodies->by_number, number);

	if (!body)
		body = add(bodies, &lost);
	uint32_t segment = take_ref(bodies, body);
	struct body copy = *body;
	unlock(bodies);
	if (segment != 0)
		segment_count_live(spool, segment, 1);
	return copy;
}

void
bodies_settle(struct spool *spool)
{
	struct bodies *bodies = lock(spool);

	for (uint32_t i = 0; i < bodies->count; i++) {
		if (bodies->all[i] && bodies->all[i]->refs == 0)
			drop(bodies, bodies->all[i]);
	}
	bodies->is_whole = true;
	unlock(bodies);
}

/* ---- the committer ----------------------------------------------------- */

int
bodies_claim(struct spool *spool, uint64_t number, uint32_t segment,
    uint32_t len, uint32_t *ret_handle)
{
	const struct body here = {
		.number = number,
		.segment = segment,
		.len = len,
	};
	struct bodies *bodies = lock(spool);
	struct body *body = map_get_u64(bodies->by_number, number);

	bool is_news = !body;
	if (is_news)
		body = add(bodies, &here);
	bool is_good = body->segment != 0 && !body->is_damaged;
	uint32_t counted = is_good ? take_ref(bodies, body) : 0;
	*ret_handle = body->handle;
	unlock(bodies);
	if (counted != 0)
		segment_count_live(spool, counted, 1);
	return is_good ? is_news : ERR_CORRUPT;
}

void
bodies_place(struct spool *spool, uint32_t handle, uint32_t at)
{
	struct bodies *bodies = lock(spool);
	struct body *body = at_handle(bodies, handle);

	BUG_UNLESS(body);
	body->at = at;
	unlock(bodies);
}

void
bodies_unref(struct spool *spool, uint32_t handle)
{
	struct bodies *bodies = lock(spool);
	struct body *body = at_handle(bodies, handle);

	BUG_UNLESS(body && body->refs > 0);
	bodies->refs--;
	uint32_t segment = --body->refs == 0 ? body->segment : 0;
	/* While the rest is loaded somebody may still need it, but not what
	 * this life wrote, or did not come to write: that claim is over. */
	if (body->refs == 0 && (bodies->is_whole || !body->is_found))
		drop(bodies, body);
	unlock(bodies);
	if (segment != 0)
		segment_count_live(spool, segment, -1);
}

/* ---- looking ----------------------------------------------------------- */

bool
bodies_find(struct spool *spool, uint64_t number, struct body *ret_body)
{
	struct bodies *bodies = lock(spool);
	const struct body *body = map_get_u64(bodies->by_number, number);

	if (body)
		*ret_body = *body;
	unlock(bodies);
	return body != NULL;
}

bool
bodies_find_at(
    struct spool *spool, const struct slot *place, struct body *ret_body)
{
	struct bodies *bodies = lock(spool);
	bool is_there = false;

	for (uint32_t i = 0; i < bodies->count && !is_there; i++) {
		const struct body *body = bodies->all[i];

		is_there = body && body->segment == place->segment &&
			   body->at == place->at;
		if (is_there)
			*ret_body = *body;
	}
	unlock(bodies);
	return is_there;
}

bool
bodies_mark_damaged(struct spool *spool, const struct body *body)
{
	struct bodies *bodies = lock(spool);
	struct body *now = same(bodies, body);

	bool is_news = now && !now->is_damaged;
	if (is_news)
		now->is_damaged = true;
	unlock(bodies);
	return is_news;
}

bool
bodies_is_at(struct spool *spool, const struct body *body)
{
	struct bodies *bodies = lock(spool);
	const struct body *now = same(bodies, body);

	bool is_there = now && now->refs > 0;
	unlock(bodies);
	return is_there;
}

bool
bodies_move(struct spool *spool, const struct body *from, const struct slot *to)
{
	struct bodies *bodies = lock(spool);
	struct body *now = same(bodies, from);

	bool is_there = now && now->refs > 0;
	if (is_there) {
		now->segment = to->segment;
		now->at = to->at;
	}
	unlock(bodies);
	return is_there;
}

static int
compare_place(const void *a, const void *b)
{
	const struct body *x = a, *y = b;

	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	return x->at < y->at ? -1 : x->at > y->at;
}

struct body *
bodies_all(struct spool *spool, size_t *ret_count)
{
	struct bodies *bodies = lock(spool);
	struct body *all = mem_resize(NULL, bodies->live + 1, sizeof *all);
	size_t count = 0;

	for (uint32_t i = 0; i < bodies->count; i++) {
		if (bodies->all[i])
			all[count++] = *bodies->all[i];
	}
	unlock(bodies);
	if (count > 0)
		qsort(all, count, sizeof *all, compare_place);
	*ret_count = count;
	return all;
}

uint64_t
bodies_bytes(struct spool *spool)
{
	/* In the map: a number, a pointer and what is kept free. */
	const size_t entry = sizeof(struct body) + 48;
	struct bodies *bodies = lock(spool);
	uint64_t bytes = bodies->capacity * (sizeof(void *) + 4) +
			 (uint64_t)bodies->live * entry;

	unlock(bodies);
	return bytes;
}

void
bodies_count(struct spool *spool, uint64_t *ret_bodies, uint64_t *ret_messages)
{
	struct bodies *bodies = lock(spool);

	*ret_bodies = bodies->live;
	*ret_messages = bodies->refs;
	unlock(bodies);
}
