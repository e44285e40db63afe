/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "base/time.h"
#include "log/log.h"
#include "os/socket.h"
#include "receive/internal.h"
#include "receive/receive.h"

#include <errno.h>
#include <unistd.h>

/* Connections taken per turn and listener, so that a flood of them does not
 * starve the sessions. */
#define ACCEPT_BURST 64
#define ACCEPT_PAUSE_US (100 * US_PER_MS)
/* The trouble of accepting is told at most so often. */
#define ACCEPT_QUIET_US (10 * US_PER_S)

/* True at most so often. */
static bool
may_tell(struct listener *l)
{
	int64_t now_us = loop_now_us(l->receiver->loop);

	if (now_us < l->quiet_until_us)
		return false;
	l->quiet_until_us = now_us + ACCEPT_QUIET_US;
	return true;
}

static void
take_connection(struct listener *l, int fd, const struct netaddr *peer)
{
	struct receiver *r = l->receiver;
	enum admission admission = shared_admit(r->shared, peer, r->config);

	atomic_fetch_add(&shared_counters(r->shared)->connections, 1);
	if (admission == ADMIT_FULL && may_tell(l))
		LOG(LOG_WARNING, "receive",
		    "all sessions that there may be are open: others are "
		    "refused (limits.connections, LimitNOFILE)",
		    LOG_N("sessions",
			(int64_t)atomic_load(
			    &shared_counters(r->shared)->sessions_open)));
	session_start(r, l, fd, peer, admission);
}

/* Out of descriptors or memory: those who wait stay in the backlog. */
static void
pause_listener(struct listener *l, int error)
{
	struct loop *loop = l->receiver->loop;

	loop_watch_events(&l->watch, 0);
	loop_timer_set(loop, &l->pause, loop_now_us(loop) + ACCEPT_PAUSE_US);
	if (!may_tell(l))
		return;
	LOG(LOG_ERROR, "receive",
	    "cannot accept connections: raise the limit of open files "
	    "(LimitNOFILE)",
	    LOG_C("error", error_text(error)));
}

static void
on_connections(struct loop_watch *watch, unsigned events)
{
	struct listener *l = LIST_ENTRY(watch, struct listener, watch);
	struct netaddr peer;

	(void)events;
	for (int i = 0; i < ACCEPT_BURST; i++) {
		int fd = socket_accept(watch->fd, &peer);

		if (fd >= 0) {
			take_connection(l, fd, &peer);
			continue;
		}
		if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM ||
		    fd == -ENOBUFS) {
			pause_listener(l, fd);
			return;
		}
		if (fd == -EAGAIN)
			return;
	}
}

static void
on_pause_over(struct loop_timer *timer)
{
	struct listener *l = LIST_ENTRY(timer, struct listener, pause);

	loop_watch_events(&l->watch, LOOP_READ);
}

static int
open_listener(struct receiver *r, size_t number, int fd)
{
	struct listener *l = &r->listeners[r->listener_count];

	l->receiver = r;
	l->number = number;
	l->watch.on_ready = on_connections;
	l->pause.on_time = on_pause_over;
	r->listener_count++;
	return loop_watch_fd(r->loop, &l->watch, fd, LOOP_READ);
}

/* Their descriptors stay the caller's. */
static void
leave_listeners(struct receiver *r)
{
	for (size_t i = 0; i < r->listener_count; i++)
		loop_unwatch(&r->listeners[i].watch);
	r->listener_count = 0;
}

int
receiver_new(
    const struct receiver_options *options, struct receiver **ret_receiver)
{
	struct receiver *r = MEM_NEW(struct receiver);
	size_t count = options->config->listener_count;
	int result = 0;

	r->loop = options->loop;
	r->config = config_ref(options->config);
	r->tls = options->tls != NULL ? tls_context_ref(options->tls) : NULL;
	r->intake = options->intake;
	r->directory = options->directory;
	r->shared = options->shared;
	r->sasl = auth_library_new();
	r->scratch = mem_alloc(SCRATCH_SIZE);
	r->listeners = mem_zalloc((count + 1) * sizeof(*r->listeners));
	list_init(&r->sessions);
	for (size_t i = 0; i < count && result == 0; i++) {
		if (options->config->listeners[i].service != CONFIG_HTTP &&
		    options->listen_fds[i] >= 0)
			result = open_listener(r, i, options->listen_fds[i]);
	}
	if (result < 0) {
		leave_listeners(r);
		receiver_free(&r);
		return result;
	}
	*ret_receiver = r;
	return 0;
}

static void
close_listeners(struct receiver *r)
{
	for (size_t i = 0; i < r->listener_count; i++) {
		loop_timer_clear(&r->listeners[i].pause);
		if (r->listeners[i].watch.loop == NULL)
			continue;
		loop_unwatch(&r->listeners[i].watch);
		close(r->listeners[i].watch.fd);
	}
	r->listener_count = 0;
}

void
receiver_free(struct receiver **receiver)
{
	struct receiver *r = *receiver;

	if (r == NULL)
		return;
	close_listeners(r);
	while (!list_is_empty(&r->sessions))
		session_cut(LIST_ENTRY(r->sessions.next, struct session, link));
	gsasl_done(r->sasl);
	mem_free(r->scratch);
	mem_free(r->listeners);
	tls_context_unref(&r->tls);
	config_unref(&r->config);
	mem_free(r);
	*receiver = NULL;
}

void
receiver_reload(
    struct receiver *r, struct config *config, struct tls_context *tls)
{
	BUG_UNLESS(config->listener_count == r->config->listener_count);
	config_unref(&r->config);
	tls_context_unref(&r->tls);
	r->config = config_ref(config);
	r->tls = tls != NULL ? tls_context_ref(tls) : NULL;
}

void
receiver_drain(struct receiver *r)
{
	r->draining = true;
	close_listeners(r);
	LIST_FOR_EACH_SAFE(link, &r->sessions)
		session_drain(LIST_ENTRY(link, struct session, link));
}

size_t
receiver_count(const struct receiver *r)
{
	return r->session_count;
}
