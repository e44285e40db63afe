/* SPDX-License-Identifier: Apache-2.0 */

/* The spool as its callers see it, on the real disk. */

#include "base/mem.h"
#include "fixture.h"
#include "os/clock.h"
#include "spool/internal.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct told told;

static void
reopen(struct fixture *f)
{
	fixture_close(f);
	fixture_open(f);
	fixture_recover(f->spool, &told);
}

static void
test_message_survives(void **state)
{
	static const size_t sizes[] = { 0, 1, 15, 16, 17, 4000, 4096, 5000,
		32 << 10 };
	struct fixture *f = *state;
	uint64_t mnos[9];

	for (size_t i = 0; i < 9; i++) {
		mnos[i] = fixture_send(f->spool, sizes[i], 1 + (uint32_t)i);
		assert_int_equal(0, fixture_check(f->spool, mnos[i], sizes[i],
					1 + (uint32_t)i));
	}
	reopen(f);
	assert_int_equal(9, told.count);
	for (size_t i = 0; i < 9; i++) {
		assert_int_equal(mnos[i], told.mnos[i]);
		assert_int_equal(1 + i, told.live[i]);
		assert_int_equal(0, fixture_check(f->spool, mnos[i], sizes[i],
					1 + (uint32_t)i));
	}
	assert_true(spool_next_mno(f->spool) > mnos[8]);
}

static void
test_large_body_has_a_file(void **state)
{
	struct fixture *f = *state;
	char path[128];

	uint64_t mno = fixture_send(f->spool, 700000, 2);
	(void)snprintf(path, sizeof path, "%s/big/%016llx", f->directory,
	    (unsigned long long)mno);
	assert_int_equal(0, access(path, F_OK));
	assert_int_equal(0, fixture_check(f->spool, mno, 700000, 2));
	reopen(f);
	assert_int_equal(0, fixture_check(f->spool, mno, 700000, 2));
	fixture_done(f->spool, mno, 0, 2);
	assert_int_equal(
	    ERR_NOT_FOUND, fixture_check(f->spool, mno, 700000, 2));
	fixture_close(f);
	assert_int_equal(-1, access(path, F_OK));
}

static void
test_draft_given_up_leaves_no_file(void **state)
{
	struct fixture *f = *state;
	struct buf body = BUF_EMPTY;
	char path[128];
	uint64_t mno = spool_next_mno(f->spool);
	struct spool_draft *draft = spool_draft_new(f->spool, mno);

	fixture_body(mno, 100000, &body);
	assert_int_equal(0, spool_draft_write(draft, buf_span(&body)));
	(void)snprintf(path, sizeof path, "%s/big/%016llx", f->directory,
	    (unsigned long long)mno);
	assert_int_equal(0, access(path, F_OK));
	spool_draft_free(&draft);
	assert_null(draft);
	assert_int_equal(-1, access(path, F_OK));

	struct spool_txn *txn = fixture_message(f->spool, mno, 100000, 1);
	assert_int_equal(0, access(path, F_OK));
	spool_txn_free(&txn);
	assert_int_equal(-1, access(path, F_OK));
	buf_done(&body);
}

static void
test_outcomes_survive(void **state)
{
	struct fixture *f = *state;
	struct spool_stats stats;
	uint64_t gone = fixture_send(f->spool, 100, 3);
	uint64_t half = fixture_send(f->spool, 100, 3);
	uint64_t later = fixture_send(f->spool, 100, 1);

	fixture_done(f->spool, gone, 0, 2);
	fixture_done(f->spool, gone, 2, 1);
	fixture_done(f->spool, half, 1, 1);
	struct spool_outcome defer = {
		.mno = later,
		.rcpt_count = 1,
		.kind = SPOOL_DEFERRED,
		.attempts = 4,
		.warned = true,
		.due_us = INT64_C(1234567890123456),
	};
	struct spool_txn *txn = spool_txn_new(f->spool);
	spool_txn_outcome(txn, &defer);
	assert_int_equal(0, spool_txn_commit(&txn));
	spool_stats(f->spool, &stats);
	assert_int_equal(2, stats.messages);
	assert_int_equal(3, stats.recipients);
	reopen(f);
	assert_int_equal(2, told.count);
	assert_int_equal(half, told.mnos[0]);
	assert_int_equal(2, told.live[0]);
	assert_int_equal(later, told.mnos[1]);
	assert_int_equal(4, told.first[1].attempts);
	assert_true(told.first[1].warned);
	assert_true(told.first[1].due_us == INT64_C(1234567890123456));
	spool_stats(f->spool, &stats);
	assert_int_equal(2, stats.messages);
	assert_int_equal(3, stats.recipients);
	fixture_done(f->spool, half, 0, 1);
	fixture_done(f->spool, half, 2, 1);
	reopen(f);
	assert_int_equal(1, told.count);
}

