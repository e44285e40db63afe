/* SPDX-License-Identifier: Apache-2.0 */

/*
 * From files to state, in one pass over the log:
 *  1. list: segments, prepared files, leftovers;
 *  2. identity and epoch from the manifests or, failing these, superblocks;
 *  3. per segment, how far the log went: a later superblock says so exactly,
 *     else the batches do (README.md, "Where the log ends");
 *  4. apply every record below that end; what is wrong there is damage;
 *  5. body files that no live message names are removed.
 * Nothing in a segment is changed. The next batch goes to a new one.
 */

#include "base/bug.h"
#include "base/mem.h"
#include "os/random.h"
#include "spool/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MNO_GAP (UINT64_C(1) << 20) /* numbers given but never committed */
#define QUARANTINE_FILES 1000
#define QUARANTINE_BYTES (1u << 20)

struct found_segment {
	uint32_t number;
	bool has_superblock;
	struct superblock superblock;
};

struct recovery {
	struct spool *spool;
	struct found_segment *found;
	size_t count;
	struct superblock manifest; /* the newest; serial 0: none */
	uint64_t next_mno;
	uint32_t epoch; /* largest seen */
	int version_error;
};

/* ---- damage ------------------------------------------------------------ */

void
quarantine(struct spool *spool, struct segment *segment, uint64_t offset,
    uint64_t len, const char *problem)
{
	if (spool->verification) {
		char *AUTO_FREE file = segment_path(spool, segment->number);

		verify_problem(spool->verification, file, offset, problem);
		return;
	}
	segment_mark_damaged(spool, segment);
	uint64_t before = atomic_fetch_add(&spool->quarantined, 1);
	size_t size = len > QUARANTINE_BYTES ? QUARANTINE_BYTES : (size_t)len;

	if (before >= QUARANTINE_FILES)
		return;
	char *AUTO_FREE path =
	    mem_printf("%s/quarantine/%016" PRIx32 "-%08" PRIx64,
		spool->directory, segment->number, offset);
	char *AUTO_FREE bytes = mem_alloc(size + 1);
	int64_t n = io_read(spool->io, segment->file, bytes, size, offset);
	/* The copy is for people to look at; the counter is what tells. */
	if (n >= 0)
		(void)io_put(
		    spool->io, path, O_EXCL, span_from(bytes, (size_t)n));
}

/* ---- 1. list ----------------------------------------------------------- */

static bool
parse_hex(const char *s, size_t digits, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (size_t i = 0; i < digits; i++) {
		const char *at = s[i] ? strchr("0123456789abcdef", s[i]) : NULL;
		uint64_t digit = 0;

		if (!at)
			return false;
		while ("0123456789abcdef"[digit] != *at)
			digit++;
		value = value << 4 | digit;
	}
	*ret_value = value;
	return true;
}

static void
add_segment(struct recovery *r, uint64_t number)
{
	if (number == 0 || number > UINT32_MAX)
		return;
	r->found = mem_resize(r->found, r->count + 1, sizeof *r->found);
	r->found[r->count++] =
	    (struct found_segment){ .number = (uint32_t)number };
}

static void
add_prepared(struct recovery *r, const char *name, uint64_t serial)
{
	struct segments *all = &r->spool->segments;

	if (serial >= all->pool_serial)
		all->pool_serial = serial + 1;
	all->pool = mem_resize(all->pool, all->pool_count + 1, sizeof(char *));
	all->pool[all->pool_count++] =
	    mem_printf("%s/%s", r->spool->directory, name);
}

static void
on_name(void *arg, const char *name)
{
	struct recovery *r = arg;
	uint64_t number;

	if (!parse_hex(name, 16, &number))
		return;
	if (strcmp(name + 16, ".seg") == 0)
		add_segment(r, number);
	else if (strcmp(name + 16, ".free") == 0)
		add_prepared(r, name, number);
}

