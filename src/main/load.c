/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a former life left is loaded by a thread of its own, while the reactors
 * already take and deliver mail. It hands deliveries over in batches; of these
 * only so many are on their way at a time, so that ten million messages do not
 * stand in memory twice and new mail gets its turn between two batches.
 */

#include "base/bug.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/time.h"
#include "log/log.h"
#include "main/internal.h"
#include "os/clock.h"

#include <errno.h>

#define BATCH_MAX 128
#define BATCHES_MAX 64 /* posted and not worked off */

struct batch {
	struct loop_item item;
	struct load *load;
	struct dispatch *dispatch;
	size_t count;
	struct dispatch_delivery deliveries[BATCH_MAX];
	size_t domains_at[BATCH_MAX]; /* in domains */
	struct buf domains;
};

struct load {
	struct engine *engine;
	struct config *config; /* of the start: a reload may replace it */
	pthread_t thread;
	int64_t started_us;
	uint64_t deliveries;
	struct batch **open; /* per reactor; NULL: none */
	pthread_mutex_t lock;
	pthread_cond_t worked_off;
	unsigned on_their_way;
	bool is_cancelled;
	int result;
	struct loop_item ended; /* to the chief */
	bool is_joined; /* the chief's */
};

/* ---- batches ----------------------------------------------------------- */

/* On a reactor's thread. */
static void
work_off(struct loop_item *item)
{
	struct batch *b = LIST_ENTRY(item, struct batch, item);
	struct load *load = b->load;

	for (size_t i = 0; i < b->count; i++) {
		struct dispatch_delivery *d = &b->deliveries[i];

		d->domain = span_slice(
		    buf_span(&b->domains), b->domains_at[i], d->domain.len);
		dispatch_add(b->dispatch, d);
	}
	buf_done(&b->domains);
	mem_free(b);
	(void)pthread_mutex_lock(&load->lock);
	load->on_their_way--;
	(void)pthread_cond_signal(&load->worked_off);
	(void)pthread_mutex_unlock(&load->lock);
}

static void
post(struct load *load, uint32_t number)
{
	struct batch *b = load->open[number];

	load->open[number] = NULL;
	if (!b)
		return;
	(void)pthread_mutex_lock(&load->lock);
	while (load->on_their_way >= BATCHES_MAX && !load->is_cancelled)
		(void)pthread_cond_wait(&load->worked_off, &load->lock);
	load->on_their_way++;
	(void)pthread_mutex_unlock(&load->lock);
	b->item.run = work_off;
	loop_post(load->engine->reactors[number].loop, &b->item);
}

static void
add(struct load *load, const struct dispatch_delivery *d)
{
	struct engine *e = load->engine;
	uint32_t number = dispatch_home(d->domain, e->dispatch_share);
	struct batch *b = load->open[number];

	if (!b) {
		b = load->open[number] = MEM_NEW(struct batch);
		b->load = load;
		b->dispatch = e->reactors[number].dispatch;
	}
	b->deliveries[b->count] = *d;
	b->domains_at[b->count] = buf_size(&b->domains);
	buf_append(&b->domains, d->domain);
	load->deliveries++;
	if (++b->count == BATCH_MAX)
		post(load, number);
}

/* ---- messages ---------------------------------------------------------- */

/* Wall times in the spool are from clocks that may have been wrong: nothing
 * waits longer than the schedule could have told it to … */
static int64_t
plausible_due(const struct config *config, int64_t due_us, int64_t now_us)
{
	int64_t longest_us = 0;

	for (size_t i = 0; i < config->retry.schedule_count; i++) {
		if (config->retry.schedule_us[i] > longest_us)
			longest_us = config->retry.schedule_us[i];
	}
	longest_us += longest_us / 100 * config->retry.jitter_percent;
	return due_us - now_us > longest_us ? now_us + longest_us : due_us;
}

/* … or lives longer from now on than it was given when it came. */
static int64_t
plausible_expire(const struct spool_live *m, int64_t now_us)
{
	return m->accepted_us > now_us
		   ? now_us + (m->expire_us - m->accepted_us)
		   : m->expire_us;
}

