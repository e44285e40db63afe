/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that are one line and one reply. */
#include "base/bug.h"
#include "smtp/internal.h"

#include <inttypes.h>

enum dialect { BOTH, SMTP_ONLY, LMTP_ONLY };

struct verb {
	struct span name;
	enum dialect dialect;
	bool bare; /* takes no argument */
	unsigned steps; /* where it is allowed */
	verb_fn *handle;
	const char *order; /* what to say elsewhere */
};

static void
hello(struct smtp_server *s, struct span name, bool extended)
{
	server_reset(s);
	s->extended = extended;
	if (s->step != STEP_READY)
		server_enter(s, STEP_READY);
	server_emit(s, (struct smtp_server_event){
			   .type = SMTP_SERVER_HELO, .text = name });
}

static bool
accept_hello(struct smtp_server *s, struct span name)
{
	if (s->step != STEP_HELO && !server_count_idle(s))
		return false;
	if (command_is_client_name(name))
		return true;
	server_fault(s, &REPLY(501, 5, 5, 4, "your host name must follow"));
	return false;
}

static void
on_helo(struct smtp_server *s, struct span argument)
{
	if (!accept_hello(s, argument))
		return;
	hello(s, argument, false);
	server_say(
	    s, &(struct reply){ .code = 250, .text = s->options.hostname });
}

/* One keyword per line behind our name (RFC 5321 §4.1.1.1). */
static void
append_keywords(const struct smtp_server *s, struct buf *text)
{
	const struct smtp_server_options *o = &s->options;
	buf_append_str(text, "\nPIPELINING\nSIZE");
	if (o->size_max != 0)
		buf_printf(text, " %" PRIu64, o->size_max);
	buf_append_str(text,
	    "\n8BITMIME\nSMTPUTF8\nENHANCEDSTATUSCODES\nCHUNKING\nBINARYMIME"
	    "\nDSN");
	if (o->starttls && !s->secured)
		buf_append_str(text, "\nSTARTTLS");
	if (o->requiretls && s->secured)
		buf_append_str(text, "\nREQUIRETLS");
	if (o->auth && s->secured && !s->authenticated)
		buf_printf(text, "\nAUTH %.*s", SPAN_ARG(o->auth_mechanisms));
	buf_printf(
	    text, "\nLIMITS RCPTMAX=%" PRIu32 "\nHELP", o->recipients_max);
}

static void
on_ehlo(struct smtp_server *s, struct span argument)
{
	if (!accept_hello(s, argument))
		return;
	hello(s, argument, true);
	struct buf text = BUF_EMPTY;
	buf_append(&text, s->options.hostname);
	append_keywords(s, &text);
	server_say(s, &(struct reply){ .code = 250, .text = buf_span(&text) });
	buf_done(&text);
}

/* RFC 3207 §4 */
static void
on_starttls(struct smtp_server *s, struct span argument)
{
	(void)argument;
	if (s->secured) {
		server_fault(s, &REPLY(503, 5, 5, 1, "TLS is already on"));
		return;
	}
	if (!s->options.starttls) {
		server_fault(s, &REPLY(502, 5, 5, 1, "TLS is not offered"));
		return;
	}
	server_say(s, &REPLY(220, 2, 0, 0, "go ahead with TLS"));
	server_emit(
	    s, (struct smtp_server_event){ .type = SMTP_SERVER_STARTTLS });
	server_enter(s, STEP_TLS);
}

static void
on_mail(struct smtp_server *s, struct span argument)
{
	if (s->options.auth_required && !s->authenticated) {
		/* RFC 4954 §6 */
		server_fault(
		    s, &REPLY(530, 5, 7, 0, "authentication is required"));
		return;
	}
	if (!server_count_idle(s))
		return;
	if (s->arena == NULL)
		s->arena = arena_new();
	arena_reset(s->arena);
	struct reply fault;
	if (command_parse_mail(argument, ADDRESS_ALLOW_LITERAL, s->arena,
		&s->mail, &fault) < 0) {
		server_fault(s, &fault);
		return;
	}
	/* RFC 8689 §4.1: only where it was offered. */
	if (s->mail.requiretls && !(s->options.requiretls && s->secured)) {
		server_fault(
		    s, &REPLY(555, 5, 5, 4, "REQUIRETLS is not offered here"));
		return;
	}
	if (s->options.size_max != 0 && s->mail.size > s->options.size_max) {
		/* RFC 1870 §6.1 */
		server_say(s, &REPLY(552, 5, 3, 4, "the message is too big"));
		return;
	}
	s->accepted = s->refused = 0;
	server_emit(s, (struct smtp_server_event){
			   .type = SMTP_SERVER_MAIL, .mail = &s->mail });
	server_enter(s, STEP_MAIL_ANSWER);
}

