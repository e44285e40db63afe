/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A byte stream over a connected, non-blocking socket: plain at first, TLS
 * after a handshake. This room is the only one that includes <openssl/ssl.h>.
 * A stream owns its descriptor. One thread at a time.
 *
 * After a TLS close_notify nothing more is read from the socket, whatever
 * arrives there (CVE-2026-45185). Renegotiation is off.
 */

#include "base/buf.h"
#include "base/error.h"
#include "base/span.h"
#include "tls/dane.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct stream;
struct tls_context;

struct stream *stream_new(int fd); /* takes fd */
void stream_free(struct stream **stream); /* sends close_notify, closes */
int stream_fd(const struct stream *stream);
/* Makes the following close abrupt (no close_notify). */
void stream_abort(struct stream *stream);

enum progress stream_read(
    struct stream *stream, void *p, size_t size, size_t *ret_len);
/* Writes a prefix of the vector; *ret_len may be short with PROGRESS_DONE.
 * What PROGRESS_WAIT left unwritten must come again, first and unchanged: TLS
 * may have sealed it in a record. */
enum progress stream_write(
    struct stream *stream, const struct iovec *iov, int count, size_t *ret_len);
/* After PROGRESS_WAIT of the last call: TLS may need the other direction. */
bool stream_wants_write(const struct stream *stream);
/* Bytes already decrypted that readiness will not announce. */
bool stream_has_pending(const struct stream *stream);
/* The last read took all there was: what is still to come, an end included,
 * readiness will announce. */
bool stream_took_all(const struct stream *stream);
/* Why the last call failed: "certificate verify failed: …"; never NULL. */
const char *stream_error(const struct stream *stream);

/* Contexts are immutable and counted: a reload makes a new one, sessions keep
 * theirs. Thread-safe. */
struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context **context);

/* TLS 1.2 and 1.3, forward secrecy only, session tickets. */
MUST_CHECK int tls_context_new_server(const char *certificate_path,
    const char *key_path, struct tls_context **ret_context,
    struct failure *ret_failure);
/* When a server's certificate ends, wall time; 0: not known. */
int64_t tls_context_certificate_end_us(const struct tls_context *context);
/* Whether a server's certificate is good for this name. */
bool tls_context_is_for(const struct tls_context *context, const char *name);
/* Whether nobody else vouches for it. */
bool tls_context_is_self_signed(const struct tls_context *context);
/* From PEM in memory: the key is read before privileges drop. */
MUST_CHECK int tls_context_new_server_pem(struct span certificate,
    struct span key, struct tls_context **ret_context,
    struct failure *ret_failure);
/* ca_file NULL: the system's. Verification is asked for per connection. */
MUST_CHECK int tls_context_new_client(const char *ca_file,
    struct tls_context **ret_context, struct failure *ret_failure);
/* A fresh self-signed ECDSA P-256 certificate for `name`, as PEM. */
MUST_CHECK int tls_make_self_signed(
    const char *name, struct buf *ret_certificate, struct buf *ret_key);

struct tls_connect_options {
	const char *server_name; /* SNI, and the name to verify; may be NULL */
	bool verify; /* fail when not authentic; needs a name */
	/* Fail unless one of these matches (RFC 7672); authorities do not
	 * count. server_name is their base domain, other_name, if not NULL,
	 * another name that a certificate under DANE-TA may have. Unusable
	 * ones are passed over, but one must be usable. */
	const struct tls_dane_record *dane;
	size_t dane_count;
	const char *other_name;
};

/* Begin; then call stream_handshake until it is not PROGRESS_WAIT. */
MUST_CHECK int stream_accept_tls(
    struct stream *stream, struct tls_context *context);
MUST_CHECK int stream_connect_tls(struct stream *stream,
    struct tls_context *context, const struct tls_connect_options *options);
enum progress stream_handshake(struct stream *stream);

/* True once the handshake is done. */
bool stream_is_tls(const struct stream *stream);

struct tls_facts {
	const char *version; /* "TLSv1.3" */
	const char *cipher;
	int bits;
	bool verified; /* the peer's chain and name check out */
	bool by_dane; /* … by a TLSA record */
	bool resumed;
	char verify_error[128]; /* why not, when not verified */
};

/* False when the stream is plain. */
bool stream_tls_facts(const struct stream *stream, struct tls_facts *ret_facts);

/* RFC 9266 tls-exporter channel binding: 32 bytes. ERR_TLS on TLS < 1.3
 * without extended master secret. */
MUST_CHECK int stream_channel_binding(
    const struct stream *stream, unsigned char ret_binding[static 32]);
