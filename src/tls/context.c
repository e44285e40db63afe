/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "base/time.h"
#include "os/file.h"
#include "tls/internal.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

enum {
	PEM_MAX = 1024 * 1024,
	TICKETS = 1, /* what one reconnecting client can use */
};

/* A server insists on authenticated encryption. A client takes what still has
 * forward secrecy: the alternative in opportunistic TLS is clear text. */
static const char server_ciphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
static const char client_ciphers[] =
    "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:ECDHE+AES:DHE+AES:"
    "!aNULL:!PSK:!SRP";

const char *
tls_take_reason(void)
{
	unsigned long code = ERR_peek_error();
	/* System errors carry an errno instead of a reason. */
	const char *reason = code && ERR_SYSTEM_ERROR(code)
				 ? error_text(-(int)ERR_GET_REASON(code))
				 : ERR_reason_error_string(code);

	ERR_clear_error();
	return reason ? reason : "unknown TLS error";
}

static bool
set_common(SSL_CTX *ctx, const char *ciphers)
{
	SSL_CTX_set_options(ctx,
	    SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
		SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
				  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				  SSL_MODE_RELEASE_BUFFERS);
	/* Sessions are resumed by tickets; nothing is kept here. */
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
	       SSL_CTX_set_cipher_list(ctx, ciphers) == 1 &&
	       SSL_CTX_set1_groups_list(ctx, "X25519:P-256:P-384") == 1;
}

static struct tls_context *
wrap(SSL_CTX *ctx, bool is_server)
{
	struct tls_context *context = MEM_NEW(struct tls_context);

	context->ssl_ctx = ctx;
	context->is_server = is_server;
	atomic_init(&context->references, 1);
	return context;
}

struct tls_context *
tls_context_ref(struct tls_context *context)
{
	int before = atomic_fetch_add_explicit(
	    &context->references, 1, memory_order_relaxed);

	BUG_UNLESS(before > 0);
	return context;
}

void
tls_context_unref(struct tls_context **ptr)
{
	struct tls_context *context = *ptr;

	if (!context)
		return;
	*ptr = NULL;
	int before = atomic_fetch_sub_explicit(
	    &context->references, 1, memory_order_acq_rel);
	BUG_UNLESS(before > 0);
	if (before > 1)
		return;
	/* Streams that use it hold their own reference to this one. */
	SSL_CTX_free(context->ssl_ctx);
	mem_free(context);
}

static int
fail(struct failure *f, const char *what)
{
	return failure_set(f, ERR_TLS, "%s: %s", what, tls_take_reason());
}

/* An encrypted key gives an error instead of a prompt on the terminal. */
static int
refuse_password(char *buffer, int size, int is_writing, void *argument)
{
	(void)buffer, (void)size, (void)is_writing, (void)argument;
	return -1;
}

static int
load_chain(SSL_CTX *ctx, BIO *pem, struct failure *f)
{
	X509 *leaf = PEM_read_bio_X509(pem, NULL, refuse_password, NULL);
	bool is_ok = leaf && SSL_CTX_use_certificate(ctx, leaf) == 1;

	X509_free(leaf);
	if (!is_ok)
		return fail(f, "cannot use the certificate");
	for (;;) {
		X509 *next =
		    PEM_read_bio_X509(pem, NULL, refuse_password, NULL);
		if (!next)
			break;
		if (SSL_CTX_add0_chain_cert(ctx, next) != 1) {
			X509_free(next);
			return fail(f, "cannot use the certificate chain");
		}
	}
	if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		return fail(f, "cannot read the certificate chain");
	ERR_clear_error();
	return 0;
}

static int
load_key(SSL_CTX *ctx, BIO *pem, struct failure *f)
{
	EVP_PKEY *key =
	    PEM_read_bio_PrivateKey(pem, NULL, refuse_password, NULL);
	bool is_ok = key && SSL_CTX_use_PrivateKey(ctx, key) == 1 &&
		     SSL_CTX_check_private_key(ctx) == 1;

	EVP_PKEY_free(key);
	return is_ok ? 0 : fail(f, "cannot use the private key");
}

static int
load_pem(SSL_CTX *ctx, struct span pem,
    int (*load)(SSL_CTX *, BIO *, struct failure *), struct failure *f)
{
	if (pem.len > PEM_MAX)
		return failure_set(f, ERR_LIMIT, "the PEM text is too long");
	BIO *bio = BIO_new_mem_buf(pem.len ? pem.ptr : "", (int)pem.len);
	if (!bio)
		return fail(f, "cannot read PEM");
	int result = load(ctx, bio, f);
	BIO_free(bio);
	return result;
}