static int
compare_number(const void *a, const void *b)
{
	const struct found_segment *x = a, *y = b;

	return x->number < y->number ? -1 : x->number > y->number;
}

/* Keeps the prepared files that have the size wanted now. */
static void
check_pool(struct spool *spool)
{
	const struct spool_io *io = spool->io;
	struct segments *all = &spool->segments;
	size_t kept = 0;

	for (size_t i = 0; i < all->pool_count; i++) {
		char *path = all->pool[i];
		int file = io->open(io->owner, path, O_RDONLY);
		int64_t size = file < 0 ? file : io->size(io->owner, file);

		if (file >= 0)
			(void)io->close(io->owner, file);
		if (size == (int64_t)spool->options.segment_size ||
		    spool->verification) {
			all->pool[kept++] = path;
			continue;
		}
		(void)io->unlink(io->owner, path);
		mem_free(path);
	}
	all->pool_count = kept;
}

/* ---- 2. identity ------------------------------------------------------- */

static int
read_superblock(struct recovery *r, const char *path, enum superblock_kind kind,
    struct superblock *ret_sb)
{
	const struct spool_io *io = r->spool->io;
	uint8_t page[FORMAT_PAGE];
	struct superblock sb;

	int file = io->open(io->owner, path, O_RDONLY);
	if (file < 0)
		return file;
	int64_t n = io_read(io, file, page, sizeof page, 0);
	(void)io->close(io->owner, file);
	if (n < (int64_t)sizeof page)
		return n < 0 ? (int)n : ERR_CORRUPT;
	int result = superblock_decode(page, &sb);
	if (result == ERR_VERSION)
		r->version_error = result;
	if (result < 0)
		return result;
	if (sb.kind != kind)
		return ERR_CORRUPT;
	if (sb.epoch > r->epoch)
		r->epoch = sb.epoch;
	if (sb.next_mno > r->next_mno)
		r->next_mno = sb.next_mno;
	*ret_sb = sb;
	return 0;
}

static char *
manifest_path(const struct spool *spool, uint64_t serial)
{
	return mem_printf(
	    "%s/MANIFEST.%c", spool->directory, serial % 2 ? 'a' : 'b');
}

int
manifest_write(struct spool *spool, bool is_clean)
{
	struct superblock sb = spool_superblock(spool, SUPERBLOCK_MANIFEST);
	uint8_t page[FORMAT_PAGE];

	sb.serial = ++spool->manifest_serial;
	sb.is_clean = is_clean;
	superblock_encode(&sb, page);
	char *AUTO_FREE path = manifest_path(spool, sb.serial);
	TRY(io_put(spool->io, path, 0, span_from(page, sizeof page)));
	return spool->io->sync_directory(spool->io->owner, spool->directory);
}

static void
read_manifests(struct recovery *r)
{
	struct superblock sb;

	for (uint64_t i = 0; i < 2; i++) {
		char *AUTO_FREE path = manifest_path(r->spool, i);

		if (read_superblock(r, path, SUPERBLOCK_MANIFEST, &sb) == 0 &&
		    sb.serial > r->manifest.serial)
			r->manifest = sb;
	}
}

static int
read_identity(struct recovery *r)
{
	struct spool *spool = r->spool;
	const struct superblock *source = NULL;

	read_manifests(r);
	for (size_t i = 0; i < r->count; i++) {
		struct found_segment *f = &r->found[i];
		char *AUTO_FREE path = segment_path(spool, f->number);

		f->has_superblock = read_superblock(r, path, SUPERBLOCK_SEGMENT,
					&f->superblock) == 0 &&
				    f->superblock.serial == f->number;
		if (f->has_superblock)
			source = &f->superblock;
	}
	if (r->version_error < 0)
		return r->version_error;
	if (r->manifest.serial > 0)
		source = &r->manifest;
	if (!source && r->count > 0)
		return ERR_CORRUPT;
	spool->id_key = source ? source->id_key : random_u64();
	spool->seal = source ? source->seal : (uint32_t)random_u64();
	spool->epoch = r->epoch + 1;
	spool->manifest_serial = r->manifest.serial;
	return 0;
}

