/* SPDX-License-Identifier: Apache-2.0 */

#include "base/bug.h"
#include "base/hash.h"
#include "base/mem.h"
#include "spool/internal.h"

#include <string.h>

#define WINDOW_SIZE (256u << 10)

void
scan_init(struct scan *scan, const struct spool_io *io, int file, uint32_t seal)
{
	*scan = (struct scan){
		.io = io,
		.file = file,
		.seal = seal,
		.epoch = -1,
		.at = FORMAT_PAGE,
		.wanted = SCAN_ALL,
	};
}

void
scan_done(struct scan *scan)
{
	mem_free(scan->window);
	scan->window = NULL;
}

/* Pages that cannot be read count as zeros where damage is to be passed over,
 * and are an error where they might be the newest mail. */
static int
load_by_page(struct scan *scan, uint64_t offset, size_t len)
{
	memset(scan->window, 0, len);
	for (size_t i = 0; i < len; i += FORMAT_PAGE) {
		size_t part = len - i < FORMAT_PAGE ? len - i : FORMAT_PAGE;
		int64_t n = io_read(
		    scan->io, scan->file, scan->window + i, part, offset + i);

		if (n < 0 && (scan->is_strict || offset + i >= scan->attested))
			return (int)n;
	}
	return 0;
}

/* A reader that follows the log asks for a little at a time: no more is read
 * than may be wanted. */
static size_t
window_wanted(const struct scan *scan, uint64_t offset, size_t len)
{
	uint64_t rest = scan->end > offset ? scan->end - offset : 0;

	if (rest > WINDOW_SIZE)
		rest = WINDOW_SIZE;
	return len > rest ? len : (size_t)rest;
}

static int
load(struct scan *scan, uint64_t offset, size_t len)
{
	size_t size = window_wanted(scan, offset, len);

	if (scan->window_size < size) {
		mem_free(scan->window);
		scan->window = mem_alloc(size);
		scan->window_size = size;
	}
	scan->window_len = 0;
	int64_t n = io_read(scan->io, scan->file, scan->window, size, offset);
	if (n < 0)
		TRY(load_by_page(scan, offset, size));
	else
		memset(scan->window + n, 0, size - (size_t)n);
	scan->window_at = offset;
	scan->window_len = size;
	return 0;
}

/* Bytes of the segment; zeros behind the end of its file. */
static int
fetch(struct scan *scan, uint64_t offset, size_t len, const uint8_t **ret_p)
{
	if (offset < scan->window_at ||
	    offset + len > scan->window_at + scan->window_len)
		TRY(load(scan, offset, len));
	*ret_p = scan->window + (offset - scan->window_at);
	return 0;
}

static bool
is_header(struct scan *scan, uint64_t offset, const uint8_t *p,
    struct record_header *ret_header)
{
	struct record_header h;

	if (!record_decode(p, scan->seal, &h) ||
	    h.lsn != LSN(scan->segment, offset))
		return false;
	if (scan->epoch >= 0 && h.epoch != scan->epoch)
		return false;
	if (h.len > scan->end - offset - FORMAT_HEADER)
		return false;
	scan->epoch = h.epoch;
	*ret_header = h;
	return true;
}

/* Where the next header is, at most `attested`. */
static int
resync(struct scan *scan, uint64_t *ret_next)
{
	uint64_t limit =
	    scan->attested < scan->end ? scan->attested : scan->end;
	uint64_t at = scan->at + FORMAT_ALIGN;

	for (; at + FORMAT_HEADER <= limit; at += FORMAT_ALIGN) {
		struct record_header h;
		const uint8_t *p;

		TRY(fetch(scan, at, FORMAT_HEADER, &p));
		if (is_header(scan, at, p, &h)) {
			*ret_next = at;
			return 0;
		}
	}
	*ret_next = limit;
	return 0;
}

static int
damage_to(struct scan *scan, uint64_t next, struct record *ret_record)
{
	*ret_record = (struct record){
		.found = FOUND_DAMAGE,
		.offset = scan->at,
		.next = next,
	};
	scan->at = next;
	return 0;
}

static int
end_here(struct scan *scan, struct record *ret_record)
{
	*ret_record = (struct record){
		.found = FOUND_END,
		.offset = scan->at,
		.next = scan->at,
	};
	return 0;
}

