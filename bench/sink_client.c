/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One client of the sink. Input is looked at where it was read, in a buffer
 * that all clients share; only what is left of an unfinished line or message
 * end is kept, so an idle client costs no memory and a large message no copy.
 */

#include "base/bug.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/time.h"
#include "os/clock.h"
#include "sink.h"

#include <inttypes.h>
#include <string.h>

enum {
	READ_SIZE = 64 * 1024,
	LINE_MAX_LEN = 4096,
	HEAD_MAX = 64 * 1024, /* of a message, for the ledger */
	END_LEN = 5, /* CRLF . CRLF */
};

enum state {
	/* Input is taken, in the first four. */
	STATE_COMMAND,
	STATE_DATA_START, /* a dot here ends an empty message */
	STATE_DATA,
	STATE_CHUNK,
	STATE_DELAYED, /* the reply to the message waits */
	STATE_STARTTLS, /* the reply to it is to be written */
	STATE_HANDSHAKE,
	STATE_CLOSING, /* when the output is written */
};

struct client {
	struct sink *sink;
	struct loop_watch watch;
	struct loop_timer delay;
	struct stream *stream;
	enum state state;
	struct buf in, out, head;
	bool has_sender, is_last_chunk;
	uint32_t recipients;
	uint64_t bytes; /* of this message, as on the wire */
	uint64_t chunk_left;
};

static void
say(struct client *c, const char *reply)
{
	buf_append_str(&c->out, reply);
	buf_append(&c->out, SPAN("\r\n"));
}

/* Says yes, or what the script has for this occasion. */
static bool
agree(struct client *c, enum sink_moment moment, const char *yes)
{
	const char *scripted = sink_answer(c->sink, moment);

	say(c, scripted ? scripted : yes);
	if (scripted && strncmp(scripted, "421", 3) == 0)
		c->state = STATE_CLOSING;
	return !scripted;
}

static void
reset(struct client *c)
{
	c->has_sender = false;
	c->recipients = 0;
	c->bytes = 0;
	buf_done(&c->head);
}

/* --- commands ---------------------------------------------------------- */

static void
on_ehlo(struct client *c, struct span rest)
{
	(void)rest;
	reset(c);
	say(c, "250-sink.invalid");
	say(c, "250-PIPELINING");
	say(c, "250-SIZE 1073741824");
	say(c, "250-8BITMIME");
	say(c, "250-SMTPUTF8");
	if (c->sink->chunking)
		say(c, "250-CHUNKING");
	if (c->sink->tls && !stream_is_tls(c->stream))
		say(c, "250-STARTTLS");
	say(c, "250 ENHANCEDSTATUSCODES");
}

static void
on_helo(struct client *c, struct span rest)
{
	(void)rest;
	reset(c);
	say(c, "250 sink.invalid");
}

static void
on_starttls(struct client *c, struct span rest)
{
	(void)rest;
	if (!c->sink->tls || stream_is_tls(c->stream)) {
		say(c, "503 5.5.1 not now");
		return;
	}
	reset(c);
	say(c, "220 2.0.0 go ahead");
	c->state = STATE_STARTTLS;
}

static void
on_mail(struct client *c, struct span rest)
{
	(void)rest;
	if (c->has_sender)
		say(c, "503 5.5.1 one sender is enough");
	else
		c->has_sender = agree(c, SINK_MAIL, "250 2.1.0 ok");
}

static void
on_rcpt(struct client *c, struct span rest)
{
	(void)rest;
	if (!c->has_sender)
		say(c, "503 5.5.1 MAIL first");
	else if (agree(c, SINK_RCPT, "250 2.1.5 ok"))
		c->recipients++;
}

static void
on_data(struct client *c, struct span rest)
{
	(void)rest;
	if (!c->recipients)
		say(c, "554 5.5.1 no valid recipients");
	else if (agree(c, SINK_DATA, "354 go ahead"))
		c->state = STATE_DATA_START;
}

static void
on_bdat(struct client *c, struct span rest)
{
	struct span size = span_cut(&rest, ' ');

	if (!span_to_u64(size, UINT32_MAX, &c->chunk_left)) {
		say(c, "501 5.5.4 BDAT SIZE [LAST]");
		c->state = STATE_CLOSING;
		return;
	}
	c->is_last_chunk = span_eq_nocase(span_trim(rest), SPAN("LAST"));
	c->state = STATE_CHUNK;
}

static void
on_rset(struct client *c, struct span rest)
{
	(void)rest;
	reset(c);
	say(c, "250 2.0.0 ok");
}

static void
on_noop(struct client *c, struct span rest)
{
	(void)rest;
	say(c, "250 2.0.0 ok");
}

static void
on_quit(struct client *c, struct span rest)
{
	(void)rest;
	say(c, "221 2.0.0 bye");
	c->state = STATE_CLOSING;
}

