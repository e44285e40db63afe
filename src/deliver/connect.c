/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "deliver/internal.h"
#include "log/log.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/socket.h"

#include <errno.h>
#include <string.h>

/*
 *   next --> connecting --> session <--> idle
 *    ^  ^        |          |  ^  |        |
 *    |  +--------+          v  |  +--> quitting --> closed
 *    |           +--> handshake
 *    +-- whatever fails before the session is ready: the next address, or,
 *        when there is none left, the attempt at this site has failed
 *
 * Addresses are tried in the order of the plan: hosts by preference, each with
 * its IPv6 addresses first. One that failed within the last minutes comes last,
 * so that a dead host of several does not cost each connection its timeout.
 *
 * A refused greeting (see result_greeting_is_final) leads to the next host,
 * too; mail bounces only if every host that answered refuses it for good.
 */

#define AVOID_US (5 * US_PER_MIN)
#define PLAIN_US (10 * US_PER_MIN) /* after a failed opportunistic handshake */
#define HANDSHAKE_US (60 * US_PER_S)

enum { TRIES_MAX = 10, TAKE_FINAL_MAX = 100 };

static loop_ready_fn on_ready;
static loop_timer_fn on_timer;

const char *
connection_host(const struct connection *c)
{
	return connection_plan_host(c)->name;
}

const struct plan_host *
connection_plan_host(const struct connection *c)
{
	return &c->plan->hosts[c->plan->addresses[c->at].host];
}

const struct netaddr *
connection_address(const struct connection *c)
{
	return &c->plan->addresses[c->at].address;
}

void
connection_set_timer(struct connection *c, int64_t after_us)
{
	struct loop *loop = c->dispatch->loop;
	loop_timer_set(loop, &c->timer, loop_now_us(loop) + after_us);
}

void
connection_watch(struct connection *c, unsigned events)
{
	if (c->watch.loop != NULL)
		loop_watch_events(&c->watch, events);
}

struct attempt
connection_attempt(const struct connection *c)
{
	return (struct attempt){
		.message = c->transaction.message,
		.counts = true,
		.is_final = c->plan->route->deliver == CONFIG_DELIVER_LMTP,
		.route = route_kind(c->plan->route),
		.site = c->site != NULL ? schedule_site_name(c->counted.site)
					: SPAN_EMPTY,
		.peer_host = span_of(connection_host(c)),
		.peer_address = span_of(c->peer),
		.source_address = span_of(c->source),
		.tls = span_of(c->tls),
		.tls_verified = c->tls_verified,
		.tls_policy =
		    secure_policy_name(c->plan, connection_plan_host(c)),
	};
}

/* ---- life ---- */

void
connection_open(struct site *site, struct schedule_site *way)
{
	struct dispatch *d = site->dispatch;
	struct connection *c = MEM_NEW(struct connection);
	c->dispatch = d;
	c->site = site;
	c->plan = plan_ref(site->plan);
	c->from =
	    config_source_find(c->plan->config, schedule_site_source(way));
	struct shaping_terms terms;
	shaping_find(c->plan->config, c->plan->provider, c->plan->domain_rule,
	    schedule_site_source(way), &terms);
	c->limits = terms.limits;
	c->state = CONNECTION_NEXT;
	c->all_final = true;
	c->fd = -1;
	c->watch.on_ready = on_ready;
	c->timer.on_time = on_timer;
	c->tap = (struct tap_session){
		.id = tap_new_session_id(),
		.peer = c->peer,
	};
	list_init(&c->link);
	list_prepend(&d->connections, &c->link);
	d->connection_count++;
	dispatch_count(&d->counters.connections_open, 1);
	schedule_connecting(d->schedule, way, &c->counted);
	connection_drive(c);
}

/* Back to before the TCP connection. */
static void
drop_transport(struct connection *c)
{
	loop_unwatch(&c->watch);
	loop_timer_clear(&c->timer);
	login_free(&c->login);
	smtp_client_free(&c->client);
	stream_free(&c->stream);
	file_auto_close(&c->fd);
	c->fd = -1;
	c->in_start = c->in_end = c->tapped = 0;
	c->input_ended = c->write_broke = c->in_auth = c->tls_verified = false;
	c->write_waits = c->write_waits_for_read = c->moved = false;
	c->tls[0] = c->source[0] = '\0';
}

