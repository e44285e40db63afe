/* SPDX-License-Identifier: Apache-2.0 */

/* The files of a checkpoint. The first byte says which; the header's checksums
 * are made right, so that what is behind them is reached. What can be read is
 * written and read again. */

#include "base/bug.h"
#include "base/hash.h"
#include "base/mem.h"
#include "spool/bytes.h"
#include "spool/live.h"

#define SEAL 7u

/* Both headers have 48 octets, and their checksum at the same place. */
static void
make_right(uint8_t *bytes, size_t size, size_t crc_at, size_t len_at)
{
	if (size < LIVE_HEADER)
		return;
	put_u32(bytes + crc_at,
	    hash_crc32c(SEAL, bytes + LIVE_HEADER, size - LIVE_HEADER));
	if (len_at != 0)
		put_u64(bytes + len_at, size - LIVE_HEADER);
	put_u32(bytes + 4, hash_crc32c(SEAL, bytes + 8, LIVE_HEADER - 8));
}

static void
read_entries(struct span rest)
{
	const struct spool_outcome outcome = { .rcpt_first = 1,
		.rcpt_count = 3,
		.kind = SPOOL_DEFERRED,
		.attempts = 9 };
	struct live_entry entry = { 0 }, again = { 0 };
	struct buf bytes = BUF_EMPTY;

	while (live_decode(&rest, &entry)) {
		uint32_t count = live_count(&entry);

		buf_clear(&bytes);
		live_encode(&entry, &bytes);
		struct span copy = buf_span(&bytes);
		BUG_UNLESS(live_decode(&copy, &again) && copy.len == 0);
		BUG_UNLESS(live_count(&again) == count);
		BUG_UNLESS(again.body == entry.body);
		live_apply(&again, &outcome);
		BUG_UNLESS(live_count(&again) == count);
	}
	live_entry_done(&entry);
	live_entry_done(&again);
	buf_done(&bytes);
}

static void
read_bodies(struct span rest)
{
	struct live_body body;

	while (live_body_decode(&rest, &body)) {
		struct buf bytes = BUF_EMPTY;

		live_body_encode(&body, &bytes);
		buf_done(&bytes);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct catalogue catalogue;
	struct live_file file;
	struct span bodies, entries;

	if (size < 1)
		return 0;
	uint8_t *AUTO_FREE bytes = mem_alloc(size);
	memcpy(bytes, data + 1, size - 1);
	struct span all = span_from((char *)bytes, size - 1);
	if (data[0] % 2 == 0) {
		make_right(bytes, size - 1, 12, 32);
		if (live_file_decode(all, SEAL, &file, &bodies, &entries)) {
			read_bodies(bodies);
			read_entries(entries);
		}
		return 0;
	}
	make_right(bytes, size - 1, 32, 0);
	if (catalogue_decode(all, SEAL, &catalogue)) {
		struct buf copy = BUF_EMPTY;

		catalogue_encode(&catalogue, SEAL, &copy);
		BUG_UNLESS(buf_size(&copy) == size - 1);
		buf_done(&copy);
		mem_free(catalogue.items);
	}
	return 0;
}
