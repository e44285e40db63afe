/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/time.h"
#include "fixture.h"
#include "os/clock.h"
#include "simdisk.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct lines {
	unsigned next; /* number expected */
	bool is_late; /* … but for the first, which may be any */
	unsigned calls;
	unsigned stop_at; /* 0: never */
};

static void
commit_event(struct spool *spool, unsigned number, size_t size)
{
	struct spool_txn *txn = spool_txn_new(spool);
	char *AUTO_FREE line = mem_zalloc(size + 16);

	memset(line, ' ', size);
	int n = snprintf(line, 12, "%u", number);
	line[n] = ' ';
	line[size - 1] = '\n';
	spool_txn_event(txn, span_from(line, size));
	assert_int_equal(0, spool_txn_commit(&txn));
}

static int
on_lines(void *arg, struct span text)
{
	struct lines *lines = arg;
	uint64_t number;

	if (lines->stop_at > 0 && lines->next == lines->stop_at)
		return ERR_CLOSED;
	assert_true(span_to_u64(span_trim(text), UINT32_MAX, &number));
	if (lines->is_late)
		lines->next = (unsigned)number;
	lines->is_late = false;
	assert_int_equal(lines->next, number);
	lines->next++;
	lines->calls++;
	return 0;
}

static void
test_each_once_in_order(void **state)
{
	struct fixture *f = *state;
	struct lines lines = { 0 };
	uint64_t lsn = 0;

	assert_int_equal(
	    0, spool_events_read(f->spool, &lsn, on_lines, &lines));
	/* Over several segments, with mail between. */
	for (unsigned i = 0; i < 100; i++) {
		commit_event(f->spool, i, 5000);
		if (i % 7 == 0)
			assert_int_equal(1, spool_events_read(f->spool, &lsn,
						on_lines, &lines));
		if (i % 10 == 0) {
			struct spool_txn *txn = spool_txn_new(f->spool);
			struct spool_outcome o = { .mno = 1, .rcpt_count = 1 };

			spool_txn_outcome(txn, &o);
			assert_int_equal(0, spool_txn_commit(&txn));
		}
	}
	assert_int_equal(
	    1, spool_events_read(f->spool, &lsn, on_lines, &lines));
	assert_int_equal(100, lines.next);
	assert_int_equal(
	    0, spool_events_read(f->spool, &lsn, on_lines, &lines));
	/* The position holds over a restart. */
	fixture_close(f);
	fixture_open(f);
	assert_int_equal(
	    0, spool_events_read(f->spool, &lsn, on_lines, &lines));
	commit_event(f->spool, 100, 10);
	assert_int_equal(
	    1, spool_events_read(f->spool, &lsn, on_lines, &lines));
	assert_int_equal(101, lines.next);
}

static void
test_at_most_about_a_mebibyte(void **state)
{
	struct fixture *f = *state;
	struct lines lines = { 0 };
	uint64_t lsn = 0;

	for (unsigned i = 0; i < 30; i++)
		commit_event(f->spool, i, 100000);
	assert_int_equal(
	    1, spool_events_read(f->spool, &lsn, on_lines, &lines));
	assert_in_range(lines.next, 9, 12);
	while (spool_events_read(f->spool, &lsn, on_lines, &lines) > 0)
		continue;
	assert_int_equal(30, lines.next);
}

static void
test_stops_when_told(void **state)
{
	struct fixture *f = *state;
	struct lines lines = { .stop_at = 3 };
	uint64_t lsn = 0;

	for (unsigned i = 0; i < 6; i++)
		commit_event(f->spool, i, 20);
	assert_int_equal(
	    ERR_CLOSED, spool_events_read(f->spool, &lsn, on_lines, &lines));
	assert_int_equal(3, lines.next);
	/* The one that was not taken comes again. */
	lines.stop_at = 0;
	assert_int_equal(
	    1, spool_events_read(f->spool, &lsn, on_lines, &lines));
	assert_int_equal(6, lines.next);
}

