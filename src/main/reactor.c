/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/time.h"
#include "log/log.h"
#include "main/internal.h"
#include "os/clock.h"

#include <stdio.h>

#define TICK_US (US_PER_S / 4)
#define LAST_TURNS 3

/* The last one wakes the chief. */
static void
count_off(struct reactor *r)
{
	if (r->drained)
		return;
	r->drained = true;
	if (atomic_fetch_sub(&r->engine->reactors_left, 1) == 1)
		loop_stop(r->engine->loop);
}

/* The loop goes on after the last session: a command may wait for what it asked
 * this thread. The chief stops it when nobody can ask any more. */
static void
on_tick(struct loop_timer *timer)
{
	struct reactor *r = LIST_ENTRY(timer, struct reactor, tick);
	int64_t now_us = loop_now_us(r->loop);

	if (r->drain_until_us != 0) {
		bool busy = receiver_count(r->receiver) > 0 ||
			    dispatch_busy(r->dispatch);

		if (!busy || now_us >= r->drain_until_us)
			count_off(r);
	}
	loop_timer_set(r->loop, timer,
	    now_us + (r->drain_until_us != 0 ? TICK_US / 10 : TICK_US));
}

int
reactor_init(struct engine *e, uint32_t number, struct failure *f)
{
	struct reactor *r = &e->reactors[number];
	size_t listeners = e->config->listener_count;
	int result;

	r->engine = e;
	r->number = number;
	/* A reload does not change it. */
	e->dispatch_share = dispatch_share(e->config, e->reactor_count);
	result = loop_new(&r->loop);
	if (result < 0)
		return failure_set(f, result, "cannot make an event loop: %s",
		    error_text(result));
	const struct dispatch_options dispatch = {
		.loop = r->loop,
		.config = e->config,
		.spool = e->spool,
		.directory = e->directory,
		.intake = e->intake,
		.judge = e->judge,
		.suppressor = e->suppressor,
		.return_key = &e->return_key,
		.returned = e->returned,
		.signing = e->signing,
		.sts = e->sts,
		.results = tls_reports_results(e->tls_reports),
		.ledger = e->ledger,
		.share = e->dispatch_share,
		.number = number,
		.connections_cap = e->deliveries_max,
		.awaits_validation = validation_is_needed(e->config),
	};
	TRY(dispatch_new(&dispatch, &r->dispatch, f));
	const struct receiver_options receiver = {
		.loop = r->loop,
		.config = e->config,
		.tls = e->tls,
		.intake = e->intake,
		.directory = e->directory,
		.shared = e->receive,
		.listen_fds = &e->listen_fds[number * listeners],
	};
	result = receiver_new(&receiver, &r->receiver);
	if (result < 0)
		return failure_set(f, result, "cannot start a receiver: %s",
		    error_text(result));
	for (size_t i = 0; i < listeners; i++) {
		if (e->config->listeners[i].service != CONFIG_HTTP)
			e->listen_fds[number * listeners + i] = -1;
	}
	r->tick.on_time = on_tick;
	loop_timer_set(r->loop, &r->tick, clock_monotonic_us());
	return 0;
}

static void *
run(void *arg)
{
	struct reactor *r = arg;
	char name[16];

	/* Confined, a thread can name itself only. */
	snprintf(name, sizeof(name), "reactor-%u", r->number % 1000);
	(void)pthread_setname_np(pthread_self(), name);
	int result = loop_run(r->loop);
	if (result < 0)
		LOG(LOG_ERROR, "main", "a reactor stopped",
		    LOG_N("reactor", r->number),
		    LOG_C("error", error_text(result)));
	count_off(r);
	return NULL;
}

int
reactor_start(struct reactor *r)
{
	int result;

	atomic_fetch_add(&r->engine->reactors_left, 1);
	result = -pthread_create(&r->thread, NULL, run, r);
	if (result < 0)
		return result;
	r->started = true;
	return 0;
}

