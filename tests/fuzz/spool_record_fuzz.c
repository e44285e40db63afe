/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is on the disk is read by these parsers. The first byte says how:
 *   0..6  the rest is one payload or page, given to its reader;
 *   7     the rest is a segment: headers that look like headers are given
 *         right checksums and positions, then the whole spool is recovered
 *         from it, and read as delivery and event readers would.
 */

#include "base/bug.h"
#include "base/hash.h"
#include "base/mem.h"
#include "spool/internal.h"

#include <errno.h>
#include <string.h>

#define SEGMENT_MAX (256u << 10)
#define MAGIC 0x31524850u

static uint8_t segment[SEGMENT_MAX];
static size_t segment_size;
static uint8_t manifest[FORMAT_PAGE];

/* ---- a disk with one segment and one manifest -------------------------- */

enum { FILE_LOCK, FILE_SEGMENT, FILE_MANIFEST };

static int
fuzz_open(void *owner, const char *path, int flags)
{
	(void)owner, (void)flags;
	if (strstr(path, ".seg"))
		return FILE_SEGMENT;
	if (strstr(path, "MANIFEST.a"))
		return FILE_MANIFEST;
	return strstr(path, "LOCK") ? FILE_LOCK : -ENOENT;
}

static int
fuzz_close(void *owner, int file)
{
	(void)owner, (void)file;
	return 0;
}

static int64_t
fuzz_pread(void *owner, int file, void *p, size_t len, uint64_t offset)
{
	const uint8_t *from = file == FILE_SEGMENT ? segment : manifest;
	size_t size = file == FILE_SEGMENT ? segment_size : sizeof manifest;

	(void)owner;
	if (offset >= size)
		return 0;
	if (len > size - offset)
		len = size - offset;
	memcpy(p, from + offset, len);
	return (int64_t)len;
}

static int64_t
fuzz_size(void *owner, int file)
{
	(void)owner, (void)file;
	return (int64_t)segment_size;
}

static int
fuzz_list(void *owner, const char *path,
    void (*fn)(void *arg, const char *name), void *arg)
{
	(void)owner;
	if (!strstr(path, "/big"))
		fn(arg, "0000000000000001.seg");
	return 0;
}

static int
fuzz_lock(void *owner, const char *path)
{
	(void)owner, (void)path;
	return FILE_LOCK;
}

/* Verification changes nothing: the other calls are never made. */
static const struct spool_io fuzz_io = {
	.open = fuzz_open,
	.close = fuzz_close,
	.pread = fuzz_pread,
	.size = fuzz_size,
	.list = fuzz_list,
	.lock = fuzz_lock,
};

/* ---- a whole segment --------------------------------------------------- */

static uint32_t
get_u32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

/* Wherever there is a magic, makes a header that passes. */
static void
mend_headers(void)
{
	for (size_t at = FORMAT_PAGE; at + FORMAT_HEADER <= segment_size;
	     at += FORMAT_ALIGN) {
		uint8_t *p = segment + at;

		if (get_u32(p) != MAGIC)
			continue;
		uint32_t len = get_u32(p + 16);
		if (len <= segment_size - at - FORMAT_HEADER) {
			uint32_t crc = hash_crc32c(0, p + FORMAT_HEADER, len);
			memcpy(p + 20, &crc, sizeof crc);
		}
		record_stamp(p, LSN(1, at), 1, 0);
	}
}

static void
recover_segment(const uint8_t *bytes, size_t size)
{
	const struct spool_options options = {
		.directory = "/s", .segment_size = SEGMENT_MAX, .io = &fuzz_io
	};
	struct superblock sb = {
		.kind = SUPERBLOCK_SEGMENT, .serial = 1, .epoch = 1
	};
	struct verification v = { 0 };

	segment_size = FORMAT_PAGE + size;
	if (segment_size > SEGMENT_MAX)
		segment_size = SEGMENT_MAX;
	superblock_encode(&sb, segment);
	if (segment_size > FORMAT_PAGE)
		memcpy(
		    segment + FORMAT_PAGE, bytes, segment_size - FORMAT_PAGE);
	mend_headers();
	/* Also as one that was closed in order. */
	sb.kind = SUPERBLOCK_MANIFEST;
	sb.is_clean = sb.is_end = size % 2;
	sb.durable_lsn = LSN(1, segment_size & ~(size_t)15);
	superblock_encode(&sb, manifest);
	BUG_UNLESS(verify_with(&options, &v) == 0);
}

