/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A checkpoint is recovery's work done ahead: outcomes of sealed segments are
 * brought together with the messages they tell of, and each segment in which
 * something changed gets a new live file. The catalogue names them all; the
 * manifest that names the catalogue is the switch. All that these files tell
 * was durable before; so a crash in between costs nothing, and what nobody
 * names is removed by the next start.
 *
 * Afterwards the outcomes below `folded` have a second home: every segment
 * there is freed when its own messages are dead, in any order. Where mail is
 * delivered at once the log is freed from its old end, and no checkpoint is
 * ever due.
 */

#include "spool/checkpoint.h"

#include "base/bug.h"
#include "base/mem.h"
#include "os/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define PERIOD_US US_PER_S
#define FOLD_MAX 16 /* segments at a time: what their outcomes take is memory */
#define WORTH_MIN 2 /* segments: less is read again in no time */

/* ---- small things ------------------------------------------------------ */

int
pass_pace(struct pass *pass, uint64_t bytes)
{
	struct spool *spool = pass->spool;
	struct segments *all = &spool->segments;

	pass->bytes += bytes;
	int64_t until =
	    pass->started_us + (int64_t)(pass->bytes * (uint64_t)US_PER_S /
					 spool->options.pass_rate);
	(void)pthread_mutex_lock(&all->lock);
	while (!all->is_closing && clock_monotonic_us() < until)
		cond_wait_until(&all->sealed, &all->lock, until);
	bool is_closing = all->is_closing;
	(void)pthread_mutex_unlock(&all->lock);
	return is_closing ? -ECANCELED : 0;
}

static int
put_file(struct pass *pass, const char *path, const struct buf *b)
{
	const struct spool_io *io = pass->spool->io;

	TRY(io_put(io, path, O_TRUNC, buf_span(b)));
	return pass_pace(pass, buf_size(b));
}

static void
remove_file(struct spool *spool, char *path_take)
{
	/* What stays behind is removed at the next start. */
	(void)spool->io->unlink(spool->io->owner, path_take);
	mem_free(path_take);
}

/* ---- outcomes ---------------------------------------------------------- */

/* Up to which number segments are folded in, and their outcomes. */
static int
fold_log(struct pass *pass)
{
	struct spool *spool = pass->spool;
	size_t count, folded = 0;
	struct segment *all = segment_all(spool, &count);
	int result = 0;

	while (count > 0 && (all[count - 1].number & COPIES_BIT))
		count--;
	pass->next.folded = spool->segments.folded;
	pass->fold.live_only = true;
	/* The last one may still be written to. What was written a moment ago
	 * is in memory: reading it is not held back, or a log that grows faster
	 * than the rate would never be caught up with. */
	for (size_t i = 0; i + 1 < count && result == 0; i++) {
		if (all[i].number < spool->segments.folded)
			continue;
		if (folded++ == FOLD_MAX)
			break;
		result = fold_scan(&pass->fold, all[i].number);
		/* Freed from the old end: nobody needs what it says. */
		if (result == ERR_NOT_FOUND)
			result = 0;
		if (result == 0)
			result = pass_pace(pass, 0);
		pass->next.folded = all[i + 1].number;
	}
	mem_free(all);
	fold_finish(&pass->fold);
	return result;
}

/* ---- a segment --------------------------------------------------------- */

bool
pass_wants(struct pass *pass, struct live_entry *entry)
{
	struct slot slot;

	/* What is dead by now has a durable outcome: it may be left out. */
	if (!index_get(&pass->spool->index, entry->message.mno, &slot) ||
	    slot.segment != pass->segment || slot.at != entry->at)
		return false;
	fold_apply(&pass->fold, entry);
	return live_count(entry) > 0;
}

void
content_add(struct content *content, const struct live_entry *entry)
{
	live_encode(entry, &content->entries);
	content->count++;
	content->live_bytes += FORMAT_HEADER + format_aligned(entry->len);
}

void
content_add_body(struct content *content, const struct live_body *body)
{
	live_body_encode(body, &content->bodies);
	content->body_count++;
	content->count++;
	content->live_bytes += FORMAT_HEADER + format_aligned(body->len);
}

void
content_done(struct content *content)
{
	buf_done(&content->bodies);
	buf_done(&content->entries);
}

static void
content_clear(struct content *content)
{
	buf_clear(&content->bodies);
	buf_clear(&content->entries);
	content->body_count = 0;
	content->count = content->live_bytes = 0;
}

void
pass_keep(struct pass *pass, const struct live_entry *entry)
{
	content_add(&pass->live, entry);
}

void
pass_keep_body(struct pass *pass, const struct body *body)
{
	const struct live_body kept = {
		.number = body->number,
		.at = body->at,
		.len = body->len,
	};

	content_add_body(&pass->live, &kept);
}

