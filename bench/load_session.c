/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One session of the load generator. Replies come in the same order whatever
 * the mode, so one chain of steps serves all: the modes differ only in when
 * commands are written.
 */

#include "base/bug.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/time.h"
#include "load.h"
#include "os/clock.h"
#include "os/socket.h"

#include <openssl/evp.h>
#include <string.h>

#define RECONNECT_US (100 * US_PER_MS)

enum { REPLY_MAX = 16 * 1024, READ_SIZE = 4096 };

enum step {
	STEP_CONNECT,
	STEP_BANNER,
	STEP_EHLO,
	STEP_STARTTLS,
	STEP_AUTH,
	STEP_MAIL,
	STEP_RCPT,
	STEP_DATA,
	STEP_END,
	STEP_RSET,
	STEP_QUIT,
	STEP_COUNT,
};

struct answer {
	unsigned code;
	struct span text; /* all lines as they came */
};

struct session {
	struct load *load;
	struct loop_watch watch;
	struct loop_timer reconnect, pace;
	struct stream *stream; /* NULL while not connected */
	enum step step;
	bool is_handshaking, is_secured;
	struct buf in;

	/* To be written, in this order. */
	struct buf out;
	struct span body; /* into load->body */
	struct buf tail;

	bool has_message, has_next; /* next: its commands are written too */
	uint64_t number, next_number;
	uint64_t on_connection; /* messages begun on this connection */
	uint32_t rcpt_at;
	bool is_dot_waiting; /* the final dot is not yet written */
	int64_t dot_us; /* when it was */
};

/* --- the connection ---------------------------------------------------- */

static void connect_now(struct session *s);

static void
on_reconnect(struct loop_timer *timer)
{
	connect_now(LIST_ENTRY(timer, struct session, reconnect));
}

static void
disconnect(struct session *s)
{
	loop_unwatch(&s->watch);
	loop_timer_clear(&s->pace);
	stream_free(&s->stream);
	buf_clear(&s->in);
	buf_clear(&s->out);
	buf_clear(&s->tail);
	s->body = SPAN_EMPTY;
	s->is_handshaking = s->is_secured = s->is_dot_waiting = false;
	s->on_connection = 0;
}

/* Anew when there is something left to send. */
static void
reopen(struct session *s, int64_t pause_us)
{
	uint64_t number;

	disconnect(s);
	if (!load_take(s->load, &number)) {
		load_session_over(s->load);
		return;
	}
	load_give_back(s->load, number);
	loop_timer_set(s->load->loop, &s->reconnect,
	    loop_now_us(s->load->loop) + pause_us);
}

static void
broken(struct session *s, struct span why)
{
	bool may_be_taken = s->step == STEP_END && !s->is_dot_waiting;

	if (s->step == STEP_QUIT) {
		reopen(s, 0);
		return;
	}
	if (s->has_message && may_be_taken)
		load_unknown(s->load);
	else if (s->has_message)
		load_give_back(s->load, s->number);
	if (s->has_next)
		load_give_back(s->load, s->next_number);
	s->has_message = s->has_next = false;
	load_failed(s->load, why);
	reopen(s, RECONNECT_US);
}

static void
wanted_events(struct session *s)
{
	bool has_output =
	    buf_size(&s->out) || s->body.len || buf_size(&s->tail);

	loop_watch_events(
	    &s->watch, has_output ? LOOP_READ | LOOP_WRITE : LOOP_READ);
}

static void
written(struct session *s, size_t n)
{
	size_t out = buf_size(&s->out), tail;

	out = n < out ? n : out;
	buf_consume(&s->out, out);
	n -= out;
	tail = n > s->body.len ? n - s->body.len : 0;
	s->body = span_skip(s->body, n - tail);
	buf_consume(&s->tail, tail);
}

