/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "deliver/internal.h"
#include "log/log.h"

/*
 * Bytes between a stream and an smtp client session. Each turn writes what
 * there is, hands the session what arrived, and does what its events ask,
 * until nothing moves; then it waits for the socket or the clock.
 */

enum { WRITES_PER_TURN = 16, TAKES_PER_TURN = 100 };

/* A connection that lives for ever draws all mail of a site to itself. */
#define AGE_MAX_US (300 * US_PER_S)

/* ---- beginning ---- */

static enum smtp_client_tls
tls_policy(const struct connection *c)
{
	struct dispatch *d = c->dispatch;
	const struct config_route *route = c->plan->route;
	const struct hint *hint = dispatch_find_hint(d, connection_address(c));
	if (route->tls == CONFIG_ROUTE_TLS_REQUIRE ||
	    connection_plan_host(c)->security != SECURITY_ROUTE)
		return SMTP_CLIENT_TLS_REQUIRE;
	if (route->tls == CONFIG_ROUTE_TLS_NONE ||
	    connection_address(c)->family == NETADDR_UNIX)
		return SMTP_CLIENT_TLS_NONE;
	/* A password never goes out in the clear because TLS was broken. */
	bool broken = route->username == NULL && !route->tls_verify &&
		      hint != NULL &&
		      hint->plain_until_us > loop_now_us(d->loop);
	return broken ? SMTP_CLIENT_TLS_NONE : SMTP_CLIENT_TLS_OPPORTUNISTIC;
}

static uint32_t
chunk_min(const struct connection *c)
{
	struct dispatch *d = c->dispatch;
	const struct hint *hint = dispatch_find_hint(d, connection_address(c));
	bool refused =
	    hint != NULL && hint->no_chunks_until_us > loop_now_us(d->loop);
	return d->config->delivery.chunking && !refused ? 0 : UINT32_MAX;
}

struct span
session_mechanisms(const struct connection *c)
{
	unsigned char binding[32];
	bool bound = stream_channel_binding(c->stream, binding) == 0;
	mem_wipe(binding, sizeof binding);
	return login_mechanisms(bound);
}

void
session_begin(struct connection *c, bool secured)
{
	const struct config_route *route = c->plan->route;
	struct smtp_client_options options = {
		.hostname =
		    span_of(c->from != NULL ? c->from->hostname
					    : c->plan->config->hostname),
		.lmtp = route->deliver == CONFIG_DELIVER_LMTP,
		.tls = tls_policy(c),
		.secured = secured,
		.auth = route->username != NULL,
		.auth_mechanisms = session_mechanisms(c),
		.chunk_min = chunk_min(c),
	};
	c->client = smtp_client_new(&options);
	if (c->in == NULL)
		c->in = mem_alloc(CONNECTION_IN_SIZE);
	c->state = CONNECTION_SESSION;
	c->moved = true;
}

/* ---- AUTH ---- */

static void
answer_challenge(struct connection *c, struct span challenge)
{
	struct span response;
	int err = login_step(c->login, challenge, &response);
	if (err < 0) {
		LOG(LOG_WARNING, "deliver", "AUTH challenge not understood",
		    LOG_C("peer_host", connection_host(c)),
		    LOG_C("reason", error_text(err)));
		smtp_client_auth_cancel(c->client);
		return;
	}
	smtp_client_auth_response(c->client, response);
}

static void
begin_auth(struct connection *c, struct span mechanism)
{
	const struct config_route *route = c->plan->route;
	struct login_options options = {
		.mechanism = mechanism,
		.username = route->username,
		.password = route->password != NULL ? route->password : "",
		.hostname = connection_host(c),
	};
	struct failure failure;
	int err = 0;
	c->in_auth = true;
	if (span_ends_nocase(mechanism, SPAN("-PLUS")))
		err = stream_channel_binding(c->stream, options.binding);
	if (err < 0)
		(void)failure_set(
		    &failure, err, "the TLS session cannot be bound to");
	else
		err = login_new(&options, &c->login, &failure);
	mem_wipe(options.binding, sizeof options.binding);
	if (err == 0) {
		answer_challenge(c, SPAN_EMPTY);
		return;
	}
	LOG(LOG_WARNING, "deliver", "cannot authenticate",
	    LOG_C("peer_host", connection_host(c)),
	    LOG_C("reason", failure.text));
	smtp_client_auth_cancel(c->client);
}

