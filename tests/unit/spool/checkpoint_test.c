/* SPDX-License-Identifier: Apache-2.0 */

/* Checkpoints: what they let go of, what they keep, and what happens when their
 * files are damaged. */

#include "base/mem.h"
#include "fixture.h"
#include "simdisk.h"
#include "spool/internal.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SENT 120
#define EVERY 10 /* of them one stays */
#define SIZE 9000

struct rig {
	struct fixture f;
	struct simdisk *disk;
	uint64_t kept[SENT / EVERY];
	uint32_t pass_segments; /* 0: few */
};

static struct told told;

static struct spool_stats
stats_of(struct spool *spool)
{
	struct spool_stats stats;

	spool_stats(spool, &stats);
	return stats;
}

static void
defer(struct spool *spool, uint64_t mno, uint32_t rcpt, uint8_t attempts)
{
	struct spool_txn *txn = spool_txn_new(spool);
	struct spool_outcome outcome = {
		.mno = mno,
		.rcpt_first = rcpt,
		.rcpt_count = 1,
		.kind = SPOOL_DEFERRED,
		.attempts = attempts,
		.due_us = 77,
	};

	spool_txn_outcome(txn, &outcome);
	assert_int_equal(0, spool_txn_commit(&txn));
}

/* The folder looks what there is to do. */
static void
wake_folder(struct spool *spool)
{
	(void)pthread_mutex_lock(&spool->segments.lock);
	(void)pthread_cond_signal(&spool->segments.sealed);
	(void)pthread_mutex_unlock(&spool->segments.lock);
}

static void
export_all(struct spool *spool)
{
	spool_events_exported(spool, stats_of(spool).durable_lsn);
}

static void
wait_for_checkpoint(struct spool *spool, uint64_t before)
{
	for (int i = 0; i < 5000 && stats_of(spool).checkpoints <= before; i++)
		usleep(1000);
	assert_true(stats_of(spool).checkpoints > before);
}

/* Mail of three recipients, most of which is soon done. */
static void
build(struct rig *rig)
{
	rig->disk = simdisk_new(1);
	fixture_open_on(&rig->f, simdisk_io(rig->disk));
	fixture_close(&rig->f);
	rig->f.options.pass_segments =
	    rig->pass_segments ? rig->pass_segments : 3;
	fixture_open(&rig->f);
	assert_int_equal(0, spool_recover(rig->f.spool, NULL, NULL));
	for (unsigned i = 0; i < SENT; i++) {
		uint64_t mno = fixture_send(rig->f.spool, SIZE, 3);

		if (i % EVERY != 0) {
			fixture_done(rig->f.spool, mno, 0, 3);
			continue;
		}
		rig->kept[i / EVERY] = mno;
		fixture_done(rig->f.spool, mno, 0, 1);
		defer(rig->f.spool, mno, 2, 5);
	}
	export_all(rig->f.spool);
}

static void
destroy(struct rig *rig)
{
	fixture_close(&rig->f);
	simdisk_free(&rig->disk);
}

static void
cut_and_open(struct rig *rig)
{
	simdisk_cut_at(rig->disk, 1);
	fixture_close(&rig->f);
	simdisk_power_cycle(rig->disk);
	fixture_open(&rig->f);
	fixture_recover(rig->f.spool, &told);
}

static void
check_kept(struct rig *rig)
{
	assert_int_equal(SENT / EVERY, told.count);
	for (size_t i = 0; i < told.count; i++) {
		assert_int_equal(rig->kept[i], told.mnos[i]);
		assert_int_equal(2, told.live[i]);
		assert_int_equal(2, told.runs[i]);
		assert_int_equal(1, told.first[i].rcpt_first);
		assert_int_equal(0, told.first[i].attempts);
		assert_int_equal(
		    0, fixture_check(rig->f.spool, rig->kept[i], SIZE, 3));
	}
	assert_int_equal(0, stats_of(rig->f.spool).quarantined);
}

/* The oldest message lives on; what is behind it is freed all the same, and
 * outcomes that are gone with their segments are not forgotten. */
