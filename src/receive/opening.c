/* SPDX-License-Identifier: Apache-2.0 */

/*
 * From a descriptor to a dialogue: may it come in at all, what a proxy says
 * about it, TLS, the greeting.
 */

#include "base/bug.h"
#include "base/mem.h"
#include "base/time.h"
#include "log/log.h"
#include "receive/internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* What is told to each of many for the same reason. */
static const struct reply full_reply =
    REPLY(421, 4, 3, 2, "too many connections: try again later");

static void
refused(const struct session *s, struct span reason)
{
	bool is_crowd = reason.ptr == full_reply.text.ptr;

	atomic_fetch_add(&shared_counters(s->receiver->shared)->refused, 1);
	/* The receiver has said it for all of them. */
	LOG(is_crowd ? LOG_DEBUG : LOG_INFO, "receive", "connection refused",
	    LOG_C("client", s->peer_text), LOG_S("reason", reason));
}

/* ---- the greeting ------------------------------------------------ */

/* RFC 5321 §3.1: the client speaks after the greeting. One that does not is a
 * machine that reads no answers, or a browser led astray. */
static bool
has_spoken(const struct session *s)
{
	char byte;

	return !stream_is_tls(s->stream) && recv(stream_fd(s->stream), &byte, 1,
						MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* The stream is as the listener wants it: the dialogue begins. False when the
 * session is over. */
static bool
greet(struct session *s, const struct reply *refusal)
{
	const struct reply early = REPLY(554, 5, 5, 1,
	    "you spoke before the greeting (RFC 5321 section 3.1)");

	s->phase = SESSION_DIALOGUE;
	s->step_us = s->heard_us = loop_now_us(s->receiver->loop);
	s->trusted = s->listener->service == CONFIG_SUBMISSION &&
		     config_is_trusted(s->config, &s->peer);
	s->smtp = dialogue_new(s, stream_is_tls(s->stream));
	if (refusal == NULL && has_spoken(s))
		refusal = &early;
	if (refusal != NULL)
		refused(s, refusal->text);
	smtp_server_greet(s->smtp, refusal);
	return session_converse(s, SPAN_EMPTY);
}

/* ---- TLS --------------------------------------------------------- */

void
opening_start_tls(struct session *s)
{
	int result =
	    s->tls == NULL ? ERR_TLS : stream_accept_tls(s->stream, s->tls);

	if (result < 0) {
		LOG(LOG_ERROR, "receive", "cannot start TLS",
		    LOG_C("client", s->peer_text),
		    LOG_C("error", error_text(result)));
		session_end(s);
		return;
	}
	s->phase = SESSION_HANDSHAKE;
	s->step_us = loop_now_us(s->receiver->loop);
}

static void
remember_tls(struct session *s)
{
	struct tls_facts facts;
	struct buf text = BUF_EMPTY;

	BUG_UNLESS(stream_tls_facts(s->stream, &facts));
	buf_printf(&text, "%s %s", facts.version, facts.cipher);
	(void)span_to_cstring(
	    span_slice(buf_span(&text), 0, sizeof(s->tls_text) - 1),
	    s->tls_text, sizeof(s->tls_text));
	buf_done(&text);
	atomic_fetch_add(
	    &shared_counters(s->receiver->shared)->sessions_tls, 1);
}

bool
opening_handshake(struct session *s)
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
		session_end(s);
		return false;
	}
	remember_tls(s);
	if (s->smtp == NULL)
		return greet(s, NULL);
	s->phase = SESSION_DIALOGUE;
	s->step_us = s->heard_us = loop_now_us(s->receiver->loop);
	smtp_server_use_mechanisms(s->smtp, auth_mechanisms(s->stream));
	smtp_server_secured(s->smtp);
	return true;
}

/* False when the session is over. */
static bool
begin(struct session *s, const struct reply *refusal)
{
	if (s->listener->tls != CONFIG_TLS_IMPLICIT)
		return greet(s, refusal);
	if (refusal != NULL) {
		/* Nobody could read it before a handshake. */
		refused(s, refusal->text);
		session_end(s);
		return false;
	}
	opening_start_tls(s);
	return s->phase != SESSION_OVER;
}

