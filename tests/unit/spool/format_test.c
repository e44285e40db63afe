/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"
#include "base/mem.h"
#include "spool/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void
test_header(void **state)
{
	const struct record_header h = {
		.lsn = UINT64_C(0x123456789abcdef0),
		.len = 1234,
		.payload_crc = 0xdeadbeef,
		.type = RECORD_EVENT,
		.flags = RECORD_MORE,
		.epoch = 77,
		.aux = 5,
	};
	struct record_header got;
	uint8_t bytes[FORMAT_HEADER];

	(void)state;
	record_encode(&h, 99, bytes);
	assert_true(record_decode(bytes, 99, &got));
	assert_memory_equal(&h, &got, sizeof h);
	assert_false(record_decode(bytes, 98, &got));
	for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_false(record_decode(bytes, 99, &got));
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	record_stamp(bytes, 17, 3, 99);
	assert_true(record_decode(bytes, 99, &got));
	assert_int_equal(17, got.lsn);
	assert_int_equal(3, got.epoch);
	assert_int_equal(1234, got.len);
}

static void
test_superblock(void **state)
{
	const struct superblock sb = {
		.kind = SUPERBLOCK_MANIFEST,
		.serial = 5,
		.epoch = 70000,
		.is_clean = true,
		.is_end = true,
		.seal = 0x80000001,
		.id_key = UINT64_MAX - 1,
		.durable_lsn = 1u << 20,
		.next_mno = 9,
		.wall_us = -1,
	};
	struct superblock got = { 0 };
	uint8_t page[FORMAT_PAGE];

	(void)state;
	superblock_encode(&sb, page);
	assert_int_equal(0, superblock_decode(page, &got));
	assert_int_equal(sb.kind, got.kind);
	assert_int_equal(sb.serial, got.serial);
	assert_int_equal(sb.epoch, got.epoch);
	assert_true(got.is_clean);
	assert_true(got.is_end);
	assert_int_equal(sb.seal, got.seal);
	assert_true(sb.id_key == got.id_key);
	assert_int_equal(sb.durable_lsn, got.durable_lsn);
	assert_int_equal(sb.next_mno, got.next_mno);
	assert_true(got.wall_us == -1);
	page[FORMAT_PAGE - 1] ^= 1;
	assert_int_equal(ERR_CORRUPT, superblock_decode(page, &got));
	page[FORMAT_PAGE - 1] ^= 1;
	/* A newer version is refused, not repaired. */
	page[12] = FORMAT_VERSION + 1;
	uint32_t crc = hash_crc32c(0, page + 12, FORMAT_PAGE - 12);
	for (int i = 0; i < 4; i++)
		page[8 + i] = (uint8_t)(crc >> 8 * i);
	assert_int_equal(ERR_VERSION, superblock_decode(page, &got));
}

static struct spool_envelope
some_envelope(const struct spool_rcpt *rcpts, uint32_t count)
{
	return (struct spool_envelope){
		.mno = 42,
		.id = { .bytes = { 1, 2, 3, [15] = 16 } },
		.tenant = 1,
		.stream = 2,
		.class = SPOOL_BULK,
		.flags = SPOOL_UTF8 | SPOOL_BINARY,
		.accepted_us = 3,
		.expire_us = INT64_MAX,
		.not_before_us = -4,
		.sender = SPAN("a@b"),
		.envid = SPAN("id+2B"),
		.ret = 2,
		.user = SPAN("user"),
		.client = SPAN("192.0.2.1"),
		.header_from = SPAN("from@b"),
		.subject = SPAN("subject"),
		.rcpts = rcpts,
		.rcpt_count = count,
		.prefix = SPAN("Received: x\r\n"),
		.body_size = 4,
	};
}

static void
assert_same(const struct spool_envelope *a, const struct spool_envelope *b)
{
	assert_int_equal(a->mno, b->mno);
	assert_memory_equal(&a->id, &b->id, sizeof a->id);
	assert_int_equal(a->tenant, b->tenant);
	assert_int_equal(a->stream, b->stream);
	assert_int_equal(a->class, b->class);
	assert_int_equal(a->flags, b->flags);
	assert_true(a->accepted_us == b->accepted_us);
	assert_true(a->expire_us == b->expire_us);
	assert_true(a->not_before_us == b->not_before_us);
	assert_true(span_eq(a->sender, b->sender));
	assert_true(span_eq(a->envid, b->envid));
	assert_int_equal(a->ret, b->ret);
	assert_true(span_eq(a->user, b->user));
	assert_true(span_eq(a->client, b->client));
	assert_true(span_eq(a->header_from, b->header_from));
	assert_true(span_eq(a->subject, b->subject));
	assert_true(span_eq(a->prefix, b->prefix));
	assert_int_equal(a->rcpt_count, b->rcpt_count);
	assert_int_equal(a->body_size, b->body_size);
}

