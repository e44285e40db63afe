/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The event log: JSON lines under DATA_DIR/events/, one file a day
 * (2026-11-23.jsonl, continued as 2026-11-23.1.jsonl past 1 GiB). A projection
 * of the spool: a thread follows the durable log and remembers how far it is
 * (events/position: log position, file, length; written after the file is
 * synced). After a crash the file is cut to the remembered length and written
 * on from the remembered position: no event is lost, none is there twice.
 */

#include "base/buf.h"
#include "base/error.h"
#include "spool/spool.h"

struct exporter;

/* How much of the past is kept, in whole files: what is older, or more, goes,
 * oldest first. The file that is being written always stays. 0: no limit. */
struct event_limits {
	int64_t time_us; /* since the end of the file's day */
	uint64_t bytes; /* all files */
};

MUST_CHECK int exporter_start(struct spool *spool, const char *directory,
    const struct event_limits *limits, struct exporter **ret_exporter,
    struct failure *ret_failure);
/* From any thread; holds from the next look, within a minute. */
void exporter_set_limits(
    struct exporter *exporter, const struct event_limits *limits);
void exporter_stop(struct exporter **exporter); /* exports what is durable */

/* ---- looking events up ------------------------------------------- */

struct event_query {
	struct span message_id; /* empty: any */
	struct span recipient; /* exact, any case; empty: any */
	struct span type; /* name; empty: any */
	struct span tenant; /* empty: any */
	int64_t since_us, until_us; /* wall; 0: open */
	size_t limit; /* the newest ones; 0: all */
};

/* Appends matching lines, oldest first, and their number. Blocks on the disk;
 * reads only the days that can matter. */
MUST_CHECK int events_find(const char *directory,
    const struct event_query *query, struct buf *out, size_t *ret_count);

/* Follows: appends lines that match and came since *cursor (zeroed: from now
 * on); returns their number without waiting. */
struct event_cursor {
	char file[64];
	uint64_t offset;
};

MUST_CHECK int events_follow(const char *directory,
    const struct event_query *query, struct event_cursor *cursor,
    struct buf *out);
