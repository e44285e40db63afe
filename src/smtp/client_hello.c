/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "smtp/client_internal.h"
#include "smtp/envelope.h"

/*
 * From the banner to being ready for mail: EHLO or LHLO (HELO where a server
 * knows nothing better), STARTTLS, EHLO again, AUTH. Nothing learnt in clear
 * text survives STARTTLS (RFC 3207 §4.2).
 */

enum {
	AUTH_LINE_MAX = 510, /* RFC 4954 §4, without CRLF */
	AUTH_ROUNDS_MAX = 10,
};

static void
send_hello(struct smtp_client *c, const char *verb, enum smtp_client_step step)
{
	buf_append_str(&c->out, verb);
	buf_append_char(&c->out, ' ');
	buf_append(&c->out, c->options.hostname);
	buf_append(&c->out, SPAN("\r\n"));
	client_expect(c, step);
}

static void
send_ehlo(struct smtp_client *c)
{
	c->offers = (struct offers){ 0 };
	send_hello(c, c->options.lmtp ? "LHLO" : "EHLO", SMTP_CLIENT_STEP_EHLO);
}

void
client_on_banner(struct smtp_client *c, const struct reply *reply)
{
	if (reply_is_completion(reply))
		send_ehlo(c);
	else if (reply_is_intermediate(reply))
		client_over_unexpected(c, reply);
	else
		client_decline(c, reply, CLIENT_CAUSE_REPLY);
}

/* "-PLUS" binds to the TLS channel, so there must be one. A password in clear
 * text goes only where the operator asked for a session without TLS: else
 * whoever strips STARTTLS from the offers would be told it. */
static bool
can_use(const struct smtp_client *c, struct span mechanism)
{
	bool tells_password = span_eq_nocase(mechanism, SPAN("PLAIN")) ||
			      span_eq_nocase(mechanism, SPAN("LOGIN"));
	if (!envelope_is_word(mechanism) ||
	    !offers_has_mechanism(&c->offers, mechanism))
		return false;
	if (c->secured)
		return true;
	if (span_ends_nocase(mechanism, SPAN("-PLUS")))
		return false;
	return !tells_password || c->options.tls == SMTP_CLIENT_TLS_NONE;
}

/* A server that cannot authenticate us is our configuration's fault: the mail
 * stays, and the reason is told at every attempt. */
static void
log_in(struct smtp_client *c)
{
	if (!c->options.auth) {
		client_ready(c);
		return;
	}
	struct span rest = c->options.auth_mechanisms;
	while (rest.len > 0) {
		struct span mechanism = span_cut(&rest, ' ');
		if (!can_use(c, mechanism))
			continue;
		c->mechanism = mechanism;
		client_enter(c, SMTP_CLIENT_STEP_AUTH);
		client_emit(c, SMTP_CLIENT_AUTH)->mechanism = mechanism;
		return;
	}
	client_decline(c,
	    &REPLY(454, 4, 7, 0,
		"we are to authenticate, but the server offers no mechanism "
		"that we can use on this connection"),
	    CLIENT_CAUSE_VERDICT);
}

static void
on_ehlo_refused(struct smtp_client *c, const struct reply *reply)
{
	bool needs_tls =
	    c->options.tls == SMTP_CLIENT_TLS_REQUIRE && !c->secured;
	if (!reply_is_permanent(reply) || c->options.lmtp)
		client_decline(c, reply, CLIENT_CAUSE_REPLY);
	else if (needs_tls)
		client_decline(c,
		    &REPLY(454, 4, 7, 10,
			"TLS is required, but the server refuses EHLO"),
		    CLIENT_CAUSE_VERDICT);
	else if (c->options.auth)
		client_decline(c,
		    &REPLY(454, 4, 7, 0,
			"we are to authenticate, but the server refuses EHLO"),
		    CLIENT_CAUSE_VERDICT);
	else
		send_hello(c, "HELO", SMTP_CLIENT_STEP_HELO);
}

static void
send_starttls(struct smtp_client *c)
{
	buf_append(&c->out, SPAN("STARTTLS\r\n"));
	client_expect(c, SMTP_CLIENT_STEP_STARTTLS);
}

void
client_on_ehlo(struct smtp_client *c, const struct reply *reply)
{
	if (reply_is_intermediate(reply)) {
		client_over_unexpected(c, reply);
		return;
	}
	if (!reply_is_completion(reply)) {
		on_ehlo_refused(c, reply);
		return;
	}
	offers_parse(reply->text, &c->offers);
	bool in_clear = !c->secured;
	if (in_clear && c->options.tls != SMTP_CLIENT_TLS_NONE &&
	    client_offered(c, SMTP_OFFER_STARTTLS))
		send_starttls(c);
	else if (in_clear && c->options.tls == SMTP_CLIENT_TLS_REQUIRE)
		client_decline(c,
		    &REPLY(454, 4, 7, 10,
			"TLS is required, but the server does not offer "
			"STARTTLS"),
		    CLIENT_CAUSE_VERDICT);
	else
		log_in(c);
}

