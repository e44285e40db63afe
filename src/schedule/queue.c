/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "schedule/internal.h"

#include <string.h>

/* An empty queue keeps its site for the next message. */
#define LINGER_US US_PER_MIN
#define DOMAIN_MAX 1000
#define TURNS 4 /* three for fresh mail, one for a retry */

/* ---- coming and going ---- */

struct key_bytes {
	char bytes[9 + DOMAIN_MAX];
	size_t len;
};

static struct span
key_pack(const struct schedule_key *key, struct key_bytes *ret)
{
	BUG_UNLESS(key->domain.len <= DOMAIN_MAX);
	BUG_UNLESS(key->class < SCHEDULE_CLASSES);
	memcpy(ret->bytes, &key->tenant, 4);
	memcpy(ret->bytes + 4, &key->stream, 4);
	ret->bytes[8] = (char)key->class;
	if (key->domain.len)
		memcpy(ret->bytes + 9, key->domain.ptr, key->domain.len);
	ret->len = 9 + key->domain.len;
	return span_from(ret->bytes, ret->len);
}

static uint32_t
index_find(struct schedule *s)
{
	if (s->free_count)
		return s->free_queues[--s->free_count];
	if (s->queue_count == s->queue_capacity) {
		uint32_t capacity =
		    s->queue_capacity ? s->queue_capacity * 2 : 64;
		s->queues = mem_resize(s->queues, capacity, sizeof(void *));
		s->free_queues = mem_resize(
		    s->free_queues, capacity, sizeof *s->free_queues);
		s->aliases =
		    mem_resize(s->aliases, capacity, sizeof *s->aliases);
		s->queue_capacity = capacity;
	}
	return s->queue_count++;
}

uint32_t
index_take(struct schedule *s)
{
	uint32_t i = index_find(s);

	s->aliases[i] = NONE;
	return i;
}

void
index_hand_over(struct schedule_queue *from, struct schedule_queue *to)
{
	struct schedule *s = to->s;
	uint32_t last = from->index;

	s->queues[last] = to;
	while (s->aliases[last] != NONE) {
		last = s->aliases[last];
		s->queues[last] = to;
	}
	if (to->index != NONE) {
		s->aliases[last] = s->aliases[to->index];
		s->aliases[to->index] = from->index;
	} else {
		to->index = from->index;
	}
	from->index = NONE;
}

struct schedule_queue *
queue_at(const struct schedule *s, uint32_t i)
{
	struct schedule_queue *q = s->queues[i];

	return q && q->index == i && !q->is_reaped ? q : NULL;
}

struct schedule_queue *
queue_blank(struct schedule *s, const struct schedule_key *key)
{
	struct schedule_queue *q = mem_zalloc(sizeof *q + key->domain.len + 1);

	q->s = s;
	q->tenant = key->tenant;
	q->stream = key->stream;
	q->class = (uint8_t)key->class;
	q->domain_len = key->domain.len;
	if (key->domain.len)
		memcpy(q->domain, key->domain.ptr, key->domain.len);
	for (unsigned i = 0; i < LISTS; i++)
		q->lists[i] = (struct fifo){ NONE, NONE, 0 };
	list_init(&q->place_link);
	list_init(&q->goal_link);
	heap_node_init(&q->timer, TIMER_QUEUE);
	q->index = NONE;
	s->queue_bytes += sizeof *q + q->domain_len + 1;
	return q;
}

struct schedule_queue *
queue_of(struct schedule *s, const struct schedule_key *key)
{
	struct key_bytes packed;
	struct span bytes = key_pack(key, &packed);
	struct schedule_queue *q = map_get(s->queues_by_key, bytes);

	if (q)
		return q;
	q = queue_blank(s, key);
	q->index = index_take(s);
	s->queues[q->index] = q;
	(void)map_put(s->queues_by_key, bytes, q);
	holds_apply(q);
	return q;
}

void
queue_free(struct schedule_queue *q)
{
	struct schedule *s = q->s;
	struct schedule_key key = schedule_queue_key(q);
	struct key_bytes packed;

	goal_unbind(q);
	if (!q->is_reaped)
		(void)map_remove(s->queues_by_key, key_pack(&key, &packed));
	for (uint32_t i = q->index; i != NONE; i = s->aliases[i]) {
		s->queues[i] = NULL;
		s->free_queues[s->free_count++] = i;
	}
	queue_drop(q);
}

void
queue_drop(struct schedule_queue *q)
{
	struct schedule *s = q->s;

	domain_release(q);
	list_remove(&q->place_link);
	heap_remove(&s->timers, &q->timer);
	s->queue_bytes -= sizeof *q + q->domain_len + 1;
	mem_free(q->hold_reason);
	mem_free(q->last_reply);
	mem_free(q);
}

/* ---- state ---- */

uint32_t
queue_ready(const struct schedule_queue *q)
{
	return q->lists[LIST_FRESH].count + q->lists[LIST_DUE].count +
	       q->forced_total;
}

bool
queue_has_mail(const struct schedule_queue *q)
{
	return q->recipients > 0;
}

bool
queue_is_servable(const struct schedule_queue *q)
{
	return queue_ready(q) > 0 && !q->is_held &&
	       q->pause_until_us <= q->s->now_us;
}

/* At least one delivery goes out per look-up, however short its answer lives,
 * or a TTL of 0 would have us asking for ever. */
