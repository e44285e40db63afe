/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/bug.h"
#include "base/mem.h"
#include "schedule/internal.h"

#include <string.h>

/* A way that was out of use does not catch up on more turns than these. */
#define TURNS_AHEAD 64
#define TURN_SCALE 1000000U

/* ---- lanes ---- */

struct lane_key {
	const struct goal *goal;
	uint32_t tenant, class;
};

static struct lane *
lane_get(struct schedule_queue *q, struct goal *goal)
{
	struct schedule *s = q->s;
	struct lane_key key = { goal, q->tenant, q->class };
	struct span bytes = span_from(&key, sizeof key);
	struct lane *lane = map_get(s->lanes_by_key, bytes);

	if (!lane) {
		lane = MEM_NEW(struct lane);
		heap_node_init(&lane->turn, TURN_LANE);
		list_init(&lane->queues);
		list_init(&lane->block_link);
		lane->goal = goal;
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
	struct lane_key key = { lane->goal, lane->tenant, lane->class };

	if (--lane->users)
		return;
	BUG_UNLESS(list_is_empty(&lane->queues));
	(void)map_remove(s->lanes_by_key, span_from(&key, sizeof key));
	list_remove(&lane->block_link);
	mem_free(lane);
}

/* ---- ways ---- */

struct schedule_limits
limits_of_policy(const struct schedule_policy *policy)
{
	return (struct schedule_limits){
		.connections = policy->site_connections,
		.share = policy->site_share,
		.reserved = policy->reserved_connections,
		.window_first = policy->window_first,
		.message_rate = policy->site_message_rate,
		.connection_rate = policy->site_connection_rate,
	};
}

static void
site_new(struct goal *goal, const struct schedule_way *way)
{
	struct schedule *s = goal->s;
	struct schedule_site *site =
	    mem_zalloc(sizeof *site + way->source.len + 1);

	site->s = s;
	site->goal = goal;
	site->source_len = way->source.len;
	if (way->source.len)
		memcpy(site->source, way->source.ptr, way->source.len);
	site->ledger_name = span_dup(way->ledger);
	site->turn = goal->turn;
	list_init(&site->want_link);
	list_init(&site->idle[0]);
	list_init(&site->idle[1]);
	heap_node_init(&site->timer, TIMER_SITE);
	heap_node_init(&site->gate, TIMER_GATE);
	ledger_open(
	    s->ledger, way->ledger, &s->member, s->now_us, &site->share);
	list_append(&s->sites, &site->all_link);
	list_append(&goal->ways, &site->goal_link);
	goal->way_count++;
}

/* Out of everything but what its connections need to end. */
static void
site_retire(struct schedule_site *site)
{
	struct schedule *s = site->s;

	if (site->is_retired)
		return;
	site->is_retired = true;
	site->goal->way_count--;
	site->goal->parked_count -= site->is_parked;
	s->sites_parked -= site->is_parked;
	site->is_parked = false;
	list_remove(&site->want_link);
	site->line = NULL;
	heap_remove(&s->timers, &site->timer);
	heap_remove(&s->timers, &site->gate);
	ledger_waive(&site->share);
	if (site->grant != GRANT_NONE)
		ledger_give(&site->share, site->grant == GRANT_RESERVED);
	site->grant = GRANT_NONE;
}

static void
site_free(struct schedule_site *site)
{
	struct schedule *s = site->s;

	site_retire(site);
	list_remove(&site->all_link);
	list_remove(&site->goal_link);
	ledger_close(&site->share, s->now_us);
	mem_free(site->ledger_name);
	mem_free(site);
}

void
site_free_if_unused(struct schedule_site *site)
{
	struct goal *goal = site->goal;

	if (site->is_retired && !site->open[0] && !site->open[1])
		site_free(site);
	goal_free_if_unused(goal);
}

static struct schedule_site *
find_way(const struct goal *goal, const struct schedule_way *way)
{
	LIST_FOR_EACH(link, &goal->ways) {
		struct schedule_site *site =
		    LIST_ENTRY(link, struct schedule_site, goal_link);
		if (!site->is_retired &&
		    span_eq(schedule_site_source(site), way->source) &&
		    span_eq(span_of(site->ledger_name), way->ledger))
			return site;
	}
	return NULL;
}

static bool
is_named(const struct schedule_site *site, const struct schedule_place *place)
{
	for (size_t i = 0; i < place->way_count; i++)
		if (span_eq(
			schedule_site_source(site), place->ways[i].source) &&
		    span_eq(span_of(site->ledger_name), place->ways[i].ledger))
			return true;
	return false;
}

static void
goal_set_ways(struct goal *goal, const struct schedule_place *place)
{
	BUG_UNLESS(place->way_count <= SCHEDULE_WAYS);
	LIST_FOR_EACH_SAFE(link, &goal->ways) {
		struct schedule_site *site =
		    LIST_ENTRY(link, struct schedule_site, goal_link);
		if (is_named(site, place))
			continue;
		site_retire(site);
		if (!site->open[0] && !site->open[1])
			site_free(site);
	}
	for (size_t i = 0; i < place->way_count; i++) {
		const struct schedule_way *way = &place->ways[i];
		BUG_UNLESS(way->weight > 0 &&
			   (way->by_policy || way->limits.connections > 0));
		if (!find_way(goal, way))
			site_new(goal, way);
		struct schedule_site *site = find_way(goal, way);
		site->weight = way->weight;
		site->has_limits = !way->by_policy;
		site->limits = way->by_policy
				   ? limits_of_policy(&goal->s->policy)
				   : way->limits;
	}
}

/* ---- turns ---- */

/* Is this way really in use, so that others should wait for it? */
static bool
is_going(const struct schedule_site *site)
{
	bool reserved;

	if (site->is_retired || site->is_parked || site->suspended_us)
		return false;
	if (site_could_go(site) || site_could_connect(site, &reserved))
		return true;
	return site_usable(site) > 0 &&
	       site->s->now_us - site->last_taken_us < TURN_PATIENCE_US;
}

bool
site_lets_others(const struct schedule_site *site)
{
	const struct goal *goal = site->goal;

	if (goal->way_count < 2)
		return false;
	LIST_FOR_EACH(link, &goal->ways) {
		const struct schedule_site *other =
		    LIST_ENTRY(link, struct schedule_site, goal_link);
		if (other == site || other->turn >= site->turn ||
		    !is_going(other))
			continue;
		return true;
	}
	return false;
}

void
site_count_turn(struct schedule_site *site)
{
	struct goal *goal = site->goal;
	uint64_t step = TURN_SCALE / site->weight;
	uint64_t behind = (uint64_t)TURNS_AHEAD * TURN_SCALE;

	int64_t now_us = site->s->now_us;

	if (now_us - site->marks[0].at_us >= US_PER_S) {
		site->marks[1] = site->marks[0];
		site->marks[0] = (struct mark){ now_us, site->taken };
	}
	site->last_taken_us = now_us;
	if (goal->way_count < 2)
		return;
	if (site->turn + behind < goal->turn)
		site->turn = goal->turn - behind;
	site->turn += step ? step : 1;
	if (site->turn > goal->turn)
		goal->turn = site->turn;
}

/* ---- goals ---- */

struct span
goal_name(const struct goal *goal)
{
	return span_from(goal->name, goal->name_len);
}

bool
goal_is_parked(const struct goal *goal)
{
	return goal->way_count > 0 && goal->parked_count == goal->way_count;
}

static struct goal *
goal_new(struct schedule *s, struct span key, size_t name_len)
{
	struct goal *goal = mem_zalloc(sizeof *goal + key.len + 1);

	goal->s = s;
	goal->name_len = name_len;
	goal->key_len = key.len;
	BUG_UNLESS(key.ptr != NULL && key.len > name_len);
	memcpy(goal->name, key.ptr, key.len);
	list_init(&goal->queues);
	list_init(&goal->ways);
	list_append(&s->goals, &goal->all_link);
	s->goal_count++;
	(void)map_put(s->goals_by_name, key, goal);
	return goal;
}

void
goal_free_if_unused(struct goal *goal)
{
	struct schedule *s = goal->s;

	if (!list_is_empty(&goal->queues) || goal->connections)
		return;
	if (goal->owner && s->on_site_free)
		s->on_site_free(goal->owner);
	LIST_FOR_EACH_SAFE(link, &goal->ways)
		site_free(LIST_ENTRY(link, struct schedule_site, goal_link));
	list_remove(&goal->all_link);
	s->goal_count--;
	(void)map_remove(
	    s->goals_by_name, span_from(goal->name, goal->key_len));
	for (unsigned i = 0; i < SCHEDULE_CLASSES; i++)
		mem_free(goal->rings[i].nodes);
	mem_free(goal->last_reply);
	mem_free(goal);
}

static struct goal *
goal_of(struct schedule *s, const struct schedule_place *place)
{
	struct buf key = BUF_EMPTY;

	buf_append(&key, place->name);
	buf_append(&key, span_from("", 1));
	buf_append(&key, place->pool);
	struct goal *goal = map_get(s->goals_by_name, buf_span(&key));
	if (!goal)
		goal = goal_new(s, buf_span(&key), place->name.len);
	buf_done(&key);
	return goal;
}

void
goal_bind(struct schedule_queue *q, const struct schedule_place *place)
{
	struct goal *goal = goal_of(q->s, place);

	if (goal != q->goal) {
		goal_unbind(q);
		q->goal = goal;
		q->lane = lane_get(q, goal);
		list_append(&goal->queues, &q->goal_link);
	}
	bool was_parked = goal_is_parked(goal);
	goal_set_ways(goal, place);
	if (goal_is_parked(goal) == was_parked)
		return;
	LIST_FOR_EACH(link, &goal->queues)
		queue_update(
		    LIST_ENTRY(link, struct schedule_queue, goal_link));
}

void
goal_unbind(struct schedule_queue *q)
{
	struct goal *goal = q->goal;

	if (!goal)
		return;
	if (q->place == PLACE_LANE)
		queue_leave_place(q);
	lane_on_ready(q->lane, q->counted_ready, 0);
	q->counted_ready = 0;
	lane_release(q->s, q->lane);
	q->lane = NULL;
	q->goal = NULL;
	list_remove(&q->goal_link);
	goal_update(goal);
	goal_free_if_unused(goal);
}

/* ---- facts ---- */

void *
schedule_site_owner(const struct schedule_site *site)
{
	return site->goal->owner;
}

void *
schedule_place_owner(const struct schedule_queue *queue)
{
	return queue->goal->owner;
}

void
schedule_place_set_owner(struct schedule_queue *queue, void *owner)
{
	queue->goal->owner = owner;
}

struct span
schedule_site_name(const struct schedule_site *site)
{
	return goal_name(site->goal);
}

struct span
schedule_site_source(const struct schedule_site *site)
{
	return span_from(site->source, site->source_len);
}

void
schedule_on_site_free(struct schedule *s, void (*fn)(void *owner))
{
	s->on_site_free = fn;
}

void
schedule_site_set_last_reply(struct schedule_site *site, struct span text)
{
	text_replace(&site->goal->last_reply, text, 500);
	site->goal->reply_order = ++site->s->reply_order;
}
