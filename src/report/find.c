/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Looking events up in the files: by reading only the days that can matter,
 * newest first when only the newest are wanted. Lines are matched as text: our
 * own renderer wrote them, escapes every quote inside a value, and never
 * repeats a name, so `,"name":"` stands exactly where the field is.
 */

#include "base/arena.h"
#include "base/mem.h"
#include "base/time.h"
#include "mail/msgid.h"
#include "os/file.h"
#include "report/export.h"
#include "report/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The raw value of a text field, or an empty span. */
static struct span
field(struct span line, const char *name)
{
	char needle[64];
	int len = snprintf(needle, sizeof(needle), "\"%s\":\"", name);
	size_t at = span_search(line, span_from(needle, (size_t)len));

	if (at == SIZE_MAX)
		return SPAN_EMPTY;
	struct span rest = span_skip(line, at + (size_t)len);
	for (size_t i = 0; i < rest.len; i++) {
		if (rest.ptr[i] == '\\')
			i++;
		else if (rest.ptr[i] == '"')
			return span_slice(rest, 0, i);
	}
	return SPAN_EMPTY;
}

/* As the renderer would have written it. */
static bool
equals(struct span raw, struct span wanted)
{
	struct buf json = BUF_EMPTY;
	bool equal;

	buf_append_json(&json, wanted);
	struct span quoted = buf_span(&json);
	equal = span_eq_nocase(raw, span_slice(quoted, 1, quoted.len - 2));
	buf_done(&json);
	return equal;
}

static bool
matches(const struct event_query *q, struct span line)
{
	int64_t time;

	if (q->message_id.len > 0 &&
	    !equals(field(line, "message_id"), q->message_id))
		return false;
	if (q->recipient.len > 0 &&
	    !equals(field(line, "recipient"), q->recipient))
		return false;
	if (q->type.len > 0 && !equals(field(line, "type"), q->type))
		return false;
	if (q->tenant.len > 0 && !equals(field(line, "tenant"), q->tenant))
		return false;
	if (q->since_us == 0 && q->until_us == 0)
		return true;
	if (!time_parse_rfc3339(field(line, "time"), &time))
		return false;
	return (q->since_us == 0 || time >= q->since_us) &&
	       (q->until_us == 0 || time < q->until_us);
}

/* ---- the newest `limit` lines ------------------------------------ */

/* Matching lines of one file, at most `limit` of them: the newest. */
struct matched {
	char **lines; /* a ring once it is full */
	size_t count, start, limit;
};

static void
keep(struct matched *m, struct span line)
{
	if (m->limit == 0 || m->count < m->limit) {
		m->lines =
		    mem_resize(m->lines, m->count + 1, sizeof(*m->lines));
		m->lines[m->count++] = span_dup(line);
		return;
	}
	mem_free(m->lines[m->start]);
	m->lines[m->start] = span_dup(line);
	m->start = (m->start + 1) % m->count;
}

static void
matched_done(struct matched *m)
{
	for (size_t i = 0; i < m->count; i++)
		mem_free(m->lines[i]);
	mem_free(m->lines);
}

static int
search_file(const char *path, const struct event_query *q, struct matched *m)
{
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;
	ssize_t len;

	if (f == NULL)
		return errno == ENOENT ? 0 : -errno;
	while ((len = getline(&line, &size, f)) > 0) {
		struct span s = span_from(line, (size_t)len);

		/* The last line may be in the middle of being written. */
		if (s.ptr[s.len - 1] == '\n' && matches(q, s))
			keep(m, s);
	}
	free(line);
	fclose(f);
	return 0;
}

/* Compares a file's day with a time's, `slack_us` later. */
static int
compare_day(const char *file, int64_t wall_us, int64_t slack_us)
{
	char day[TIME_RFC3339_SIZE];

	return strncmp(file, time_format_rfc3339(wall_us + slack_us, day), 10);
}

/* A message's story starts with its id's time; days before cannot matter. The
 * file's day is that of the export, which may be later than the event's, or,
 * when a clock was set, earlier: a day of slack at both ends. */