static int
set_up_server(
    SSL_CTX *ctx, struct span certificate, struct span key, struct failure *f)
{
	static const unsigned char session_id[] = "posthouse";

	if (!set_common(ctx, server_ciphers) ||
	    SSL_CTX_set_num_tickets(ctx, TICKETS) != 1 ||
	    SSL_CTX_set_session_id_context(
		ctx, session_id, sizeof session_id - 1) != 1)
		return fail(f, "cannot set up TLS");
	TRY(load_pem(ctx, certificate, load_chain, f));
	return load_pem(ctx, key, load_key, f);
}

static int64_t
certificate_end_us(SSL_CTX *ctx)
{
	const X509 *leaf = SSL_CTX_get0_certificate(ctx);
	struct tm tm;

	if (!leaf || ASN1_TIME_to_tm(X509_get0_notAfter(leaf), &tm) != 1)
		return 0;
	return (int64_t)timegm(&tm) * US_PER_S;
}

int64_t
tls_context_certificate_end_us(const struct tls_context *context)
{
	return context->end_us;
}

bool
tls_context_is_for(const struct tls_context *context, const char *name)
{
	X509 *leaf = SSL_CTX_get0_certificate(context->ssl_ctx);

	return leaf && X509_check_host(leaf, name, 0, 0, NULL) == 1;
}

bool
tls_context_is_self_signed(const struct tls_context *context)
{
	X509 *leaf = SSL_CTX_get0_certificate(context->ssl_ctx);

	return leaf && X509_check_issued(leaf, leaf) == X509_V_OK;
}

int
tls_context_new_server_pem(struct span certificate, struct span key,
    struct tls_context **ret_context, struct failure *ret_failure)
{
	ERR_clear_error();
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	if (!ctx)
		return fail(ret_failure, "cannot set up TLS");
	int result = set_up_server(ctx, certificate, key, ret_failure);
	if (result < 0) {
		SSL_CTX_free(ctx);
		return result;
	}
	*ret_context = wrap(ctx, true);
	(*ret_context)->end_us = certificate_end_us(ctx);
	return 0;
}

static int
read_pem(const char *path, struct buf *pem, struct failure *f)
{
	int result = file_read(path, PEM_MAX, pem);

	if (result < 0)
		return failure_set(
		    f, result, "cannot read %s: %s", path, error_text(result));
	return 0;
}

int
tls_context_new_server(const char *certificate_path, const char *key_path,
    struct tls_context **ret_context, struct failure *ret_failure)
{
	struct buf certificate = BUF_EMPTY, key = BUF_EMPTY;
	struct failure f = { 0 };

	int result = read_pem(certificate_path, &certificate, ret_failure);
	if (result == 0)
		result = read_pem(key_path, &key, ret_failure);
	if (result == 0) {
		result = tls_context_new_server_pem(
		    buf_span(&certificate), buf_span(&key), ret_context, &f);
		if (result < 0)
			failure_set(ret_failure, result,
			    "certificate %s with key %s: %s", certificate_path,
			    key_path, f.text);
	}
	mem_wipe(key.ptr, key.len);
	buf_done(&key);
	buf_done(&certificate);
	return result;
}

static int
load_trust(SSL_CTX *ctx, const char *ca_file, struct failure *f)
{
	if (!ca_file) {
		if (SSL_CTX_set_default_verify_paths(ctx) != 1)
			return fail(f, "cannot use the system's CAs");
		return 0;
	}
	if (SSL_CTX_load_verify_file(ctx, ca_file) != 1)
		return failure_set(f, ERR_TLS, "cannot read CAs from %s: %s",
		    ca_file, tls_take_reason());
	/* What the operator lists is trusted, root or not. */
	if (X509_VERIFY_PARAM_set_flags(
		SSL_CTX_get0_param(ctx), X509_V_FLAG_PARTIAL_CHAIN) != 1)
		return fail(f, "cannot set up TLS");
	return 0;
}

int
tls_context_new_client(const char *ca_file, struct tls_context **ret_context,
    struct failure *ret_failure)
{
	ERR_clear_error();
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	if (!ctx)
		return fail(ret_failure, "cannot set up TLS");
	int result =
	    set_common(ctx, client_ciphers) && SSL_CTX_dane_enable(ctx) == 1
		? load_trust(ctx, ca_file, ret_failure)
		: fail(ret_failure, "cannot set up TLS");
	if (result < 0) {
		SSL_CTX_free(ctx);
		return result;
	}
	*ret_context = wrap(ctx, false);
	return 0;
}
