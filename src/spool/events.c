/* SPDX-License-Identifier: Apache-2.0 */

/* Readers that follow the log. A position is an lsn; it moves over whatever
 * was looked at, so that nothing is read twice. */

#include "base/bug.h"
#include "base/mem.h"
#include "os/clock.h"
#include "spool/internal.h"

#define BYTES_MAX (1u << 20)
#define READ_TRIES 100

struct reading {
	spool_event_fn *fn;
	void *arg;
	uint64_t bytes;
	bool has_some;
	bool is_refused; /* by fn */
};

/* Reads on in one segment up to `end`. */
static int
read_segment(struct reading *reading, struct scan *scan, uint64_t *offset)
{
	struct record r;

	while (reading->bytes < BYTES_MAX) {
		TRY(scan_next(scan, &r));
		if (r.found == FOUND_END) {
			*offset = scan->end;
			return 0;
		}
		if (r.found == FOUND_RECORD && r.header.type == RECORD_EVENT) {
			int result = reading->fn(reading->arg, r.payload);

			reading->is_refused = result < 0;
			TRY(result);
			reading->bytes += r.payload.len;
			reading->has_some = true;
		}
		*offset = r.next < scan->end ? r.next : scan->end;
	}
	return 0;
}

/* A page that cannot be read may be readable the next time: events are not
 * skipped lightly. But one bad page must not hold up all that come after it
 * for good. */
static bool
is_hopeless(struct spool *spool, uint64_t lsn)
{
	(void)pthread_mutex_lock(&spool->event_lock);
	bool is_hopeless = spool->unreadable_lsn == lsn &&
			   spool->unreadable_count >= READ_TRIES;
	(void)pthread_mutex_unlock(&spool->event_lock);
	return is_hopeless;
}

static void
note_unreadable(struct spool *spool, uint64_t lsn)
{
	(void)pthread_mutex_lock(&spool->event_lock);
	if (spool->unreadable_lsn != lsn)
		spool->unreadable_count = 0;
	spool->unreadable_lsn = lsn;
	spool->unreadable_count++;
	(void)pthread_mutex_unlock(&spool->event_lock);
}

/* One step: what one segment has from *lsn on. ERR_NOT_FOUND: there is none. */
static int
read_from(struct spool *spool, struct reading *reading, uint64_t *lsn)
{
	uint64_t offset = LSN_OFFSET(*lsn);
	struct segment *segment;
	struct scan scan;

	TRY(segment_ref_from(spool, LSN_SEGMENT(*lsn), &segment));
	if (segment->number != LSN_SEGMENT(*lsn) || offset < FORMAT_PAGE)
		offset = FORMAT_PAGE;
	scan_init(&scan, spool->io, segment->file, spool->seal);
	scan.segment = segment->number;
	scan.epoch = segment->epoch;
	scan.at = offset & ~(uint64_t)(FORMAT_ALIGN - 1);
	scan.end = scan.attested = segment_end(spool, segment);
	scan.wanted = 1u << RECORD_EVENT;
	scan.is_strict = !is_hopeless(spool, LSN(segment->number, scan.at));
	int result = 0;
	if (scan.at < scan.end)
		result = read_segment(reading, &scan, &offset);
	*lsn = LSN(segment->number, offset);
	if (result < 0 && !reading->is_refused)
		note_unreadable(spool, *lsn);
	scan_done(&scan);
	segment_unref(spool, segment);
	return result;
}

int
spool_events_read(
    struct spool *spool, uint64_t *lsn, spool_event_fn *fn, void *arg)
{
	struct reading reading = { .fn = fn, .arg = arg };
	/* Everything up to here was durable when we began. */
	uint64_t durable = atomic_load(&spool->durable_lsn);

	while (*lsn < durable && reading.bytes < BYTES_MAX) {
		uint64_t before = *lsn;
		int result = read_from(spool, &reading, lsn);

		if (result == ERR_NOT_FOUND)
			break;
		TRY(result);
		if (*lsn >= durable || reading.bytes >= BYTES_MAX)
			break;
		/* At the end of a segment that is not the last: the next. */
		if (*lsn == before)
			*lsn = LSN(LSN_SEGMENT(*lsn) + 1, 0);
	}
	return reading.has_some;
}

void
spool_events_wait(struct spool *spool, uint64_t lsn, int64_t timeout_us)
{
	int64_t deadline = clock_monotonic_us() + timeout_us;

	(void)pthread_mutex_lock(&spool->event_lock);
	uint64_t wakes = spool->event_wakes;
	atomic_fetch_add(&spool->event_waiters, 1);
	while (wakes == spool->event_wakes &&
	       atomic_load(&spool->durable_lsn) <= lsn &&
	       clock_monotonic_us() < deadline)
		cond_wait_until(
		    &spool->event_news, &spool->event_lock, deadline);
	atomic_fetch_sub(&spool->event_waiters, 1);
	(void)pthread_mutex_unlock(&spool->event_lock);
}

void
spool_events_wake(struct spool *spool)
{
	(void)pthread_mutex_lock(&spool->event_lock);
	spool->event_wakes++;
	(void)pthread_cond_broadcast(&spool->event_news);
	(void)pthread_mutex_unlock(&spool->event_lock);
}

void
spool_events_exported(struct spool *spool, uint64_t lsn)
{
	struct segments *all = &spool->segments;

	(void)pthread_mutex_lock(&all->lock);
	if (lsn > all->exported) {
		all->exported = lsn;
		(void)pthread_cond_signal(&all->chores);
	}
	(void)pthread_mutex_unlock(&all->lock);
}
