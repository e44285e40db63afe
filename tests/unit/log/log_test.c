/* SPDX-License-Identifier: Apache-2.0 */
#include "log/log.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
/* clang-format on */

#include "base/buf.h"
#include "base/bug.h"
#include "base/mem.h"
#include "log/internal.h"

/* --- stderr into a pipe ------------------------------------------------- */

static int saved_stderr, reading_end;

static void
capture(void)
{
	int ends[2];

	saved_stderr = dup(STDERR_FILENO);
	BUG_UNLESS(saved_stderr >= 0 && pipe(ends) == 0);
	BUG_UNLESS(dup2(ends[1], STDERR_FILENO) >= 0);
	close(ends[1]);
	reading_end = ends[0];
}

static void *
read_all(void *argument)
{
	struct buf *got = argument;
	ssize_t n;

	while ((n = read(reading_end, buf_reserve(got, 65536), 65536)) > 0)
		buf_added(got, (size_t)n);
	return NULL;
}

static void
release(void)
{
	BUG_UNLESS(dup2(saved_stderr, STDERR_FILENO) >= 0);
	close(saved_stderr);
}

static size_t
count_lines(const struct buf *b, const char *with)
{
	struct span rest = buf_span(b);
	size_t count = 0;

	while (rest.len) {
		struct span line = span_cut(&rest, '\n');
		count += span_search(line, span_of(with)) != SIZE_MAX;
	}
	return count;
}

/* --- tests -------------------------------------------------------------- */

static void
test_direct_and_levels(void **state)
{
	(void)state;
	struct buf got = BUF_EMPTY;
	capture();
	log_set(LOG_WARNING, LOG_TEXT);
	LOG(LOG_INFO, "main", "too quiet");
	LOG(LOG_WARNING, "main", "heard", LOG_N("n", 1));
	log_set(LOG_DEBUG, LOG_JSON);
	LOG(LOG_DEBUG, "main", "detail", LOG_C("a", "b"), LOG_N("n", 2));
	log_stop(); /* not started: harmless */
	release();
	read_all(&got);
	close(reading_end);
	assert_int_equal(count_lines(&got, "too quiet"), 0);
	assert_int_equal(count_lines(&got, "Z warn  main: heard  n=1"), 1);
	assert_int_equal(
	    count_lines(&got, "\"message\":\"detail\",\"a\":\"b\",\"n\":2}"),
	    1);
	buf_done(&got);
}

enum { THREADS = 4, LINES = 500 };

static void *
log_many(void *argument)
{
	for (int i = 0; i < LINES; i++)
		LOG(LOG_INFO, "test", "line", LOG_C("thread", argument),
		    LOG_N("i", i), LOG_C("end", "."));
	return NULL;
}

static void
test_threads(void **state)
{
	(void)state;
	struct buf got = BUF_EMPTY;
	pthread_t reader, threads[THREADS];
	char *names[THREADS] = { (char[]){ "a" }, (char[]){ "b" },
		(char[]){ "c" }, (char[]){ "d" } };
	capture();
	BUG_UNLESS(log_start(LOG_INFO, LOG_TEXT) == 0);
	BUG_UNLESS(pthread_create(&reader, NULL, read_all, &got) == 0);
	for (int i = 0; i < THREADS; i++)
		BUG_UNLESS(
		    pthread_create(&threads[i], NULL, log_many, names[i]) == 0);
	for (int i = 0; i < THREADS; i++)
		(void)pthread_join(threads[i], NULL);
	log_stop();
	LOG(LOG_INFO, "test", "afterwards");
	release();
	(void)pthread_join(reader, NULL);
	close(reading_end);
	for (int i = 0; i < THREADS; i++) {
		char name[32];
		(void)snprintf(name, sizeof name, "  thread=%s i=", names[i]);
		assert_int_equal(count_lines(&got, name), LINES);
	}
	assert_int_equal(count_lines(&got, " end=."), THREADS * LINES);
	assert_int_equal(count_lines(&got, "afterwards"), 1);
	assert_int_equal(count_lines(&got, "Z "), THREADS * LINES + 1);
	buf_done(&got);
}

static size_t
dropped_count(const struct buf *got)
{
	struct span rest = buf_span(got);
	size_t sum = 0;

	while (rest.len) {
		struct span line = span_cut(&rest, '\n');
		size_t at = span_search(line, SPAN("lines dropped  count="));
		uint64_t count = 0;
		if (at == SIZE_MAX)
			continue;
		assert_true(
		    span_to_u64(span_skip(line, at + 21), UINT64_MAX, &count));
		sum += count;
	}
	return sum;
}

/* Nobody reads: callers go on, and every line is either there or counted. */
static void
test_dropped_lines(void **state)
{
	(void)state;

	enum { MANY = 4000, WIDTH = 600 };
	struct buf got = BUF_EMPTY;
	pthread_t reader;
	char filler[WIDTH + 1];
	memset(filler, 'x', WIDTH);
	filler[WIDTH] = '\0';
	capture();
	BUG_UNLESS(log_start(LOG_INFO, LOG_TEXT) == 0);
	for (int i = 0; i < MANY; i++)
		LOG(LOG_INFO, "test", "wide", LOG_C("x", filler));
	BUG_UNLESS(pthread_create(&reader, NULL, read_all, &got) == 0);
	log_stop();
	release();
	(void)pthread_join(reader, NULL);
	close(reading_end);
	size_t there = count_lines(&got, "test: wide");
	assert_true(there < MANY);
	assert_true(there * WIDTH > LOG_QUEUE_MAX / 2);
	assert_int_equal(there + dropped_count(&got), MANY);
	buf_done(&got);
}

/* A full non-blocking stderr is waited for, a closed one is not deadly. */
static void
test_awkward_stderr(void **state)
{
	(void)state;
	struct buf got = BUF_EMPTY;
	pthread_t reader;
	char filler[1000];
	memset(filler, 'x', sizeof filler);
	capture();
	int flags = fcntl(STDERR_FILENO, F_GETFL);
	BUG_UNLESS(fcntl(STDERR_FILENO, F_SETFL, flags | O_NONBLOCK) == 0);
	BUG_UNLESS(log_start(LOG_INFO, LOG_TEXT) == 0);
	for (int i = 0; i < 200; i++)
		LOG(LOG_INFO, "test", "full",
		    LOG_S("x", span_from(filler, sizeof filler)));
	BUG_UNLESS(pthread_create(&reader, NULL, read_all, &got) == 0);
	log_stop();
	release();
	(void)pthread_join(reader, NULL);
	close(reading_end);
	assert_int_equal(count_lines(&got, "test: full"), 200);
	buf_done(&got);

	capture();
	close(reading_end);
	BUG_UNLESS(log_start(LOG_INFO, LOG_TEXT) == 0);
	LOG(LOG_INFO, "test", "into the void");
	log_stop();
	release();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_direct_and_levels),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_dropped_lines),
		cmocka_unit_test(test_awkward_stderr),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
