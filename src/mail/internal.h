/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the files of this room share and nobody else needs: the character
 * classes, the domain grammar with reasons, and how foreign text is made
 * harmless and folded.
 */

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "mail/report.h"

/* atext of RFC 5322 §3.2.3, with the octets of UTF-8 (RFC 6531 §3.3). */
bool char_is_atext(unsigned char c);

/* A domain in canonical form. Unlike address_normalise_domain it refuses a
 * trailing dot, and it says why it refuses. */
MUST_CHECK int domain_parse(struct span s, struct arena *arena,
    struct span *ret_domain, const char **ret_reason);
/* "[192.0.2.1]" or "[IPv6:2001:db8::1]", brackets included. */
MUST_CHECK int domain_parse_literal(struct span s, struct arena *arena,
    struct span *ret_domain, const char **ret_reason);

/* Takes one code point off *s; false, and *s untouched, when *s is empty or
 * does not start with well-formed UTF-8 (RFC 3629). */
bool utf8_next(struct span *s, uint32_t *ret_point);
void utf8_append(uint32_t point, struct buf *out);

enum plain {
	PLAIN_ASCII, /* every octet that is not ASCII becomes "?" */
	PLAIN_UTF8, /* well-formed UTF-8 stays */
};

/* A code point that moves no cursor, ends no line and turns no text around. */
bool plain_is_harmless(uint32_t point);
/* Appends s as part of one line: what ends lines becomes a space, other
 * control characters "?". */
void plain_append(struct span s, enum plain kind, struct buf *out);

/* Appends text of CRLF lines as quoted-printable. */
void quoted_append(struct span text, struct buf *out);

/* How text is broken into lines. */
struct fold {
	size_t width; /* octets of a line, where words allow it */
	size_t start; /* column where the first line goes on */
	struct span indent; /* starts each line but the first */
};

/* Appends text, broken at spaces to lines of at most width octets; "\n" in
 * text is a wanted break. Ends with CRLF. A word longer than a line of mail may
 * be is cut. */
void fold_append(const struct fold *f, struct span text, struct buf *out);
/* The folding of header fields: 78 octets, a tab. */
void fold_append_field(struct span text, struct buf *out);
/* "Name: value", folded; value is made harmless on the way. */
void field_append(
    const char *name, struct span value, enum plain kind, struct buf *out);

/* The contents of a report's first two parts. */
void report_append_text(const struct report *r, struct buf *out);
void report_append_status(const struct report *r, struct buf *out);
