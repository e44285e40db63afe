/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A receiving server that keeps to a script, in a thread of its own. What it
 * says to each command is given per connection; what it heard is kept.
 */

#include "base/buf.h"
#include "base/mem.h"
#include "base/netaddr.h"
#include "tls/stream.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define PEER_RCPTS 4

/* NULL: as a friendly server would. A reply of "" is silence and a close. */
struct peer_script {
	const char *banner, *hello, *starttls, *auth, *mail;
	const char *rcpt[PEER_RCPTS]; /* by position in the transaction */
	const char *data, *bdat, *end;
	const char *end_each[PEER_RCPTS]; /* LMTP */
	bool close_at_second_mail;
};

struct peer {
	pthread_t thread;
	pthread_mutex_t lock;
	int listen_fd;
	struct netaddr address;
	const struct peer_script
	    *scripts; /* per connection; the last repeats */
	size_t script_count;
	struct tls_context *tls; /* NULL: cannot */
	unsigned connections; /* under lock: what was seen */
	unsigned bodies;
	struct buf commands; /* one per line */
	struct buf body; /* the last one, dots unstuffed */
};

/* One connection. */
struct peer_session {
	struct peer *peer;
	const struct peer_script *script;
	struct stream *stream;
	struct buf in;
	unsigned rcpts, accepted, mails;
	bool lmtp;
};

static inline bool
peer_wait(struct peer_session *s, short events)
{
	struct pollfd p = { stream_fd(s->stream), events, 0 };
	return poll(&p, 1, 5000) > 0;
}

static inline bool
peer_say(struct peer_session *s, const char *text)
{
	struct span rest = span_of(text);
	while (rest.len > 0) {
		struct iovec iov = { (void *)(uintptr_t)rest.ptr, rest.len };
		size_t len = 0;
		enum progress p = stream_write(s->stream, &iov, 1, &len);
		if (p == PROGRESS_DONE)
			rest = span_skip(rest, len);
		else if (p != PROGRESS_WAIT || !peer_wait(s, POLLOUT))
			return false;
	}
	return true;
}

/* Says it with its line's end; false after "": the script wants a close. */
static inline bool
peer_reply(struct peer_session *s, const char *scripted, const char *usual)
{
	const char *text = scripted != NULL ? scripted : usual;
	/* In one write: Nagle would hold the second one back. */
	char *AUTO_FREE line = mem_printf("%s\r\n", text);
	return text[0] != '\0' && peer_say(s, line);
}

static inline bool
peer_more(struct peer_session *s)
{
	for (;;) {
		char piece[4096];
		size_t len = 0;
		enum progress p =
		    stream_read(s->stream, piece, sizeof piece, &len);
		if (p == PROGRESS_DONE) {
			buf_append(&s->in, span_from(piece, len));
			return true;
		}
		if (p != PROGRESS_WAIT || !peer_wait(s, POLLIN))
			return false;
	}
}

/* The line without its CRLF; good until the next one. */
static inline bool
peer_line(struct peer_session *s, struct buf *line)
{
	size_t end;
	while ((end = span_find(buf_span(&s->in), '\n')) == SIZE_MAX) {
		if (!peer_more(s))
			return false;
	}
	buf_clear(line);
	buf_append(line, span_slice(buf_span(&s->in), 0, end - 1));
	buf_consume(&s->in, end + 1);
	return true;
}

static inline bool
peer_handshake(struct peer_session *s)
{
	if (stream_accept_tls(s->stream, s->peer->tls) < 0)
		return false;
	for (;;) {
		enum progress p = stream_handshake(s->stream);
		if (p == PROGRESS_DONE)
			return true;
		if (p != PROGRESS_WAIT ||
		    !peer_wait(
			s, stream_wants_write(s->stream) ? POLLOUT : POLLIN))
			return false;
	}
}

static inline void
peer_keep_body(struct peer_session *s, struct buf *body)
{
	struct peer *peer = s->peer;
	(void)pthread_mutex_lock(&peer->lock);
	buf_clear(&peer->body);
	buf_append(&peer->body, buf_span(body));
	peer->bodies++;
	(void)pthread_mutex_unlock(&peer->lock);
}

