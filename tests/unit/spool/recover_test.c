/* SPDX-License-Identifier: Apache-2.0 */

/* Damage: a segment cut at every byte, bits that flip anywhere. What was
 * written before stays, what is wrong is counted, nothing wrong comes out.
 *
 *	SPOOL_DAMAGE_STEP=n    opened after a cut at each n-th byte (1021)
 *	SPOOL_DAMAGE_FLIPS=n   and after so many flips of a bit (40)
 */

#include "base/mem.h"
#include "fixture.h"
#include "simdisk.h"
#include "spool/internal.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SEGMENT "/spool/0000000000000001.seg"
#define MESSAGES 8

struct rig {
	struct fixture f;
	struct simdisk *disk;
	uint64_t mnos[MESSAGES];
	uint8_t *bytes;
	size_t size;
};

static struct told told;

static size_t
asked_for(const char *name, size_t otherwise)
{
	const char *text = getenv(name);
	uint64_t value;

	if (!text || !span_to_u64(span_of(text), SIZE_MAX, &value) || !value)
		return otherwise;
	return (size_t)value;
}

/* Closed in order, or as if the power had gone behind the last message. */
static void
build(struct rig *rig, bool is_clean)
{
	rig->disk = simdisk_new(1);
	fixture_open_on(&rig->f, simdisk_io(rig->disk));
	for (int i = 0; i < MESSAGES; i++)
		rig->mnos[i] = fixture_send(rig->f.spool, 900, 2);
	if (!is_clean)
		simdisk_cut_at(rig->disk, 1);
	spool_close(&rig->f.spool);
	if (!is_clean)
		simdisk_power_cycle(rig->disk);
	rig->bytes = simdisk_get(rig->disk, SEGMENT, &rig->size);
	assert_non_null(rig->bytes);
	assert_int_equal((MESSAGES + 1) * 4096, rig->size);
}

static void
destroy(struct rig *rig)
{
	spool_close(&rig->f.spool);
	simdisk_free(&rig->disk);
	mem_free(rig->bytes);
}

/* Opens what is on the disk; the number of messages, all of them right. */
static size_t
open_and_check(struct rig *rig, uint64_t *ret_quarantined)
{
	struct spool_stats stats;

	fixture_open(&rig->f);
	fixture_recover(rig->f.spool, &told);
	for (size_t i = 0; i < told.count; i++)
		assert_int_equal(
		    0, fixture_check(rig->f.spool, told.mnos[i], 900, 2));
	spool_stats(rig->f.spool, &stats);
	*ret_quarantined = stats.quarantined;
	spool_close(&rig->f.spool);
	return told.count;
}

static void
test_cut_at_every_byte_of_a_crashed_spool(void **state)
{
	struct rig rig = { 0 };
	uint64_t quarantined;

	(void)state;
	build(&rig, false);
	for (size_t len = FORMAT_PAGE; len < rig.size; len++) {
		/* A batch is a page; each record tells that all before was
		 * durable. A message is there as soon as its bytes are. */
		size_t whole = len / FORMAT_PAGE - 1;
		struct verification v = { 0 };

		simdisk_put(rig.disk, SEGMENT, rig.bytes, len);
		assert_int_equal(0, verify_with(&rig.f.options, &v));
		assert_in_range(v.result.live_messages, whole, whole + 1);
		assert_int_equal(0, v.result.problems);
	}
	size_t step = asked_for("SPOOL_DAMAGE_STEP", 1021);
	for (size_t len = FORMAT_PAGE; len < rig.size; len += step) {
		struct rig copy = { 0 };

		build(&copy, false);
		simdisk_put(copy.disk, SEGMENT, copy.bytes, len);
		assert_in_range(open_and_check(&copy, &quarantined),
		    len / FORMAT_PAGE - 1, len / FORMAT_PAGE);
		assert_int_equal(0, quarantined);
		destroy(&copy);
	}
	destroy(&rig);
}

/* Closed in order, the manifest says how far the log went. */
static void
test_cut_at_every_byte_of_a_closed_spool(void **state)
{
	struct rig rig = { 0 };

	(void)state;
	build(&rig, true);
	for (size_t len = 0; len < rig.size; len += 1 + (len > 9000) * 30) {
		struct verification v = { 0 };
		size_t whole = len < FORMAT_PAGE ? 0 : len / FORMAT_PAGE - 1;

		simdisk_put(rig.disk, SEGMENT, rig.bytes, len);
		assert_int_equal(0, verify_with(&rig.f.options, &v));
		assert_in_range(v.result.live_messages, whole, whole + 1);
		/* What is missing is the fill only, or it is a problem. */
		if (v.result.live_messages < MESSAGES)
			assert_true(v.result.problems > 0);
	}
	destroy(&rig);
}

