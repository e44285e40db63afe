/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Emptying segments in which little lives: its messages are copied, checked on
 * the way, into a segment that is no part of the log; the checkpoint that names
 * it is the switch. Then the index says the new place, readers that hold the
 * old one keep it until they let go, and the keeper frees what is empty. A
 * message keeps its number; its outcomes name that, wherever it is. Events do
 * not move: a segment whose events are not exported is no victim.
 */

#include "base/bug.h"
#include "base/hash.h"
#include "base/mem.h"
#include "spool/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define LIVE_PERCENT 30 /* of a segment's octets: fewer is little */
#define LIVE_PERCENT_SCARCE 60 /* … when the disk fills */
#define SMALL_PART 8 /* copies below this part of a segment are joined */
#define WRITE_BYTES (1u << 20)
#define SYNC_BYTES (4u << 20) /* small, so that mail's syncs get in between */

/* ---- which ------------------------------------------------------------- */

static bool
is_free_of_events(const struct pass *pass, const struct segment *s)
{
	struct spool *spool = pass->spool;
	struct segments *all = &spool->segments;

	if (s->number & COPIES_BIT)
		return true;
	(void)pthread_mutex_lock(&all->lock);
	bool is_exported = LSN(s->number, s->end) <= all->exported;
	(void)pthread_mutex_unlock(&all->lock);
	return is_exported && atomic_load(&spool->written_segment) > s->number;
}

bool
compact_is_victim(const struct pass *pass, const struct segment *s)
{
	struct spool *spool = pass->spool;
	bool is_scarce = atomic_load(&spool->space) != SPOOL_SPACE_OK;
	uint64_t percent = is_scarce ? LIVE_PERCENT_SCARCE : LIVE_PERCENT;

	/* What was folded in just now may soon die by itself. */
	if (s->live_serial == 0 || s->entries == 0 || s->live == 0 ||
	    s->is_damaged)
		return false;
	if (!is_free_of_events(pass, s))
		return false;
	uint64_t lives = s->live_bytes / s->entries * s->live;
	if (pass->copies.end + lives > spool->options.segment_size)
		return false;
	bool is_small = (s->number & COPIES_BIT) && pass->copies.count > 0 &&
			s->end < spool->options.segment_size / SMALL_PART;
	return is_small || 100 * lives < percent * s->end;
}

/* ---- the file ---------------------------------------------------------- */

static int
begin(struct pass *pass)
{
	struct spool *spool = pass->spool;
	const struct spool_io *io = spool->io;
	struct copies *c = &pass->copies;
	struct superblock sb = spool_superblock(spool, SUPERBLOCK_COPIES);

	if (c->number != 0)
		return 0;
	c->number = spool->next_copies++;
	sb.serial = c->number;
	char *AUTO_FREE path = segment_path(spool, c->number);
	int file = io->open(io->owner, path, O_RDWR | O_CREAT | O_TRUNC);
	c->file = file;
	TRY(file);
	uint8_t *page = (uint8_t *)buf_reserve(&c->bytes, FORMAT_PAGE);
	superblock_encode(&sb, page);
	buf_added(&c->bytes, FORMAT_PAGE);
	c->end = FORMAT_PAGE;
	return 0;
}

static int
write_out(struct pass *pass)
{
	const struct spool_io *io = pass->spool->io;
	struct copies *c = &pass->copies;
	size_t size = buf_size(&c->bytes);
	struct iovec iov = { c->bytes.ptr, size };

	if (size == 0)
		return 0;
	TRY(io_write(io, c->file, &iov, 1, c->end - size));
	buf_clear(&c->bytes);
	if (c->end - c->synced >= SYNC_BYTES) {
		TRY(io->datasync(io->owner, c->file));
		c->synced = c->end;
	}
	return pass_pace(pass, size);
}

/* The record under its new position; ERR_CORRUPT when it is damaged. */
static int
copy_record(struct pass *pass, const struct slot *slot, bool is_body)
{
	struct spool *spool = pass->spool;
	struct copies *c = &pass->copies;
	size_t len = FORMAT_HEADER + (size_t)slot->len;
	size_t fill = format_aligned(slot->len) - slot->len;
	uint8_t *p = (uint8_t *)buf_reserve(&c->bytes, len + fill);
	uint64_t at = (uint64_t)slot->at * FORMAT_ALIGN;
	struct record_header h;

	int64_t n = io_read(spool->io, pass->source->file, p, len, at);
	if (n < 0)
		return (int)n;
	if ((size_t)n < len || !record_decode(p, spool->seal, &h) ||
	    h.lsn != LSN(slot->segment, at) || h.len != slot->len ||
	    !(is_body ? h.type == RECORD_BODY : record_is_message(h.type)) ||
	    hash_crc32c(0, p + FORMAT_HEADER, h.len) != h.payload_crc)
		return ERR_CORRUPT;
	h.lsn = LSN(c->number, c->end);
	h.flags = 0;
	h.epoch = (uint16_t)spool->epoch;
	record_encode(&h, spool->seal, p);
	memset(p + len, 0, fill);
	buf_added(&c->bytes, len + fill);
	c->end += len + fill;
	return 0;
}