static const struct verb {
	struct span name;
	void (*run)(struct client *c, struct span rest);
} verbs[] = {
	{ { "MAIL", 4 }, on_mail },
	{ { "RCPT", 4 }, on_rcpt },
	{ { "DATA", 4 }, on_data },
	{ { "BDAT", 4 }, on_bdat },
	{ { "EHLO", 4 }, on_ehlo },
	{ { "HELO", 4 }, on_helo },
	{ { "STARTTLS", 8 }, on_starttls },
	{ { "RSET", 4 }, on_rset },
	{ { "NOOP", 4 }, on_noop },
	{ { "QUIT", 4 }, on_quit },
};

static size_t
take_command(struct client *c, struct span in)
{
	size_t end = span_find(in, '\n');

	if (end == SIZE_MAX && in.len <= LINE_MAX_LEN)
		return 0;
	if (end == SIZE_MAX) {
		say(c, "500 5.5.2 line too long");
		c->state = STATE_CLOSING;
		return in.len;
	}
	struct span rest = span_trim(span_slice(in, 0, end));
	struct span name = span_cut(&rest, ' ');
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
		if (!span_eq_nocase(name, verbs[i].name))
			continue;
		verbs[i].run(c, rest);
		return end + 1;
	}
	say(c, "500 5.5.2 unknown command");
	return end + 1;
}

/* --- messages ---------------------------------------------------------- */

static void
settle(struct client *c)
{
	c->state = STATE_COMMAND;
	if (agree(c, SINK_END, "250 2.0.0 taken"))
		sink_accepted(
		    c->sink, c->recipients, c->bytes, buf_span(&c->head));
	else
		c->sink->refused++;
	reset(c);
}

static void
message_over(struct client *c)
{
	if (!c->sink->delay_us) {
		settle(c);
		return;
	}
	c->state = STATE_DELAYED;
	loop_timer_set(
	    c->sink->loop, &c->delay, clock_monotonic_us() + c->sink->delay_us);
}

static void
add_content(struct client *c, struct span piece)
{
	size_t room = HEAD_MAX - buf_size(&c->head);

	c->bytes += piece.len;
	if (c->sink->ledger)
		buf_append(&c->head, span_slice(piece, 0, room));
}

/* Where CRLF.CRLF stands, or SIZE_MAX. Dots are rarer than line ends. */
static size_t
find_end(struct span in)
{
	size_t at = 0, n;

	while ((n = span_find(span_skip(in, at), '.')) != SIZE_MAX) {
		at += n;
		if (at >= 2 && memcmp(in.ptr + at - 2, "\r\n", 2) == 0 &&
		    in.len - at >= 3 && memcmp(in.ptr + at + 1, "\r\n", 2) == 0)
			return at - 2;
		at++;
	}
	return SIZE_MAX;
}

static size_t
take_data_start(struct client *c, struct span in)
{
	struct span first = span_slice(in, 0, 3);

	if (span_eq(first, SPAN(".\r\n"))) {
		message_over(c);
		return 3;
	}
	if (span_starts(SPAN(".\r\n"), first))
		return 0;
	c->state = STATE_DATA;
	return 0;
}

static size_t
take_data(struct client *c, struct span in)
{
	size_t end = find_end(in);

	if (end != SIZE_MAX) {
		add_content(c, span_slice(in, 0, end + 2));
		message_over(c);
		return end + END_LEN;
	}
	/* The beginning of the end may be here. */
	if (in.len < END_LEN)
		return 0;
	size_t n = in.len - (END_LEN - 1);
	add_content(c, span_slice(in, 0, n));
	return n;
}

static size_t
take_chunk(struct client *c, struct span in)
{
	size_t n = in.len < c->chunk_left ? in.len : (size_t)c->chunk_left;

	add_content(c, span_slice(in, 0, n));
	c->chunk_left -= n;
	if (c->chunk_left)
		return n;
	c->state = STATE_COMMAND;
	if (!c->recipients)
		say(c, "554 5.5.1 no valid recipients");
	else if (c->is_last_chunk)
		message_over(c);
	else
		say(c, "250 2.0.0 ok");
	return n;
}

/* Takes what it can of the input; returns how much. */
static size_t
take_input(struct client *c, struct span in)
{
	size_t taken = 0;

	for (;;) {
		struct span rest = span_skip(in, taken);
		enum state before = c->state;
		size_t n = 0;

		/* A chunk may be empty: nothing is needed to end it. */
		if (!rest.len && before != STATE_CHUNK)
			return taken;
		if (before == STATE_COMMAND)
			n = take_command(c, rest);
		else if (before == STATE_DATA_START)
			n = take_data_start(c, rest);
		else if (before == STATE_DATA)
			n = take_data(c, rest);
		else if (before == STATE_CHUNK)
			n = take_chunk(c, rest);
		taken += n;
		if (n == 0 && c->state == before)
			return taken;
	}
}