/* ---- between transactions ---- */

bool
session_take(struct connection *c)
{
	struct schedule_queue *queue;
	struct schedule_delivery delivery;
	for (unsigned i = 0; i < TAKES_PER_TURN; i++) {
		if (!site_take(c->site, &c->counted, &queue, &delivery))
			return false;
		tls_report_session(c, schedule_queue_key(queue).domain);
		if (!transaction_open(c, queue, &delivery) ||
		    !transaction_start(c))
			continue;
		c->moved = true;
		return true;
	}
	/* So many that were not to be sent: the loop has other work, too. */
	connection_close(c);
	return true;
}

static bool
is_worn_out(const struct connection *c)
{
	const struct dispatch *d = c->dispatch;
	uint32_t told = smtp_client_mail_max(c->client);
	return !dispatch_may_take(d) ||
	       c->transactions >= c->limits.messages_per_connection ||
	       (told > 0 && c->transactions >= told) ||
	       (c->transactions > 0 &&
		   loop_now_us(d->loop) - c->ready_us > AGE_MAX_US);
}

static void
quit(struct connection *c)
{
	transaction_release(c);
	connection_close(c);
}

static void
on_usable(struct connection *c)
{
	struct dispatch *d = c->dispatch;
	c->is_ready = true;
	c->in_auth = false;
	login_free(&c->login);
	c->ready_us = loop_now_us(d->loop);
	c->plan->addresses[c->at].avoid_until_us = 0;
	dispatch_count(&d->counters.connections_made, 1);
	schedule_connected(d->schedule, &c->counted, c->ready_us);
}

void
session_go_on(struct connection *c)
{
	struct dispatch *d = c->dispatch;
	if (c->login != NULL && !login_is_complete(c->login)) {
		connection_fail(c, "auth",
		    &REPLY(454, 4, 7, 0,
			"the server did not prove that it knows the password"),
		    true);
		return;
	}
	if (!c->is_ready)
		on_usable(c);
	if (c->is_out_of_step) {
		transaction_release(c);
		connection_leave_site(c, false);
		stream_abort(c->stream);
		c->state = CONNECTION_CLOSED;
		return;
	}
	bool crowded = d->connection_count >= dispatch_connections_max(d);
	if (is_worn_out(c)) {
		quit(c);
	} else if (c->transaction.queue != NULL && transaction_start(c)) {
		c->moved = true;
	} else if (!session_take(c)) {
		if (crowded || c->limits.idle_us <= 0) {
			quit(c);
			return;
		}
		c->state = CONNECTION_IDLE;
		connection_set_timer(c, c->limits.idle_us);
	}
}

/* ---- events ---- */

static void
write_farewell(struct connection *c)
{
	struct span out = smtp_client_output(c->client);
	struct iovec iov = { (void *)(uintptr_t)out.ptr, out.len };
	size_t len;
	if (out.len > 0 && !c->input_ended)
		(void)stream_write(c->stream, &iov, 1, &len);
}

static void
on_session_closed(struct connection *c, const struct smtp_client_event *event)
{
	write_farewell(c);
	c->in_auth = false;
	if (c->is_ready || event->reply == NULL) {
		transaction_release(c);
		connection_leave_site(c, false);
		c->state = CONNECTION_CLOSED;
		return;
	}
	bool auth = event->step == SMTP_CLIENT_STEP_AUTH;
	if (auth)
		LOG(LOG_WARNING, "deliver", "authentication failed",
		    LOG_C("peer_host", connection_host(c)),
		    LOG_N("code", event->reply->code),
		    LOG_S("reply", event->reply->text));
	connection_fail(
	    c, smtp_client_step_name(event->step), event->reply, event->local);
}

static void
on_event(struct connection *c, const struct smtp_client_event *event)
{
	switch (event->type) {
	case SMTP_CLIENT_NONE:
		break;
	case SMTP_CLIENT_STARTTLS:
		connection_begin_tls(c);
		break;
	case SMTP_CLIENT_AUTH:
		begin_auth(c, event->mechanism);
		break;
	case SMTP_CLIENT_AUTH_CHALLENGE:
		answer_challenge(c, event->text);
		break;
	case SMTP_CLIENT_READY:
		session_go_on(c);
		break;
	case SMTP_CLIENT_BODY:
		transaction_body_begin(c, event->dot_stuff);
		break;
	case SMTP_CLIENT_BODY_ABORT:
		c->transaction.body = c->transaction.early = false;
		c->transaction.piece = SPAN_EMPTY;
		stream_abort(c->stream);
		break;
	case SMTP_CLIENT_DONE:
		transaction_done(c);
		break;
	case SMTP_CLIENT_CLOSED:
		on_session_closed(c, event);
		break;
	}
}

