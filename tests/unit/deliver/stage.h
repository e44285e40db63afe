/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A whole dispatcher on a stage of its own: a real spool, directory and intake
 * in a temporary directory, a real loop, and a resolver that answers from a
 * table. Mail is put into the spool as it is, so that every octet is known.
 */

#include "base/mem.h"
#include "deliver/internal.h"
#include "os/clock.h"
#include "os/random.h"
#include "peer.h"
#include "spool/io.h"

#include <errno.h>
#include <ftw.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the resolver ---- */

struct fake_host {
	const char *name, *address;
	uint16_t preference;
};

struct fake_answer {
	const char *domain;
	bool silent; /* no answer ever comes */
	enum resolve_result result;
	struct fake_host hosts[4];
	bool implicit;
};

static const struct fake_answer *fake_answers;
static size_t fake_answer_count;

struct resolver {
	bool used;
};

int
resolver_new(struct loop *loop, const struct resolver_options *options,
    struct resolver **ret_resolver, struct failure *ret_failure)
{
	(void)loop, (void)options, (void)ret_failure;
	*ret_resolver = MEM_NEW(struct resolver);
	return 0;
}

void
resolver_free(struct resolver **resolver)
{
	mem_free(*resolver);
	*resolver = NULL;
}

void
resolver_stats(const struct resolver *r, struct resolver_stats *ret_stats)
{
	(void)r;
	*ret_stats = (struct resolver_stats){ 0 };
}

void
resolve_cancel(struct resolve_query **query)
{
	*query = NULL;
}

static inline void
fake_tell(const struct fake_answer *fake, resolve_fn *fn, void *arg)
{
	struct resolve_host hosts[4];
	struct netaddr addresses[4];
	struct resolve_answer answer = {
		.result = fake->result,
		.implicit_mx = fake->implicit,
		.hosts = hosts,
		.site = fake->hosts[0].name,
		.valid_until_us = clock_monotonic_us() + US_PER_HOUR,
	};
	for (size_t i = 0; i < 4 && fake->hosts[i].name != NULL; i++) {
		addresses[i] = peer_ip(fake->hosts[i].address, 0);
		hosts[answer.host_count++] = (struct resolve_host){
			.name = fake->hosts[i].name,
			.preference = fake->hosts[i].preference,
			.addresses = &addresses[i],
			.address_count = 1,
		};
	}
	if (fake->result != RESOLVE_OK)
		(void)snprintf(
		    answer.problem, sizeof answer.problem, "the table says so");
	fn(arg, &answer);
}

struct resolve_query *
resolve_mx(struct resolver *r, struct span domain, resolve_fn *fn, void *arg)
{
	static const struct fake_answer nothing = { .result =
							RESOLVE_NO_DOMAIN };
	(void)r;
	for (size_t i = 0; i < fake_answer_count; i++) {
		if (!span_eq(span_of(fake_answers[i].domain), domain))
			continue;
		if (fake_answers[i].silent)
			return (struct resolve_query *)arg;
		fake_tell(&fake_answers[i], fn, arg);
		return NULL;
	}
	fake_tell(&nothing, fn, arg);
	return NULL;
}

/* No domain of these tables is signed. */
struct resolve_query *
resolve_records(struct resolver *r, enum resolve_type type, struct span name,
    resolve_records_fn *fn, void *arg)
{
	(void)r, (void)type, (void)name;
	fn(arg, &(struct resolve_records){ .result = RESOLVE_NO_DOMAIN,
		    .valid_until_us = clock_monotonic_us() + US_PER_HOUR });
	return NULL;
}

struct resolve_query *
resolve_host(struct resolver *r, struct span host, resolve_fn *fn, void *arg)
{
	char name[256];
	struct netaddr address;
	if (!netaddr_parse_ip(host, &address))
		return resolve_mx(r, host, fn, arg);
	assert_true(span_to_cstring(host, name, sizeof name));
	struct fake_answer fake = { .hosts = { { name, name, 0 } } };
	fake_tell(&fake, fn, arg);
	return NULL;
}

/* ---- the stage ---- */

/* The disk, full at will: what is synced then is not written. */
static atomic_bool stage_disk_is_full;

static int64_t
stage_pwritev(
    void *owner, int file, const struct iovec *iov, int count, uint64_t offset)
{
	if (atomic_load(&stage_disk_is_full))
		return -ENOSPC;
	return spool_io_disk.pwritev(owner, file, iov, count, offset);
}

static struct spool_io stage_io;

struct stage {
	char path[64];
	struct loop *loop;
	struct config *config;
	struct spool *spool;
	struct directory *directory;
	struct intake *intake;
	struct dispatch *dispatch;

	pthread_mutex_t lock;
	unsigned reports; /* under lock */
	uint64_t report_mno;

	struct buf events;
	uint64_t lsn;
};

static inline void
stage_on_mistake(void *arg, const char *file, unsigned line, unsigned column,
    const char *text)
{
	(void)arg;
	print_error("%s:%u:%u: %s\n", file, line, column, text);
}