static size_t
flip(struct rig *rig, uint64_t *random)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	size_t bit = (size_t)((*random >> 11) % (rig->size * 8));
	rig->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	simdisk_put(rig->disk, SEGMENT, rig->bytes, rig->size);
	rig->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	return bit / 8;
}

static void
test_flipped_bits(void **state)
{
	struct rig rig = { 0 };
	uint64_t random = 99;
	unsigned damaged = 0;

	(void)state;
	build(&rig, true);
	for (int i = 0; i < 10000; i++) {
		struct verification v = { 0 };

		(void)flip(&rig, &random);
		assert_int_equal(0, verify_with(&rig.f.options, &v));
		/* One bit hits one record. */
		assert_in_range(v.result.live_messages, MESSAGES - 1, MESSAGES);
		if (v.result.live_messages < MESSAGES)
			assert_true(v.result.problems > 0);
		damaged += v.result.problems > 0;
	}
	assert_in_range(damaged, 3000, 7000); /* the rest hit fill */
	destroy(&rig);
}

static void
test_flipped_bits_are_set_aside(void **state)
{
	uint64_t random = 5, quarantined;

	(void)state;
	size_t flips = asked_for("SPOOL_DAMAGE_FLIPS", 40);
	for (size_t i = 0; i < flips; i++) {
		struct rig rig = { 0 };

		build(&rig, true);
		size_t at = flip(&rig, &random);
		size_t count = open_and_check(&rig, &quarantined);
		assert_in_range(count, MESSAGES - 1, MESSAGES);
		if (count < MESSAGES)
			assert_int_equal(1, quarantined);
		assert_int_equal(
		    quarantined, simdisk_count(rig.disk, "/quarantine/"));
		if (at < 72)
			assert_int_equal(1, quarantined); /* superblock */
		destroy(&rig);
	}
}

/* Before the last batch, damage is damage also after a crash: later batches
 * say that it was durable. */
static void
test_damage_before_the_tail_of_a_crashed_spool(void **state)
{
	struct rig rig = { 0 };
	uint64_t quarantined;

	(void)state;
	build(&rig, false);
	rig.bytes[3 * FORMAT_PAGE + 300] ^= 1;
	simdisk_put(rig.disk, SEGMENT, rig.bytes, rig.size);
	assert_int_equal(MESSAGES - 1, open_and_check(&rig, &quarantined));
	assert_int_equal(1, quarantined);
	assert_false(told_has(&told, rig.mnos[2]));
	destroy(&rig);
}

/* A dead segment with damage is not used again: it may have what nobody else
 * has. */
static void
test_damaged_segment_is_kept(void **state)
{
	struct rig rig = { 0 };
	struct spool_stats stats;

	(void)state;
	build(&rig, true);
	rig.bytes[3 * FORMAT_PAGE + 300] ^= 1;
	simdisk_put(rig.disk, SEGMENT, rig.bytes, rig.size);
	fixture_open(&rig.f);
	fixture_recover(rig.f.spool, &told);
	for (size_t i = 0; i < told.count; i++)
		fixture_done(rig.f.spool, told.mnos[i], 0, 2);
	spool_stats(rig.f.spool, &stats);
	spool_events_exported(rig.f.spool, stats.durable_lsn);
	for (int i = 0; i < 5000 && stats.segments > 1; i++) {
		usleep(1000);
		spool_stats(rig.f.spool, &stats);
	}
	assert_int_equal(1, stats.segments);
	assert_int_equal(
	    1, simdisk_count(rig.disk, "/quarantine/0000000000000001.seg"));
	destroy(&rig);
}

static void
test_lost_page_loses_no_other(void **state)
{
	struct rig rig = { 0 };
	uint64_t quarantined;

	(void)state;
	build(&rig, false);
	memset(rig.bytes + 3 * FORMAT_PAGE, 0, FORMAT_PAGE);
	simdisk_put(rig.disk, SEGMENT, rig.bytes, rig.size);
	assert_int_equal(MESSAGES - 1, open_and_check(&rig, &quarantined));
	assert_int_equal(1, quarantined);
	destroy(&rig);
}

