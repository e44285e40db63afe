/* SPDX-License-Identifier: Apache-2.0 */

/* What the committer does when the disk fails or is full, and when many submit
 * at once. On the simulated disk of tests/crash. */

#include "base/mem.h"
#include "fixture.h"
#include "os/clock.h"
#include "simdisk.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

struct rig {
	struct fixture f;
	struct simdisk *disk;
};

static struct told told;

static int
setup(void **state)
{
	struct rig *rig = MEM_NEW(struct rig);

	rig->disk = simdisk_new(1);
	fixture_open_on(&rig->f, simdisk_io(rig->disk));
	*state = rig;
	return 0;
}

static int
teardown(void **state)
{
	struct rig *rig = *state;

	spool_close(&rig->f.spool);
	simdisk_free(&rig->disk);
	mem_free(rig);
	return 0;
}

static int
try_send(struct rig *rig, uint64_t *ret_mno)
{
	uint64_t mno = spool_next_mno(rig->f.spool);
	struct spool_txn *txn = fixture_message(rig->f.spool, mno, 500, 1);

	*ret_mno = mno;
	return spool_txn_commit(&txn);
}

static void
reopen(struct rig *rig)
{
	spool_close(&rig->f.spool);
	fixture_open(&rig->f);
	fixture_recover(rig->f.spool, &told);
}

static void
submit_lazy_done(struct rig *rig, uint64_t mno)
{
	struct spool_txn *txn = spool_txn_new(rig->f.spool);
	struct spool_outcome done = { .mno = mno, .rcpt_count = 1 };

	spool_txn_outcome(txn, &done);
	spool_txn_submit(&txn, NULL, NULL);
}

static void
test_failed_sync_fails_and_seals(void **state)
{
	struct rig *rig = *state;
	struct spool_stats stats;
	uint64_t before = fixture_send(rig->f.spool, 500, 1), failed, after;

	simdisk_fail(rig->disk, SIMDISK_SYNC, ".seg", 0, 1, -EIO);
	assert_int_equal(-EIO, try_send(rig, &failed));
	spool_stats(rig->f.spool, &stats);
	assert_int_equal(0, stats.failed);
	assert_int_equal(
	    ERR_NOT_FOUND, fixture_check(rig->f.spool, failed, 500, 1));
	/* The next one is in another segment. */
	assert_int_equal(0, try_send(rig, &after));
	spool_stats(rig->f.spool, &stats);
	assert_int_equal(2, stats.segments);
	assert_int_equal(0, fixture_check(rig->f.spool, after, 500, 1));
	/* What was refused is not there after a restart. */
	reopen(rig);
	assert_int_equal(2, told.count);
	assert_true(told_has(&told, before) && told_has(&told, after));
}

/* A batch that failed and is on the disk all the same, the process killed in
 * the life after its clean end. */
static void
refuse_and_start_twice(struct rig *rig)
{
	uint64_t before = fixture_send(rig->f.spool, 500, 1), failed;

	simdisk_fail(rig->disk, SIMDISK_SYNC, ".seg", 0, 1, -EIO);
	assert_int_equal(-EIO, try_send(rig, &failed));
	reopen(rig);
	assert_int_equal(1, told.count);
	simdisk_cut_at(rig->disk, 1);
	spool_close(&rig->f.spool);
	simdisk_kill(rig->disk);
	fixture_open(&rig->f);
	fixture_recover(rig->f.spool, &told);
	assert_int_equal(1, told.count);
	assert_true(told_has(&told, before));
}

/* What a failed sync leaves behind is chance. */
static void
test_what_was_refused_never_comes_back(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct rig rig = { .disk = simdisk_new(seed) };

		fixture_open_on(&rig.f, simdisk_io(rig.disk));
		refuse_and_start_twice(&rig);
		spool_close(&rig.f.spool);
		simdisk_free(&rig.disk);
	}
}

static void
test_failed_write_is_like_a_failed_sync(void **state)
{
	struct rig *rig = *state;
	uint64_t failed, after;

	(void)fixture_send(rig->f.spool, 500, 1);
	simdisk_fail(rig->disk, SIMDISK_WRITE, ".seg", 0, 1, -EIO);
	assert_int_equal(-EIO, try_send(rig, &failed));
	assert_int_equal(0, try_send(rig, &after));
	reopen(rig);
	assert_int_equal(2, told.count);
	assert_false(told_has(&told, failed));
}

