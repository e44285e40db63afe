/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The standing orders: what remains of all holds and releases so far, in an
 * order that gives the same result when told anew. A release that takes back
 * holds whole removes them; one that makes an exception from a wider hold
 * stands beside it, until a hold covers it.
 */

#include "base/mem.h"
#include "spool/internal.h"

static bool
covers_id(uint32_t wide, uint32_t narrow)
{
	return wide == 0 || wide == narrow;
}

/* Every queue that b matches is matched by a. */
static bool
covers(const struct spool_order *a, const struct spool_order *b)
{
	return covers_id(a->tenant, b->tenant) &&
	       covers_id(a->stream, b->stream) &&
	       (a->domain.len == 0 || span_eq_nocase(a->domain, b->domain));
}

static bool
meets_id(uint32_t a, uint32_t b)
{
	return a == 0 || b == 0 || a == b;
}

/* Some queue may be matched by both. */
static bool
meets(const struct spool_order *a, const struct spool_order *b)
{
	return meets_id(a->tenant, b->tenant) &&
	       meets_id(a->stream, b->stream) &&
	       (a->domain.len == 0 || b->domain.len == 0 ||
		   span_eq_nocase(a->domain, b->domain));
}

static void
remove_first(struct standing **at)
{
	struct standing *gone = *at;

	*at = gone->next;
	mem_free(gone);
}

/* One allocation, strings behind the structure. */
static struct standing *
standing_new(const struct spool_order *order)
{
	size_t domain = order->domain.len, reason = order->reason.len;
	struct standing *s = mem_zalloc(sizeof *s + domain + reason + 2);
	char *text = (char *)(s + 1);

	s->order = *order;
	(void)span_to_cstring(order->domain, text, domain + 1);
	s->order.domain = span_from(text, domain);
	text += domain + 1;
	(void)span_to_cstring(order->reason, text, reason + 1);
	s->order.reason = span_from(text, reason);
	return s;
}

void
standing_apply(struct standing **list, const struct spool_order *order)
{
	struct standing **at = list;
	bool is_hold = order->kind == SPOOL_ORDER_HOLD;
	bool is_exception = false;

	while (*at) {
		const struct spool_order *old = &(*at)->order;
		bool is_gone = covers(order, old) &&
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
standing_free(struct standing **list)
{
	while (*list)
		remove_first(list);
}
