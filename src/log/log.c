/* SPDX-License-Identifier: Apache-2.0 */
#include "log/log.h"

#include "base/bug.h"
#include "log/internal.h"
#include "os/clock.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

/*
 * The ring is two buffers: callers fill one while the writer empties the
 * other, so that the lock is held for a memcpy or a swap and never for a
 * write.
 */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t is_filled;
	struct buf queue;
	uint64_t dropped;
	bool is_running, is_stopping;
	pthread_t writer;
} shared = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.is_filled = PTHREAD_COND_INITIALIZER,
};

static _Atomic enum log_level least_level = LOG_INFO;
static _Atomic enum log_format line_format = LOG_TEXT;

/* What cannot be written is lost: there is no place left to say so. */
static void
write_out(struct span s)
{
	while (s.len) {
		ssize_t n = write(STDERR_FILENO, s.ptr, s.len);
		if (n >= 0) {
			s = span_skip(s, (size_t)n);
			continue;
		}
		if (errno == EAGAIN) {
			struct pollfd ready = { .fd = STDERR_FILENO,
				.events = POLLOUT };
			(void)poll(&ready, 1, -1);
		} else if (errno != EINTR) {
			return;
		}
	}
}

static void
format_line(struct buf *b, const struct log_record *record)
{
	if (atomic_load_explicit(&line_format, memory_order_relaxed) ==
	    LOG_JSON)
		log_format_json(b, record);
	else
		log_format_text(b, record);
}

static void
report_dropped(struct buf *b, uint64_t count)
{
	const struct log_field fields[] = { LOG_N("count", count),
		{ .name = NULL } };
	struct log_record record = { .wall_us = clock_wall_us(),
		.level = LOG_WARNING,
		.room = "log",
		.message = "lines dropped",
		.fields = fields };

	format_line(b, &record);
}

/* Takes what is queued into the empty *batch; false at the end. */
static bool
take_batch(struct buf *batch)
{
	(void)pthread_mutex_lock(&shared.lock);
	while (!buf_size(&shared.queue) && !shared.is_stopping)
		(void)pthread_cond_wait(&shared.is_filled, &shared.lock);
	struct buf filled = shared.queue;
	uint64_t dropped = shared.dropped;
	shared.queue = *batch;
	shared.dropped = 0;
	(void)pthread_mutex_unlock(&shared.lock);

	*batch = filled;
	/* They came after the lines of this batch. */
	if (dropped)
		report_dropped(batch, dropped);
	return buf_size(batch) > 0;
}

static void *
run_writer(void *unused)
{
	struct buf batch = BUF_EMPTY;

	while (take_batch(&batch)) {
		write_out(buf_span(&batch));
		buf_clear(&batch);
	}
	buf_done(&batch);
	return unused;
}

static int
start_writer(void)
{
	sigset_t all, before;

	/* Signals are for the first thread; a broken pipe is an error here. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&shared.writer, NULL, run_writer, NULL);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!error)
		(void)pthread_setname_np(shared.writer, "log");
	return -error;
}

int
log_start(enum log_level level, enum log_format format)
{
	log_set(level, format);
	(void)pthread_mutex_lock(&shared.lock);
	BUG_UNLESS(!shared.is_running);
	shared.is_stopping = false;
	int result = start_writer();
	shared.is_running = result == 0;
	(void)pthread_mutex_unlock(&shared.lock);
	return result;
}

void
log_stop(void)
{
	(void)pthread_mutex_lock(&shared.lock);
	bool is_running = shared.is_running;
	/* From here on lines are written directly; the writer empties the
	 * queue and ends. */
	shared.is_running = false;
	shared.is_stopping = true;
	(void)pthread_cond_signal(&shared.is_filled);
	(void)pthread_mutex_unlock(&shared.lock);
	if (!is_running)
		return;
	(void)pthread_join(shared.writer, NULL);
	buf_done(&shared.queue);
}

void
log_set(enum log_level level, enum log_format format)
{
	atomic_store_explicit(&least_level, level, memory_order_relaxed);
	atomic_store_explicit(&line_format, format, memory_order_relaxed);
}

/* False when the line is for the caller to write. */
static bool
enqueue(struct span line)
{
	(void)pthread_mutex_lock(&shared.lock);
	bool is_running = shared.is_running;
	bool was_empty = !buf_size(&shared.queue);
	if (is_running && buf_size(&shared.queue) + line.len <= LOG_QUEUE_MAX)
		buf_append(&shared.queue, line);
	else if (is_running)
		shared.dropped++;
	(void)pthread_mutex_unlock(&shared.lock);
	if (is_running && was_empty)
		(void)pthread_cond_signal(&shared.is_filled);
	return is_running;
}

void
log_line(enum log_level level, const char *room, const char *message,
    const struct log_field *fields)
{
	if (level < atomic_load_explicit(&least_level, memory_order_relaxed))
		return;
	struct log_record record = { .wall_us = clock_wall_us(),
		.level = level,
		.room = room,
		.message = message,
		.fields = fields };
	struct buf line = BUF_EMPTY;
	format_line(&line, &record);
	if (!enqueue(buf_span(&line)))
		write_out(buf_span(&line));
	buf_done(&line);
}