static void
test_segments_go_in_any_order(void **state)
{
	struct rig rig = { 0 };

	(void)state;
	build(&rig);
	wait_for_checkpoint(rig.f.spool, 0);
	/* Of what one checkpoint covers no more can go than is dead: work a
	 * little, until outcomes have gone. */
	uint64_t before = stats_of(rig.f.spool).segments;
	for (unsigned i = 0; i < 3 * SENT; i++)
		fixture_done(
		    rig.f.spool, fixture_send(rig.f.spool, SIZE, 1), 0, 1);
	export_all(rig.f.spool);
	for (int i = 0; i < 5000; i++) {
		if (stats_of(rig.f.spool).segments <= before)
			break;
		usleep(1000);
	}
	assert_true(stats_of(rig.f.spool).segments <= before + 2);
	cut_and_open(&rig);
	check_kept(&rig);
	/* And again, from the same files. */
	cut_and_open(&rig);
	check_kept(&rig);
	/* Done with: everything but the newest goes. */
	for (unsigned i = 0; i < SENT / EVERY; i++)
		fixture_done(rig.f.spool, rig.kept[i], 1, 2);
	export_all(rig.f.spool);
	for (int i = 0; i < 5000 && stats_of(rig.f.spool).segments > 1; i++)
		usleep(1000);
	assert_int_equal(1, stats_of(rig.f.spool).segments);
	assert_int_equal(0, simdisk_count(rig.disk, ".live"));
	destroy(&rig);
}

static bool
damage_file(struct rig *rig, const char *path, bool remove)
{
	size_t size;
	uint8_t *AUTO_FREE bytes = simdisk_get(rig->disk, path, &size);

	if (!bytes)
		return false;
	bytes[size / 2] ^= 1;
	if (remove)
		assert_int_equal(0, rig->f.options.io->unlink(rig->disk, path));
	else
		simdisk_put(rig->disk, path, bytes, size);
	return true;
}

struct damage {
	struct span ending;
	char names[64][64];
	unsigned count;
};

static void
note_name(void *arg, const char *name)
{
	struct damage *d = arg;

	if (!span_ends_nocase(span_of(name), d->ending))
		return;
	assert_in_range(d->count, 0, 63);
	assert_true(span_to_cstring(
	    span_of(name), d->names[d->count], sizeof d->names[0]));
	d->count++;
}

/* Flips a byte of every catalogue, or of every live file. How many. */
static unsigned
damage_files(struct rig *rig, bool catalogues, bool remove)
{
	struct damage d = { .ending = catalogues ? SPAN(".catalogue")
						 : SPAN(".live") };

	assert_int_equal(
	    0, rig->f.options.io->list(rig->disk, "/spool", note_name, &d));
	for (unsigned i = 0; i < d.count; i++) {
		char path[128];

		(void)snprintf(path, sizeof path, "/spool/%s", d.names[i]);
		assert_true(damage_file(rig, path, remove));
	}
	return d.count;
}

static void
close_damage_open(struct rig *rig, bool catalogues, bool remove)
{
	fixture_close(&rig->f);
	assert_true(damage_files(rig, catalogues, remove) > 0);
	fixture_open(&rig->f);
	fixture_recover(rig->f.spool, &told);
}

/* Delivering twice is better than losing: all of the segment is there. */
static void
test_damaged_live_files(void **state)
{
	(void)state;
	for (int remove = 0; remove < 2; remove++) {
		struct rig rig = { 0 };

		build(&rig);
		wait_for_checkpoint(rig.f.spool, 0);
		close_damage_open(&rig, false, remove != 0);
		assert_true(stats_of(rig.f.spool).quarantined > 0);
		for (unsigned i = 0; i < SENT / EVERY; i++)
			assert_true(told_has(&told, rig.kept[i]));
		assert_true(told.count >= SENT / EVERY);
		destroy(&rig);
	}
}

/* The live files still tell what is done. */
static void
test_damaged_catalogue(void **state)
{
	(void)state;
	for (int remove = 0; remove < 2; remove++) {
		struct rig rig = { 0 };
		struct verification v = { 0 };

		build(&rig);
		wait_for_checkpoint(rig.f.spool, 0);
		fixture_close(&rig.f);
		assert_int_equal(0, verify_with(&rig.f.options, &v));
		assert_int_equal(0, v.result.problems);
		assert_int_equal(SENT / EVERY, v.result.live_messages);
		assert_true(damage_files(&rig, true, remove != 0) > 0);
		assert_int_equal(0, verify_with(&rig.f.options, &v));
		assert_true(v.result.problems > 0);
		fixture_open(&rig.f);
		fixture_recover(rig.f.spool, &told);
		assert_int_equal(1, stats_of(rig.f.spool).quarantined);
		for (unsigned i = 0; i < SENT / EVERY; i++) {
			assert_true(told_has(&told, rig.kept[i]));
			assert_int_equal(0,
			    fixture_check(rig.f.spool, rig.kept[i], SIZE, 3));
		}
		/* A new one is made at once. */
		wait_for_checkpoint(rig.f.spool, 0);
		cut_and_open(&rig);
		assert_int_equal(0, stats_of(rig.f.spool).quarantined);
		destroy(&rig);
	}
}

