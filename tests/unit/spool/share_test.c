/* SPDX-License-Identifier: Apache-2.0 */

/* Bodies that several messages share: stored once, kept while one needs them,
 * moved with care, and damaged for all when they are damaged. */

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

#define SIZE 6000 /* of a body */
#define COUNT 40

struct rig {
	struct fixture f;
	struct simdisk *disk;
};

static struct told told;

static struct spool_stats
stats_of(const struct rig *rig)
{
	struct spool_stats stats;

	spool_stats(rig->f.spool, &stats);
	return stats;
}

static void
build(struct rig *rig)
{
	rig->disk = simdisk_new(1);
	fixture_open_on(&rig->f, simdisk_io(rig->disk));
	fixture_close(&rig->f);
	rig->f.options.share_bytes = UINT64_C(4) * SIZE;
	rig->f.options.share_min = 1000;
	fixture_open(&rig->f);
	assert_int_equal(0, spool_recover(rig->f.spool, NULL, NULL));
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

/* The header, which tells messages apart, and a body that does not. */
static void
compose(uint64_t mno, uint64_t text, struct buf *b, size_t *ret_own)
{
	buf_printf(b, "Subject: %llu\r\n\r\n", (unsigned long long)mno);
	*ret_own = buf_size(b);
	fixture_body(text, SIZE, b);
}

static int
try_text(
    const struct rig *rig, uint32_t tenant, uint64_t text, uint64_t *ret_mno)
{
	struct spool *spool = rig->f.spool;
	uint64_t mno = *ret_mno = spool_next_mno(spool);
	struct spool_draft *draft = spool_draft_new(spool, mno);
	const struct spool_rcpt rcpt = { .address = SPAN("a@example.org") };
	const struct spool_envelope e = {
		.mno = mno,
		.tenant = tenant,
		.rcpts = &rcpt,
		.rcpt_count = 1,
		.prefix = SPAN("Received: x\r\n"),
	};
	struct buf b = BUF_EMPTY;
	size_t own;

	compose(mno, text, &b, &own);
	assert_int_equal(
	    0, spool_draft_write(draft, span_slice(buf_span(&b), 0, own)));
	spool_draft_end_own(draft);
	assert_int_equal(
	    0, spool_draft_write(draft, span_skip(buf_span(&b), own)));
	buf_done(&b);
	struct spool_txn *txn = spool_txn_new(spool);
	spool_txn_message(txn, &e, &draft);
	return spool_txn_commit(&txn);
}

static uint64_t
send_text(const struct rig *rig, uint32_t tenant, uint64_t text)
{
	uint64_t mno;

	assert_int_equal(0, try_text(rig, tenant, text, &mno));
	return mno;
}

static int
check_text(const struct rig *rig, uint64_t mno, uint64_t text)
{
	struct spool_message *message;
	struct buf want = BUF_EMPTY;
	struct span piece;
	size_t own;

	TRY(spool_message_open(rig->f.spool, mno, &message));
	buf_append_str(&want, "Received: x\r\n");
	struct buf rest = BUF_EMPTY;
	compose(mno, text, &rest, &own);
	buf_append(&want, buf_span(&rest));
	buf_done(&rest);
	assert_int_equal(buf_size(&want), spool_message_size(message));
	for (size_t at = 0; at < buf_size(&want); at += piece.len) {
		assert_int_equal(0, spool_message_read(message, at, &piece));
		assert_true(piece.len > 0 && piece.len <= buf_size(&want) - at);
		assert_memory_equal(piece.ptr, want.ptr + at, piece.len);
	}
	buf_done(&want);
	spool_message_unref(&message);
	return 0;
}

/* The first is stored as it came, the second to be shared. */
static void
test_stored_once(void **state)
{
	struct rig rig = { 0 };
	uint64_t mnos[COUNT];

	(void)state;
	build(&rig);
	for (unsigned i = 0; i < COUNT; i++)
		mnos[i] = send_text(&rig, 1, 500);
	assert_int_equal(1, stats_of(&rig).bodies_shared);
	assert_int_equal(COUNT - 1, stats_of(&rig).messages_sharing);
	/* Each batch is a page at least. */
	assert_in_range(
	    stats_of(&rig).bytes_written, 2 * SIZE, (COUNT + 4) * 4096);
	for (int lives = 0; lives < 3; lives++) {
		for (unsigned i = 0; i < COUNT; i++)
			assert_int_equal(0, check_text(&rig, mnos[i], 500));
		assert_int_equal(0, stats_of(&rig).quarantined);
		cut_and_open(&rig);
		assert_int_equal(COUNT, told.count);
		assert_int_equal(1, stats_of(&rig).bodies_shared);
	}
	for (unsigned i = 0; i < COUNT; i++)
		fixture_done(rig.f.spool, mnos[i], 0, 1);
	assert_int_equal(0, stats_of(&rig).bodies_shared);
	assert_int_equal(0, stats_of(&rig).messages_sharing);
	destroy(&rig);
}

/* A body whose batch failed is nowhere, also while a former life is loaded and
 * nothing is forgotten for certain. */
static void
test_failed_while_loading(void **state)
{
	struct rig rig = { 0 };
	unsigned failed = 0;

	(void)state;
	build(&rig);
	fixture_close(&rig.f);
	fixture_open(&rig.f); /* and nobody calls spool_recover yet */
	(void)send_text(&rig, 1, 500);
	/* The first write that fails may be one that prepares a segment. */
	for (unsigned i = 0; i < 10 && failed == 0; i++) {
		uint64_t mno;

		simdisk_fail(rig.disk, SIMDISK_WRITE, ".seg", 0, 1, -EIO);
		failed += try_text(&rig, 1, 500, &mno) < 0;
	}
	assert_int_equal(1, failed);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(
		    0, check_text(&rig, send_text(&rig, 1, 500), 500));
	assert_int_equal(0, stats_of(&rig).quarantined);
	destroy(&rig);
}

static void
test_tenants_never_share(void **state)
{
	struct rig rig = { 0 };

	(void)state;
	build(&rig);
	for (uint32_t tenant = 1; tenant < 4; tenant++)
		assert_int_equal(
		    0, check_text(&rig, send_text(&rig, tenant, 500), 500));
	assert_int_equal(0, stats_of(&rig).bodies_shared);
	for (uint32_t tenant = 1; tenant < 4; tenant++)
		(void)send_text(&rig, tenant, 500);
	assert_int_equal(3, stats_of(&rig).bodies_shared);
	assert_int_equal(3, stats_of(&rig).messages_sharing);
	destroy(&rig);
}

/* When the last message is done a body is gone; the next one, which memory
 * still knows, is written anew. */
static void
test_written_anew(void **state)
{
	struct rig rig = { 0 };
	uint64_t mno = 0;

	(void)state;
	build(&rig);
	(void)send_text(&rig, 1, 500);
	for (unsigned i = 0; i < 5; i++) {
		mno = send_text(&rig, 1, 500);
		assert_int_equal(1, stats_of(&rig).bodies_shared);
		assert_int_equal(0, check_text(&rig, mno, 500));
		if (i < 4)
			fixture_done(rig.f.spool, mno, 0, 1);
	}
	cut_and_open(&rig);
	assert_int_equal(0, check_text(&rig, mno, 500));
	assert_int_equal(1, stats_of(&rig).messages_sharing);
	destroy(&rig);
}

static void
test_memory_is_bounded(void **state)
{
	struct rig rig = { 0 };

	(void)state;
	build(&rig);
	for (unsigned i = 0; i < 3 * COUNT; i++) {
		uint64_t text = 500 + i / 3;

		assert_int_equal(
		    0, check_text(&rig, send_text(&rig, 1, text), text));
		assert_in_range(stats_of(&rig).recent_bytes, 0, 4 * SIZE);
	}
	assert_int_equal(COUNT, stats_of(&rig).bodies_shared);
	destroy(&rig);
}

/* Little that lives is moved: bodies as well as those who share them. */
static void
test_moved(void **state)
{
	struct verification v = { 0 };
	struct rig rig = { 0 };
	uint64_t mnos[COUNT];

	(void)state;
	build(&rig);
	fixture_close(&rig.f);
	rig.f.options.pass_segments = 2;
	fixture_open(&rig.f);
	fixture_recover(rig.f.spool, &told);
	for (unsigned i = 0; i < COUNT; i++)
		mnos[i] = send_text(&rig, 1, 500);
	for (unsigned i = 0; i < 4000 && stats_of(&rig).messages_moved < COUNT;
	     i++) {
		fixture_done(
		    rig.f.spool, fixture_send(rig.f.spool, SIZE, 1), 0, 1);
		spool_events_exported(rig.f.spool, stats_of(&rig).durable_lsn);
	}
	assert_true(stats_of(&rig).messages_moved >= COUNT);
	for (int lives = 0; lives < 2; lives++) {
		for (unsigned i = 0; i < COUNT; i++)
			assert_int_equal(0, check_text(&rig, mnos[i], 500));
		assert_int_equal(0, stats_of(&rig).quarantined);
		assert_int_equal(1, stats_of(&rig).bodies_shared);
		cut_and_open(&rig);
		assert_int_equal(COUNT, told.count);
	}
	fixture_close(&rig.f);
	assert_int_equal(0, verify_with(&rig.f.options, &v));
	assert_int_equal(0, v.result.problems);
	assert_int_equal(COUNT, v.result.live_messages);
	destroy(&rig);
}

/* One octet of it, of the second record with these. */
static void
damage_body(struct rig *rig)
{
	static const char path[] = "/spool/0000000000000001.seg";
	struct buf text = BUF_EMPTY;
	unsigned found = 0;
	size_t size;
	uint8_t *bytes = simdisk_get(rig->disk, path, &size);

	assert_non_null(bytes);
	fixture_body(500, SIZE, &text);
	for (size_t at = 0; at + SIZE <= size; at++) {
		if (memcmp(bytes + at, text.ptr, SIZE) == 0 && found++ == 1)
			bytes[at + 100] ^= 1;
	}
	assert_int_equal(2, found);
	simdisk_put(rig->disk, path, bytes, size);
	mem_free(bytes);
	buf_done(&text);
}

static void
test_damage_is_everybodys(void **state)
{
	struct verification v = { 0 };
	struct rig rig = { 0 };
	uint64_t mnos[5];

	(void)state;
	build(&rig);
	for (unsigned i = 0; i < 5; i++)
		mnos[i] = send_text(&rig, 1, 500);
	damage_body(&rig);
	assert_int_equal(0, check_text(&rig, mnos[0], 500));
	assert_int_equal(ERR_CORRUPT, check_text(&rig, mnos[2], 500));
	/* The body and all four, at once. */
	assert_int_equal(5, stats_of(&rig).quarantined);
	for (unsigned i = 1; i < 5; i++)
		assert_int_equal(ERR_CORRUPT, check_text(&rig, mnos[i], 500));
	assert_int_equal(5, stats_of(&rig).quarantined);
	/* What comes now has nothing to do with it. */
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(
		    0, check_text(&rig, send_text(&rig, 1, 500), 500));
	fixture_close(&rig.f);
	assert_int_equal(0, verify_with(&rig.f.options, &v));
	assert_int_equal(5, v.result.problems);
	assert_int_equal(4, v.result.live_messages);
	/* All are told of after a start: their senders must hear. */
	fixture_open(&rig.f);
	fixture_recover(rig.f.spool, &told);
	assert_int_equal(8, told.count);
	assert_int_equal(5, stats_of(&rig).quarantined);
	destroy(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stored_once),
		cmocka_unit_test(test_failed_while_loading),
		cmocka_unit_test(test_tenants_never_share),
		cmocka_unit_test(test_written_anew),
		cmocka_unit_test(test_memory_is_bounded),
		cmocka_unit_test(test_moved),
		cmocka_unit_test(test_damage_is_everybodys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
