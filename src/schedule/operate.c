/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "schedule/internal.h"

#define REASON_MAX 200

/* ---- holds ---- */

static struct schedule_selector
rule_selector(const struct hold_rule *rule)
{
	return (struct schedule_selector){ .tenant = rule->tenant,
		.stream = rule->stream,
		.domain = span_of(rule->domain),
		.site = span_of(rule->site),
		.classes = rule->classes };
}

static void
rule_free(struct hold_rule *rule)
{
	list_remove(&rule->link);
	mem_free(rule->domain);
	mem_free(rule->site);
	mem_free(rule->reason);
	mem_free(rule);
}

void
holds_free(struct schedule *s)
{
	LIST_FOR_EACH_SAFE(link, &s->holds)
		rule_free(LIST_ENTRY(link, struct hold_rule, link));
}

static bool
text_covers(struct span wide, const char *narrow)
{
	return !wide.len || glob_matches(wide, span_of(narrow));
}

/* Everything that the rule matches, the selector matches, too. */
static bool
covers(const struct schedule_selector *sel, const struct hold_rule *rule)
{
	return (!sel->tenant || sel->tenant == rule->tenant) &&
	       (!sel->stream || sel->stream == rule->stream) &&
	       (!sel->classes || sel->classes == rule->classes) &&
	       text_covers(sel->domain, rule->domain) &&
	       text_covers(sel->site, rule->site);
}

/* Rules that can never decide again go, so that the list stays as short as
 * what operators have in mind. */
static void
rule_add(struct schedule *s, const struct schedule_selector *sel, bool is_hold,
    struct span reason)
{
	bool any_hold = false;

	LIST_FOR_EACH_SAFE(link, &s->holds) {
		struct hold_rule *rule =
		    LIST_ENTRY(link, struct hold_rule, link);
		if (covers(sel, rule))
			rule_free(rule);
		else
			any_hold |= rule->is_hold;
	}
	if (!is_hold && !any_hold) {
		holds_free(s);
		return;
	}
	struct hold_rule *rule = MEM_NEW(struct hold_rule);
	rule->is_hold = is_hold;
	rule->tenant = sel->tenant;
	rule->stream = sel->stream;
	rule->classes = sel->classes;
	rule->domain = span_dup(sel->domain);
	rule->site = span_dup(sel->site);
	rule->reason = span_dup(span_slice(reason, 0, REASON_MAX));
	list_append(&s->holds, &rule->link);
}

static void
queue_hold(struct schedule_queue *q, bool is_hold, struct span reason)
{
	q->is_held = is_hold;
	mem_free(q->hold_reason);
	q->hold_reason = NULL;
	if (is_hold)
		text_replace(&q->hold_reason, reason, REASON_MAX);
	queue_update(q);
}

void
holds_apply(struct schedule_queue *q)
{
	const struct hold_rule *last = NULL;

	LIST_FOR_EACH(link, &q->s->holds) {
		const struct hold_rule *rule =
		    LIST_ENTRY(link, struct hold_rule, link);
		struct schedule_selector sel = rule_selector(rule);
		if (queue_matches(q, &sel))
			last = rule;
	}
	bool is_hold = last && last->is_hold;
	if (is_hold || q->is_held)
		queue_hold(
		    q, is_hold, is_hold ? span_of(last->reason) : SPAN_EMPTY);
}

static size_t
hold_or_release(struct schedule *s, const struct schedule_selector *sel,
    bool is_hold, struct span reason)
{
	size_t count = 0;

	rule_add(s, sel, is_hold, reason);
	for (uint32_t i = 0; i < s->queue_count; i++) {
		struct schedule_queue *q = queue_at(s, i);
		if (!q || !queue_matches(q, sel))
			continue;
		queue_hold(q, is_hold, reason);
		count += queue_has_mail(q) || q->in_flight;
	}
	return count;
}

size_t
schedule_hold(
    struct schedule *s, const struct schedule_selector *sel, struct span reason)
{
	return hold_or_release(s, sel, true, reason);
}

size_t
schedule_release(
    struct schedule *s, const struct schedule_selector *sel, int64_t now_us)
{
	schedule_hear(s, now_us);
	return hold_or_release(s, sel, false, SPAN_EMPTY);
}

/* ---- retry ---- */

static void
queue_hurry(struct schedule_queue *q)
{
	q->pause_until_us = 0;
	queue_update(q);
	if (q->goal && queue_is_servable(q))
		goal_probe_now(q->goal);
}

static size_t
queue_force(struct schedule_queue *q)
{
	q->forced_total = 0;
	for (unsigned level = 0; level < SCHEDULE_LEVELS; level++) {
		q->forced[level] = q->lists[LIST_LEVEL + level].count;
		q->forced_total += q->forced[level];
	}
	queue_hurry(q);
	return queue_ready(q);
}

size_t
schedule_retry(
    struct schedule *s, const struct schedule_selector *sel, int64_t now_us)
{
	size_t count = 0;

	schedule_hear(s, now_us);
	for (uint32_t i = 0; i < s->queue_count; i++) {
		struct schedule_queue *q = queue_at(s, i);
		if (q && queue_matches(q, sel))
			count += queue_force(q);
	}
	return count;
}

/* ---- another look-up ---- */

void
schedule_look_up_again(struct schedule *s, const struct schedule_selector *sel)
{
	for (uint32_t i = 0; i < s->queue_count; i++) {
		struct schedule_queue *q = queue_at(s, i);
		if (!q || !q->goal || !queue_matches(q, sel))
			continue;
		q->valid_until_us = s->now_us;
		q->was_served = true; /* by the answer there was */
		queue_update(q);
	}
}

/* ---- one message ---- */

/* The next delivery of a message at or after slot i, or NONE. The slab is read
 * from end to end: an index by message would cost memory for all of them, and
 * this is asked by hand. */
static uint32_t
message_next(const struct schedule *s, uint64_t mno, uint32_t i)
{
	uint32_t end = s->slab.block_count * SLAB_BLOCK;

	for (; i < end; i++) {
		const struct delivery *d = slab_at(&s->slab, i);
		if (d->list != LIST_FREE && d->mno == mno)
			return i;
	}
	return NONE;
}

size_t
schedule_remove_message(
    struct schedule *s, uint64_t mno, schedule_delivery_fn *fn, void *arg)
{
	size_t count = 0;
	uint32_t i = 0;

	while ((i = message_next(s, mno, i)) != NONE) {
		struct schedule_queue *q =
		    s->queues[slab_at(&s->slab, i)->queue];
		struct schedule_delivery d = delivery_remove(q, i);
		if (q->is_reaped)
			s->reaped_count--;
		else
			queue_update(q);
		count++;
		if (fn)
			fn(arg, q, &d);
		i++;
	}
	return count;
}

size_t
schedule_retry_message(struct schedule *s, uint64_t mno, int64_t now_us)
{
	size_t count = 0;

	schedule_hear(s, now_us);
	for (uint32_t i = 0; (i = message_next(s, mno, i)) != NONE; i++) {
		const struct delivery *d = slab_at(&s->slab, i);
		struct schedule_queue *q = s->queues[d->queue];
		if (q->is_reaped)
			continue;
		if (d->list >= LIST_LEVEL) {
			wheel_remove(&s->wheel, &s->slab, i);
			delivery_list_move(q, i, LIST_DUE);
			delivery_arm(s, i);
		}
		queue_hurry(q);
		count++;
	}
	return count;
}
