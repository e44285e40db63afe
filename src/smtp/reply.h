/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Replies (RFC 5321 §4.2) with enhanced status codes (RFC 3463), on both
 * sides: we compose them as a server and parse them as a client.
 */

#include "base/arena.h"
#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct enhanced_code {
	uint16_t subject, detail;
	uint8_t class; /* 2, 4 or 5; 0: none */
};

struct reply {
	uint16_t code; /* 200..599 */
	struct enhanced_code enhanced;
	struct span text; /* lines joined by '\n', without codes */
};

/* REPLY(250, 2, 1, 0, "sender ok"): a reply with static text. Also good for
 * static const replies. */
#define REPLY(c, k, s, d, t)                                                   \
	((struct reply){ (c), { (s), (d), (k) }, { (t), sizeof(t) - 1 } })

static inline bool
reply_is_positive(const struct reply *r)
{
	return r->code >= 200 && r->code < 400;
}

static inline bool
reply_is_temporary(const struct reply *r)
{
	return r->code >= 400 && r->code < 500;
}

static inline bool
reply_is_permanent(const struct reply *r)
{
	return r->code >= 500;
}

/* Appends the wire form; long or multi-line text becomes several lines, each
 * with the codes, at most 510 octets. Control bytes become spaces. */
void reply_append(const struct reply *r, struct buf *out);
/* "550 5.1.1 no such user": one line for logs, events and reports. */
struct span reply_format(const struct reply *r, struct arena *arena);
/* "5.1.1"; the given default class's ".0.0" when the reply has none. */
struct span reply_status(const struct reply *r, struct arena *arena);

/* Incremental parser for replies from a stranger. Bounds: line 4,096 octets,
 * 100 lines, 8,192 octets of text kept; beyond the text bound the rest is
 * dropped, beyond the others the reply is bad. A bare LF ends a line; NUL and
 * control bytes are replaced; a code that changes between lines, or is not
 * 200..599, is bad. */
struct reply_parser;

struct reply_parser *reply_parser_new(void);
void reply_parser_free(struct reply_parser **p);
void reply_parser_reset(struct reply_parser *p);
/* Consumes from *in. 1: *ret_reply is complete (its text lives until the next
 * call); 0: needs more; ERR_SYNTAX or ERR_LIMIT: not a reply, with a reason. */
MUST_CHECK int reply_parser_feed(
    struct reply_parser *p, struct span *in, struct reply *ret_reply);
const char *reply_parser_error(const struct reply_parser *p);
