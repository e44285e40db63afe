/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A driver for server sessions in tests: answers events by the recipient's
 * local part, keeps what happened as text. "no@…" is refused for good,
 * "later@…" for now, "bye@…" with 421.
 */

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */

#include "base/buf.h"
#include "base/mem.h"
#include "smtp/server.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

struct rig {
	struct smtp_server *s;
	struct buf events; /* "HELO c|MAIL a@b|RCPT c@d|BODY …|END 4|" */
	struct buf wire; /* all output */
	bool in_body; /* the last event was BODY: pieces are joined */
	bool closed;
	bool hold_end; /* leave END unanswered */
	size_t body_events;
};

static const struct smtp_server_options rig_options = {
	.hostname = { "mx.test", 7 },
	.auth_mechanisms = { "SCRAM-SHA-256 PLAIN LOGIN", 25 },
	.starttls = true,
	.auth = true,
	.size_max = 1000,
	.recipients_max = 5,
	.errors_max = 20,
	.idle_commands_max = 50,
};

static inline void
rig_open(struct rig *r, const struct smtp_server_options *options)
{
	memset(r, 0, sizeof(*r));
	r->s = smtp_server_new(options);
	smtp_server_greet(r->s, NULL);
}

static inline void
rig_close(struct rig *r)
{
	smtp_server_free(&r->s);
	assert_null(r->s);
	buf_done(&r->events);
	buf_done(&r->wire);
}

static inline struct reply
rig_policy(struct span address, struct reply yes)
{
	if (span_starts(address, SPAN("no@")))
		return REPLY(550, 5, 7, 1, "no");
	if (span_starts(address, SPAN("later@")))
		return REPLY(450, 4, 2, 0, "later");
	if (span_starts(address, SPAN("bye@")))
		return REPLY(421, 4, 3, 2, "bye");
	return yes;
}

static inline void
rig_on_mail(struct rig *r, const struct smtp_mail *m)
{
	static const char *const bodies[] = { "", " 8BIT", " BINARY" };
	static const char *const rets[] = { "", " FULL", " HDRS" };
	buf_printf(&r->events, "MAIL %.*s%s%s%s", SPAN_ARG(m->sender.text),
	    bodies[m->body], m->utf8 ? " UTF8" : "", rets[m->ret]);
	if (m->size != 0)
		buf_printf(&r->events, " %llu", (unsigned long long)m->size);
	if (m->envid.len != 0)
		buf_printf(&r->events, " %.*s", SPAN_ARG(m->envid));
	buf_append_char(&r->events, '|');
	struct reply reply =
	    rig_policy(m->sender.text, REPLY(250, 2, 1, 0, "ok"));
	smtp_server_answer(r->s, &reply);
}

static inline void
rig_on_rcpt(struct rig *r, const struct smtp_rcpt *c)
{
	buf_printf(&r->events, "RCPT %.*s", SPAN_ARG(c->recipient.text));
	if (c->notify != 0)
		buf_printf(&r->events, " %u", c->notify);
	if (c->orcpt.len != 0)
		buf_printf(&r->events, " %.*s", SPAN_ARG(c->orcpt));
	buf_append_char(&r->events, '|');
	struct reply reply =
	    rig_policy(c->recipient.text, REPLY(250, 2, 1, 5, "ok"));
	smtp_server_answer(r->s, &reply);
}

/* PLAIN: "Z29vZA==" ("good") is right. LOGIN: two questions, then right. */
static inline void
rig_on_auth(struct rig *r, const struct smtp_server_event *e)
{
	bool first = e->type == SMTP_SERVER_AUTH;
	buf_printf(&r->events, "%s%.*s%s %.*s|", first ? "AUTH " : "AUTH_DATA",
	    SPAN_ARG(e->mechanism), first && !e->has_initial ? " none" : "",
	    SPAN_ARG(e->text));
	if (span_eq(e->text, SPAN("Z29vZA==")))
		smtp_server_auth_done(r->s);
	else if (e->text.len == 0 || span_eq(e->text, SPAN("dXNlcg==")))
		smtp_server_auth_challenge(r->s, SPAN("VXNlcg=="));
	else
		smtp_server_auth_failed(
		    r->s, &REPLY(535, 5, 7, 8, "wrong credentials"));
}

static inline void
rig_on_end(struct rig *r, uint64_t size)
{
	buf_printf(&r->events, "END %llu|", (unsigned long long)size);
	if (!r->hold_end)
		smtp_server_answer(r->s, &REPLY(250, 2, 0, 0, "kept"));
}

static inline void
rig_on_body(struct rig *r, struct span text)
{
	if (!r->in_body)
		buf_append_str(&r->events, "BODY ");
	buf_append(&r->events, text);
	r->in_body = true;
	r->body_events++;
}

