/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How many messages a second the spool takes, at what cost, on one directory's
 * disk: spool_bench DIRECTORY [MESSAGES [IN_FLIGHT [BYTES]]]. One thread keeps
 * IN_FLIGHT transactions under way, as reactors would.
 */

#include "base/mem.h"
#include "base/span.h"
#include "os/clock.h"
#include "spool/spool.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

struct run {
	struct spool *spool;
	pthread_mutex_t lock;
	pthread_cond_t news;
	uint64_t in_flight, wanted;
	uint64_t failed;
};

static void
on_done(void *arg, int result)
{
	struct run *run = arg;

	(void)pthread_mutex_lock(&run->lock);
	run->failed += result < 0;
	if (--run->in_flight <= run->wanted)
		(void)pthread_cond_signal(&run->news);
	(void)pthread_mutex_unlock(&run->lock);
}

/* Sleeps when `limit` are under way, until only half of them are. */
static void
wait_for_turn(struct run *run, uint64_t limit)
{
	(void)pthread_mutex_lock(&run->lock);
	if (run->in_flight >= limit) {
		run->wanted = limit / 2;
		while (run->in_flight > run->wanted)
			(void)pthread_cond_wait(&run->news, &run->lock);
	}
	(void)pthread_mutex_unlock(&run->lock);
}

static void
submit(struct run *run, struct span body)
{
	const struct spool_rcpt rcpt = { .address =
					     SPAN("someone@example.org") };
	uint64_t mno = spool_next_mno(run->spool);
	struct spool_draft *draft = spool_draft_new(run->spool, mno);
	struct spool_txn *txn = spool_txn_new(run->spool);
	struct spool_envelope e = {
		.mno = mno,
		.sender = SPAN("sender@example.com"),
		.rcpts = &rcpt,
		.rcpt_count = 1,
		.prefix =
		    SPAN("Received: from client.example ([192.0.2.1])\r\n"),
	};

	if (spool_draft_write(draft, body) < 0)
		run->failed++;
	spool_txn_message(txn, &e, &draft);
	spool_txn_event(txn, SPAN("{\"event\":\"accepted\"}\n"));
	(void)pthread_mutex_lock(&run->lock);
	run->in_flight++;
	(void)pthread_mutex_unlock(&run->lock);
	spool_txn_submit(&txn, on_done, run);
}

static double
cpu_us(void)
{
	struct rusage u;

	(void)getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static uint64_t
argument(int argc, char **argv, int i, uint64_t otherwise)
{
	uint64_t value;

	if (i >= argc)
		return otherwise;
	if (!span_to_u64(span_of(argv[i]), UINT64_C(1) << 32, &value)) {
		fprintf(stderr, "not a number: %s\n", argv[i]);
		exit(2);
	}
	return value;
}

static void
measure(struct run *run, uint64_t count, uint64_t in_flight, uint64_t size)
{
	char *AUTO_FREE body = mem_zalloc(size + 1);
	struct spool_stats before, after;

	memset(body, 'x', size);
	spool_stats(run->spool, &before);
	double cpu = cpu_us();
	int64_t start = clock_monotonic_us();
	for (uint64_t i = 0; i < count; i++) {
		wait_for_turn(run, in_flight);
		submit(run, span_from(body, size));
	}
	wait_for_turn(run, 0);
	double us = (double)(clock_monotonic_us() - start);
	cpu = cpu_us() - cpu;
	spool_stats(run->spool, &after);
	uint64_t syncs = after.syncs - before.syncs;
	printf("%llu messages of %llu bytes, %llu in flight: %.0f/s, "
	       "%.2f us of CPU each, %.3f syncs each, %.0f us a sync",
	    (unsigned long long)count, (unsigned long long)size,
	    (unsigned long long)in_flight, (double)count * 1e6 / us,
	    cpu / (double)count, (double)syncs / (double)count,
	    (double)(after.sync_us_total - before.sync_us_total) /
		(double)(syncs ? syncs : 1));
	printf(", %llu failed\n", (unsigned long long)run->failed);
}

int
main(int argc, char **argv)
{
	struct run run = {
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.news = PTHREAD_COND_INITIALIZER,
	};
	struct failure failure;

	if (argc < 2) {
		fprintf(stderr, "usage: spool_bench DIRECTORY "
				"[MESSAGES [IN_FLIGHT [BYTES]]]\n");
		return 2;
	}
	struct spool_options options = { .directory = argv[1] };
	if (spool_open(&options, &run.spool, &failure) < 0) {
		fprintf(stderr, "%s\n", failure.text);
		return 1;
	}
	if (spool_recover(run.spool, NULL, NULL) < 0) {
		fprintf(stderr, "what is stored cannot be loaded\n");
		return 1;
	}
	uint64_t in_flight = argument(argc, argv, 3, 64);
	measure(&run, argument(argc, argv, 2, 50000), in_flight ? in_flight : 1,
	    argument(argc, argv, 4, 4096));
	spool_close(&run.spool);
	return run.failed > 0;
}
