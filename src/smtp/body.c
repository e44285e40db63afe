/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The message: DATA (RFC 5321 §4.1.1.4) and BDAT (RFC 3030). Bytes pass
 * through as views of the input. A message that must be refused is read to its
 * end without being passed on, so that what follows is still a command; only
 * when its end cannot be known any more does the session end at once.
 */
#include "base/bug.h"
#include "smtp/internal.h"

#include <inttypes.h>
#include <stdio.h>

static void
refuse_message(struct smtp_server *s, const struct reply *reply)
{
	s->refusal = *reply;
	server_reset(s);
}

static bool
is_too_big(const struct smtp_server *s, uint64_t more)
{
	return s->options.size_max != 0 && more > s->options.size_max - s->size;
}

static const struct reply too_big =
    REPLY(552, 5, 3, 4, "the message is too big");

static void
pass_on(struct smtp_server *s, struct span piece)
{
	if (s->refusal.code != 0)
		return;
	if (s->framer.line_too_long) {
		struct reply reply = REPLY(554, 5, 6, 0, "");
		int n = snprintf(s->refusal_text, sizeof(s->refusal_text),
		    "a line of the message is longer than %" PRIu32 " octets",
		    s->framer.line_max);
		BUG_UNLESS(n > 0 && (size_t)n < sizeof(s->refusal_text));
		reply.text = span_from(s->refusal_text, (size_t)n);
		refuse_message(s, &reply);
		return;
	}
	if (is_too_big(s, piece.len)) {
		refuse_message(s, &too_big);
		return;
	}
	if (piece.len == 0)
		return;
	s->size += piece.len;
	server_emit(s, (struct smtp_server_event){
			   .type = SMTP_SERVER_BODY, .text = piece });
}

/* The refusal of a whole message: LMTP wants one reply for each accepted
 * recipient (RFC 2033 §4.2). */
static void
say_refusal(struct smtp_server *s, uint32_t copies)
{
	for (uint32_t i = 0; i < copies; i++)
		server_say(s, &s->refusal);
	s->refusal.code = 0;
}

static uint32_t
replies_due(const struct smtp_server *s)
{
	return s->options.lmtp ? s->accepted : 1;
}

static void
end_message(struct smtp_server *s)
{
	if (s->refusal.code != 0) {
		say_refusal(s, replies_due(s));
		server_enter(s, STEP_READY);
		return;
	}
	server_emit(s, (struct smtp_server_event){
			   .type = SMTP_SERVER_END, .size = s->size });
	server_enter(s, STEP_COMMIT);
}

static void
begin_message(struct smtp_server *s, bool dots)
{
	s->size = 0;
	s->refusal.code = 0;
	framer_begin(&s->framer, dots);
}

static const struct reply *
no_recipients(const struct smtp_server *s)
{
	static const struct reply none = REPLY(503, 5, 5, 1, "RCPT is missing");
	static const struct reply refused =
	    REPLY(554, 5, 5, 1, "no valid recipients");
	return s->refused == 0 ? &none : &refused;
}

void
body_on_data(struct smtp_server *s, struct span argument)
{
	(void)argument;
	if (s->accepted == 0) {
		/* No fault: a pipelining client cannot know. */
		if (server_count_idle(s))
			server_say(s, no_recipients(s));
		return;
	}
	if (s->mail.body == SMTP_BODY_BINARYMIME) {
		/* RFC 3030 §3 */
		server_fault(
		    s, &REPLY(503, 5, 5, 1, "BODY=BINARYMIME needs BDAT"));
		return;
	}
	begin_message(s, true);
	server_enter(s, STEP_DATA);
	server_say(s, &REPLY(354, 0, 0, 0, "send it, then <CRLF>.<CRLF>"));
}

static struct span
describe(enum framer_outcome outcome)
{
	if (outcome == FRAMER_BARE_CR)
		return SPAN("the message has a CR without LF");
	if (outcome == FRAMER_BARE_LF)
		return SPAN("the message has an LF without CR");
	return SPAN("the message has a NUL");
}

