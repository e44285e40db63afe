/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/buf.h"
#include "log/log.h"

enum {
	/* What waits for the writer; beyond it lines are dropped. */
	LOG_QUEUE_MAX = 1024 * 1024,
	/* Of one value: a peer's words, not its letters to us. */
	LOG_VALUE_MAX = 2048,
};

struct log_record {
	int64_t wall_us;
	enum log_level level;
	const char *room, *message;
	const struct log_field *fields;
};

/* Appends the record as one line, with its line end. */
void log_format_text(struct buf *b, const struct log_record *record);
void log_format_json(struct buf *b, const struct log_record *record);