int
pass_each_body(struct pass *pass, pass_body_fn *fn)
{
	size_t low = 0, high = pass->body_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (pass->bodies[middle].segment < pass->segment)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < pass->body_count; low++) {
		const struct body *body = &pass->bodies[low];

		if (body->segment != pass->segment)
			break;
		/* What nobody needs by now is never needed again. */
		if (bodies_is_at(pass->spool, body))
			TRY(fn(pass, body));
	}
	return 0;
}

static int
keep_entry(void *arg, struct live_entry *entry)
{
	if (pass_wants(arg, entry))
		pass_keep(arg, entry);
	return 0;
}

int
pass_write_live(
    struct pass *pass, struct content *content, struct catalogue_item *item)
{
	struct spool *spool = pass->spool;
	struct live_file file = {
		.segment = item->segment,
		.serial = pass->next.serial,
		.count = content->count,
		.bodies = content->body_count,
	};
	uint8_t header[LIVE_HEADER] = { 0 };
	struct buf bytes = BUF_EMPTY;

	buf_append(&bytes, span_from((char *)header, sizeof header));
	buf_append(&bytes, buf_span(&content->bodies));
	buf_append(&bytes, buf_span(&content->entries));
	live_file_encode(&file, spool->seal,
	    span_skip(buf_span(&bytes), LIVE_HEADER), header);
	memcpy(bytes.ptr, header, sizeof header);
	item->entries = content->count;
	item->live_bytes = content->live_bytes;
	item->live_serial = file.serial;
	item->live_crc = file.crc;
	char *AUTO_FREE path = live_path(spool, item->segment, file.serial);
	int result = put_file(pass, path, &bytes);
	buf_done(&bytes);
	return result;
}

static int
keep_body(struct pass *pass, const struct body *body)
{
	pass_keep_body(pass, body);
	return 0;
}

static int
keep_all(struct pass *pass, const struct segment *s)
{
	TRY(fold_each(pass->spool, s->number, keep_entry, pass));
	return pass_each_body(pass, keep_body);
}

static int
refresh(struct pass *pass, const struct segment *s, struct catalogue_item *item)
{
	content_clear(&pass->live);
	pass->segment = s->number;
	int result = compact_is_victim(pass, s) ? compact_segment(pass, s)
						: keep_all(pass, s);
	if (result == ERR_NOT_FOUND)
		return 0; /* freed just now */
	TRY(result);
	TRY(pass_pace(pass, s->live_serial != 0 ? 0 : s->end));
	if (pass->live.count == 0)
		return 0;
	return pass_write_live(pass, &pass->live, item);
}

void
pass_add_item(struct pass *pass, const struct catalogue_item *item)
{
	struct catalogue *c = &pass->next;

	c->items = mem_resize(c->items, c->count + 1, sizeof *c->items);
	c->items[c->count++] = *item;
}

static int
add_segment(struct pass *pass, const struct segment *s)
{
	struct catalogue_item item = {
		.segment = s->number,
		.end = s->end,
	};
	/* Messages only go, never come: equal numbers are the same messages. */
	bool is_same = s->live_serial != 0 && s->live == s->entries &&
		       !s->is_touched && !compact_is_victim(pass, s);

	if (s->live > 0 && is_same) {
		item.live_serial = s->live_serial;
		item.live_crc = s->live_crc;
		item.entries = s->entries;
		item.live_bytes = s->live_bytes;
	} else if (s->live > 0) {
		TRY(refresh(pass, s, &item));
	}
	/* An empty segment of the log is listed for its end. */
	if (item.live_serial != 0 || !(s->number & COPIES_BIT))
		pass_add_item(pass, &item);
	return 0;
}

static int
add_items(struct pass *pass)
{
	size_t count;
	struct segment *all = segment_all(pass->spool, &count);
	int result = 0;

	pass->bodies = bodies_all(pass->spool, &pass->body_count);
	for (size_t i = 0; i < count && result == 0; i++) {
		if ((all[i].number & COPIES_BIT) != 0 ||
		    all[i].number < pass->next.folded)
			result = add_segment(pass, &all[i]);
	}
	mem_free(all);
	return result < 0 ? result : compact_finish(pass);
}

/* ---- the switch -------------------------------------------------------- */

static int
publish(struct pass *pass)
{
	struct spool *spool = pass->spool;
	const struct spool_io *io = spool->io;
	char *AUTO_FREE path = catalogue_path(spool, pass->next.serial);
	uint64_t before = spool->catalogue_serial;
	struct buf bytes = BUF_EMPTY;

	pass->next.next_mno = atomic_load(&spool->next_mno);
	catalogue_encode(&pass->next, spool->seal, &bytes);
	int result = put_file(pass, path, &bytes);
	buf_done(&bytes);
	TRY(result);
	TRY(io->sync_directory(io->owner, spool->directory));
	pass->is_named = true;
	spool->catalogue_serial = pass->next.serial;
	result = manifest_write(spool, false);
	if (result < 0)
		spool->catalogue_serial = before;
	return result;
}

