/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One client's connection: reads what arrives, feeds the dialogue, writes what
 * it has to say, and ends it when a deadline passes.
 *
 *	PROXY -> HANDSHAKE -> DIALOGUE <-> STARTTLS -> HANDSHAKE
 *	                         \-> CLOSING -> OVER
 *
 * Memory: a session at rest holds no input buffer; reads go into the receiver's
 * scratch, and only what the dialogue could not take yet is kept in `pending`.
 * While an answer is due nothing is read, so pending is at most one scratch.
 * Freed at the end of the turn only: any callback may be on the stack.
 */

#include "base/bug.h"
#include "base/mem.h"
#include "base/time.h"
#include "log/log.h"
#include "receive/internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Replies nobody reads: past this, nothing more is read from the client. */
#define OUTPUT_MAX (64 * 1024)
/* Time for a proxy's header and for a handshake. */
#define OPENING_US (30 * US_PER_S)
#define RATE_WINDOW_US US_PER_MIN

static void on_ready(struct loop_watch *watch, unsigned events);
static void on_deadline(struct loop_timer *timer);

/* ---- the end ------------------------------------------------------------------- */

static void
free_session(struct loop_item *item)
{
	struct session *s = LIST_ENTRY(item, struct session, free_item);

	smtp_server_free(&s->smtp);
	stream_free(&s->stream);
	buf_done(&s->pending);
	tls_context_unref(&s->tls);
	config_unref(&s->config);
	mem_free(s);
}

/* Everything but the memory; callbacks on the stack may still look. */
static void
leave(struct session *s)
{
	struct receive_counters *c = shared_counters(s->receiver->shared);

	BUG_UNLESS(s->phase != SESSION_OVER);
	s->phase = SESSION_OVER;
	dialogue_end(s);
	loop_unwatch(&s->watch);
	loop_timer_clear(&s->timer);
	loop_timer_clear(&s->penalty);
	list_remove(&s->link);
	s->receiver->session_count--;
	atomic_fetch_sub(&c->sessions_open, 1);
	if (stream_is_tls(s->stream))
		atomic_fetch_sub(&c->sessions_tls, 1);
	shared_leave(s->receiver->shared, &s->connected);
	LOG(LOG_DEBUG, "receive", "session over", LOG_C("client", s->peer_text),
	    LOG_C("user", s->identity.username), LOG_N("accepted", s->accepted),
	    LOG_N("refused", s->refused));
}

static void
end(struct session *s)
{
	leave(s);
	s->free_item.run = free_session;
	loop_defer(s->receiver->loop, &s->free_item);
}

void
session_cut(struct session *s)
{
	leave(s);
	free_session(&s->free_item);
}

/* ---- deadlines -------------------------------------------------------------------- */

static bool
in_message(const struct session *s)
{
	return s->message_us != 0;
}

/* Moves `*due` to the earlier one; remembers what it is for. */
static void
consider(int64_t *due, const char **why, int64_t from_us, int64_t length_us,
    const char *text)
{
	if (length_us <= 0 || from_us + length_us >= *due)
		return;
	*due = from_us + length_us;
	*why = text;
}

/* When the client has to have moved on, and what to tell it otherwise. */
static int64_t
next_deadline(const struct session *s, const char **why)
{
	const struct config *c = s->config;
	int64_t due = TIME_NEVER;

	if (s->phase == SESSION_PROXY || s->phase == SESSION_HANDSHAKE) {
		consider(&due, why, s->step_us, OPENING_US,
		    "the connection was not set up in time");
		return due;
	}
	if (smtp_server_waits_for_answer(s->smtp))
		return due; /* it is our move */
	consider(&due, why, s->started_us, c->limits.session_us,
	    "this session has lasted long enough: connect again");
	consider(&due, why, s->heard_us, c->limits.idle_us,
	    "nothing arrived for too long");
	if (in_message(s)) {
		consider(&due, why, s->message_us, c->limits.message_us,
		    "the message took too long to arrive");
		if (c->limits.message_rate_min > 0)
			consider(&due, why, s->rate_us, RATE_WINDOW_US,
			    "the message arrives too slowly");
	} else {
		consider(&due, why, s->step_us, c->limits.command_us,
		    "no complete command for too long");
	}
	return due;
}

