/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "schedule/internal.h"

#define REPLY_MAX 500

void
text_replace(char **text, struct span now, size_t max)
{
	char *old = *text;
	size_t len = now.len < max ? now.len : max;

	/* A cut must not leave half a character behind. */
	while (len < now.len && len > 0 && (now.ptr[len] & 0xc0) == 0x80)
		len--;
	*text = span_dup(span_slice(now, 0, len));
	mem_free(old);
}

struct schedule_key
schedule_queue_key(const struct schedule_queue *queue)
{
	return (struct schedule_key){ .tenant = queue->tenant,
		.stream = queue->stream,
		.class = (enum schedule_class)queue->class,
		.domain = span_from(queue->domain, queue->domain_len) };
}

void
schedule_queue_set_last_reply(struct schedule_queue *queue, struct span text)
{
	text_replace(&queue->last_reply, text, REPLY_MAX);
	queue->reply_order = ++queue->s->reply_order;
}

struct span
schedule_queue_last_reply(const struct schedule_queue *queue)
{
	const struct schedule_site *site = queue->site;

	if (site && site->reply_order > queue->reply_order)
		return span_of(site->last_reply);
	return span_of(queue->last_reply);
}

/* ---- facts ---- */

static int64_t
next_due(const struct schedule_queue *q)
{
	const struct schedule *s = q->s;
	int64_t at_us = TIME_NEVER;

	if (q->is_held)
		return TIME_NEVER;
	for (unsigned i = LIST_LEVEL; i < LISTS; i++) {
		if (!q->lists[i].count)
			continue;
		const struct delivery *d = slab_at(&s->slab, q->lists[i].head);
		if (tick_time(s, d->due) < at_us)
			at_us = tick_time(s, d->due);
	}
	if (queue_ready(q))
		at_us = s->now_us;
	if (at_us != TIME_NEVER && q->pause_until_us > at_us)
		at_us = q->pause_until_us;
	if (at_us != TIME_NEVER && q->site && q->site->is_parked &&
	    q->site->timer.position != NONE && q->site->timer.rank > at_us)
		at_us = q->site->timer.rank;
	return at_us;
}

static int64_t
oldest_expire(const struct schedule_queue *q)
{
	uint32_t tick = TICK_NEVER;

	for (unsigned i = 0; i < LISTS; i++) {
		if (!q->lists[i].count)
			continue;
		const struct delivery *d =
		    slab_at(&q->s->slab, q->lists[i].head);
		if (d->expire < tick)
			tick = d->expire;
	}
	return tick_time(q->s, tick);
}

void
schedule_queue_facts(const struct schedule *s,
    const struct schedule_queue *queue, struct schedule_queue_facts *ret_facts)
{
	const struct schedule_site *site = queue->site;
	uint64_t retry = 0;

	BUG_UNLESS(queue->s == s);
	for (unsigned i = LIST_DUE; i < LISTS; i++)
		retry += queue->lists[i].count;
	*ret_facts = (struct schedule_queue_facts){
		.key = schedule_queue_key(queue),
		.fresh = queue->lists[LIST_FRESH].count,
		.retry = retry,
		.recipients = queue->recipients,
		.in_flight = queue->in_flight,
		.next_due_us = next_due(queue),
		.oldest_expire_us = oldest_expire(queue),
		.held = queue->is_held,
		.parked = (site && site->is_parked) ||
			  queue->pause_until_us > s->now_us,
		.hold_reason = span_of(queue->hold_reason),
		.last_reply = schedule_queue_last_reply(queue),
		.site_limit = s->policy.site_connections,
	};
	if (!site)
		return;
	ret_facts->site = schedule_site_name(site);
	ret_facts->site_connections = site->open[0] + site->open[1];
}

void
schedule_each_queue(const struct schedule *s,
    const struct schedule_selector *sel, schedule_queue_fn *fn, void *arg)
{
	for (uint32_t i = 0; i < s->queue_count; i++) {
		const struct schedule_queue *q = queue_at(s, i);
		struct schedule_queue_facts facts;
		if (!q || !queue_matches(q, sel) ||
		    (!queue_has_mail(q) && !q->in_flight))
			continue;
		schedule_queue_facts(s, q, &facts);
		fn(arg, &facts);
	}
}

static size_t
each_in_list(struct schedule_queue *q, unsigned list, size_t limit,
    schedule_delivery_fn *fn, void *arg)
{
	uint32_t i = q->lists[list].head;
	size_t count = 0;

	for (; i != NONE && count < limit; count++) {
		const struct delivery *d = slab_at(&q->s->slab, i);
		struct schedule_delivery facts = delivery_facts(q->s, d);
		i = d->next;
		fn(arg, q, &facts);
	}
	return count;
}

size_t
schedule_each_delivery(const struct schedule *s,
    const struct schedule_selector *sel, size_t limit, schedule_delivery_fn *fn,
    void *arg)
{
	size_t count = 0;

	for (uint32_t i = 0; i < s->queue_count && count < limit; i++) {
		struct schedule_queue *q = queue_at(s, i);
		if (!q || !queue_matches(q, sel))
			continue;
		for (unsigned list = 0; list < LISTS; list++)
			count += each_in_list(q, list, limit - count, fn, arg);
	}
	return count;
}

void
schedule_stats(const struct schedule *s, struct schedule_stats *ret_stats)
{
	*ret_stats = (struct schedule_stats){
		.queues = map_count(s->queues_by_key),
		.sites = s->site_count,
		.sites_parked = s->sites_parked,
		.connections = s->connections,
		.deliveries = s->slab.used,
		.recipients = s->recipients + s->in_flight,
		.in_flight = s->in_flight,
		.reaped = s->reaped_count,
		.bytes = (uint64_t)s->slab.block_count * SLAB_BLOCK *
			     sizeof(struct delivery) +
			 s->queue_bytes,
	};
}