static inline void
stage_on_accepted(void *arg, const struct intake_accepted *accepted)
{
	struct stage *s = arg;
	(void)pthread_mutex_lock(&s->lock);
	s->reports++;
	s->report_mno = accepted->mno;
	(void)pthread_mutex_unlock(&s->lock);
}

static inline void
stage_check(int result, const struct failure *failure)
{
	if (result < 0)
		print_error("%s: %s\n", error_text(result), failure->text);
	assert_true(result >= 0);
}

static inline struct config *
stage_config(const struct stage *s, const char *routes, const char *more)
{
	struct config *config = NULL;
	char *AUTO_FREE text =
	    mem_printf("hostname: relay.example.com\n"
		       "data_dir: %s\n"
		       "listeners: [{address: \"127.0.0.1:2599\", service: mx, "
		       "tls: none}]\n"
		       "routes:\n%s%s",
		s->path, routes, more);
	assert_int_equal(config_parse(span_of(text), "test", true,
			     stage_on_mistake, NULL, &config),
	    0);
	return config;
}

static inline void
stage_open_rooms(struct stage *s)
{
	struct failure failure = { .text = "" };
	char *AUTO_FREE spool = mem_printf("%s/spool", s->path);
	char *AUTO_FREE directory = mem_printf("%s/directory.db", s->path);
	stage_io = spool_io_disk;
	stage_io.pwritev = stage_pwritev;
	struct spool_options spool_options = {
		.directory = spool,
		.io = &stage_io,
		.segment_size = 4 << 20,
		.lazy_sync_us = 1000,
		.free_low = 1,
		.free_full = 1,
	};
	stage_check(spool_open(&spool_options, &s->spool, &failure), &failure);
	assert_int_equal(0, spool_recover(s->spool, NULL, NULL));
	stage_check(
	    directory_open(directory, &s->directory, &failure), &failure);
	struct intake_options intake = {
		.spool = s->spool,
		.directory = s->directory,
		.config = s->config,
		.on_accepted = stage_on_accepted,
		.arg = s,
	};
	s->intake = intake_new(&intake);
}

/* `routes` as YAML list lines; `more`: further top-level keys. */
static inline void
stage_open(struct stage *s, const char *routes, const char *more)
{
	struct failure failure = { .text = "" };
	*s = (struct stage){ .lsn = 0 };
	/* In memory where there is such a place: dozens of spools are opened. */
	(void)snprintf(s->path, sizeof s->path, "%s/deliver-test.XXXXXX",
	    access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(s->path));
	assert_int_equal(pthread_mutex_init(&s->lock, NULL), 0);
	assert_int_equal(loop_new(&s->loop), 0);
	s->config = stage_config(s, routes, more);
	stage_open_rooms(s);
	struct dispatch_options options = {
		.loop = s->loop,
		.config = s->config,
		.spool = s->spool,
		.directory = s->directory,
		.intake = s->intake,
		.share = 1,
		.connections_cap = UINT32_MAX,
	};
	stage_check(dispatch_new(&options, &s->dispatch, &failure), &failure);
}

