/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the client says and what it is told: the smtp_server's events become
 * questions to SASL and to intake, and their answers replies.
 */

#include "base/bug.h"
#include "base/time.h"
#include "log/log.h"
#include "receive/internal.h"
#include "smtp/server.h"

#include <stdio.h>
#include <string.h>

/* The answer to the n-th failed AUTH of a client network comes after
 * 2^(n-1) s, at most: */
#define PENALTY_MAX_US (8 * US_PER_S)

struct smtp_server *
dialogue_new(const struct session *s, bool secured)
{
	const struct config *c = s->config;
	const struct config_listener *l = s->listener;
	bool has_auth =
	    l->service == CONFIG_SUBMISSION && l->tls != CONFIG_TLS_NONE;
	const struct smtp_server_options options = {
		.hostname = span_of(c->hostname),
		.banner = SPAN("posthouse"),
		.lmtp = l->service == CONFIG_LMTP,
		.starttls = l->tls == CONFIG_TLS_STARTTLS && s->tls != NULL,
		.auth = has_auth,
		.requiretls = l->service == CONFIG_SUBMISSION,
		.auth_required = l->service == CONFIG_SUBMISSION && !s->trusted,
		.auth_mechanisms = auth_mechanisms(s->stream),
		.secured = secured,
		.allow_literals = l->service == CONFIG_SUBMISSION,
		.normalise_newlines = l->newlines == CONFIG_NEWLINES_NORMALISE,
		.size_max = c->limits.message_size,
		.recipients_max = c->limits.recipients,
		.errors_max = c->limits.errors,
		.idle_commands_max = c->limits.idle_commands,
		.header_line_max = c->limits.line_length,
	};

	return smtp_server_new(&options);
}

/* ---- AUTH -------------------------------------------------------- */

static void
give_auth_reply(struct loop_timer *timer)
{
	struct session *s = LIST_ENTRY(timer, struct session, penalty);

	smtp_server_auth_failed(s->smtp, &s->auth_reply);
	if (s->auth_failures >= s->config->limits.auth_failures) {
		const struct reply enough = REPLY(421, 4, 7, 0,
		    "too many failed logins: check user name and password");

		smtp_server_terminate(s->smtp, &enough);
	}
	session_resume(s);
}

/* The line that fail2ban reads: "receive: auth failed", client=… */
static void
auth_failed(struct session *s)
{
	struct receiver *r = s->receiver;
	int64_t now_us = loop_now_us(r->loop);
	uint32_t failures =
	    shared_auth_failed(r->shared, &s->peer, s->config, now_us);
	int64_t wait_us = US_PER_S << (failures < 5 ? failures - 1 : 4);

	s->auth_failures++;
	atomic_fetch_add(&shared_counters(r->shared)->auth_failures, 1);
	LOG(LOG_WARNING, "receive", "auth failed",
	    LOG_C("client", s->peer_text),
	    LOG_C("user", auth_tried_name(s->auth)),
	    LOG_N("failures", failures));
	auth_free(&s->auth);
	s->auth_reply = REPLY(535, 5, 7, 8,
	    "authentication failed: user name or password is wrong, revoked, "
	    "or not allowed from your network");
	s->penalty.on_time = give_auth_reply;
	loop_timer_set(r->loop, &s->penalty,
	    now_us + (wait_us < PENALTY_MAX_US ? wait_us : PENALTY_MAX_US));
}

static void
auth_succeeded(struct session *s)
{
	s->identity = *auth_identity(s->auth);
	auth_free(&s->auth);
	s->auth_failures = 0;
	shared_auth_succeeded(s->receiver->shared, &s->peer);
	atomic_fetch_add(
	    &shared_counters(s->receiver->shared)->auth_successes, 1);
	LOG(LOG_DEBUG, "receive", "authenticated",
	    LOG_C("client", s->peer_text), LOG_C("user", s->identity.username));
	smtp_server_auth_done(s->smtp);
}

static void
step_auth(struct session *s, struct span input)
{
	const struct reply malformed = REPLY(501, 5, 5, 2,
	    "the response is not valid base64 or not of this mechanism");
	struct span challenge = SPAN_EMPTY;

	switch (auth_step(s->auth, input, &challenge)) {
	case AUTH_CHALLENGE:
		smtp_server_auth_challenge(s->smtp, challenge);
		break;
	case AUTH_DONE:
		auth_succeeded(s);
		break;
	case AUTH_FAILED:
		auth_failed(s);
		break;
	case AUTH_MALFORMED:
		auth_free(&s->auth);
		smtp_server_auth_failed(s->smtp, &malformed);
		break;
	}
}

/* "=" and an empty line are responses of no octets, not the lack of one. */
static struct span
response(struct span text)
{
	return text.len > 0 ? text : SPAN("");
}

static void
on_auth(struct session *s, const struct smtp_server_event *e)
{
	const struct reply unknown = REPLY(504, 5, 5, 4,
	    "this mechanism is not offered: use one of the EHLO reply");
	const struct reply locked = REPLY(454, 4, 7, 0,
	    "too many failed logins from your network: try again later");
	struct receiver *r = s->receiver;

	if (shared_locked_until(r->shared, &s->peer, loop_now_us(r->loop)) >
	    0) {
		LOG(LOG_WARNING, "receive", "auth refused: locked out",
		    LOG_C("client", s->peer_text));
		smtp_server_auth_failed(s->smtp, &locked);
		return;
	}
	s->auth =
	    auth_new(r->sasl, e->mechanism, r->directory, &s->peer, s->stream);
	if (s->auth == NULL) {
		smtp_server_auth_failed(s->smtp, &unknown);
		return;
	}
	step_auth(s, e->has_initial ? response(e->text) : SPAN_EMPTY);
}