bool
body_take_data(struct smtp_server *s, struct span *in)
{
	if (in->len == 0)
		return false;
	struct span piece;
	enum framer_outcome outcome = framer_take(&s->framer, in, &piece);
	if (outcome != FRAMER_MORE && outcome != FRAMER_END) {
		/* Where this message ends is what others might see otherwise:
		 * nothing behind it may be taken for a command. */
		struct reply reply = REPLY(521, 5, 6, 11, "");
		reply.text = describe(outcome);
		server_close(s, &reply, reply.text);
		return true;
	}
	pass_on(s, piece);
	if (outcome == FRAMER_END)
		end_message(s);
	return true;
}

/* Why a chunk cannot be taken, or NULL. */
static const struct reply *
chunk_refusal(const struct smtp_server *s)
{
	static const struct reply order =
	    REPLY(503, 5, 5, 1, "MAIL and RCPT must come before");
	if (!s->transaction)
		return &order;
	return s->accepted == 0 ? no_recipients(s) : NULL;
}

void
body_on_bdat(struct smtp_server *s, struct span argument)
{
	uint64_t size;
	bool last;
	if (command_parse_bdat(argument, &size, &last) < 0) {
		/* Octets that nobody can count follow. */
		server_close(s, &REPLY(521, 5, 5, 4, "BDAT size [LAST]"),
		    SPAN("BDAT without a proper size"));
		return;
	}
	const struct reply *no = chunk_refusal(s);
	if ((no != NULL || (size == 0 && !last)) && !server_count_idle(s))
		return;
	if (no == NULL && s->step == STEP_ENVELOPE)
		begin_message(s, false);
	s->chunk_size = s->chunk_left = size;
	s->chunk_last = last;
	s->chunk_return = STEP_READY;
	s->chunk_replies = 1;
	if (no != NULL) {
		s->refusal = *no;
		s->chunk_return = s->step;
	} else if (last) {
		s->chunk_replies = replies_due(s);
	}
	server_enter(s, STEP_CHUNK);
	if (no == NULL && is_too_big(s, size))
		refuse_message(s, &too_big);
}

static void
end_chunk(struct smtp_server *s)
{
	struct span piece;
	if (s->refusal.code == 0 && s->chunk_last) {
		if (framer_finish(&s->framer, &piece) == FRAMER_BARE_CR) {
			struct reply reply = REPLY(550, 5, 6, 11, "");
			reply.text = describe(FRAMER_BARE_CR);
			refuse_message(s, &reply);
		} else {
			pass_on(s, piece);
		}
	}
	if (s->refusal.code != 0) {
		say_refusal(s, s->chunk_replies);
		server_enter(s, s->chunk_return);
		return;
	}
	if (s->chunk_last) {
		end_message(s);
		return;
	}
	char text[48];
	int n = snprintf(
	    text, sizeof(text), "%" PRIu64 " octets received", s->chunk_size);
	BUG_UNLESS(n > 0 && (size_t)n < sizeof(text));
	struct reply reply = REPLY(250, 2, 0, 0, "");
	reply.text = span_from(text, (size_t)n);
	server_say(s, &reply);
	server_enter(s, STEP_CHUNKS);
}

/* A text chunk's bytes are looked at; its length is known, so a bad one is
 * read politely to its end. */
static void
take_text(struct smtp_server *s, struct span *piece)
{
	struct span body;
	enum framer_outcome outcome = framer_take(&s->framer, piece, &body);
	if (outcome == FRAMER_MORE) {
		pass_on(s, body);
		return;
	}
	struct reply reply = REPLY(550, 5, 6, 11, "");
	reply.text = describe(outcome);
	refuse_message(s, &reply);
}

bool
body_take_chunk(struct smtp_server *s, struct span *in)
{
	if (s->chunk_left == 0) {
		end_chunk(s);
		return true;
	}
	if (in->len == 0)
		return false;
	struct span piece = *in;
	if (piece.len > s->chunk_left)
		piece.len = (size_t)s->chunk_left;
	size_t before = piece.len, taken = before;
	if (s->refusal.code == 0 && s->mail.body == SMTP_BODY_BINARYMIME) {
		pass_on(s, piece);
	} else if (s->refusal.code == 0) {
		take_text(s, &piece);
		taken = before - piece.len;
	}
	*in = span_skip(*in, taken);
	s->chunk_left -= taken;
	return true;
}