static bool
is_speaking(const struct connection *c)
{
	return c->state == CONNECTION_SESSION || c->state == CONNECTION_IDLE ||
	       c->state == CONNECTION_SIGNING ||
	       c->state == CONNECTION_QUITTING;
}

/* True when something happened: one RCPT after the other is the same step. */
static bool
take_events(struct connection *c)
{
	bool happened = false;
	while (is_speaking(c)) {
		struct smtp_client_event event;
		enum smtp_client_step before = smtp_client_step(c->client);
		size_t said = smtp_client_output(c->client).len;
		struct span in =
		    span_from(c->in + c->in_start, c->in_end - c->in_start);
		c->in_start += smtp_client_feed(c->client, in, &event);
		if (smtp_client_step(c->client) != before ||
		    smtp_client_output(c->client).len != said)
			c->moved = happened = true;
		if (event.type == SMTP_CLIENT_NONE)
			break;
		happened = true;
		on_event(c, &event);
	}
	return happened;
}

void
session_broken(struct connection *c, const char *why)
{
	c->input_ended = true;
	c->transaction.body = false;
	if (c->client != NULL)
		smtp_client_broken(c->client, span_of(why));
	if (c->stream != NULL)
		stream_abort(c->stream);
}

/* ---- writing ---- */

/* Everything is shown once, before it is written. */
static void
show_output(struct connection *c, struct span out)
{
	if (out.len <= c->tapped)
		return;
	if (tap_is_on())
		tap_lines(&c->tap, TAP_OUT,
		    c->in_auth ? SPAN("AUTH ***\r\n")
			       : span_skip(out, c->tapped));
	c->tapped = out.len;
}

/* Makes sure that there is a piece, or that the body is over. */
static void
prepare_body(struct connection *c)
{
	struct transaction *t = &c->transaction;
	if (!t->body)
		return;
	if (t->piece.len == 0) {
		int more = transaction_body_next(t);
		if (more < 0) {
			LOG(LOG_ERROR, "deliver",
			    "a queued message is unreadable",
			    LOG_N("mno", t->rest.mno),
			    LOG_C("reason", error_text(more)));
			t->body = false;
			smtp_client_body_failed(c->client);
			stream_abort(c->stream);
			return;
		}
		if (more == 0) {
			t->body = false;
			smtp_client_body_sent(c->client);
			return;
		}
	}
	/* The last piece and the final dot leave in one write; the dot stands
	 * in the session's output until it is written. */
	if (t->data && transaction_body_ends_here(t) &&
	    smtp_client_output(c->client).len == 0) {
		t->body = false;
		t->early = true;
		smtp_client_body_sent(c->client);
	}
}

static int
gather(struct connection *c, struct iovec iov[static 2])
{
	struct transaction *t = &c->transaction;
	prepare_body(c);
	struct span out = smtp_client_output(c->client);
	show_output(c, out);
	struct span first = t->early ? t->piece : out;
	struct span second = t->early ? out : t->piece;
	int count = 0;
	if (first.len > 0)
		iov[count++] =
		    (struct iovec){ (void *)(uintptr_t)first.ptr, first.len };
	if (second.len > 0)
		iov[count++] =
		    (struct iovec){ (void *)(uintptr_t)second.ptr, second.len };
	return count;
}

static void
consume_output(struct connection *c, size_t n)
{
	smtp_client_sent(c->client, n);
	c->tapped -= n < c->tapped ? n : c->tapped;
}

static void
consume(struct connection *c, size_t n)
{
	struct transaction *t = &c->transaction;
	size_t ahead =
	    t->early ? t->piece.len : smtp_client_output(c->client).len;
	size_t first = n < ahead ? n : ahead;
	if (t->early) {
		t->piece = span_skip(t->piece, first);
		consume_output(c, n - first);
		if (t->piece.len == 0)
			t->early = false;
	} else {
		consume_output(c, first);
		t->piece = span_skip(t->piece, n - first);
	}
	if (t->open)
		c->moved = true;
}

