/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "schedule/internal.h"

#include <string.h>

/* ---- binding queues ---- */

struct lane_key {
	const struct schedule_site *site;
	uint32_t tenant, class;
};

static struct lane *
lane_get(struct schedule_queue *q, struct schedule_site *site)
{
	struct schedule *s = q->s;
	struct lane_key key = { site, q->tenant, q->class };
	struct span bytes = span_from(&key, sizeof key);
	struct lane *lane = map_get(s->lanes_by_key, bytes);

	if (!lane) {
		lane = MEM_NEW(struct lane);
		heap_node_init(&lane->turn, TURN_LANE);
		list_init(&lane->queues);
		list_init(&lane->block_link);
		lane->site = site;
		lane->tenant = q->tenant;
		lane->class = q->class;
		(void)map_put(s->lanes_by_key, bytes, lane);
	}
	lane->users++;
	return lane;
}

static void
lane_release(struct schedule *s, struct lane *lane)
{
	struct lane_key key = { lane->site, lane->tenant, lane->class };

	if (--lane->users)
		return;
	BUG_UNLESS(list_is_empty(&lane->queues));
	(void)map_remove(s->lanes_by_key, span_from(&key, sizeof key));
	list_remove(&lane->block_link);
	mem_free(lane);
}

static struct schedule_site *
site_new(struct schedule *s, struct span name)
{
	struct schedule_site *site = mem_zalloc(sizeof *site + name.len + 1);

	site->s = s;
	site->name_len = name.len;
	if (name.len)
		memcpy(site->name, name.ptr, name.len);
	list_init(&site->want_link);
	list_init(&site->queues);
	list_init(&site->idle[0]);
	list_init(&site->idle[1]);
	heap_node_init(&site->timer, TIMER_SITE);
	heap_node_init(&site->gate, TIMER_GATE);
	ledger_open(s->ledger, name, &s->member, s->now_us, &site->share);
	list_append(&s->sites, &site->all_link);
	s->site_count++;
	(void)map_put(s->sites_by_name, name, site);
	return site;
}

void
site_free_if_unused(struct schedule_site *site)
{
	struct schedule *s = site->s;

	if (!list_is_empty(&site->queues) || site->open[0] || site->open[1])
		return;
	if (site->owner && s->on_site_free)
		s->on_site_free(site->owner);
	list_remove(&site->all_link);
	list_remove(&site->want_link);
	heap_remove(&s->timers, &site->timer);
	heap_remove(&s->timers, &site->gate);
	if (site->grant != GRANT_NONE)
		ledger_give(&site->share, site->grant == GRANT_RESERVED);
	ledger_close(&site->share, s->now_us);
	s->site_count--;
	s->sites_parked -= site->is_parked;
	(void)map_remove(s->sites_by_name, schedule_site_name(site));
	for (unsigned i = 0; i < SCHEDULE_CLASSES; i++)
		mem_free(site->rings[i].nodes);
	mem_free(site->last_reply);
	mem_free(site);
}

void
site_bind(struct schedule_queue *q, struct span name)
{
	struct schedule_site *site = map_get(q->s->sites_by_name, name);

	if (site && site == q->site)
		return;
	if (!site)
		site = site_new(q->s, name);
	site_unbind(q);
	q->site = site;
	q->lane = lane_get(q, site);
	list_append(&site->queues, &q->site_link);
}

void
site_unbind(struct schedule_queue *q)
{
	struct schedule_site *site = q->site;

	if (!site)
		return;
	if (q->place == PLACE_LANE)
		queue_leave_place(q);
	lane_on_ready(q->lane, q->counted_ready, 0);
	q->counted_ready = 0;
	lane_release(q->s, q->lane);
	q->lane = NULL;
	q->site = NULL;
	list_remove(&q->site_link);
	site_update(site);
	site_free_if_unused(site);
}

/* ---- facts ---- */

void *
schedule_site_owner(const struct schedule_site *site)
{
	return site->owner;
}

void
schedule_site_set_owner(struct schedule_site *site, void *owner)
{
	site->owner = owner;
}

struct span
schedule_site_name(const struct schedule_site *site)
{
	return span_from(site->name, site->name_len);
}

void
schedule_on_site_free(struct schedule *s, void (*fn)(void *owner))
{
	s->on_site_free = fn;
}

void
schedule_site_set_last_reply(struct schedule_site *site, struct span text)
{
	text_replace(&site->last_reply, text, 500);
	site->reply_order = ++site->s->reply_order;
}