static void
arm(struct session *s)
{
	const char *why;

	loop_timer_set(s->receiver->loop, &s->timer, next_deadline(s, &why));
}

/* A minute is over: a message that kept its pace gets another. */
static bool
kept_pace(struct session *s, int64_t now_us)
{
	uint64_t least = (uint64_t)s->config->limits.message_rate_min *
			 (uint64_t)(RATE_WINDOW_US / US_PER_S);

	if (!in_message(s) || now_us - s->rate_us < RATE_WINDOW_US ||
	    s->rate_bytes < least)
		return false;
	s->rate_us = now_us;
	s->rate_bytes = 0;
	return true;
}

/* ---- writing ---------------------------------------------------------------------- */

static void start_handshake(struct session *s);

/* Writes what there is. False when the connection is lost: s is ended. */
static bool
flush(struct session *s)
{
	struct span out;
	size_t written;

	while ((out = smtp_server_output(s->smtp)).len > 0) {
		struct iovec iov = { .iov_base = (void *)(uintptr_t)out.ptr,
			.iov_len = out.len };

		switch (stream_write(s->stream, &iov, 1, &written)) {
		case PROGRESS_DONE:
			if (tap_is_on())
				tap_lines(&s->tap, TAP_OUT,
				    span_slice(out, 0, written));
			smtp_server_sent(s->smtp, written);
			break;
		case PROGRESS_WAIT:
			return true;
		case PROGRESS_CLOSED:
		case PROGRESS_FAILED:
			stream_abort(s->stream);
			end(s);
			return false;
		}
	}
	if (s->phase == SESSION_CLOSING) {
		end(s);
		return false;
	}
	if (s->phase == SESSION_STARTTLS)
		start_handshake(s);
	return s->phase != SESSION_OVER;
}

/* Asks the loop for what can move the session on. */
static void
watch_for(struct session *s)
{
	bool reads = s->phase != SESSION_CLOSING &&
		     s->phase != SESSION_STARTTLS &&
		     !(s->phase == SESSION_DIALOGUE &&
			 (smtp_server_waits_for_answer(s->smtp) ||
			     smtp_server_output(s->smtp).len > OUTPUT_MAX));
	/* Readiness does not announce what TLS has already read: a socket that
	 * can be written wakes us for that, too. */
	bool writes = smtp_server_output(s->smtp).len > 0 ||
		      stream_wants_write(s->stream) ||
		      (reads && stream_has_pending(s->stream));

	loop_watch_events(
	    &s->watch, (writes ? LOOP_WRITE : 0U) | (reads ? LOOP_READ : 0U));
	if (smtp_server_waits_for_answer(s->smtp))
		loop_timer_clear(&s->timer);
	else if (s->timer.loop == NULL)
		arm(s);
}

/* ---- reading ------------------------------------------------------------------------ */

/* What a client sent, for the tap: never a message, never a secret. */
static void
tap_input(struct session *s, const char *step, struct span consumed,
    const struct smtp_server_event *event)
{
	if (consumed.len == 0 || event->type == SMTP_SERVER_BODY ||
	    event->type == SMTP_SERVER_END || strcmp(step, "data") == 0 ||
	    strcmp(step, "chunk") == 0)
		return;
	if (strcmp(step, "auth") == 0 || event->type == SMTP_SERVER_AUTH)
		consumed = SPAN("AUTH (secret)");
	tap_lines(&s->tap, TAP_IN, consumed);
}

/* Feeds the dialogue until it wants more or an answer is due. Returns what is
 * left. */