static inline int
stage_remove_file(
    const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

static inline void
stage_close(struct stage *s)
{
	dispatch_free(&s->dispatch);
	intake_free(&s->intake);
	directory_close(&s->directory);
	spool_close(&s->spool);
	config_unref(&s->config);
	/* What the spool told last. */
	assert_int_equal(loop_turn(s->loop, 0), 0);
	loop_free(&s->loop);
	buf_done(&s->events);
	(void)pthread_mutex_destroy(&s->lock);
	(void)nftw(s->path, stage_remove_file, 16, FTW_DEPTH | FTW_PHYS);
}

static inline int
stage_take_events(void *arg, struct span lines)
{
	struct stage *s = arg;
	buf_append(&s->events, lines);
	return 0;
}

/* The events so far. */
static inline const char *
stage_events(struct stage *s)
{
	int r;
	while ((r = spool_events_read(
		    s->spool, &s->lsn, stage_take_events, s)) > 0)
		continue;
	assert_int_equal(r, 0);
	return buf_cstring(&s->events);
}

static inline unsigned
stage_count(struct stage *s, const char *what)
{
	unsigned n = 0;
	for (const char *p = stage_events(s); (p = strstr(p, what)) != NULL;
	     p++)
		n++;
	return n;
}

/* Turns the loop until so many events of a kind are durable. */
static inline void
stage_run_until(struct stage *s, const char *what, unsigned count)
{
	int64_t end_us = clock_monotonic_us() + 10 * US_PER_S;
	while (stage_count(s, what) < count) {
		assert_int_equal(loop_turn(s->loop, 2 * US_PER_MS), 0);
		if (clock_monotonic_us() < end_us)
			continue;
		fail_msg("no %u of %s in:\n%s", count, what, stage_events(s));
	}
}

static inline void
stage_run_for(struct stage *s, int64_t us)
{
	int64_t end_us = clock_monotonic_us() + us;
	while (clock_monotonic_us() < end_us)
		assert_int_equal(loop_turn(s->loop, 2 * US_PER_MS), 0);
}

struct stage_mail {
	const char *body;
	size_t body_len; /* 0: strlen */
	const char *rcpts[PEER_RCPTS + 1]; /* one domain; NULL ends */
	uint32_t flags;
	uint8_t notify;
	const char *sender; /* NULL: sender@source.example */
	int64_t expire_in_us; /* 0: an hour */
	bool warn;
	int64_t accepted_ago_us;
};

#define STAGE_PREFIX "Received: by relay.example.com; now\r\n"

static inline void
stage_queue(struct stage *s, const struct stage_mail *mail, uint64_t mno,
    struct span domain, uint32_t count)
{
	int64_t now_us = clock_wall_us();
	struct dispatch_delivery d = {
		.mno = mno,
		.tenant = DIRECTORY_DEFAULT_TENANT,
		.stream = 1,
		.class = SPOOL_TRANSACTIONAL,
		.domain = domain,
		.rcpt_count = count,
		.wants_delay_warning = mail->warn,
		.accepted_us = now_us - mail->accepted_ago_us,
		.expire_us =
		    now_us + (mail->expire_in_us != 0 ? mail->expire_in_us
						      : US_PER_HOUR),
	};
	dispatch_add(s->dispatch, &d);
}

/* Returns the mno. */
static inline uint64_t
stage_submit(struct stage *s, const struct stage_mail *mail)
{
	struct spool_rcpt rcpts[PEER_RCPTS + 1];
	uint32_t count = 0;
	uint64_t mno = spool_next_mno(s->spool);
	int64_t now_us = clock_wall_us();
	for (; mail->rcpts[count] != NULL; count++)
		rcpts[count] = (struct spool_rcpt){
			.address = span_of(mail->rcpts[count]),
			.notify = mail->notify,
		};
	struct spool_envelope envelope = {
		.mno = mno,
		.id = msgid_make(
		    now_us, spool_node(s->spool), mno, spool_id_key(s->spool)),
		.tenant = DIRECTORY_DEFAULT_TENANT,
		.stream = 1,
		.class = SPOOL_TRANSACTIONAL,
		.flags = mail->flags,
		.accepted_us = now_us - mail->accepted_ago_us,
		.expire_us = now_us + US_PER_HOUR,
		.sender =
		    span_of(mail->sender != NULL ? mail->sender
						 : "sender@source.example"),
		.subject = SPAN("a subject"),
		.rcpts = rcpts,
		.rcpt_count = count,
		.prefix = SPAN(STAGE_PREFIX),
	};
	struct spool_draft *draft = spool_draft_new(s->spool, mno);
	size_t len = mail->body_len != 0 ? mail->body_len : strlen(mail->body);
	assert_int_equal(
	    spool_draft_write(draft, span_from(mail->body, len)), 0);
	struct spool_txn *txn = spool_txn_new(s->spool);
	spool_txn_message(txn, &envelope, &draft);
	assert_int_equal(spool_txn_commit(&txn), 0);
	stage_queue(
	    s, mail, mno, address_domain_of(span_of(mail->rcpts[0])), count);
	return mno;
}

static inline unsigned
stage_reports(struct stage *s)
{
	(void)pthread_mutex_lock(&s->lock);
	unsigned n = s->reports;
	(void)pthread_mutex_unlock(&s->lock);
	return n;
}

/* The event of a report is durable a moment before the report is told of. */
static inline void
stage_await_reports(struct stage *s, unsigned count)
{
	int64_t end_us = clock_monotonic_us() + 10 * US_PER_S;
	while (stage_reports(s) < count) {
		assert_int_equal(loop_turn(s->loop, 2 * US_PER_MS), 0);
		if (clock_monotonic_us() > end_us)
			fail_msg("no %u reports", count);
	}
}

/* Is the text in the last report? */
static inline bool
stage_report_says(struct stage *s, const char *text)
{
	struct spool_message *message;
	struct buf all = BUF_EMPTY;
	struct span piece;
	(void)pthread_mutex_lock(&s->lock);
	uint64_t mno = s->report_mno;
	(void)pthread_mutex_unlock(&s->lock);
	assert_int_equal(spool_message_open(s->spool, mno, &message), 0);
	do {
		assert_int_equal(
		    spool_message_read(message, buf_size(&all), &piece), 0);
		buf_append(&all, piece);
	} while (piece.len > 0);
	bool says = strstr(buf_cstring(&all), text) != NULL;
	if (!says)
		print_error(
		    "not in the report: %s\n%s\n", text, buf_cstring(&all));
	buf_done(&all);
	spool_message_unref(&message);
	return says;
}

/* Recipients that are still to be delivered, by the spool's own count, without
 * those of the reports. */
static inline uint64_t
stage_live(struct stage *s)
{
	struct spool_stats stats;
	spool_stats(s->spool, &stats);
	return stats.recipients - stage_reports(s);
}