static void
flush(struct session *s)
{
	for (;;) {
		const struct span pieces[] = { buf_span(&s->out), s->body,
			buf_span(&s->tail) };
		struct iovec iov[3];
		int count = 0;
		size_t n = 0;

		for (int i = 0; i < 3; i++)
			if (pieces[i].len)
				iov[count++] = (struct iovec){
					(void *)(uintptr_t)pieces[i].ptr,
					pieces[i].len,
				};
		if (count == 0)
			break;
		enum progress progress =
		    stream_write(s->stream, iov, count, &n);
		if (progress == PROGRESS_WAIT)
			break;
		if (progress != PROGRESS_DONE) {
			broken(s, span_of(stream_error(s->stream)));
			return;
		}
		written(s, n);
	}
	if (s->is_dot_waiting && !buf_size(&s->tail)) {
		s->is_dot_waiting = false;
		s->dot_us = clock_monotonic_us();
	}
	wanted_events(s);
}

static void
handshake(struct session *s)
{
	switch (stream_handshake(s->stream)) {
	case PROGRESS_WAIT:
		loop_watch_events(&s->watch,
		    stream_wants_write(s->stream) ? LOOP_WRITE : LOOP_READ);
		return;
	case PROGRESS_DONE:
		s->is_handshaking = false;
		s->is_secured = true;
		if (s->step == STEP_STARTTLS) {
			buf_append(&s->out, SPAN("EHLO bench.invalid\r\n"));
			s->step = STEP_EHLO;
		}
		flush(s);
		return;
	case PROGRESS_CLOSED:
	case PROGRESS_FAILED:
		broken(s, span_of(stream_error(s->stream)));
		return;
	}
}

static void
begin_handshake(struct session *s)
{
	static const struct tls_connect_options options = { 0 };

	buf_clear(&s->in);
	if (stream_connect_tls(s->stream, s->load->tls, &options) < 0) {
		broken(s, span_of(stream_error(s->stream)));
		return;
	}
	s->is_handshaking = true;
	handshake(s);
}

/* --- what is sent ------------------------------------------------------ */

static void
append_envelope(struct session *s, uint64_t number, struct buf *out)
{
	message_append_mail(s->load, number, out);
	for (uint32_t i = 0; i < s->load->options.recipients; i++)
		message_append_rcpt(s->load, number, i, out);
	buf_append(out, SPAN("DATA\r\n"));
}

static bool
may_begin(const struct session *s)
{
	uint64_t limit = s->load->options.per_connection;

	return !limit || s->on_connection < limit;
}

static void
enter_mail(struct session *s)
{
	s->step = STEP_MAIL;
	s->rcpt_at = 0;
}

static void
send_envelope(struct session *s)
{
	if (s->load->options.mode == LOAD_LOCKSTEP)
		message_append_mail(s->load, s->number, &s->out);
	else
		append_envelope(s, s->number, &s->out);
}

static void
on_pace(struct loop_timer *timer)
{
	struct session *s = LIST_ENTRY(timer, struct session, pace);

	send_envelope(s);
	flush(s);
}

static void
begin_message(struct session *s)
{
	struct load *load = s->load;

	if (!may_begin(s) || !load_take(load, &s->number)) {
		buf_append(&s->out, SPAN("QUIT\r\n"));
		s->step = STEP_QUIT;
		return;
	}
	if (!load->start_us)
		load->start_us = clock_monotonic_us();
	s->has_message = true;
	s->on_connection++;
	enter_mail(s);
	if (load_due_us(load, s->number) > clock_monotonic_us())
		loop_timer_set(
		    load->loop, &s->pace, load_due_us(load, s->number));
	else
		send_envelope(s);
}

static void
send_message(struct session *s)
{
	struct load *load = s->load;

	s->body = message_append_header(load, s->number, &s->out);
	load->bytes += buf_size(&s->out) + s->body.len;
	buf_append(&s->tail, SPAN(".\r\n"));
	s->is_dot_waiting = true;
	s->step = STEP_END;
	if (load->options.mode != LOAD_AHEAD || !may_begin(s) ||
	    !load_take(load, &s->next_number))
		return;
	s->has_next = true;
	s->on_connection++;
	append_envelope(s, s->next_number, &s->tail);
}

static void
send_auth(struct session *s)
{
	const struct load_options *o = &s->load->options;
	struct buf plain = BUF_EMPTY;

	buf_append_char(&plain, '\0');
	buf_append_str(&plain, o->username);
	buf_append_char(&plain, '\0');
	buf_append_str(&plain, o->password);
	buf_append(&s->out, SPAN("AUTH PLAIN "));
	size_t size = buf_size(&plain);
	int n = EVP_EncodeBlock(
	    (unsigned char *)buf_reserve(&s->out, 4 * (size / 3 + 1) + 1),
	    (const unsigned char *)buf_span(&plain).ptr, (int)size);
	BUG_UNLESS(n > 0);
	buf_added(&s->out, (size_t)n);
	buf_append(&s->out, SPAN("\r\n"));
	buf_done(&plain);
	s->step = STEP_AUTH;
}

