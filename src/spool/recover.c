/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What must be known before mail is accepted:
 *  1. list: segments, prepared files, catalogues, leftovers;
 *  2. identity and epoch from the manifests or, failing these, superblocks;
 *  3. the catalogue that the manifest names: how far the log is folded in;
 *  4. how far each segment goes: the catalogue or a later superblock says so
 *     exactly, else the batches do (README.md, "Where the log ends");
 *  5. the standing orders; what nobody names is removed.
 * Nothing in a segment is changed. The next batch goes to a new one. Messages
 * are loaded afterwards (load.c).
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

struct found_segment {
	uint32_t number;
	bool has_superblock;
	int64_t size; /* of the file, or a negative code */
	struct superblock superblock;
};

struct found_file { /* a live file; segment 0: a catalogue */
	uint32_t segment;
	uint64_t serial;
};

struct recovery {
	struct spool *spool;
	struct found_segment *found;
	size_t count;
	struct found_file *files;
	size_t file_count;
	struct catalogue catalogue; /* serial 0: none */
	bool is_lost; /* there should be a catalogue */
	struct superblock manifest; /* the newest; serial 0: none */
	uint64_t next_mno;
	uint32_t epoch; /* largest seen */
	int version_error;
};

/* ---- 1. list ----------------------------------------------------------- */

bool
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
add_file(struct recovery *r, uint64_t segment, uint64_t serial)
{
	if (segment > UINT32_MAX)
		return;
	if (serial > r->spool->last_serial)
		r->spool->last_serial = serial;
	r->files = mem_resize(r->files, r->file_count + 1, sizeof *r->files);
	r->files[r->file_count++] =
	    (struct found_file){ (uint32_t)segment, serial };
}

static void
on_name(void *arg, const char *name)
{
	struct recovery *r = arg;
	uint64_t number, serial;

	if (!parse_hex(name, 16, &number))
		return;
	if (strcmp(name + 16, ".seg") == 0)
		add_segment(r, number);
	else if (strcmp(name + 16, ".free") == 0)
		add_prepared(r, name, number);
	else if (strcmp(name + 16, ".catalogue") == 0)
		add_file(r, 0, number);
	else if (name[16] == '.' && parse_hex(name + 17, 16, &serial) &&
		 strcmp(name + 33, ".live") == 0)
		add_file(r, number, serial);
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
    struct superblock *ret_sb, int64_t *ret_size)
{
	const struct spool_io *io = r->spool->io;
	uint8_t page[FORMAT_PAGE];
	struct superblock sb;

	int file = io->open(io->owner, path, O_RDONLY);
	if (file < 0)
		return file;
	int64_t n = io_read(io, file, page, sizeof page, 0);
	*ret_size = io->size(io->owner, file);
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

	sb.serial = spool->manifest_serial + 1;
	sb.is_clean = is_clean;
	/* Nobody writes to a former life's segment: what was void there stays
	 * void, also after a clean manifest is no more. */
	sb.is_end =
	    is_clean || LSN_SEGMENT(sb.durable_lsn) < spool->first_segment;
	sb.catalogue = spool->catalogue_serial;
	superblock_encode(&sb, page);
	char *AUTO_FREE path = manifest_path(spool, sb.serial);
	TRY(io_put(spool->io, path, 0, span_from(page, sizeof page)));
	TRY(spool->io->sync_directory(spool->io->owner, spool->directory));
	/* After a failure the same page is written the next time, not the one
	 * that is good. */
	spool->manifest_serial = sb.serial;
	return 0;
}

static void
read_manifests(struct recovery *r)
{
	struct superblock sb;
	int64_t size;

	for (uint64_t i = 0; i < 2; i++) {
		char *AUTO_FREE path = manifest_path(r->spool, i);

		if (read_superblock(r, path, SUPERBLOCK_MANIFEST, &sb, &size) ==
			0 &&
		    sb.serial > r->manifest.serial)
			r->manifest = sb;
	}
}