static bool
day_matters(const char *file, const struct event_query *q)
{
	int64_t since = q->since_us;
	struct msgid id;

	if (msgid_parse(q->message_id, &id) && msgid_wall_us(&id) > since)
		since = msgid_wall_us(&id);
	if (since > 0 && compare_day(file, since, -US_PER_DAY) < 0)
		return false;
	return q->until_us == 0 ||
	       compare_day(file, q->until_us, US_PER_DAY) <= 0;
}

static size_t
append_matched(const struct matched *m, struct buf *out)
{
	for (size_t i = 0; i < m->count; i++)
		buf_append(out, span_of(m->lines[(m->start + i) % m->count]));
	return m->count;
}

int
events_find(const char *directory, const struct event_query *q, struct buf *out,
    size_t *ret_count)
{
	struct events_files files;
	size_t left = q->limit, found = 0;
	int result = 0;

	TRY(events_list_files(directory, &files));
	struct matched *parts = mem_zalloc((files.count + 1) * sizeof(*parts));
	size_t first = files.count;
	while (first > 0 && result == 0 && (q->limit == 0 || left > 0)) {
		const char *name = files.names[--first];
		AUTO_FREE char *path = mem_printf("%s/%s", directory, name);

		parts[first].limit = left;
		if (day_matters(name, q))
			result = search_file(path, q, &parts[first]);
		left -= q->limit == 0 ? 0 : parts[first].count;
	}
	for (size_t i = first; i < files.count; i++) {
		if (result == 0)
			found += append_matched(&parts[i], out);
		matched_done(&parts[i]);
	}
	mem_free(parts);
	events_files_done(&files);
	if (result == 0)
		*ret_count = found;
	return result;
}

/* ---- one message's ----------------------------------------------- */

/* Files are in the order of the log, and that nearly in the order of times: a
 * message's first event has the time of its MAIL, its place that of its end. */
#define SEEK_BEFORE_US (10 * US_PER_S)
#define SEEK_BLOCK 65536
#define SEEK_READ_MAX (INT64_C(64) << 20)
#define SEEK_AFTER_US (40 * US_PER_MIN)

struct span
events_field(struct span line, const char *name, struct arena *arena)
{
	struct span raw = field(line, name);
	struct span copy = arena_dup(arena, raw);
	char *p = (char *)(uintptr_t)copy.ptr;
	size_t len = 0;

	for (size_t i = 0; i < raw.len; i++) {
		if (raw.ptr[i] == '\\' && i + 1 < raw.len) {
			char next = raw.ptr[++i];
			/* \n, \u…: nothing that an address has. */
			if (next != '"' && next != '\\' && next != '/')
				return SPAN_EMPTY;
		}
		p[len++] = raw.ptr[i];
	}
	return span_slice(copy, 0, len);
}

/* The time of the first whole line behind `offset`; 0: there is none. */
static int64_t
time_behind(FILE *f, off_t offset)
{
	char *line = NULL;
	size_t size = 0;
	int64_t time = 0;
	ssize_t len;

	if (fseeko(f, offset, SEEK_SET) == 0 &&
	    (offset == 0 || getline(&line, &size, f) > 0) &&
	    (len = getline(&line, &size, f)) > 0 &&
	    !time_parse_rfc3339(
		field(span_from(line, (size_t)len), "time"), &time))
		time = 0;
	free(line);
	return time;
}

/* Leaves the file at a line before those of this time. */
static bool
seek_time(FILE *f, int64_t wall_us)
{
	off_t low = 0, high;
	char *line = NULL;
	size_t size = 0;

	if (fseeko(f, 0, SEEK_END) < 0 || (high = ftello(f)) < 0)
		return false;
	while (high - low > SEEK_BLOCK) {
		off_t middle = low + (high - low) / 2;
		int64_t time = time_behind(f, middle);
		if (time != 0 && time < wall_us)
			low = middle;
		else
			high = middle;
	}
	bool good = fseeko(f, low, SEEK_SET) == 0;
	if (good && low > 0)
		good = getline(&line, &size, f) > 0;
	free(line);
	return good;
}

/* True: fn has what it wanted. */
static bool
give_lines(FILE *f, const struct event_query *q, int64_t until_us,
    events_line_fn *fn, void *arg)
{
	char *line = NULL;
	size_t size = 0;
	int64_t left = SEEK_READ_MAX, time;
	bool found = false;
	ssize_t len;

	while (!found && left > 0 && (len = getline(&line, &size, f)) > 0) {
		struct span s = span_from(line, (size_t)len);
		left -= len;
		if (time_parse_rfc3339(field(s, "time"), &time) &&
		    time > until_us)
			break;
		if (s.ptr[s.len - 1] == '\n' && matches(q, s))
			found = fn(arg, s);
	}
	free(line);
	return found;
}