/* --- what comes back --------------------------------------------------- */

static void
on_banner(struct session *s, const struct answer *a)
{
	if (a->code != 220) {
		broken(s, a->text);
		return;
	}
	buf_append(&s->out, SPAN("EHLO bench.invalid\r\n"));
	s->step = STEP_EHLO;
}

static bool
offers(const struct answer *a, struct span keyword)
{
	struct span rest = a->text;

	while (rest.len) {
		struct span line = span_skip(span_cut(&rest, '\n'), 4);
		if (span_starts_nocase(line, keyword))
			return true;
	}
	return false;
}

static void
on_ehlo(struct session *s, const struct answer *a)
{
	const struct load_options *o = &s->load->options;

	if (a->code != 250) {
		broken(s, a->text);
		return;
	}
	if (o->starttls && !s->is_secured) {
		buf_append(&s->out, SPAN("STARTTLS\r\n"));
		s->step = STEP_STARTTLS;
		return;
	}
	if (o->mode != LOAD_LOCKSTEP && !offers(a, SPAN("PIPELINING"))) {
		load_give_up(
		    s->load, SPAN("the server does not offer PIPELINING: use "
				  "--mode lockstep"));
		return;
	}
	if (o->username)
		send_auth(s);
	else
		begin_message(s);
}

static void
on_starttls(struct session *s, const struct answer *a)
{
	if (a->code != 220)
		load_give_up(s->load, a->text);
	else
		begin_handshake(s);
}

static void
on_auth(struct session *s, const struct answer *a)
{
	if (a->code != 235)
		load_give_up(s->load, a->text);
	else
		begin_message(s);
}

static void
on_mail(struct session *s, const struct answer *a)
{
	/* A refusal shows in the reply to DATA, too. */
	if (a->code / 100 != 2)
		load_note_refusal(s->load, a->text);
	s->step = STEP_RCPT;
	if (s->load->options.mode == LOAD_LOCKSTEP)
		message_append_rcpt(s->load, s->number, 0, &s->out);
}

static void
on_rcpt(struct session *s, const struct answer *a)
{
	const struct load_options *o = &s->load->options;
	bool is_lockstep = o->mode == LOAD_LOCKSTEP;

	if (a->code / 100 != 2) {
		load_note_refusal(s->load, a->text);
		s->load->recipients_refused++;
	}
	s->rcpt_at++;
	if (s->rcpt_at == o->recipients)
		s->step = STEP_DATA;
	if (is_lockstep && s->rcpt_at < o->recipients)
		message_append_rcpt(s->load, s->number, s->rcpt_at, &s->out);
	else if (is_lockstep)
		buf_append(&s->out, SPAN("DATA\r\n"));
}

static void
on_data(struct session *s, const struct answer *a)
{
	if (a->code == 354) {
		send_message(s);
		return;
	}
	load_refused(s->load, a->text);
	s->has_message = false;
	buf_append(&s->out, SPAN("RSET\r\n"));
	s->step = STEP_RSET;
}

static void
on_end(struct session *s, const struct answer *a)
{
	if (s->is_dot_waiting) {
		broken(s, a->text);
		return;
	}
	if (a->code == 250)
		load_acknowledged(
		    s->load, s->number, clock_monotonic_us() - s->dot_us);
	else
		load_refused(s->load, a->text);
	s->has_message = s->has_next;
	s->number = s->next_number;
	s->has_next = false;
	if (s->has_message)
		enter_mail(s);
	else
		begin_message(s);
}

static void
on_rset(struct session *s, const struct answer *a)
{
	(void)a;
	begin_message(s);
}

static void
on_quit(struct session *s, const struct answer *a)
{
	(void)a;
	reopen(s, 0);
}