void
connection_leave_site(struct connection *c, bool failed)
{
	struct dispatch *d = c->dispatch;
	if (c->site == NULL)
		return;
	c->site = NULL;
	schedule_disconnected(
	    d->schedule, &c->counted, failed, loop_now_us(d->loop));
	dispatch_pump_soon(d);
}

void
connection_close(struct connection *c)
{
	if (c->site != NULL)
		schedule_closing(c->dispatch->schedule, &c->counted);
	smtp_client_quit(c->client);
	c->state = CONNECTION_QUITTING;
	c->moved = true;
	dispatch_pump_soon(c->dispatch);
}

void
connection_free(struct connection *c)
{
	struct dispatch *d = c->dispatch;
	transaction_release(c);
	connection_leave_site(c, false);
	drop_transport(c);
	list_remove(&c->link);
	BUG_UNLESS(d->connection_count > 0);
	d->connection_count--;
	dispatch_count(&d->counters.connections_open, (uint64_t)-1);
	arena_free(&c->transaction.arena);
	buf_done(&c->transaction.stuffed);
	cause_unref(&c->problem);
	mem_free(c->told_domain);
	plan_unref(&c->plan);
	mem_free(c->in);
	mem_free(c);
	dispatch_pump_soon(d);
}

/* ---- failing ---- */

void
connection_fail(struct connection *c, const char *step,
    const struct reply *reply, bool local)
{
	struct dispatch *d = c->dispatch;
	struct result result = {
		.kind = SPOOL_DEFERRED,
		.local = local,
		.step = step,
		.reply = *reply,
	};
	/* It may look into the client that is about to go. */
	struct cause *problem = cause_new(&result);
	problem->route = route_kind(c->plan->route);
	if (c->site != NULL)
		problem->site = span_dup(schedule_site_name(c->counted.site));
	problem->peer_host = mem_strdup(connection_host(c));
	problem->peer_address = mem_strdup(c->peer);
	problem->tls_policy =
	    secure_policy_name(c->plan, connection_plan_host(c));
	tls_report_failure(c, step, problem->result.reply.text);
	cause_unref(&c->problem);
	c->problem = problem;
	c->all_final &= !local && span_eq(span_of(step), SPAN("banner")) &&
			result_greeting_is_final(reply);
	c->plan->addresses[c->at].avoid_until_us =
	    loop_now_us(d->loop) + AVOID_US;
	dispatch_count(&d->counters.connections_failed, 1);
	LOG(LOG_DEBUG, "deliver", "a host cannot be used",
	    LOG_C("peer_host", connection_host(c)),
	    LOG_C("peer_address", c->peer), LOG_C("step", step),
	    LOG_S("reply", problem->result.reply.text));
	if (c->stream != NULL)
		stream_abort(c->stream);
	drop_transport(c);
	c->state = CONNECTION_NEXT;
}

static void
fail_locally(struct connection *c, const char *step, const char *why,
    struct enhanced_code code)
{
	struct buf text = BUF_EMPTY;
	buf_printf(
	    &text, "cannot use %s [%s]: %s", connection_host(c), c->peer, why);
	struct reply reply = { .enhanced = code, .text = buf_span(&text) };
	connection_fail(c, step, &reply, true);
	buf_done(&text);
}

/* RFC 7504: no mail will ever be taken there. Each delivery that would go has
 * its end; the rest at the next attempt. */
static void
bounce_site(struct connection *c)
{
	struct dispatch *d = c->dispatch;
	struct schedule_queue *queue;
	struct schedule_delivery delivery;
	c->problem->result.kind = SPOOL_BOUNCED;
	schedule_connected(d->schedule, &c->counted, loop_now_us(d->loop));
	for (unsigned i = 0; i < TAKE_FINAL_MAX &&
			     site_take(c->site, &c->counted, &queue, &delivery);
	     i++) {
		delivery.attempts++;
		backlog_add(d, c->problem, queue, &delivery);
		schedule_done(d->schedule, queue, delivery.rcpt_count);
	}
	connection_leave_site(c, false);
}