static void
on_live_message(void *arg, const struct spool_live *m)
{
	struct load *load = arg;
	int64_t now_us = clock_wall_us();

	for (uint32_t i = 0; !m && i < load->engine->reactor_count; i++)
		post(load, i);
	if (!m)
		return;
	for (uint32_t i = 0; i < m->run_count; i++) {
		const struct spool_live_run *run = &m->runs[i];
		const struct dispatch_delivery d = {
			.mno = m->mno,
			.tenant = m->tenant,
			.stream = m->stream,
			.class = m->class,
			.domain = run->domain,
			.rcpt_first = run->rcpt_first,
			.rcpt_count = run->rcpt_count,
			.attempts = run->attempts,
			.wants_delay_warning =
			    !run->warned &&
			    intake_live_sender_wants(m, run, SMTP_NOTIFY_DELAY),
			.accepted_us = m->accepted_us,
			.due_us =
			    plausible_due(load->config, run->due_us, now_us),
			.expire_us = plausible_expire(m, now_us),
		};

		add(load, &d);
	}
}

/* ---- the thread -------------------------------------------------------- */

static void
finish(struct load *load)
{
	struct engine *e = load->engine;

	dispatch_order_unref(&e->replayed);
	for (uint32_t i = 0; i < e->reactor_count; i++)
		reactor_post_recovered(&e->reactors[i]);
	LOG(LOG_INFO, "main", "the queue is loaded",
	    LOG_N("deliveries", load->deliveries),
	    LOG_N("milliseconds",
		(clock_monotonic_us() - load->started_us) / 1000));
}

static void *
run(void *arg)
{
	struct load *load = arg;
	struct engine *e = load->engine;

	(void)pthread_setname_np(pthread_self(), "load");
	int result = spool_recover(e->spool, on_live_message, load);
	if (result == 0)
		finish(load);
	if (result < 0 && result != -ECANCELED) {
		load->result = result;
		loop_stop(e->loop);
	}
	loop_post(e->loop, &load->ended);
	return NULL;
}

/* By the chief: a thread that is done must not stay until the end. */
static void
join(struct load *load)
{
	if (!load->is_joined)
		(void)pthread_join(load->thread, NULL);
	load->is_joined = true;
}

static void
on_ended(struct loop_item *item)
{
	join(LIST_ENTRY(item, struct load, ended));
}

int
load_start(struct engine *e)
{
	struct load *load = MEM_NEW(struct load);

	load->engine = e;
	load->ended.run = on_ended;
	load->config = config_ref(e->config);
	load->started_us = clock_monotonic_us();
	load->open = mem_zalloc(e->reactor_count * sizeof(struct batch *));
	(void)pthread_mutex_init(&load->lock, NULL);
	(void)pthread_cond_init(&load->worked_off, NULL);
	int result = -pthread_create(&load->thread, NULL, run, load);
	if (result < 0) {
		config_unref(&load->config);
		mem_free(load->open);
		mem_free(load);
		return result;
	}
	e->load = load;
	return 0;
}

void
load_cancel(struct engine *e)
{
	struct load *load = e->load;

	if (!load)
		return;
	spool_recover_cancel(e->spool);
	(void)pthread_mutex_lock(&load->lock);
	load->is_cancelled = true;
	(void)pthread_cond_signal(&load->worked_off);
	(void)pthread_mutex_unlock(&load->lock);
}

void
load_stop(struct engine *e)
{
	load_cancel(e);
	if (e->load)
		join(e->load);
}

int
load_result(const struct engine *e, struct failure *f)
{
	int result = e->load->result;

	if (result == 0)
		return 0;
	return failure_set(f, result,
	    "cannot read the spool in %s/spool: %s; look at it with "
	    "`posthouse queue verify`",
	    e->data_dir, error_text(result));
}

void
load_free(struct engine *e)
{
	struct load *load = e->load;

	if (!load)
		return;
	(void)pthread_mutex_destroy(&load->lock);
	(void)pthread_cond_destroy(&load->worked_off);
	for (uint32_t i = 0; i < e->reactor_count; i++) {
		if (load->open[i])
			buf_done(&load->open[i]->domains);
		mem_free(load->open[i]);
	}
	config_unref(&load->config);
	mem_free(load->open);
	mem_free(load);
	e->load = NULL;
}
