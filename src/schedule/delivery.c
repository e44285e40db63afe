/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "schedule/internal.h"

#define FIELD_24 0xffffffU

void
schedule_hear(struct schedule *s, int64_t now_us)
{
	if (!s->has_base) {
		s->has_base = true;
		s->base_us = now_us - US_PER_HOUR;
		s->now_us = now_us;
	}
	if (now_us > s->now_us)
		s->now_us = now_us;
}

uint32_t
tick_after(const struct schedule *s, int64_t time_us)
{
	if (time_us == TIME_NEVER)
		return TICK_NEVER;
	if (time_us <= s->base_us)
		return 0;
	uint64_t ticks =
	    ((uint64_t)(time_us - s->base_us) + (1U << TICK_SHIFT) - 1) >>
	    TICK_SHIFT;
	return ticks < TICK_NEVER ? (uint32_t)ticks : TICK_NEVER - 1;
}

int64_t
tick_time(const struct schedule *s, uint32_t tick)
{
	if (tick == TICK_NEVER)
		return TIME_NEVER;
	return s->base_us + ((int64_t)tick << TICK_SHIFT);
}

/* splitmix64: even enough for jitter, and the same in every run of a test. */
static uint64_t
random_next(struct schedule *s)
{
	uint64_t z = s->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

int64_t
jittered(struct schedule *s, int64_t delay_us, uint32_t percent)
{
	int64_t span_us = delay_us / 100 * percent;

	if (span_us <= 0)
		return delay_us;
	uint64_t offset = random_next(s) % (2 * (uint64_t)span_us + 1);
	return delay_us - span_us + (int64_t)offset;
}

struct schedule_delivery
delivery_facts(const struct schedule *s, const struct delivery *d)
{
	return (struct schedule_delivery){
		.mno = d->mno,
		.rcpt_first = d->rcpt_first,
		.rcpt_count = d->rcpt_count,
		.attempts = d->attempts,
		.warned = d->warn == TICK_NEVER,
		.due_us = tick_time(s, d->due),
		.warn_us = tick_time(s, d->warn),
		.expire_us = tick_time(s, d->expire),
	};
}

/* ---- lists ---- */

static void
list_link(struct schedule_queue *q, uint32_t i, unsigned list, bool at_front)
{
	struct slab *slab = &q->s->slab;
	struct delivery *d = slab_at(slab, i);
	struct fifo *fifo = &q->lists[list];

	d->list = list & 0xff;
	d->prev = at_front ? NONE : fifo->tail;
	d->next = at_front ? fifo->head : NONE;
	if (d->prev == NONE)
		fifo->head = i;
	else
		slab_at(slab, d->prev)->next = i;
	if (d->next == NONE)
		fifo->tail = i;
	else
		slab_at(slab, d->next)->prev = i;
	fifo->count++;
}

static void
forced_less(struct schedule_queue *q, unsigned level, bool was_head)
{
	uint32_t limit = q->lists[LIST_LEVEL + level].count;
	uint32_t *forced = &q->forced[level];
	uint32_t before = *forced;

	if (*forced && was_head)
		--*forced;
	if (*forced > limit)
		*forced = limit;
	q->forced_total -= before - *forced;
}

static void
list_unlink(struct schedule_queue *q, uint32_t i)
{
	struct slab *slab = &q->s->slab;
	struct delivery *d = slab_at(slab, i);
	BUG_UNLESS(d->list < LISTS);
	struct fifo *fifo = &q->lists[d->list];
	bool was_head = fifo->head == i;

	BUG_UNLESS(fifo->count > 0);
	if (d->prev == NONE)
		fifo->head = d->next;
	else
		slab_at(slab, d->prev)->next = d->next;
	if (d->next == NONE)
		fifo->tail = d->prev;
	else
		slab_at(slab, d->next)->prev = d->prev;
	fifo->count--;
	if (d->list >= LIST_LEVEL)
		forced_less(q, d->list - LIST_LEVEL, was_head);
}

void
delivery_list_move(struct schedule_queue *q, uint32_t i, unsigned list)
{
	list_unlink(q, i);
	list_link(q, i, list, false);
}

/* ---- in and out ---- */

void
delivery_arm(struct schedule *s, uint32_t i)
{
	const struct delivery *d = slab_at(&s->slab, i);
	uint32_t tick = d->warn < d->expire ? d->warn : d->expire;

	if (d->list >= LIST_LEVEL && d->due < tick)
		tick = d->due;
	wheel_place(&s->wheel, &s->slab, i, tick);
}

uint32_t
delivery_add(struct schedule_queue *q, const struct schedule_delivery *given,
    unsigned list, bool at_front)
{
	struct schedule *s = q->s;

	BUG_UNLESS(given->rcpt_first <= FIELD_24 && given->rcpt_count > 0 &&
		   given->rcpt_count <= FIELD_24);
	uint32_t i = slab_take(&s->slab);
	struct delivery *d = slab_at(&s->slab, i);
	*d = (struct delivery){
		.mno = given->mno,
		.wheel_next = NONE,
		.wheel_prev = NONE,
		.due = tick_after(s, given->due_us),
		.warn =
		    given->warned ? TICK_NEVER : tick_after(s, given->warn_us),
		.expire = tick_after(s, given->expire_us),
		.queue = q->index,
		.rcpt_first = given->rcpt_first & FIELD_24,
		.rcpt_count = given->rcpt_count & FIELD_24,
		.attempts = given->attempts,
	};
	list_link(q, i, list, at_front);
	delivery_arm(s, i);
	q->recipients += given->rcpt_count;
	s->recipients += given->rcpt_count;
	return i;
}

struct schedule_delivery
delivery_remove(struct schedule_queue *q, uint32_t i)
{
	struct schedule *s = q->s;
	struct schedule_delivery facts =
	    delivery_facts(s, slab_at(&s->slab, i));

	BUG_UNLESS(s->queues[slab_at(&s->slab, i)->queue] == q);
	BUG_UNLESS(q->recipients >= facts.rcpt_count);
	wheel_remove(&s->wheel, &s->slab, i);
	list_unlink(q, i);
	slab_give(&s->slab, i);
	q->recipients -= facts.rcpt_count;
	s->recipients -= facts.rcpt_count;
	return facts;
}

/* ---- again ---- */

unsigned
level_of(const struct schedule *s, unsigned attempts)
{
	unsigned level = attempts ? attempts - 1 : 0;

	if (level >= s->policy.delay_count)
		level = s->policy.delay_count - 1;
	return level;
}

void
delivery_defer(struct schedule_queue *q, struct schedule_delivery *d,
    unsigned level, int64_t min_delay_us)
{
	struct schedule *s = q->s;
	const struct schedule_policy *policy = &s->policy;
	int64_t longest_us = policy->delay_us[policy->delay_count - 1];

	if (level < level_of(s, d->attempts))
		level = level_of(s, d->attempts);
	if (min_delay_us > longest_us)
		min_delay_us = longest_us;
	int64_t delay_us =
	    jittered(s, policy->delay_us[level], policy->jitter_percent);
	if (delay_us < min_delay_us)
		delay_us = min_delay_us;
	d->due_us = tick_time(s, tick_after(s, s->now_us + delay_us));
	(void)delivery_add(q, d, LIST_LEVEL + level, false);
}
