/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A receiver on a thread of its own, with a listener of each kind on loopback
 * addresses, and clients that talk to it. */

#include "../intake/door.h"
#include "base/time.h"
#include "log/tap.h"
#include "os/socket.h"
#include "receive/internal.h"

#include <gsasl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

enum { STARTTLS, IMPLICIT, MX, PROXY, PROXY_TLS, LMTP, LISTENERS };

#define STAGE_CONFIG(limits)                                                   \
	"hostname: relay.example.org\n"                                        \
	"tls: {certificate: /c.pem, private_key: /k.pem}\n"                    \
	"listeners:\n"                                                         \
	"  - {address: \"127.0.0.1:1\", service: submission, tls: starttls}\n" \
	"  - {address: \"127.0.0.1:2\", service: submission, tls: implicit}\n" \
	"  - {address: \"127.0.0.1:3\", service: mx, tls: starttls}\n"         \
	"  - {address: \"127.0.0.1:4\", service: mx, tls: none, "              \
	"proxy_protocol: true, proxy_networks: [127.0.0.0/8]}\n"               \
	"  - {address: \"127.0.0.1:5\", service: submission, "                 \
	"tls: implicit, proxy_protocol: true, "                                \
	"proxy_networks: [127.0.0.0/8]}\n"                                     \
	"  - {address: \"127.0.0.1:6\", service: lmtp, tls: none}\n"           \
	"routes:\n"                                                            \
	"  - {domains: [local.example], deliver: discard}\n"                   \
	"limits: {" limits "}\n"

struct stage {
	struct door door;
	struct loop *loop;
	struct receiver *receiver;
	struct receive_shared *shared;
	struct tls_context *server_tls, *client_tls;
	struct netaddr addresses[LISTENERS];
	pthread_t thread;
};

/* ---- the receiver's side ----------------------------------------- */

static inline void *
run(void *arg)
{
	struct stage *s = arg;

	assert_int_equal(0, loop_run(s->loop));
	return NULL;
}

static inline void
make_contexts(struct stage *s)
{
	struct buf certificate = BUF_EMPTY, key = BUF_EMPTY;
	struct failure failure = { 0 };

	assert_int_equal(
	    0, tls_make_self_signed("relay.example.org", &certificate, &key));
	assert_int_equal(0, tls_context_new_server_pem(buf_span(&certificate),
				buf_span(&key), &s->server_tls, &failure));
	assert_int_equal(
	    0, tls_context_new_client(NULL, &s->client_tls, &failure));
	buf_done(&certificate);
	buf_done(&key);
}

static inline void
stage_open(struct stage *s, const char *config)
{
	int fds[LISTENERS];
	struct netaddr any;

	*s = (struct stage){ 0 };
	door_open(&s->door, config);
	make_contexts(s);
	assert_true(netaddr_parse(SPAN("127.0.0.1:0"), &any));
	for (int i = 0; i < LISTENERS; i++) {
		fds[i] = socket_listen(&any, 0);
		assert_true(fds[i] >= 0);
		assert_int_equal(0, socket_local(fds[i], &s->addresses[i]));
	}
	assert_int_equal(0, loop_new(&s->loop));
	s->shared = receive_shared_new();
	const struct receiver_options options = {
		.loop = s->loop,
		.config = s->door.config,
		.tls = s->server_tls,
		.intake = s->door.intake,
		.directory = s->door.directory,
		.shared = s->shared,
		.listen_fds = fds,
	};
	assert_int_equal(0, receiver_new(&options, &s->receiver));
	assert_int_equal(0, pthread_create(&s->thread, NULL, run, s));
}

static inline void
stage_close(struct stage *s)
{
	struct receive_stats stats;

	loop_stop(s->loop);
	pthread_join(s->thread, NULL);
	spool_close(&s->door.spool);
	assert_int_equal(0, loop_turn(s->loop, 0));
	receiver_free(&s->receiver);
	assert_int_equal(0, loop_turn(s->loop, 0));
	loop_free(&s->loop);
	receive_stats(s->shared, &stats);
	assert_int_equal(0, stats.sessions_open);
	assert_int_equal(0, stats.sessions_tls);
	receive_shared_free(&s->shared);
	tls_context_unref(&s->server_tls);
	tls_context_unref(&s->client_tls);
	door_close(&s->door);
}

struct drain {
	struct loop_item item;
	struct receiver *receiver;
	atomic_bool done;
};