/* False: unread input must be dropped. */
static inline bool
rig_on_event(struct rig *r, const struct smtp_server_event *e)
{
	if (e->type == SMTP_SERVER_NONE)
		return true;
	if (e->type == SMTP_SERVER_BODY) {
		assert_true(e->text.len > 0);
		rig_on_body(r, e->text);
		return true;
	}
	if (r->in_body)
		buf_append_char(&r->events, '|');
	r->in_body = false;
	switch (e->type) {
	case SMTP_SERVER_HELO:
		buf_printf(&r->events, "HELO %.*s|", SPAN_ARG(e->text));
		break;
	case SMTP_SERVER_STARTTLS:
		buf_append_str(&r->events, "STARTTLS|");
		smtp_server_secured(r->s);
		return false;
	case SMTP_SERVER_AUTH:
	case SMTP_SERVER_AUTH_DATA:
		rig_on_auth(r, e);
		break;
	case SMTP_SERVER_AUTH_CANCEL:
		buf_append_str(&r->events, "CANCEL|");
		break;
	case SMTP_SERVER_MAIL:
		rig_on_mail(r, e->mail);
		break;
	case SMTP_SERVER_RCPT:
		rig_on_rcpt(r, e->rcpt);
		break;
	case SMTP_SERVER_END:
		rig_on_end(r, e->size);
		break;
	case SMTP_SERVER_RESET:
		buf_append_str(&r->events, "RESET|");
		break;
	case SMTP_SERVER_CLOSE:
		assert_true(e->text.len > 0);
		buf_append_str(&r->events, "CLOSE|");
		r->closed = true;
		return false;
	case SMTP_SERVER_BODY:
	case SMTP_SERVER_NONE:
		break;
	}
	return true;
}

static inline void
rig_drain(struct rig *r)
{
	struct span out = smtp_server_output(r->s);
	buf_append(&r->wire, out);
	smtp_server_sent(r->s, out.len);
	assert_int_equal(smtp_server_output(r->s).len, 0);
}

/* Feeds all of in; the octets that the session left or the driver dropped. */
static inline size_t
rig_feed(struct rig *r, struct span in)
{
	while (!r->closed) {
		struct smtp_server_event e;
		size_t n = smtp_server_feed(r->s, in, &e);
		assert_true(n <= in.len);
		in = span_skip(in, n);
		if (!rig_on_event(r, &e) ||
		    (n == 0 && e.type == SMTP_SERVER_NONE))
			break;
	}
	rig_drain(r);
	return in.len;
}

static inline void
rig_feed_split(struct rig *r, struct span in, size_t piece)
{
	while (in.len > 0 && !r->closed) {
		struct span part = span_slice(in, 0, piece);
		/* A copy of its own size lets the sanitizer see any step
		 * outside the piece. */
		char *copy = span_dup(part);
		rig_feed(r, span_from(copy, part.len));
		mem_free(copy);
		in = span_skip(in, part.len);
	}
}

/* "220 250 550/5.1.1": the last line of each reply. */
static inline const char *
rig_codes(struct rig *r, struct buf *out)
{
	struct span rest = buf_span(&r->wire);
	buf_clear(out);
	while (rest.len > 0) {
		struct span line = span_trim(span_cut(&rest, '\n'));
		assert_true(line.len >= 3);
		if (line.len > 3 && line.ptr[3] == '-')
			continue;
		if (buf_size(out) > 0)
			buf_append_char(out, ' ');
		buf_append(out, span_slice(line, 0, 3));
		struct span text = span_skip(line, 4);
		struct span status = span_cut(&text, ' ');
		if (status.len >= 5 && status.ptr[1] == '.' &&
		    status.ptr[0] == line.ptr[0]) {
			buf_append_char(out, '/');
			buf_append(out, status);
		}
	}
	return buf_cstring(out);
}

/* Opens, says hello unless the options are LMTP's, feeds, compares. NULL: not
 * compared. */
struct dialogue {
	const char *name;
	const char *input;
	const char *codes; /* behind the greeting's and EHLO's replies */
	const char *events; /* behind EHLO's */
	size_t length; /* of input, when it holds NUL */
};

#define RIG_EHLO "EHLO c\r\n"
#define RIG_RCPT RIG_EHLO "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n"

static inline void
rig_check(const struct dialogue *d, const struct smtp_server_options *options)
{
	struct rig r;
	struct buf codes = BUF_EMPTY;
	rig_open(&r, options);
	rig_feed(&r, options->lmtp ? SPAN("LHLO c\r\n") : SPAN(RIG_EHLO));
	buf_clear(&r.events);
	buf_clear(&r.wire);
	size_t length = d->length != 0 ? d->length : strlen(d->input);
	rig_feed(&r, span_from(d->input, length));
	if (d->codes != NULL && strcmp(rig_codes(&r, &codes), d->codes) != 0)
		fail_msg("%s: codes \"%s\", expected \"%s\"", d->name,
		    rig_codes(&r, &codes), d->codes);
	if (d->events != NULL && strcmp(buf_cstring(&r.events), d->events) != 0)
		fail_msg("%s: events \"%s\", expected \"%s\"", d->name,
		    buf_cstring(&r.events), d->events);
	buf_done(&codes);
	rig_close(&r);
}

static inline void
rig_check_all(const struct dialogue *all, size_t count,
    const struct smtp_server_options *options)
{
	for (size_t i = 0; i < count; i++)
		rig_check(&all[i], options);
}