static void
adopt(struct pass *pass, uint64_t before)
{
	struct spool *spool = pass->spool;
	struct segments *all = &spool->segments;

	compact_adopt(pass);
	for (uint32_t i = 0; i < pass->next.count; i++) {
		const struct catalogue_item *item = &pass->next.items[i];
		uint64_t old = segment_adopt(spool, item);

		if (old != 0)
			remove_file(
			    spool, live_path(spool, item->segment, old));
	}
	if (before != 0)
		remove_file(spool, catalogue_path(spool, before));
	(void)pthread_mutex_lock(&all->lock);
	all->folded = pass->next.folded;
	(void)pthread_cond_signal(&all->chores);
	(void)pthread_mutex_unlock(&all->lock);
	atomic_store(&spool->is_incomplete, false);
	atomic_fetch_add(&spool->checkpoints, 1);
}

static void
forget_files(struct pass *pass)
{
	struct spool *spool = pass->spool;
	uint64_t serial = pass->next.serial;

	for (uint32_t i = 0; i < pass->next.count; i++) {
		if (pass->next.items[i].live_serial == serial)
			remove_file(
			    spool, live_path(spool, pass->next.items[i].segment,
				       serial));
	}
	remove_file(spool, catalogue_path(spool, serial));
}

/* 1: the disk may name the new catalogue or the old one. Files of both stay,
 * and nothing more is tried. */
static int
run_pass(struct spool *spool)
{
	struct pass pass = {
		.spool = spool,
		.fold = { .spool = spool },
		.next = { .serial = ++spool->last_serial },
		.started_us = clock_monotonic_us(),
	};
	uint64_t before = spool->catalogue_serial;

	segment_untouch(spool);
	int result = fold_log(&pass);
	if (result == 0)
		result = add_items(&pass);
	if (result == 0)
		result = publish(&pass);
	if (result == 0)
		adopt(&pass, before);
	else if (!pass.is_named)
		forget_files(&pass);
	compact_done(&pass);
	fold_done(&pass.fold);
	content_done(&pass.live);
	mem_free(pass.bodies);
	mem_free(pass.next.items);
	atomic_store(&spool->checkpoint_error, result);
	return result < 0 && pass.is_named ? 1 : result;
}

/* ---- when -------------------------------------------------------------- */

/* Sealed segments that no catalogue covers. */
static unsigned
count_waiting(const struct segments *all, int64_t *ret_since_us)
{
	unsigned count = 0;
	size_t last = all->count;

	*ret_since_us = 0;
	while (last > 0 && (all->all[last - 1]->number & COPIES_BIT))
		last--;
	for (size_t i = 0; i + 1 < last; i++) {
		if (all->all[i]->number < all->folded)
			continue;
		if (count++ == 0)
			*ret_since_us = all->all[i]->sealed_us;
	}
	return count;
}

static bool
is_due(struct spool *spool, int64_t last_us)
{
	const struct spool_options *o = &spool->options;
	struct segments *all = &spool->segments;
	int64_t now_us = clock_monotonic_us(), since_us;

	if (atomic_load(&spool->is_loading) || atomic_load(&spool->failed))
		return false;
	(void)pthread_mutex_lock(&all->lock);
	unsigned waiting = count_waiting(all, &since_us);
	(void)pthread_mutex_unlock(&all->lock);
	if (since_us < last_us)
		since_us = last_us;
	if (atomic_load(&spool->checkpoint_error) < 0)
		return now_us - last_us >= o->pass_age_us;
	if (waiting >= o->pass_segments || atomic_load(&spool->is_incomplete))
		return true;
	if (atomic_load(&spool->space) != SPOOL_SPACE_OK)
		return waiting > 0 || now_us - last_us >= o->pass_age_us;
	return waiting >= WORTH_MIN && now_us - since_us >= o->pass_age_us;
}

void *
folder_thread(void *arg)
{
	struct spool *spool = arg;
	struct segments *all = &spool->segments;
	int64_t last_us = clock_monotonic_us();
	struct scrubbing scrubbing = { 0 };
	int result = 0;

	for (;;) {
		scrub(spool, &scrubbing);
		if (result <= 0 && is_due(spool, last_us)) {
			result = run_pass(spool);
			last_us = clock_monotonic_us();
		}
		(void)pthread_mutex_lock(&all->lock);
		if (!all->is_closing)
			cond_wait_until(&all->sealed, &all->lock,
			    clock_monotonic_us() + PERIOD_US);
		bool is_closing = all->is_closing;
		(void)pthread_mutex_unlock(&all->lock);
		if (is_closing)
			return NULL;
	}
}
