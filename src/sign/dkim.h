/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * DKIM signatures (RFC 6376). A message is fed once, in pieces cut anywhere;
 * its header section is kept (up to a limit), its body only hashed. Then any
 * number of keys may sign it: both algorithms share the hash of the body.
 *
 * What is signed: the fields of dkim_fields that the message has, each
 * instance of them; and, for those that matter to a reader, one more instance
 * than there is, so that adding one breaks the signature (§8.15). Never `l=`:
 * what could be appended under it would be signed, too (§8.2).
 *
 * One thread at a time for each message.
 */

#include "base/buf.h"
#include "base/error.h"
#include "sign/canon.h"
#include "sign/key.h"

struct dkim_message;

struct dkim_message *dkim_message_new(enum canon body, size_t header_max);
void dkim_message_free(struct dkim_message **message);
/* ERR_LIMIT: the header section is larger than header_max. */
MUST_CHECK int dkim_message_feed(
    struct dkim_message *message, struct span piece);
/* All is fed. Call once, before dkim_sign. */
MUST_CHECK int dkim_message_end(struct dkim_message *message);

struct dkim_options {
	struct span domain, selector;
	enum canon header;
	int64_t time_s; /* t=, of the wall clock */
	int64_t expire_s; /* x=; 0: none */
};

/* Appends one whole DKIM-Signature field with its CRLF. */
MUST_CHECK int dkim_sign(const struct dkim_message *message,
    const struct sign_key *key, const struct dkim_options *options,
    struct buf *out);

struct dkim_field {
	const char *name;
	bool oversigned;
};

extern const struct dkim_field dkim_fields[]; /* ends with a NULL name */
