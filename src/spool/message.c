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
	    !record_is_message(ret_header->type))
		return ERR_CORRUPT;
	return slot->is_shared || ret_header->len == slot->len ? 0
							       : ERR_CORRUPT;
}

/* Of a message that shares a body the index has no length. */
static int
load_header(struct spool *spool, const struct segment *segment,
    const struct slot *slot, struct stored *stored)
{
	uint64_t at = (uint64_t)slot->at * FORMAT_ALIGN;
	struct record_header h;

	if (!slot->is_shared)
		return 0;
	stored->bytes = mem_alloc(FIRST_READ);
	int64_t n =
	    io_read(spool->io, segment->file, stored->bytes, FIRST_READ, at);
	if (n < 0)
		return (int)n;
	if (n < (int64_t)FORMAT_HEADER)
		return ERR_CORRUPT;
	TRY(check_header(spool, slot, stored, &h));
	stored->size = (size_t)n < FORMAT_HEADER + (size_t)h.len
			   ? (size_t)n
			   : FORMAT_HEADER + (size_t)h.len;
	stored->len = h.len;
	return 0;
}

static int
load(struct spool *spool, const struct segment *segment,
    const struct slot *slot, bool whole, struct stored *stored)
{
	struct record_header h;

	stored->len = slot->len;
	TRY(load_header(spool, segment, slot, stored));
	size_t all = FORMAT_HEADER + (size_t)stored->len;
	TRY(read_more(spool, segment, slot,
	    whole || all < FIRST_READ ? all : FIRST_READ, stored));
	TRY(check_header(spool, slot, stored, &h));
	struct span payload = span_from(
	    stored->bytes + FORMAT_HEADER, stored->size - FORMAT_HEADER);
	if (!whole) {
		uint64_t head = message_decode_head_len(payload);

		if (head == 0 || head > stored->len)
			return ERR_CORRUPT;
		TRY(read_more(spool, segment, slot,
		    FORMAT_HEADER + (size_t)head, stored));
		payload = span_from(stored->bytes + FORMAT_HEADER, head);
	} else if (hash_crc32c(0, payload.ptr, payload.len) != h.payload_crc) {
		return ERR_CORRUPT;
	}
	TRY(message_decode(payload, &stored->envelope, &stored->body));
	if (stored->body.is_shared != slot->is_shared)
		return ERR_CORRUPT;
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
	struct segment *body_segment; /* of a shared body; NULL: not read */
	char *shared; /* its record */
	int body_file; /* -1: the body is in the record */
	char *piece; /* of the file, read and checked */
	uint32_t piece_no; /* UINT32_MAX: none */
	size_t piece_len;
};

static int
set_aside(struct spool_message *message, const char *problem)
{
	struct spool *spool = message->spool;

	quarantine_message(spool, &message->slot, problem);
	return ERR_CORRUPT;
}

/* ---- a shared body ----------------------------------------------------- */

int
body_load(struct spool *spool, const struct segment *segment,
    const struct body *body, char **ret_record)
{
	uint64_t at = (uint64_t)body->at * FORMAT_ALIGN;
	size_t size = FORMAT_HEADER + (size_t)body->len;
	char *AUTO_FREE bytes = mem_alloc(size);
	struct record_header h;
	struct span octets;
	uint32_t tenant;
	uint64_t number;

	int64_t n = io_read(spool->io, segment->file, bytes, size, at);
	if (n < 0)
		return (int)n;
	if ((size_t)n < size ||
	    !record_decode((const uint8_t *)bytes, spool->seal, &h) ||
	    h.lsn != LSN(body->segment, at) || h.type != RECORD_BODY ||
	    h.len != body->len ||
	    hash_crc32c(0, bytes + FORMAT_HEADER, h.len) != h.payload_crc ||
	    !body_decode(span_from(bytes + FORMAT_HEADER, h.len), &number,
		&tenant, &octets) ||
	    number != body->number)
		return ERR_CORRUPT;
	*ret_record = bytes;
	bytes = NULL;
	return 0;
}

/* Compaction may have moved it, and its segment be gone. */
static int
find_body(struct spool *spool, uint64_t number, struct body *ret_body,
    struct segment **ret_segment)
{
	uint32_t before = 0;
	int result = 0;

	do {
		if (!bodies_find(spool, number, ret_body))
			return ERR_NOT_FOUND;
		if (ret_body->is_damaged || ret_body->segment == 0)
			return ERR_CORRUPT;
		if (ret_body->segment == before)
			return result;
		before = ret_body->segment;
		result = segment_ref(spool, before, ret_segment);
	} while (result == ERR_NOT_FOUND);
	return result;
}

