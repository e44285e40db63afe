/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Bodies that several messages share: a BODY record each, with a number of its
 * own, to which ENVELOPE records refer. Two things:
 *
 * The table knows the bodies that live, and how many messages need each: such
 * a body counts as alive in its segment, as a message does. The committer
 * claims, outcomes let go, loading finds; checkpoints and compaction look, and
 * say where a body is now.
 *
 * The memory has the octets of bodies that came again of late, so that the next
 * message with one can be compared octet by octet. A checksum says only which
 * to compare with; tenants never meet. It tells nothing of what is stored: the
 * committer writes the body anew if it has died meanwhile.
 *
 * Thread-safe. The locks are leaves.
 */

#include "base/list.h"
#include "base/map.h"
#include "spool/format.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct spool;
struct slot;
struct spool_draft;

/* ---- the table --------------------------------------------------------- */

struct body {
	uint64_t number;
	uint32_t handle; /* what a slot of the index has */
	uint32_t segment, at, len; /* as in struct slot; segment 0: lost */
	uint32_t refs; /* messages, and claims under way */
	bool is_damaged;
	bool is_found; /* of a former life; else written in this one */
};

struct bodies {
	pthread_mutex_t lock;
	struct body **all; /* by handle; NULL: free */
	uint32_t count, capacity, live;
	uint32_t *unused; /* free handles */
	uint32_t unused_count;
	struct map *by_number;
	uint64_t refs;
	bool is_whole; /* all is loaded: what nobody needs goes at once */
};

void bodies_init(struct bodies *bodies);
void bodies_done(struct bodies *bodies);

/* Loading: a body is stored here. One that is known stays where it is. */
void bodies_found(struct spool *spool, const struct body *place);
/* One more message needs it; one that nobody knows is lost. */
struct body bodies_ref(struct spool *spool, uint64_t number);
/* All messages are loaded. */
void bodies_settle(struct spool *spool);

/* The committer writes a message that needs it. 1: the body must be written
 * before it, with so many octets of payload, to this segment. ERR_CORRUPT: what
 * is stored is damaged, and nothing may be added to those who refer to it. */
MUST_CHECK int bodies_claim(struct spool *spool, uint64_t number,
    uint32_t segment, uint32_t len, uint32_t *ret_handle);
/* … and that is its place there. */
void bodies_place(struct spool *spool, uint32_t handle, uint32_t at);
/* One message less needs it. */
void bodies_unref(struct spool *spool, uint32_t handle);

/* False: nobody needs it any more. */
MUST_CHECK bool bodies_find(
    struct spool *spool, uint64_t number, struct body *ret_body);
/* The one that stands at this place. Looks at all of them. */
MUST_CHECK bool bodies_find_at(
    struct spool *spool, const struct slot *place, struct body *ret_body);
/* True: it is still there, and was not marked before. */
MUST_CHECK bool bodies_mark_damaged(
    struct spool *spool, const struct body *body);
/* It is still needed, and where it was. */
MUST_CHECK bool bodies_is_at(struct spool *spool, const struct body *body);
/* From now on it is at `to`. False: it was not where it should have been. */
MUST_CHECK bool bodies_move(
    struct spool *spool, const struct body *from, const struct slot *to);
/* All, by place; mem_free them. */
struct body *bodies_all(struct spool *spool, size_t *ret_count);
uint64_t bodies_bytes(struct spool *spool); /* memory */
/* How many live, and how many messages need them. */
void bodies_count(
    struct spool *spool, uint64_t *ret_bodies, uint64_t *ret_messages);

/* ---- the memory -------------------------------------------------------- */

#define RECENT_SEEN 4096u

struct recent {
	pthread_mutex_t lock;
	struct list contents; /* the one used last at the end */
	struct map *by_key;
	uint64_t bytes;
	uint64_t seen[RECENT_SEEN]; /* keys of bodies that came once */
};

void recent_init(struct recent *recent);
void recent_done(struct recent *recent);
/* True: this draft's octets behind its own came before, and are, or shall
 * be, those of this body. */
MUST_CHECK bool recent_match(struct spool *spool, uint32_t tenant,
    const struct spool_draft *draft, struct body_reference *ret_body);
/* Checksum of the BODY record's payload that this draft would have. */
uint32_t draft_body_crc(
    const struct spool_draft *draft, uint64_t number, uint32_t tenant);
/* It is damaged where it is stored: the next one gets another number. */
void recent_forget(struct recent *recent, uint64_t number);
uint64_t recent_bytes(struct recent *recent); /* memory */
