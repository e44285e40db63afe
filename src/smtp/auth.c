/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AUTH (RFC 4954): the exchange's frame. What is inside the base64 is between
 * the client and the driver's SASL library.
 */
#include "base/bug.h"
#include "smtp/internal.h"

/* Our own spelling of the mechanism, or an empty span. */
static struct span
find_mechanism(const struct smtp_server *s, struct span name)
{
	struct span rest = s->options.auth_mechanisms;
	while (rest.len > 0) {
		struct span one = span_cut(&rest, ' ');
		if (one.len > 0 && span_eq_nocase(one, name))
			return one;
	}
	return SPAN_EMPTY;
}

static const struct reply *
refusal(const struct smtp_server *s)
{
	static const struct reply not_offered =
	    REPLY(502, 5, 5, 1, "authentication is not offered");
	static const struct reply twice =
	    REPLY(503, 5, 5, 1, "you are authenticated already");
	/* RFC 4954 §6: never a password in the clear. */
	static const struct reply plain =
	    REPLY(538, 5, 7, 11, "encryption is required: STARTTLS first");
	if (!s->options.auth)
		return &not_offered;
	if (s->authenticated)
		return &twice;
	return s->secured ? NULL : &plain;
}

void
auth_on_auth(struct smtp_server *s, struct span argument)
{
	const struct reply *no = refusal(s);
	if (no != NULL) {
		server_fault(s, no);
		return;
	}
	struct command_auth auth;
	struct reply fault;
	if (command_parse_auth(argument, &auth, &fault) < 0) {
		server_fault(s, &fault);
		return;
	}
	struct span mechanism = find_mechanism(s, auth.mechanism);
	if (mechanism.len == 0) {
		server_fault(s, &REPLY(504, 5, 5, 4, "no such mechanism here"));
		return;
	}
	server_emit(s, (struct smtp_server_event){
			   .type = SMTP_SERVER_AUTH,
			   .mechanism = mechanism,
			   .text = auth.initial,
			   .has_initial = auth.has_initial,
		       });
	server_enter(s, STEP_AUTH_ANSWER);
}

static void
cancel(struct smtp_server *s, const struct reply *reply)
{
	server_emit(
	    s, (struct smtp_server_event){ .type = SMTP_SERVER_AUTH_CANCEL });
	server_enter(s, STEP_READY);
	server_fault(s, reply);
}

bool
auth_take_line(struct smtp_server *s, struct span *in)
{
	enum line_outcome outcome = line_take(&s->line, in, true);
	if (outcome == LINE_MORE)
		return false;
	if (outcome == LINE_TOO_LONG) {
		/* RFC 4954 §4 */
		cancel(s, &REPLY(500, 5, 5, 6, "the line is too long"));
		return true;
	}
	if (verbs_refuse_line(s, outcome))
		return true;
	struct span text = s->line.text;
	if (span_eq(text, SPAN("*"))) {
		cancel(s, &REPLY(501, 5, 7, 0, "authentication cancelled"));
		return true;
	}
	if (!command_is_base64(text)) {
		cancel(s, &REPLY(501, 5, 5, 2, "this is not base64"));
		return true;
	}
	server_emit(s, (struct smtp_server_event){
			   .type = SMTP_SERVER_AUTH_DATA, .text = text });
	server_enter(s, STEP_AUTH_ANSWER);
	return true;
}

void
smtp_server_auth_challenge(struct smtp_server *s, struct span base64)
{
	if (s->step == STEP_CLOSED)
		return;
	/* One line, which reply_append would cut: a SCRAM challenge may be
	 * longer than a reply's line. */
	buf_append(&s->output, SPAN("334 "));
	buf_append(&s->output, base64);
	buf_append(&s->output, SPAN("\r\n"));
	server_enter(s, STEP_AUTH);
}

void
smtp_server_auth_done(struct smtp_server *s)
{
	if (s->step == STEP_CLOSED)
		return;
	BUG_UNLESS(s->step == STEP_AUTH_ANSWER);
	s->authenticated = true;
	server_say(s, &REPLY(235, 2, 7, 0, "authenticated"));
	server_enter(s, STEP_READY);
}

void
smtp_server_auth_failed(struct smtp_server *s, const struct reply *reply)
{
	if (s->step == STEP_CLOSED)
		return;
	BUG_UNLESS(s->step == STEP_AUTH_ANSWER);
	server_enter(s, STEP_READY);
	if (reply->code == 421 || reply->code == 521)
		server_close(s, reply, SPAN("closed by our reply"));
	else
		server_fault(s, reply);
}