static void
on_rcpt(struct smtp_server *s, struct span argument)
{
	/* Refused ones are counted too: each costs memory until the end of
	 * the transaction. */
	if (s->accepted >= s->options.recipients_max ||
	    s->refused >= s->options.recipients_max) {
		/* RFC 5321 §4.5.3.1.10 */
		server_say(s, &REPLY(452, 4, 5, 3, "too many recipients"));
		return;
	}
	int flags = s->mail.utf8 ? ADDRESS_ALLOW_UTF8 : 0;
	if (s->options.allow_literals)
		flags |= ADDRESS_ALLOW_LITERAL;
	struct reply fault;
	if (command_parse_rcpt(argument, flags, s->arena, &s->rcpt, &fault) <
	    0) {
		s->refused++;
		server_fault(s, &fault);
		return;
	}
	server_emit(s, (struct smtp_server_event){
			   .type = SMTP_SERVER_RCPT, .rcpt = &s->rcpt });
	server_enter(s, STEP_RCPT_ANSWER);
}

static void
on_rset(struct smtp_server *s, struct span argument)
{
	(void)argument;
	if (!server_count_idle(s))
		return;
	server_reset(s);
	if ((STEP_BIT(s->step) &
		(STEP_BIT(STEP_ENVELOPE) | STEP_BIT(STEP_CHUNKS))) != 0)
		server_enter(s, STEP_READY);
	server_say(s, &REPLY(250, 2, 0, 0, "forgotten"));
}

static void
on_noop(struct smtp_server *s, struct span argument)
{
	(void)argument;
	if (server_count_idle(s))
		server_say(s, &REPLY(250, 2, 0, 0, "ok"));
}

/* RFC 5321 §3.5.3: 252 neither confirms nor denies. */
static void
on_vrfy(struct smtp_server *s, struct span argument)
{
	if (argument.len == 0) {
		server_fault(s, &REPLY(501, 5, 5, 4, "a name must follow"));
		return;
	}
	if (server_count_idle(s))
		server_say(s,
		    &REPLY(252, 2, 0, 0, "send mail to it, and you will know"));
}

static void
on_expn(struct smtp_server *s, struct span argument)
{
	(void)argument;
	if (server_count_idle(s))
		server_say(
		    s, &REPLY(502, 5, 5, 1, "lists are not expanded here"));
}

static void
on_help(struct smtp_server *s, struct span argument)
{
	(void)argument;
	if (!server_count_idle(s))
		return;
	static const struct reply help = REPLY(214, 2, 0, 0,
	    "commands: EHLO HELO LHLO STARTTLS AUTH MAIL RCPT DATA BDAT\n"
	    "RSET NOOP VRFY EXPN HELP QUIT (RFC 5321)");
	server_say(s, &help);
}

static void
on_quit(struct smtp_server *s, struct span argument)
{
	(void)argument;
	server_close(s, &REPLY(221, 2, 0, 0, "goodbye"), SPAN("quit"));
}

enum {
	GREETED = STEP_BIT(STEP_HELO),
	READY = STEP_BIT(STEP_READY),
	ENVELOPE = STEP_BIT(STEP_ENVELOPE),
	CHUNKS = STEP_BIT(STEP_CHUNKS),
	IN_TRANSACTION = ENVELOPE | CHUNKS,
	ANYWHERE = GREETED | READY | IN_TRANSACTION,
};

