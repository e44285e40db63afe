/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The two canonical forms of RFC 6376 §3.4: what a DKIM signature is computed
 * over, so that what servers may do to mail on its way does not break it. A
 * body is taken as it streams by, in pieces cut anywhere; a header field is
 * taken whole. Pure; the caller owns everything.
 *
 * Only CRLF ends a line here: a lone CR or LF (of BINARYMIME) is an octet like
 * others.
 */

#include "base/buf.h"

#include <stdbool.h>

enum canon { CANON_RELAXED, CANON_SIMPLE };

typedef void canon_sink_fn(void *arg, struct span piece);

/* A body under way. The caller's storage; nothing to free. */
struct canon_body {
	enum canon canon;
	canon_sink_fn *sink;
	void *arg;
	uint64_t ends; /* CRLFs seen that may be the body's last */
	bool cr; /* the last octet was a CR */
	bool space; /* white space that may be the line's last */
	bool any; /* something was put out */
	size_t used; /* of `out` */
	char out[4096];
};

void canon_body_init(
    struct canon_body *body, enum canon canon, canon_sink_fn *sink, void *arg);
void canon_body_feed(struct canon_body *body, struct span piece);
/* Puts out what is left, with the CRLF that ends the canonical body. An empty
 * body is one CRLF when simple (§3.4.3), nothing when relaxed (§3.4.4). */
void canon_body_end(struct canon_body *body);

/* Appends one field (raw: as it stands in the header, with its CRLF or
 * without) in its canonical form, ending in CRLF (§3.4.1, §3.4.2). */
void canon_field(enum canon canon, struct span raw, struct buf *out);