static struct span
feed(struct session *s, struct span in)
{
	struct smtp_server_event event;

	for (;;) {
		const char *step = smtp_server_step(s->smtp);
		size_t taken = smtp_server_feed(s->smtp, in, &event);

		if (tap_is_on())
			tap_input(s, step, span_slice(in, 0, taken), &event);
		if (in_message(s))
			s->rate_bytes += taken;
		in = span_skip(in, taken);
		if (event.type == SMTP_SERVER_NONE)
			return in;
		s->step_us = loop_now_us(s->receiver->loop);
		dialogue_event(s, &event);
		if (s->phase == SESSION_STARTTLS)
			return SPAN_EMPTY; /* CVE-2011-0411: dropped */
		if (s->phase == SESSION_CLOSING)
			return SPAN_EMPTY;
	}
}

static void
keep(struct session *s, struct span rest)
{
	struct buf kept = BUF_EMPTY;

	buf_append(&kept, rest);
	buf_done(&s->pending);
	s->pending = kept;
}

/* All input there is goes to the dialogue; replies go out together. False when
 * the session is over. */
static bool
converse(struct session *s, struct span in)
{
	struct span rest;

	if (buf_size(&s->pending) > 0) {
		buf_append(&s->pending, in);
		in = buf_span(&s->pending);
	}
	rest = feed(s, in);
	if (s->phase == SESSION_OVER)
		return false;
	if (rest.len > 0)
		keep(s, rest);
	else
		buf_done(&s->pending);
	return flush(s);
}

void
session_resume(struct session *s)
{
	if (s->phase == SESSION_OVER)
		return;
	s->heard_us = s->step_us = loop_now_us(s->receiver->loop);
	if (converse(s, SPAN_EMPTY))
		watch_for(s);
}

/* ---- opening -------------------------------------------------------------------------- */