static void
defer_site(struct connection *c)
{
	struct dispatch *d = c->dispatch;
	struct backlog_sink sink = { d, c->problem };
	struct span line = c->problem->result.local
			       ? c->problem->result.reply.text
			       : result_line(&c->problem->result, d->scratch);
	schedule_site_set_last_reply(c->counted.site, line);
	site_note_result(c->site, &c->counted, &c->problem->result);
	(void)schedule_site_failed(d->schedule, c->counted.site,
	    loop_now_us(d->loop), backlog_take, &sink);
	LOG(LOG_INFO, "deliver", "a site cannot be reached",
	    LOG_S("site", schedule_site_name(c->counted.site)),
	    LOG_S("source", schedule_site_source(c->counted.site)),
	    LOG_S("reply", line));
	connection_leave_site(c, true);
}

/* No address is left. */
static void
give_up(struct connection *c)
{
	c->state = CONNECTION_CLOSED;
	if (c->site == NULL)
		return;
	/* Being told to stop is no failure of the site's. */
	if (c->problem == NULL || c->dispatch->draining)
		connection_leave_site(c, false);
	else if (c->all_final)
		bounce_site(c);
	else
		defer_site(c);
}

/* ---- connecting ---- */

static bool
pick_address(struct connection *c)
{
	struct plan *plan = c->plan;
	int64_t now_us = loop_now_us(c->dispatch->loop);
	size_t found = SIZE_MAX;
	if (c->tries >= TRIES_MAX)
		return false;
	for (size_t i = 0; i < plan->address_count; i++) {
		if ((c->tried >> i & 1) != 0)
			continue;
		if (c->from != NULL && c->from->address.family !=
					   plan->addresses[i].address.family)
			continue;
		if (found == SIZE_MAX)
			found = i;
		if (plan->addresses[i].avoid_until_us > now_us)
			continue;
		found = i;
		break;
	}
	if (found == SIZE_MAX)
		return false;
	c->at = found;
	c->tried |= UINT32_C(1) << found;
	c->tries++;
	return true;
}

static void
try_next(struct connection *c)
{
	struct dispatch *d = c->dispatch;
	if (c->site == NULL || !dispatch_may_take(d) || !pick_address(c)) {
		give_up(c);
		return;
	}
	const struct netaddr *to = connection_address(c);
	const struct plan_host *host = connection_plan_host(c);
	(void)netaddr_format(to, c->peer);
	if (host->security == SECURITY_BARRED ||
	    host->security == SECURITY_STS_BARRED) {
		c->tries--;
		fail_locally(
		    c, "tls", host->problem, (struct enhanced_code){ 7, 5, 4 });
		return;
	}
	int fd = socket_connect(to, c->from != NULL ? &c->from->address : NULL);
	if (fd == -EADDRNOTAVAIL && c->from != NULL)
		source_not_here(d, c->from);
	if (fd < 0) {
		/* Without a way to this family it has cost nothing. */
		c->tries--;
		fail_locally(c, "connect", error_text(fd),
		    (struct enhanced_code){ 4, 1, 4 });
		return;
	}
	c->fd = fd;
	int err = loop_watch_fd(d->loop, &c->watch, fd, LOOP_WRITE);
	if (err < 0) {
		fail_locally(c, "connect", error_text(err),
		    (struct enhanced_code){ 3, 0, 4 });
		return;
	}
	connection_set_timer(c, c->limits.connect_us);
	c->state = CONNECTION_CONNECTING;
}

static bool
has_implicit_tls(const struct connection *c)
{
	const struct config_route *route = c->plan->route;
	return route->deliver == CONFIG_DELIVER_SMTP && route->to_port == 465 &&
	       route->tls != CONFIG_ROUTE_TLS_NONE;
}

static void
on_connected(struct connection *c)
{
	int err = socket_connected(c->fd);
	if (err < 0) {
		fail_locally(c, "connect", error_text(err),
		    (struct enhanced_code){ 4, 1, 4 });
		return;
	}
	struct netaddr local;
	if (socket_local(c->fd, &local) == 0)
		(void)netaddr_format_ip(&local, c->source);
	c->stream = stream_new(c->fd);
	c->fd = -1;
	if (has_implicit_tls(c))
		connection_begin_tls(c);
	else
		session_begin(c, false);
}

