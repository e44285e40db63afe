/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "deliver/internal.h"
#include "log/log.h"
#include "os/clock.h"

#include <errno.h>

/*
 * Deliveries that end on this machine: into a Maildir, whose files a thread
 * writes, with whoever reads reports on our mail, or nowhere. To the scheduler
 * each is a connection that is usable at once and gone when there is no more
 * mail.
 */

enum { LOCAL_DISCARDS_PER_TURN = 64 };

struct local {
	struct list link; /* dispatch.locals */
	struct schedule_connection counted;
	struct dispatch *dispatch;
	struct site *site; /* NULL when told to stop */
	struct plan *plan; /* counted */
	struct loop_timer timer;

	/* one delivery under way */
	struct schedule_queue *queue; /* NULL: none */
	struct schedule_delivery rest; /* the job's recipients stand first */
	struct spool_message *message;
	struct maildir_job job;
	struct arena *arena; /* of the job */
	int64_t started_us;
	bool orphaned; /* only the job's `done`, already posted, is to come */
};

static void
leave(struct local *l)
{
	struct dispatch *d = l->dispatch;
	loop_timer_clear(&l->timer);
	if (l->queue != NULL)
		schedule_return(
		    d->schedule, l->queue, &l->rest, loop_now_us(d->loop));
	spool_message_unref(&l->message);
	l->site = NULL;
	schedule_disconnected(
	    d->schedule, &l->counted, false, loop_now_us(d->loop));
	plan_unref(&l->plan);
	arena_free(&l->arena);
	list_remove(&l->link);
	dispatch_pump_soon(d);
}

static void
local_free(struct local *l)
{
	leave(l);
	mem_free(l);
}

/* ---- results ---- */

static struct result
result_of_code(const struct local *l, int code)
{
	bool maildir = l->job.returned == NULL;
	struct result r = { .local = true,
		.step = maildir ? "maildir" : "returns" };
	if (code == 0) {
		r.kind = SPOOL_DELIVERED;
		r.reply = maildir
			      ? REPLY(250, 2, 0, 0, "written to the Maildir")
			      : REPLY(250, 2, 0, 0, "read");
		return r;
	}
	r.kind = SPOOL_DEFERRED;
	r.reply.enhanced = (struct enhanced_code){ 3, 0, 4 };
	if (code == -ENOSPC)
		r.reply.enhanced = (struct enhanced_code){ 3, 1, 4 };
	else if (code == -EDQUOT)
		r.reply.enhanced = (struct enhanced_code){ 2, 2, 4 };
	r.reply.text = arena_printf(l->arena, "cannot %s: %s",
	    maildir ? "write to the Maildir" : "record what it reports",
	    error_text(code));
	return r;
}

static void
settle(struct local *l, struct result *results, uint32_t count)
{
	struct dispatch *d = l->dispatch;
	bool maildir = l->plan->route->deliver == CONFIG_DELIVER_MAILDIR;
	struct attempt a = {
		.message = l->message,
		.delivery = l->rest,
		.counts = true,
		.is_final = maildir,
		.route = route_kind(l->plan->route),
		.site = schedule_site_name(l->counted.site),
		.took_us = clock_monotonic_us() - l->started_us,
	};
	a.delivery.rcpt_count = count;
	l->rest.rcpt_first += count;
	l->rest.rcpt_count -= count;
	dispatch_count(&d->counters.transactions, 1);
	outcome_settle(d, l->queue, &a, results);
	if (l->rest.rcpt_count > 0)
		return;
	l->queue = NULL;
	spool_message_unref(&l->message);
}

/* ---- discard ---- */

static void
discard(struct local *l)
{
	uint32_t count =
	    suppressed_before(l->dispatch, spool_message_envelope(l->message),
		l->rest.rcpt_first, l->rest.rcpt_count);
	arena_reset(l->arena);
	struct result *results = ARENA_ARRAY(l->arena, struct result, count);
	for (uint32_t i = 0; i < count; i++)
		results[i] = (struct result){
			.kind = SPOOL_DELIVERED,
			.local = true,
			.step = "discard",
			.reply = REPLY(250, 2, 0, 0, "discarded"),
		};
	settle(l, results, count);
}

/* ---- Maildir ---- */

static void work(struct local *l);

static void
settle_job(struct local *l)
{
	uint32_t count = l->job.rcpt_count;
	struct result *results = ARENA_ARRAY(l->arena, struct result, count);
	for (uint32_t i = 0; i < count; i++)
		results[i] = result_of_code(l, l->job.codes[i]);
	l->job.codes = NULL;
	settle(l, results, count);
}

static void
on_job_done(struct loop_item *item)
{
	struct local *l = LIST_ENTRY(item, struct local, job.done);
	if (l->orphaned) {
		mem_free(l);
		return;
	}
	settle_job(l);
	work(l);
}