static bool
has_site(const struct schedule_queue *q)
{
	return q->goal && (!q->was_served || q->valid_until_us > q->s->now_us);
}

static enum queue_place
right_place(const struct schedule_queue *q)
{
	if (!queue_is_servable(q) || q->is_looked_up || q->is_reaped)
		return PLACE_NOWHERE;
	if (!has_site(q))
		return PLACE_LOOKUP;
	return goal_is_parked(q->goal) ? PLACE_NOWHERE : PLACE_LANE;
}

void
queue_leave_place(struct schedule_queue *q)
{
	list_remove(&q->place_link);
	if (q->place == PLACE_LANE && list_is_empty(&q->lane->queues))
		heap_remove(&q->goal->rings[q->class], &q->lane->turn);
	q->place = PLACE_NOWHERE;
}

static void
place_enter(struct schedule_queue *q, enum queue_place place)
{
	q->place = (uint8_t)place;
	if (place == PLACE_LOOKUP)
		list_append(&q->s->to_look_up, &q->place_link);
	if (place != PLACE_LANE)
		return;
	struct lane *lane = q->lane;
	list_append(&lane->queues, &q->place_link);
	lane_enter_ring(lane);
}

static void
queue_set_timer(struct schedule_queue *q)
{
	struct schedule *s = q->s;

	if (q->pause_until_us > s->now_us)
		heap_set(&s->timers, &q->timer, q->pause_until_us);
	else if (queue_has_mail(q) || q->in_flight || q->is_looked_up)
		heap_remove(&s->timers, &q->timer);
	else if (q->timer.position == NONE)
		heap_set(&s->timers, &q->timer, s->now_us + LINGER_US);
}

void
queue_update(struct schedule_queue *q)
{
	enum queue_place place = right_place(q);

	if (place != q->place) {
		queue_leave_place(q);
		place_enter(q, place);
	}
	uint32_t ready = place == PLACE_LANE ? queue_ready(q) : 0;
	if (q->lane)
		lane_on_ready(q->lane, q->counted_ready, ready);
	q->counted_ready = ready;
	queue_set_timer(q);
	if (!q->goal)
		return;
	if (q->goal->parked_count && queue_is_servable(q))
		goal_probe_if_due(q->goal);
	goal_update(q->goal);
}

void
queue_on_timer(struct schedule_queue *q)
{
	if (q->pause_until_us || queue_has_mail(q) || q->in_flight ||
	    q->is_looked_up) {
		q->pause_until_us = 0;
		q->is_limited = false;
		queue_update(q);
		return;
	}
	if (domain_keep_until(q) > q->s->now_us)
		heap_set(&q->s->timers, &q->timer, domain_keep_until(q));
	else
		queue_free(q);
}

/* ---- turns ---- */

static uint32_t
first_retry(const struct schedule_queue *q)
{
	if (q->lists[LIST_DUE].count)
		return q->lists[LIST_DUE].head;
	for (unsigned level = 0; level < SCHEDULE_LEVELS; level++)
		if (q->forced[level])
			return q->lists[LIST_LEVEL + level].head;
	UNREACHABLE("a retry is ready");
}

uint32_t
queue_pick(struct schedule_queue *q)
{
	bool has_fresh = q->lists[LIST_FRESH].count > 0;
	bool has_retry = q->lists[LIST_DUE].count || q->forced_total;

	BUG_UNLESS(has_fresh || has_retry);
	if (!has_retry)
		return q->lists[LIST_FRESH].head;
	if (!has_fresh)
		return first_retry(q);
	q->turn = (uint8_t)((q->turn + 1) % TURNS);
	return q->turn ? q->lists[LIST_FRESH].head : first_retry(q);
}

/* ---- selecting ---- */

bool
glob_matches(struct span pattern, struct span text)
{
	struct span after = SPAN_EMPTY, from = SPAN_EMPTY;
	bool has_star = false;

	for (;;) {
		size_t star = span_find(pattern, '*');
		struct span piece = span_slice(pattern, 0, star);
		if (star != SIZE_MAX && span_starts_nocase(text, piece)) {
			has_star = true;
			after = pattern = span_skip(pattern, star + 1);
			from = text = span_skip(text, piece.len);
			continue;
		}
		if (star == SIZE_MAX && span_eq_nocase(text, piece))
			return true;
		/* The last star takes one octet more. */
		if (!has_star || from.len == 0)
			return false;
		pattern = after;
		from = text = span_skip(from, 1);
	}
}

static bool
matches(struct span pattern, struct span text)
{
	return !pattern.len || glob_matches(pattern, text);
}

bool
schedule_selects(
    const struct schedule_selector *sel, const struct schedule_key *key)
{
	return (!sel->tenant || sel->tenant == key->tenant) &&
	       (!sel->stream || sel->stream == key->stream) &&
	       (!sel->classes || sel->classes >> key->class & 1) &&
	       matches(sel->domain, key->domain) && !sel->site.len;
}

bool
queue_matches(
    const struct schedule_queue *q, const struct schedule_selector *sel)
{
	struct schedule_key key = schedule_queue_key(q);
	struct schedule_selector here = *sel;

	if (sel->site.len) {
		if (!q->goal || !glob_matches(sel->site, goal_name(q->goal)))
			return false;
		here.site = SPAN_EMPTY;
	}
	return schedule_selects(&here, &key);
}