static inline bool
peer_end(struct peer_session *s)
{
	if (!s->lmtp)
		return peer_reply(s, s->script->end, "250 2.0.0 taken");
	for (unsigned i = 0; i < s->accepted; i++) {
		const char *each =
		    i < PEER_RCPTS ? s->script->end_each[i] : NULL;
		if (!peer_reply(s, each, "250 2.0.0 taken"))
			return false;
	}
	return true;
}

static inline bool
peer_data(struct peer_session *s)
{
	const char *data = s->script->data;
	if (s->accepted == 0 && data == NULL)
		data = "554 5.5.1 no valid recipients";
	if (!peer_reply(s, data, "354 go on"))
		return false;
	if (data != NULL && data[0] != '3')
		return true;
	struct buf line = BUF_EMPTY, body = BUF_EMPTY;
	bool alive;
	while ((alive = peer_line(s, &line))) {
		struct span text = buf_span(&line);
		if (span_eq(text, SPAN(".")))
			break;
		buf_append(
		    &body, span_skip(text, span_starts(text, SPAN("."))));
		buf_append(&body, SPAN("\r\n"));
	}
	if (alive)
		peer_keep_body(s, &body);
	buf_done(&line);
	buf_done(&body);
	return alive && peer_end(s);
}

static inline bool
peer_bdat(struct peer_session *s, struct span args)
{
	uint64_t size = 0;
	struct span number = span_cut(&args, ' ');
	assert_true(span_to_u64(number, 1 << 30, &size));
	assert_true(span_eq(args, SPAN("LAST")));
	while (buf_size(&s->in) < size) {
		if (!peer_more(s))
			return false;
	}
	struct buf body = BUF_EMPTY;
	buf_append(&body, span_slice(buf_span(&s->in), 0, size));
	buf_consume(&s->in, size);
	if (s->script->bdat == NULL)
		peer_keep_body(s, &body);
	buf_done(&body);
	if (s->script->bdat != NULL)
		return peer_reply(s, s->script->bdat, "");
	return peer_end(s);
}

static inline bool
peer_mail(struct peer_session *s)
{
	s->rcpts = s->accepted = 0;
	if (++s->mails == 2 && s->script->close_at_second_mail)
		return false;
	return peer_reply(s, s->script->mail, "250 2.1.0 sender ok");
}

static inline bool
peer_rcpt(struct peer_session *s)
{
	unsigned i = s->rcpts++;
	const char *reply = i < PEER_RCPTS ? s->script->rcpt[i] : NULL;
	s->accepted += reply == NULL || reply[0] == '2';
	return peer_reply(s, reply, "250 2.1.5 recipient ok");
}

static inline bool
peer_starttls(struct peer_session *s)
{
	if (!peer_reply(s, s->script->starttls, "220 go ahead"))
		return false;
	if (s->script->starttls != NULL && s->script->starttls[0] != '2')
		return true;
	return s->peer->tls != NULL ? peer_handshake(s)
				    : peer_say(s, "this is no TLS\r\n");
}

/* False: the session is over. */
static inline bool
peer_command(struct peer_session *s, struct span line)
{
	struct span args = line;
	struct span verb = span_cut(&args, ' ');
	if (span_eq(verb, SPAN("EHLO")) || span_eq(verb, SPAN("LHLO"))) {
		s->lmtp = span_eq(verb, SPAN("LHLO"));
		return peer_reply(s, s->script->hello,
		    "250-peer.example\r\n250-PIPELINING\r\n250 8BITMIME");
	}
	if (span_eq(verb, SPAN("STARTTLS")))
		return peer_starttls(s);
	if (span_eq(verb, SPAN("AUTH")))
		return peer_reply(s, s->script->auth, "235 2.7.0 welcome");
	if (span_eq(verb, SPAN("MAIL")))
		return peer_mail(s);
	if (span_eq(verb, SPAN("RCPT")))
		return peer_rcpt(s);
	if (span_eq(verb, SPAN("DATA")))
		return peer_data(s);
	if (span_eq(verb, SPAN("BDAT")))
		return peer_bdat(s, args);
	if (span_eq(verb, SPAN("RSET")))
		return peer_reply(s, NULL, "250 2.0.0 forgotten");
	if (span_eq(verb, SPAN("QUIT"))) {
		(void)peer_reply(s, NULL, "221 2.0.0 bye");
		return false;
	}
	return peer_reply(s, NULL, "500 5.5.2 what?");
}

