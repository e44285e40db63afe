/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Mail that waits for days is read again now and then, so that a bad disk is
 * heard of while there may still be a copy elsewhere, not when the mail is
 * due. A segment at a time, in the order of their numbers, so that all are
 * read within one period; what is damaged is set aside and counted as by a
 * delivery. Nothing is ever cut off or rewritten.
 */

#include "base/mem.h"
#include "os/clock.h"
#include "spool/checkpoint.h"

#include <errno.h>

#define STEP_MIN_US (US_PER_S / 100)

static int
check_entry(void *arg, struct live_entry *entry)
{
	struct pass *pass = arg;
	struct spool *spool = pass->spool;
	struct slot slot;

	if (!index_get(&spool->index, entry->message.mno, &slot) ||
	    slot.segment != pass->segment || slot.is_damaged)
		return 0;
	int result = message_check(spool, entry->message.mno);
	if (result != ERR_CORRUPT && result != ERR_NOT_FOUND)
		TRY(result);
	pass->count++;
	return pass_pace(pass, FORMAT_HEADER + (uint64_t)entry->len);
}

static int
check_bodies(struct pass *pass)
{
	size_t count;
	struct body *all = bodies_all(pass->spool, &count);
	int result = 0;

	for (size_t i = 0; i < count && result == 0; i++) {
		if (all[i].segment != pass->segment || all[i].is_damaged ||
		    !bodies_is_at(pass->spool, &all[i]))
			continue;
		result = body_check(pass->spool, &all[i]);
		if (result == ERR_CORRUPT || result == ERR_NOT_FOUND)
			result = 0;
		if (result == 0)
			result = pass_pace(pass, all[i].len);
		pass->count++;
	}
	mem_free(all);
	return result;
}

static void
scrub_segment(struct spool *spool, uint32_t number)
{
	struct pass pass = {
		.spool = spool,
		.segment = number,
		.started_us = clock_monotonic_us(),
	};
	uint64_t before = atomic_load(&spool->quarantined);

	/* A disk that cannot be read now is read again the next time round. */
	if (fold_each(spool, number, check_entry, &pass) == 0)
		IGNORE(check_bodies(&pass));
	/* Its live file may be what is damaged: the next checkpoint writes it
	 * anew. */
	if (atomic_load(&spool->quarantined) > before)
		segment_touch(spool, number);
	atomic_fetch_add(&spool->scrubbed, pass.count);
}

/* The next sealed one in which mail lives, from `from` on; 0: none. */
static uint32_t
next_segment(struct spool *spool, uint32_t from, size_t *ret_count)
{
	size_t count;
	struct segment *all = segment_all(spool, &count);
	uint32_t next = 0;

	for (size_t i = 0; i < count && next == 0; i++) {
		if (all[i].number >= from && all[i].live > 0 &&
		    !all[i].is_active)
			next = all[i].number;
	}
	mem_free(all);
	*ret_count = count;
	return next;
}

void
scrub(struct spool *spool, struct scrubbing *s)
{
	int64_t now_us = clock_monotonic_us();
	size_t count;

	if (s->next_us == 0)
		s->next_us = now_us + spool->options.scrub_period_us;
	if (now_us < s->next_us || atomic_load(&spool->is_loading) ||
	    atomic_load(&spool->failed) < 0)
		return;
	uint32_t number = next_segment(spool, s->from, &count);
	int64_t step_us =
	    spool->options.scrub_period_us / (int64_t)(count > 0 ? count : 1);
	s->next_us = now_us + (step_us > STEP_MIN_US ? step_us : STEP_MIN_US);
	s->from = number == 0 ? 0 : number + 1;
	if (number != 0)
		scrub_segment(spool, number);
}
