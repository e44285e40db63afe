/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * xtext of RFC 3461 §4 and utf-8-addr-xtext of RFC 6533 §3: how ENVID and
 * ORCPT travel in commands and in delivery reports.
 */

#include "base/buf.h"
#include "base/error.h"

/* Appends the decoded bytes. ERR_SYNTAX, and *out untouched, on a bad escape,
 * on raw characters outside "!".."~", on "=", or on a decoded character that
 * is not printable ASCII (CR, LF and NUL must never travel: CVE-2020-28021). */
MUST_CHECK int xtext_decode(struct span s, struct buf *out);
void xtext_encode(struct span s, struct buf *out);

/* The address of "utf-8;…" in ORCPT: escapes such as "\x{E4}", or UTF-8 as it
 * is. Decoded to UTF-8; the same things are refused. */
MUST_CHECK int xtext_decode_utf8_address(struct span s, struct buf *out);
/* All ASCII. What is not UTF-8 becomes U+FFFD. */
void xtext_encode_utf8_address(struct span s, struct buf *out);