static void
test_lazy_outcome_is_written_in_time(void **state)
{
	struct fixture *f = *state;
	uint64_t mno = fixture_send(f->spool, 100, 1);
	struct spool_stats stats;
	struct spool_txn *txn = spool_txn_new(f->spool);
	struct spool_outcome done = { .mno = mno, .rcpt_count = 1 };

	spool_txn_outcome(txn, &done);
	int64_t start = clock_monotonic_us();
	spool_txn_submit(&txn, NULL, NULL);
	do {
		usleep(200);
		spool_stats(f->spool, &stats);
	} while (stats.messages > 0 && clock_monotonic_us() < start + 5000000);
	assert_int_equal(0, stats.messages);
	assert_true(clock_monotonic_us() - start >= 2000);
}

static void
test_message_with_outcome_in_one_transaction(void **state)
{
	struct fixture *f = *state;
	uint64_t mno = spool_next_mno(f->spool);
	struct spool_txn *txn = fixture_message(f->spool, mno, 50, 2);
	struct spool_outcome suppressed = {
		.mno = mno,
		.rcpt_first = 1,
		.rcpt_count = 1,
		.kind = SPOOL_SUPPRESSED,
	};

	spool_txn_outcome(txn, &suppressed);
	assert_int_equal(0, spool_txn_commit(&txn));
	reopen(f);
	assert_int_equal(1, told.count);
	assert_int_equal(1, told.live[0]);
	assert_int_equal(0, told.first[0].rcpt_first);
}

static void
commit_order(struct spool *spool, bool hold, const char *domain)
{
	struct spool_order order = {
		.kind = hold ? SPOOL_ORDER_HOLD : SPOOL_ORDER_RELEASE,
		.tenant = 1,
		.domain = span_of(domain),
		.reason = SPAN("why"),
	};
	struct spool_txn *txn = spool_txn_new(spool);

	spool_txn_order(txn, &order);
	assert_int_equal(0, spool_txn_commit(&txn));
}

static void
test_orders_stand_until_released(void **state)
{
	struct fixture *f = *state;

	commit_order(f->spool, true, "a.example");
	commit_order(f->spool, true, "b.example");
	commit_order(f->spool, false, "a.example");
	reopen(f);
	assert_int_equal(1, told.orders);
	assert_string_equal("b.example", told.last_domain);
	/* They must outlive the segments in which they were given. */
	spool_events_exported(f->spool, UINT64_MAX);
	for (int i = 0; i < 20; i++) {
		uint64_t mno = fixture_send(f->spool, 30000, 1);
		fixture_done(f->spool, mno, 0, 1);
	}
	reopen(f);
	assert_int_equal(1, told.orders);
	assert_string_equal("b.example", told.last_domain);
	commit_order(f->spool, false, "");
	reopen(f);
	assert_int_equal(0, told.orders);
}