/* The stream is as the listener wants it: the dialogue begins. */
static bool
greet(struct session *s, const struct reply *refusal)
{
	const struct reply early = REPLY(554, 5, 5, 1,
	    "you spoke before the greeting (RFC 5321 section 3.1)");
	char byte;

	s->phase = SESSION_DIALOGUE;
	s->trusted = s->listener->service == CONFIG_SUBMISSION &&
		     config_is_trusted(s->config, &s->peer);
	s->smtp = dialogue_new(s, stream_is_tls(s->stream));
	if (refusal == NULL && !stream_is_tls(s->stream) &&
	    buf_size(&s->pending) == 0 && !s->listener->proxy_protocol &&
	    recv(stream_fd(s->stream), &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
		refusal = &early;
	if (refusal != NULL) {
		atomic_fetch_add(
		    &shared_counters(s->receiver->shared)->refused, 1);
		LOG(LOG_INFO, "receive", "connection refused",
		    LOG_C("client", s->peer_text),
		    LOG_S("reason", refusal->text));
	}
	smtp_server_greet(s->smtp, refusal);
	return converse(s, SPAN_EMPTY);
}

static void
start_handshake(struct session *s)
{
	int result =
	    s->tls == NULL ? ERR_TLS : stream_accept_tls(s->stream, s->tls);

	if (result < 0) {
		LOG(LOG_ERROR, "receive", "cannot start TLS",
		    LOG_C("client", s->peer_text),
		    LOG_C("error", error_text(result)));
		end(s);
		return;
	}
	s->phase = SESSION_HANDSHAKE;
	s->step_us = loop_now_us(s->receiver->loop);
	arm(s);
}

static void
remember_tls(struct session *s)
{
	struct tls_facts facts;
	struct buf text = BUF_EMPTY;

	if (!stream_tls_facts(s->stream, &facts))
		return;
	buf_printf(&text, "%s %s", facts.version, facts.cipher);
	(void)span_to_cstring(
	    span_slice(buf_span(&text), 0, sizeof(s->tls_text) - 1),
	    s->tls_text, sizeof(s->tls_text));
	buf_done(&text);
	atomic_fetch_add(
	    &shared_counters(s->receiver->shared)->sessions_tls, 1);
}

/* False when the session is over or the handshake still goes on. */
static bool
handshake(struct session *s)
{
	switch (stream_handshake(s->stream)) {
	case PROGRESS_DONE:
		break;
	case PROGRESS_WAIT:
		return false;
	case PROGRESS_CLOSED:
	case PROGRESS_FAILED:
		LOG(LOG_INFO, "receive", "TLS handshake failed",
		    LOG_C("client", s->peer_text),
		    LOG_C("error", stream_error(s->stream)));
		stream_abort(s->stream);
		end(s);
		return false;
	}
	remember_tls(s);
	s->step_us = s->heard_us = loop_now_us(s->receiver->loop);
	if (s->smtp == NULL)
		return greet(s, NULL);
	s->phase = SESSION_DIALOGUE;
	smtp_server_secured(s->smtp);
	return true;
}

static bool
begin(struct session *s, const struct reply *refusal)
{
	if (s->listener->tls != CONFIG_TLS_IMPLICIT)
		return greet(s, refusal);
	if (refusal != NULL) {
		/* Nobody could read it before a handshake. */
		end(s);
		return false;
	}
	start_handshake(s);
	return s->phase != SESSION_OVER;
}

/* ---- a proxy's word for who the client is ------------------------------------------------ */

static void
set_peer(struct session *s, const struct netaddr *peer)
{
	s->peer = *peer;
	(void)netaddr_format_ip(peer, s->peer_text);
	s->tap.peer = s->peer_text;
}

static bool
is_trusted_proxy(const struct session *s)
{
	for (size_t i = 0; i < s->listener->proxy_network_count; i++) {
		if (netmask_contains(
			&s->listener->proxy_networks[i], &s->connected))
			return true;
	}
	return false;
}

/* From here on the client itself counts against the limits. */
static bool
take_proxy_client(struct session *s, const struct netaddr *client)
{
	struct receive_shared *shared = s->receiver->shared;

	if (client->family == NETADDR_NONE)
		return true;
	shared_leave(shared, &s->connected);
	s->connected = *client;
	set_peer(s, client);
	return shared_admit(shared, client, s->config) == ADMIT_OK;
}

static bool
take_proxy_header(struct session *s, struct span in)
{
	struct netaddr client;

	buf_append(&s->pending, in);
	int length = proxy_parse(buf_span(&s->pending), &client);
	if (length == 0)
		return true;
	if (length < 0) {
		LOG(LOG_WARNING, "receive", "bad PROXY header",
		    LOG_C("proxy", s->peer_text));
		end(s);
		return false;
	}
	buf_consume(&s->pending, (size_t)length);
	if (!take_proxy_client(s, &client) ||
	    (s->listener->tls == CONFIG_TLS_IMPLICIT &&
		buf_size(&s->pending) > 0)) {
		end(s);
		return false;
	}
	return begin(s, NULL);
}

/* ---- readiness ------------------------------------------------------------------------------ */

/* One read. False when there is no more for now, or the session is over. */
static bool
read_some(struct session *s)
{
	size_t len = 0;

	switch (stream_read(s->stream, s->receiver->scratch,
	    s->phase == SESSION_PROXY ? PROXY_HEADER_MAX : SCRATCH_SIZE,
	    &len)) {
	case PROGRESS_DONE:
		break;
	case PROGRESS_WAIT:
		return false;
	case PROGRESS_CLOSED:
		end(s);
		return false;
	case PROGRESS_FAILED:
		stream_abort(s->stream);
		end(s);
		return false;
	}
	s->heard_us = loop_now_us(s->receiver->loop);
	struct span in = span_from(s->receiver->scratch, len);
	if (s->phase == SESSION_PROXY)
		return take_proxy_header(s, in);
	if (!converse(s, in))
		return false;
	/* A short read has emptied the socket; TLS may hold more. */
	return len == SCRATCH_SIZE || stream_has_pending(s->stream);
}

static bool
may_read(const struct session *s)
{
	return s->phase == SESSION_PROXY ||
	       (s->phase == SESSION_DIALOGUE &&
		   !smtp_server_waits_for_answer(s->smtp) &&
		   smtp_server_output(s->smtp).len <= OUTPUT_MAX);
}

static void
on_ready(struct loop_watch *watch, unsigned events)
{
	struct session *s = LIST_ENTRY(watch, struct session, watch);

	(void)events;
	if (s->phase == SESSION_HANDSHAKE && !handshake(s)) {
		if (s->phase == SESSION_HANDSHAKE)
			loop_watch_events(&s->watch,
			    stream_wants_write(s->stream) ? LOOP_WRITE
							  : LOOP_READ);
		return;
	}
	if (s->smtp != NULL && !flush(s))
		return;
	/* A few reads a turn: others want their turn, too. */
	for (int i = 0; i < 4 && may_read(s); i++) {
		if (!read_some(s))
			break;
	}
	if (s->phase == SESSION_OVER)
		return;
	if (s->phase == SESSION_HANDSHAKE || s->phase == SESSION_PROXY)
		loop_watch_events(&s->watch, LOOP_READ);
	else
		watch_for(s);
}

/* The client gets a word and the connection ends once that is out. */
static void
on_deadline(struct loop_timer *timer)
{
	struct session *s = LIST_ENTRY(timer, struct session, timer);
	int64_t now_us = loop_now_us(s->receiver->loop);
	const char *why = "";

	if (kept_pace(s, now_us) || next_deadline(s, &why) > now_us) {
		arm(s);
		return;
	}
	atomic_fetch_add(&shared_counters(s->receiver->shared)->timeouts, 1);
	LOG(LOG_INFO, "receive", "session timed out",
	    LOG_C("client", s->peer_text), LOG_C("reason", why),
	    LOG_C("step",
		s->smtp != NULL ? smtp_server_step(s->smtp) : "opening"));
	if (s->smtp == NULL || s->phase != SESSION_DIALOGUE ||
	    smtp_server_output(s->smtp).len > 0) {
		stream_abort(s->stream);
		end(s);
		return;
	}
	const struct reply reply = {
		.code = 421, .enhanced = { 4, 2, 4 }, .text = span_of(why)
	};
	smtp_server_terminate(s->smtp, &reply);
	session_resume(s);
}

void
session_drain(struct session *s)
{
	const struct reply reply = REPLY(
	    421, 4, 3, 2, "the service is stopping: try again in a minute");

	s->draining = true;
	if (s->phase == SESSION_PROXY || s->phase == SESSION_HANDSHAKE) {
		end(s);
		return;
	}
	if (s->phase != SESSION_DIALOGUE || s->committing ||
	    smtp_server_in_transaction(s->smtp))
		return;
	smtp_server_terminate(s->smtp, &reply);
	session_resume(s);
}

void
session_start(struct receiver *r, const struct listener *l, int fd,
    const struct netaddr *peer, const struct reply *refusal)
{
	struct session *s = MEM_NEW(struct session);

	s->receiver = r;
	s->config = config_ref(r->config);
	s->tls = r->tls != NULL ? tls_context_ref(r->tls) : NULL;
	s->listener = &s->config->listeners[l->number];
	s->connected = *peer;
	s->stream = stream_new(fd);
	s->watch.on_ready = on_ready;
	s->timer.on_time = on_deadline;
	s->started_us = s->heard_us = s->step_us = loop_now_us(r->loop);
	s->tap.id = tap_new_session_id();
	s->tap.inbound = true;
	set_peer(s, peer);
	list_append(&r->sessions, &s->link);
	r->session_count++;
	atomic_fetch_add(&shared_counters(r->shared)->sessions_open, 1);
	if (loop_watch_fd(r->loop, &s->watch, fd, LOOP_READ) < 0) {
		end(s);
		return;
	}
	if (s->listener->proxy_protocol && is_trusted_proxy(s)) {
		s->phase = SESSION_PROXY;
		arm(s);
	} else if (s->listener->proxy_protocol) {
		LOG(LOG_WARNING, "receive",
		    "connection refused: not from a network of proxy_networks",
		    LOG_C("client", s->peer_text));
		end(s);
	} else if (begin(s, refusal) && s->phase == SESSION_DIALOGUE) {
		watch_for(s);
	}
}
