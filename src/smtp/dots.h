/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Transparency (RFC 5321 §4.5.2) on the way out: doubles the dot at the start
 * of each line. State carries over between pieces, so that a line start may
 * fall on any piece boundary. Input is CRLF-normalised.
 */

#include "base/buf.h"

struct dots {
	bool in_line; /* the last byte was not the LF of a CRLF */
	bool after_cr;
};

void dots_stuff(struct dots *d, struct span piece, struct buf *out);
/* True when any line starts with a dot: then stuffing is needed at all. */
bool dots_needed(struct dots *d, struct span piece);
