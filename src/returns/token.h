/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Return paths: the envelope sender of what we send, made for one delivery, so
 * that what comes back there tells which delivery it is about, and that we
 * made it: `b+TOKEN@returns.domain`. A token is what it says in base32, with a
 * keyed checksum (HMAC-SHA256, cut to 80 bits) that is compared in constant
 * time. Letters are lower case and may come back in upper case.
 *
 * Whoever got a message can read its token and so report on this delivery, and
 * on nothing else: the recipient's address is in the token as a keyed hash,
 * and a report must name him.
 *
 * Pure but for return_key_open. Any thread.
 */

#include "base/error.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

struct return_key {
	unsigned char mac[32];
	uint64_t hash[2];
};

/* Reads the key, or makes it when the file is not there yet. */
MUST_CHECK int return_key_open(
    const char *path, struct return_key *ret_key, struct failure *ret_failure);

struct return_token {
	int64_t accepted_us; /* wall, to the millisecond: with mno, the id */
	int64_t sent_us; /* wall, to the second, not before accepted_us */
	uint64_t mno;
	uint32_t rcpt; /* index in the envelope */
	uint32_t tenant, stream;
	uint8_t wishes; /* bits of enum smtp_notify: reports that the sender
			   of the message wants; at most 15 */
	uint32_t address_hash; /* of the recipient: return_address_hash */
};

/* Of the address, in any case. */
uint32_t return_address_hash(
    const struct return_key *key, struct span canonical);

#define RETURN_LOCAL_SIZE 65 /* RFC 5321's 64 octets, with NUL */

/* The local part. False: the numbers are too large for it. */
bool return_token_format(const struct return_key *key,
    const struct return_token *token, char ret_local[static RETURN_LOCAL_SIZE]);

enum return_check {
	RETURN_GOOD,
	RETURN_FORGED, /* or no token at all */
	RETURN_EXPIRED, /* good once */
};

/* A token is good for expire_us from its sending on. */
enum return_check return_token_check(const struct return_key *key,
    struct span local, int64_t now_us, int64_t expire_us,
    struct return_token *ret_token);
