/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "spool/live.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void
make(struct live_entry *entry)
{
	const struct spool_rcpt rcpts[] = {
		{ .address = SPAN("a@one.example") },
		{ .address = SPAN("b@one.example") },
		{ .address = SPAN("c@one.example"), .notify = 4 },
		{ .address = SPAN("d@two.example") },
		{ .address = SPAN("e@two.example") },
		{ .address = SPAN("f@two.example") },
	};
	const struct spool_envelope e = {
		.mno = 17,
		.tenant = 2,
		.stream = 3,
		.class = SPOOL_BULK,
		.flags = SPOOL_UTF8,
		.accepted_us = 100,
		.expire_us = INT64_C(1) << 50,
		.not_before_us = 5,
		.sender = SPAN("x@y"),
		.rcpts = rcpts,
		.rcpt_count = 6,
	};

	live_from_envelope(&e, entry);
	entry->at = 99;
	entry->len = 1234;
	entry->is_file = true;
}

static void
check_run(
    const struct live_entry *entry, uint32_t i, uint32_t first, uint32_t count)
{
	assert_int_equal(first, entry->runs[i].rcpt_first);
	assert_int_equal(count, entry->runs[i].rcpt_count);
	assert_ptr_equal(entry->runs, entry->message.runs);
}

static void
test_runs(void **state)
{
	struct live_entry entry = { 0 };
	struct spool_outcome o = { .kind = SPOOL_DEFERRED, .attempts = 1 };

	(void)state;
	make(&entry);
	assert_int_equal(3, entry.message.run_count);
	check_run(&entry, 0, 0, 2);
	check_run(&entry, 1, 2, 1);
	check_run(&entry, 2, 3, 3);
	assert_true(span_eq(SPAN("two.example"), entry.runs[2].domain));

	o.rcpt_first = 1;
	o.rcpt_count = 4; /* from inside one to inside another */
	live_apply(&entry, &o);
	assert_int_equal(5, entry.message.run_count);
	check_run(&entry, 1, 1, 1);
	check_run(&entry, 3, 3, 2);
	assert_int_equal(1, entry.runs[3].attempts);
	assert_int_equal(0, entry.runs[4].attempts);
	o.rcpt_first = 0;
	o.rcpt_count = 65535; /* all alike again */
	live_apply(&entry, &o);
	assert_int_equal(3, entry.message.run_count);

	o.kind = SPOOL_DELIVERED;
	o.rcpt_first = 4;
	o.rcpt_count = 1;
	live_apply(&entry, &o);
	assert_int_equal(5, live_count(&entry));
	check_run(&entry, 2, 3, 1);
	check_run(&entry, 3, 5, 1);
	o.rcpt_first = 0;
	o.rcpt_count = 6;
	live_apply(&entry, &o);
	assert_int_equal(0, live_count(&entry));
	live_entry_done(&entry);
}

static void
test_entry_to_bytes_and_back(void **state)
{
	struct live_entry entry = { 0 }, got = { 0 };
	struct spool_outcome o = { .kind = SPOOL_DEFERRED,
		.rcpt_first = 4,
		.rcpt_count = 2,
		.attempts = 7,
		.warned = true,
		.due_us = 12345 };
	struct buf b = BUF_EMPTY;

	(void)state;
	make(&entry);
	live_apply(&entry, &o);
	live_encode(&entry, &b);
	struct span rest = buf_span(&b);
	assert_true(live_decode(&rest, &got));
	assert_int_equal(0, rest.len);
	assert_int_equal(99, got.at);
	assert_int_equal(1234, got.len);
	assert_true(got.is_file && got.message.has_sender);
	assert_int_equal(17, got.message.mno);
	assert_int_equal(SPOOL_BULK, got.message.class);
	assert_int_equal(5, got.message.not_before_us);
	assert_int_equal(entry.message.run_count, got.message.run_count);
	for (uint32_t i = 0; i < got.message.run_count; i++) {
		check_run(&got, i, entry.runs[i].rcpt_first,
		    entry.runs[i].rcpt_count);
		assert_true(span_eq(entry.runs[i].domain, got.runs[i].domain));
		assert_int_equal(entry.runs[i].due_us, got.runs[i].due_us);
		assert_int_equal(entry.runs[i].warned, got.runs[i].warned);
		assert_int_equal(entry.runs[i].notify, got.runs[i].notify);
	}
	for (size_t len = 0; len < buf_size(&b); len++) {
		rest = span_slice(buf_span(&b), 0, len);
		assert_false(live_decode(&rest, &got));
	}
	live_entry_done(&entry);
	live_entry_done(&got);
	buf_done(&b);
}

static void
test_files(void **state)
{
	const struct live_body body = { .number = 77, .at = 5, .len = 9 };
	struct live_file file = { .segment = 5,
		.serial = 6,
		.count = 2,
		.bodies = 1 },
			 got;
	struct live_body got_body;
	struct catalogue_item item = { 5, 6, 7, 8, 9, 10 };
	struct catalogue catalogue = { .serial = 3,
		.next_mno = 4,
		.folded = 5,
		.count = 1,
		.items = &item },
			 read;
	uint8_t header[LIVE_HEADER];
	struct buf b = BUF_EMPTY, content = BUF_EMPTY;
	struct span bodies, entries;

	(void)state;
	live_body_encode(&body, &content);
	buf_append_str(&content, "some octets");
	live_file_encode(&file, 9, buf_span(&content), header);
	buf_append(&b, span_from((char *)header, sizeof header));
	buf_append(&b, buf_span(&content));
	buf_done(&content);
	assert_true(live_file_decode(buf_span(&b), 9, &got, &bodies, &entries));
	assert_true(live_body_decode(&bodies, &got_body));
	assert_memory_equal(&body, &got_body, sizeof body);
	assert_false(live_body_decode(&bodies, &got_body));
	assert_int_equal(5, got.segment);
	assert_int_equal(6, got.serial);
	assert_int_equal(2, got.count);
	assert_int_equal(1, got.bodies);
	assert_int_equal(file.crc, got.crc);
	assert_int_equal(file.len, got.len);
	assert_true(span_eq(SPAN("some octets"), entries));
	assert_false(
	    live_file_decode(buf_span(&b), 8, &got, &bodies, &entries));
	for (size_t bit = 0; bit < 8 * buf_size(&b); bit++) {
		b.ptr[bit / 8] ^= (char)(1u << bit % 8);
		assert_false(
		    live_file_decode(buf_span(&b), 9, &got, &bodies, &entries));
		b.ptr[bit / 8] ^= (char)(1u << bit % 8);
	}
	buf_clear(&b);
	catalogue_encode(&catalogue, 9, &b);
	assert_true(catalogue_decode(buf_span(&b), 9, &read));
	assert_int_equal(3, read.serial);
	assert_int_equal(4, read.next_mno);
	assert_int_equal(5, read.folded);
	assert_memory_equal(&item, read.items, sizeof item);
	mem_free(read.items);
	for (size_t bit = 0; bit < 8 * buf_size(&b); bit++) {
		b.ptr[bit / 8] ^= (char)(1u << bit % 8);
		assert_false(catalogue_decode(buf_span(&b), 9, &read));
		b.ptr[bit / 8] ^= (char)(1u << bit % 8);
	}
	buf_done(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_entry_to_bytes_and_back),
		cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