int
body_check(struct spool *spool, const struct body *body)
{
	struct segment *segment;
	char *record = NULL;

	TRY(segment_ref(spool, body->segment, &segment));
	int result = body_load(spool, segment, body, &record);
	segment_unref(spool, segment);
	mem_free(record);
	if (result == ERR_CORRUPT)
		quarantine_body(spool, body, "damaged shared body");
	return result;
}

/* It is what the message says it is. */
static bool
is_meant(const struct spool_message *message, const struct body *body)
{
	const struct body_reference *shared = &message->stored.body.shared;
	const uint8_t *bytes = (const uint8_t *)message->shared;
	struct record_header h;
	struct span octets;
	uint32_t tenant;
	uint64_t number;

	return record_decode(bytes, message->spool->seal, &h) &&
	       h.payload_crc == shared->crc &&
	       body_decode(
		   span_from(message->shared + FORMAT_HEADER, body->len),
		   &number, &tenant, &octets) &&
	       octets.len == shared->size &&
	       tenant == message->stored.envelope.tenant;
}

static int
open_shared(struct spool_message *message)
{
	struct spool *spool = message->spool;
	struct body body;
	struct slot slot;

	int result = find_body(spool, message->stored.body.shared.number, &body,
	    &message->body_segment);
	/* It may have died just now. */
	if (result == ERR_NOT_FOUND &&
	    !index_get(&spool->index, message->slot.mno, &slot))
		return result;
	if (result == ERR_NOT_FOUND || result == ERR_CORRUPT)
		return set_aside(
		    message, "the body that it shares is missing or damaged");
	TRY(result);
	result =
	    body_load(spool, message->body_segment, &body, &message->shared);
	if (result == ERR_CORRUPT) {
		quarantine_body(spool, &body, "damaged shared body");
		return ERR_CORRUPT;
	}
	TRY(result);
	return is_meant(message, &body)
		   ? 0
		   : set_aside(message, "refers to another body than it had");
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

/* Without reading the body: whether it can be read is known. */
static int
look_at_shared(struct spool_message *message)
{
	struct body body;
	struct slot slot;

	if (bodies_find(
		message->spool, message->stored.body.shared.number, &body) &&
	    body.segment != 0 && !body.is_damaged)
		return 0;
	if (!index_get(&message->spool->index, message->slot.mno, &slot))
		return ERR_NOT_FOUND;
	return set_aside(
	    message, "the body that it shares is missing or damaged");
}

static int
open_message(struct spool_message *message, bool own_only)
{
	int result = stored_load(message->spool, message->segment,
	    &message->slot, true, &message->stored);

	if (result == ERR_CORRUPT)
		return set_aside(message, "damaged message");
	TRY(result);
	if (message->slot.is_shared)
		return own_only ? look_at_shared(message)
				: open_shared(message);
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

static int
open_any(struct spool *spool, uint64_t mno, bool own_only,
    struct spool_message **ret_message)
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
	int result = open_message(message, own_only);
	if (result < 0) {
		spool_message_unref(&message);
		return result;
	}
	*ret_message = message;
	return 0;
}

int
spool_message_open(
    struct spool *spool, uint64_t mno, struct spool_message **ret_message)
{
	return open_any(spool, mno, false, ret_message);
}

int
message_open_own(
    struct spool *spool, uint64_t mno, struct spool_message **ret_message)
{
	return open_any(spool, mno, true, ret_message);
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
	if (m->body_segment)
		segment_unref(m->spool, m->body_segment);
	mem_free(m->shared);
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

/* What is the message's alone stands in its record, behind the prefix. */
static struct span
shared_piece(const struct spool_message *message, uint64_t offset)
{
	const struct message_body *body = &message->stored.body;
	struct span prefix = message->stored.envelope.prefix;
	size_t own = prefix.len + body->own_octets.len;

	if (offset < own)
		return span_skip(span_from(prefix.ptr, own), offset);
	return span_skip(
	    span_from(message->shared + FORMAT_HEADER + FORMAT_BODY,
		body->shared.size),
	    offset - own);
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
	if (message->slot.is_shared) {
		*ret_piece = shared_piece(message, offset);
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

	TRY(message_open_own(spool, mno, &message));
	for (uint64_t at = 0; !message->slot.is_shared && result == 0 &&
			      at < spool_message_size(message);
	     at += piece.len)
		result = spool_message_read(message, at, &piece);
	spool_message_unref(&message);
	return result;
}