static int
fetch_payload(struct scan *scan, const struct record_header *h,
    struct span *ret_payload, bool *ret_is_good)
{
	const uint8_t *p;

	TRY(fetch(scan, scan->at, FORMAT_HEADER + (size_t)h->len, &p));
	*ret_payload = span_from(p + FORMAT_HEADER, h->len);
	*ret_is_good =
	    hash_crc32c(0, p + FORMAT_HEADER, h->len) == h->payload_crc;
	return 0;
}

static bool
is_wanted(const struct scan *scan, uint8_t type)
{
	if (type == RECORD_PAD)
		return false;
	return type == RECORD_BATCH || scan->wanted == SCAN_ALL ||
	       (type < 32 && scan->wanted >> type & 1);
}

int
scan_next(struct scan *scan, struct record *ret_record)
{
	struct record r = { .found = FOUND_RECORD };
	bool is_good = true;
	const uint8_t *p;
	struct batch b;

	if (scan->batch_end > scan->at &&
	    scan->batch_end - scan->at < FORMAT_HEADER)
		scan->at = scan->batch_end;
	if (scan->at + FORMAT_HEADER > scan->end)
		return end_here(scan, ret_record);
	TRY(fetch(scan, scan->at, FORMAT_HEADER, &p));
	if (!is_header(scan, scan->at, p, &r.header)) {
		if (scan->at >= scan->attested)
			return end_here(scan, ret_record);
		TRY(resync(scan, &r.next));
		return damage_to(scan, r.next, ret_record);
	}
	r.offset = scan->at;
	r.next = scan->at + FORMAT_HEADER + format_aligned(r.header.len);
	if (is_wanted(scan, r.header.type))
		TRY(fetch_payload(scan, &r.header, &r.payload, &is_good));
	if (!is_good && scan->at >= scan->attested)
		return end_here(scan, ret_record);
	if (!is_good) {
		TRY(damage_to(scan, r.next, ret_record));
		ret_record->header = r.header;
		return 0;
	}
	if (r.header.type == RECORD_BATCH && batch_decode(r.payload, &b))
		scan->batch_end = r.offset + b.bytes;
	scan->at = r.next;
	*ret_record = r;
	return 0;
}

int
scan_tail(struct scan *scan, uint64_t size, struct scan_tail *ret_tail)
{
	struct scan_tail tail = { 0 };

	/* An unreadable page is not the end of everything here. */
	scan->attested = UINT64_MAX;
	scan->end = size;
	for (uint64_t at = FORMAT_PAGE; at + FORMAT_PAGE <= size;
	     at += FORMAT_PAGE) {
		struct record_header h;
		struct span payload;
		struct batch b;
		const uint8_t *p;

		TRY(fetch(scan, at, FORMAT_PAGE, &p));
		payload = span_from(p + FORMAT_HEADER, FORMAT_BATCH);
		if (!is_header(scan, at, p, &h) || h.type != RECORD_BATCH ||
		    h.len != FORMAT_BATCH ||
		    hash_crc32c(0, payload.ptr, payload.len) != h.payload_crc ||
		    !batch_decode(payload, &b))
			continue;
		if (b.durable_lsn > tail.durable_lsn)
			tail.durable_lsn = b.durable_lsn;
		if (b.next_mno > tail.next_mno)
			tail.next_mno = b.next_mno;
		if (b.number > tail.batch_no)
			tail.batch_no = b.number;
	}
	scan->attested = 0;
	/* What was taken for zeros may not stay in the window. */
	scan->window_len = 0;
	*ret_tail = tail;
	return 0;
}

int
scan_find_end(struct scan *scan, uint64_t *ret_end)
{
	uint64_t end =
	    scan->attested > FORMAT_PAGE ? scan->attested : FORMAT_PAGE;
	bool in_group = false;
	struct record r;

	for (;;) {
		TRY(scan_next(scan, &r));
		if (r.found == FOUND_END)
			break;
		if (r.found == FOUND_DAMAGE) {
			in_group = false;
			continue;
		}
		bool is_frame = r.header.type == RECORD_BATCH ||
				r.header.type == RECORD_PAD;
		if (in_group && is_frame && r.offset >= scan->attested)
			break;
		in_group = (r.header.flags & RECORD_MORE) != 0;
		if (!in_group && r.next > end)
			end = r.next < scan->end ? r.next : scan->end;
	}
	*ret_end = end;
	return 0;
}