static enum superblock_kind
kind_of(uint32_t number)
{
	return number & COPIES_BIT ? SUPERBLOCK_COPIES : SUPERBLOCK_SEGMENT;
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

		f->has_superblock = read_superblock(r, path, kind_of(f->number),
					&f->superblock, &f->size) == 0 &&
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

/* ---- 3. the catalogue -------------------------------------------------- */

char *
catalogue_path(const struct spool *spool, uint64_t serial)
{
	return mem_printf(
	    "%s/%016" PRIx64 ".catalogue", spool->directory, serial);
}

static bool
read_catalogue(struct recovery *r, uint64_t serial)
{
	struct spool *spool = r->spool;
	char *AUTO_FREE path = catalogue_path(spool, serial);
	struct buf bytes = BUF_EMPTY;
	struct catalogue c;

	bool is_good = fold_read_file(spool, path, &bytes) == 0 &&
		       catalogue_decode(buf_span(&bytes), spool->seal, &c);
	buf_done(&bytes);
	if (!is_good)
		return false;
	if (c.serial != serial) {
		mem_free(c.items);
		return false;
	}
	r->catalogue = c;
	return true;
}

/* Without a manifest the newest catalogue counts: all that one tells is durable
 * before it is written. */
static uint64_t
guess_catalogue(const struct recovery *r)
{
	uint64_t guess = 0, any = 0;

	for (size_t i = 0; i < r->file_count; i++) {
		const struct found_file *f = &r->files[i];

		if (f->segment == 0 && f->serial > guess)
			guess = f->serial;
		if (f->serial > any)
			any = f->serial;
	}
	for (size_t i = 0; i < r->count; i++)
		any += any == 0 && (r->found[i].number & COPIES_BIT);
	return guess > 0 ? guess : any;
}

static void
find_catalogue(struct recovery *r)
{
	uint64_t wanted = r->manifest.catalogue;

	if (r->manifest.serial == 0)
		wanted = guess_catalogue(r);
	if (wanted > r->spool->last_serial)
		r->spool->last_serial = wanted;
	/* If it is lost, it must be so for the next start, too. */
	r->spool->catalogue_serial = wanted;
	if (wanted == 0 || read_catalogue(r, wanted))
		return;
	char *AUTO_FREE path = catalogue_path(r->spool, wanted);
	quarantine_file(r->spool, path,
	    "the catalogue is missing or damaged: everything is read");
	r->is_lost = true;
	atomic_store(&r->spool->is_incomplete, true);
}

static const struct catalogue_item *
item_of(const struct recovery *r, uint32_t number)
{
	for (uint32_t i = 0; i < r->catalogue.count; i++) {
		if (r->catalogue.items[i].segment == number)
			return &r->catalogue.items[i];
	}
	return NULL;
}

/* The newest of a segment's live files; all that one tells is durable, too. */
static uint64_t
newest_live_file(const struct recovery *r, uint32_t number)
{
	uint64_t serial = 0;

	for (size_t i = 0; i < r->file_count; i++) {
		if (r->files[i].segment == number &&
		    r->files[i].serial > serial)
			serial = r->files[i].serial;
	}
	return serial;
}

/* ---- 4. where the log ends --------------------------------------------- */

/* What is known from outside of a segment's end. */
static uint64_t
told_end(const struct recovery *r, uint32_t number, bool *ret_is_exact)
{
	uint64_t told = 0;
	bool is_exact = false;

	for (size_t i = 0; i < r->count; i++) {
		uint64_t lsn = r->found[i].superblock.durable_lsn;

		if (!r->found[i].has_superblock ||
		    (r->found[i].number & COPIES_BIT) ||
		    LSN_SEGMENT(lsn) != number)
			continue;
		is_exact = true;
		if (LSN_OFFSET(lsn) > told)
			told = LSN_OFFSET(lsn);
	}
	uint64_t lsn = r->manifest.durable_lsn;
	if (LSN_SEGMENT(lsn) == number) {
		is_exact |= r->manifest.is_end;
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
	r->spool->batch_no = tail.batch_no + 1;
	scan->attested = segment->attested = told;
	scan->end = size > told ? size : told;
	TRY(scan_find_end(scan, &segment->end));
	if (r->spool->verification && scan->batch_end > segment->end)
		r->spool->verification->result.torn_bytes +=
		    scan->batch_end - segment->end;
	return 0;
}

/* Freed before, or never finished: its name came back with the power. */
static bool
is_leftover(const struct recovery *r, uint32_t number)
{
	if (r->is_lost || item_of(r, number))
		return false;
	return (number & COPIES_BIT) != 0 || number < r->catalogue.folded;
}

static void
take_item(struct recovery *r, struct segment *segment, int64_t size)
{
	const struct catalogue_item *item = item_of(r, segment->number);

	if (r->is_lost) {
		segment->live_serial = newest_live_file(r, segment->number);
		segment->end = (uint64_t)size;
	} else if (item) {
		segment->live_serial = item->live_serial;
		segment->live_crc = item->live_crc;
		segment->entries = item->entries;
		segment->live_bytes = item->live_bytes;
		segment->end = item->end;
	}
	segment->attested = segment->end;
}

static int
scan_end(
    struct recovery *r, const struct found_segment *f, struct segment *segment)
{
	struct spool *spool = r->spool;
	struct scan scan;

	scan_init(&scan, spool->io, segment->file, spool->seal);
	scan.segment = f->number;
	if (f->has_superblock)
		scan.epoch = (uint16_t)f->superblock.epoch;
	int result = find_end(r, &scan, (uint64_t)f->size, segment);
	scan_done(&scan);
	return result;
}

static int
find_segment(struct recovery *r, const struct found_segment *f)
{
	struct spool *spool = r->spool;
	struct segment *segment;

	if (f->size < 0)
		return (int)f->size;
	segment = segment_add(spool, f->number);
	segment->is_whole = f->size == (int64_t)spool->options.segment_size &&
			    !(f->number & COPIES_BIT);
	TRY(segment_ref(spool, f->number, &segment));
	if (f->has_superblock)
		segment->epoch = (uint16_t)f->superblock.epoch;
	else
		quarantine(
		    spool, segment, 0, FORMAT_PAGE, "damaged superblock");
	take_item(r, segment, f->size);
	bool is_told = (f->number & COPIES_BIT) ||
		       (!r->is_lost && f->number < r->catalogue.folded);
	int result = is_told ? 0 : scan_end(r, f, segment);
	segment_unref(spool, segment);
	return result;
}

static int
find_segments(struct recovery *r)
{
	for (size_t i = 0; i < r->count; i++) {
		if (!is_leftover(r, r->found[i].number))
			TRY(find_segment(r, &r->found[i]));
	}
	r->spool->segments.folded = r->catalogue.folded;
	return 0;
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

/* NULL: there is no log yet. */
static const struct segment *
last_of_log(const struct spool *spool)
{
	const struct segments *all = &spool->segments;
	size_t count = all->count;

	while (count > 0 && (all->all[count - 1]->number & COPIES_BIT))
		count--;
	return count > 0 ? all->all[count - 1] : NULL;
}

static int
sync_last(struct recovery *r)
{
	struct spool *spool = r->spool;
	const struct spool_io *io = spool->io;

	const struct segment *last = last_of_log(spool);
	if (!last)
		return 0;
	spool->next_segment = last->number;
	if (spool->verification)
		return 0;
	char *AUTO_FREE path = segment_path(spool, last->number);
	int file = io->open(io->owner, path, O_RDWR);
	if (file < 0)
		return file;
	int result = rewrite_tail(spool, last, file);
	(void)io->close(io->owner, file);
	if (result == 0)
		result = io->sync_directory(io->owner, spool->directory);
	atomic_store(&spool->durable_lsn, LSN(last->number, last->end));
	return result;
}

/* ---- 5. orders and leftovers ------------------------------------------- */

/* Applies the orders of one segment. 1: something there is damaged. */
static int
read_orders(struct spool *spool, uint32_t number, bool *ret_has_some)
{
	struct spool_order order;
	struct segment *segment;
	struct record record;
	struct scan scan;
	int damage = 0;

	TRY(segment_ref(spool, number, &segment));
	scan_init(&scan, spool->io, segment->file, spool->seal);
	scan.segment = number;
	scan.epoch = segment->epoch;
	scan.end = scan.attested = segment->end;
	scan.wanted = 1u << RECORD_ORDER;
	int result = scan_next(&scan, &record);
	for (; result == 0 && record.found != FOUND_END;
	     result = scan_next(&scan, &record)) {
		damage |= record.found == FOUND_DAMAGE;
		if (record.found == FOUND_DAMAGE)
			continue;
		*ret_has_some |= record.header.type != RECORD_BATCH &&
				 record.header.type != RECORD_PAD;
		if (record.header.type == RECORD_ORDER &&
		    order_decode(record.payload, &order))
			standing_apply(&spool->orders, &order);
	}
	scan_done(&scan);
	segment_unref(spool, segment);
	return result < 0 ? result : damage;
}

/* The first transaction of a segment repeats all orders that stand. So the last
 * segment with a whole one is enough, unless it is damaged. */
static int
find_orders(struct recovery *r)
{
	struct spool *spool = r->spool;
	const struct segments *all = &spool->segments;
	size_t count = all->count;
	bool has_some = false;
	int damage = 0;

	while (count > 0 && !has_some && damage == 0) {
		uint32_t number = all->all[--count]->number;

		if (number & COPIES_BIT)
			continue;
		standing_free(&spool->orders);
		damage = read_orders(spool, number, &has_some);
		TRY(damage);
	}
	for (size_t i = 0; damage > 0 && i < all->count; i++) {
		if (i == 0)
			standing_free(&spool->orders);
		if (!(all->all[i]->number & COPIES_BIT))
			TRY(read_orders(spool, all->all[i]->number, &has_some));
	}
	return 0;
}

static bool
is_named(const struct recovery *r, const struct found_file *f)
{
	const struct catalogue_item *item = item_of(r, f->segment);

	if (f->segment == 0)
		return f->serial == r->catalogue.serial;
	return item && item->live_serial == f->serial;
}

/* Nothing here is needed: no harm if it stays. After a lost catalogue all is
 * kept until there is a new one. */
static void
remove_leftovers(struct recovery *r)
{
	struct spool *spool = r->spool;
	const struct spool_io *io = spool->io;

	if (r->is_lost)
		return;
	for (size_t i = 0; i < r->count; i++) {
		char *AUTO_FREE path = segment_path(spool, r->found[i].number);

		if (is_leftover(r, r->found[i].number))
			(void)io->unlink(io->owner, path);
	}
	for (size_t i = 0; i < r->file_count; i++) {
		const struct found_file *f = &r->files[i];
		char *AUTO_FREE path =
		    f->segment == 0 ? catalogue_path(spool, f->serial)
				    : live_path(spool, f->segment, f->serial);

		if (!is_named(r, f))
			(void)io->unlink(io->owner, path);
	}
}

/* ---- all of it --------------------------------------------------------- */

/* Numbers are never used twice, also not those of what is gone. */
static void
set_numbers(struct recovery *r)
{
	struct spool *spool = r->spool;
	bool is_exact = r->manifest.is_clean || r->next_mno == 0;
	uint64_t next = r->next_mno;

	if (r->catalogue.next_mno > next)
		next = r->catalogue.next_mno;
	next += (is_exact ? 0 : MNO_GAP) + (r->next_mno == 0);
	atomic_store(&spool->next_mno, next);
	spool->first_mno = next;
	spool->next_segment++;
	if (spool->next_segment < r->catalogue.folded)
		spool->next_segment = r->catalogue.folded + 1;
	spool->first_segment = spool->next_segment;
	atomic_store(&spool->order_count, standing_count(spool->orders));
	spool->next_copies = COPIES_BIT;
	for (size_t i = 0; i < r->count; i++) {
		if (r->found[i].number >= spool->next_copies)
			spool->next_copies = r->found[i].number + 1;
	}
	for (uint32_t i = 0; i < r->catalogue.count; i++) {
		if (r->catalogue.items[i].segment >= spool->next_copies)
			spool->next_copies = r->catalogue.items[i].segment + 1;
	}
}

static int
find_all(struct recovery *r)
{
	struct spool *spool = r->spool;

	TRY(spool->io->list(spool->io->owner, spool->directory, on_name, r));
	if (r->count > 0)
		qsort(r->found, r->count, sizeof *r->found, compare_number);
	check_pool(spool);
	TRY(read_identity(r));
	find_catalogue(r);
	TRY(find_segments(r));
	TRY(sync_last(r));
	TRY(find_orders(r));
	set_numbers(r);
	if (spool->verification)
		return 0;
	/* What was read may be in the page cache only: nothing goes before a
	 * manifest that does not need it is durable. */
	TRY(manifest_write(spool, false));
	remove_leftovers(r);
	return 0;
}

int
recover_scan(struct spool *spool, struct failure *ret_failure)
{
	struct recovery r = { .spool = spool };
	int result = find_all(&r);

	mem_free(r.found);
	mem_free(r.files);
	mem_free(r.catalogue.items);
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