/* A disk that fails under a checkpoint harms nothing but the checkpoint. */
static void
test_failing_checkpoint(void **state)
{
	static const char *const parts[] = { ".live", ".catalogue",
		"MANIFEST" };

	(void)state;
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		struct rig rig = { 0 };

		build(&rig);
		wait_for_checkpoint(rig.f.spool, 0);
		simdisk_fail(rig.disk, SIMDISK_SYNC, parts[i], 0, 1, -EIO);
		for (unsigned n = 0; n < SENT; n++)
			fixture_done(rig.f.spool,
			    fixture_send(rig.f.spool, SIZE, 1), 0, 1);
		for (int n = 0; n < 5000; n++) {
			if (stats_of(rig.f.spool).checkpoint_error < 0)
				break;
			usleep(1000);
		}
		assert_int_equal(-EIO, stats_of(rig.f.spool).checkpoint_error);
		assert_int_equal(0, stats_of(rig.f.spool).failed);
		cut_and_open(&rig);
		check_kept(&rig);
		destroy(&rig);
	}
}

/* Mail is taken, sent and done with while what is old is being loaded. */
struct during {
	struct spool *spool;
	unsigned count;
};

static void
on_message(void *arg, const struct spool_live *message)
{
	struct during *during = arg;

	if (!message)
		return;
	during->count++;
	assert_in_range(stats_of(during->spool).loaded_percent, 0, 99);
	assert_int_equal(2, message->run_count);
	uint64_t mno = fixture_send(during->spool, SIZE, 1);
	assert_true(mno > message->mno);
	assert_int_equal(0, fixture_check(during->spool, mno, SIZE, 1));
	fixture_done(during->spool, mno, 0, 1);
	fixture_done(during->spool, message->mno, 1, 2);
}

static void
test_mail_flows_during_recovery(void **state)
{
	struct rig rig = { 0 };
	struct during during = { 0 };

	(void)state;
	build(&rig);
	simdisk_cut_at(rig.disk, 1);
	fixture_close(&rig.f);
	simdisk_power_cycle(rig.disk);
	fixture_open(&rig.f);
	during.spool = rig.f.spool;
	assert_int_equal(0, spool_recover(rig.f.spool, on_message, &during));
	assert_int_equal(SENT / EVERY, during.count);
	assert_int_equal(0, stats_of(rig.f.spool).messages);
	assert_int_equal(100, stats_of(rig.f.spool).loaded_percent);
	cut_and_open(&rig);
	assert_int_equal(0, told.count);
	assert_int_equal(0, stats_of(rig.f.spool).quarantined);
	destroy(&rig);
}

static void
stop_it(void *arg, const struct spool_live *message)
{
	struct during *during = arg;

	(void)message;
	during->count++;
	spool_stop(during->spool);
}

static void
test_stop_during_recovery(void **state)
{
	struct rig rig = { 0 };
	struct during during = { 0 };

	(void)state;
	build(&rig);
	fixture_close(&rig.f);
	fixture_open(&rig.f);
	during.spool = rig.f.spool;
	assert_int_equal(
	    -ECANCELED, spool_recover(rig.f.spool, stop_it, &during));
	assert_int_equal(1, during.count);
	fixture_close(&rig.f);
	fixture_open(&rig.f);
	fixture_recover(rig.f.spool, &told);
	check_kept(&rig);
	destroy(&rig);
}

/* Makes checkpoints happen until messages have moved. */
static void
work_until_moved(struct spool *spool)
{
	for (unsigned i = 0; i < 100 * SENT; i++) {
		if (stats_of(spool).messages_moved >= SENT / EVERY / 2)
			break;
		fixture_done(spool, fixture_send(spool, SIZE, 1), 0, 1);
		export_all(spool);
	}
	assert_true(stats_of(spool).messages_moved >= SENT / EVERY / 2);
}