/* ---- single payloads --------------------------------------------------- */

static void
read_message(struct span payload)
{
	struct spool_envelope e;
	struct message_body body;

	(void)message_decode_head_len(payload);
	if (message_decode(payload, &e, &body) < 0)
		return;
	struct spool_rcpt *AUTO_FREE rcpts =
	    mem_resize(NULL, e.rcpt_count, sizeof *rcpts);
	if (message_decode_rcpts(body.rcpts, e.rcpt_count, rcpts) < 0)
		return;
	e.rcpts = rcpts;
	if (body.is_file && payload.len == message_decode_head_len(payload))
		return; /* a head alone */
	/* What was read can be written, and is then the same. */
	struct buf b = BUF_EMPTY;
	BUG_UNLESS(message_encode(&e, &body, &b) == 0);
	BUG_UNLESS(buf_size(&b) <= payload.len);
	if (body.is_shared && payload.len > message_decode_head_len(payload)) {
		uint8_t reference[FORMAT_REFERENCE];

		/* Its last four octets are not looked at. */
		reference_encode(&body.shared, reference);
		BUG_UNLESS(memcmp(reference,
			       payload.ptr + payload.len - sizeof reference,
			       sizeof reference - 4) == 0);
	}
	buf_done(&b);
}

static void
read_body(struct span payload)
{
	uint8_t head[FORMAT_BODY];
	struct span octets;
	uint32_t tenant;
	uint64_t number;

	if (!body_decode(payload, &number, &tenant, &octets))
		return;
	BUG_UNLESS(octets.len + FORMAT_BODY == payload.len);
	body_encode(number, tenant, head);
	BUG_UNLESS(memcmp(head, payload.ptr, sizeof head - 4) == 0);
}

static void
read_superblock(struct span payload)
{
	uint8_t page[FORMAT_PAGE] = { 0 };
	struct superblock sb;

	if (payload.len > sizeof page)
		payload.len = sizeof page;
	if (payload.len > 0)
		memcpy(page, payload.ptr, payload.len);
	uint32_t crc = hash_crc32c(0, page + 12, sizeof page - 12);
	memcpy(page + 8, &crc, sizeof crc);
	if (superblock_decode(page, &sb) == 0)
		BUG_UNLESS(sb.kind == SUPERBLOCK_SEGMENT ||
			   sb.kind == SUPERBLOCK_MANIFEST ||
			   sb.kind == SUPERBLOCK_COPIES);
}

static void
read_outcome(enum record_type type, struct span payload)
{
	struct spool_outcome o;
	struct buf b = BUF_EMPTY;

	if (!outcome_decode(type, payload, &o))
		return;
	if (o.rcpt_first < FORMAT_RCPT_MAX)
		outcome_encode(&o, &b);
	buf_done(&b);
}

static void
read_order(struct span payload)
{
	struct spool_order o;
	struct standing *list = NULL;
	struct buf b = BUF_EMPTY;

	if (!order_decode(payload, &o))
		return;
	standing_apply(&list, &o);
	standing_free(&list);
	BUG_UNLESS(order_encode(&o, &b) == 0);
	BUG_UNLESS(payload.ptr[1] == 0 || buf_size(&b) == payload.len);
	buf_done(&b);
}

static void
read_header(struct span payload)
{
	uint8_t bytes[FORMAT_HEADER] = { 0 };
	struct record_header h;

	if (payload.len >= sizeof bytes)
		memcpy(bytes, payload.ptr, sizeof bytes);
	(void)record_decode(bytes, 0, &h);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct batch b;

	if (size == 0)
		return 0;
	struct span payload = span_from(data + 1, size - 1);
	switch (data[0] % 8) {
	case 0:
		read_message(payload);
		break;
	case 1:
		read_outcome(RECORD_DONE, payload);
		break;
	case 2:
		read_outcome(RECORD_DEFER, payload);
		break;
	case 3:
		read_order(payload);
		break;
	case 4:
		(void)batch_decode(payload, &b);
		break;
	case 5:
		read_superblock(payload);
		break;
	case 6:
		read_header(payload);
		read_body(payload);
		break;
	default:
		recover_segment(data + 1, size - 1);
		break;
	}
	return 0;
}
