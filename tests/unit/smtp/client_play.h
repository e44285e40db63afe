/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A stage for the client session: a scripted server, a driver that does what
 * the events ask, and a log of what happened. A script is a list of rows: what
 * the client must say next, and what the server then says. A '*' at the end of
 * the former matches anything behind; a NULL for the latter is silence. Rows
 * that no line starts:
 *
 *	CONNECT   before anything
 *	TLS       the handshake: "ok", or why it failed
 *	BODY      the driver stops in the middle of the body and the server talks
 *	IDLE      the session is ready; the server talks before the next command
 *
 * Server words that are acts: CLOSE breaks the connection.
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

#include "base/arena.h"
#include "base/buf.h"
#include "smtp/client.h"
#include "smtp/dots.h"

#define CLOSE "CLOSE"
#define PLAY_ROWS_MAX 40

struct play_row {
	const char *on, *say;
};

struct play {
	struct smtp_client_options options;
	const struct smtp_client_transaction *const *transactions; /* to NULL */
	struct span initial; /* what the driver answers to AUTH */
	struct span answer; /* and to challenges */
	size_t split; /* octets per piece of the server's talk; 0: all */
	size_t break_after; /* octets of the server's talk; 0: never */
	bool body_fails;
	bool whole; /* play_expect does not cut the server's talk */
	bool lenient; /* rows that the client leaves out are passed over */
	const struct play_row *row;

	struct smtp_client *c;
	const struct smtp_client_transaction *current;
	struct buf to_server, to_client, log, body_seen;
	struct arena *arena;
	size_t chunk_left, heard;
	bool in_body, closed, broken, stuck;
};

static const char play_body[] = "Subject: x\r\n\r\n.hidden\r\nhello\r\n";
#define PLAY_BODY_SIZE (sizeof(play_body) - 1)

static inline void
play_say(struct play *p, const char *say)
{
	if (say == NULL)
		return;
	if (strcmp(say, CLOSE) == 0)
		p->broken = true;
	else
		buf_append_str(&p->to_client, say);
}

static inline bool
play_row_is(const struct play *p, const char *on)
{
	return p->row->on != NULL && strcmp(p->row->on, on) == 0;
}

static inline void
play_hear(struct play *p, struct span line)
{
	while (p->lenient && p->row->on != NULL &&
	       !span_eq(line, span_of(p->row->on)))
		p->row++;
	const char *on = p->row->on;
	struct span want = span_of(on);
	bool open_end = want.len > 1 && want.ptr[want.len - 1] == '*';
	if (open_end)
		want.len--;
	if (on == NULL ||
	    !(open_end ? span_starts(line, want) : span_eq(line, want))) {
		buf_printf(&p->log, "?? %.*s, not %s\n", SPAN_ARG(line),
		    on != NULL ? on : "anything");
		p->closed = true;
		return;
	}
	uint64_t n;
	if (span_starts(line, SPAN("BDAT ")) &&
	    span_to_u64(span_slice(line, 5, span_find(span_skip(line, 5), ' ')),
		UINT64_MAX, &n))
		p->chunk_left = (size_t)n;
	if (p->chunk_left > 0)
		return; /* answered when the chunk is in */
	const char *say = p->row->say;
	p->row++;
	play_say(p, say);
	p->in_body =
	    say != NULL && span_eq(line, SPAN("DATA")) && say[0] == '3';
}

static inline void
play_hear_chunk(struct play *p)
{
	struct span in = buf_span(&p->to_server);
	size_t n = in.len < p->chunk_left ? in.len : p->chunk_left;
	buf_append(&p->body_seen, span_slice(in, 0, n));
	buf_consume(&p->to_server, n);
	p->chunk_left -= n;
	if (p->chunk_left > 0)
		return;
	play_say(p, p->row->say);
	p->row++;
}

