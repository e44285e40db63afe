/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The event files: their names, which exporter and look-up share, and how long
 * they are kept. */

#include "base/error.h"
#include "report/export.h"

#include <stdbool.h>
#include <stddef.h>

#define EVENTS_FILE_SIZE 64

/* "2026-11-23.jsonl", "2026-11-23.1.jsonl" from a text that begins with the
 * day. */
void events_file_name(
    const char *day, unsigned part, char name[static EVENTS_FILE_SIZE]);
bool events_is_file(const char *name);
/* In order of time: by day, then by part. */
int events_compare_files(const char *a, const char *b);

struct arena;

/* A text field of a line, decoded; empty when it is not there. */
struct span events_field(
    struct span line, const char *name, struct arena *arena);
/* Gives a message's events, oldest first, until fn returns true. Reads the
 * files around the time of its acceptance only, and so much of them as mail is
 * accepted in half an hour, at most 64 MiB each. Best effort: what cannot be
 * read is passed over. */
typedef bool events_line_fn(void *arg, struct span line);
void events_of_message(const char *directory, const struct msgid *id,
    events_line_fn *fn, void *arg);

struct events_files {
	char **names; /* oldest first */
	size_t count;
};

/* A directory that is not there has no files. */
MUST_CHECK int events_list_files(
    const char *directory, struct events_files *ret_files);
void events_files_done(struct events_files *files);

/* Removes files, oldest first, that are past a limit; never the newest. */
MUST_CHECK int events_retain(
    const char *directory, const struct event_limits *limits, int64_t now_us);