/* ---- 3. where the log ends --------------------------------------------- */

/* What is known from outside of a segment's end. */
static uint64_t
told_end(const struct recovery *r, uint32_t number, bool *ret_is_exact)
{
	uint64_t told = 0;
	bool is_exact = false;

	for (size_t i = 0; i < r->count; i++) {
		uint64_t lsn = r->found[i].superblock.durable_lsn;

		if (!r->found[i].has_superblock || LSN_SEGMENT(lsn) != number)
			continue;
		is_exact = true;
		if (LSN_OFFSET(lsn) > told)
			told = LSN_OFFSET(lsn);
	}
	uint64_t lsn = r->manifest.durable_lsn;
	if (LSN_SEGMENT(lsn) == number) {
		is_exact |= r->manifest.is_clean;
		if (LSN_OFFSET(lsn) > told)
			told = LSN_OFFSET(lsn);
	}
	*ret_is_exact = is_exact;
	return told;
}

static int
find_end(struct recovery *r, struct scan *scan, uint64_t size,
    struct segment *segment)
{
	struct scan_tail tail;
	bool is_exact;
	uint64_t told = told_end(r, scan->segment, &is_exact);

	if (is_exact) {
		segment->end = told > FORMAT_PAGE ? told : FORMAT_PAGE;
		segment->attested = segment->end;
		return 0;
	}
	TRY(scan_tail(scan, size, &tail));
	if (LSN_SEGMENT(tail.durable_lsn) == scan->segment &&
	    LSN_OFFSET(tail.durable_lsn) > told)
		told = LSN_OFFSET(tail.durable_lsn);
	if (tail.next_mno > r->next_mno)
		r->next_mno = tail.next_mno;
	scan->attested = segment->attested = told;
	scan->end = size > told ? size : told;
	TRY(scan_find_end(scan, &segment->end));
	if (r->spool->verification && scan->batch_end > segment->end)
		r->spool->verification->result.torn_bytes +=
		    scan->batch_end - segment->end;
	return 0;
}

/* ---- 4. apply ---------------------------------------------------------- */

static struct rcpt_state *
state_of(struct spool *spool, uint64_t mno, uint32_t rcpt_count)
{
	struct rcpt_state *state = map_get_u64(spool->rcpt_states, mno);

	if (state)
		return state;
	state = mem_zalloc(sizeof *state + rcpt_count * sizeof state->rcpts[0]);
	state->count = rcpt_count;
	(void)map_put_u64(spool->rcpt_states, mno, state);
	return state;
}

static void
apply_end(struct spool *spool, struct rcpt_state *state,
    const struct spool_outcome *o)
{
	struct spool_outcome news = *o;
	uint32_t last = o->rcpt_first + o->rcpt_count;
	struct slot slot;

	news.rcpt_count = 0;
	for (uint32_t i = o->rcpt_first; i < last && i < state->count; i++) {
		news.rcpt_count += !state->rcpts[i].done;
		state->rcpts[i].done = true;
	}
	commit_outcome(spool, &news);
	if (!index_get(&spool->index, o->mno, &slot))
		mem_free(map_remove_u64(spool->rcpt_states, o->mno));
}

static void
apply_outcome(struct spool *spool, const struct spool_outcome *o)
{
	struct slot slot;

	if (!index_get(&spool->index, o->mno, &slot))
		return;
	/* Until something is known of single recipients all are alive. */
	struct rcpt_state *state = state_of(spool, o->mno, slot.live);
	if (o->kind != SPOOL_DEFERRED) {
		apply_end(spool, state, o);
		return;
	}
	uint32_t last = o->rcpt_first + o->rcpt_count;
	for (uint32_t i = o->rcpt_first; i < last && i < state->count; i++) {
		state->rcpts[i].attempts = o->attempts;
		state->rcpts[i].warned = o->warned;
		state->rcpts[i].due_us = o->due_us;
	}
}

