/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One client's connection: reads what arrives, feeds the dialogue, writes what
 * it has to say, and ends it when a deadline passes.
 *
 *	PROXY -> HANDSHAKE -> DIALOGUE <-> STARTTLS -> HANDSHAKE
 *	                         \-> CLOSING [-> LINGERING] -> OVER
 *
 * Memory: a session at rest holds no input buffer; reads go into the receiver's
 * scratch, and only what the dialogue could not take yet is kept in `pending`.
 * While an answer is due nothing is read, so pending is at most one scratch.
 * Freed at the end of the turn only: any callback may be on the stack.
 *
 * LINGERING: closing a socket with unread input makes the kernel send a reset,
 * which would throw away the reply that says why. So what the client is still
 * sending is read and dropped for a moment.
 */

#include "base/bug.h"
#include "base/mem.h"
#include "base/time.h"
#include "log/log.h"
#include "receive/internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* Replies nobody reads: past this, nothing more is read from the client. */
#define OUTPUT_MAX ((size_t)64 * 1024)
#define RATE_WINDOW_US US_PER_MIN
/* Time for the last reply, and for what the client sends behind it. */
#define CLOSING_US (10 * US_PER_S)
#define LINGER_US US_PER_S
#define LINGER_BYTES_MAX (UINT64_C(1) << 20)
/* Reads in one turn: others want theirs, too. */
#define READS_PER_TURN 4

static const struct reply stopping_reply =
    REPLY(421, 4, 3, 2, "the service is stopping: try again in a minute");

/* ---- the end ----------------------------------------------------- */

static void
free_session(struct loop_item *item)
{
	struct session *s = LIST_ENTRY(item, struct session, free_item);

	smtp_server_free(&s->smtp);
	stream_free(&s->stream);
	buf_done(&s->pending);
	tls_context_unref(&s->tls);
	config_unref(&s->config);
	mem_free(s);
}

/* Everything but the memory; callbacks on the stack may still look. */
static void
leave(struct session *s)
{
	struct receive_counters *c = shared_counters(s->receiver->shared);

	BUG_UNLESS(s->phase != SESSION_OVER);
	s->phase = SESSION_OVER;
	dialogue_end(s);
	loop_unwatch(&s->watch);
	loop_timer_clear(&s->timer);
	loop_timer_clear(&s->penalty);
	list_remove(&s->link);
	s->receiver->session_count--;
	atomic_fetch_sub(&c->sessions_open, 1);
	if (stream_is_tls(s->stream))
		atomic_fetch_sub(&c->sessions_tls, 1);
	shared_leave(s->receiver->shared, &s->connected);
	LOG(LOG_DEBUG, "receive", "session over", LOG_C("client", s->peer_text),
	    LOG_C("user", s->identity.username), LOG_N("accepted", s->accepted),
	    LOG_N("refused", s->refused));
}

void
session_end(struct session *s)
{
	leave(s);
	s->free_item.run = free_session;
	loop_defer(s->receiver->loop, &s->free_item);
}

/* The service ends. A client amid a command or a message may not be listening,
 * but one that waits for more time than there is should know why. What it has
 * sent is read off: closing a socket with unread input resets it, and the word
 * would be lost. */
static void
say_farewell(struct session *s)
{
	struct receiver *r = s->receiver;
	size_t written, left = LINGER_BYTES_MAX / SCRATCH_SIZE;
	struct span out;

	if (s->phase != SESSION_DIALOGUE)
		return;
	smtp_server_terminate(s->smtp, &stopping_reply);
	out = smtp_server_output(s->smtp);
	struct iovec iov = { .iov_base = (void *)(uintptr_t)out.ptr,
		.iov_len = out.len };
	if (out.len > 0)
		(void)stream_write(s->stream, &iov, 1, &written);
	while (left-- > 0 && recv(stream_fd(s->stream), r->scratch,
				 SCRATCH_SIZE, MSG_DONTWAIT) > 0)
		continue;
}

void
session_cut(struct session *s)
{
	say_farewell(s);
	leave(s);
	free_session(&s->free_item);
}

/* ---- deadlines --------------------------------------------------- */

static bool
in_message(const struct session *s)
{
	return s->message_us != 0;
}

static bool
is_our_move(const struct session *s)
{
	return s->smtp != NULL && smtp_server_waits_for_answer(s->smtp);
}

