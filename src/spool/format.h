/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What stands on the disk, byte by byte: superblocks and records, written and
 * read back side by side. Pure functions; the readers trust nothing, so they
 * are also what is fuzzed. All numbers are little-endian. README.md tells how
 * the pieces make a log.
 *
 * Every header checksum starts from the spool's secret `seal`. A segment is
 * reused with its old bytes in it, among them bodies that strangers wrote: who
 * does not know the seal cannot place a record there for a recovery to find.
 */

#include "base/buf.h"
#include "base/error.h"
#include "spool/spool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FORMAT_VERSION                                                         \
	3 /* 1 had no catalogue, 2 no shared bodies; both are read */
#define FORMAT_PAGE 4096u /* batches start and end on pages */
#define FORMAT_ALIGN 16u /* records start on multiples of it */
#define FORMAT_HEADER 32u /* of a record */
#define FORMAT_BATCH 40u /* payload of a BATCH record */
#define FORMAT_DONE 16u /* one item of a DONE record */
#define FORMAT_DEFER 24u /* one item of a DEFER record */
#define FORMAT_MESSAGE 88u /* fixed part of a MSG record */
#define FORMAT_BODY 16u /* before the octets of a BODY record */
#define FORMAT_REFERENCE 16u /* to a BODY record, of an ENVELOPE record */
#define FORMAT_PIECE (256u << 10) /* of a large body, with its own checksum */
#define FORMAT_RCPT_MAX 65535u /* recipients of one message */

/* 8 and 9 are reserved: dictionary entries, the end of a compacted segment. */
enum record_type {
	RECORD_BATCH = 1,
	RECORD_MESSAGE = 2,
	RECORD_BODY = 3, /* octets that several messages share */
	RECORD_ENVELOPE = 4, /* a MSG that refers to them */
	RECORD_DONE = 5,
	RECORD_DEFER = 6,
	RECORD_ORDER = 7,
	RECORD_DICTIONARY = 8,
	RECORD_SEAL = 9,
	RECORD_PAD = 10,
	RECORD_EVENT = 11,
};

enum record_flags {
	RECORD_ZSTD = 1, /* reserved */
	RECORD_MORE = 2, /* the transaction goes on in the next record */
	RECORD_LAST = 4, /* … and ends with this one */
};

struct record_header {
	uint64_t lsn; /* segment number << 32 | offset: its own position */
	uint32_t len; /* of the payload, without the fill up to FORMAT_ALIGN */
	uint32_t payload_crc;
	uint8_t type;
	uint8_t flags;
	uint16_t epoch; /* incarnation of the spool that wrote it */
	uint32_t aux; /* 0 */
};

void record_encode(const struct record_header *h, uint32_t seal,
    uint8_t ret_bytes[static FORMAT_HEADER]);
/* False when these bytes are no header made with this seal. */
bool record_decode(const uint8_t bytes[static FORMAT_HEADER], uint32_t seal,
    struct record_header *ret_header);
/* Writing is in two steps: the submitter writes all but lsn and epoch, the
 * committer stamps those and the checksum. */
void record_stamp(uint8_t bytes[static FORMAT_HEADER], uint64_t lsn,
    uint16_t epoch, uint32_t seal);

/* Before stamping. */
void record_set_flags(uint8_t bytes[static FORMAT_HEADER], uint8_t flags);

static inline uint64_t
format_aligned(uint64_t n)
{
	return (n + FORMAT_ALIGN - 1) & ~(uint64_t)(FORMAT_ALIGN - 1);
}

static inline uint64_t
format_paged(uint64_t n)
{
	return (n + FORMAT_PAGE - 1) & ~(uint64_t)(FORMAT_PAGE - 1);
}

/* First page of a segment of the log, of a manifest, and of a segment that
 * compaction wrote: no part of the log. */
enum superblock_kind {
	SUPERBLOCK_SEGMENT = 1,
	SUPERBLOCK_MANIFEST = 2,
	SUPERBLOCK_COPIES = 3,
};