static inline void
drain_now(struct loop_item *item)
{
	struct drain *d = (struct drain *)(void *)item;

	receiver_drain(d->receiver);
	atomic_store(&d->done, true);
}

static inline void
drain(struct stage *s)
{
	struct drain d = { .item.run = drain_now, .receiver = s->receiver };

	loop_post(s->loop, &d.item);
	while (!atomic_load(&d.done))
		usleep(100);
}

/* ---- a client ---------------------------------------------------- */

struct client {
	struct stream *stream;
	struct buf in;
	bool closed;
};

static inline void
await(struct client *c, short events)
{
	struct pollfd p = { .fd = stream_fd(c->stream), .events = events };

	if (poll(&p, 1, 10000) != 1)
		fail_msg(
		    "nothing for ten seconds; have [%s]", buf_cstring(&c->in));
}

static inline void
dial(struct stage *s, int listener, struct client *ret_client)
{
	int fd = socket_connect(&s->addresses[listener], NULL);

	assert_true(fd >= 0);
	*ret_client = (struct client){ .stream = stream_new(fd) };
	await(ret_client, POLLOUT);
}

static inline void
hang_up(struct client *c)
{
	stream_free(&c->stream);
	buf_done(&c->in);
}

static inline void
say_bytes(struct client *c, const char *p, size_t len)
{
	while (len > 0) {
		struct iovec iov = { (void *)(uintptr_t)p, len };
		size_t n = 0;
		enum progress progress = stream_write(c->stream, &iov, 1, &n);

		if (progress == PROGRESS_WAIT) {
			await(c, POLLOUT);
			continue;
		}
		if (progress != PROGRESS_DONE)
			return; /* they hung up: the reply will tell */
		p += n;
		len -= n;
	}
}

static inline void
say(struct client *c, const char *text)
{
	say_bytes(c, text, strlen(text));
}

static inline void
hear(struct client *c)
{
	char piece[4096];
	size_t n = 0;

	switch (stream_read(c->stream, piece, sizeof piece, &n)) {
	case PROGRESS_DONE:
		buf_append(&c->in, span_from(piece, n));
		break;
	case PROGRESS_WAIT:
		await(c, POLLIN);
		break;
	case PROGRESS_CLOSED:
	case PROGRESS_FAILED:
		c->closed = true;
		break;
	}
}

/* The next whole reply must begin so. */
static inline void
expect(struct client *c, const char *begin)
{
	for (;;) {
		struct span rest = buf_span(&c->in), line;

		while (span_find(rest, '\n') != SIZE_MAX) {
			line = span_cut(&rest, '\n');
			if (line.len > 3 && line.ptr[3] == '-')
				continue;
			if (!span_starts(buf_span(&c->in), span_of(begin)))
				fail_msg("wanted [%s], got [%s]", begin,
				    buf_cstring(&c->in));
			buf_consume(&c->in, buf_size(&c->in) - rest.len);
			return;
		}
		if (c->closed)
			fail_msg("wanted [%s], got the end", begin);
		hear(c);
	}
}

/* The connection ends without another word. */
static inline void
expect_end(struct client *c)
{
	while (!c->closed)
		hear(c);
	if (buf_size(&c->in) > 0)
		fail_msg("wanted the end, got [%s]", buf_cstring(&c->in));
}

static inline void
command(struct client *c, const char *line, const char *reply)
{
	say(c, line);
	say(c, "\r\n");
	expect(c, reply);
}

static inline void
secure(struct stage *s, struct client *c)
{
	const struct tls_connect_options options = { 0 };
	enum progress progress;

	assert_int_equal(
	    0, stream_connect_tls(c->stream, s->client_tls, &options));
	while ((progress = stream_handshake(c->stream)) == PROGRESS_WAIT)
		await(c, stream_wants_write(c->stream) ? POLLOUT : POLLIN);
	if (progress != PROGRESS_DONE)
		fail_msg("%s", stream_error(c->stream));
}

static inline void
log_in(struct stage *s, struct client *c, const char *password)
{
	struct buf plain = BUF_EMPTY;
	char *text = NULL;
	size_t len = 0;

	buf_append_char(&plain, '\0');
	buf_append_str(&plain, s->door.credential.username);
	buf_append_char(&plain, '\0');
	buf_append_str(&plain, password);
	assert_int_equal(GSASL_OK, gsasl_base64_to(buf_span(&plain).ptr,
				       buf_size(&plain), &text, &len));
	say(c, "AUTH PLAIN ");
	say(c, text);
	say(c, "\r\n");
	gsasl_free(text);
	buf_done(&plain);
}
