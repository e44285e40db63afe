/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The header section of a message as fields, in place: nothing is decoded,
 * copied or re-ordered (RFC 5322 §2.2). What submissions need is decided in
 * one pass over the raw bytes; edits are expressed as a prefix to add and
 * spans to leave out, so that the body and every untouched field stay
 * byte-identical.
 */

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>

struct header_field {
	struct span name; /* without colon */
	struct span value; /* after the colon, folding and leading space kept,
			      without the last CRLF */
	struct span raw; /* the whole field with its CRLF */
};

/* Takes the next field off *rest. 1 for a field; 0 at the end of the section,
 * *rest then stands behind the empty line (or is empty); ERR_SYNTAX for a line
 * that is no field: ret_field->raw is then that line with its continuations,
 * and *rest stands behind it, so that a caller may go on. Lines end in CRLF. */
MUST_CHECK int header_next(struct span *rest, struct header_field *ret_field);

/* Length of the header section with its empty line, or 0 when the empty line
 * has not arrived yet. A message may have no empty line at all: then the whole
 * is header. */
size_t header_section_length(struct span message);

/* What a message's header says about itself. */
struct header_facts {
	size_t field_count;
	size_t received_count;
	size_t from_count, date_count, message_id_count, subject_count;
	size_t bcc_count, return_path_count, sender_count;
	struct span from; /* first one's value */
	struct span message_id; /* first one's value, trimmed */
	struct span subject; /* first one's raw value */
	bool auto_submitted; /* RFC 3834: present and not "no" */
	bool has_8bit; /* raw bytes above 127 in the header */
	struct span first_bad_line; /* a line that is no field, or empty */
};

void header_inspect(struct span section, struct header_facts *ret_facts);

/* Copies section to *out without the named fields (NULL-terminated list, in
 * any case). */
void header_copy_without(
    struct span section, const char *const *names, struct buf *out);

/* The mailboxes of a From field's value: counts them and gives the addr-spec of
 * the first, its domain in canonical form (RFC 5322 §3.4; comments, quoted
 * strings, groups understood; an empty group counts 0). ERR_SYNTAX when it
 * cannot be read, or when two readers could read it differently. */
MUST_CHECK int header_from_address(struct span value, struct arena *arena,
    size_t *ret_count, struct span *ret_first);