/* Moves `*due` to the earlier one; remembers what it is for. */
static void
consider(int64_t *due, const char **why, int64_t from_us, int64_t length_us,
    const char *text)
{
	if (length_us <= 0 || from_us + length_us >= *due)
		return;
	*due = from_us + length_us;
	*why = text;
}

/* A session that has lasted long enough may still end its message, which has a
 * deadline of its own. */
static void
consider_dialogue(const struct session *s, int64_t *due, const char **why)
{
	const struct config *c = s->config;

	consider(due, why, s->heard_us, c->limits.idle_us,
	    "nothing arrived for too long");
	if (in_message(s)) {
		consider(due, why, s->message_us, c->limits.message_us,
		    "the message took too long to arrive");
		if (c->limits.message_rate_min > 0)
			consider(due, why, s->rate_us, RATE_WINDOW_US,
			    "the message arrives too slowly");
		return;
	}
	consider(due, why, s->started_us, c->limits.session_us,
	    "this session has lasted long enough: connect again");
	consider(due, why, s->step_us, c->limits.command_us,
	    "no complete command for too long");
}

/* When the client has to have moved on, and what to tell it otherwise. */
static int64_t
next_deadline(const struct session *s, const char **why)
{
	int64_t due = TIME_NEVER;

	switch (s->phase) {
	case SESSION_PROXY:
	case SESSION_HANDSHAKE:
		consider(&due, why, s->step_us, OPENING_US,
		    "the connection was not set up in time");
		break;
	case SESSION_STARTTLS:
	case SESSION_CLOSING:
		consider(&due, why, s->step_us, CLOSING_US,
		    "the last reply was not taken in time");
		break;
	case SESSION_LINGERING:
		consider(&due, why, s->step_us, LINGER_US, "");
		break;
	case SESSION_DIALOGUE:
		if (!is_our_move(s))
			consider_dialogue(s, &due, why);
		break;
	case SESSION_OVER:
		break;
	}
	return due;
}

/* A timer that fires too early looks again: so it is moved only when the
 * deadline has come nearer. */
static void
arm(struct session *s)
{
	const char *why;
	int64_t due = next_deadline(s, &why);

	if (due != TIME_NEVER &&
	    (s->timer.loop == NULL || due < s->timer.due_us))
		loop_timer_set(s->receiver->loop, &s->timer, due);
}

/* A minute is over: a message that kept its pace gets another. */
static bool
kept_pace(struct session *s, int64_t now_us)
{
	uint64_t least = (uint64_t)s->config->limits.message_rate_min *
			 (uint64_t)(RATE_WINDOW_US / US_PER_S);

	if (!in_message(s) || now_us - s->rate_us < RATE_WINDOW_US ||
	    s->rate_bytes < least)
		return false;
	s->rate_us = now_us;
	s->rate_bytes = 0;
	return true;
}

/* ---- writing ----------------------------------------------------- */

/* The last reply is out. Only who is still sending is waited for. */
static void
close_politely(struct session *s)
{
	int fd = stream_fd(s->stream);
	char byte;

	if (!s->lingers && recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0) {
		session_end(s);
		return;
	}
	s->phase = SESSION_LINGERING;
	s->rate_bytes = 0;
	s->step_us = loop_now_us(s->receiver->loop);
	/* Under TLS the end is told by close_notify, when it has come. */
	if (!stream_is_tls(s->stream))
		(void)shutdown(fd, SHUT_WR);
}

