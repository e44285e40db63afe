/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whole queues at once. What waits in a queue is parted from it with all its
 * lists in one step: the deliveries keep the position by which they name their
 * queue, and that position now leads to another structure, which is worked off
 * bit by bit (reaped), or whose lists go behind those of another queue (moved).
 * The queue itself stays where it is, with what is on connections, under a new
 * position. Nothing here costs by deliveries, but for those that came between
 * the operator's word and its being done: they are numbered above the cut.
 */

#include "base/bug.h"
#include "schedule/internal.h"

static void
give_to(struct schedule_queue *from, uint32_t i, struct schedule_queue *to,
    bool at_front)
{
	unsigned list = slab_at(&from->s->slab, i)->list;
	struct schedule_delivery d = delivery_remove(from, i);

	(void)delivery_add(to, &d, list, at_front);
}

/* What came after the cut stands last. */
static void
give_back_newer(struct schedule_queue *part, struct schedule_queue *q)
{
	struct slab *slab = &q->s->slab;
	uint32_t i;

	while ((i = part->lists[LIST_FRESH].tail) != NONE &&
	       slab_at(slab, i)->mno >= part->cut_mno)
		give_to(part, i, q, true);
}

/* NULL: nothing of it is concerned. */
static struct schedule_queue *
queue_part(struct schedule_queue *q, uint64_t cut_mno)
{
	struct schedule *s = q->s;
	struct schedule_key key = schedule_queue_key(q);

	if (!queue_has_mail(q))
		return NULL;
	struct schedule_queue *part = queue_blank(s, &key);
	part->is_reaped = true;
	part->cut_mno = cut_mno;
	index_hand_over(q, part);
	q->index = index_take(s);
	s->queues[q->index] = q;
	part->recipients = q->recipients;
	q->recipients = 0;
	for (unsigned i = 0; i < LISTS; i++) {
		part->lists[i] = q->lists[i];
		q->lists[i] = (struct fifo){ NONE, NONE, 0 };
	}
	for (unsigned i = 0; i < SCHEDULE_LEVELS; i++)
		q->forced[i] = 0;
	q->forced_total = 0;
	give_back_newer(part, q);
	queue_update(q);
	if (queue_has_mail(part))
		return part;
	queue_free(part);
	return NULL;
}

static size_t
waiting(const struct schedule_queue *q)
{
	size_t count = 0;

	for (unsigned i = 0; i < LISTS; i++)
		count += q->lists[i].count;
	return count;
}

/* ---- reaping ---- */

size_t
schedule_reap(struct schedule *s, const struct schedule_selector *sel,
    uint64_t cut_mno, void *tag)
{
	uint32_t end = s->queue_count;
	size_t count = 0;

	for (uint32_t i = 0; i < end; i++) {
		struct schedule_queue *q = queue_at(s, i);
		if (!q || !queue_matches(q, sel))
			continue;
		struct schedule_queue *part = queue_part(q, cut_mno);
		if (!part)
			continue;
		part->tag = tag;
		list_append(&s->reaped, &part->place_link);
		count += waiting(part);
	}
	s->reaped_count += count;
	return count;
}

struct replay_key {
	const void *tag;
	uint32_t tenant, stream;
};

static struct schedule_queue *
replay_part(struct schedule *s, const struct schedule_key *key, void *tag)
{
	struct replay_key at = { tag, key->tenant, key->stream };
	struct span bytes = span_from(&at, sizeof at);
	struct schedule_queue *part = map_get(s->replayed, bytes);

	if (part)
		return part;
	part = queue_blank(s, key);
	part->is_reaped = part->is_replayed = true;
	part->cut_mno = UINT64_MAX;
	part->tag = tag;
	part->index = index_take(s);
	s->queues[part->index] = part;
	list_append(&s->reaped, &part->place_link);
	(void)map_put(s->replayed, bytes, part);
	return part;
}

void
schedule_add_reaped(struct schedule *s, const struct schedule_key *key,
    const struct schedule_delivery *d, void *tag, int64_t now_us)
{
	schedule_hear(s, now_us);
	(void)delivery_add(replay_part(s, key, tag), d, LIST_FRESH, false);
	s->reaped_count++;
}

static void
part_free(struct schedule_queue *part)
{
	struct replay_key at = { part->tag, part->tenant, part->stream };

	if (part->is_replayed)
		(void)map_remove(part->s->replayed, span_from(&at, sizeof at));
	queue_free(part);
}

static uint32_t
first_waiting(const struct schedule_queue *q)
{
	for (unsigned i = 0; i < LISTS; i++)
		if (q->lists[i].count)
			return q->lists[i].head;
	return NONE;
}

static void
spare(struct schedule_queue *part, uint32_t i)
{
	struct schedule_key key = schedule_queue_key(part);
	struct schedule_queue *q = queue_of(part->s, &key);

	give_to(part, i, q, false);
	part->s->reaped_count--;
	queue_update(q);
}

bool
schedule_reap_next(struct schedule *s, struct schedule_queue **ret_queue,
    struct schedule_delivery *ret_delivery, void **ret_tag)
{
	while (!list_is_empty(&s->reaped)) {
		struct schedule_queue *part = LIST_ENTRY(
		    s->reaped.next, struct schedule_queue, place_link);
		uint32_t i = first_waiting(part);
		if (i == NONE) {
			part_free(part);
			continue;
		}
		if (slab_at(&s->slab, i)->mno >= part->cut_mno) {
			spare(part, i);
			continue;
		}
		BUG_UNLESS(s->reaped_count > 0);
		s->reaped_count--;
		*ret_delivery = delivery_remove(part, i);
		*ret_queue = part;
		*ret_tag = part->tag;
		return true;
	}
	return false;
}

/* ---- moving ---- */

static void
fifo_append(struct slab *slab, struct fifo *to, struct fifo *from)
{
	if (!from->count)
		return;
	slab_at(slab, from->head)->prev = to->tail;
	if (to->tail == NONE)
		to->head = from->head;
	else
		slab_at(slab, to->tail)->next = from->head;
	to->tail = from->tail;
	to->count += from->count;
	*from = (struct fifo){ NONE, NONE, 0 };
}

static size_t
part_move(struct schedule_queue *part, struct schedule_queue *to)
{
	size_t count = waiting(part);

	for (unsigned i = 0; i < LISTS; i++)
		fifo_append(&to->s->slab, &to->lists[i], &part->lists[i]);
	to->recipients += part->recipients;
	index_hand_over(part, to);
	queue_drop(part);
	queue_update(to);
	return count;
}

size_t
schedule_move(struct schedule *s, const struct schedule_selector *sel,
    uint64_t cut_mno, uint32_t to_stream, enum schedule_class to_class,
    int64_t now_us)
{
	uint32_t end = s->queue_count;
	size_t count = 0;

	schedule_hear(s, now_us);
	for (uint32_t i = 0; i < end; i++) {
		struct schedule_queue *q = queue_at(s, i);
		if (!q || !queue_matches(q, sel) ||
		    (q->stream == to_stream && q->class == to_class))
			continue;
		struct schedule_queue *part = queue_part(q, cut_mno);
		if (!part)
			continue;
		struct schedule_key key = schedule_queue_key(part);
		key.stream = to_stream;
		key.class = to_class;
		count += part_move(part, queue_of(s, &key));
	}
	return count;
}
