/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Comma-separated values (RFC 4180), read and written with care for what
 * spreadsheets do: a field that one might take for a formula (it begins with
 * = + - @, a tab or CR) is written behind an apostrophe, which reading takes
 * off again; so is one that begins with an apostrophe itself. Lines may end in
 * CRLF or LF. Pure.
 */

#include "base/buf.h"

#define CSV_FIELDS_MAX 16
#define CSV_RECORD_MAX 65536 /* octets of a record */

struct csv {
	struct span rest;
	unsigned line; /* where the record last read begins, from 1 */
	unsigned next_line;
	struct buf text; /* of the record's fields */
	size_t count;
	size_t ends[CSV_FIELDS_MAX]; /* of each field in text */
};

struct csv csv_begin(struct span text);
void csv_done(struct csv *csv);
/* Reads the next record that is not an empty line. 1; 0: there is none;
 * ERR_SYNTAX, ERR_LIMIT: this one is not to be read, and *csv stands behind
 * it as well as can be told. */
MUST_CHECK int csv_next(struct csv *csv);
/* Lives until the next record is read. Empty beyond the last. */
struct span csv_field(const struct csv *csv, size_t number);

/* Appends a field, and before all but the first of a record a comma. */
void csv_append(struct buf *out, struct span field, bool is_first);
void csv_end(struct buf *out);
