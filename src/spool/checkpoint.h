/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A checkpoint in the making; the folder's alone. */

#include "spool/internal.h"

struct move {
	struct slot from; /* number 0: a body */
	struct body body;
	uint32_t to; /* place in the copies / FORMAT_ALIGN */
};

/* A live file's content. */
struct content {
	struct buf bodies, entries;
	uint32_t body_count;
	uint64_t count; /* of both */
	uint64_t live_bytes; /* of what they tell of */
};

/* The segment of copies that a checkpoint writes; number 0: none. */
struct copies {
	uint32_t number;
	int file;
	uint64_t end, synced;
	struct buf bytes; /* of the file, before `end` */
	struct content live; /* its live file */
	struct move *moves;
	size_t count, capacity;
};

struct pass {
	struct spool *spool;
	struct fold fold;
	struct catalogue next;
	int64_t started_us; /* monotonic */
	uint64_t bytes; /* read and written */
	bool is_named; /* a manifest may name the new catalogue */
	/* The segment at hand. */
	uint32_t segment;
	struct segment *source; /* compaction: held */
	struct content live;
	uint64_t count; /* scrubbing: of what was read */
	struct body *bodies; /* all there were, by place */
	size_t body_count;
	struct copies copies;
};

/* Waits as long as the rate demands. */
MUST_CHECK int pass_pace(struct pass *pass, uint64_t bytes);
/* The entry is of this segment and of a message that lives; its state is made
 * that of the checkpoint. */
bool pass_wants(struct pass *pass, struct live_entry *entry);
/* It stays in the segment at hand. */
void pass_keep(struct pass *pass, const struct live_entry *entry);
void pass_keep_body(struct pass *pass, const struct body *body);
void content_add(struct content *content, const struct live_entry *entry);
void content_add_body(struct content *content, const struct live_body *body);
void content_done(struct content *content);
typedef int pass_body_fn(struct pass *pass, const struct body *body);
/* Calls fn for each body that lives in the segment at hand. */
MUST_CHECK int pass_each_body(struct pass *pass, pass_body_fn *fn);
/* Writes the live file of item->segment, and says so in the item. */
MUST_CHECK int pass_write_live(
    struct pass *pass, struct content *content, struct catalogue_item *item);
void pass_add_item(struct pass *pass, const struct catalogue_item *item);

/* ---- scrub.c ----------------------------------------------------------- */

struct scrubbing {
	int64_t next_us; /* monotonic; 0: not begun */
	uint32_t from; /* number of the segment to go on with */
};

/* Reads one segment's live messages when that is due. */
void scrub(struct spool *spool, struct scrubbing *scrubbing);

/* ---- compact.c --------------------------------------------------------- */

/* Is this segment worth to be emptied? */
bool compact_is_victim(const struct pass *pass, const struct segment *s);
/* Copies what lives in the segment at hand; what is damaged is kept. */
MUST_CHECK int compact_segment(struct pass *pass, const struct segment *s);
/* Makes the copies durable; adds their item. */
MUST_CHECK int compact_finish(struct pass *pass);
/* The catalogue that names them is durable: messages are there from now on. */
void compact_adopt(struct pass *pass);
/* Frees memory; removes the file if nothing may name it. */
void compact_done(struct pass *pass);