static void
test_unreadable_pages_lose_no_other(void **state)
{
	struct rig rig = { 0 };
	uint64_t quarantined;

	(void)state;
	build(&rig, true);
	/* The superblock is read, then the log for its orders and its outcomes,
	 * then for its messages as a whole, which fails; then page by page, of
	 * which the first four fail. */
	simdisk_fail(rig.disk, SIMDISK_READ, SEGMENT, 3, 5, -EIO);
	assert_int_equal(MESSAGES - 4, open_and_check(&rig, &quarantined));
	assert_int_equal(1, quarantined);
	destroy(&rig);
}

/* Nobody knows whether the newest mail is on a page that cannot be read: not
 * to open is better than to forget it. */
static void
test_unreadable_tail_is_an_error(void **state)
{
	struct rig rig = { 0 };
	struct failure failure = { 0 };
	struct spool *spool = NULL;
	uint64_t quarantined;

	(void)state;
	build(&rig, false);
	simdisk_fail(rig.disk, SIMDISK_READ, SEGMENT, 1, 1000, -EIO);
	assert_int_equal(-EIO, spool_open(&rig.f.options, &spool, &failure));
	simdisk_fail(rig.disk, SIMDISK_READ, SEGMENT, 0, 0, 0);
	assert_int_equal(MESSAGES, open_and_check(&rig, &quarantined));
	destroy(&rig);
}

static void
test_superblock_and_manifests(void **state)
{
	struct rig rig = { 0 };
	uint64_t quarantined;
	struct failure failure = { 0 };
	struct spool *spool = NULL;
	uint8_t zeros[FORMAT_PAGE] = { 0 };

	(void)state;
	build(&rig, true);
	/* Without a superblock the manifest is enough, … */
	memset(rig.bytes, 0, FORMAT_PAGE);
	simdisk_put(rig.disk, SEGMENT, rig.bytes, rig.size);
	assert_int_equal(MESSAGES, open_and_check(&rig, &quarantined));
	assert_int_equal(1, quarantined);
	/* … without both there is no key to the log. */
	simdisk_put(rig.disk, "/spool/MANIFEST.a", zeros, sizeof zeros);
	simdisk_put(rig.disk, "/spool/MANIFEST.b", zeros, sizeof zeros);
	assert_int_equal(
	    ERR_CORRUPT, spool_open(&rig.f.options, &spool, &failure));
	assert_non_null(strstr(failure.text, "MANIFEST"));
	destroy(&rig);

	build(&rig, true);
	simdisk_put(rig.disk, "/spool/MANIFEST.a", zeros, sizeof zeros);
	simdisk_put(rig.disk, "/spool/MANIFEST.b", zeros, sizeof zeros);
	assert_int_equal(MESSAGES, open_and_check(&rig, &quarantined));
	assert_int_equal(0, quarantined);
	destroy(&rig);
}

static void
test_lost_body_is_told_of(void **state)
{
	struct rig rig = { 0 };
	struct spool_message *message;
	char path[64];

	(void)state;
	build(&rig, true);
	fixture_open(&rig.f);
	uint64_t mno = fixture_send(rig.f.spool, 20000, 2);
	spool_close(&rig.f.spool);
	(void)snprintf(
	    path, sizeof path, "/spool/big/%016llx", (unsigned long long)mno);
	assert_int_equal(0, rig.f.options.io->unlink(rig.disk, path));
	fixture_open(&rig.f);
	fixture_recover(rig.f.spool, &told);
	/* Its sender must hear that it is lost. */
	assert_true(told_has(&told, mno));
	assert_int_equal(
	    ERR_CORRUPT, spool_message_open(rig.f.spool, mno, &message));
	destroy(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut_at_every_byte_of_a_crashed_spool),
		cmocka_unit_test(test_cut_at_every_byte_of_a_closed_spool),
		cmocka_unit_test(test_flipped_bits),
		cmocka_unit_test(test_flipped_bits_are_set_aside),
		cmocka_unit_test(
		    test_damage_before_the_tail_of_a_crashed_spool),
		cmocka_unit_test(test_damaged_segment_is_kept),
		cmocka_unit_test(test_lost_page_loses_no_other),
		cmocka_unit_test(test_unreadable_pages_lose_no_other),
		cmocka_unit_test(test_unreadable_tail_is_an_error),
		cmocka_unit_test(test_superblock_and_manifests),
		cmocka_unit_test(test_lost_body_is_told_of),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
