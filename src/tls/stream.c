/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/stream.h"

#include "base/bug.h"
#include "base/mem.h"
#include "base/netaddr.h"
#include "tls/internal.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	RECORD_MAX = 16 * 1024, /* RFC 8446 §5.1 */
	NAME_MAX_LEN = 255,
};

struct stream {
	int fd;
	SSL *ssl; /* NULL while plain */
	bool is_open; /* the handshake is done */
	bool must_verify; /* asked for by the caller */
	bool has_name; /* there is a name to verify */
	bool is_abrupt; /* no close_notify */
	bool wants_write; /* of the last PROGRESS_WAIT */
	bool may_have_more; /* the last read filled its buffer */
	bool took_all; /* … or took all there was */
	/* PROGRESS_CLOSED or _FAILED once the end was seen, else _DONE. */
	enum progress read_end, write_end;
	/* What the socket said beneath OpenSSL. */
	bool is_eof;
	bool is_empty; /* the last recv did not fill its buffer */
	int socket_errno;
	char error[256];
};

/* --- the socket beneath OpenSSL: no SIGPIPE, and its errors kept ------ */

static bool
is_transient(int error)
{
	return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

static int
socket_write(BIO *bio, const char *p, int len)
{
	struct stream *stream = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	ssize_t n = send(stream->fd, p, (size_t)len, MSG_NOSIGNAL);
	if (n < 0 && is_transient(errno))
		BIO_set_retry_write(bio);
	else if (n < 0 && !stream->is_eof) /* then it is but the alert */
		stream->socket_errno = errno;
	return (int)n;
}

static int
socket_read(BIO *bio, char *p, int len)
{
	struct stream *stream = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (stream->is_empty) {
		BIO_set_retry_read(bio);
		return -1;
	}
	ssize_t n = recv(stream->fd, p, (size_t)len, 0);
	stream->is_empty = n > 0 && n < len;
	if (n < 0 && is_transient(errno))
		BIO_set_retry_read(bio);
	else if (n < 0)
		stream->socket_errno = errno;
	else if (n == 0)
		stream->is_eof = true;
	return (int)n;
}

static long
socket_control(BIO *bio, int command, long number, void *pointer)
{
	const struct stream *stream = BIO_get_data(bio);

	(void)number, (void)pointer;
	if (command == BIO_CTRL_FLUSH)
		return 1;
	return command == BIO_CTRL_EOF && stream->is_eof;
}

static BIO_METHOD *socket_method;
static pthread_once_t socket_method_once = PTHREAD_ONCE_INIT;

static void
make_socket_method(void)
{
	socket_method = BIO_meth_new(
	    BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "posthouse socket");
	BUG_UNLESS(socket_method);
	BUG_UNLESS(BIO_meth_set_write(socket_method, socket_write) &&
		   BIO_meth_set_read(socket_method, socket_read) &&
		   BIO_meth_set_ctrl(socket_method, socket_control));
}

static BIO *
socket_bio(struct stream *stream)
{
	(void)pthread_once(&socket_method_once, make_socket_method);
	BIO *bio = BIO_new(socket_method);
	if (bio) {
		BIO_set_data(bio, stream);
		BIO_set_init(bio, 1);
	}
	return bio;
}

/* --- life ------------------------------------------------------------- */

struct stream *
stream_new(int fd)
{
	struct stream *stream = MEM_NEW(struct stream);

	BUG_UNLESS(fd >= 0);
	stream->fd = fd;
	return stream;
}

void
stream_free(struct stream **ptr)
{
	struct stream *stream = *ptr;

	if (!stream)
		return;
	*ptr = NULL;
	/* One try: a peer that does not read gets no close_notify. After a
	 * fatal error it would be wrong, SSL_shutdown(3). */
	if (stream->is_open && !stream->is_abrupt &&
	    stream->read_end != PROGRESS_FAILED &&
	    stream->write_end != PROGRESS_FAILED)
		(void)SSL_shutdown(stream->ssl);
	SSL_free(stream->ssl);
	ERR_clear_error();
	(void)close(stream->fd);
	mem_free(stream);
}

int
stream_fd(const struct stream *stream)
{
	return stream->fd;
}

void
stream_abort(struct stream *stream)
{
	stream->is_abrupt = true;
}

bool
stream_wants_write(const struct stream *stream)
{
	return stream->wants_write;
}

bool
stream_has_pending(const struct stream *stream)
{
	return stream->is_open && stream->may_have_more &&
	       stream->read_end == PROGRESS_DONE &&
	       SSL_has_pending(stream->ssl);
}

bool
stream_took_all(const struct stream *stream)
{
	return stream->took_all;
}

const char *
stream_error(const struct stream *stream)
{
	return *stream->error ? stream->error : "no error";
}

bool
stream_is_tls(const struct stream *stream)
{
	return stream->is_open;
}

/* --- failures ---------------------------------------------------------- */

static void set_error(struct stream *stream, const char *format, ...)
    PRINTF_LIKE(2, 3);

static void
set_error(struct stream *stream, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(stream->error, sizeof stream->error, format, args);
	va_end(args);
}

/* Both directions are over. */
static enum progress
fail_both(struct stream *stream)
{
	return stream->read_end = stream->write_end = PROGRESS_FAILED;
}

static enum progress
wait_for(struct stream *stream, bool wants_write)
{
	stream->wants_write = wants_write;
	return PROGRESS_WAIT;
}

static void
describe_tls_failure(struct stream *stream)
{
	bool is_certificate =
	    ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_SSL &&
	    ERR_GET_REASON(ERR_peek_error()) == SSL_R_CERTIFICATE_VERIFY_FAILED;
	const char *reason = tls_take_reason();

	if (is_certificate)
		set_error(stream, "%s: %s", reason,
		    X509_verify_cert_error_string(
			SSL_get_verify_result(stream->ssl)));
	else
		set_error(stream, "%s", reason);
}

/* What an OpenSSL call that returned `result` <= 0 came to. */
static enum progress
judge(struct stream *stream, int result)
{
	switch (SSL_get_error(stream->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return wait_for(stream, false);
	case SSL_ERROR_WANT_WRITE:
		return wait_for(stream, true);
	case SSL_ERROR_ZERO_RETURN:
		stream->read_end = PROGRESS_CLOSED;
		return PROGRESS_CLOSED;
	default:
		break;
	}
	if (stream->socket_errno) {
		set_error(stream, "%s", error_text(-stream->socket_errno));
		return fail_both(stream);
	}
	if (!stream->is_eof) {
		describe_tls_failure(stream);
		return fail_both(stream);
	}
	/* SMTP marks its ends itself, so a peer that spares the close_notify
	 * cuts nothing off that could be taken for a whole. */
	set_error(stream, "connection closed without close_notify");
	(void)fail_both(stream);
	stream->read_end = PROGRESS_CLOSED;
	return PROGRESS_CLOSED;
}

/* --- reading ------------------------------------------------------------ */

static enum progress
read_plain(struct stream *stream, void *p, size_t size, size_t *ret_len)
{
	ssize_t n;

	do
		n = recv(stream->fd, p, size, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0 && is_transient(errno))
		return wait_for(stream, false);
	if (n < 0) {
		set_error(stream, "%s", error_text(-errno));
		return fail_both(stream);
	}
	if (n == 0)
		return stream->read_end = PROGRESS_CLOSED;
	stream->took_all = (size_t)n < size;
	*ret_len = (size_t)n;
	return PROGRESS_DONE;
}

static enum progress
read_tls(struct stream *stream, void *p, size_t size, size_t *ret_len)
{
	size_t total = 0;
	enum progress progress = PROGRESS_DONE;

	ERR_clear_error();
	stream->is_empty = false;
	do {
		size_t n = 0;
		int result = SSL_read_ex(
		    stream->ssl, (char *)p + total, size - total, &n);
		if (result == 1)
			total += n;
		else
			progress = judge(stream, result);
	} while (total < size && progress == PROGRESS_DONE &&
		 !(stream->is_empty && !SSL_has_pending(stream->ssl)));
	stream->is_empty = false;
	stream->may_have_more = total == size;
	stream->took_all = total < size && stream->read_end == PROGRESS_DONE;
	/* First what arrived; an end is told by the next call. */
	if (total == 0)
		return progress;
	*ret_len = total;
	return PROGRESS_DONE;
}

enum progress
stream_read(struct stream *stream, void *p, size_t size, size_t *ret_len)
{
	BUG_UNLESS(size > 0);
	stream->took_all = false;
	/* Nothing behind a close_notify is looked at. */
	if (stream->read_end != PROGRESS_DONE)
		return stream->read_end;
	if (!stream->ssl)
		return read_plain(stream, p, size, ret_len);
	BUG_UNLESS(stream->is_open);
	return read_tls(stream, p, size, ret_len);
}

/* --- writing ------------------------------------------------------------ */

static enum progress
write_plain(
    struct stream *stream, const struct iovec *iov, int count, size_t *ret_len)
{
	struct msghdr message = {
		/* sendmsg does not write to it */
		.msg_iov = (struct iovec *)(uintptr_t)iov,
		.msg_iovlen = (size_t)(count < IOV_MAX ? count : IOV_MAX),
	};
	ssize_t n;

	do
		n = sendmsg(stream->fd, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && is_transient(errno))
		return wait_for(stream, true);
	if (n < 0) {
		set_error(stream, "%s", error_text(-errno));
		return stream->write_end = PROGRESS_FAILED;
	}
	*ret_len = (size_t)n;
	return PROGRESS_DONE;
}

struct position {
	const struct iovec *iov;
	int count;
	size_t offset; /* in the first one */
};

static struct span
piece_at(const struct position *at)
{
	return span_skip(
	    span_from(at->iov->iov_base, at->iov->iov_len), at->offset);
}

static void
advance(struct position *at, size_t n)
{
	while (at->count > 0 && n >= at->iov->iov_len - at->offset) {
		n -= at->iov->iov_len - at->offset;
		at->iov++;
		at->count--;
		at->offset = 0;
	}
	BUG_UNLESS(at->count > 0 || n == 0);
	at->offset += n;
}

/* What goes into the next record: the caller's bytes themselves when a piece
 * fills it, else small pieces gathered, so that a burst of replies is one
 * record. The buffer is per thread: OpenSSL allows it to move. */
static struct span
next_record(struct position at)
{
	static _Thread_local char gathered[RECORD_MAX];
	size_t len = 0;

	struct span first = piece_at(&at);
	if (first.len >= RECORD_MAX || at.count == 1)
		return span_slice(first, 0, RECORD_MAX);
	while (at.count > 0 && len < RECORD_MAX) {
		struct span piece =
		    span_slice(piece_at(&at), 0, RECORD_MAX - len);
		if (piece.len)
			memcpy(gathered + len, piece.ptr, piece.len);
		len += piece.len;
		advance(&at, piece.len);
	}
	return span_from(gathered, len);
}

static enum progress
write_tls(
    struct stream *stream, const struct iovec *iov, int count, size_t *ret_len)
{
	struct position at = { iov, count, 0 };
	size_t total = 0;
	enum progress progress = PROGRESS_DONE;

	ERR_clear_error();
	advance(&at, 0); /* past empty pieces */
	while (at.count > 0 && progress == PROGRESS_DONE) {
		struct span record = next_record(at);
		size_t n = 0;
		int result =
		    SSL_write_ex(stream->ssl, record.ptr, record.len, &n);
		if (result == 1) {
			total += n;
			advance(&at, n);
		} else {
			progress = judge(stream, result);
		}
	}
	if (progress != PROGRESS_DONE && total == 0)
		return progress;
	*ret_len = total;
	return PROGRESS_DONE;
}

enum progress
stream_write(
    struct stream *stream, const struct iovec *iov, int count, size_t *ret_len)
{
	BUG_UNLESS(count > 0);
	if (stream->write_end != PROGRESS_DONE)
		return stream->write_end;
	if (!stream->ssl)
		return write_plain(stream, iov, count, ret_len);
	BUG_UNLESS(stream->is_open);
	return write_tls(stream, iov, count, ret_len);
}

/* --- handshake ---------------------------------------------------------- */

static int
begin(struct stream *stream, struct tls_context *context)
{
	ERR_clear_error();
	BUG_UNLESS(!stream->ssl);
	SSL *ssl = SSL_new(context->ssl_ctx);
	BIO *bio = socket_bio(stream);
	if (!ssl || !bio) {
		SSL_free(ssl);
		BIO_free(bio);
		set_error(stream, "%s", tls_take_reason());
		return ERR_TLS;
	}
	SSL_set_bio(ssl, bio, bio);
	stream->ssl = ssl;
	return 0;
}

int
stream_accept_tls(struct stream *stream, struct tls_context *context)
{
	BUG_UNLESS(context->is_server);
	TRY(begin(stream, context));
	SSL_set_accept_state(stream->ssl);
	return 0;
}

/* A name is checked as RFC 6125 wants it for DNS-ID: never the subject, and
 * wildcards for whole labels only. */
static bool
set_dns_name(SSL *ssl, char *name)
{
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
				   X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	return SSL_set_tlsext_host_name(ssl, name) == 1 &&
	       SSL_set1_host(ssl, name) == 1;
}

static bool
set_peer_name(SSL *ssl, struct span given)
{
	struct netaddr addr;
	char name[NAME_MAX_LEN + 1];

	if (given.len && given.ptr[given.len - 1] == '.')
		given.len--;
	if (netaddr_parse_ip(given, &addr)) /* no SNI, RFC 6066 §3 */
		return X509_VERIFY_PARAM_set1_ip(SSL_get0_param(ssl), addr.ip,
			   addr.family == NETADDR_IP4 ? 4 : 16) == 1;
	/* An empty name would switch the check off. */
	return given.len && span_find(given, '\0') == SIZE_MAX &&
	       span_to_cstring(given, name, sizeof name) &&
	       set_dns_name(ssl, name);
}

/* RFC 7672 §3: the base domain is what SNI says and, under DANE-TA, what the
 * certificate must be for. DANE-EE vouches for the key, whatever the names and
 * the dates say (§3.1.1). */
static bool
set_dane(SSL *ssl, const struct tls_connect_options *options)
{
	unsigned usable = 0;

	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
				   X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	if (SSL_dane_enable(ssl, options->server_name) != 1)
		return false;
	SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
	if (options->other_name && SSL_add1_host(ssl, options->other_name) != 1)
		return false;
	for (size_t i = 0; i < options->dane_count; i++) {
		const struct tls_dane_record *r = &options->dane[i];
		if (tls_dane_is_usable(r) &&
		    SSL_dane_tlsa_add(ssl, r->usage, r->selector, r->matching,
			(const unsigned char *)r->data.ptr, r->data.len) > 0)
			usable++;
	}
	ERR_clear_error();
	return usable > 0;
}

static bool
set_identity(SSL *ssl, const struct tls_connect_options *options)
{
	if (options->dane_count)
		return *options->server_name && set_dane(ssl, options);
	return set_peer_name(ssl, span_of(options->server_name));
}

int
stream_connect_tls(struct stream *stream, struct tls_context *context,
    const struct tls_connect_options *options)
{
	bool must_verify = options->verify || options->dane_count;

	BUG_UNLESS(!context->is_server);
	if (must_verify && !options->server_name)
		return -EINVAL;
	TRY(begin(stream, context));
	SSL_set_connect_state(stream->ssl);
	stream->must_verify = must_verify;
	/* Without it the chain is looked at all the same, for the facts. */
	SSL_set_verify(
	    stream->ssl, must_verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	if (!options->server_name)
		return 0;
	if (!set_identity(stream->ssl, options)) {
		set_error(stream, "not a usable server name");
		(void)fail_both(stream);
		return -EINVAL;
	}
	stream->has_name = true;
	return 0;
}

static bool
is_verified(const struct stream *stream)
{
	return !SSL_is_server(stream->ssl) && stream->has_name &&
	       SSL_get0_peer_certificate(stream->ssl) &&
	       SSL_get_verify_result(stream->ssl) == X509_V_OK;
}

enum progress
stream_handshake(struct stream *stream)
{
	BUG_UNLESS(stream->ssl);
	if (stream->is_open)
		return PROGRESS_DONE;
	if (stream->read_end != PROGRESS_DONE)
		return PROGRESS_FAILED;
	ERR_clear_error();
	int result = SSL_do_handshake(stream->ssl);
	if (result != 1) {
		enum progress progress = judge(stream, result);
		if (progress != PROGRESS_CLOSED)
			return progress;
		set_error(stream, "connection closed during the handshake");
		return fail_both(stream);
	}
	if (stream->must_verify && !is_verified(stream)) {
		set_error(stream, "certificate verify failed");
		return fail_both(stream);
	}
	/* From here on one system call fetches what is there. During the
	 * handshake it would hide bytes behind it from readiness. */
	SSL_set_read_ahead(stream->ssl, 1);
	stream->is_open = true;
	return PROGRESS_DONE;
}

/* --- facts -------------------------------------------------------------- */

static const char *
why_not_verified(const struct stream *stream)
{
	if (SSL_is_server(stream->ssl) ||
	    !SSL_get0_peer_certificate(stream->ssl))
		return "no certificate";
	long result = SSL_get_verify_result(stream->ssl);
	if (result != X509_V_OK)
		return X509_verify_cert_error_string(result);
	return "no name to verify";
}

bool
stream_tls_facts(const struct stream *stream, struct tls_facts *ret_facts)
{
	if (!stream->is_open)
		return false;
	struct tls_facts facts = {
		.version = SSL_get_version(stream->ssl),
		.cipher = SSL_get_cipher_name(stream->ssl),
		.bits = SSL_get_cipher_bits(stream->ssl, NULL),
		.verified = is_verified(stream),
		.by_dane =
		    is_verified(stream) &&
		    SSL_get0_dane_authority(stream->ssl, NULL, NULL) >= 0,
		.resumed = SSL_session_reused(stream->ssl) == 1,
	};
	if (!facts.verified)
		(void)snprintf(facts.verify_error, sizeof facts.verify_error,
		    "%s", why_not_verified(stream));
	*ret_facts = facts;
	return true;
}

int
stream_channel_binding(
    const struct stream *stream, unsigned char ret_binding[static 32])
{
	static const char label[] = "EXPORTER-Channel-Binding";
	unsigned char binding[32];

	/* RFC 9266 §4.2: without the extended master secret of TLS 1.2 a man
	 * in the middle could have the same value on both sides. */
	if (!stream->is_open || (SSL_version(stream->ssl) < TLS1_3_VERSION &&
				    SSL_get_extms_support(stream->ssl) != 1))
		return ERR_TLS;
	/* No context, as peers do it; TLS 1.3 cannot tell it from an empty
	 * one. */
	if (SSL_export_keying_material(stream->ssl, binding, sizeof binding,
		label, sizeof label - 1, NULL, 0, 0) != 1) {
		ERR_clear_error();
		return ERR_TLS;
	}
	memcpy(ret_binding, binding, sizeof binding);
	return 0;
}
