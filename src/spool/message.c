/* SPDX-License-Identifier: Apache-2.0 */

/* Stored messages, read back and checked before a byte is given out. */

#include "base/bug.h"
#include "base/hash.h"
#include "base/mem.h"
#include "spool/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define FIRST_READ 4096u /* most envelopes fit */

/* ---- the record -------------------------------------------------------- */

void
stored_done(struct stored *stored)
{
	mem_free(stored->bytes);
	mem_free(stored->rcpts);
	*stored = (struct stored){ 0 };
}

static int
read_more(struct spool *spool, const struct segment *segment,
    const struct slot *slot, size_t size, struct stored *stored)
{
	uint64_t at = (uint64_t)slot->at * FORMAT_ALIGN;

	if (size <= stored->size)
		return 0;
	stored->bytes = mem_resize(stored->bytes, size, 1);
	int64_t n =
	    io_read(spool->io, segment->file, stored->bytes + stored->size,
		size - stored->size, at + stored->size);
	if (n < 0)
		return (int)n;
	if ((size_t)n < size - stored->size)
		return ERR_CORRUPT;
	stored->size = size;
	return 0;
}

static int
check_header(const struct spool *spool, const struct slot *slot,
    const struct stored *stored, struct record_header *ret_header)
{
	uint64_t at = (uint64_t)slot->at * FORMAT_ALIGN;

	if (!record_decode(
		(const uint8_t *)stored->bytes, spool->seal, ret_header))
		return ERR_CORRUPT;
	if (ret_header->lsn != LSN(slot->segment, at) ||
	    ret_header->type != RECORD_MESSAGE || ret_header->len != slot->len)
		return ERR_CORRUPT;
	return 0;
}

static int
load(struct spool *spool, const struct segment *segment,
    const struct slot *slot, bool whole, struct stored *stored)
{
	size_t all = FORMAT_HEADER + (size_t)slot->len;
	struct record_header h;

	TRY(read_more(spool, segment, slot,
	    whole || all < FIRST_READ ? all : FIRST_READ, stored));
	TRY(check_header(spool, slot, stored, &h));
	struct span payload = span_from(
	    stored->bytes + FORMAT_HEADER, stored->size - FORMAT_HEADER);
	if (!whole) {
		uint64_t head = message_decode_head_len(payload);

		if (head == 0 || head > slot->len)
			return ERR_CORRUPT;
		TRY(read_more(spool, segment, slot,
		    FORMAT_HEADER + (size_t)head, stored));
		payload = span_from(stored->bytes + FORMAT_HEADER, head);
	} else if (hash_crc32c(0, payload.ptr, payload.len) != h.payload_crc) {
		return ERR_CORRUPT;
	}
	TRY(message_decode(payload, &stored->envelope, &stored->body));
	uint32_t count = stored->envelope.rcpt_count;
	stored->rcpts = mem_resize(NULL, count, sizeof *stored->rcpts);
	stored->envelope.rcpts = stored->rcpts;
	TRY(message_decode_rcpts(stored->body.rcpts, count, stored->rcpts));
	return stored->envelope.mno == slot->mno ? 0 : ERR_CORRUPT;
}

int
stored_load(struct spool *spool, const struct segment *segment,
    const struct slot *slot, bool whole, struct stored *ret_stored)
{
	struct stored stored = { 0 };
	int result = load(spool, segment, slot, whole, &stored);

	if (result < 0)
		stored_done(&stored);
	else
		*ret_stored = stored;
	return result;
}

/* ---- the handle -------------------------------------------------------- */

struct spool_message {
	struct spool *spool;
	struct segment *segment;
	struct slot slot;
	struct stored stored;
	int body_file; /* -1: the body is in the record */
	char *piece; /* of the file, read and checked */
	uint32_t piece_no; /* UINT32_MAX: none */
	size_t piece_len;
};

static int
set_aside(struct spool_message *message, const char *problem)
{
	struct spool *spool = message->spool;

	if (index_mark_damaged(&spool->index, message->slot.mno))
		quarantine(spool, message->segment,
		    (uint64_t)message->slot.at * FORMAT_ALIGN,
		    FORMAT_HEADER + (uint64_t)message->slot.len, problem);
	return ERR_CORRUPT;
}

static int
open_body(struct spool_message *message)
{
	const struct spool_io *io = message->spool->io;
	char *AUTO_FREE path = body_path(message->spool, message->slot.mno);
	struct slot slot;

	if (!message->slot.is_file)
		return 0;
	message->body_file = io->open(io->owner, path, O_RDONLY);
	if (message->body_file == -ENOENT) {
		/* It may have died just now. */
		if (!index_get(
			&message->spool->index, message->slot.mno, &slot))
			return ERR_NOT_FOUND;
		return set_aside(message, "the file of the body is missing");
	}
	return message->body_file < 0 ? message->body_file : 0;
}

