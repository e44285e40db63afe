/* SPDX-License-Identifier: Apache-2.0 */
#include "sign/key.h"

#include "base/bug.h"
#include "base/mem.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <string.h>

enum { ED25519_PUBLIC_SIZE = 32 };

struct sign_key {
	EVP_PKEY *pkey;
	enum sign_algorithm algorithm;
	unsigned bits;
};

const char *
sign_algorithm_name(enum sign_algorithm algorithm)
{
	return algorithm == SIGN_RSA_SHA256 ? "rsa-sha256" : "ed25519-sha256";
}

void
sign_base64(struct span octets, struct buf *out)
{
	if (octets.len == 0)
		return;
	unsigned char *to =
	    (unsigned char *)buf_reserve(out, (octets.len + 2) / 3 * 4 + 1);
	int len = EVP_EncodeBlock(
	    to, (const unsigned char *)octets.ptr, (int)octets.len);
	buf_added(out, (size_t)len);
}

/* ---- making and reading ------------------------------------------ */

/* Takes pkey. */
static int
take(EVP_PKEY *pkey, struct sign_key **ret_key, struct failure *ret_failure)
{
	int bits = EVP_PKEY_get_bits(pkey);
	int type = EVP_PKEY_get_base_id(pkey);
	int code = 0;

	if (type != EVP_PKEY_RSA && type != EVP_PKEY_ED25519)
		code = failure_set(ret_failure, ERR_REFUSED,
		    "the key is neither RSA nor Ed25519, which is all that "
		    "DKIM knows");
	else if (type == EVP_PKEY_RSA &&
		 (bits < SIGN_RSA_BITS_MIN || bits > SIGN_RSA_BITS_MAX))
		code = failure_set(ret_failure, ERR_REFUSED,
		    "the RSA key has %d bits; receivers accept %d to %d "
		    "(RFC 8301 section 3.2)",
		    bits, SIGN_RSA_BITS_MIN, SIGN_RSA_BITS_MAX);
	if (code < 0) {
		EVP_PKEY_free(pkey);
		return code;
	}
	struct sign_key *key = MEM_NEW(struct sign_key);
	key->pkey = pkey;
	key->algorithm =
	    type == EVP_PKEY_RSA ? SIGN_RSA_SHA256 : SIGN_ED25519_SHA256;
	key->bits = (unsigned)bits;
	*ret_key = key;
	return 0;
}

int
sign_key_generate(enum sign_algorithm algorithm, struct sign_key **ret_key,
    struct failure *ret_failure)
{
	EVP_PKEY *pkey = algorithm == SIGN_RSA_SHA256
			     ? EVP_RSA_gen(SIGN_RSA_BITS)
			     : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

	if (pkey == NULL) {
		ERR_clear_error();
		return failure_set(ret_failure, -EIO,
		    "OpenSSL cannot make a key for %s; look at openssl.cnf",
		    sign_algorithm_name(algorithm));
	}
	return take(pkey, ret_key, ret_failure);
}

/* A key that wants a passphrase must not ask the terminal. */
static int
no_passphrase(char *to, int size, int is_writing, void *arg)
{
	(void)to;
	(void)size;
	(void)is_writing;
	(void)arg;
	return -1;
}

int
sign_key_read(
    struct span pem, struct sign_key **ret_key, struct failure *ret_failure)
{
	EVP_PKEY *pkey = NULL;

	if (pem.len > 0 && pem.len <= SIGN_PEM_MAX) {
		BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
		BUG_UNLESS(bio != NULL);
		pkey = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
		BIO_free(bio);
		ERR_clear_error();
	}
	if (pkey == NULL)
		return failure_set(ret_failure, ERR_SYNTAX,
		    "it holds no private key in PEM without a passphrase");
	return take(pkey, ret_key, ret_failure);
}

void
sign_key_free(struct sign_key **key)
{
	if (*key == NULL)
		return;
	EVP_PKEY_free((*key)->pkey);
	mem_free(*key);
	*key = NULL;
}

enum sign_algorithm
sign_key_algorithm(const struct sign_key *key)
{
	return key->algorithm;
}

unsigned
sign_key_bits(const struct sign_key *key)
{
	return key->bits;
}

/* ---- writing ----------------------------------------------------- */

int
sign_key_write(const struct sign_key *key, struct buf *out)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *octets = NULL;

	BUG_UNLESS(bio != NULL);
	int done = PEM_write_bio_PKCS8PrivateKey(
	    bio, key->pkey, NULL, NULL, 0, NULL, NULL);
	long len = BIO_get_mem_data(bio, &octets);
	if (done == 1 && len > 0) {
		buf_append(out, span_from(octets, (size_t)len));
		mem_wipe(octets, (size_t)len);
	}
	BIO_free(bio);
	ERR_clear_error();
	return done == 1 && len > 0 ? 0 : -EIO;
}

static int
append_spki(const struct sign_key *key, struct buf *out)
{
	unsigned char *der = NULL;
	int len = i2d_PUBKEY(key->pkey, &der);

	ERR_clear_error();
	if (len <= 0)
		return -EIO;
	sign_base64(span_from(der, (size_t)len), out);
	OPENSSL_free(der);
	return 0;
}

int
sign_key_public(const struct sign_key *key, struct buf *out)
{
	unsigned char raw[ED25519_PUBLIC_SIZE];
	size_t len = sizeof raw;

	if (key->algorithm == SIGN_RSA_SHA256)
		return append_spki(key, out);
	/* RFC 8463 §4.2: the bare octets. */
	if (EVP_PKEY_get_raw_public_key(key->pkey, raw, &len) != 1) {
		ERR_clear_error();
		return -EIO;
	}
	sign_base64(span_from(raw, len), out);
	return 0;
}

void
sign_record(
    enum sign_algorithm algorithm, struct span public_key, struct buf *out)
{
	buf_printf(out, "v=DKIM1; k=%s; p=%.*s",
	    algorithm == SIGN_RSA_SHA256 ? "rsa" : "ed25519",
	    SPAN_ARG(public_key));
}

/* ---- signing ----------------------------------------------------- */

static int
sign_rsa(
    EVP_PKEY *pkey, const unsigned char *hash, unsigned char *to, size_t *len)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
	bool is_done =
	    ctx != NULL && EVP_PKEY_sign_init(ctx) == 1 &&
	    EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1 &&
	    EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) == 1 &&
	    EVP_PKEY_sign(ctx, to, len, hash, SIGN_HASH_SIZE) == 1;

	EVP_PKEY_CTX_free(ctx);
	return is_done ? 0 : -EIO;
}

/* RFC 8463 §3: PureEdDSA over the hash. */
static int
sign_ed25519(
    EVP_PKEY *pkey, const unsigned char *hash, unsigned char *to, size_t *len)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool is_done = ctx != NULL &&
		       EVP_DigestSignInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
		       EVP_DigestSign(ctx, to, len, hash, SIGN_HASH_SIZE) == 1;

	EVP_MD_CTX_free(ctx);
	return is_done ? 0 : -EIO;
}

int
sign_key_sign(const struct sign_key *key,
    const unsigned char hash[static SIGN_HASH_SIZE], struct buf *out)
{
	unsigned char raw[SIGN_RAW_MAX];
	size_t len = sizeof raw;
	int code = key->algorithm == SIGN_RSA_SHA256
		       ? sign_rsa(key->pkey, hash, raw, &len)
		       : sign_ed25519(key->pkey, hash, raw, &len);

	ERR_clear_error();
	if (code == 0)
		buf_append(out, span_from(raw, len));
	return code;
}