static bool
apply_outcomes(struct spool *spool, enum record_type type, struct span payload)
{
	size_t size = type == RECORD_DONE ? FORMAT_DONE : FORMAT_DEFER;
	struct spool_outcome outcome;

	for (; payload.len > 0; payload = span_skip(payload, size)) {
		if (!outcome_decode(
			type, span_slice(payload, 0, size), &outcome))
			return false;
		apply_outcome(spool, &outcome);
	}
	return true;
}

static bool
apply_message(struct spool *spool, const struct record *record)
{
	struct spool_envelope e;
	struct message_body body;
	struct slot slot;

	if (message_decode(record->payload, &e, &body) < 0)
		return false;
	if (e.mno == 0 || index_get(&spool->index, e.mno, &slot))
		return false;
	slot = (struct slot){
		.mno = e.mno,
		.segment = LSN_SEGMENT(record->header.lsn),
		.at = (uint32_t)(record->offset / FORMAT_ALIGN),
		.len = record->header.len,
		.live = (uint16_t)e.rcpt_count,
		.is_file = body.is_file,
	};
	segment_count_live(spool, slot.segment, 1);
	index_put(&spool->index, &slot);
	atomic_fetch_add(&spool->recipients, slot.live);
	atomic_fetch_add(&spool->messages, 1);
	if (spool->verification)
		spool->verification->result.messages++;
	return true;
}

/* False: the record is not what it should be. */
static bool
apply_record(struct recovery *r, const struct record *record)
{
	struct spool *spool = r->spool;
	struct spool_order order;
	struct batch b;

	switch (record->header.type) {
	case RECORD_BATCH:
		if (!batch_decode(record->payload, &b))
			return false;
		if (b.next_mno > r->next_mno)
			r->next_mno = b.next_mno;
		spool->batch_no = b.number + 1;
		return true;
	case RECORD_MESSAGE:
		return apply_message(spool, record);
	case RECORD_DONE:
	case RECORD_DEFER:
		return apply_outcomes(spool,
		    (enum record_type)record->header.type, record->payload);
	case RECORD_ORDER:
		if (!order_decode(record->payload, &order))
			return false;
		standing_apply(&spool->orders, &order);
		return true;
	case RECORD_EVENT:
	case RECORD_PAD:
		return true;
	default:
		return false;
	}
}

static int
apply_records(struct recovery *r, struct segment *segment, struct scan *scan)
{
	struct spool *spool = r->spool;
	struct record record;

	scan->at = FORMAT_PAGE;
	scan->batch_end = 0;
	scan->end = scan->attested = segment->end;
	for (;;) {
		TRY(scan_next(scan, &record));
		if (record.found == FOUND_END)
			break;
		if (record.found == FOUND_DAMAGE)
			quarantine(spool, segment, record.offset,
			    record.next - record.offset,
			    "damaged: a checksum is wrong");
		else if (!apply_record(r, &record))
			quarantine(spool, segment, record.offset,
			    record.next - record.offset,
			    "a record that makes no sense");
		else if (spool->verification)
			spool->verification->result.records++;
	}
	segment->epoch = scan->epoch;
	return 0;
}

static int
load_segment(struct recovery *r, const struct found_segment *f)
{
	struct spool *spool = r->spool;
	struct segment *segment = segment_add(spool, f->number);
	struct scan scan;

	TRY(segment_ref(spool, f->number, &segment));
	scan_init(&scan, spool->io, segment->file, spool->seal);
	scan.segment = f->number;
	if (f->has_superblock)
		scan.epoch = (uint16_t)f->superblock.epoch;
	else
		quarantine(
		    spool, segment, 0, FORMAT_PAGE, "damaged superblock");
	int64_t size = spool->io->size(spool->io->owner, segment->file);
	int result = size < 0 ? (int)size : 0;
	if (result == 0)
		result = find_end(r, &scan, (uint64_t)size, segment);
	if (result == 0)
		result = apply_records(r, segment, &scan);
	segment->is_whole = size == (int64_t)spool->options.segment_size;
	scan_done(&scan);
	segment_unref(spool, segment);
	return result;
}

