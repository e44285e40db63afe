/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server session: its steps, its replies and its public face. What each
 * step and event means is drawn in README.md; the table below is the law, and
 * server_enter holds every change of step to it.
 *
 * Invariants: an answer is due exactly in the *_ANSWER and COMMIT steps, and
 * then no input is taken. `transaction` is true from MAIL's acceptance until
 * END is answered or RESET is emitted; every transaction ends in one of the
 * two, or in CLOSE with a RESET before it. Output grows only by replies, whose
 * number per input octet is bounded; message bytes are never kept.
 */
#include "base/bug.h"
#include "base/mem.h"
#include "smtp/internal.h"

#include <stdio.h>
#include <string.h>

enum { RECIPIENTS_MAX_DEFAULT = 1000 };

static bool
take_nothing(struct smtp_server *s, struct span *in)
{
	(void)s;
	(void)in;
	return false;
}

static bool
take_and_forget(struct smtp_server *s, struct span *in)
{
	(void)s;
	*in = span_skip(*in, in->len);
	return false;
}

#define B(step) STEP_BIT(STEP_##step)

/* clang-format off */
static const struct {
	const char *name;
	take_fn *take;
	unsigned next;
} steps[STEP_COUNT] = {
	[STEP_GREETING]    = { "greeting",   take_nothing,       B(HELO) },
	[STEP_HELO]        = { "helo",       verbs_take_command, B(READY) | B(TLS) | B(CHUNK) },
	[STEP_READY]       = { "ready",      verbs_take_command, B(TLS) | B(AUTH_ANSWER) | B(MAIL_ANSWER) | B(CHUNK) },
	[STEP_TLS]         = { "tls",        take_nothing,       B(HELO) },
	[STEP_AUTH]        = { "auth",       auth_take_line,     B(AUTH_ANSWER) | B(READY) },
	[STEP_AUTH_ANSWER] = { "auth-check", take_nothing,       B(AUTH) | B(READY) },
	[STEP_MAIL_ANSWER] = { "mail-check", take_nothing,       B(ENVELOPE) | B(READY) },
	[STEP_ENVELOPE]    = { "envelope",   verbs_take_command, B(RCPT_ANSWER) | B(DATA) | B(CHUNK) | B(READY) },
	[STEP_RCPT_ANSWER] = { "rcpt-check", take_nothing,       B(ENVELOPE) },
	[STEP_DATA]        = { "data",       body_take_data,     B(COMMIT) | B(READY) },
	[STEP_CHUNK]       = { "chunk",      body_take_chunk,    B(CHUNKS) | B(COMMIT) | B(HELO) | B(READY) | B(ENVELOPE) },
	[STEP_CHUNKS]      = { "chunks",     verbs_take_command, B(CHUNK) | B(READY) },
	[STEP_COMMIT]      = { "commit",     take_nothing,       B(READY) },
	[STEP_CLOSED]      = { "closed",     take_and_forget,    0 },
};

/* clang-format on */

const char *
server_step_name(enum step step)
{
	return steps[step].name;
}

unsigned
server_step_next(enum step step)
{
	return step == STEP_CLOSED ? 0 : steps[step].next | B(CLOSED);
}

void
server_enter(struct smtp_server *s, enum step step)
{
	BUG_UNLESS((server_step_next(s->step) & STEP_BIT(step)) != 0);
	s->step = step;
}

void
server_emit(struct smtp_server *s, struct smtp_server_event event)
{
	BUG_UNLESS(s->event_count < EVENTS_MAX);
	unsigned at = (s->event_first + s->event_count++) % EVENTS_MAX;
	s->events[at] = event;
}

void
server_say(struct smtp_server *s, const struct reply *reply)
{
	reply_append(reply, &s->output);
}

void
server_reset(struct smtp_server *s)
{
	if (!s->transaction)
		return;
	s->transaction = false;
	server_emit(s, (struct smtp_server_event){ .type = SMTP_SERVER_RESET });
}

void
server_close(struct smtp_server *s, const struct reply *reply, struct span why)
{
	if (reply != NULL)
		server_say(s, reply);
	server_reset(s);
	server_emit(s, (struct smtp_server_event){
			   .type = SMTP_SERVER_CLOSE, .text = why });
	server_enter(s, STEP_CLOSED);
}