static void
test_second_failure_stops(void **state)
{
	struct rig *rig = *state;
	struct spool_stats stats;
	uint64_t kept = fixture_send(rig->f.spool, 500, 1), mno;

	simdisk_fail(rig->disk, SIMDISK_SYNC, "", 0, 1000, -EIO);
	assert_int_equal(-EIO, try_send(rig, &mno));
	assert_int_equal(SPOOL_SPACE_OK, spool_space(rig->f.spool));
	assert_int_equal(-EIO, try_send(rig, &mno));
	assert_int_equal(SPOOL_FAILED, spool_space(rig->f.spool));
	spool_stats(rig->f.spool, &stats);
	assert_int_equal(-EIO, stats.failed);
	/* It stays so, though the disk would work again; reading goes on. */
	simdisk_fail(rig->disk, SIMDISK_SYNC, "", 0, 0, 0);
	assert_int_equal(-EIO, try_send(rig, &mno));
	assert_int_equal(0, fixture_check(rig->f.spool, kept, 500, 1));
	reopen(rig);
	assert_int_equal(SPOOL_SPACE_OK, spool_space(rig->f.spool));
	assert_true(told_has(&told, kept));
	assert_int_equal(0, try_send(rig, &mno));
}

static void
test_outcome_survives_one_failure(void **state)
{
	struct rig *rig = *state;
	struct spool_stats stats;
	uint64_t mno = fixture_send(rig->f.spool, 500, 1);

	simdisk_fail(rig->disk, SIMDISK_SYNC, ".seg", 0, 1, -EIO);
	submit_lazy_done(rig, mno);
	int64_t start = clock_monotonic_us();
	do {
		usleep(500);
		spool_stats(rig->f.spool, &stats);
	} while (stats.messages > 0 && clock_monotonic_us() < start + 5000000);
	assert_int_equal(0, stats.messages);
	assert_int_equal(0, stats.failed);
	reopen(rig);
	assert_int_equal(0, told.count);
}

static void
test_lost_outcome_stops(void **state)
{
	struct rig *rig = *state;
	uint64_t mno = fixture_send(rig->f.spool, 500, 1);

	simdisk_fail(rig->disk, SIMDISK_SYNC, "", 0, 1000, -EIO);
	submit_lazy_done(rig, mno);
	int64_t start = clock_monotonic_us();
	while (spool_space(rig->f.spool) != SPOOL_FAILED &&
	       clock_monotonic_us() < start + 5000000)
		usleep(500);
	assert_int_equal(SPOOL_FAILED, spool_space(rig->f.spool));
}

static void
test_body_that_cannot_be_synced(void **state)
{
	struct rig *rig = *state;
	uint64_t mno = spool_next_mno(rig->f.spool);
	struct spool_txn *txn = fixture_message(rig->f.spool, mno, 40000, 1);

	simdisk_fail(rig->disk, SIMDISK_SYNC, "/big/", 0, 1, -EIO);
	assert_int_equal(-EIO, spool_txn_commit(&txn));
	assert_int_equal(SPOOL_SPACE_OK, spool_space(rig->f.spool));
	assert_int_equal(0, simdisk_count(rig->disk, "/big/"));
	(void)fixture_send(rig->f.spool, 40000, 1);
	assert_int_equal(1, simdisk_count(rig->disk, "/big/"));
}

static void
test_draft_on_full_disk(void **state)
{
	struct rig *rig = *state;
	uint64_t mno = spool_next_mno(rig->f.spool);
	struct spool_draft *draft = spool_draft_new(rig->f.spool, mno);
	char *AUTO_FREE bytes = mem_zalloc(600000);

	simdisk_set_capacity(rig->disk, 100000);
	assert_int_equal(
	    -ENOSPC, spool_draft_write(draft, span_from(bytes, 600000)));
	assert_int_equal(-ENOSPC, spool_draft_write(draft, SPAN("more")));
	spool_draft_free(&draft);
	assert_int_equal(0, simdisk_count(rig->disk, "/big/"));
}

