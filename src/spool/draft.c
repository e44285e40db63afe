/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A body on its way in. In memory it is a list of chunks that grow, so that no
 * octet is copied twice; a body that outgrows jumbo_size moves to a file and
 * keeps one buffer of a piece's size.
 */

#include "base/bug.h"
#include "base/mem.h"
#include "spool/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define CHUNK_MIN (4096 - sizeof(struct draft_chunk))
#define CHUNK_MAX FORMAT_PIECE

struct spool_draft *
spool_draft_new(struct spool *spool, uint64_t mno)
{
	struct spool_draft *draft = MEM_NEW(struct spool_draft);

	BUG_UNLESS(mno != 0);
	draft->spool = spool;
	draft->mno = mno;
	draft->file = -1;
	return draft;
}

uint64_t
spool_draft_size(const struct spool_draft *draft)
{
	return draft->size;
}

void
spool_draft_end_own(struct spool_draft *draft)
{
	draft->own = draft->size;
}

static void
free_chunks(struct draft_chunk *chunk)
{
	while (chunk) {
		struct draft_chunk *next = chunk->next;

		mem_free(chunk);
		chunk = next;
	}
}

void
draft_keep(struct spool_draft **draft)
{
	struct spool_draft *d = *draft;

	if (!d)
		return;
	free_chunks(d->first);
	if (d->file >= 0)
		(void)d->spool->io->close(d->spool->io->owner, d->file);
	mem_free(d->path);
	buf_done(&d->piece_crcs);
	mem_free(d);
	*draft = NULL;
}

void
spool_draft_free(struct spool_draft **draft)
{
	struct spool_draft *d = *draft;

	if (!d)
		return;
	if (d->path)
		(void)d->spool->io->unlink(d->spool->io->owner, d->path);
	draft_keep(draft);
}

static struct draft_chunk *
add_chunk(struct spool_draft *draft, size_t capacity)
{
	struct draft_chunk *chunk = mem_alloc(sizeof *chunk + capacity);

	chunk->next = NULL;
	chunk->len = 0;
	chunk->capacity = capacity;
	*(draft->last ? &draft->last->next : &draft->first) = chunk;
	draft->last = chunk;
	return chunk;
}

/* Fills the last chunk; returns what did not fit. */
static struct span
fill_chunk(struct draft_chunk *chunk, struct span piece)
{
	size_t room = chunk->capacity - chunk->len;
	struct span part = span_slice(piece, 0, room);

	if (part.len > 0)
		memcpy(chunk->bytes + chunk->len, part.ptr, part.len);
	chunk->len += part.len;
	return span_skip(piece, part.len);
}

static void
write_to_memory(struct spool_draft *draft, struct span piece)
{
	while (piece.len > 0) {
		struct draft_chunk *last = draft->last;

		if (!last || last->len == last->capacity) {
			size_t capacity = last ? 2 * last->capacity : CHUNK_MIN;

			if (capacity < piece.len)
				capacity = piece.len;
			last = add_chunk(
			    draft, capacity > CHUNK_MAX ? CHUNK_MAX : capacity);
		}
		piece = fill_chunk(last, piece);
	}
}

/* ---- bodies in files --------------------------------------------------- */

static int
flush_piece(struct spool_draft *draft)
{
	struct draft_chunk *chunk = draft->last;
	struct iovec iov = { chunk->bytes, chunk->len };
	const struct spool_io *io = draft->spool->io;

	if (chunk->len == 0)
		return 0;
	message_add_piece_crc(
	    span_from(chunk->bytes, chunk->len), &draft->piece_crcs);
	TRY(io_write(io, draft->file, &iov, 1, draft->written));
	draft->written += chunk->len;
	chunk->len = 0;
	return 0;
}

static int
write_to_file(struct spool_draft *draft, struct span piece)
{
	while (piece.len > 0) {
		piece = fill_chunk(draft->last, piece);
		if (draft->last->len == draft->last->capacity)
			TRY(flush_piece(draft));
	}
	return 0;
}

static int
move_to_file(struct spool_draft *draft)
{
	const struct spool_io *io = draft->spool->io;
	struct draft_chunk *chunks = draft->first;
	int result = 0;

	draft->path = body_path(draft->spool, draft->mno);
	draft->file =
	    io->open(io->owner, draft->path, O_RDWR | O_CREAT | O_TRUNC);
	if (draft->file < 0)
		return draft->file;
	draft->first = draft->last = NULL;
	(void)add_chunk(draft, FORMAT_PIECE);
	for (const struct draft_chunk *c = chunks; c && result == 0;
	     c = c->next)
		result = write_to_file(draft, span_from(c->bytes, c->len));
	free_chunks(chunks);
	return result;
}

int
spool_draft_write(struct spool_draft *draft, struct span piece)
{
	uint64_t jumbo = draft->spool->options.jumbo_size;

	if (draft->error < 0)
		return draft->error;
	if (draft->file < 0 && draft->size + piece.len > jumbo)
		draft->error = move_to_file(draft);
	if (draft->error == 0 && draft->file >= 0)
		draft->error = write_to_file(draft, piece);
	if (draft->error < 0)
		return draft->error;
	if (draft->file < 0)
		write_to_memory(draft, piece);
	draft->size += piece.len;
	return 0;
}

int
draft_finish(struct spool_draft *draft)
{
	if (draft->error == 0 && draft->file >= 0)
		draft->error = flush_piece(draft);
	return draft->error;
}

int
draft_settle(struct spool_draft *draft)
{
	const struct spool_io *io = draft->spool->io;
	char *AUTO_FREE directory =
	    mem_printf("%s/big", draft->spool->directory);

	TRY(io->datasync(io->owner, draft->file));
	(void)io->close(io->owner, draft->file);
	draft->file = -1;
	return io->sync_directory(io->owner, directory);
}