static int
open_message(struct spool_message *message)
{
	int result = stored_load(message->spool, message->segment,
	    &message->slot, true, &message->stored);

	if (result == ERR_CORRUPT)
		return set_aside(message, "damaged message");
	TRY(result);
	return open_body(message);
}

/* Compaction may have moved the message, and its segment be gone. */
static int
find(struct spool *spool, uint64_t mno, struct slot *ret_slot,
    struct segment **ret_segment)
{
	uint32_t before = 0;
	int result = 0;

	do {
		if (!index_get(&spool->index, mno, ret_slot))
			return ERR_NOT_FOUND;
		if (ret_slot->is_damaged)
			return ERR_CORRUPT;
		if (ret_slot->segment == before)
			return result;
		before = ret_slot->segment;
		result = segment_ref(spool, before, ret_segment);
	} while (result == ERR_NOT_FOUND);
	return result;
}

int
spool_message_open(
    struct spool *spool, uint64_t mno, struct spool_message **ret_message)
{
	struct segment *segment;
	struct slot slot;

	TRY(find(spool, mno, &slot, &segment));
	struct spool_message *message = MEM_NEW(struct spool_message);
	*message = (struct spool_message){
		.spool = spool,
		.segment = segment,
		.slot = slot,
		.body_file = -1,
		.piece_no = UINT32_MAX,
	};
	int result = open_message(message);
	if (result < 0) {
		spool_message_unref(&message);
		return result;
	}
	*ret_message = message;
	return 0;
}

void
spool_message_unref(struct spool_message **message)
{
	struct spool_message *m = *message;

	if (!m)
		return;
	if (m->body_file >= 0)
		(void)m->spool->io->close(m->spool->io->owner, m->body_file);
	segment_unref(m->spool, m->segment);
	stored_done(&m->stored);
	mem_free(m->piece);
	mem_free(m);
	*message = NULL;
}

const struct spool_envelope *
spool_message_envelope(const struct spool_message *message)
{
	return &message->stored.envelope;
}

uint64_t
spool_message_size(const struct spool_message *message)
{
	const struct spool_envelope *e = &message->stored.envelope;

	return e->prefix.len + e->body_size;
}

static int
load_piece(struct spool_message *message, uint32_t no)
{
	const struct spool_io *io = message->spool->io;
	uint64_t at = (uint64_t)no * FORMAT_PIECE;
	uint64_t rest = message->stored.envelope.body_size - at;
	size_t len = rest < FORMAT_PIECE ? (size_t)rest : FORMAT_PIECE;

	if (message->piece_no == no)
		return 0;
	if (!message->piece)
		message->piece = mem_alloc(FORMAT_PIECE);
	message->piece_no = UINT32_MAX;
	int64_t n = io_read(io, message->body_file, message->piece, len, at);
	if (n < 0)
		return (int)n;
	struct span crcs = message->stored.body.piece_crcs;
	if ((size_t)n != len ||
	    hash_crc32c(0, message->piece, len) != message_piece_crc(crcs, no))
		return set_aside(message, "damaged file of a body");
	message->piece_no = no;
	message->piece_len = len;
	return 0;
}

int
spool_message_read(
    struct spool_message *message, uint64_t offset, struct span *ret_piece)
{
	const struct spool_envelope *e = &message->stored.envelope;

	if (offset >= spool_message_size(message)) {
		*ret_piece = SPAN_EMPTY;
		return 0;
	}
	if (message->body_file < 0) {
		/* Prefix and body stand together in the record. */
		*ret_piece = span_skip(
		    span_from(e->prefix.ptr, spool_message_size(message)),
		    offset);
		return 0;
	}
	if (offset < e->prefix.len) {
		*ret_piece = span_skip(e->prefix, offset);
		return 0;
	}
	offset -= e->prefix.len;
	TRY(load_piece(message, (uint32_t)(offset / FORMAT_PIECE)));
	*ret_piece = span_skip(span_from(message->piece, message->piece_len),
	    offset % FORMAT_PIECE);
	return 0;
}

int
message_check(struct spool *spool, uint64_t mno)
{
	struct spool_message *message;
	struct span piece = SPAN_EMPTY;
	int result = 0;

	TRY(spool_message_open(spool, mno, &message));
	for (uint64_t at = 0; at < spool_message_size(message) && result == 0;
	     at += piece.len)
		result = spool_message_read(message, at, &piece);
	spool_message_unref(&message);
	return result;
}
