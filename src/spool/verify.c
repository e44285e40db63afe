/* SPDX-License-Identifier: Apache-2.0 */

/* Looking at a spool offline: the same code as recovery, which changes nothing,
 * and then a look at every live message as delivery would take it. */

#include "base/bug.h"
#include "base/mem.h"
#include "spool/internal.h"

#include <errno.h>
#include <fcntl.h>

void
verify_problem(struct verification *v, const char *file, uint64_t offset,
    const char *problem)
{
	v->result.problems++;
	if (v->fn)
		v->fn(v->arg, file, offset, problem);
}

static int
check_message(struct spool *spool, struct verification *v, uint64_t mno)
{
	struct spool_message *message;

	/* What is damaged was told of through quarantine. */
	int result = message_open_own(spool, mno, &message);
	if (result == ERR_CORRUPT)
		return 0;
	TRY(result);
	v->result.live_messages++;
	spool_message_unref(&message);
	result = message_check(spool, mno);
	return result == ERR_CORRUPT ? 0 : result;
}

/* Once each, however many messages share it. */
static int
check_shared(struct spool *spool)
{
	size_t count;
	struct body *all = bodies_all(spool, &count);
	int result = 0;

	for (size_t i = 0; i < count && result == 0; i++) {
		if (all[i].segment != 0 && !all[i].is_damaged)
			result = body_check(spool, &all[i]);
		if (result == ERR_CORRUPT)
			result = 0;
	}
	mem_free(all);
	return result;
}

static int
check_messages(struct spool *spool, struct verification *v)
{
	size_t count;
	struct slot *all = index_all(&spool->index, INDEX_ALL, &count);
	int result = 0;

	for (size_t i = 0; i < count && result == 0; i++) {
		v->result.live_recipients += all[i].live;
		result = check_message(spool, v, all[i].mno);
	}
	mem_free(all);
	return result;
}

/* Loading does not look at what the catalogue covers. */
static void
look_at(
    struct spool *spool, struct segment *segment, const struct record *record)
{
	struct verification *v = spool->verification;
	const struct slot place = {
		.segment = segment->number,
		.at = (uint32_t)(record->offset / FORMAT_ALIGN),
	};

	if (record->found == FOUND_RECORD) {
		v->result.records++;
		v->result.messages += record_is_message(record->header.type);
		return;
	}
	quarantine(spool, segment, record->offset,
	    record->next - record->offset, "damaged: a checksum is wrong");
	quarantine_place(spool, &place);
}

static int
check_segment(struct spool *spool, uint32_t number)
{
	struct segment *segment;
	struct record record;
	struct scan scan;

	TRY(segment_ref(spool, number, &segment));
	scan_init(&scan, spool->io, segment->file, spool->seal);
	scan.segment = number;
	scan.epoch = segment->epoch;
	scan.end = scan.attested = segment->end;
	int result = scan_next(&scan, &record);
	for (; result == 0 && record.found != FOUND_END;
	     result = scan_next(&scan, &record))
		look_at(spool, segment, &record);
	scan_done(&scan);
	segment_unref(spool, segment);
	return result;
}

static int
check_segments(struct spool *spool)
{
	size_t count;
	struct segment *all = segment_all(spool, &count);
	int result = 0;

	for (size_t i = 0; i < count && result == 0; i++)
		result = check_segment(spool, all[i].number);
	mem_free(all);
	return result;
}

/* Without making anything: no directory, no lock where there is no spool. */
static int
lock_existing(struct spool *spool)
{
	const struct spool_io *io = spool->io;
	char *AUTO_FREE path = mem_printf("%s/LOCK", spool->directory);

	int file = io->open(io->owner, path, O_RDONLY);
	if (file < 0)
		return file == -ENOENT ? ERR_NOT_FOUND : file;
	(void)io->close(io->owner, file);
	int result = io->lock(io->owner, path);
	if (result < 0)
		return result == -EWOULDBLOCK ? ERR_EXISTS : result;
	spool->lock_file = result;
	return 0;
}

int
verify_with(const struct spool_options *options, struct verification *v)
{
	struct spool *spool = spool_new(options);

	spool->verification = v;
	int result = lock_existing(spool);
	if (result == 0)
		result = recover_scan(spool, NULL);
	if (result == ERR_CORRUPT) {
		verify_problem(v, options->directory, 0,
		    "no readable manifest or superblock");
		result = 0;
	} else if (result == 0)
		result = load_all(spool, NULL, NULL);
	if (result == 0)
		result = check_segments(spool);
	if (result == 0)
		result = check_shared(spool);
	if (result == 0)
		result = check_messages(spool, v);
	v->result.segments = spool->segments.count;
	spool_free(spool);
	return result;
}

int
spool_verify(const char *directory, spool_problem_fn *fn, void *arg,
    struct spool_verify_result *ret_result)
{
	struct spool_options options = { .directory = directory };
	struct verification v = { .fn = fn, .arg = arg };

	TRY(verify_with(&options, &v));
	*ret_result = v.result;
	return v.result.problems > INT32_MAX ? INT32_MAX
					     : (int)v.result.problems;
}