static void
start_drain(struct loop_item *item)
{
	struct reactor *r = LIST_ENTRY(item, struct reactor, drain);

	r->drain_until_us =
	    loop_now_us(r->loop) + r->engine->config->limits.shutdown_us;
	receiver_drain(r->receiver);
	dispatch_drain(r->dispatch, r->drain_until_us);
	loop_timer_set(r->loop, &r->tick, loop_now_us(r->loop));
}

void
reactor_drain(struct reactor *r)
{
	r->drain.run = start_drain;
	loop_post(r->loop, &r->drain);
}

void
reactor_join(struct reactor *r)
{
	if (r->started)
		pthread_join(r->thread, NULL);
	r->started = false;
}

void
reactor_done(struct reactor *r)
{
	/* What others posted last still finds its session; what that leads to
	 * is refused by the spool and told once more. */
	for (int i = 0; r->loop != NULL && i < LAST_TURNS; i++)
		IGNORE(loop_turn(r->loop, 0));
	receiver_free(&r->receiver);
	dispatch_free(&r->dispatch);
	loop_free(&r->loop);
}

/* ---- work from other threads ------------------------------------------- */

struct posted_delivery {
	struct loop_item item;
	struct dispatch *dispatch;
	struct dispatch_delivery delivery;
	char domain[];
};

static void
add_delivery(struct loop_item *item)
{
	struct posted_delivery *p =
	    LIST_ENTRY(item, struct posted_delivery, item);

	dispatch_add(p->dispatch, &p->delivery);
	mem_free(p);
}

void
reactor_post_delivery(struct engine *e, const struct dispatch_delivery *d)
{
	struct reactor *r =
	    &e->reactors[dispatch_home(d->domain, e->dispatch_share)];
	struct posted_delivery *p = mem_alloc(sizeof(*p) + d->domain.len + 1);

	p->item.run = add_delivery;
	p->dispatch = r->dispatch;
	p->delivery = *d;
	BUG_UNLESS(span_to_cstring(d->domain, p->domain, d->domain.len + 1));
	p->delivery.domain = span_from(p->domain, d->domain.len);
	loop_post(r->loop, &p->item);
}

static void
on_recovered(struct loop_item *item)
{
	struct reactor *r = LIST_ENTRY(item, struct reactor, recovered);

	dispatch_recovered(r->dispatch);
}

void
reactor_post_recovered(struct reactor *r)
{
	r->recovered.run = on_recovered;
	loop_post(r->loop, &r->recovered);
}

struct call {
	struct loop_item item;
	void (*fn)(void *arg, struct dispatch *dispatch);
	void *arg;
	struct dispatch *dispatch;
	pthread_mutex_t lock;
	pthread_cond_t finished;
	bool done;
};

static void
run_call(struct loop_item *item)
{
	struct call *c = LIST_ENTRY(item, struct call, item);

	c->fn(c->arg, c->dispatch);
	pthread_mutex_lock(&c->lock);
	c->done = true;
	pthread_cond_signal(&c->finished);
	pthread_mutex_unlock(&c->lock);
}

void
reactor_each_dispatch(
    void *engine, void (*fn)(void *arg, struct dispatch *dispatch), void *arg)
{
	struct engine *e = engine;
	struct call c = { .fn = fn, .arg = arg };

	pthread_mutex_init(&c.lock, NULL);
	pthread_cond_init(&c.finished, NULL);
	for (uint32_t i = 0; i < e->reactor_count; i++) {
		c.item.run = run_call;
		c.dispatch = e->reactors[i].dispatch;
		c.done = false;
		loop_post(e->reactors[i].loop, &c.item);
		pthread_mutex_lock(&c.lock);
		while (!c.done)
			pthread_cond_wait(&c.finished, &c.lock);
		pthread_mutex_unlock(&c.lock);
	}
	pthread_cond_destroy(&c.finished);
	pthread_mutex_destroy(&c.lock);
}
