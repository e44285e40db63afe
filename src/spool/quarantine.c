/* SPDX-License-Identifier: Apache-2.0 */

/* Damage is kept for people to look at, and counted. */

#include "base/map.h"
#include "base/mem.h"
#include "spool/internal.h"

#include <fcntl.h>
#include <inttypes.h>

#define QUARANTINE_FILES 1000
#define QUARANTINE_BYTES (1u << 20)
#define TOLD_MAX (1u << 16)
#define ENVELOPE_SHOWN 4096u /* of a message whose length nobody knows */

/* Recovery, checkpoints and verification look at the same places. */
static bool
is_news(struct spool *spool, uint64_t lsn)
{
	(void)pthread_mutex_lock(&spool->event_lock);
	bool is_news = !map_get_u64(spool->damage, lsn);
	if (is_news && map_count(spool->damage) < TOLD_MAX)
		(void)map_put_u64(spool->damage, lsn, spool);
	(void)pthread_mutex_unlock(&spool->event_lock);
	return is_news;
}

void
quarantine(struct spool *spool, struct segment *segment, uint64_t offset,
    uint64_t len, const char *problem)
{
	if (!is_news(spool, LSN(segment->number, offset)))
		return;
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

void
quarantine_file(struct spool *spool, const char *path, const char *problem)
{
	if (spool->verification) {
		verify_problem(spool->verification, path, 0, problem);
		return;
	}
	atomic_fetch_add(&spool->quarantined, 1);
}

void
quarantine_message(
    struct spool *spool, const struct slot *slot, const char *problem)
{
	uint64_t len = slot->is_shared ? ENVELOPE_SHOWN
				       : FORMAT_HEADER + (uint64_t)slot->len;
	struct segment *segment;

	if (!index_mark_damaged(&spool->index, slot->mno))
		return;
	if (segment_ref(spool, slot->segment, &segment) < 0) {
		/* It has moved, or its file cannot be opened: it is counted
		 * all the same. */
		char *AUTO_FREE path = segment_path(spool, slot->segment);

		quarantine_file(spool, path, problem);
		return;
	}
	quarantine(
	    spool, segment, (uint64_t)slot->at * FORMAT_ALIGN, len, problem);
	segment_unref(spool, segment);
}

static void
quarantine_sharers(struct spool *spool, uint32_t handle)
{
	size_t count;
	struct slot *all = index_all(&spool->index, INDEX_SHARED, &count);

	for (size_t i = 0; i < count; i++) {
		if (all[i].len == handle)
			quarantine_message(spool, &all[i],
			    "the body that it shares is damaged");
	}
	mem_free(all);
}

void
quarantine_body(
    struct spool *spool, const struct body *body, const char *problem)
{
	struct segment *segment;

	if (!bodies_mark_damaged(spool, body))
		return;
	if (segment_ref(spool, body->segment, &segment) == 0) {
		quarantine(spool, segment, (uint64_t)body->at * FORMAT_ALIGN,
		    FORMAT_HEADER + (uint64_t)body->len, problem);
		segment_unref(spool, segment);
	}
	recent_forget(&spool->recent, body->number);
	quarantine_sharers(spool, body->handle);
}

void
quarantine_place(struct spool *spool, const struct slot *place)
{
	struct slot slot;
	struct body body;

	if (index_find(&spool->index, place, &slot))
		(void)index_mark_damaged(&spool->index, slot.mno);
	else if (bodies_find_at(spool, place, &body))
		quarantine_body(spool, &body, "damaged: a checksum is wrong");
}