static void
note_result(void *arg, int result)
{
	atomic_store((atomic_int *)arg, result);
}

/* A bounce and its report are one transaction: it waits for room, where other
 * mail is refused. */
static void
test_reports_wait_for_room(void **state)
{
	struct rig *rig = *state;
	uint64_t first = fixture_send(rig->f.spool, 500, 1), mno;
	const struct spool_outcome bounced = {
		.mno = first, .rcpt_count = 1, .kind = SPOOL_BOUNCED
	};
	atomic_int result = 1;
	int code = 0;

	simdisk_set_capacity(rig->disk, 60000);
	for (int i = 0; i < 100 && code == 0; i++)
		code = try_send(rig, &mno);
	assert_int_equal(-ENOSPC, code);
	struct spool_txn *txn =
	    fixture_message(rig->f.spool, spool_next_mno(rig->f.spool), 500, 1);
	spool_txn_outcome(txn, &bounced);
	spool_txn_submit(&txn, note_result, &result);
	usleep(50000);
	assert_int_not_equal(-ENOSPC, atomic_load(&result));
	simdisk_set_capacity(rig->disk, 10 << 20);
	int64_t start = clock_monotonic_us();
	while (
	    atomic_load(&result) == 1 && clock_monotonic_us() < start + 5000000)
		usleep(1000);
	assert_int_equal(0, atomic_load(&result));
}

/* Refuses mail while it is full, keeps outcomes, goes on by itself. */
static void
test_full_disk_is_not_the_end(void **state)
{
	struct rig *rig = *state;
	uint64_t first = fixture_send(rig->f.spool, 500, 1), mno;
	struct spool_stats stats;
	int result = 0;

	simdisk_set_capacity(rig->disk, 60000);
	for (int i = 0; i < 100 && result == 0; i++)
		result = try_send(rig, &mno);
	assert_int_equal(-ENOSPC, result);
	spool_stats(rig->f.spool, &stats);
	uint64_t messages = stats.messages;
	assert_int_equal(SPOOL_SPACE_FULL, spool_space(rig->f.spool));
	submit_lazy_done(rig, first);
	usleep(20000);
	assert_int_equal(SPOOL_SPACE_FULL, spool_space(rig->f.spool));
	simdisk_set_capacity(rig->disk, 10 << 20);
	int64_t start = clock_monotonic_us();
	do {
		usleep(1000);
		spool_stats(rig->f.spool, &stats);
	} while ((stats.messages == messages ||
		     spool_space(rig->f.spool) != SPOOL_SPACE_OK) &&
		 clock_monotonic_us() < start + 5000000);
	assert_int_equal(SPOOL_SPACE_OK, spool_space(rig->f.spool));
	assert_int_equal(messages - 1, stats.messages);
	assert_int_equal(0, try_send(rig, &mno));
	reopen(rig);
	assert_int_equal(messages, told.count);
	assert_false(told_has(&told, first));
}

static void
test_space_watermarks(void **state)
{
	static const struct {
		uint64_t low, full;
		enum spool_space space;
	} cases[] = {
		{ 1, 1, SPOOL_SPACE_OK },
		{ 1 << 20, 1, SPOOL_SPACE_LOW },
		{ 1 << 20, 1 << 19, SPOOL_SPACE_FULL },
	};
	struct rig *rig = *state;

	simdisk_set_capacity(rig->disk, 100000);
	for (size_t i = 0; i < 3; i++) {
		rig->f.options.free_low = cases[i].low;
		rig->f.options.free_full = cases[i].full;
		reopen(rig);
		assert_int_equal(cases[i].space, spool_space(rig->f.spool));
	}
}

/* ---- threads ----------------------------------------------------------- */

#define THREADS 8
#define PER_THREAD 60

struct crowd {
	struct spool *spool;
	atomic_uint done, failed;
	atomic_uint_fast64_t finished; /* recipients */
};

static void
on_done(void *arg, int result)
{
	struct crowd *crowd = arg;

	atomic_fetch_add(&crowd->failed, result != 0);
	atomic_fetch_add(&crowd->done, 1);
}