/* In the order of their frequency. */
/* clang-format off */
static const struct verb verbs[] = {
	{ { "RCPT", 4 },     BOTH,      false, ENVELOPE,        on_rcpt,      "MAIL must come before, and no data" },
	{ { "MAIL", 4 },     BOTH,      false, READY,           on_mail,      "a greeting must come before, and no open MAIL" },
	{ { "DATA", 4 },     BOTH,      true,  ENVELOPE,        body_on_data, "MAIL and RCPT must come before, and no BDAT" },
	{ { "BDAT", 4 },     BOTH,      false, ANYWHERE,        body_on_bdat, "" },
	{ { "QUIT", 4 },     BOTH,      true,  ANYWHERE,        on_quit,      "" },
	{ { "EHLO", 4 },     SMTP_ONLY, false, ANYWHERE,        on_ehlo,      "" },
	{ { "LHLO", 4 },     LMTP_ONLY, false, ANYWHERE,        on_ehlo,      "" },
	{ { "RSET", 4 },     BOTH,      true,  ANYWHERE,        on_rset,      "" },
	{ { "AUTH", 4 },     BOTH,      false, READY,           auth_on_auth, "a greeting must come before, and no open MAIL" },
	{ { "STARTTLS", 8 }, BOTH,      true,  GREETED | READY, on_starttls,  "not while MAIL is open" },
	{ { "HELO", 4 },     SMTP_ONLY, false, ANYWHERE,        on_helo,      "" },
	{ { "NOOP", 4 },     BOTH,      false, ANYWHERE,        on_noop,      "" },
	{ { "VRFY", 4 },     BOTH,      false, ANYWHERE,        on_vrfy,      "" },
	{ { "EXPN", 4 },     BOTH,      false, ANYWHERE,        on_expn,      "" },
	{ { "HELP", 4 },     BOTH,      false, ANYWHERE,        on_help,      "" },
};

/* clang-format on */

static const struct verb *
find_verb(struct span name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (span_eq_nocase(name, verbs[i].name))
			return &verbs[i];
	}
	return NULL;
}

/* A browser led here by a web page (cross-protocol attack): its body could
 * hold commands. */
static bool
is_web_method(struct span name)
{
	static const char *const methods[] = { "GET", "POST", "PUT", "HEAD",
		"OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE", "PRI" };
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (span_eq(name, span_of(methods[i])))
			return true;
	}
	return false;
}

static void
refuse_unknown(struct smtp_server *s, struct span name)
{
	if (is_web_method(name)) {
		server_close(s, &REPLY(521, 5, 5, 1, "this is a mail server"),
		    SPAN("HTTP on a mail port"));
		return;
	}
	server_fault(s, &REPLY(500, 5, 5, 1, "no such command"));
}

static void
run_command(struct smtp_server *s, struct span line)
{
	struct command c = command_split(line);
	const struct verb *verb = find_verb(c.verb);
	if (verb == NULL) {
		refuse_unknown(s, c.verb);
		return;
	}
	if (verb->dialect == (s->options.lmtp ? SMTP_ONLY : LMTP_ONLY)) {
		server_fault(
		    s, s->options.lmtp
			   ? &REPLY(500, 5, 5, 1, "this is LMTP: say LHLO")
			   : &REPLY(500, 5, 5, 1, "this is SMTP: say EHLO"));
		return;
	}
	if ((verb->steps & STEP_BIT(s->step)) == 0) {
		struct reply order = REPLY(503, 5, 5, 1, "");
		order.text = span_of(verb->order);
		server_fault(s, &order);
		return;
	}
	if (verb->bare && c.argument.len > 0) {
		server_fault(
		    s, &REPLY(501, 5, 5, 4, "nothing may follow this command"));
		return;
	}
	verb->handle(s, c.argument);
}

bool
verbs_refuse_line(struct smtp_server *s, enum line_outcome outcome)
{
	if (outcome == LINE_TOO_LONG) {
		server_fault(s, &REPLY(500, 5, 5, 2, "the line is too long"));
		return true;
	}
	if (outcome == LINE_BROKEN) {
		server_close(s,
		    &REPLY(
			521, 5, 5, 2, "bare CR, bare LF or NUL in a command"),
		    SPAN("bare CR, bare LF or NUL in a command"));
		return true;
	}
	return false;
}

bool
verbs_take_command(struct smtp_server *s, struct span *in)
{
	enum line_outcome outcome = line_take(&s->line, in, false);
	if (outcome == LINE_MORE)
		return false;
	if (!verbs_refuse_line(s, outcome))
		run_command(s, s->line.text);
	return true;
}