static void
test_little_that_lives_is_moved(void **state)
{
	struct verification v = { 0 };
	struct spool_message *message;
	struct rig rig = { 0 };
	struct span piece;

	(void)state;
	build(&rig);
	/* A reader keeps what it reads. */
	assert_int_equal(
	    0, spool_message_open(rig.f.spool, rig.kept[1], &message));
	work_until_moved(rig.f.spool);
	for (size_t at = 0; at < spool_message_size(message); at += piece.len)
		assert_int_equal(0, spool_message_read(message, at, &piece));
	spool_message_unref(&message);
	for (unsigned i = 0; i < SENT / EVERY; i++)
		assert_int_equal(
		    0, fixture_check(rig.f.spool, rig.kept[i], SIZE, 3));
	/* What is left: copies, the tail of the log, what holds the events. */
	for (int i = 0; i < 5000 && stats_of(rig.f.spool).segments > 12; i++)
		usleep(1000);
	assert_in_range(stats_of(rig.f.spool).segments, 2, 12);
	assert_true(simdisk_count(rig.disk, "/000000008") > 0);
	cut_and_open(&rig);
	check_kept(&rig);
	fixture_close(&rig.f);
	assert_int_equal(0, verify_with(&rig.f.options, &v));
	assert_int_equal(0, v.result.problems);
	assert_int_equal(SENT / EVERY, v.result.live_messages);
	destroy(&rig);
}

/* A segment of copies is checked, and read without its live file, as others. */
static void
test_damaged_copies(void **state)
{
	static const char copies[] = "/spool/0000000080000000.seg";
	struct verification v = { 0 };
	struct rig rig = { 0 };
	size_t size;

	(void)state;
	build(&rig);
	for (unsigned i = 0; i < 100 * SENT; i++) {
		if (simdisk_count(rig.disk, copies) > 0 &&
		    stats_of(rig.f.spool).messages_moved > 0)
			break;
		fixture_done(
		    rig.f.spool, fixture_send(rig.f.spool, SIZE, 1), 0, 1);
		export_all(rig.f.spool);
	}
	fixture_close(&rig.f);
	assert_true(damage_files(&rig, false, false) > 0);
	rig.f.options.pass_segments = UINT32_MAX;
	fixture_open(&rig.f);
	fixture_recover(rig.f.spool, &told);
	for (unsigned i = 0; i < SENT / EVERY; i++) {
		assert_true(told_has(&told, rig.kept[i]));
		assert_int_equal(
		    0, fixture_check(rig.f.spool, rig.kept[i], SIZE, 3));
	}
	fixture_close(&rig.f);
	assert_true(damage_files(&rig, false, false) > 0); /* good again */
	uint8_t *bytes = simdisk_get(rig.disk, copies, &size);
	if (bytes) {
		bytes[5000] ^= 1;
		simdisk_put(rig.disk, copies, bytes, size);
		mem_free(bytes);
		assert_int_equal(0, verify_with(&rig.f.options, &v));
		assert_int_equal(1, v.result.problems);
	}
	destroy(&rig);
}

/* Mail that waits is read again; what has gone bad is told before it is due. */
static void
test_scrubbing(void **state)
{
	static const char segment[] = "/spool/0000000000000001.seg";
	struct rig rig = { .pass_segments = UINT32_MAX };
	size_t size;

	(void)state;
	build(&rig);
	fixture_close(&rig.f);
	rig.f.options.scrub_period_us = 1;
	uint8_t *bytes = simdisk_get(rig.disk, segment, &size);
	assert_non_null(bytes);
	fixture_open(&rig.f);
	fixture_recover(rig.f.spool, &told);
	for (int i = 0; i < 5000; i++) {
		if (stats_of(rig.f.spool).scrubbed >= SENT / EVERY)
			break;
		usleep(1000);
		wake_folder(rig.f.spool);
	}
	assert_true(stats_of(rig.f.spool).scrubbed >= SENT / EVERY);
	assert_int_equal(0, stats_of(rig.f.spool).quarantined);
	bytes[FORMAT_PAGE + 1000] ^= 1; /* in the first one's body */
	simdisk_put(rig.disk, segment, bytes, size);
	for (int i = 0; i < 5000; i++) {
		if (stats_of(rig.f.spool).quarantined > 0)
			break;
		usleep(1000);
		wake_folder(rig.f.spool);
	}
	assert_int_equal(1, stats_of(rig.f.spool).quarantined);
	assert_int_equal(
	    ERR_CORRUPT, fixture_check(rig.f.spool, rig.kept[0], SIZE, 3));
	assert_int_equal(0, fixture_check(rig.f.spool, rig.kept[1], SIZE, 3));
	mem_free(bytes);
	destroy(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_segments_go_in_any_order),
		cmocka_unit_test(test_damaged_live_files),
		cmocka_unit_test(test_little_that_lives_is_moved),
		cmocka_unit_test(test_damaged_copies),
		cmocka_unit_test(test_scrubbing),
		cmocka_unit_test(test_damaged_catalogue),
		cmocka_unit_test(test_failing_checkpoint),
		cmocka_unit_test(test_mail_flows_during_recovery),
		cmocka_unit_test(test_stop_during_recovery),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
