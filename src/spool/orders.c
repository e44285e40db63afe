/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The standing orders: what remains of all holds and releases so far, in an
 * order that gives the same result when told anew. A release that takes back
 * holds whole removes them; one that makes an exception from a wider hold
 * stands beside it, until a hold covers it. Orders on messages stand in the
 * order given until they are withdrawn.
 */

#include "base/mem.h"
#include "spool/internal.h"

static bool
covers_id(uint32_t wide, uint32_t narrow)
{
	return wide == 0 || wide == narrow;
}

static bool
covers_text(struct span wide, struct span narrow)
{
	return wide.len == 0 || span_eq_nocase(wide, narrow);
}

/* Every queue that b matches is matched by a. */
static bool
covers(const struct spool_order *a, const struct spool_order *b)
{
	return covers_id(a->tenant, b->tenant) &&
	       covers_id(a->stream, b->stream) &&
	       covers_id(a->classes, b->classes) &&
	       covers_text(a->domain, b->domain) &&
	       covers_text(a->site, b->site);
}

static bool
meets_id(uint32_t a, uint32_t b)
{
	return a == 0 || b == 0 || a == b;
}

static bool
meets_domain(struct span a, struct span b)
{
	return a.len == 0 || b.len == 0 || span_starts(a, SPAN("*")) ||
	       span_starts(b, SPAN("*")) || span_eq_nocase(a, b);
}

/* Some queue may be matched by both. */
static bool
meets(const struct spool_order *a, const struct spool_order *b)
{
	return meets_id(a->tenant, b->tenant) &&
	       meets_id(a->stream, b->stream) &&
	       meets_domain(a->domain, b->domain) &&
	       (a->site.len == 0 || b->site.len == 0 ||
		   span_eq_nocase(a->site, b->site));
}

static bool
is_work(const struct spool_order *o)
{
	return o->kind >= SPOOL_ORDER_BOUNCE;
}

/* What a new segment repeats is no second order. */
static bool
is_repeated(const struct spool_order *a, const struct spool_order *b)
{
	return a->kind == b->kind && a->cut_mno == b->cut_mno &&
	       a->to_stream == b->to_stream && covers(a, b) && covers(b, a);
}

static void
remove_first(struct standing **at)
{
	struct standing *gone = *at;

	*at = gone->next;
	mem_free(gone);
}

static char *
keep(struct span *text, char *at)
{
	size_t len = text->len;

	(void)span_to_cstring(*text, at, len + 1);
	*text = span_from(at, len);
	return at + len + 1;
}

/* One allocation, strings behind the structure. */
static struct standing *
standing_new(const struct spool_order *order)
{
	struct standing *s =
	    mem_zalloc(sizeof *s + order->domain.len + order->reason.len +
		       order->site.len + 3);
	char *text = (char *)(s + 1);

	s->order = *order;
	text = keep(&s->order.domain, text);
	text = keep(&s->order.reason, text);
	(void)keep(&s->order.site, text);
	return s;
}

static void
apply_work(struct standing **at, const struct spool_order *order)
{
	while (*at) {
		const struct spool_order *old = &(*at)->order;

		if (order->kind == SPOOL_ORDER_END && is_work(old) &&
		    old->cut_mno == order->cut_mno) {
			remove_first(at);
			continue;
		}
		if (is_repeated(old, order))
			return;
		at = &(*at)->next;
	}
	if (order->kind != SPOOL_ORDER_END)
		*at = standing_new(order);
}

static void
apply_hold(struct standing **at, const struct spool_order *order)
{
	bool is_hold = order->kind == SPOOL_ORDER_HOLD;
	bool is_exception = false;

	while (*at) {
		const struct spool_order *old = &(*at)->order;
		bool is_gone = !is_work(old) && covers(order, old) &&
			       (!is_hold || old->kind == SPOOL_ORDER_RELEASE ||
				   covers(old, order));

		if (is_gone) {
			remove_first(at);
			continue;
		}
		is_exception |=
		    old->kind == SPOOL_ORDER_HOLD && meets(old, order);
		at = &(*at)->next;
	}
	if (is_hold || is_exception)
		*at = standing_new(order);
}

void
standing_apply(struct standing **list, const struct spool_order *order)
{
	if (is_work(order))
		apply_work(list, order);
	else
		apply_hold(list, order);
}

size_t
standing_count(const struct standing *list)
{
	size_t count = 0;

	for (; list; list = list->next)
		count++;
	return count;
}

void
standing_free(struct standing **list)
{
	while (*list)
		remove_first(list);
}
