/* SPDX-License-Identifier: Apache-2.0 */
#include "report/export.h"

#include "base/buf.h"
#include "base/bug.h"
#include "base/mem.h"
#include "base/time.h"
#include "log/log.h"
#include "os/clock.h"
#include "os/file.h"
#include "report/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* How long events may wait for the sync that makes their export final. They
 * are readable at once; only the spool's segments wait for it. */
#define SYNC_INTERVAL_US US_PER_S
#define FILE_BYTES_MAX (UINT64_C(1) << 30)
#define RETRY_PAUSE_US (5 * US_PER_S)
/* Between two rounds, so that one brings the lines of many commits. */
#define GATHER_US (20 * US_PER_MS)
/* Between two looks for files past their limits. */
#define RETAIN_INTERVAL_US US_PER_MIN

struct exporter {
	struct spool *spool;
	char *directory;
	pthread_t thread;
	atomic_bool stopping, stopped;
	_Atomic(int64_t) time_us_max; /* of struct event_limits */
	_Atomic(uint64_t) bytes_max;
	/* The thread's own. */
	int fd;
	char file[EVENTS_FILE_SIZE];
	uint64_t length;
	struct buf lines; /* of one reading, about to be written */
	uint64_t lsn; /* exported up to here, maybe not synced */
	bool dirty;
	int64_t synced_us, retained_us; /* monotonic */
};

/* ---- the position: how far the projection is --------------------- */

static int
write_position(struct exporter *x)
{
	AUTO_FREE char *path = mem_printf("%s/position", x->directory);
	AUTO_FREE char *text = mem_printf("%" PRIu64 " %s %" PRIu64 "\n",
	    x->lsn, x->file[0] ? x->file : "-", x->length);

	return file_replace(path, span_of(text), 0640);
}

/* "LSN FILE LENGTH", or "-" for no file yet. */
static int
parse_position(struct span text, struct exporter *x)
{
	struct span rest = span_trim(text);
	struct span lsn = span_cut(&rest, ' '), file = span_cut(&rest, ' ');

	if (!span_to_u64(lsn, UINT64_MAX, &x->lsn) ||
	    !span_to_u64(rest, INT64_MAX, &x->length) ||
	    !span_to_cstring(file, x->file, sizeof(x->file)))
		return ERR_CORRUPT;
	if (strcmp(x->file, "-") == 0)
		x->file[0] = '\0';
	else if (!events_is_file(x->file))
		return ERR_CORRUPT;
	return 0;
}

static int
read_position(struct exporter *x)
{
	AUTO_FREE char *path = mem_printf("%s/position", x->directory);
	struct buf text = BUF_EMPTY;
	int result = file_read(path, 4096, &text);

	if (result == 0)
		result = parse_position(buf_span(&text), x);
	buf_done(&text);
	return result;
}

/* ---- files ------------------------------------------------------- */

static int
open_file(struct exporter *x, const char *name)
{
	AUTO_FREE char *path = mem_printf("%s/%s", x->directory, name);
	struct stat st;
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0) {
		int result = -errno;

		close(fd);
		return result;
	}
	if (x->fd >= 0)
		close(x->fd);
	x->fd = fd;
	x->length = (uint64_t)st.st_size;
	if (name != x->file)
		snprintf(x->file, sizeof(x->file), "%s", name);
	x->dirty = true;
	return file_sync_directory(x->directory);
}

/* The day's file, continued in another when it is full. When the clock goes
 * back, the later day goes on: files are only ever added at the end. */
static int
choose_file(struct exporter *x, int64_t wall_us)
{
	char day[TIME_RFC3339_SIZE], name[EVENTS_FILE_SIZE];

	time_format_rfc3339(wall_us, day);
	if (x->fd >= 0 && strncmp(x->file, day, 10) > 0)
		memcpy(day, x->file, 10);
	if (x->fd >= 0 && strncmp(x->file, day, 10) == 0 &&
	    x->length < FILE_BYTES_MAX)
		return 0;
	if (x->fd >= 0)
		TRY(fdatasync(x->fd) < 0 ? -errno : 0);
	for (unsigned part = 0;; part++) {
		events_file_name(day, part, name);
		TRY(open_file(x, name));
		if (x->length < FILE_BYTES_MAX)
			return 0;
	}
}

static int
gather_lines(void *arg, struct span lines)
{
	struct exporter *x = arg;

	buf_append(&x->lines, lines);
	return 0;
}

static int
write_lines(struct exporter *x)
{
	struct span lines = buf_span(&x->lines);

	if (lines.len == 0)
		return 0;
	TRY(choose_file(x, clock_wall_us()));
	int result = file_write_all(x->fd, lines);
	if (result < 0) {
		/* What was written in part is taken back, so that the next
		 * try leaves whole lines only. */
		if (ftruncate(x->fd, (off_t)x->length) < 0)
			return -errno;
		return result;
	}
	x->length += lines.len;
	return 0;
}

/* Negative: the position is where it was, unless some lines were written
 * before those that could not be read. */
static int
export_reading(struct exporter *x)
{
	uint64_t before = x->lsn;
	int more = spool_events_read(x->spool, &x->lsn, gather_lines, x);
	int result = write_lines(x);

	buf_clear(&x->lines);
	if (result < 0) {
		x->lsn = before;
		return result;
	}
	if (x->lsn != before)
		x->dirty = true;
	return more;
}

static int
sync_position(struct exporter *x)
{
	if (!x->dirty)
		return 0;
	if (x->fd >= 0 && fdatasync(x->fd) < 0)
		return -errno;
	TRY(write_position(x));
	spool_events_exported(x->spool, x->lsn);
	x->dirty = false;
	return 0;
}