static void
on_auth_data(struct session *s, const struct smtp_server_event *e)
{
	step_auth(s, response(e->text));
}

/* ---- transactions ------------------------------------------------ */

static void
on_mail(struct session *s, const struct smtp_server_event *e)
{
	const struct intake_client client = {
		.origin = s->listener->service == CONFIG_SUBMISSION
			      ? INTAKE_SUBMISSION
			      : INTAKE_MX,
		.address = s->peer,
		.helo = span_of(s->helo),
		.protocol = smtp_server_protocol(s->smtp),
		.tls = span_of(s->tls_text),
		.user = span_of(s->identity.username),
		.credential = s->identity.credential,
		.trusted = s->trusted,
		.trace_user = s->listener->trace_user,
	};
	struct reply reply;

	BUG_UNLESS(s->message == NULL);
	s->message = intake_mail(s->receiver->intake, &client, e->mail, &reply);
	if (s->message == NULL)
		LOG(LOG_INFO, "receive", "sender refused",
		    LOG_C("client", s->peer_text),
		    LOG_C("user", s->identity.username),
		    LOG_S("sender", e->mail->sender.text),
		    LOG_N("code", reply.code), LOG_S("reason", reply.text));
	smtp_server_answer(s->smtp, &reply);
}

static void
on_rcpt(struct session *s, const struct smtp_server_event *e)
{
	struct reply reply;

	intake_rcpt(s->message, e->rcpt, &reply);
	if (!reply_is_positive(&reply)) {
		atomic_fetch_add(
		    &shared_counters(s->receiver->shared)->recipients_refused,
		    1);
		LOG(LOG_INFO, "receive", "recipient refused",
		    LOG_C("client", s->peer_text),
		    LOG_C("user", s->identity.username),
		    LOG_S("recipient", e->rcpt->recipient.text),
		    LOG_N("code", reply.code), LOG_S("reason", reply.text));
	}
	smtp_server_answer(s->smtp, &reply);
}

static void
on_body(struct session *s, const struct smtp_server_event *e)
{
	if (s->message_us == 0) {
		s->message_us = s->rate_us = loop_now_us(s->receiver->loop);
		s->rate_bytes = 0;
	}
	intake_body(s->message, e->text);
}

static void
count_message(struct session *s, const struct reply *reply)
{
	struct receive_counters *c = shared_counters(s->receiver->shared);

	if (reply_is_positive(reply)) {
		s->accepted++;
		atomic_fetch_add(&c->messages_accepted, 1);
		return;
	}
	s->refused++;
	atomic_fetch_add(&c->messages_refused, 1);
	LOG(LOG_INFO, "receive", "message refused",
	    LOG_C("client", s->peer_text), LOG_C("user", s->identity.username),
	    LOG_N("code", reply->code), LOG_S("reason", reply->text));
}

/* intake's word on the whole message. */
static void
on_committed(void *arg, const struct reply *reply, const struct msgid *id)
{
	struct session *s = arg;

	(void)id;
	s->message = NULL;
	s->committing = false;
	count_message(s, reply);
	smtp_server_answer(s->smtp, reply);
	session_resume(s);
}

static void
on_end(struct session *s)
{
	s->message_us = 0;
	s->committing = true;
	intake_end(s->message, s->receiver->loop, on_committed, s);
}

static void
on_reset(struct session *s)
{
	s->message_us = 0;
	if (s->committing)
		return; /* its fate is decided elsewhere */
	intake_abort(&s->message);
}

/* What the log of every day need not tell. */
static bool
is_ordinary(struct span reason)
{
	return reason.len == 0 || span_eq(reason, SPAN("quit")) ||
	       span_eq(reason, SPAN("terminated")) ||
	       span_eq(reason, SPAN("refused at the greeting"));
}

static void
on_close(struct session *s, const struct smtp_server_event *e)
{
	LOG(is_ordinary(e->text) ? LOG_DEBUG : LOG_INFO, "receive",
	    "session ended", LOG_C("client", s->peer_text),
	    LOG_C("user", s->identity.username), LOG_S("reason", e->text));
	s->phase = SESSION_CLOSING;
}

void
dialogue_event(struct session *s, const struct smtp_server_event *e)
{
	switch (e->type) {
	case SMTP_SERVER_NONE:
		break;
	case SMTP_SERVER_HELO:
		(void)span_to_cstring(
		    span_slice(e->text, 0, sizeof(s->helo) - 1), s->helo,
		    sizeof(s->helo));
		break;
	case SMTP_SERVER_STARTTLS:
		s->helo[0] = '\0';
		s->phase = SESSION_STARTTLS;
		break;
	case SMTP_SERVER_AUTH:
		on_auth(s, e);
		break;
	case SMTP_SERVER_AUTH_DATA:
		on_auth_data(s, e);
		break;
	case SMTP_SERVER_AUTH_CANCEL:
		auth_free(&s->auth);
		break;
	case SMTP_SERVER_MAIL:
		on_mail(s, e);
		break;
	case SMTP_SERVER_RCPT:
		on_rcpt(s, e);
		break;
	case SMTP_SERVER_BODY:
		on_body(s, e);
		break;
	case SMTP_SERVER_END:
		on_end(s);
		break;
	case SMTP_SERVER_RESET:
		on_reset(s);
		break;
	case SMTP_SERVER_CLOSE:
		on_close(s, e);
		break;
	}
}

void
dialogue_end(struct session *s)
{
	auth_free(&s->auth);
	if (s->committing)
		intake_detach(s->message);
	else
		intake_abort(&s->message);
	s->message = NULL;
	s->committing = false;
}
