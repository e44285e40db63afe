/* SPDX-License-Identifier: Apache-2.0 */
#include "schedule/schedule.h"

#include "base/bug.h"
#include "base/mem.h"
#include "schedule/internal.h"

static void
policy_check(const struct schedule_policy *policy)
{
	BUG_UNLESS(
	    policy->delay_count > 0 && policy->delay_count <= SCHEDULE_LEVELS);
	BUG_UNLESS(policy->jitter_percent <= 50);
	BUG_UNLESS(policy->site_connections > 0);
	BUG_UNLESS(policy->probe_first_us > 0);
}

struct schedule *
schedule_new(const struct schedule_policy *policy, uint64_t seed)
{
	struct schedule *s = MEM_NEW(struct schedule);

	policy_check(policy);
	s->policy = *policy;
	s->random = seed;
	s->slab.free_head = NONE;
	wheel_init(&s->wheel);
	s->queues_by_key = map_new();
	s->goals_by_name = map_new();
	s->lanes_by_key = map_new();
	s->replayed = map_new();
	list_init(&s->goals);
	list_init(&s->sites);
	list_init(&s->to_look_up);
	list_init(&s->to_wake);
	list_init(&s->to_connect);
	list_init(&s->holds);
	list_init(&s->reaped);
	list_init(&s->to_close);
	limits_init(s);
	s->ledger = schedule_ledger_new();
	ledger_member_init(&s->member, NULL, NULL);
	return s;
}

void
schedule_free(struct schedule **s)
{
	struct schedule *old = *s;

	if (!old)
		return;
	/* Sites that still have connections are not freed with their queues. */
	LIST_FOR_EACH(link, &old->sites) {
		struct schedule_site *site =
		    LIST_ENTRY(link, struct schedule_site, all_link);
		while (site->open[0] + site->open[1]) {
			bool reserved = site->open[1] > 0;
			ledger_give(&site->share, reserved);
			site->open[reserved]--;
			site->goal->connections--;
		}
		site->opening = 0;
		site->closing = 0;
	}
	LIST_FOR_EACH_SAFE(link, &old->goals)
		goal_free_if_unused(LIST_ENTRY(link, struct goal, all_link));
	for (uint32_t i = 0; i < old->queue_count; i++)
		if (old->queues[i] && old->queues[i]->index == i)
			queue_free(old->queues[i]);
	BUG_UNLESS(list_is_empty(&old->sites));
	holds_free(old);
	map_free(&old->queues_by_key, NULL);
	map_free(&old->goals_by_name, NULL);
	map_free(&old->lanes_by_key, NULL);
	map_free(&old->replayed, NULL);
	slab_done(&old->slab);
	mem_free(old->timers.nodes);
	mem_free(old->queues);
	mem_free(old->free_queues);
	mem_free(old->aliases);
	limits_done(old);
	schedule_ledger_unref(&old->ledger);
	mem_free(old);
	*s = NULL;
}

void
schedule_set_policy(struct schedule *s, const struct schedule_policy *policy)
{
	policy_check(policy);
	s->policy = *policy;
	limits_renew(s);
}

void
schedule_join(struct schedule *s, struct schedule_ledger *ledger,
    void (*tell)(void *arg), void *arg)
{
	BUG_UNLESS(!s->goal_count);
	schedule_ledger_unref(&s->ledger);
	s->ledger = schedule_ledger_ref(ledger);
	ledger_member_init(&s->member, tell, arg);
}

void
schedule_add(struct schedule *s, const struct schedule_key *key,
    const struct schedule_delivery *d, int64_t now_us)
{
	schedule_hear(s, now_us);
	struct schedule_queue *q = queue_of(s, key);
	unsigned list = LIST_FRESH;
	if (d->due_us > s->now_us)
		list = LIST_LEVEL + level_of(s, d->attempts);
	else if (d->attempts)
		list = LIST_DUE;
	(void)delivery_add(q, d, list, false);
	queue_update(q);
}