static void
test_message(void **state)
{
	const struct spool_rcpt rcpts[] = {
		{ SPAN("one@x"), SPAN("rfc822;one"), 3 },
		{ SPAN("two@x"), SPAN_EMPTY, 0 },
	};
	struct spool_envelope e = some_envelope(rcpts, 2), got = { 0 };
	struct message_body body = { 0 };
	struct spool_rcpt back[2];
	struct buf b = BUF_EMPTY;

	(void)state;
	assert_int_equal(0, message_encode(&e, &body, &b));
	size_t head = buf_size(&b);
	buf_append_str(&b, "body");
	assert_int_equal(0, message_decode(buf_span(&b), &got, &body));
	assert_same(&e, &got);
	assert_false(body.is_file);
	assert_true(span_eq(SPAN("body"), body.inline_octets));
	assert_int_equal(head, message_decode_head_len(buf_span(&b)));
	assert_int_equal(0, message_decode_rcpts(body.rcpts, 2, back));
	for (int i = 0; i < 2; i++) {
		assert_true(span_eq(rcpts[i].address, back[i].address));
		assert_true(span_eq(rcpts[i].orcpt, back[i].orcpt));
		assert_int_equal(rcpts[i].notify, back[i].notify);
	}
	assert_int_equal(
	    ERR_CORRUPT, message_decode_rcpts(body.rcpts, 1, back));
	/* The head alone, or all: nothing between. */
	for (size_t len = 0; len < buf_size(&b); len++) {
		struct span cut = span_slice(buf_span(&b), 0, len);

		assert_int_equal(len == head ? 0 : ERR_CORRUPT,
		    message_decode(cut, &got, &body));
	}
	buf_done(&b);
}

static void
test_message_with_file(void **state)
{
	const struct spool_rcpt rcpt = { .address = SPAN("one@x") };
	struct spool_envelope e = some_envelope(&rcpt, 1), got = { 0 };
	struct buf crcs = BUF_EMPTY, b = BUF_EMPTY;

	(void)state;
	message_add_piece_crc(SPAN("first"), &crcs);
	message_add_piece_crc(SPAN("second"), &crcs);
	struct message_body body = { .is_file = true,
		.piece_crcs = buf_span(&crcs) };
	e.body_size = FORMAT_PIECE + 1;
	assert_int_equal(2, message_pieces(e.body_size));
	assert_int_equal(0, message_encode(&e, &body, &b));
	assert_int_equal(0, message_decode(buf_span(&b), &got, &body));
	assert_true(body.is_file);
	assert_int_equal(
	    hash_crc32c(0, "second", 6), message_piece_crc(body.piece_crcs, 1));
	/* One checksum for each piece, no less. */
	buf_clear(&b);
	e.body_size = 2 * FORMAT_PIECE + 1;
	body.piece_crcs = buf_span(&crcs);
	assert_int_equal(0, message_encode(&e, &body, &b));
	assert_int_equal(
	    ERR_CORRUPT, message_decode(buf_span(&b), &got, &body));
	buf_done(&b);
	buf_done(&crcs);
}

static void
test_message_limits(void **state)
{
	char *AUTO_FREE big = mem_zalloc(70000);
	struct spool_rcpt rcpt = { .address = span_from(big, 65536) };
	struct spool_envelope e = some_envelope(&rcpt, 1);
	struct message_body body = { 0 };
	struct buf b = BUF_EMPTY;

	(void)state;
	assert_int_equal(ERR_LIMIT, message_encode(&e, &body, &b));
	rcpt.address = span_from(big, 65535);
	assert_int_equal(0, message_encode(&e, &body, &b));
	buf_clear(&b);
	e.subject = span_from(big, 65536);
	assert_int_equal(ERR_LIMIT, message_encode(&e, &body, &b));
	e.subject = SPAN_EMPTY;
	e.rcpt_count = 0;
	assert_int_equal(ERR_LIMIT, message_encode(&e, &body, &b));
	e.rcpt_count = FORMAT_RCPT_MAX + 1;
	assert_int_equal(ERR_LIMIT, message_encode(&e, &body, &b));
	assert_int_equal(0, buf_size(&b));
	buf_done(&b);
}

