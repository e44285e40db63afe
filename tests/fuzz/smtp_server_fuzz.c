/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "smtp/server.h"

/*
 * Whole server sessions. Two octets choose the options, one seeds the driver,
 * the rest is what the client sends. It is played twice, whole and in pieces
 * of odd sizes, with the same answers: the same codes must be said and the same
 * things happen. On the way every promise of server.h that a driver leans on
 * is checked.
 */

struct play {
	struct smtp_server *s;
	const struct smtp_server_options *options;
	uint32_t random; /* of answers: drawn once per event to answer */
	bool transaction; /* between MAIL's answer and END, RESET */
	bool closed;
	bool exchange; /* an AUTH exchange is open */
	uint32_t accepted; /* recipients of this transaction */
	uint64_t size; /* of BODY events in this transaction */
	char last; /* octet of the body; '\n' at the start */
	bool binary;
	struct buf events, codes;
};

static uint32_t
draw(struct play *p)
{
	p->random = p->random * 1664525u + 1013904223u;
	return p->random >> 16;
}

static struct reply
draw_reply(struct play *p, struct reply yes)
{
	uint32_t n = draw(p) % 16;
	if (n == 0)
		return REPLY(550, 5, 7, 1, "no");
	if (n == 1)
		return REPLY(450, 4, 2, 0, "later\nor never");
	if (n == 2)
		return REPLY(421, 4, 3, 2, "bye");
	return yes;
}

static void
on_body(struct play *p, struct span text)
{
	BUG_UNLESS(p->transaction && text.len > 0);
	p->size += text.len;
	BUG_UNLESS(
	    p->options->size_max == 0 || p->size <= p->options->size_max);
	for (size_t i = 0; i < text.len && !p->binary; i++) {
		BUG_UNLESS(text.ptr[i] != '\0');
		BUG_UNLESS((text.ptr[i] == '\n') == (p->last == '\r'));
		p->last = text.ptr[i];
	}
}

static void
on_end(struct play *p, uint64_t size)
{
	BUG_UNLESS(p->transaction && size == p->size);
	BUG_UNLESS(smtp_server_waits_for_answer(p->s));
	BUG_UNLESS(p->binary || p->last != '\r');
	BUG_UNLESS(p->accepted > 0);
	BUG_UNLESS(p->accepted <= p->options->recipients_max);
	if (draw(p) % 16 == 0)
		smtp_server_terminate(p->s, &REPLY(421, 4, 3, 2, "down"));
	struct reply reply = draw_reply(p, REPLY(250, 2, 0, 0, "kept"));
	p->transaction = false;
	smtp_server_answer(p->s, &reply);
}

static void
on_auth(struct play *p)
{
	BUG_UNLESS(p->options->auth && !p->transaction);
	p->exchange = true;
	uint32_t n = draw(p) % 4;
	if (n == 0)
		smtp_server_auth_done(p->s);
	else if (n == 1)
		smtp_server_auth_failed(p->s, &REPLY(535, 5, 7, 8, "wrong"));
	else
		smtp_server_auth_challenge(p->s, SPAN("QQ=="));
	p->exchange = n > 1;
}

static void
on_mail(struct play *p, const struct smtp_mail *mail)
{
	BUG_UNLESS(!p->transaction);
	p->binary = mail->body == SMTP_BODY_BINARYMIME;
	p->size = 0;
	p->accepted = 0;
	p->last = '\n';
	struct reply reply = draw_reply(p, REPLY(250, 2, 1, 0, "ok"));
	p->transaction = reply_is_positive(&reply);
	smtp_server_answer(p->s, &reply);
}

static void
on_rcpt(struct play *p, const struct smtp_rcpt *rcpt)
{
	BUG_UNLESS(p->transaction && rcpt->recipient.text.len > 0);
	struct reply reply = draw_reply(p, REPLY(250, 2, 1, 5, "ok"));
	p->accepted += reply_is_positive(&reply);
	smtp_server_answer(p->s, &reply);
}