/* --- the connection ---------------------------------------------------- */

static bool
reads(const struct client *c)
{
	return c->state <= STATE_CHUNK;
}

static void
client_free(struct client *c)
{
	c->sink->open--;
	loop_unwatch(&c->watch);
	loop_timer_clear(&c->delay);
	stream_free(&c->stream);
	buf_done(&c->in);
	buf_done(&c->out);
	buf_done(&c->head);
	mem_free(c);
}

static void
wanted_events(struct client *c)
{
	unsigned events = LOOP_READ;

	/* Whoever does not read replies is not read either. */
	if (buf_size(&c->out) ||
	    (c->state == STATE_HANDSHAKE && stream_wants_write(c->stream)))
		events = LOOP_WRITE;
	else if (c->state == STATE_DELAYED)
		events = 0;
	loop_watch_events(&c->watch, events);
}

/* False when the connection is over. */
static bool
flush(struct client *c)
{
	while (buf_size(&c->out)) {
		struct span out = buf_span(&c->out);
		struct iovec iov = { (void *)(uintptr_t)out.ptr, out.len };
		size_t n = 0;
		enum progress progress = stream_write(c->stream, &iov, 1, &n);

		if (progress == PROGRESS_WAIT)
			return true;
		if (progress != PROGRESS_DONE)
			return false;
		buf_consume(&c->out, n);
	}
	return c->state != STATE_CLOSING;
}

/* What came in the clear behind STARTTLS does not count. */
static bool
begin_handshake(struct client *c)
{
	buf_clear(&c->in);
	c->state = STATE_HANDSHAKE;
	return stream_accept_tls(c->stream, c->sink->tls) == 0;
}

/* False when the connection is over. */
static bool
handshake(struct client *c)
{
	switch (stream_handshake(c->stream)) {
	case PROGRESS_DONE:
		c->state = STATE_COMMAND;
		c->sink->tls_connections++;
		return true;
	case PROGRESS_WAIT:
		return true;
	case PROGRESS_CLOSED:
	case PROGRESS_FAILED:
		break;
	}
	return false;
}

/* False when the connection is over. */
static bool
read_input(struct client *c)
{
	/* What was kept is put before what is read. */
	static char shared[LINE_MAX_LEN + READ_SIZE];

	do {
		size_t n = 0, kept = buf_size(&c->in);
		enum progress progress = stream_read(
		    c->stream, shared + LINE_MAX_LEN, READ_SIZE, &n);

		if (progress == PROGRESS_WAIT)
			return true;
		if (progress != PROGRESS_DONE)
			return false;
		BUG_UNLESS(kept <= LINE_MAX_LEN);
		char *start = shared + LINE_MAX_LEN - kept;
		if (kept)
			memcpy(start, buf_span(&c->in).ptr, kept);
		buf_clear(&c->in);
		struct span in = span_from(start, kept + n);
		buf_append(&c->in, span_skip(in, take_input(c, in)));
	} while (reads(c) && stream_has_pending(c->stream));
	return true;
}

/* False when the connection is over. */
static bool
turn(struct client *c, unsigned events)
{
	if (c->state == STATE_HANDSHAKE && !handshake(c))
		return false;
	if (events & LOOP_READ && reads(c) && !buf_size(&c->out) &&
	    !read_input(c))
		return false;
	if (!flush(c))
		return false;
	if (c->state == STATE_STARTTLS && !buf_size(&c->out))
		return begin_handshake(c);
	return true;
}

static void
on_ready(struct loop_watch *watch, unsigned events)
{
	struct client *c = LIST_ENTRY(watch, struct client, watch);

	if (turn(c, events))
		wanted_events(c);
	else
		client_free(c);
}

static void
on_delay(struct loop_timer *timer)
{
	struct client *c = LIST_ENTRY(timer, struct client, delay);

	settle(c);
	buf_consume(&c->in, take_input(c, buf_span(&c->in)));
	if (flush(c))
		wanted_events(c);
	else
		client_free(c);
}

void
sink_client_start(struct sink *sink, int fd)
{
	struct client *c = MEM_NEW(struct client);

	c->sink = sink;
	c->stream = stream_new(fd);
	c->watch.on_ready = on_ready;
	c->delay.on_time = on_delay;
	sink->open++;
	if (loop_watch_fd(sink->loop, &c->watch, fd, LOOP_READ) < 0) {
		client_free(c);
		return;
	}
	if (!agree(c, SINK_CONNECT, "220 sink.invalid ESMTP"))
		c->state = STATE_CLOSING;
	if (flush(c))
		wanted_events(c);
	else
		client_free(c);
}