/* Drops what still arrives, from beneath TLS too: nothing in it is wanted. */
static void
linger(struct session *s)
{
	struct receiver *r = s->receiver;
	ssize_t n =
	    recv(stream_fd(s->stream), r->scratch, SCRATCH_SIZE, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		s->rate_bytes += (uint64_t)n;
	if (n <= 0 || s->rate_bytes > LINGER_BYTES_MAX)
		session_end(s);
}

/* Writes what there is. False when the session is over. */
static bool
flush(struct session *s)
{
	struct span out;
	size_t written;

	while ((out = smtp_server_output(s->smtp)).len > 0) {
		struct iovec iov = { .iov_base = (void *)(uintptr_t)out.ptr,
			.iov_len = out.len };

		switch (stream_write(s->stream, &iov, 1, &written)) {
		case PROGRESS_DONE:
			if (tap_is_on())
				tap_lines(&s->tap, TAP_OUT,
				    span_slice(out, 0, written));
			smtp_server_sent(s->smtp, written);
			break;
		case PROGRESS_WAIT:
			return true;
		case PROGRESS_CLOSED:
		case PROGRESS_FAILED:
			stream_abort(s->stream);
			session_end(s);
			return false;
		}
	}
	if (s->phase == SESSION_CLOSING)
		close_politely(s);
	else if (s->phase == SESSION_STARTTLS)
		opening_start_tls(s);
	return s->phase != SESSION_OVER;
}

static bool
may_read(const struct session *s)
{
	switch (s->phase) {
	case SESSION_PROXY:
	case SESSION_HANDSHAKE:
	case SESSION_LINGERING:
		return true;
	case SESSION_DIALOGUE:
		return !is_our_move(s) &&
		       smtp_server_output(s->smtp).len <= OUTPUT_MAX;
	case SESSION_STARTTLS:
	case SESSION_CLOSING:
	case SESSION_OVER:
		break;
	}
	return false;
}

void
session_watch(struct session *s)
{
	bool has_output =
	    s->smtp != NULL && smtp_server_output(s->smtp).len > 0;
	bool reads = may_read(s);
	unsigned events = reads ? LOOP_READ : 0U;

	if (s->phase == SESSION_HANDSHAKE)
		events = stream_wants_write(s->stream) ? LOOP_WRITE : LOOP_READ;
	/* Readiness does not announce what TLS has already read: a socket that
	 * can be written wakes us for that, too. */
	else if (has_output || (s->phase == SESSION_DIALOGUE && reads &&
				   (stream_wants_write(s->stream) ||
				       stream_has_pending(s->stream))))
		events |= LOOP_WRITE;
	loop_watch_events(&s->watch, events);
	arm(s);
}

/* ---- reading ----------------------------------------------------- */

static bool
is_body(const char *step)
{
	return strcmp(step, "data") == 0 || strcmp(step, "chunk") == 0;
}

/* What a client said, for the tap: commands, but never a message and never a
 * secret. Behind AUTH, DATA and BDAT may stand what is one of these, so nothing
 * more of the piece is shown; nor is the rest of a line that began in an
 * earlier piece, which could be an AUTH line's. */
static void
tap_commands(const struct session *s, struct span in)
{
	static const char *const hiding[] = { "DATA", "BDAT" };

	if (s->mid_line) {
		tap_lines(&s->tap, TAP_NOTE, SPAN("(the rest of a line)"));
		(void)span_cut(&in, '\n');
	}
	while (in.len > 0) {
		struct span line = span_cut(&in, '\n');

		if (span_starts_nocase(line, SPAN("AUTH"))) {
			tap_lines(&s->tap, TAP_IN, SPAN("AUTH (secret)"));
			return;
		}
		tap_lines(&s->tap, TAP_IN, line);
		for (size_t i = 0; i < 2; i++) {
			if (span_starts_nocase(line, span_of(hiding[i])))
				return;
		}
	}
}

static void
tap_input(struct session *s, const char *step, struct span consumed)
{
	if (consumed.len == 0 || is_body(step)) {
		s->mid_line = s->mid_line && consumed.len == 0;
		return;
	}
	if (tap_is_on() && strcmp(step, "auth") == 0)
		tap_lines(&s->tap, TAP_IN, SPAN("(secret)"));
	else if (tap_is_on())
		tap_commands(s, consumed);
	s->mid_line = consumed.ptr[consumed.len - 1] != '\n';
}

/* Feeds the dialogue until it wants more or an answer is due. Returns what is
 * left. */
static struct span
feed(struct session *s, struct span in)
{
	struct smtp_server_event event;

	for (;;) {
		const char *step = smtp_server_step(s->smtp);
		size_t said = smtp_server_output(s->smtp).len;
		size_t taken = smtp_server_feed(s->smtp, in, &event);

		tap_input(s, step, span_slice(in, 0, taken));
		if (in_message(s))
			s->rate_bytes += taken;
		in = span_skip(in, taken);
		/* A reply, too, tells that a command was complete. */
		if (event.type != SMTP_SERVER_NONE ||
		    smtp_server_output(s->smtp).len > said)
			s->step_us = loop_now_us(s->receiver->loop);
		if (event.type == SMTP_SERVER_NONE)
			return in;
		dialogue_event(s, &event);
		if (s->phase == SESSION_STARTTLS)
			return SPAN_EMPTY; /* CVE-2011-0411: dropped */
		if (s->phase == SESSION_CLOSING) {
			s->lingers = in.len > 0 || is_body(step);
			return SPAN_EMPTY;
		}
	}
}

/* What the dialogue could not take waits in `pending`, which is where it may
 * have been before. */
static void
keep(struct session *s, struct span rest)
{
	size_t had = buf_size(&s->pending);

	if (rest.len == 0)
		buf_done(&s->pending);
	else if (had > 0)
		buf_consume(&s->pending, had - rest.len);
	else
		buf_append(&s->pending, rest);
}

/* Between transactions a draining session ends. */
static void
stop_if_draining(struct session *s)
{
	if (s->draining && s->phase == SESSION_DIALOGUE &&
	    !smtp_server_in_transaction(s->smtp))
		smtp_server_terminate(s->smtp, &stopping_reply);
}

bool
session_converse(struct session *s, struct span in)
{
	if (buf_size(&s->pending) > 0) {
		buf_append(&s->pending, in);
		in = buf_span(&s->pending);
	}
	stop_if_draining(s);
	struct span rest = feed(s, in);
	/* The transaction may have ended just now, without a message. */
	stop_if_draining(s);
	if (s->phase == SESSION_DIALOGUE && s->draining)
		rest = feed(s, rest);
	keep(s, rest);
	return flush(s);
}

void
session_resume(struct session *s)
{
	if (s->phase == SESSION_OVER)
		return;
	s->heard_us = s->step_us = loop_now_us(s->receiver->loop);
	if (session_converse(s, SPAN_EMPTY))
		session_watch(s);
}

/* One read. False when there is no more for now, or the session is over. */
static bool
read_some(struct session *s)
{
	size_t len = 0;

	switch (
	    stream_read(s->stream, s->receiver->scratch, SCRATCH_SIZE, &len)) {
	case PROGRESS_DONE:
		break;
	case PROGRESS_WAIT:
		return false;
	case PROGRESS_FAILED:
		stream_abort(s->stream);
		session_end(s);
		return false;
	case PROGRESS_CLOSED:
		session_end(s);
		return false;
	}
	s->heard_us = loop_now_us(s->receiver->loop);
	if (!session_converse(s, span_from(s->receiver->scratch, len)))
		return false;
	/* A short read has emptied the socket; TLS may hold more. */
	return len == SCRATCH_SIZE || stream_has_pending(s->stream);
}

/* ---- readiness --------------------------------------------------- */

static void
go_on(struct session *s)
{
	if (s->phase == SESSION_PROXY && !opening_read_proxy(s))
		return;
	if (s->phase == SESSION_HANDSHAKE && !opening_handshake(s))
		return;
	if (s->phase == SESSION_LINGERING) {
		linger(s);
		return;
	}
	if (!flush(s))
		return;
	for (int i = 0; i < READS_PER_TURN; i++) {
		if (s->phase != SESSION_DIALOGUE || !may_read(s) ||
		    !read_some(s))
			return;
	}
}

void
session_on_ready(struct loop_watch *watch, unsigned events)
{
	struct session *s = LIST_ENTRY(watch, struct session, watch);

	(void)events;
	go_on(s);
	if (s->phase != SESSION_OVER)
		session_watch(s);
}

/* The client gets a word, where there is a channel to say it on, and the
 * connection ends once that is out. */
static void
time_out(struct session *s, const char *why)
{
	const struct reply reply = {
		.code = 421, .enhanced = { 4, 2, 4 }, .text = span_of(why)
	};

	atomic_fetch_add(&shared_counters(s->receiver->shared)->timeouts, 1);
	LOG(LOG_INFO, "receive", "session timed out",
	    LOG_C("client", s->peer_text), LOG_C("reason", why),
	    LOG_C("step",
		s->smtp != NULL ? smtp_server_step(s->smtp) : "opening"));
	if (s->phase != SESSION_DIALOGUE ||
	    smtp_server_output(s->smtp).len > 0) {
		stream_abort(s->stream);
		session_end(s);
		return;
	}
	smtp_server_terminate(s->smtp, &reply);
	session_resume(s);
}

void
session_on_deadline(struct loop_timer *timer)
{
	struct session *s = LIST_ENTRY(timer, struct session, timer);
	int64_t now_us = loop_now_us(s->receiver->loop);
	const char *why = "";

	if (kept_pace(s, now_us) || next_deadline(s, &why) > now_us)
		arm(s);
	else if (s->phase == SESSION_LINGERING)
		session_end(s);
	else
		time_out(s, why);
}

void
session_drain(struct session *s)
{
	s->draining = true;
	if (s->phase == SESSION_PROXY || s->phase == SESSION_HANDSHAKE)
		session_end(s);
	else if (s->phase == SESSION_DIALOGUE)
		session_resume(s);
}