static void
on_event(struct play *p, const struct smtp_server_event *e)
{
	BUG_UNLESS(!p->closed);
	BUG_UNLESS(!p->exchange || e->type == SMTP_SERVER_AUTH_DATA ||
		   e->type == SMTP_SERVER_AUTH_CANCEL ||
		   e->type == SMTP_SERVER_CLOSE);
	if (e->type == SMTP_SERVER_CLOSE)
		buf_append_str(&p->events, "<close>");
	else if (e->type != SMTP_SERVER_BODY)
		buf_printf(&p->events, "<%d %.*s %llu>", e->type,
		    SPAN_ARG(e->text), (unsigned long long)e->size);
	switch (e->type) {
	case SMTP_SERVER_BODY:
		on_body(p, e->text);
		break;
	case SMTP_SERVER_END:
		on_end(p, e->size);
		break;
	case SMTP_SERVER_RESET:
		BUG_UNLESS(p->transaction);
		p->transaction = false;
		break;
	case SMTP_SERVER_CLOSE:
		BUG_UNLESS(!p->transaction);
		p->closed = true;
		break;
	case SMTP_SERVER_STARTTLS:
		BUG_UNLESS(!p->transaction && p->options->starttls);
		smtp_server_secured(p->s);
		break;
	case SMTP_SERVER_AUTH:
		BUG_UNLESS(e->mechanism.len > 0);
		on_auth(p);
		break;
	case SMTP_SERVER_AUTH_DATA:
		BUG_UNLESS(p->exchange);
		on_auth(p);
		break;
	case SMTP_SERVER_AUTH_CANCEL:
		p->exchange = false;
		break;
	case SMTP_SERVER_MAIL:
		on_mail(p, e->mail);
		break;
	case SMTP_SERVER_RCPT:
		on_rcpt(p, e->rcpt);
		break;
	case SMTP_SERVER_HELO:
	case SMTP_SERVER_NONE:
		break;
	}
}

/* Codes, not texts: which of two faults in one message is named may depend on
 * the cut. With line_max even the code may (too long, or something bare). */
static void
read_output(struct play *p)
{
	struct span out = smtp_server_output(p->s);
	size_t len = out.len, shown = p->options->header_line_max ? 1 : 9;
	while (out.len > 0) {
		struct span line = span_cut(&out, '\n');
		BUG_UNLESS(line.len >= 5 && line.len <= 511);
		BUG_UNLESS(line.ptr[line.len - 1] == '\r');
		buf_append(&p->codes, span_slice(line, 0, shown));
	}
	smtp_server_sent(p->s, len);
}

static void
feed(struct play *p, struct span in)
{
	for (;;) {
		struct smtp_server_event e;
		bool in_transaction = smtp_server_in_transaction(p->s);
		size_t n = smtp_server_feed(p->s, in, &e);
		BUG_UNLESS(n <= in.len);
		in = span_skip(in, n);
		if (e.type == SMTP_SERVER_BODY)
			BUG_UNLESS(in_transaction);
		if (e.type != SMTP_SERVER_NONE)
			on_event(p, &e);
		else if (n == 0)
			break;
		read_output(p);
		BUG_UNLESS(smtp_server_step(p->s) != NULL);
		BUG_UNLESS(smtp_server_protocol(p->s).len >= 4);
	}
	read_output(p);
	/* Nobody answers later here: all input must have been taken. */
	BUG_UNLESS(in.len == 0);
}

static void
play(const struct smtp_server_options *o, uint8_t seed, struct span in,
    bool cut, struct buf *ret_story)
{
	struct play p = { .options = o, .random = seed };
	uint32_t cuts = seed;
	p.s = smtp_server_new(o);
	smtp_server_greet(p.s, NULL);
	while (in.len > 0) {
		cuts = cuts * 1664525u + 1013904223u;
		size_t n = cut ? 1 + (cuts >> 16) % 23 : in.len;
		if (n > in.len)
			n = in.len;
		char *copy = mem_dup(in.ptr, n);
		feed(&p, span_from(copy, n));
		mem_free(copy);
		in = span_skip(in, n);
	}
	smtp_server_terminate(p.s, &REPLY(421, 4, 3, 2, "end"));
	feed(&p, SPAN_EMPTY);
	BUG_UNLESS(p.closed);
	smtp_server_free(&p.s);
	/* Their order among each other depends on when the driver writes. */
	buf_append(&p.events, buf_span(&p.codes));
	buf_done(&p.codes);
	*ret_story = p.events;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	if (size < 4 || size > 65536)
		return 0;
	struct smtp_server_options o = {
		.hostname = SPAN("mx.test"),
		.auth_mechanisms = SPAN("SCRAM-SHA-256 PLAIN LOGIN"),
		.lmtp = (bytes[0] & 1) != 0,
		.starttls = (bytes[0] & 2) != 0,
		.auth = (bytes[0] & 4) != 0,
		.auth_required = (bytes[0] & 8) != 0,
		.secured = (bytes[0] & 16) != 0,
		.allow_literals = (bytes[0] & 32) != 0,
		.normalise_newlines = (bytes[0] & 64) != 0,
		.size_max = (bytes[1] & 1) != 0 ? 64 : 0,
		.header_line_max = (bytes[1] & 3) == 2 ? 16 : 0,
		.recipients_max = 1 + (bytes[1] >> 2) % 8,
		.errors_max = (bytes[1] & 32) != 0 ? 5 : 0,
		.idle_commands_max = (bytes[1] & 64) != 0 ? 9 : 0,
	};
	struct span in = span_from(bytes + 3, size - 3);
	struct buf whole, cut;
	play(&o, bytes[2], in, false, &whole);
	play(&o, bytes[2], in, true, &cut);
	BUG_UNLESS(span_eq(buf_span(&whole), buf_span(&cut)));
	buf_done(&whole);
	buf_done(&cut);
	return 0;
}