static void
fail_job(struct local *l, int err)
{
	LOG(LOG_ERROR, "deliver", "cannot start a thread for local mail",
	    LOG_C("reason", error_text(err)));
	uint32_t count = l->rest.rcpt_count;
	struct result *results = ARENA_ARRAY(l->arena, struct result, count);
	for (uint32_t i = 0; i < count; i++)
		results[i] = result_of_code(l, err);
	settle(l, results, count);
}

/* False: nothing is under way. */
static bool
submit_job(struct local *l)
{
	struct dispatch *d = l->dispatch;
	uint32_t most = d->config->delivery.recipients_per_message;
	arena_reset(l->arena);
	bool returns = l->plan->route->deliver == CONFIG_DELIVER_RETURNS;
	struct maildir **thread = returns ? &d->returns : &d->maildir;
	if (*thread == NULL) {
		int err = maildir_start(d->loop, thread);
		if (err < 0) {
			fail_job(l, err);
			return false;
		}
	}
	uint32_t count =
	    suppressed_before(d, spool_message_envelope(l->message),
		l->rest.rcpt_first, l->rest.rcpt_count);
	if (most > 0 && count > most)
		count = most;
	l->job = (struct maildir_job){
		.returned = returns ? d->returned : NULL,
		.done.run = on_job_done,
		.message = l->message,
		.rcpt_first = l->rest.rcpt_first,
		.rcpt_count = count,
		.directory = l->plan->route->to_path,
		.hostname = l->plan->config->hostname,
		.codes = ARENA_ARRAY(l->arena, int, count),
	};
	maildir_submit(*thread, &l->job);
	return true;
}

/* ---- turning ---- */

static bool
take(struct local *l)
{
	struct schedule_queue *queue;
	struct schedule_delivery delivery;
	while (site_take(l->site, &l->counted, &queue, &delivery)) {
		if (!transaction_open_message(
			l->dispatch, queue, &delivery, &l->message))
			continue;
		l->queue = queue;
		l->rest = delivery;
		return true;
	}
	return false;
}

static void
skip_suppressed(struct local *l)
{
	struct attempt a = {
		.message = l->message,
		.counts = true,
		.route = route_kind(l->plan->route),
		.site = schedule_site_name(l->counted.site),
	};
	suppressed_settle(l->dispatch, l->queue, &a, &l->rest);
	if (l->rest.rcpt_count > 0)
		return;
	l->queue = NULL;
	spool_message_unref(&l->message);
}

/* False: there is nothing to be delivered. */
static bool
has_work(struct local *l)
{
	for (;;) {
		if (l->queue == NULL && !take(l))
			return false;
		skip_suppressed(l);
		if (l->queue != NULL)
			return true;
	}
}

static void
work(struct local *l)
{
	struct dispatch *d = l->dispatch;
	bool at_once = l->plan->route->deliver == CONFIG_DELIVER_DISCARD;
	for (unsigned i = 0; i < LOCAL_DISCARDS_PER_TURN; i++) {
		if (!dispatch_may_take(d) || !has_work(l)) {
			local_free(l);
			return;
		}
		l->started_us = clock_monotonic_us();
		if (at_once)
			discard(l);
		else if (submit_job(l))
			return;
	}
	loop_timer_set(d->loop, &l->timer, loop_now_us(d->loop));
}

static void
on_timer(struct loop_timer *timer)
{
	work(LIST_ENTRY(timer, struct local, timer));
}

void
local_open(struct site *site, struct schedule_site *way)
{
	struct dispatch *d = site->dispatch;
	struct local *l = MEM_NEW(struct local);
	l->dispatch = d;
	l->site = site;
	l->plan = plan_ref(site->plan);
	l->arena = arena_new();
	l->timer.on_time = on_timer;
	list_init(&l->link);
	list_append(&d->locals, &l->link);
	schedule_connecting(d->schedule, way, &l->counted);
	schedule_connected(d->schedule, &l->counted, loop_now_us(d->loop));
	/* Not at once: the scheduler is being asked for wants. */
	loop_timer_set(d->loop, &l->timer, loop_now_us(d->loop));
}

bool
local_is_busy(const struct dispatch *d)
{
	return !list_is_empty(&d->locals);
}

/* After the thread has stopped: nobody works on a job any more. One that is
 * finished is recorded; that it is posted cannot be taken back. */
void
local_free_all(struct dispatch *d)
{
	LIST_FOR_EACH_SAFE(link, &d->locals) {
		struct local *l = LIST_ENTRY(link, struct local, link);
		l->orphaned = l->job.codes != NULL && l->job.finished;
		if (!l->orphaned) {
			local_free(l);
			continue;
		}
		settle_job(l);
		leave(l);
	}
}