void
server_fault(struct smtp_server *s, const struct reply *reply)
{
	server_say(s, reply);
	s->errors++;
	if (s->options.errors_max == 0 || s->errors < s->options.errors_max)
		return;
	server_close(s, &REPLY(421, 4, 7, 0, "too many errors"),
	    SPAN("too many errors"));
}

bool
server_count_idle(struct smtp_server *s)
{
	s->idle_commands++;
	if (s->options.idle_commands_max == 0 ||
	    s->idle_commands <= s->options.idle_commands_max)
		return true;
	server_close(s, &REPLY(421, 4, 7, 0, "too many commands without mail"),
	    SPAN("too many commands without mail"));
	return false;
}

/* The options' spans may die with their maker: keeps a copy of the bytes. */
static void
keep_names(struct smtp_server *s)
{
	struct span *spans[] = { &s->options.hostname, &s->options.banner,
		&s->options.auth_mechanisms };
	size_t total = 1;
	for (size_t i = 0; i < 3; i++)
		total += spans[i]->len;
	char *to = s->names = mem_alloc(total);
	for (size_t i = 0; i < 3; i++) {
		if (spans[i]->len > 0)
			memcpy(to, spans[i]->ptr, spans[i]->len);
		spans[i]->ptr = to;
		to += spans[i]->len;
	}
}

struct smtp_server *
smtp_server_new(const struct smtp_server_options *options)
{
	struct smtp_server *s = MEM_NEW(struct smtp_server);
	s->options = *options;
	keep_names(s);
	if (s->options.recipients_max == 0)
		s->options.recipients_max = RECIPIENTS_MAX_DEFAULT;
	s->secured = options->secured;
	s->line.normalise = options->normalise_newlines;
	s->framer.normalise = options->normalise_newlines;
	s->framer.line_max = options->header_line_max;
	return s;
}

void
smtp_server_free(struct smtp_server **s)
{
	if (*s == NULL)
		return;
	mem_free((*s)->names);
	arena_free(&(*s)->arena);
	buf_done(&(*s)->line.buf);
	buf_done(&(*s)->framer.scratch);
	buf_done(&(*s)->output);
	buf_done(&(*s)->farewell);
	mem_free(*s);
	*s = NULL;
}

/* RFC 5321 §4.2: the host name comes first, "ESMTP" invites EHLO. */
void
smtp_server_greet(struct smtp_server *s, const struct reply *refusal)
{
	BUG_UNLESS(s->step == STEP_GREETING);
	if (refusal != NULL) {
		server_close(s, refusal, SPAN("refused at the greeting"));
		return;
	}
	struct buf text = BUF_EMPTY;
	buf_append(&text, s->options.hostname);
	buf_append(&text, s->options.lmtp ? SPAN(" LMTP") : SPAN(" ESMTP"));
	if (s->options.banner.len > 0)
		buf_append_char(&text, ' ');
	buf_append(&text, s->options.banner);
	struct reply greeting = { .code = 220, .text = buf_span(&text) };
	server_say(s, &greeting);
	buf_done(&text);
	server_enter(s, STEP_HELO);
}

size_t
smtp_server_feed(
    struct smtp_server *s, struct span in, struct smtp_server_event *ret_event)
{
	struct span rest = in;
	while (s->event_count == 0 && steps[s->step].take(s, &rest))
		continue;
	*ret_event = (struct smtp_server_event){ .type = SMTP_SERVER_NONE };
	if (s->event_count > 0) {
		*ret_event = s->events[s->event_first];
		s->event_first = (s->event_first + 1) % EVENTS_MAX;
		s->event_count--;
	}
	return in.len - rest.len;
}

/* 421 and 521 are the replies that announce a closing (RFC 5321 §3.8,
 * RFC 7504). */
static bool
closes(const struct reply *reply)
{
	return reply->code == 421 || reply->code == 521;
}

static void
answer_mail(struct smtp_server *s, const struct reply *reply)
{
	s->transaction = reply_is_positive(reply);
	server_enter(s, s->transaction ? STEP_ENVELOPE : STEP_READY);
}

