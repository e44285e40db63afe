/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The grammar of commands (RFC 5321 §4.1.1): text in, structures out. A parser
 * here decides nothing and writes nothing; when it refuses it hands back the
 * reply that says why, for whoever leads the session to send.
 *
 * Lines come without their CRLF. Results live in the arena given.
 */

#include "smtp/parameters.h"
#include "smtp/reply.h"

struct command {
	struct span verb; /* as sent: compare without case */
	struct span argument; /* without spaces at its ends; may be empty */
};

struct command command_split(struct span line);

/* "FROM:<…> SIZE=…". flags: ADDRESS_ALLOW_LITERAL or 0. An address beyond ASCII
 * needs the SMTPUTF8 parameter. ERR_SYNTAX with *ret_fault set. */
MUST_CHECK int command_parse_mail(struct span argument, int flags,
    struct arena *arena, struct smtp_mail *ret_mail, struct reply *ret_fault);

/* "TO:<…> NOTIFY=…". flags: ADDRESS_ALLOW_UTF8 when MAIL said SMTPUTF8, and
 * ADDRESS_ALLOW_LITERAL. */
MUST_CHECK int command_parse_rcpt(struct span argument, int flags,
    struct arena *arena, struct smtp_rcpt *ret_rcpt, struct reply *ret_fault);

/* "SIZE [LAST]" of BDAT (RFC 3030 §2). */
MUST_CHECK int command_parse_bdat(
    struct span argument, uint64_t *ret_size, bool *ret_last);

/* "MECHANISM [initial-response]" of AUTH (RFC 4954 §4). The mechanism is as
 * sent; "=" becomes an empty initial response. */
struct command_auth {
	struct span mechanism;
	struct span initial; /* base64, of the right shape */
	bool has_initial;
};

MUST_CHECK int command_parse_auth(struct span argument,
    struct command_auth *ret_auth, struct reply *ret_fault);

/* Alphabet, padding and length; the empty span is fine. */
bool command_is_base64(struct span s);

/* What we let a client call itself: 1..255 octets of UTF-8 without a space or
 * control. Real clients send names that are no host names; RFC 5321 §4.1.4
 * forbids to refuse mail for that alone. */
bool command_is_client_name(struct span name);