struct superblock {
	enum superblock_kind kind;
	uint64_t serial; /* number of the segment; count of manifests written */
	uint32_t epoch;
	/* manifest: */
	bool is_clean; /* closed in order; next_mno is exact */
	bool is_end; /* the segment of durable_lsn ends there: what is behind
			is void */
	uint32_t seal;
	uint64_t id_key;
	uint64_t durable_lsn; /* end of the log when this was written */
	uint64_t next_mno;
	int64_t wall_us;
	uint64_t catalogue; /* manifest: serial of the one in force; 0: none */
};

void superblock_encode(
    const struct superblock *sb, uint8_t ret_page[static FORMAT_PAGE]);
/* ERR_CORRUPT, or ERR_VERSION when a newer program wrote it. */
MUST_CHECK int superblock_decode(
    const uint8_t page[static FORMAT_PAGE], struct superblock *ret_sb);

struct batch {
	uint64_t number;
	uint64_t durable_lsn; /* all below was durable when this was built */
	uint64_t next_mno;
	int64_t wall_us;
	uint32_t records; /* without BATCH and PAD */
	uint32_t bytes; /* of the batch, from its first byte to its last */
};

void batch_encode(
    const struct batch *b, uint8_t ret_bytes[static FORMAT_BATCH]);
bool batch_decode(struct span payload, struct batch *ret_batch);

/* A MSG record, or an ENVELOPE. */
static inline bool
record_is_message(uint8_t type)
{
	return type == RECORD_MESSAGE || type == RECORD_ENVELOPE;
}

/* Which BODY record, and what it must be. */
struct body_reference {
	uint64_t number;
	uint32_t crc; /* of its payload */
	uint32_t size; /* octets of body */
};

/* A BODY record's payload: number and tenant, then the octets. */
void body_encode(
    uint64_t number, uint32_t tenant, uint8_t ret_bytes[static FORMAT_BODY]);
bool body_decode(struct span payload, uint64_t *ret_number,
    uint32_t *ret_tenant, struct span *ret_octets);

/* The body in a MSG record: its octets, or the checksums of the pieces of the
 * file that has them. In an ENVELOPE record: octets of its own, which stand
 * before those of the body that it shares. */
struct message_body {
	bool is_file, is_shared;
	struct span inline_octets;
	struct span piece_crcs; /* 4 bytes each */
	struct span own_octets; /* is_shared */
	struct body_reference shared; /* is_shared */
	struct span rcpts; /* for message_decode_rcpts */
};

/* Appends the fixed part, the envelope and the prefix, and piece_crcs if the
 * body is in a file; an inline body is to follow, or so many octets as
 * own_octets has, and a reference. ERR_LIMIT when a string or the number of
 * recipients is too large for the format: *b is as before. */
MUST_CHECK int message_encode(const struct spool_envelope *e,
    const struct message_body *body, struct buf *b);
/* Spans look into payload. rcpts stays NULL. */
MUST_CHECK int message_decode(struct span payload,
    struct spool_envelope *ret_envelope, struct message_body *ret_body);
/* Octets before the body, from the fixed part alone; 0 when it is wrong. */
uint64_t message_decode_head_len(struct span payload);
MUST_CHECK int message_decode_rcpts(
    struct span rcpts, uint32_t count, struct spool_rcpt *ret_rcpts);
void reference_encode(const struct body_reference *body,
    uint8_t ret_bytes[static FORMAT_REFERENCE]);
void message_add_piece_crc(struct span piece, struct buf *crcs);
uint32_t message_pieces(uint64_t body_size);
uint32_t message_piece_crc(struct span piece_crcs, uint32_t i);

/* DONE and DEFER records are runs of items; which of both is said by kind. */
void outcome_encode(const struct spool_outcome *o, struct buf *b);
bool outcome_decode(
    enum record_type type, struct span item, struct spool_outcome *ret_outcome);

MUST_CHECK int order_encode(const struct spool_order *o, struct buf *b);
bool order_decode(struct span payload, struct spool_order *ret_order);