static void
test_segments_are_recycled(void **state)
{
	struct fixture *f = *state;
	struct spool_stats stats;
	uint64_t keep = fixture_send(f->spool, 100, 1);

	for (int i = 0; i < 60; i++) {
		uint64_t mno = fixture_send(f->spool, 30000, 1);
		fixture_done(f->spool, mno, 0, 1);
	}
	spool_stats(f->spool, &stats);
	assert_true(stats.segments >= 7);
	/* Nothing before its events are exported, nothing behind what lives. */
	spool_events_exported(f->spool, stats.durable_lsn);
	usleep(20000);
	spool_stats(f->spool, &stats);
	assert_true(stats.segments >= 7);
	fixture_done(f->spool, keep, 0, 1);
	for (int i = 0; i < 500 && stats.segments > 2; i++) {
		usleep(2000);
		spool_stats(f->spool, &stats);
	}
	assert_in_range(stats.segments, 1, 2);
	assert_true(stats.segments_free > 0);
	/* What is written over old bytes is read back right. */
	uint64_t mnos[40];
	for (int i = 0; i < 40; i++)
		mnos[i] = fixture_send(f->spool, 20000, 1);
	reopen(f);
	assert_int_equal(40, told.count);
	for (int i = 0; i < 40; i++)
		assert_int_equal(0, fixture_check(f->spool, mnos[i], 20000, 1));
	spool_stats(f->spool, &stats);
	assert_int_equal(0, stats.quarantined);
}

static void
test_directory_is_locked(void **state)
{
	struct fixture *f = *state;
	struct failure failure = { 0 };
	struct spool *other = NULL;

	assert_int_equal(ERR_EXISTS, spool_open(&f->options, &other, &failure));
	assert_null(other);
	assert_non_null(strstr(failure.text, "another process"));
}

static void
test_too_much_is_refused(void **state)
{
	struct fixture *f = *state;
	struct spool_draft *draft;
	struct spool_envelope e = { .mno = spool_next_mno(f->spool) };
	struct spool_txn *txn = spool_txn_new(f->spool);

	draft = spool_draft_new(f->spool, e.mno);
	spool_txn_message(txn, &e, &draft); /* no recipient */
	assert_int_equal(ERR_LIMIT, spool_txn_commit(&txn));
	txn = fixture_message(f->spool, spool_next_mno(f->spool), 10, 20000);
	assert_int_equal(ERR_LIMIT, spool_txn_commit(&txn));
	assert_int_equal(SPOOL_SPACE_OK, spool_space(f->spool));
	(void)fixture_send(f->spool, 10, 1);
}

static void
test_identity_stays(void **state)
{
	struct fixture *f = *state;
	uint64_t key = spool_id_key(f->spool);
	uint64_t mno = spool_next_mno(f->spool);

	reopen(f);
	assert_true(key == spool_id_key(f->spool));
	assert_true(mno < spool_next_mno(f->spool));
	assert_int_equal(7, spool_node(f->spool));
}

/* Whoever still holds something when the spool stops may give it back. */
static void
test_stopped_refuses_and_lets_go(void **state)
{
	static const size_t sizes[] = { 500, 2 << 20 };
	struct fixture *f = *state;
	uint64_t mno = fixture_send(f->spool, 3 << 20, 1);
	struct spool_message *message = NULL;
	struct spool_draft *draft =
	    spool_draft_new(f->spool, spool_next_mno(f->spool));
	AUTO_FREE char *bytes = mem_zalloc(2 << 20);

	assert_int_equal(0, spool_message_open(f->spool, mno, &message));
	assert_int_equal(
	    0, spool_draft_write(draft, span_from(bytes, 2 << 20)));
	spool_stop(f->spool);
	spool_stop(f->spool);
	for (size_t i = 0; i < 2; i++) {
		struct spool_txn *txn = fixture_message(
		    f->spool, spool_next_mno(f->spool), sizes[i], 1);

		assert_int_equal(-ECANCELED, spool_txn_commit(&txn));
	}
	spool_message_unref(&message);
	spool_draft_free(&draft);
	reopen(f);
	assert_int_equal(1, told.count);
	assert_int_equal(0, fixture_check(f->spool, mno, 3 << 20, 1));
}

#define MB (INT64_C(1) << 20)

/* The spool's keeper asks from a thread of its own. */
static _Atomic int64_t free_bytes, total_bytes;

static int64_t
tell_free(void *owner, const char *path)
{
	(void)owner, (void)path;
	return free_bytes;
}

static int64_t
tell_total(void *owner, const char *path)
{
	(void)owner, (void)path;
	return total_bytes;
}