static void (*const on_reply[STEP_COUNT])(
    struct session *s, const struct answer *a) = {
	[STEP_BANNER] = on_banner,
	[STEP_EHLO] = on_ehlo,
	[STEP_STARTTLS] = on_starttls,
	[STEP_AUTH] = on_auth,
	[STEP_MAIL] = on_mail,
	[STEP_RCPT] = on_rcpt,
	[STEP_DATA] = on_data,
	[STEP_END] = on_end,
	[STEP_RSET] = on_rset,
	[STEP_QUIT] = on_quit,
};

/* The first whole reply: 1; 0 when there is none yet; else not a reply. */
static int
cut_reply(struct span in, struct answer *ret_answer)
{
	size_t end = 0, n;

	while ((n = span_find(span_skip(in, end), '\n')) != SIZE_MAX) {
		struct span line = span_slice(in, end, n + 1);
		uint64_t code;

		end += n + 1;
		if (line.len < 5 ||
		    !span_to_u64(span_slice(line, 0, 3), 599, &code))
			return ERR_SYNTAX;
		if (line.ptr[3] == '-')
			continue;
		ret_answer->code = (unsigned)code;
		ret_answer->text = span_slice(in, 0, end);
		return 1;
	}
	return in.len > REPLY_MAX ? ERR_LIMIT : 0;
}

/* False when the connection is gone, or waits for its handshake. */
static bool
take_replies(struct session *s)
{
	struct answer a;
	int found;

	while ((found = cut_reply(buf_span(&s->in), &a)) == 1) {
		/* The bytes stay where they are until the next read. */
		buf_consume(&s->in, a.text.len);
		a.text = span_trim(a.text);
		if (a.code == 421) {
			broken(s, a.text);
			return false;
		}
		on_reply[s->step](s, &a);
		if (!s->stream || s->is_handshaking)
			return false;
	}
	if (found < 0)
		broken(s, SPAN("the server's answer is not an SMTP reply"));
	return found == 0;
}

static void
read_replies(struct session *s)
{
	do {
		size_t n = 0;
		char *p = buf_reserve(&s->in, READ_SIZE);
		enum progress progress =
		    stream_read(s->stream, p, READ_SIZE, &n);
		if (progress == PROGRESS_WAIT)
			break;
		if (progress != PROGRESS_DONE) {
			broken(s, SPAN("the server closed the connection"));
			return;
		}
		buf_added(&s->in, n);
		if (!take_replies(s))
			return;
	} while (stream_has_pending(s->stream));
	flush(s);
}

static void
finish_connect(struct session *s)
{
	int result = socket_connected(stream_fd(s->stream));

	if (result < 0) {
		broken(s, span_of(error_text(result)));
		return;
	}
	s->load->connects++;
	s->step = STEP_BANNER;
	if (s->load->options.implicit_tls)
		begin_handshake(s);
	else
		wanted_events(s);
}

static void
on_ready(struct loop_watch *watch, unsigned events)
{
	struct session *s = LIST_ENTRY(watch, struct session, watch);

	if (s->step == STEP_CONNECT)
		finish_connect(s);
	else if (s->is_handshaking)
		handshake(s);
	else if (events & LOOP_READ)
		read_replies(s);
	else
		flush(s);
}

/* --- life -------------------------------------------------------------- */

static void
connect_now(struct session *s)
{
	int fd = socket_connect(&s->load->options.to, NULL);

	s->step = STEP_CONNECT;
	if (fd < 0) {
		load_failed(s->load, span_of(error_text(fd)));
		reopen(s, RECONNECT_US);
		return;
	}
	s->stream = stream_new(fd);
	int result = loop_watch_fd(s->load->loop, &s->watch, fd, LOOP_WRITE);
	if (result < 0)
		broken(s, span_of(error_text(result)));
}

struct session *
session_new(struct load *load)
{
	struct session *s = MEM_NEW(struct session);

	s->load = load;
	s->watch.on_ready = on_ready;
	s->reconnect.on_time = on_reconnect;
	s->pace.on_time = on_pace;
	connect_now(s);
	return s;
}

void
session_free(struct session **ptr)
{
	struct session *s = *ptr;

	if (!s)
		return;
	*ptr = NULL;
	loop_timer_clear(&s->reconnect);
	disconnect(s);
	buf_done(&s->in);
	buf_done(&s->out);
	buf_done(&s->tail);
	mem_free(s);
}
