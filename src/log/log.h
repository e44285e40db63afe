/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Structured lines to stderr that never block a loop: each line is formatted
 * by its caller and handed to one writer thread through a bounded ring. When
 * the ring is full the line is dropped and counted; the count is logged when
 * there is room again. Every value is escaped: bytes a peer sent can neither
 * end a line nor reach a terminal raw.
 *
 * Rooms of floor 3 and below return facts and do not log.
 *
 * text: 2026-11-23T17:44:49.123Z info  receive: auth failed  client=192.0.2.1
 * json: {"time":"…","level":"info","room":"receive","message":"auth failed",…}
 */

#include "base/error.h"
#include "base/span.h"

#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

enum log_format { LOG_TEXT, LOG_JSON };

struct log_field {
	const char *name; /* snake_case; NULL ends the list */

	enum { LOG_FIELD_SPAN, LOG_FIELD_NUMBER } kind;
	struct span span; /* an empty one with NULL pointer is left out */
	int64_t number;
};

/* Starts the writer thread. Before it and after log_stop lines are written
 * directly. */
MUST_CHECK int log_start(enum log_level level, enum log_format format);
void log_stop(void); /* writes what is queued */
void log_set(enum log_level level, enum log_format format); /* on reload */

void log_line(enum log_level level, const char *room, const char *message,
    const struct log_field *fields);

#define LOG_S(n, s)                                                            \
	((struct log_field){ .name = (n), .kind = LOG_FIELD_SPAN, .span = (s) })
#define LOG_C(n, c) LOG_S((n), span_of(c))
#define LOG_N(n, v)                                                            \
	((struct log_field){                                                   \
	    .name = (n), .kind = LOG_FIELD_NUMBER, .number = (int64_t)(v) })

/* The list has a field before the first, so that it may also be empty.
 * LOG(LOG_INFO, "receive", "auth failed", LOG_C("client", ip), …) */
#define LOG(level, room, message, ...)                                         \
	log_line((level), (room), (message),                                   \
	    &(const struct log_field[]){                                       \
		{ .name = "" }, ##__VA_ARGS__, { .name = NULL } }[1])