/* What was read behind `attested` may be in the page cache only; it may even
 * count as clean there, after a sync that failed. It is going to be acted on,
 * so it must not vanish: the same bytes are written to their place again. */
static int
rewrite_tail(struct spool *spool, const struct segment *last, int file)
{
	uint64_t from = last->attested & ~(uint64_t)(FORMAT_PAGE - 1);
	size_t len = last->end > from ? (size_t)(last->end - from) : 0;
	char *AUTO_FREE bytes = mem_alloc(len + 1);

	int64_t n = io_read(spool->io, file, bytes, len, from);
	if (n < 0)
		return (int)n;
	struct iovec iov = { bytes, (size_t)n };
	TRY(io_write(spool->io, file, &iov, 1, from));
	return spool->io->datasync(spool->io->owner, file);
}

static int
sync_last(struct recovery *r)
{
	struct spool *spool = r->spool;
	const struct spool_io *io = spool->io;

	if (r->count == 0 || spool->verification)
		return 0;
	const struct segment *last = spool->segments.all[r->count - 1];
	char *AUTO_FREE path = segment_path(spool, last->number);
	int file = io->open(io->owner, path, O_RDWR);
	if (file < 0)
		return file;
	int result = rewrite_tail(spool, last, file);
	(void)io->close(io->owner, file);
	if (result == 0)
		result = io->sync_directory(io->owner, spool->directory);
	atomic_store(&spool->durable_lsn, LSN(last->number, last->end));
	spool->next_segment = last->number;
	return result;
}

/* ---- 5. body files ----------------------------------------------------- */

struct bodies {
	struct spool *spool;
	struct map *seen;
	uint64_t *orphans;
	size_t count;
};

static void
on_body(void *arg, const char *name)
{
	struct bodies *bodies = arg;
	struct slot slot;
	uint64_t mno;

	if (!parse_hex(name, 16, &mno) || name[16] != '\0')
		return;
	if (index_get(&bodies->spool->index, mno, &slot) && slot.is_file) {
		(void)map_put_u64(bodies->seen, mno, bodies);
		return;
	}
	bodies->orphans = mem_resize(
	    bodies->orphans, bodies->count + 1, sizeof *bodies->orphans);
	bodies->orphans[bodies->count++] = mno;
}

/* A message whose body is gone is still told of: its sender must hear. */
static void
mark_bodiless(struct bodies *bodies)
{
	struct spool *spool = bodies->spool;
	size_t count;
	struct slot *all = index_all(&spool->index, &count);

	for (size_t i = 0; i < count; i++) {
		if (!all[i].is_file || map_get_u64(bodies->seen, all[i].mno))
			continue;
		(void)index_mark_damaged(&spool->index, all[i].mno);
		atomic_fetch_add(&spool->quarantined, 1);
		if (!spool->verification)
			continue;
		char *AUTO_FREE path = body_path(spool, all[i].mno);
		verify_problem(spool->verification, path, 0,
		    "the file of a body is missing");
	}
	mem_free(all);
}

static int
check_bodies(struct spool *spool)
{
	const struct spool_io *io = spool->io;
	struct bodies bodies = { .spool = spool, .seen = map_new() };
	char *AUTO_FREE directory = mem_printf("%s/big", spool->directory);

	int result = io->list(io->owner, directory, on_body, &bodies);
	if (result == 0)
		mark_bodiless(&bodies);
	for (size_t i = 0; i < bodies.count && !spool->verification; i++) {
		char *AUTO_FREE path = body_path(spool, bodies.orphans[i]);

		(void)io->unlink(io->owner, path);
	}
	mem_free(bodies.orphans);
	map_free(&bodies.seen, NULL);
	return result;
}