static void
test_recycled_segments_are_skipped(void **state)
{
	struct fixture *f = *state;
	struct lines lines = { 0 };
	struct spool_stats stats;
	uint64_t lsn = 0;

	for (unsigned i = 0; i < 40; i++)
		commit_event(f->spool, i, 40000);
	while (spool_events_read(f->spool, &lsn, on_lines, &lines) > 0)
		continue;
	spool_events_exported(f->spool, lsn);
	do {
		usleep(1000);
		spool_stats(f->spool, &stats);
	} while (stats.segments > 1);
	/* A new reader gets what there is. */
	lsn = 0;
	lines.is_late = true;
	lines.calls = 0;
	assert_int_equal(
	    1, spool_events_read(f->spool, &lsn, on_lines, &lines));
	assert_int_equal(40, lines.next);
	assert_in_range(lines.calls, 1, 6);
}

/* What cannot be read now is not skipped; what never can, in the end is. */
static void
test_unreadable_pages(void **state)
{
	struct simdisk *disk = simdisk_new(1);
	struct fixture f = { .options = { .directory = "/spool",
				 .io = simdisk_io(disk) } };
	struct lines lines = { 0 };
	uint64_t lsn = 0;
	int result = 0;

	(void)state;
	fixture_open(&f);
	for (unsigned i = 0; i < 3; i++)
		commit_event(f.spool, i, 20);
	/* The whole at once, then its first page. */
	simdisk_fail(disk, SIMDISK_READ, ".seg", 0, 2, -EIO);
	assert_int_equal(
	    -EIO, spool_events_read(f.spool, &lsn, on_lines, &lines));
	assert_int_equal(1, spool_events_read(f.spool, &lsn, on_lines, &lines));
	assert_int_equal(3, lines.next);
	commit_event(f.spool, 3, 20);
	simdisk_fail(disk, SIMDISK_READ, ".seg", 0, 100000, -EIO);
	for (int i = 0; i < 100; i++) {
		result = spool_events_read(f.spool, &lsn, on_lines, &lines);
		assert_int_equal(-EIO, result);
	}
	assert_int_equal(0, spool_events_read(f.spool, &lsn, on_lines, &lines));
	simdisk_fail(disk, SIMDISK_READ, ".seg", 0, 0, 0);
	commit_event(f.spool, 4, 20);
	lines.next = 4;
	assert_int_equal(1, spool_events_read(f.spool, &lsn, on_lines, &lines));
	assert_int_equal(5, lines.next);
	spool_close(&f.spool);
	simdisk_free(&disk);
}

static void *
commit_later(void *arg)
{
	usleep(20000);
	commit_event(arg, 0, 20);
	return NULL;
}

static void *
wake_later(void *arg)
{
	usleep(20000);
	spool_events_wake(arg);
	return NULL;
}

static void
test_waiting(void **state)
{
	struct fixture *f = *state;
	struct lines lines = { 0 };
	uint64_t lsn = 0;
	pthread_t thread;

	assert_int_equal(
	    0, spool_events_read(f->spool, &lsn, on_lines, &lines));
	int64_t start = clock_monotonic_us();
	spool_events_wait(f->spool, lsn, 10000);
	assert_true(clock_monotonic_us() - start >= 10000);
	assert_int_equal(
	    0, pthread_create(&thread, NULL, commit_later, f->spool));
	spool_events_wait(f->spool, lsn, 10 * US_PER_S);
	assert_int_equal(
	    1, spool_events_read(f->spool, &lsn, on_lines, &lines));
	(void)pthread_join(thread, NULL);
	assert_int_equal(
	    0, pthread_create(&thread, NULL, wake_later, f->spool));
	spool_events_wait(f->spool, lsn, 10 * US_PER_S);
	assert_true(clock_monotonic_us() - start < 5 * US_PER_S);
	(void)pthread_join(thread, NULL);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_begin, fixture_end)
	const struct CMUnitTest tests[] = {
		TEST(test_each_once_in_order),
		TEST(test_at_most_about_a_mebibyte),
		TEST(test_stops_when_told),
		TEST(test_recycled_segments_are_skipped),
		TEST(test_unreadable_pages),
		TEST(test_waiting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