static void *
submit_many(void *arg)
{
	struct crowd *crowd = arg;
	struct spool_message *message;

	for (int i = 0; i < PER_THREAD; i++) {
		uint64_t mno = spool_next_mno(crowd->spool);
		size_t size = i % 20 == 7 ? 20000 : 300;
		struct spool_txn *txn =
		    fixture_message(crowd->spool, mno, size, 1);

		if (i % 3 == 0) {
			spool_txn_submit(&txn, on_done, crowd);
			continue;
		}
		on_done(crowd, spool_txn_commit(&txn));
		if (spool_message_open(crowd->spool, mno, &message) < 0)
			atomic_fetch_add(&crowd->failed, 1);
		else
			spool_message_unref(&message);
		if (i % 3 == 1)
			continue;
		txn = spool_txn_new(crowd->spool);
		struct spool_outcome done = { .mno = mno, .rcpt_count = 1 };
		spool_txn_outcome(txn, &done);
		spool_txn_submit(&txn, NULL, NULL);
		atomic_fetch_add(&crowd->finished, 1);
	}
	return NULL;
}

static int
count_lines(void *arg, struct span lines)
{
	*(unsigned *)arg += lines.len > 0;
	return 0;
}

static void *
follow_events(void *arg)
{
	struct crowd *crowd = arg;
	uint64_t lsn = 0;
	unsigned lines = 0;

	while (lines < THREADS * PER_THREAD) {
		spool_events_wait(crowd->spool, lsn, 100000);
		if (spool_events_read(crowd->spool, &lsn, count_lines, &lines) <
		    0)
			break;
		spool_events_exported(crowd->spool, lsn);
	}
	atomic_fetch_add(&crowd->failed, lines != THREADS * PER_THREAD);
	return NULL;
}

static void
test_many_threads(void **state)
{
	struct rig *rig = *state;
	struct crowd crowd = { .spool = rig->f.spool };
	struct spool_stats stats;
	pthread_t threads[THREADS], reader;

	assert_int_equal(
	    0, pthread_create(&reader, NULL, follow_events, &crowd));
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(
		    0, pthread_create(&threads[i], NULL, submit_many, &crowd));
	for (int i = 0; i < THREADS; i++)
		(void)pthread_join(threads[i], NULL);
	(void)pthread_join(reader, NULL);
	/* All are durable, but not every `done` may have run. */
	while (atomic_load(&crowd.done) < THREADS * PER_THREAD)
		usleep(500);
	assert_int_equal(0, atomic_load(&crowd.failed));
	spool_stats(rig->f.spool, &stats);
	assert_true(stats.syncs < stats.transactions);
	reopen(rig);
	assert_int_equal(
	    THREADS * PER_THREAD - atomic_load(&crowd.finished), told.count);
}

/* Those who waited are told even when the spool closes under them. */
static void
test_close_commits_what_was_submitted(void **state)
{
	struct rig *rig = *state;
	struct crowd crowd = { .spool = rig->f.spool };

	for (int i = 0; i < 50; i++) {
		struct spool_txn *txn = fixture_message(rig->f.spool,
		    spool_next_mno(rig->f.spool), i % 10 ? 100 : 20000, 1);
		spool_txn_submit(&txn, i % 2 ? on_done : NULL, &crowd);
	}
	reopen(rig);
	assert_int_equal(25, atomic_load(&crowd.done));
	assert_int_equal(0, atomic_load(&crowd.failed));
	assert_int_equal(50, told.count);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_failed_sync_fails_and_seals),
		cmocka_unit_test(test_what_was_refused_never_comes_back),
		TEST(test_failed_write_is_like_a_failed_sync),
		TEST(test_second_failure_stops),
		TEST(test_outcome_survives_one_failure),
		TEST(test_lost_outcome_stops),
		TEST(test_body_that_cannot_be_synced),
		TEST(test_draft_on_full_disk),
		TEST(test_reports_wait_for_room),
		TEST(test_full_disk_is_not_the_end),
		TEST(test_space_watermarks),
		TEST(test_many_threads),
		TEST(test_close_commits_what_was_submitted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