static void
write_out(struct connection *c)
{
	c->write_waits = c->write_waits_for_read = false;
	for (unsigned i = 0; i < WRITES_PER_TURN; i++) {
		struct iovec iov[2];
		size_t len = 0;
		int count = gather(c, iov);
		if (count == 0)
			return;
		switch (stream_write(c->stream, iov, count, &len)) {
		case PROGRESS_DONE:
			consume(c, len);
			continue;
		case PROGRESS_WAIT:
			c->write_waits = true;
			c->write_waits_for_read =
			    !stream_wants_write(c->stream);
			return;
		case PROGRESS_CLOSED:
		case PROGRESS_FAILED:
			/* The server may have said why before it closed: what
			 * has arrived is read first. */
			c->write_broke = true;
			return;
		}
	}
	c->write_waits = true; /* others have their turn */
}

/* ---- reading ---- */

static void
show_input(struct connection *c)
{
	if (!tap_is_on())
		return;
	struct span in = span_from(c->in, c->in_end);
	if (c->in_auth && span_starts(in, SPAN("334")))
		in = SPAN("334 ***\r\n");
	tap_lines(&c->tap, TAP_IN, in);
}

/* True when something arrived, an end included. */
static bool
read_in(struct connection *c)
{
	size_t len = 0;
	if (c->input_ended || !is_speaking(c))
		return false;
	if (c->input_drained && !c->write_broke)
		return false;
	BUG_UNLESS(c->in_start == c->in_end);
	c->in_start = c->in_end = 0;
	switch (stream_read(c->stream, c->in, CONNECTION_IN_SIZE, &len)) {
	case PROGRESS_DONE:
		c->in_end = len;
		c->input_drained = stream_took_all(c->stream);
		show_input(c);
		/* Octets that end no line win no time. */
		if (span_find(span_from(c->in, len), '\n') != SIZE_MAX)
			c->moved = true;
		return true;
	case PROGRESS_WAIT:
		if (c->write_broke)
			session_broken(c, stream_error(c->stream));
		return c->write_broke;
	case PROGRESS_CLOSED:
		session_broken(c, "the server closed the connection");
		return true;
	case PROGRESS_FAILED:
		session_broken(c, stream_error(c->stream));
		return true;
	}
	UNREACHABLE("enum progress has no other value");
}

/* ---- turning ---- */

static int64_t
patience_us(const struct connection *c)
{
	int64_t us = smtp_client_step_seconds(c->client) * US_PER_S;
	if (smtp_client_step(c->client) == SMTP_CLIENT_STEP_END &&
	    c->limits.final_reply_us > 0)
		us = c->limits.final_reply_us;
	if (c->transaction.open) {
		int64_t left_us =
		    c->deadline_us - loop_now_us(c->dispatch->loop);
		if (left_us < us)
			us = left_us > 0 ? left_us : 0;
	}
	return us;
}

static bool
watch(struct connection *c, unsigned events)
{
	if (c->watch.loop != NULL) {
		connection_watch(c, events);
		return true;
	}
	return loop_watch_fd(c->dispatch->loop, &c->watch, stream_fd(c->stream),
		   events) == 0;
}

static void
wait_for_more(struct connection *c)
{
	unsigned events = LOOP_READ;
	if (c->write_waits && !c->write_waits_for_read)
		events |= LOOP_WRITE;
	if (!watch(c, events)) {
		session_broken(c, "cannot watch the connection");
		(void)take_events(c);
		return;
	}
	if (c->moved && c->state != CONNECTION_IDLE &&
	    c->state != CONNECTION_SIGNING)
		connection_set_timer(c, patience_us(c));
	c->moved = false;
}

void
session_run(struct connection *c)
{
	bool more = true;
	c->input_drained = false;
	while (more && is_speaking(c)) {
		write_out(c);
		more = take_events(c);
		if (!is_speaking(c))
			return;
		more |= read_in(c);
	}
	if (is_speaking(c))
		wait_for_more(c);
}

void
session_on_timer(struct connection *c)
{
	if (c->state == CONNECTION_IDLE || c->state == CONNECTION_SIGNING)
		quit(c);
	else if (c->state == CONNECTION_QUITTING)
		c->state = CONNECTION_CLOSED;
	else
		session_broken(c, "the server did not answer in time");
}
