/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the log says of messages, brought together: outcomes by message, and
 * the messages of a segment, be it from its live file or from its records.
 * Recovery and checkpoint both are made of these two.
 */

#include "base/bug.h"
#include "base/hash.h"
#include "base/mem.h"
#include "spool/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#define NONE UINT32_MAX
#define MESSAGE_TYPES (1u << RECORD_MESSAGE | 1u << RECORD_ENVELOPE)
#define OUTCOME_TYPES                                                          \
	(SCAN_ALL & ~MESSAGE_TYPES) /* all that may be damaged, too */

/* ---- outcomes ---------------------------------------------------------- */

void
fold_done(struct fold *fold)
{
	mem_free(fold->items);
	mem_free(fold->heads);
	*fold = (struct fold){ 0 };
}

static void
add_outcome(struct fold *fold, const struct spool_outcome *o)
{
	struct slot slot;

	if (fold->live_only) {
		if (!index_get(&fold->spool->index, o->mno, &slot))
			return;
		segment_touch(fold->spool, slot.segment);
	}
	if (fold->count == fold->capacity) {
		fold->capacity = fold->capacity ? 2 * fold->capacity : 1024;
		fold->items = mem_resize(
		    fold->items, fold->capacity, sizeof *fold->items);
	}
	fold->items[fold->count++] = (struct fold_item){
		.mno = o->mno,
		.due_us = o->due_us,
		.first = (uint16_t)o->rcpt_first,
		.count = (uint16_t)o->rcpt_count,
		.attempts = o->attempts,
		.warned = o->warned,
		.is_end = o->kind != SPOOL_DEFERRED,
		.next = NONE,
	};
}

/* False: the record is not what it should be. */
static bool
add_outcomes(struct fold *fold, const struct record *record)
{
	enum record_type type = (enum record_type)record->header.type;
	size_t size = type == RECORD_DONE ? FORMAT_DONE : FORMAT_DEFER;
	struct span rest = record->payload;
	struct spool_outcome outcome;

	for (; rest.len > 0; rest = span_skip(rest, size)) {
		if (!outcome_decode(type, span_slice(rest, 0, size), &outcome))
			return false;
		add_outcome(fold, &outcome);
	}
	return true;
}

/* False: the record is not what it should be. */
static bool
find_body(struct spool *spool, const struct record *record)
{
	struct body body = {
		.segment = LSN_SEGMENT(record->header.lsn),
		.at = (uint32_t)(record->offset / FORMAT_ALIGN),
		.len = record->header.len,
	};
	struct span octets;
	uint32_t tenant;

	if (!body_decode(record->payload, &body.number, &tenant, &octets))
		return false;
	bodies_found(spool, &body);
	return true;
}

static bool
fold_record(struct fold *fold, const struct record *record)
{
	struct spool_order order;
	struct batch b;

	switch (record->header.type) {
	case RECORD_BATCH:
		return batch_decode(record->payload, &b);
	case RECORD_DONE:
	case RECORD_DEFER:
		return add_outcomes(fold, record);
	case RECORD_ORDER:
		return order_decode(record->payload, &order);
	case RECORD_BODY: /* known already where messages are */
		return fold->live_only || find_body(fold->spool, record);
	case RECORD_MESSAGE: /* in its own time */
	case RECORD_ENVELOPE:
	case RECORD_EVENT:
	case RECORD_PAD:
		return true;
	default:
		return false;
	}
}

static void
scan_segment(
    struct spool *spool, const struct segment *segment, struct scan *scan)
{
	scan_init(scan, spool->io, segment->file, spool->seal);
	scan->segment = segment->number;
	scan->epoch = segment->epoch;
	scan->end = scan->attested = segment_end(spool, segment);
}

static int
fold_records(struct fold *fold, struct segment *segment, struct scan *scan)
{
	struct record record;

	for (;;) {
		TRY(scan_next(scan, &record));
		if (record.found == FOUND_END)
			return 0;
		if (record.found == FOUND_RECORD && fold_record(fold, &record))
			continue;
		quarantine(fold->spool, segment, record.offset,
		    record.next - record.offset,
		    record.found == FOUND_DAMAGE
			? "damaged: a checksum is wrong"
			: "a record that makes no sense");
	}
}

int
fold_scan(struct fold *fold, uint32_t number)
{
	struct segment *segment;
	struct scan scan;

	TRY(segment_ref(fold->spool, number, &segment));
	scan_segment(fold->spool, segment, &scan);
	scan.wanted = OUTCOME_TYPES;
	if (fold->live_only)
		scan.wanted &= ~(1u << RECORD_BODY);
	int result = fold_records(fold, segment, &scan);
	scan_done(&scan);
	segment_unref(fold->spool, segment);
	return result;
}