/* ---- after a restart --------------------------------------------- */

/* Files that came after the remembered one hold only what will be written
 * again from the log. */
static int
drop_newer_files(struct exporter *x)
{
	struct events_files files;

	TRY(events_list_files(x->directory, &files));
	int result = 0;
	for (size_t i = 0; i < files.count && result == 0; i++) {
		AUTO_FREE char *path =
		    mem_printf("%s/%s", x->directory, files.names[i]);

		if (events_compare_files(files.names[i], x->file) > 0 &&
		    unlink(path) < 0)
			result = -errno;
	}
	events_files_done(&files);
	return result;
}

/* Cuts the file to the remembered length. One that is gone or shorter was
 * somebody else's doing: it is not stretched. */
static int
cut_file(const struct exporter *x)
{
	AUTO_FREE char *path = mem_printf("%s/%s", x->directory, x->file);
	struct stat st;

	if (stat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if ((uint64_t)st.st_size <= x->length)
		return 0;
	return truncate(path, (off_t)x->length) < 0 ? -errno : 0;
}

static int
resume(struct exporter *x)
{
	struct spool_stats stats;
	int result = read_position(x);

	if (result == -ENOENT)
		return 0;
	TRY(result);
	spool_stats(x->spool, &stats);
	if (x->lsn > stats.durable_lsn) {
		/* Another spool's position: this one is told from its start. */
		x->lsn = 0;
		x->file[0] = '\0';
		return 0;
	}
	if (x->file[0] == '\0')
		return 0;
	TRY(drop_newer_files(x));
	TRY(cut_file(x));
	return open_file(x, x->file);
}

/* ---- the thread -------------------------------------------------- */

static void
report_trouble(struct exporter *x, int result)
{
	LOG(LOG_ERROR, "report",
	    "the event log cannot be written; events wait in the spool",
	    LOG_C("directory", x->directory),
	    LOG_C("error", error_text(result)));
}

/* One round: everything that is durable now. Negative on trouble. */
static int
export_some(struct exporter *x)
{
	int more;

	do {
		more = export_reading(x);
		if (clock_monotonic_us() - x->synced_us > SYNC_INTERVAL_US) {
			TRY(sync_position(x));
			x->synced_us = clock_monotonic_us();
		}
	} while (more > 0);
	return more;
}

static void
retain(struct exporter *x)
{
	const struct event_limits limits = { atomic_load(&x->time_us_max),
		atomic_load(&x->bytes_max) };
	int64_t now_us = clock_monotonic_us();

	if (x->retained_us != 0 && now_us - x->retained_us < RETAIN_INTERVAL_US)
		return;
	x->retained_us = now_us;
	int result = events_retain(x->directory, &limits, clock_wall_us());
	if (result < 0)
		LOG(LOG_WARNING, "report", "old events cannot be removed",
		    LOG_C("directory", x->directory),
		    LOG_C("error", error_text(result)));
}

static void *
run(void *arg)
{
	const struct timespec pause = { .tv_nsec = GATHER_US * 1000 };
	struct exporter *x = arg;

	while (!atomic_load(&x->stopping)) {
		uint64_t before = x->lsn;
		int result = export_some(x);

		if (result < 0) {
			report_trouble(x, result);
			spool_events_wait(x->spool, UINT64_MAX, RETRY_PAUSE_US);
			continue;
		}
		retain(x);
		if (x->lsn != before)
			(void)nanosleep(&pause, NULL);
		else
			buf_done(&x->lines);
		spool_events_wait(x->spool, x->lsn, SYNC_INTERVAL_US);
	}
	int result = export_some(x);
	if (result == 0)
		result = sync_position(x);
	if (result < 0)
		report_trouble(x, result);
	atomic_store(&x->stopped, true);
	return NULL;
}

void
exporter_set_limits(struct exporter *x, const struct event_limits *limits)
{
	atomic_store(&x->time_us_max, limits->time_us);
	atomic_store(&x->bytes_max, limits->bytes);
}

int
exporter_start(struct spool *spool, const char *directory,
    const struct event_limits *limits, struct exporter **ret_exporter,
    struct failure *ret_failure)
{
	struct exporter *x = MEM_NEW(struct exporter);
	int result = file_make_directory(directory, 0750);

	x->spool = spool;
	x->directory = mem_strdup(directory);
	x->fd = -1;
	exporter_set_limits(x, limits);
	if (result == 0)
		result = resume(x);
	if (result == 0)
		result = -pthread_create(&x->thread, NULL, run, x);
	if (result < 0) {
		failure_set(ret_failure, result,
		    "cannot continue the event log in %s: %s; it must be a "
		    "directory that the service's user may write (without "
		    "its file `position` all events in the spool are told "
		    "again)",
		    directory, error_text(result));
		if (x->fd >= 0)
			close(x->fd);
		mem_free(x->directory);
		mem_free(x);
		return result;
	}
	*ret_exporter = x;
	return 0;
}

/* A wake just before the thread begins to wait is lost: so again. */
static void
stop_thread(struct exporter *x)
{
	const struct timespec pause = { .tv_nsec = 5000000 };

	for (;;) {
		spool_events_wake(x->spool);
		if (atomic_load(&x->stopped))
			break;
		(void)nanosleep(&pause, NULL);
	}
	pthread_join(x->thread, NULL);
}

void
exporter_stop(struct exporter **exporter)
{
	struct exporter *x = *exporter;

	if (x == NULL)
		return;
	atomic_store(&x->stopping, true);
	stop_thread(x);
	if (x->fd >= 0)
		close(x->fd);
	buf_done(&x->lines);
	mem_free(x->directory);
	mem_free(x);
	*exporter = NULL;
}