static inline void
peer_serve(struct peer *peer, int fd)
{
	struct peer_session s = { .peer = peer, .stream = stream_new(fd) };
	struct buf line = BUF_EMPTY;
	(void)pthread_mutex_lock(&peer->lock);
	size_t i = peer->connections++;
	(void)pthread_mutex_unlock(&peer->lock);
	s.script =
	    &peer->scripts[i < peer->script_count ? i : peer->script_count - 1];
	bool alive = peer_reply(&s, s.script->banner, "220 peer.example");
	while (alive && peer_line(&s, &line)) {
		(void)pthread_mutex_lock(&peer->lock);
		buf_append(&peer->commands, buf_span(&line));
		buf_append_char(&peer->commands, '\n');
		(void)pthread_mutex_unlock(&peer->lock);
		alive = peer_command(&s, buf_span(&line));
	}
	buf_done(&line);
	buf_done(&s.in);
	stream_free(&s.stream);
}

static inline void *
peer_main(void *arg)
{
	struct peer *peer = arg;
	for (;;) {
		int fd = accept4(
		    peer->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		int one = 1;
		if (fd < 0)
			return NULL;
		(void)setsockopt(
		    fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		peer_serve(peer, fd);
	}
}

/* address.port 0: any; the one chosen stands in peer->address afterwards. */
static inline void
peer_start(struct peer *peer, const struct netaddr *address,
    const struct peer_script *scripts, size_t count)
{
	struct sockaddr_storage sa;
	socklen_t len = netaddr_to_sockaddr(address, &sa);
	struct tls_context *tls = peer->tls;
	*peer = (struct peer){
		.address = *address,
		.scripts = scripts,
		.script_count = count,
		.tls = tls,
	};
	int one = 1;
	peer->listen_fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(peer->listen_fd >= 0);
	(void)setsockopt(
	    peer->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	assert_int_equal(bind(peer->listen_fd, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(listen(peer->listen_fd, 16), 0);
	if (address->family != NETADDR_UNIX) {
		len = sizeof sa;
		assert_int_equal(
		    getsockname(peer->listen_fd, (struct sockaddr *)&sa, &len),
		    0);
		assert_true(netaddr_from_sockaddr(
		    (struct sockaddr *)&sa, len, &peer->address));
	}
	assert_int_equal(pthread_mutex_init(&peer->lock, NULL), 0);
	assert_int_equal(
	    pthread_create(&peer->thread, NULL, peer_main, peer), 0);
}

static inline struct netaddr
peer_ip(const char *ip, uint16_t port)
{
	struct netaddr a;
	assert_true(netaddr_parse_ip(span_of(ip), &a));
	a.port = port;
	return a;
}

static inline unsigned
peer_bodies(struct peer *peer)
{
	(void)pthread_mutex_lock(&peer->lock);
	unsigned n = peer->bodies;
	(void)pthread_mutex_unlock(&peer->lock);
	return n;
}

static inline unsigned
peer_connections(struct peer *peer)
{
	(void)pthread_mutex_lock(&peer->lock);
	unsigned n = peer->connections;
	(void)pthread_mutex_unlock(&peer->lock);
	return n;
}

static inline bool
peer_heard(struct peer *peer, const char *command)
{
	(void)pthread_mutex_lock(&peer->lock);
	bool heard = strstr(buf_cstring(&peer->commands), command) != NULL;
	(void)pthread_mutex_unlock(&peer->lock);
	return heard;
}

/* After the dispatcher is gone: no connection is open. */
static inline void
peer_stop(struct peer *peer)
{
	(void)shutdown(peer->listen_fd, SHUT_RDWR);
	(void)pthread_join(peer->thread, NULL);
	(void)close(peer->listen_fd);
	(void)pthread_mutex_destroy(&peer->lock);
	buf_done(&peer->commands);
	buf_done(&peer->body);
	tls_context_unref(&peer->tls);
}