static void
answer_rcpt(struct smtp_server *s, const struct reply *reply)
{
	if (reply_is_positive(reply))
		s->accepted++;
	else
		s->refused++;
	server_enter(s, STEP_ENVELOPE);
}

static void
finish_commit(struct smtp_server *s)
{
	s->transaction = false;
	s->idle_commands = 0;
	server_enter(s, STEP_READY);
	if (buf_size(&s->farewell) == 0)
		return;
	buf_append(&s->output, buf_span(&s->farewell));
	server_close(s, NULL, SPAN("terminated"));
}

void
smtp_server_answer(struct smtp_server *s, const struct reply *reply)
{
	if (s->step == STEP_CLOSED)
		return; /* a late answer after smtp_server_terminate */
	uint32_t copies = 1;
	if (s->step == STEP_MAIL_ANSWER) {
		answer_mail(s, reply);
	} else if (s->step == STEP_RCPT_ANSWER) {
		answer_rcpt(s, reply);
	} else {
		BUG_UNLESS(s->step == STEP_COMMIT);
		copies = s->options.lmtp ? s->accepted : 1;
	}
	for (uint32_t i = 0; i < copies; i++)
		server_say(s, reply);
	if (s->step == STEP_COMMIT)
		finish_commit(s);
	if (closes(reply) && s->step != STEP_CLOSED)
		server_close(s, NULL, SPAN("closed by our reply"));
}

/* RFC 3207 §4.2: nothing that was said in the clear is remembered. */
void
smtp_server_secured(struct smtp_server *s)
{
	BUG_UNLESS(s->step == STEP_TLS);
	s->secured = true;
	s->authenticated = false;
	s->extended = false;
	line_reset(&s->line);
	server_enter(s, STEP_HELO);
}

void
smtp_server_use_mechanisms(struct smtp_server *s, struct span auth_mechanisms)
{
	char *old = s->names;

	s->options.auth_mechanisms = auth_mechanisms;
	keep_names(s);
	mem_free(old);
}

void
smtp_server_terminate(struct smtp_server *s, const struct reply *reply)
{
	if (s->step == STEP_CLOSED)
		return;
	if (s->step == STEP_COMMIT) {
		/* The message's own answer must come first. */
		buf_clear(&s->farewell);
		reply_append(reply, &s->farewell);
		return;
	}
	/* During a handshake there is no channel to speak on. */
	server_close(s, s->step == STEP_TLS ? NULL : reply, SPAN("terminated"));
}

struct span
smtp_server_output(const struct smtp_server *s)
{
	return buf_span(&s->output);
}

void
smtp_server_sent(struct smtp_server *s, size_t n)
{
	buf_consume(&s->output, n);
}

bool
smtp_server_in_transaction(const struct smtp_server *s)
{
	return s->transaction;
}

bool
smtp_server_waits_for_answer(const struct smtp_server *s)
{
	const unsigned waiting =
	    B(AUTH_ANSWER) | B(MAIL_ANSWER) | B(RCPT_ANSWER) | B(COMMIT);
	return (waiting & STEP_BIT(s->step)) != 0;
}

const char *
smtp_server_step(const struct smtp_server *s)
{
	return steps[s->step].name;
}

struct span
smtp_server_protocol(const struct smtp_server *s)
{
	/* By utf8, lmtp, secured, authenticated. */
	static const char *const names[2][2][2][2] = {
		{ { { "ESMTP", "ESMTPA" }, { "ESMTPS", "ESMTPSA" } },
		    { { "LMTP", "LMTPA" }, { "LMTPS", "LMTPSA" } } },
		{ { { "UTF8SMTP", "UTF8SMTPA" },
		      { "UTF8SMTPS", "UTF8SMTPSA" } },
		    { { "UTF8LMTP", "UTF8LMTPA" },
			{ "UTF8LMTPS", "UTF8LMTPSA" } } },
	};
	if (!s->extended && !s->secured && !s->authenticated)
		return SPAN("SMTP");
	/* Right from the MAIL event on: its answer may need it. */
	bool utf8 =
	    s->mail.utf8 && (s->transaction || s->step == STEP_MAIL_ANSWER);
	return span_of(
	    names[utf8][s->options.lmtp][s->secured][s->authenticated]);
}