void
client_on_helo(struct smtp_client *c, const struct reply *reply)
{
	if (reply_is_completion(reply))
		client_ready(c);
	else if (reply_is_intermediate(reply))
		client_over_unexpected(c, reply);
	else
		client_decline(c, reply, CLIENT_CAUSE_REPLY);
}

static void
on_starttls_refused(struct smtp_client *c, const struct reply *reply)
{
	if (c->options.tls == SMTP_CLIENT_TLS_OPPORTUNISTIC) {
		log_in(c);
		return;
	}
	struct reply kept = client_keep_reply(reply, c->session);
	struct reply why = REPLY(454, 4, 7, 10, "");
	why.text = arena_printf(c->session,
	    "TLS is required, but the server refuses STARTTLS: %.*s",
	    SPAN_ARG(reply_format(&kept, c->session)));
	client_decline(c, &why, CLIENT_CAUSE_VERDICT);
}

void
client_on_starttls(struct smtp_client *c, const struct reply *reply)
{
	if (reply_is_intermediate(reply)) {
		client_over_unexpected(c, reply);
		return;
	}
	/* RFC 3207 §4: 220 and no other means that a handshake may begin. */
	if (reply->code != 220) {
		on_starttls_refused(c, reply);
		return;
	}
	client_enter(c, SMTP_CLIENT_STEP_TLS);
	client_emit(c, SMTP_CLIENT_STARTTLS);
}

void
smtp_client_use_mechanisms(struct smtp_client *c, struct span auth_mechanisms)
{
	c->options.auth_mechanisms = arena_dup(c->session, auth_mechanisms);
}

void
smtp_client_secured(struct smtp_client *c)
{
	if (c->step == SMTP_CLIENT_STEP_CLOSED)
		return;
	BUG_UNLESS(c->step == SMTP_CLIENT_STEP_TLS && !c->secured);
	c->secured = true;
	send_ehlo(c);
	client_await(c);
}

/*
 * AUTH (RFC 4954).
 */

static void
give_up_auth(struct smtp_client *c)
{
	client_decline(c,
	    &REPLY(454, 4, 7, 0, "we gave up authenticating to the server"),
	    CLIENT_CAUSE_VERDICT);
}

static void
send_auth(struct smtp_client *c, struct span initial)
{
	buf_append(&c->out, SPAN("AUTH "));
	buf_append(&c->out, c->mechanism);
	size_t len = sizeof("AUTH  ") - 1 + c->mechanism.len + initial.len;
	if (initial.len > 0 && len <= AUTH_LINE_MAX) {
		buf_append_char(&c->out, ' ');
		buf_append(&c->out, initial);
	} else {
		buf_append(&c->auth_held, initial);
	}
	c->auth_begun = true;
}

void
smtp_client_auth_response(struct smtp_client *c, struct span base64)
{
	if (c->step == SMTP_CLIENT_STEP_CLOSED)
		return;
	BUG_UNLESS(c->step == SMTP_CLIENT_STEP_AUTH && c->ring_count == 0);
	bool gives_up = span_eq(base64, SPAN("*"));
	if (gives_up || (base64.len > 0 && !envelope_is_word(base64))) {
		smtp_client_auth_cancel(c);
		return;
	}
	if (c->auth_begun)
		buf_append(&c->out, base64);
	else
		send_auth(c, base64);
	buf_append(&c->out, SPAN("\r\n"));
	client_expect(c, SMTP_CLIENT_STEP_AUTH);
	client_await(c);
}

void
smtp_client_auth_cancel(struct smtp_client *c)
{
	if (c->step == SMTP_CLIENT_STEP_CLOSED)
		return;
	BUG_UNLESS(c->step == SMTP_CLIENT_STEP_AUTH && c->ring_count == 0);
	if (!c->auth_begun) {
		give_up_auth(c);
		return;
	}
	buf_append(&c->out, SPAN("*\r\n"));
	c->auth_cancelled = true;
	client_expect(c, SMTP_CLIENT_STEP_AUTH);
	client_await(c);
}

static void
on_challenge(struct smtp_client *c, const struct reply *reply)
{
	if (++c->auth_rounds > AUTH_ROUNDS_MAX) {
		client_over_unexpected(c, reply);
		return;
	}
	if (buf_size(&c->auth_held) == 0) {
		client_emit(c, SMTP_CLIENT_AUTH_CHALLENGE)->text = reply->text;
		return;
	}
	buf_append(&c->out, buf_span(&c->auth_held));
	buf_append(&c->out, SPAN("\r\n"));
	mem_wipe(c->auth_held.ptr, c->auth_held.capacity);
	buf_clear(&c->auth_held);
	client_expect(c, SMTP_CLIENT_STEP_AUTH);
}

void
client_on_auth(struct smtp_client *c, const struct reply *reply)
{
	if (c->auth_cancelled)
		give_up_auth(c);
	else if (reply_is_completion(reply))
		client_ready(c);
	else if (reply_is_intermediate(reply))
		on_challenge(c, reply);
	else
		client_decline(c, reply, CLIENT_CAUSE_REPLY);
}
