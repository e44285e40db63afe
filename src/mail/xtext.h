/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * xtext of RFC 3461 §4 and utf-8-addr-xtext of RFC 6533 §3: how ENVID and
 * ORCPT travel in commands and in delivery reports.
 */

#include "base/buf.h"
#include "base/error.h"

/* Appends the decoded bytes. ERR_SYNTAX on a bad escape, on raw characters
 * outside "!".."~" or on a decoded control character (CR, LF and NUL must
 * never travel: CVE-2020-28021). */
MUST_CHECK int xtext_decode(struct span s, struct buf *out);
void xtext_encode(struct span s, struct buf *out);