/* The server reads what it can; false when it needs more. */
static inline bool
play_serve(struct play *p)
{
	if (p->closed || buf_size(&p->to_server) == 0)
		return false;
	if (p->chunk_left > 0) {
		play_hear_chunk(p);
		return true;
	}
	struct span in = buf_span(&p->to_server);
	size_t end = span_search(in, SPAN("\r\n"));
	if (end == SIZE_MAX)
		return false;
	struct span line = span_slice(in, 0, end);
	if (p->in_body && !span_eq(line, SPAN(".")))
		buf_append(&p->body_seen, span_slice(in, 0, end + 2));
	else
		play_hear(p, line);
	buf_consume(&p->to_server, end + 2);
	return true;
}

static inline void
play_flush(struct play *p)
{
	struct span out = smtp_client_output(p->c);
	buf_append(&p->to_server, out);
	smtp_client_sent(p->c, out.len);
}

static inline void
play_log_fates(struct play *p)
{
	static const char *const kinds[] = { "none", "delivered", "temporary",
		"permanent" };
	for (size_t i = 0; i < p->current->rcpt_count; i++) {
		const struct smtp_client_fate *f = smtp_client_fate(p->c, i);
		buf_printf(&p->log, "%zu %s %s", i, kinds[f->kind],
		    smtp_client_step_name(f->step));
		buf_append_char(&p->log, ' ');
		buf_append(&p->log, reply_format(&f->reply, p->arena));
		buf_append_str(&p->log, f->unknown ? " unknown" : "");
		buf_append_str(&p->log, f->relayed_without_dsn ? " nodsn" : "");
		buf_append_str(&p->log, f->local ? " local" : "");
		buf_append_char(&p->log, '\n');
	}
}

static inline void
play_body_event(struct play *p, bool dot_stuff)
{
	struct span body = span_from(play_body, PLAY_BODY_SIZE);
	buf_append_str(&p->log, dot_stuff ? "body dots\n" : "body chunk\n");
	play_flush(p);
	if (p->body_fails) {
		smtp_client_body_failed(p->c);
		return;
	}
	while (play_serve(p))
		;
	if (p->chunk_left > 0 && p->row[1].on != NULL &&
	    strcmp(p->row[1].on, "BODY") == 0)
		p->row++;
	if (play_row_is(p, "BODY")) {
		buf_append(&p->to_server, span_slice(body, 0, 7));
		play_say(p, p->row->say);
		p->row++;
		return;
	}
	if (dot_stuff) {
		struct dots dots = { 0 };
		dots_stuff(&dots, body, &p->to_server);
	} else {
		buf_append(&p->to_server, body);
	}
	smtp_client_body_sent(p->c);
}

static inline void
play_ready(struct play *p)
{
	buf_append_str(&p->log, "ready\n");
	if (play_row_is(p, "IDLE")) {
		play_say(p, p->row->say);
		p->row++;
		if (p->broken || buf_size(&p->to_client) > 0)
			return;
	}
	p->current = *p->transactions;
	if (p->current == NULL) {
		smtp_client_quit(p->c);
		return;
	}
	p->transactions++;
	smtp_client_start(p->c, p->current);
}

static inline void
play_tls(struct play *p)
{
	buf_append_str(&p->log, "starttls\n");
	buf_clear(&p->to_client);
	assert_true(play_row_is(p, "TLS"));
	p->row++;
	smtp_client_secured(p->c);
}

static inline void
play_closed(struct play *p, const struct smtp_client_event *e)
{
	buf_printf(&p->log, "closed %s", smtp_client_step_name(e->step));
	if (e->reply != NULL) {
		buf_append_char(&p->log, ' ');
		buf_append(&p->log, reply_format(e->reply, p->arena));
	}
	buf_append_str(&p->log, e->local ? " local\n" : "\n");
	p->closed = true;
}

