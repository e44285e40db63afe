/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Signing keys of DKIM: RSA-SHA256 (RFC 6376 §3.3.1, RFC 8301) and
 * Ed25519-SHA256 (RFC 8463). A key is immutable once made or read, so any
 * number of threads may sign with it at once. Texts of failures never hold
 * anything of a key.
 */

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>

enum sign_algorithm { SIGN_RSA_SHA256, SIGN_ED25519_SHA256 };

#define SIGN_RSA_BITS 2048 /* of keys made here */
#define SIGN_RSA_BITS_MIN 1024 /* RFC 8301 §3.2: less is never accepted */
#define SIGN_RSA_BITS_MAX 8192
#define SIGN_HASH_SIZE 32
#define SIGN_RAW_MAX (SIGN_RSA_BITS_MAX / 8) /* octets of a signature */
#define SIGN_PEM_MAX 16384 /* octets of a key file */

struct sign_key;

/* "rsa-sha256" */
const char *sign_algorithm_name(enum sign_algorithm algorithm);

/* Takes 10 to 500 ms for RSA. */
MUST_CHECK int sign_key_generate(enum sign_algorithm algorithm,
    struct sign_key **ret_key, struct failure *ret_failure);
/* A private key in PEM (PKCS #8 or PKCS #1), without a passphrase. ERR_SYNTAX:
 * none; ERR_REFUSED: of a kind or size that DKIM has no use for. */
MUST_CHECK int sign_key_read(
    struct span pem, struct sign_key **ret_key, struct failure *ret_failure);
void sign_key_free(struct sign_key **key);

enum sign_algorithm sign_key_algorithm(const struct sign_key *key);
unsigned sign_key_bits(const struct sign_key *key);
/* Appends the private key as PKCS #8 in PEM: wipe after use. */
MUST_CHECK int sign_key_write(const struct sign_key *key, struct buf *out);
/* Appends the value of the record's p= tag: base64. */
MUST_CHECK int sign_key_public(const struct sign_key *key, struct buf *out);

/* Signs a SHA-256 hash. Appends the raw signature. */
MUST_CHECK int sign_key_sign(const struct sign_key *key,
    const unsigned char hash[static SIGN_HASH_SIZE], struct buf *out);

/* Appends the TXT record of a public key (RFC 6376 §3.6.1), unsplit. An empty
 * p= says that the key is revoked. */
void sign_record(
    enum sign_algorithm algorithm, struct span public_key, struct buf *out);

/* Appends base64 of any octets, without line ends. */
void sign_base64(struct span octets, struct buf *out);
