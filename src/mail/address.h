/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Mailboxes of the envelope (RFC 5321 §4.1.2, RFC 6531 §3.3). Parsing makes a
 * canonical form: local part unquoted where it needs no quotes, domain in
 * lower-case A-labels (IDNA2008, UTS #46 by libidn2), address literals checked.
 * Routing tricks of the past are refused with a reason, never interpreted:
 * source routes, `user%other@`, `bang!path`, nested `@`.
 */

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>

#define ADDRESS_MAX 320 /* whole mailbox: 64 + 1 + 255 */
#define ADDRESS_LOCAL_MAX 64 /* RFC 5321 §4.5.3.1.1 */
#define ADDRESS_DOMAIN_MAX 255

struct address {
	struct span text; /* canonical "local@domain"; empty: the null path */
	struct span local; /* view into text, with quotes if it needs them */
	struct span domain; /* view into text: A-labels, or "[192.0.2.1]" */
	bool is_literal; /* domain is an address literal */
	bool needs_utf8; /* local part is not ASCII: needs SMTPUTF8 */
};

enum address_flags {
	ADDRESS_ALLOW_UTF8 = 1, /* SMTPUTF8 was asked for */
	ADDRESS_ALLOW_NULL = 2, /* "<>", for MAIL FROM */
	ADDRESS_ALLOW_POSTMASTER = 4, /* bare "postmaster", for RCPT TO */
	ADDRESS_ALLOW_LITERAL = 8, /* user@[192.0.2.1] */
};

/* Parses a mailbox without angle brackets. 0, or ERR_SYNTAX with *ret_reason a
 * static sentence for the reply ("source routes are not accepted"). Memory for
 * the canonical text comes from arena. A bare postmaster has no domain. */
MUST_CHECK int address_parse(struct span s, int flags, struct arena *arena,
    struct address *ret_address, const char **ret_reason);

/* Parses "<…>" at the start of *s and leaves *s behind it. */
MUST_CHECK int address_parse_path(struct span *s, int flags,
    struct arena *arena, struct address *ret_address, const char **ret_reason);

/* A domain name for the wire: lower-case A-labels without a trailing dot. One
 * such dot is taken off here; in an address it is refused. */
MUST_CHECK int address_normalise_domain(
    struct span domain, struct arena *arena, struct span *ret_domain);
/* A name that may stand in HELO/EHLO: domain or address literal. Underscores
 * and bare IPv4 addresses pass: many clients have nothing better. */
bool address_is_helo_name(struct span name);

/* The domain part of a mailbox in canonical text form ("" for the null path),
 * found from the right. */
struct span address_domain_of(struct span mailbox);