/* ---- a segment --------------------------------------------------------- */

static void
note_move(struct pass *pass, const struct move *move)
{
	struct copies *c = &pass->copies;

	if (c->count == c->capacity) {
		c->capacity = c->capacity ? 2 * c->capacity : 256;
		c->moves = mem_resize(c->moves, c->capacity, sizeof *c->moves);
	}
	c->moves[c->count++] = *move;
}

static int
write_enough(struct pass *pass, uint64_t bytes)
{
	TRY(pass_pace(pass, bytes));
	return buf_size(&pass->copies.bytes) < WRITE_BYTES ? 0
							   : write_out(pass);
}

static int
copy_entry(void *arg, struct live_entry *entry)
{
	struct pass *pass = arg;
	struct copies *c = &pass->copies;
	struct slot slot = {
		.mno = entry->message.mno,
		.segment = pass->segment,
		.at = entry->at,
		.len = entry->len,
	};
	uint64_t to = c->end;

	if (!pass_wants(pass, entry))
		return 0;
	int result = copy_record(pass, &slot, false);
	if (result == ERR_CORRUPT) {
		/* Whoever opens it will tell. */
		pass_keep(pass, entry);
		return 0;
	}
	TRY(result);
	entry->at = (uint32_t)(to / FORMAT_ALIGN);
	content_add(&c->live, entry);
	const struct move move = { .from = slot, .to = entry->at };
	note_move(pass, &move);
	return write_enough(pass, c->end - to);
}

static int
copy_body(struct pass *pass, const struct body *body)
{
	struct copies *c = &pass->copies;
	const struct slot slot = {
		.segment = body->segment,
		.at = body->at,
		.len = body->len,
	};
	const struct move move = {
		.from = slot,
		.body = *body,
		.to = (uint32_t)(c->end / FORMAT_ALIGN),
	};
	uint64_t before = c->end;
	int result = copy_record(pass, &slot, true);

	if (result == ERR_CORRUPT) {
		pass_keep_body(pass, body);
		return 0;
	}
	TRY(result);
	const struct live_body copy = {
		.number = body->number,
		.at = move.to,
		.len = body->len,
	};
	content_add_body(&c->live, &copy);
	note_move(pass, &move);
	return write_enough(pass, c->end - before);
}

int
compact_segment(struct pass *pass, const struct segment *s)
{
	TRY(segment_ref(pass->spool, s->number, &pass->source));
	int result = begin(pass);
	if (result >= 0)
		result = fold_each(pass->spool, s->number, copy_entry, pass);
	if (result == 0)
		result = pass_each_body(pass, copy_body);
	segment_unref(pass->spool, pass->source);
	pass->source = NULL;
	return result;
}

/* ---- the switch -------------------------------------------------------- */

int
compact_finish(struct pass *pass)
{
	const struct spool_io *io = pass->spool->io;
	struct copies *c = &pass->copies;
	struct catalogue_item item = { .segment = c->number, .end = c->end };

	if (c->count == 0)
		return 0;
	TRY(write_out(pass));
	TRY(io->datasync(io->owner, c->file));
	TRY(pass_write_live(pass, &c->live, &item));
	pass_add_item(pass, &item);
	return 0;
}

void
compact_adopt(struct pass *pass)
{
	struct spool *spool = pass->spool;
	struct copies *c = &pass->copies;

	if (c->count == 0)
		return;
	segment_add_copies(spool, c->number, c->end, c->count);
	for (size_t i = 0; i < c->count; i++) {
		const struct move *move = &c->moves[i];
		const struct slot *from = &move->from;
		const struct slot to = {
			.segment = c->number,
			.at = move->to,
		};
		/* It may have died meanwhile. */
		bool is_moved = from->mno != 0
				    ? index_move(&spool->index, from, &to)
				    : bodies_move(spool, &move->body, &to);

		segment_count_live(
		    spool, is_moved ? from->segment : c->number, -1);
	}
	atomic_fetch_add(&spool->messages_moved, c->count);
}

void
compact_done(struct pass *pass)
{
	struct spool *spool = pass->spool;
	struct copies *c = &pass->copies;

	if (c->number == 0)
		return;
	if (c->file >= 0)
		(void)spool->io->close(spool->io->owner, c->file);
	if (!pass->is_named || c->count == 0) {
		char *AUTO_FREE path = segment_path(spool, c->number);

		(void)spool->io->unlink(spool->io->owner, path);
	}
	buf_done(&c->bytes);
	content_done(&c->live);
	mem_free(c->moves);
}