static void
test_outcomes(void **state)
{
	static const struct spool_outcome outcomes[] = {
		{ 1, 0, 1, SPOOL_DELIVERED, 250, 0, false, 0 },
		{ UINT64_MAX, 65534, 1, SPOOL_BOUNCED, 550, 0, false, 0 },
		{ 7, 3, 65535, SPOOL_CANCELLED, 0, 0, false, 0 },
		{ 7, 3, 9, SPOOL_DEFERRED, 451, 255, true, INT64_MAX },
		{ 7, 0, 1, SPOOL_DEFERRED, 0, 0, false, -1 },
	};

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		const struct spool_outcome *o = &outcomes[i];
		enum record_type type =
		    o->kind == SPOOL_DEFERRED ? RECORD_DEFER : RECORD_DONE;
		struct spool_outcome got = { 0 };
		struct buf b = BUF_EMPTY;

		outcome_encode(o, &b);
		assert_true(outcome_decode(type, buf_span(&b), &got));
		assert_true(o->mno == got.mno && o->code == got.code);
		assert_int_equal(o->rcpt_first, got.rcpt_first);
		assert_int_equal(o->rcpt_count, got.rcpt_count);
		assert_int_equal(o->kind, got.kind);
		assert_int_equal(o->attempts, got.attempts);
		assert_int_equal(o->warned, got.warned);
		assert_true(o->due_us == got.due_us);
		assert_false(
		    outcome_decode(type, span_skip(buf_span(&b), 1), &got));
		b.ptr[10] = b.ptr[11] = 0; /* for nobody */
		assert_false(outcome_decode(type, buf_span(&b), &got));
		buf_done(&b);
	}
}

static void
test_order(void **state)
{
	const struct spool_order o = {
		.kind = SPOOL_ORDER_MOVE,
		.tenant = 1,
		.stream = 2,
		.classes = 5,
		.domain = SPAN("example.org"),
		.site = SPAN("mx example.org"),
		.reason = SPAN("because"),
		.since_us = 3,
		.cut_mno = UINT64_C(1) << 40,
		.to_stream = 9,
		.to_class = SPOOL_BULK,
	};
	struct spool_order got = { 0 };
	struct buf b = BUF_EMPTY;

	(void)state;
	assert_int_equal(0, order_encode(&o, &b));
	assert_true(order_decode(buf_span(&b), &got));
	assert_int_equal(SPOOL_ORDER_MOVE, got.kind);
	assert_int_equal(1, got.tenant);
	assert_int_equal(2, got.stream);
	assert_int_equal(5, got.classes);
	assert_int_equal(3, got.since_us);
	assert_true(o.cut_mno == got.cut_mno);
	assert_int_equal(9, got.to_stream);
	assert_int_equal(SPOOL_BULK, got.to_class);
	assert_true(span_eq(o.domain, got.domain));
	assert_true(span_eq(o.site, got.site));
	assert_true(span_eq(o.reason, got.reason));
	for (size_t len = 0; len < buf_size(&b); len++)
		assert_false(
		    order_decode(span_slice(buf_span(&b), 0, len), &got));
	buf_done(&b);
}

/* A hold as earlier versions wrote it. */
static void
test_old_order(void **state)
{
	static const char record[] = "\1\0\0\0\2\0\0\0\3\0\0\0"
				     "\4\0\0\0\0\0\0\0\1\0a\2\0bc";
	struct span all = span_from(record, sizeof record - 1);
	struct spool_order got = { .cut_mno = 7 };

	(void)state;
	assert_true(order_decode(all, &got));
	assert_int_equal(SPOOL_ORDER_RELEASE, got.kind);
	assert_int_equal(2, got.tenant);
	assert_int_equal(3, got.stream);
	assert_int_equal(4, got.since_us);
	assert_true(span_eq(got.domain, SPAN("a")));
	assert_true(span_eq(got.reason, SPAN("bc")));
	assert_int_equal(0, got.site.len);
	assert_true(got.cut_mno == 0);
	assert_false(order_decode(span_slice(all, 0, all.len - 1), &got));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_superblock),
		cmocka_unit_test(test_message),
		cmocka_unit_test(test_message_with_file),
		cmocka_unit_test(test_message_limits),
		cmocka_unit_test(test_outcomes),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_old_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