/* ---- all of it --------------------------------------------------------- */

static int
load_all(struct recovery *r)
{
	struct spool *spool = r->spool;

	for (size_t i = 0; i < r->count; i++)
		TRY(load_segment(r, &r->found[i]));
	TRY(sync_last(r));
	TRY(check_bodies(spool));
	spool->next_segment++;
	atomic_store(&spool->next_mno,
	    r->next_mno +
		(r->manifest.is_clean || r->next_mno == 0 ? 0 : MNO_GAP) +
		(r->next_mno == 0));
	return spool->verification ? 0 : manifest_write(spool, false);
}

static int
find_and_load(struct recovery *r)
{
	struct spool *spool = r->spool;

	TRY(spool->io->list(spool->io->owner, spool->directory, on_name, r));
	if (r->count > 0)
		qsort(r->found, r->count, sizeof *r->found, compare_number);
	check_pool(spool);
	TRY(read_identity(r));
	return load_all(r);
}

int
recover_scan(struct spool *spool, struct failure *ret_failure)
{
	struct recovery r = { .spool = spool };
	int result = find_and_load(&r);

	mem_free(r.found);
	if (result == ERR_VERSION)
		return failure_set(ret_failure, result,
		    "the spool %s was written by a newer version",
		    spool->directory);
	if (result == ERR_CORRUPT)
		return failure_set(ret_failure, result,
		    "the spool %s has segments but no readable manifest or "
		    "superblock; restore MANIFEST.a or MANIFEST.b",
		    spool->directory);
	if (result < 0)
		return failure_set(ret_failure, result,
		    "cannot read the spool %s: %s", spool->directory,
		    error_text(result));
	return 0;
}

void
recover_free(struct spool *spool)
{
	if (spool->rcpt_states)
		map_free(&spool->rcpt_states, mem_free);
}

/* ---- telling ----------------------------------------------------------- */

/* Envelope only: its sum was checked in the scan. */
static int
load_envelope(
    struct spool *spool, const struct slot *slot, struct stored *ret_stored)
{
	struct segment *segment;

	TRY(segment_ref(spool, slot->segment, &segment));
	int result = stored_load(spool, segment, slot, false, ret_stored);
	segment_unref(spool, segment);
	return result;
}

static void
tell(struct spool *spool, const struct slot *slot, spool_live_fn *on_message,
    void *arg)
{
	const struct rcpt_state *state =
	    map_get_u64(spool->rcpt_states, slot->mno);
	struct spool_live_rcpt *fresh = NULL;
	struct stored stored;

	if (load_envelope(spool, slot, &stored) < 0) {
		/* Readable a moment ago. */
		if (index_mark_damaged(&spool->index, slot->mno))
			atomic_fetch_add(&spool->quarantined, 1);
		return;
	}
	if (!state)
		fresh = mem_zalloc(stored.envelope.rcpt_count * sizeof *fresh);
	on_message(arg, &stored.envelope, state ? state->rcpts : fresh);
	mem_free(fresh);
	stored_done(&stored);
}

int
spool_recover(struct spool *spool, spool_live_fn *on_message,
    spool_order_fn *on_order, void *arg)
{
	size_t count;

	BUG_UNLESS(spool->rcpt_states);
	struct slot *all = index_all(&spool->index, &count);
	atomic_store(&spool->order_count, standing_count(spool->orders));
	for (const struct standing *s = spool->orders; s; s = s->next)
		on_order(arg, &s->order);
	for (size_t i = 0; i < count; i++)
		tell(spool, &all[i], on_message, arg);
	mem_free(all);
	recover_free(spool);
	return 0;
}
