/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "deliver/internal.h"
#include "directory/suppression.h"

/*
 * Recipients that were suppressed since their message was accepted, or that
 * the config takes nevertheless: they end when their turn comes. Only a
 * tenant's own mail is meant: neither what the world sends to local mailboxes
 * nor our reports, which nobody else will tell their readers.
 */

static bool
is_concerned(const struct spool_envelope *m)
{
	return (m->flags & (SPOOL_INBOUND | SPOOL_REPORT_MAIL)) == 0;
}

static bool
is_suppressed(struct dispatch *d, const struct spool_envelope *m, uint32_t rcpt,
    enum suppression_cause *ret_cause)
{
	return suppression_find(d->directory, m->tenant, m->stream,
	    m->rcpts[rcpt].address, ret_cause);
}

static struct result
result_of(enum suppression_cause cause, struct arena *arena)
{
	const char *name = suppression_cause_name(cause);

	return (struct result){
		.kind = SPOOL_SUPPRESSED,
		.local = true,
		.step = "dispatch",
		.cause = name,
		.reply = { .enhanced = { 7, 1, 5 },
		    .text = arena_printf(arena, "suppressed for %s", name) },
	};
}

void
suppressed_settle(struct dispatch *d, struct schedule_queue *queue,
    struct attempt *a, struct schedule_delivery *rest)
{
	const struct spool_envelope *m = spool_message_envelope(a->message);
	enum suppression_cause cause;
	uint32_t count = 0;

	if (!is_concerned(m) || !is_suppressed(d, m, rest->rcpt_first, &cause))
		return;
	struct arena *arena = arena_new();
	struct result *results =
	    ARENA_ARRAY(arena, struct result, rest->rcpt_count);
	while (count < rest->rcpt_count &&
	       is_suppressed(d, m, rest->rcpt_first + count, &cause))
		results[count++] = result_of(cause, arena);
	a->delivery = *rest;
	a->delivery.rcpt_count = count;
	rest->rcpt_first += count;
	rest->rcpt_count -= count;
	outcome_settle(d, queue, a, results);
	arena_free(&arena);
}

uint32_t
suppressed_before(struct dispatch *d, const struct spool_envelope *m,
    uint32_t first, uint32_t count)
{
	enum suppression_cause cause;
	uint32_t n = 1; /* the first one was looked at */

	if (!is_concerned(m))
		return count;
	while (n < count && !is_suppressed(d, m, first + n, &cause))
		n++;
	return n < count ? n : count;
}