void
events_of_message(const char *directory, const struct msgid *id,
    events_line_fn *fn, void *arg)
{
	char text[MSGID_TEXT_SIZE];
	int64_t wall_us = msgid_wall_us(id);
	const struct event_query days = { .since_us = wall_us,
		.until_us = wall_us + US_PER_DAY };
	const struct event_query q = {
		.message_id = span_of(msgid_format(id, text)),
	};
	struct events_files files;
	bool found = false;

	if (events_list_files(directory, &files) < 0)
		return;
	for (size_t i = 0; i < files.count && !found; i++) {
		AUTO_FREE char *path =
		    mem_printf("%s/%s", directory, files.names[i]);
		FILE *f = day_matters(files.names[i], &days) ? fopen(path, "re")
							     : NULL;
		if (f == NULL)
			continue;
		found = seek_time(f, wall_us - SEEK_BEFORE_US) &&
			give_lines(f, &q, wall_us + SEEK_AFTER_US, fn, arg);
		(void)fclose(f);
	}
	events_files_done(&files);
}

/* ---- following --------------------------------------------------- */

/* Appends what came since *offset, whole lines only. */
static int
follow_file(const char *path, const struct event_query *q, uint64_t *offset,
    struct buf *out)
{
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	int count = 0;

	if (f == NULL)
		return errno == ENOENT ? 0 : -errno;
	/* A file that was cut after a crash is written on with the same. */
	if (fseeko(f, (off_t)*offset, SEEK_SET) < 0) {
		int result = -errno;

		fclose(f);
		return result;
	}
	while ((len = getline(&line, &size, f)) > 0 && line[len - 1] == '\n') {
		struct span s = span_from(line, (size_t)len);

		*offset += s.len;
		if (matches(q, s)) {
			buf_append(out, s);
			count++;
		}
	}
	free(line);
	fclose(f);
	return count;
}

/* Where the last whole line ends. */
static int
find_last_end(const char *path, uint64_t *ret_offset)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	char block[4096];
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	uint64_t end = (uint64_t)st.st_size;
	while (end > 0) {
		size_t len = end < sizeof(block) ? (size_t)end : sizeof(block);

		TRY(file_pread_all(fd, block, len, (off_t)(end - len)));
		size_t at = span_find_last(span_from(block, len), '\n');
		end -= len;
		if (at == SIZE_MAX)
			continue;
		end += at + 1;
		break;
	}
	*ret_offset = end;
	return 0;
}

/* From now on: behind what the newest file has. */
static int
start_cursor(const char *directory, const struct events_files *files,
    struct event_cursor *cursor)
{
	if (files->count == 0) {
		snprintf(
		    cursor->file, sizeof(cursor->file), "%s", "0000-00-00");
		return 0;
	}
	const char *last = files->names[files->count - 1];
	AUTO_FREE char *path = mem_printf("%s/%s", directory, last);
	TRY(find_last_end(path, &cursor->offset));
	snprintf(cursor->file, sizeof(cursor->file), "%s", last);
	return 0;
}

int
events_follow(const char *directory, const struct event_query *q,
    struct event_cursor *cursor, struct buf *out)
{
	struct events_files files;
	int result = 0, total = 0;

	TRY(events_list_files(directory, &files));
	if (cursor->file[0] == '\0')
		result = start_cursor(directory, &files, cursor);
	for (size_t i = 0; i < files.count && result >= 0; i++) {
		const char *name = files.names[i];
		AUTO_FREE char *path = mem_printf("%s/%s", directory, name);
		int order = events_compare_files(name, cursor->file);

		if (order < 0)
			continue;
		if (order > 0) {
			snprintf(
			    cursor->file, sizeof(cursor->file), "%s", name);
			cursor->offset = 0;
		}
		result = follow_file(path, q, &cursor->offset, out);
		total += result > 0 ? result : 0;
	}
	events_files_done(&files);
	return result < 0 ? result : total;
}