static inline void
play_event(struct play *p, const struct smtp_client_event *e)
{
	switch (e->type) {
	case SMTP_CLIENT_NONE:
		break;
	case SMTP_CLIENT_STARTTLS:
		play_tls(p);
		break;
	case SMTP_CLIENT_AUTH:
		buf_printf(&p->log, "auth %.*s\n", SPAN_ARG(e->mechanism));
		smtp_client_auth_response(p->c, p->initial);
		break;
	case SMTP_CLIENT_AUTH_CHALLENGE:
		buf_printf(&p->log, "challenge %.*s\n", SPAN_ARG(e->text));
		smtp_client_auth_response(p->c, p->answer);
		break;
	case SMTP_CLIENT_READY:
		play_ready(p);
		break;
	case SMTP_CLIENT_BODY:
		play_body_event(p, e->dot_stuff);
		break;
	case SMTP_CLIENT_BODY_ABORT:
		buf_printf(&p->log, "abort %.*s\n", SPAN_ARG(e->text));
		break;
	case SMTP_CLIENT_DONE:
		buf_append_str(&p->log, "done\n");
		play_log_fates(p);
		break;
	case SMTP_CLIENT_CLOSED:
		play_closed(p, e);
		break;
	}
}

/* Feeds one piece and does all that it causes. */
static inline bool
play_feed(struct play *p)
{
	size_t size = buf_size(&p->to_client);
	if (p->split > 0 && size > p->split)
		size = p->split;
	if (p->break_after > 0 && p->heard == p->break_after) {
		buf_clear(&p->to_client);
		smtp_client_broken(p->c, SPAN("gone"));
		p->break_after = 0;
		size = 0;
	}
	p->heard += size;
	struct span rest = span_slice(buf_span(&p->to_client), 0, size);
	bool happened = size > 0;
	for (;;) {
		struct smtp_client_event e;
		size_t n = smtp_client_feed(p->c, rest, &e);
		rest = span_skip(rest, n);
		/* An event may clear the rest (STARTTLS). */
		if (buf_size(&p->to_client) > 0)
			buf_consume(&p->to_client, n);
		if (e.type == SMTP_CLIENT_NONE)
			break;
		happened = true;
		size_t before = buf_size(&p->to_client);
		play_event(p, &e);
		if (p->closed || buf_size(&p->to_client) != before)
			break; /* the buffer moved: begin with a fresh piece */
	}
	return happened;
}

static inline void
play_run(struct play *p)
{
	p->arena = arena_new();
	p->c = smtp_client_new(&p->options);
	if (play_row_is(p, "CONNECT")) {
		play_say(p, p->row->say);
		p->row++;
	}
	while (!p->closed) {
		bool happened = play_feed(p);
		if (p->closed)
			break;
		play_flush(p);
		while (play_serve(p))
			happened = true;
		if (p->broken && buf_size(&p->to_client) == 0) {
			smtp_client_broken(p->c, SPAN("gone"));
			p->broken = false;
			happened = true;
		}
		if (!happened) {
			p->stuck = true;
			buf_append_str(&p->log, "stuck\n");
			break;
		}
	}
	if (p->row->on != NULL && !p->broken)
		buf_printf(&p->log, "not said: %s\n", p->row->on);
}

static inline void
play_done(struct play *p)
{
	smtp_client_free(&p->c);
	arena_free(&p->arena);
	buf_done(&p->to_server);
	buf_done(&p->to_client);
	buf_done(&p->log);
	buf_done(&p->body_seen);
}

/* Plays it with the server's talk whole and cut in several ways; each time the
 * log must be the expected one. */
static inline void
play_expect(const struct play *scene, const char *expected, const char *name)
{
	static const size_t splits[] = { 0, 1, 2, 3, 5, 11 };
	size_t count = scene->whole ? 1 : sizeof(splits) / sizeof(splits[0]);
	for (size_t i = 0; i < count; i++) {
		struct play p = *scene;
		p.split = splits[i];
		play_run(&p);
		if (strcmp(buf_cstring(&p.log), expected) != 0)
			print_error("# %s, split %zu\n", name, p.split);
		assert_string_equal(buf_cstring(&p.log), expected);
		play_done(&p);
	}
}