/* Where the chain of this message begins, or would begin. */
static uint32_t *
head_of(const struct fold *fold, uint64_t mno)
{
	size_t i = (size_t)hash_mix(mno) & (fold->head_count - 1);

	while (fold->heads[i] != NONE && fold->items[fold->heads[i]].mno != mno)
		i = (i + 1) & (fold->head_count - 1);
	return &fold->heads[i];
}

void
fold_finish(struct fold *fold)
{
	size_t size = 16;

	BUG_UNLESS(fold->count < NONE);
	while (size < 2 * fold->count)
		size *= 2;
	fold->head_count = size;
	fold->heads = mem_resize(NULL, size, sizeof *fold->heads);
	for (size_t i = 0; i < size; i++)
		fold->heads[i] = NONE;
	/* From the last to the first, so that a chain is in their order. */
	for (size_t i = fold->count; i-- > 0;) {
		uint32_t *head = head_of(fold, fold->items[i].mno);

		fold->items[i].next = *head;
		*head = (uint32_t)i;
	}
}

void
fold_apply(const struct fold *fold, struct live_entry *entry)
{
	uint32_t i = *head_of(fold, entry->message.mno);

	for (; i != NONE; i = fold->items[i].next) {
		const struct fold_item *item = &fold->items[i];
		const struct spool_outcome outcome = {
			.mno = item->mno,
			.rcpt_first = item->first,
			.rcpt_count = item->count,
			.kind = item->is_end ? SPOOL_BOUNCED : SPOOL_DEFERRED,
			.attempts = item->attempts,
			.warned = item->warned,
			.due_us = item->due_us,
		};

		live_apply(entry, &outcome);
	}
}

/* ---- messages of a segment --------------------------------------------- */

char *
live_path(const struct spool *spool, uint32_t segment, uint64_t serial)
{
	return mem_printf("%s/%016" PRIx32 ".%016" PRIx64 ".live",
	    spool->directory, segment, serial);
}

int
fold_read_file(struct spool *spool, const char *path, struct buf *b)
{
	const struct spool_io *io = spool->io;
	int file = io->open(io->owner, path, O_RDONLY);

	if (file < 0)
		return file;
	int64_t n = io->size(io->owner, file);
	if (n >= 0) {
		size_t size = (size_t)n;

		n = io_read(io, file, buf_reserve(b, size + 1), size, 0);
		if (n > 0)
			buf_added(b, (size_t)n);
	}
	(void)io->close(io->owner, file);
	return n < 0 ? (int)n : 0;
}

/* 1: the live file cannot be used. */
static int
read_live_file(struct spool *spool, const struct segment *segment,
    struct buf *bytes, struct span *ret_bodies, struct span *ret_entries)
{
	char *AUTO_FREE path =
	    live_path(spool, segment->number, segment->live_serial);
	struct live_file file;
	int result = fold_read_file(spool, path, bytes);

	bool is_good = result == 0 &&
		       live_file_decode(buf_span(bytes), spool->seal, &file,
			   ret_bodies, ret_entries) &&
		       file.segment == segment->number &&
		       file.serial == segment->live_serial &&
		       (segment->live_crc == 0 || /* the catalogue is lost */
			   segment->live_crc == file.crc);
	if (is_good)
		return 0;
	quarantine_file(spool, path,
	    "a live file is missing or damaged: all messages of its "
	    "segment count as live");
	return 1;
}

static int
each_of_file(struct spool *spool, const struct segment *segment,
    live_entry_fn *fn, void *arg)
{
	struct live_entry entry = { 0 };
	struct buf bytes = BUF_EMPTY;
	struct span bodies, rest;
	int result = read_live_file(spool, segment, &bytes, &bodies, &rest);

	while (result == 0 && rest.len > 0) {
		if (!live_decode(&rest, &entry))
			result = ERR_CORRUPT; /* with a right checksum: a bug */
		else
			result = fn(arg, &entry);
	}
	live_entry_done(&entry);
	buf_done(&bytes);
	return result;
}

/* A live message whose record is damaged by now must not be sent. */
static void
tell_damage(
    struct spool *spool, struct segment *segment, const struct record *record)
{
	const struct slot place = {
		.segment = segment->number,
		.at = (uint32_t)(record->offset / FORMAT_ALIGN),
	};

	quarantine(spool, segment, record->offset,
	    record->next - record->offset, "damaged: a checksum is wrong");
	quarantine_place(spool, &place);
}