/* ---- TLS ---- */

/* With neither credentials nor a wish for proof, a server whose TLS is broken
 * gets the mail as one without TLS would. */
static bool
may_go_plain(const struct connection *c)
{
	const struct config_route *route = c->plan->route;
	return route->tls == CONFIG_ROUTE_TLS_OPPORTUNISTIC &&
	       route->username == NULL && !route->tls_verify &&
	       connection_plan_host(c)->security == SECURITY_ROUTE &&
	       !has_implicit_tls(c);
}

static void
on_tls_failed(struct connection *c, const char *why)
{
	struct dispatch *d = c->dispatch;
	bool again = may_go_plain(c);
	if (again)
		dispatch_hint(d, connection_address(c))->plain_until_us =
		    loop_now_us(d->loop) + PLAIN_US;
	LOG(again ? LOG_INFO : LOG_WARNING, "deliver", "TLS failed",
	    LOG_C("peer_host", connection_host(c)),
	    LOG_C("peer_address", c->peer), LOG_C("reason", why));
	fail_locally(c, "tls", why, (struct enhanced_code){ 7, 5, 4 });
	if (!again)
		return;
	c->plan->addresses[c->at].avoid_until_us = 0;
	c->tried &= ~(UINT32_C(1) << c->at);
	c->tries--;
}

static struct tls_connect_options
connect_options(const struct connection *c)
{
	const struct config_route *route = c->plan->route;
	const struct plan_host *host = connection_plan_host(c);
	struct netaddr literal;
	bool named = host->name[0] != '[' &&
		     !netaddr_parse_ip(span_of(host->name), &literal);
	if (host->security == SECURITY_DANE)
		return (struct tls_connect_options){
			.server_name = host->base,
			.dane = host->dane,
			.dane_count = host->dane_count,
			.other_name = strcmp(host->base, host->name) != 0
					  ? host->name
					  : NULL,
		};
	return (struct tls_connect_options){
		.server_name = named || route->tls_verify ? host->name : NULL,
		.verify = route->tls_verify || host->security == SECURITY_STS,
	};
}

void
connection_begin_tls(struct connection *c)
{
	struct dispatch *d = c->dispatch;
	const struct config_route *route = c->plan->route;
	struct tls_context *context;
	struct failure failure = { .text = "" };
	enum security security = connection_plan_host(c)->security;
	bool tests = security == SECURITY_ROUTE && c->plan->policy != NULL &&
		     c->plan->policy->mode == STS_TESTING;
	bool by_policy = security == SECURITY_STS || tests;
	const char *ca_file =
	    by_policy ? c->plan->config->mta_sts.ca_file : route->tls_ca;
	if (dispatch_tls_context(d, ca_file, &context, &failure) < 0) {
		LOG(LOG_ERROR, "deliver", "no TLS for a route",
		    LOG_C("to", route->to), LOG_C("reason", failure.text));
		on_tls_failed(c, failure.text);
		return;
	}
	struct tls_connect_options options = connect_options(c);
	int err = stream_connect_tls(c->stream, context, &options);
	tls_context_unref(&context);
	if (err < 0) {
		on_tls_failed(c, error_text(err));
		return;
	}
	c->in_start = c->in_end = 0;
	c->state = CONNECTION_HANDSHAKE;
	connection_set_timer(c, HANDSHAKE_US);
}

static void
note_tls_facts(struct connection *c)
{
	struct tls_facts facts;
	if (!stream_tls_facts(c->stream, &facts))
		return;
	struct buf text = BUF_EMPTY;
	buf_printf(&text, "%s %s", facts.version, facts.cipher);
	(void)span_to_cstring(buf_span(&text), c->tls, sizeof c->tls);
	buf_done(&text);
	c->tls_verified = facts.verified;
}

