/* SPDX-License-Identifier: Apache-2.0 */
#include "report/suppressor.h"

#include "base/arena.h"
#include "base/bug.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/time.h"
#include "log/log.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

enum {
	ENTRIES_AT_ONCE = 1000, /* in one transaction of the directory, about */
	PAUSE_S = 1, /* before a write that failed is tried again */
};

struct job {
	struct list link;
	struct arena *arena; /* of the entries */
	struct suppression *entries;
	size_t entry_count;
	struct spool_txn *txn;
	spool_done_fn *done;
	void *arg;
	size_t report_count;
	struct intake_message *reports[];
};

struct suppressor {
	struct directory *directory;
	struct intake *intake;
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t news;
	struct list jobs;
	uint32_t waiting;
	bool stopping;
};

/* ---- jobs -------------------------------------------------------------- */

static struct job *
job_new(const struct suppressor_job *from)
{
	size_t count = from->report_count;
	struct job *job = mem_zalloc(sizeof *job + count * sizeof(void *));

	list_init(&job->link);
	job->arena = arena_new();
	job->entries =
	    ARENA_ARRAY(job->arena, struct suppression, from->entry_count);
	job->entry_count = from->entry_count;
	for (size_t i = 0; i < from->entry_count; i++) {
		struct suppression *s = &job->entries[i];
		*s = from->entries[i];
		s->address = arena_dup(job->arena, s->address);
		s->evidence = arena_dup(job->arena,
		    span_slice(s->evidence, 0, SUPPRESSION_EVIDENCE_MAX));
	}
	job->txn = *from->txn;
	*from->txn = NULL;
	job->done = from->done;
	job->arg = from->arg;
	job->report_count = count;
	for (size_t i = 0; i < count; i++)
		job->reports[i] = from->reports[i];
	return job;
}

static void
job_free(struct job *job)
{
	list_remove(&job->link);
	arena_free(&job->arena);
	mem_free(job);
}

static void
job_finish(struct suppressor *s, struct job *job)
{
	intake_submit(s->intake, &job->txn, job->reports, job->report_count,
	    job->done, job->arg);
	job_free(job);
}

/* Nothing of it has happened. */
static void
job_drop(struct job *job)
{
	spool_txn_free(&job->txn);
	for (size_t i = 0; i < job->report_count; i++)
		intake_abort(&job->reports[i]);
	if (job->report_count > 0 && job->done != NULL)
		job->done(job->arg, -ECANCELED);
	job_free(job);
}

/* ---- the thread -------------------------------------------------------- */

static int
write_entries(struct suppressor *s, const struct list *batch)
{
	struct buf all = BUF_EMPTY;
	struct failure failure;
	uint64_t changed;
	size_t count = 0;

	LIST_FOR_EACH(link, batch) {
		const struct job *job = LIST_ENTRY(link, struct job, link);
		buf_append(&all, span_from(job->entries,
				     job->entry_count * sizeof *job->entries));
		count += job->entry_count;
	}
	int code = suppressions_add(s->directory,
	    (const struct suppression *)(const void *)buf_cstring(&all), count,
	    false, &changed, &failure);
	if (code < 0)
		LOG(LOG_ERROR, "report",
		    "suppressions cannot be written; bounces wait for it",
		    LOG_C("reason", failure.text));
	buf_done(&all);
	return code;
}

/* Moves as many jobs into the batch as one write takes. False: the end. */
static bool
take_batch(struct suppressor *s, struct list *batch)
{
	size_t entries = 0;

	(void)pthread_mutex_lock(&s->lock);
	while (list_is_empty(&s->jobs) && !s->stopping)
		(void)pthread_cond_wait(&s->news, &s->lock);
	while (!list_is_empty(&s->jobs) && entries < ENTRIES_AT_ONCE) {
		struct job *job = LIST_ENTRY(s->jobs.next, struct job, link);
		list_remove(&job->link);
		list_append(batch, &job->link);
		entries += job->entry_count;
		s->waiting--;
	}
	(void)pthread_mutex_unlock(&s->lock);
	return !list_is_empty(batch);
}

/* False: there is no time to wait for. */
static bool
pause_a_while(struct suppressor *s)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PAUSE_S;
	(void)pthread_mutex_lock(&s->lock);
	if (!s->stopping)
		(void)pthread_cond_timedwait(&s->news, &s->lock, &until);
	bool goes_on = !s->stopping;
	(void)pthread_mutex_unlock(&s->lock);
	return goes_on;
}

static void *
work(void *arg)
{
	struct suppressor *s = arg;
	struct list batch;

	(void)pthread_setname_np(pthread_self(), "suppressor");
	list_init(&batch);
	while (take_batch(s, &batch)) {
		int code;
		while ((code = write_entries(s, &batch)) < 0) {
			if (!pause_a_while(s))
				break;
		}
		LIST_FOR_EACH_SAFE(link, &batch) {
			struct job *job = LIST_ENTRY(link, struct job, link);
			if (code < 0)
				job_drop(job);
			else
				job_finish(s, job);
		}
	}
	return NULL;
}

/* ---- life -------------------------------------------------------------- */

int
suppressor_start(struct directory *directory, struct intake *intake,
    struct suppressor **ret_suppressor)
{
	struct suppressor *s = MEM_NEW(struct suppressor);

	s->directory = directory;
	s->intake = intake;
	list_init(&s->jobs);
	BUG_UNLESS(pthread_mutex_init(&s->lock, NULL) == 0);
	BUG_UNLESS(pthread_cond_init(&s->news, NULL) == 0);
	int code = -pthread_create(&s->thread, NULL, work, s);
	if (code < 0) {
		(void)pthread_cond_destroy(&s->news);
		(void)pthread_mutex_destroy(&s->lock);
		mem_free(s);
		return code;
	}
	*ret_suppressor = s;
	return 0;
}

void
suppressor_stop(struct suppressor **suppressor)
{
	struct suppressor *s = *suppressor;

	*suppressor = NULL;
	if (s == NULL)
		return;
	(void)pthread_mutex_lock(&s->lock);
	s->stopping = true;
	(void)pthread_cond_signal(&s->news);
	(void)pthread_mutex_unlock(&s->lock);
	(void)pthread_join(s->thread, NULL);
	(void)pthread_cond_destroy(&s->news);
	(void)pthread_mutex_destroy(&s->lock);
	mem_free(s);
}

bool
suppressor_has_room(struct suppressor *s, uint32_t most)
{
	(void)pthread_mutex_lock(&s->lock);
	bool has_room = s->waiting < most;
	(void)pthread_mutex_unlock(&s->lock);
	return has_room;
}

void
suppressor_submit(struct suppressor *s, const struct suppressor_job *from)
{
	struct job *job = job_new(from);

	(void)pthread_mutex_lock(&s->lock);
	list_append(&s->jobs, &job->link);
	s->waiting++;
	(void)pthread_cond_signal(&s->news);
	(void)pthread_mutex_unlock(&s->lock);
}