static int
on_message_record(struct spool *spool, struct segment *segment,
    const struct record *record, live_entry_fn *fn, void *arg)
{
	struct live_entry entry = { 0 };
	struct spool_envelope e;
	struct message_body body;
	struct spool_rcpt *rcpts = NULL;

	int result = message_decode(record->payload, &e, &body);
	if (result == 0) {
		rcpts = mem_resize(NULL, e.rcpt_count, sizeof *rcpts);
		result = message_decode_rcpts(body.rcpts, e.rcpt_count, rcpts);
	}
	if (result < 0 || e.mno == 0) {
		tell_damage(spool, segment, record);
		mem_free(rcpts);
		return 0;
	}
	e.rcpts = rcpts;
	live_from_envelope(&e, &entry);
	entry.at = (uint32_t)(record->offset / FORMAT_ALIGN);
	entry.len = record->header.len;
	entry.is_file = body.is_file;
	entry.body = body.is_shared ? body.shared.number : 0;
	result = fn(arg, &entry);
	live_entry_done(&entry);
	mem_free(rcpts);
	return result;
}

static int
each_of_records(
    struct spool *spool, struct segment *segment, live_entry_fn *fn, void *arg)
{
	struct record record;
	struct scan scan;
	int result;

	scan_segment(spool, segment, &scan);
	scan.wanted = MESSAGE_TYPES;
	for (;;) {
		result = scan_next(&scan, &record);
		if (result < 0 || record.found == FOUND_END)
			break;
		if (record.found == FOUND_DAMAGE)
			tell_damage(spool, segment, &record);
		else if (record_is_message(record.header.type))
			result =
			    on_message_record(spool, segment, &record, fn, arg);
		if (result < 0)
			break;
	}
	scan_done(&scan);
	return result;
}

int
fold_each(struct spool *spool, uint32_t number, live_entry_fn *fn, void *arg)
{
	struct segment *segment;
	int result = 1;

	TRY(segment_ref(spool, number, &segment));
	if (segment->live_serial != 0) {
		result = each_of_file(spool, segment, fn, arg);
	}
	if (result > 0)
		result = each_of_records(spool, segment, fn, arg);
	segment_unref(spool, segment);
	return result;
}

/* ---- bodies of a segment ----------------------------------------------- */

/* 1: there are some, or nobody knows. */
static int
may_have_bodies(struct spool *spool, const struct segment *segment)
{
	const struct spool_io *io = spool->io;
	char *AUTO_FREE path =
	    live_path(spool, segment->number, segment->live_serial);
	char header[LIVE_HEADER];
	struct live_file file;

	int result = io->open(io->owner, path, O_RDONLY);
	if (result < 0)
		return 1;
	int64_t n = io_read(io, result, header, sizeof header, 0);
	(void)io->close(io->owner, result);
	return n < (int64_t)sizeof header ||
	       !live_file_decode_header(
		   span_from(header, sizeof header), spool->seal, &file) ||
	       file.bodies > 0;
}

/* 1: the live file cannot be used. */
static int
bodies_of_file(struct spool *spool, const struct segment *segment)
{
	struct buf bytes = BUF_EMPTY;
	struct span bodies, entries;
	struct live_body found;

	if (!may_have_bodies(spool, segment))
		return 0;
	int result = read_live_file(spool, segment, &bytes, &bodies, &entries);
	while (result == 0 && live_body_decode(&bodies, &found)) {
		const struct body body = {
			.number = found.number,
			.segment = segment->number,
			.at = found.at,
			.len = found.len,
		};

		bodies_found(spool, &body);
	}
	buf_done(&bytes);
	return result;
}

static int
bodies_of_records(struct spool *spool, const struct segment *segment)
{
	struct record record;
	struct scan scan;
	int result;

	scan_segment(spool, segment, &scan);
	scan.wanted = 1u << RECORD_BODY;
	do {
		result = scan_next(&scan, &record);
		/* What is damaged is told when messages are read. */
		if (result == 0 && record.found == FOUND_RECORD &&
		    record.header.type == RECORD_BODY)
			(void)find_body(spool, &record);
	} while (result == 0 && record.found != FOUND_END);
	scan_done(&scan);
	return result;
}

int
fold_bodies(struct spool *spool, uint32_t number)
{
	struct segment *segment;
	int result = 1;

	TRY(segment_ref(spool, number, &segment));
	if (segment->live_serial != 0)
		result = bodies_of_file(spool, segment);
	/* Without its catalogue a live file may be older than what moved. */
	if (result > 0 || atomic_load(&spool->is_incomplete))
		result = bodies_of_records(spool, segment);
	segment_unref(spool, segment);
	return result;
}
