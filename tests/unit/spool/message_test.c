/* SPDX-License-Identifier: Apache-2.0 */

/* Reading stored mail while the disk lies, and while the mail dies. */

#include "fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static void
test_damaged_record(void **state)
{
	struct fixture *f = *state;
	struct spool_stats stats;
	char path[128];
	uint64_t bad = fixture_send(f->spool, 2000, 1);
	uint64_t good = fixture_send(f->spool, 2000, 1);

	(void)snprintf(
	    path, sizeof path, "%s/0000000000000001.seg", f->directory);
	fixture_flip_byte(path, 4096 + 1500);
	for (int i = 0; i < 3; i++)
		assert_int_equal(
		    ERR_CORRUPT, fixture_check(f->spool, bad, 2000, 1));
	assert_int_equal(0, fixture_check(f->spool, good, 2000, 1));
	spool_stats(f->spool, &stats);
	assert_int_equal(1, stats.quarantined);
	/* It still counts until somebody ends it. */
	assert_int_equal(2, stats.messages);
	fixture_done(f->spool, bad, 0, 1);
	assert_int_equal(ERR_NOT_FOUND, fixture_check(f->spool, bad, 2000, 1));
}

static void
test_damaged_body_file(void **state)
{
	struct fixture *f = *state;
	struct spool_message *message;
	struct span piece;
	char path[128];
	uint64_t mno = fixture_send(f->spool, 600000, 1);

	(void)snprintf(path, sizeof path, "%s/big/%016llx", f->directory,
	    (unsigned long long)mno);
	fixture_flip_byte(path, 300000);
	assert_int_equal(0, spool_message_open(f->spool, mno, &message));
	/* The piece that is right is given out, the wrong one never. */
	uint64_t prefix = spool_message_envelope(message)->prefix.len;
	assert_int_equal(0, spool_message_read(message, prefix, &piece));
	assert_int_equal(256 << 10, piece.len);
	assert_int_equal(ERR_CORRUPT,
	    spool_message_read(message, prefix + (256 << 10), &piece));
	assert_int_equal(
	    0, spool_message_read(message, prefix + 599999, &piece));
	assert_int_equal(1, piece.len);
	spool_message_unref(&message);
	assert_int_equal(
	    ERR_CORRUPT, spool_message_open(f->spool, mno, &message));
}

static void
test_any_offset(void **state)
{
	struct fixture *f = *state;
	static const size_t sizes[] = { 3000, 600000 };

	for (size_t i = 0; i < 2; i++) {
		struct spool_message *message;
		struct buf want = BUF_EMPTY;
		struct span piece;
		uint64_t mno = fixture_send(f->spool, sizes[i], 1);

		buf_append_str(&want, "Received: from nowhere\r\n");
		fixture_body(mno, sizes[i], &want);
		assert_int_equal(
		    0, spool_message_open(f->spool, mno, &message));
		for (size_t k = 0; k < buf_size(&want); k += 1 + k / 3) {
			size_t at = buf_size(&want) - 1 - k;

			assert_int_equal(
			    0, spool_message_read(message, at, &piece));
			assert_in_range(piece.len, 1, buf_size(&want) - at);
			assert_memory_equal(
			    want.ptr + at, piece.ptr, piece.len);
		}
		spool_message_unref(&message);
		buf_done(&want);
	}
}

/* A handle keeps the bytes, whatever becomes of the message. */
static void
test_handle_outlives_message(void **state)
{
	struct fixture *f = *state;
	static const size_t sizes[] = { 3000, 600000 };
	struct spool_message *messages[2];
	struct spool_stats stats;
	struct span piece;
	uint64_t mnos[2];

	for (int i = 0; i < 2; i++) {
		mnos[i] = fixture_send(f->spool, sizes[i], 1);
		assert_int_equal(
		    0, spool_message_open(f->spool, mnos[i], &messages[i]));
		fixture_done(f->spool, mnos[i], 0, 1);
	}
	for (int i = 0; i < 50; i++)
		fixture_done(f->spool, fixture_send(f->spool, 30000, 1), 0, 1);
	spool_stats(f->spool, &stats);
	spool_events_exported(f->spool, stats.durable_lsn);
	usleep(20000);
	for (int i = 0; i < 2; i++) {
		struct buf want = BUF_EMPTY;

		buf_append_str(&want, "Received: from nowhere\r\n");
		fixture_body(mnos[i], sizes[i], &want);
		for (size_t at = 0; at < buf_size(&want); at += piece.len) {
			assert_int_equal(
			    0, spool_message_read(messages[i], at, &piece));
			assert_memory_equal(
			    want.ptr + at, piece.ptr, piece.len);
		}
		spool_message_unref(&messages[i]);
		buf_done(&want);
	}
	for (int i = 0; i < 1000 && stats.segments > 2; i++) {
		usleep(1000);
		spool_stats(f->spool, &stats);
	}
	assert_in_range(stats.segments, 1, 2);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_begin, fixture_end)
	const struct CMUnitTest tests[] = {
		TEST(test_damaged_record),
		TEST(test_damaged_body_file),
		TEST(test_any_offset),
		TEST(test_handle_outlives_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
