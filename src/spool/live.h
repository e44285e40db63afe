/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a checkpoint keeps of a message, and the files it keeps this in: a live
 * file per segment, and the catalogue of all segments. Pure functions; the
 * readers trust nothing. README.md tells when these files are written.
 */

#include "base/buf.h"
#include "spool/spool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A message with a recipient that is not done, and its place. Used again and
 * again: `runs` grows. */
struct live_entry {
	struct spool_live message; /* its runs are those below */
	uint32_t at, len; /* as in struct slot */
	bool is_file;
	uint64_t body; /* number of the one that it shares; 0: none */
	struct spool_live_run *runs;
	size_t run_capacity;
};

void live_entry_done(struct live_entry *entry);
/* Of a message that was just accepted; spans look into the envelope. */
void live_from_envelope(
    const struct spool_envelope *e, struct live_entry *entry);
/* Recipients that are not done. */
uint32_t live_count(const struct live_entry *entry);
/* Takes out who is done, changes who was deferred. */
void live_apply(struct live_entry *entry, const struct spool_outcome *outcome);

void live_encode(const struct live_entry *entry, struct buf *b);
/* Takes one off the front. Spans look into it. */
bool live_decode(struct span *rest, struct live_entry *entry);

/* A body that messages share, and its place. */
#define LIVE_BODY 16u

struct live_body {
	uint64_t number;
	uint32_t at, len; /* as in struct slot */
};

void live_body_encode(const struct live_body *body, struct buf *b);
/* Takes one off the front. */
bool live_body_decode(struct span *rest, struct live_body *ret_body);

/* A live file is a header, bodies and entries. */
#define LIVE_HEADER 48u

struct live_file {
	uint32_t segment;
	uint32_t crc; /* of bodies and entries */
	uint64_t serial;
	uint64_t count, len; /* of both together; their octets */
	uint32_t bodies;
};

/* Fills in crc and len; content: the bodies, the entries. */
void live_file_encode(struct live_file *file, uint32_t seal,
    struct span content, uint8_t ret_header[static LIVE_HEADER]);
/* A header whose checksum is right; what is behind it is not looked at. */
bool live_file_decode_header(
    struct span bytes, uint32_t seal, struct live_file *ret_file);
/* The header, bodies and entries whose checksum is right. */
bool live_file_decode(struct span bytes, uint32_t seal,
    struct live_file *ret_file, struct span *ret_bodies,
    struct span *ret_entries);

struct catalogue_item {
	uint32_t segment;
	uint32_t live_crc;
	uint64_t live_serial; /* of its live file; 0: nothing lives in it */
	uint64_t end;
	uint64_t entries; /* in the live file, with its bodies */
	uint64_t live_bytes; /* of what these tell of */
};

struct catalogue {
	uint64_t serial;
	uint64_t next_mno;
	uint32_t folded; /* all segments below are folded in */
	uint32_t count;
	struct catalogue_item *items; /* mem_free */
};

#define CATALOGUE_HEADER 48u
#define CATALOGUE_ITEM 40u

void catalogue_encode(
    const struct catalogue *catalogue, uint32_t seal, struct buf *b);
MUST_CHECK bool catalogue_decode(
    struct span bytes, uint32_t seal, struct catalogue *ret_catalogue);