/* ---- limits ------------------------------------------------------ */

/* NULL: come in. */
static const struct reply *
refusal_of(enum admission admission)
{
	static const struct reply client_full = REPLY(421, 4, 7, 0,
	    "too many connections from your network: close some first");

	switch (admission) {
	case ADMIT_OK:
		return NULL;
	case ADMIT_FULL:
		return &full_reply;
	case ADMIT_CLIENT_FULL:
		return &client_full;
	}
	UNREACHABLE("admission has no other value");
}

/* ---- a proxy's word for who the client is ------------------------ */

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

/* From here on the client itself counts against the limits. Without one (the
 * proxy's own checks) the proxy stays counted. */
static const struct reply *
take_proxy_client(struct session *s, const struct netaddr *client)
{
	struct receive_shared *shared = s->receiver->shared;

	if (client->family == NETADDR_NONE)
		return NULL;
	shared_leave(shared, &s->connected);
	s->connected = *client;
	set_peer(s, client);
	return refusal_of(shared_admit(shared, client, s->config));
}

/* The header and no byte more is taken off the socket: what follows may be a
 * TLS handshake. While the header is incomplete, all there is belongs to it. */
bool
opening_read_proxy(struct session *s)
{
	char *scratch = s->receiver->scratch;
	int fd = stream_fd(s->stream);
	size_t had = buf_size(&s->pending);
	struct netaddr client;
	ssize_t n =
	    recv(fd, scratch, PROXY_HEADER_MAX - had, MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		session_end(s);
		return false;
	}
	buf_append(&s->pending, span_from(scratch, (size_t)n));
	int length = proxy_parse(buf_span(&s->pending), &client);
	if (length < 0 ||
	    (length == 0 && buf_size(&s->pending) == PROXY_HEADER_MAX)) {
		refused(s, SPAN("the PROXY header is malformed"));
		session_end(s);
		return false;
	}
	size_t taken = length == 0 ? (size_t)n : (size_t)length - had;
	if (recv(fd, scratch, taken, MSG_DONTWAIT) != (ssize_t)taken) {
		session_end(s);
		return false;
	}
	if (length == 0)
		return false;
	buf_done(&s->pending);
	return begin(s, take_proxy_client(s, &client));
}

/* ---- the start --------------------------------------------------- */

static struct session *
session_new(struct receiver *r, const struct listener *l, int fd,
    const struct netaddr *peer)
{
	struct session *s = MEM_NEW(struct session);

	s->receiver = r;
	s->config = config_ref(r->config);
	s->tls = r->tls != NULL ? tls_context_ref(r->tls) : NULL;
	s->listener = &s->config->listeners[l->number];
	s->connected = *peer;
	s->stream = stream_new(fd);
	s->watch.on_ready = session_on_ready;
	s->timer.on_time = session_on_deadline;
	s->started_us = s->heard_us = s->step_us = loop_now_us(r->loop);
	s->tap.id = tap_new_session_id();
	s->tap.inbound = true;
	set_peer(s, peer);
	list_append(&r->sessions, &s->link);
	r->session_count++;
	atomic_fetch_add(&shared_counters(r->shared)->sessions_open, 1);
	return s;
}

void
session_start(struct receiver *r, const struct listener *l, int fd,
    const struct netaddr *peer, enum admission admission)
{
	struct session *s = session_new(r, l, fd, peer);
	bool proxied = s->listener->proxy_protocol;

	if (loop_watch_fd(r->loop, &s->watch, fd, LOOP_READ) < 0) {
		session_end(s);
		return;
	}
	if (proxied && !is_trusted_proxy(s)) {
		refused(s, SPAN("not from a network of proxy_networks"));
		session_end(s);
		return;
	}
	/* A proxy may have many connections, but not more than all. */
	if (proxied && admission != ADMIT_FULL)
		s->phase = SESSION_PROXY;
	else
		(void)begin(s, refusal_of(admission));
	if (s->phase != SESSION_OVER)
		session_watch(s);
}