/* A disk that is smaller than what is usually kept free can still be used. */
static void
test_watermarks_fit_the_disk(void **state)
{
	static const struct {
		int64_t free, total; /* MB */
		enum spool_space space;
	} cases[] = {
		{ 2000, 100000, SPOOL_SPACE_OK },
		{ 1000, 100000, SPOOL_SPACE_LOW },
		{ 200, 100000, SPOOL_SPACE_FULL },
		{ 200, 200, SPOOL_SPACE_OK },
		{ 19, 200, SPOOL_SPACE_LOW },
		{ 7, 200, SPOOL_SPACE_FULL },
	};
	struct spool_io io = spool_io_disk;
	struct fixture *f = *state;

	io.free_bytes = tell_free;
	io.total_bytes = tell_total;
	f->options.io = &io;
	f->options.free_low = f->options.free_full = 0;
	for (size_t i = 0; i < 6; i++) {
		free_bytes = cases[i].free * MB;
		total_bytes = cases[i].total * MB;
		reopen(f);
		assert_int_equal(cases[i].space, spool_space(f->spool));
	}
	fixture_close(f);
	f->options.io = NULL;
	fixture_open(f);
}

/* Near a mark mail is not refused and taken in turns. */
static void
test_watermarks_are_left_late(void **state)
{
	static const struct {
		int64_t free; /* MB */
		enum spool_space space;
	} steps[] = {
		{ 1025, SPOOL_SPACE_OK },
		{ 1000, SPOOL_SPACE_LOW },
		{ 1100, SPOOL_SPACE_LOW },
		{ 1300, SPOOL_SPACE_OK },
		{ 1100, SPOOL_SPACE_OK },
		{ 200, SPOOL_SPACE_FULL },
		{ 300, SPOOL_SPACE_FULL },
		{ 330, SPOOL_SPACE_LOW },
		{ 300, SPOOL_SPACE_LOW },
		{ 1300, SPOOL_SPACE_OK },
	};
	struct spool_io io = spool_io_disk;
	struct fixture *f = *state;

	io.free_bytes = tell_free;
	io.total_bytes = tell_total;
	f->options.io = &io;
	f->options.free_low = f->options.free_full = 0;
	free_bytes = 2000 * MB;
	total_bytes = 100000 * MB;
	reopen(f);
	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		free_bytes = steps[i].free * MB;
		keeper_measure_space(f->spool);
		assert_int_equal(steps[i].space, spool_space(f->spool));
	}
	fixture_close(f);
	f->options.io = NULL;
	fixture_open(f);
}

static _Atomic bool is_sync_broken;

static int
sync_or_fail(void *owner, int file)
{
	return is_sync_broken ? -EIO : spool_io_disk.datasync(owner, file);
}

/* A batch whose sync failed may well be in its file. Who sent it was told so,
 * and will send it again. */
static void
test_what_was_refused_does_not_come_back(void **state)
{
	struct spool_io io = spool_io_disk;
	struct fixture *f = *state;

	io.datasync = sync_or_fail;
	f->options.io = &io;
	reopen(f);
	uint64_t mno = fixture_send(f->spool, 500, 1);
	is_sync_broken = true;
	while (spool_space(f->spool) != SPOOL_FAILED) {
		struct spool_txn *txn =
		    fixture_message(f->spool, spool_next_mno(f->spool), 500, 1);

		assert_int_equal(-EIO, spool_txn_commit(&txn));
	}
	is_sync_broken = false;
	reopen(f);
	assert_int_equal(1, told.count);
	assert_int_equal(mno, told.mnos[0]);
	fixture_close(f);
	f->options.io = NULL;
	fixture_open(f);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_begin, fixture_end)
	const struct CMUnitTest tests[] = {
		TEST(test_message_survives),
		TEST(test_large_body_has_a_file),
		TEST(test_draft_given_up_leaves_no_file),
		TEST(test_outcomes_survive),
		TEST(test_lazy_outcome_is_written_in_time),
		TEST(test_message_with_outcome_in_one_transaction),
		TEST(test_orders_stand_until_released),
		TEST(test_segments_are_recycled),
		TEST(test_directory_is_locked),
		TEST(test_too_much_is_refused),
		TEST(test_identity_stays),
		TEST(test_stopped_refuses_and_lets_go),
		TEST(test_watermarks_fit_the_disk),
		TEST(test_watermarks_are_left_late),
		TEST(test_what_was_refused_does_not_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
