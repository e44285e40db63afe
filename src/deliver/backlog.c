/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "deliver/internal.h"
#include "log/log.h"
#include "os/clock.h"

/*
 * Deliveries that came to the same end at once: an unreachable site's, a dead
 * domain's, expired ones, those an operator bounced. Each needs its message's
 * envelope and a record, which must not hold the loop up: so they stand in
 * line here and are worked off a few milliseconds at a time.
 */

#define SLICE_US (2 * US_PER_MS)
#define TRY_AGAIN_US (30 * US_PER_S)
#define REFUSED_PAUSE_US (2 * US_PER_S)
#define REAP_PAUSE_US (4 * US_PER_MS) /* two thirds are others' */

enum { SLICE_MIN = 16, REAP_SLICE = 64 };

struct cause *
cause_new(const struct result *result)
{
	struct cause *cause = MEM_NEW(struct cause);
	cause->references = 1;
	cause->result = *result;
	struct span text =
	    span_slice(result->reply.text, 0, sizeof cause->text - 1);
	if (!span_to_cstring(text, cause->text, sizeof cause->text))
		UNREACHABLE("the text was cut to fit");
	cause->result.reply.text = span_of(cause->text);
	return cause;
}

void
cause_unref(struct cause **cause)
{
	struct cause *c = *cause;
	*cause = NULL;
	if (c == NULL || --c->references > 0)
		return;
	mem_free(c->site);
	mem_free(c->peer_host);
	mem_free(c->peer_address);
	dispatch_order_unref(&c->order);
	mem_free(c);
}

struct backlog_entry *
backlog_entry_new(struct cause *cause, uint32_t tenant, uint32_t stream,
    const struct schedule_delivery *delivery)
{
	struct backlog_entry *e = MEM_NEW(struct backlog_entry);
	cause->references++;
	e->cause = cause;
	e->tenant = tenant;
	e->stream = stream;
	e->delivery = *delivery;
	list_init(&e->link);
	return e;
}

void
backlog_entry_free(struct backlog_entry *e)
{
	list_remove(&e->link);
	cause_unref(&e->cause);
	mem_free(e);
}

static void
append(struct dispatch *d, struct backlog_entry *e)
{
	list_append(&d->backlog, &e->link);
	d->backlog_count++;
	backlog_start(d);
}

void
backlog_start(struct dispatch *d)
{
	if (d->backlog_timer.loop == NULL)
		loop_timer_set(
		    d->loop, &d->backlog_timer, loop_now_us(d->loop));
}

void
backlog_add(struct dispatch *d, struct cause *cause,
    struct schedule_queue *queue, const struct schedule_delivery *delivery)
{
	struct schedule_key key = schedule_queue_key(queue);
	append(d, backlog_entry_new(cause, key.tenant, key.stream, delivery));
}

void
backlog_put_back(struct dispatch *d, struct list *entries)
{
	d->backlog_pause_until_us = loop_now_us(d->loop) + REFUSED_PAUSE_US;
	while (!list_is_empty(entries)) {
		struct list *link = entries->next;
		list_remove(link);
		append(d, LIST_ENTRY(link, struct backlog_entry, link));
	}
}

void
backlog_take(void *arg, struct schedule_queue *queue,
    const struct schedule_delivery *delivery)
{
	const struct backlog_sink *sink = arg;
	backlog_add(sink->dispatch, sink->cause, queue, delivery);
}

static void
entry_free(struct dispatch *d, struct backlog_entry *e)
{
	BUG_UNLESS(d->backlog_count > 0);
	d->backlog_count--;
	backlog_entry_free(e);
}

static int
record(struct dispatch *d, struct backlog_entry *e)
{
	struct cause *cause = e->cause;
	struct attempt a = {
		.tenant = e->tenant,
		.stream = e->stream,
		.delivery = e->delivery,
		.route = cause->route,
		.site = span_of(cause->site),
		.peer_host = span_of(cause->peer_host),
		.peer_address = span_of(cause->peer_address),
		.tls_policy = cause->tls_policy,
		.recounted = cause->recounted,
		.order = cause->order,
	};
	int err = spool_message_open(d->spool, e->delivery.mno, &a.message);
	if (err == ERR_NOT_FOUND || err == ERR_CORRUPT) {
		LOG(LOG_ERROR, "deliver", "a queued message is unreadable",
		    LOG_N("mno", e->delivery.mno),
		    LOG_C("reason", error_text(err)));
		return cause->result.kind == SPOOL_DEFERRED
			   ? 0
			   : outcome_expire_unreadable(d, &a);
	}
	TRY(err);
	int done = cause->warning
		       ? outcome_warn(d, &a, &cause->result)
		       : outcome_record(d, &a, &cause->result, &e->delivery);
	spool_message_unref(&a.message);
	return done;
}

/* False: could not be recorded; stays first in line. */
static bool
work_off_one(struct dispatch *d)
{
	struct backlog_entry *e =
	    LIST_ENTRY(d->backlog.next, struct backlog_entry, link);
	int err = record(d, e);
	if (err < 0) {
		LOG(LOG_ERROR, "deliver", "cannot record an outcome yet",
		    LOG_N("mno", e->delivery.mno),
		    LOG_C("reason", error_text(err)));
		return false;
	}
	entry_free(d, e);
	return true;
}

static int64_t
pause_us(const struct dispatch *d)
{
	int64_t left_us = d->backlog_pause_until_us - loop_now_us(d->loop);
	if (spool_space(d->spool) == SPOOL_FAILED)
		return TRY_AGAIN_US;
	return left_us > 0 ? left_us : 0;
}

/* What an operator gave up, so much at a time that other mail goes on. */
static bool
reap(struct dispatch *d)
{
	struct schedule_queue *queue;
	struct schedule_delivery delivery;
	void *cause;
	unsigned n = 0;
	while (n < REAP_SLICE && !d->draining &&
	       schedule_reap_next(d->schedule, &queue, &delivery, &cause)) {
		backlog_add(d, cause, queue, &delivery);
		n++;
	}
	if (n == 0 && !d->draining)
		works_end(d);
	return n > 0;
}

void
backlog_run(struct loop_timer *timer)
{
	struct dispatch *d = LIST_ENTRY(timer, struct dispatch, backlog_timer);
	int64_t end_us = clock_monotonic_us() + SLICE_US;
	int64_t delay_us = pause_us(d);
	bool reaps = delay_us == 0 && list_is_empty(&d->backlog) && reap(d);
	for (unsigned n = 0; delay_us == 0 && !list_is_empty(&d->backlog);
	     n++) {
		if (!work_off_one(d))
			delay_us = TRY_AGAIN_US;
		if (n >= SLICE_MIN && clock_monotonic_us() >= end_us)
			break;
	}
	if (reaps && delay_us == 0)
		delay_us = REAP_PAUSE_US;
	if (reaps || !list_is_empty(&d->backlog))
		loop_timer_set(d->loop, timer, loop_now_us(d->loop) + delay_us);
	dispatch_pump_soon(d);
}

void
backlog_flush(struct dispatch *d)
{
	while (
	    pause_us(d) == 0 && !list_is_empty(&d->backlog) && work_off_one(d))
		continue;
}

void
backlog_free(struct dispatch *d)
{
	loop_timer_clear(&d->backlog_timer);
	LIST_FOR_EACH_SAFE(link, &d->backlog) {
		struct backlog_entry *e =
		    LIST_ENTRY(link, struct backlog_entry, link);
		order_keep(e->cause->order);
		entry_free(d, e);
	}
}