static void
watch_handshake(struct connection *c)
{
	if (c->watch.loop == NULL && loop_watch_fd(c->dispatch->loop, &c->watch,
					 stream_fd(c->stream), LOOP_READ) < 0) {
		on_tls_failed(c, "cannot watch the connection");
		return;
	}
	connection_watch(
	    c, stream_wants_write(c->stream) ? LOOP_WRITE : LOOP_READ);
}

static void
run_handshake(struct connection *c)
{
	switch (stream_handshake(c->stream)) {
	case PROGRESS_WAIT:
		watch_handshake(c);
		return;
	case PROGRESS_DONE:
		note_tls_facts(c);
		if (tap_is_on())
			tap_lines(&c->tap, TAP_NOTE, span_of(c->tls));
		if (c->client == NULL) {
			session_begin(c, true);
			return;
		}
		smtp_client_use_mechanisms(c->client, session_mechanisms(c));
		smtp_client_secured(c->client);
		c->moved = true;
		c->state = CONNECTION_SESSION;
		return;
	case PROGRESS_CLOSED:
	case PROGRESS_FAILED:
		break;
	}
	char why[256];
	if (!span_to_cstring(
		span_slice(span_of(stream_error(c->stream)), 0, sizeof why - 1),
		why, sizeof why))
		UNREACHABLE("the text was cut to fit");
	on_tls_failed(c, why);
}

/* ---- driving ---- */

/* One state's work. True: the state has changed, go on. */
static bool
advance(struct connection *c)
{
	enum connection_state before = c->state;
	switch (before) {
	case CONNECTION_NEXT:
		try_next(c);
		return true;
	case CONNECTION_HANDSHAKE:
		run_handshake(c);
		break;
	case CONNECTION_SESSION:
	case CONNECTION_IDLE:
	case CONNECTION_SIGNING:
	case CONNECTION_QUITTING:
		session_run(c);
		break;
	case CONNECTION_CONNECTING:
	case CONNECTION_CLOSED:
		break;
	}
	return c->state != before;
}

void
connection_drive(struct connection *c)
{
	if (c->busy)
		return; /* the outer call goes on */
	c->busy = true;
	while (advance(c))
		continue;
	c->busy = false;
	if (c->state == CONNECTION_CLOSED)
		connection_free(c);
}

static void
on_ready(struct loop_watch *watch, unsigned events)
{
	struct connection *c = LIST_ENTRY(watch, struct connection, watch);
	(void)events; /* reading and writing find out for themselves */
	if (c->state == CONNECTION_CONNECTING)
		on_connected(c);
	connection_drive(c);
}

static void
on_timer(struct loop_timer *timer)
{
	struct connection *c = LIST_ENTRY(timer, struct connection, timer);
	if (c->state == CONNECTION_CONNECTING)
		fail_locally(c, "connect", error_text(-ETIMEDOUT),
		    (struct enhanced_code){ 4, 1, 4 });
	else if (c->state == CONNECTION_HANDSHAKE)
		on_tls_failed(c, "the handshake took too long");
	else
		session_on_timer(c);
	connection_drive(c);
}

void
connection_wake(struct schedule_connection *counted)
{
	struct connection *c = LIST_ENTRY(counted, struct connection, counted);
	BUG_UNLESS(c->state == CONNECTION_IDLE);
	c->state = CONNECTION_SESSION;
	if (!session_take(c))
		c->state = CONNECTION_IDLE;
	connection_drive(c);
}

void
connection_yield(struct schedule_connection *counted)
{
	struct connection *c = LIST_ENTRY(counted, struct connection, counted);
	BUG_UNLESS(c->state == CONNECTION_IDLE);
	connection_close(c);
	connection_drive(c);
}

void
connection_retire(struct connection *c, bool abrupt)
{
	if (c->transaction.open && abrupt) {
		c->transaction.uncounted = true;
		session_broken(c, "this server is shutting down");
	} else if (c->state == CONNECTION_SIGNING && !abrupt) {
		transaction_release(c);
		connection_close(c);
	} else if (c->state == CONNECTION_IDLE && !abrupt) {
		connection_close(c);
	} else if (!c->is_ready || abrupt) {
		connection_leave_site(c, false);
		c->state = CONNECTION_CLOSED;
	}
	connection_drive(c);
}
