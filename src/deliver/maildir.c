/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/bug.h"
#include "base/mem.h"
#include "deliver/internal.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/random.h"
#include "report/returned.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * A message goes into tmp/, is synced, and is renamed into new/, whose entry
 * is then synced, too: when the scheduler hears "delivered", it is on stable
 * storage under its final name. Lines end in LF, as programs that read
 * Maildirs expect; a binary message keeps its octets.
 *
 * Return-Path and Delivered-To are added here, where the message leaves the
 * world of envelopes (RFC 5321 §4.4).
 *
 * One thread does this work, in order, so that no loop waits for a disk.
 */

enum { WRITE_SIZE = 256 * 1024 };

struct maildir {
	struct loop *loop;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t news;
	struct maildir_job *first, **end;
	bool stopping;
};

/* ---- one file ---- */

/* Names must never repeat: time, a number of this process, and chance. */
static void
make_name(const char *hostname, struct buf *out)
{
	static atomic_uint_fast64_t counter;
	int64_t now_us = clock_wall_us();
	buf_printf(out, "%lld.M%lldP%ldQ%lluR%08llx.",
	    (long long)(now_us / US_PER_S), (long long)(now_us % US_PER_S),
	    (long)getpid(),
	    (unsigned long long)atomic_fetch_add_explicit(
		&counter, 1, memory_order_relaxed),
	    (unsigned long long)(random_u64() & 0xffffffff));
	for (const char *p = hostname; *p != '\0'; p++) {
		if (*p == '/')
			buf_append(out, SPAN("\\057"));
		else if (*p == ':')
			buf_append(out, SPAN("\\072"));
		else
			buf_append_char(out, *p);
	}
}

/* Spaces, controls and bytes that could begin a field of their own cannot be
 * in a canonical address; what is unfit all the same is shown as "?". */
static void
append_address(struct span address, struct buf *out)
{
	for (size_t i = 0; i < address.len; i++) {
		unsigned char ch = (unsigned char)address.ptr[i];
		if (ch < ' ' || ch == 0x7f)
			buf_append_char(out, '?');
		else
			buf_append_char(out, address.ptr[i]);
	}
}

static void
append_fields(const struct spool_envelope *m, const struct spool_rcpt *rcpt,
    struct buf *out)
{
	const char *line = (m->flags & SPOOL_BINARY) != 0 ? "\r\n" : "\n";
	buf_append(out, SPAN("Return-Path: <"));
	append_address(m->sender, out);
	buf_printf(out, ">%sDelivered-To: ", line);
	append_address(rcpt->address, out);
	buf_append_str(out, line);
}

/* CRLF becomes LF; a CR at the end of a piece waits for what follows. */
static void
append_lines(struct span piece, bool *held_cr, struct buf *out)
{
	while (piece.len > 0) {
		if (*held_cr && piece.ptr[0] != '\n')
			buf_append_char(out, '\r');
		*held_cr = false;
		size_t cr = span_find(piece, '\r');
		if (cr == SIZE_MAX) {
			buf_append(out, piece);
			return;
		}
		buf_append(out, span_slice(piece, 0, cr));
		piece = span_skip(piece, cr + 1);
		*held_cr = true;
	}
}

static int
flush(int fd, struct buf *out)
{
	TRY(file_write_all(fd, buf_span(out)));
	buf_clear(out);
	return 0;
}

static int
write_message(struct spool_message *message, int fd, struct buf *out)
{
	bool binary =
	    (spool_message_envelope(message)->flags & SPOOL_BINARY) != 0;
	bool held_cr = false;
	for (uint64_t offset = 0;;) {
		struct span piece;
		TRY(spool_message_read(message, offset, &piece));
		if (piece.len == 0)
			break;
		piece = span_slice(piece, 0, WRITE_SIZE);
		offset += piece.len;
		if (binary)
			buf_append(out, piece);
		else
			append_lines(piece, &held_cr, out);
		TRY(flush(fd, out));
	}
	if (held_cr)
		buf_append_char(out, '\r');
	return flush(fd, out);
}

static int
write_file(const struct maildir_job *job, uint32_t rcpt, const char *path)
{
	const struct spool_envelope *m = spool_message_envelope(job->message);
	int AUTO_CLOSE fd =
	    open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	struct buf out = BUF_EMPTY;
	append_fields(m, &m->rcpts[rcpt], &out);
	int err = write_message(job->message, fd, &out);
	buf_done(&out);
	TRY(err);
	return fsync(fd) < 0 ? -errno : 0;
}

static int
deliver_one(const struct maildir_job *job, uint32_t rcpt)
{
	struct buf name = BUF_EMPTY;
	make_name(job->hostname, &name);
	char *AUTO_FREE from =
	    mem_printf("%s/tmp/%s", job->directory, buf_cstring(&name));
	char *AUTO_FREE to =
	    mem_printf("%s/new/%s", job->directory, buf_cstring(&name));
	buf_done(&name);
	int err = write_file(job, rcpt, from);
	if (err == 0 && rename(from, to) < 0)
		err = -errno;
	if (err < 0)
		(void)unlink(from);
	return err;
}

static int
prepare_directory(const char *directory)
{
	static const char *const parts[] = { "tmp", "new", "cur" };
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		char *AUTO_FREE path = mem_printf("%s/%s", directory, parts[i]);
		TRY(file_make_directory(path, 0700));
	}
	return 0;
}

void
maildir_deliver(struct maildir_job *job)
{
	bool any = false;
	int ready = prepare_directory(job->directory);
	for (uint32_t i = 0; i < job->rcpt_count; i++) {
		job->codes[i] =
		    ready < 0 ? ready : deliver_one(job, job->rcpt_first + i);
		any |= job->codes[i] == 0;
	}
	if (!any)
		return;
	char *AUTO_FREE names = mem_printf("%s/new", job->directory);
	int err = file_sync_directory(names);
	for (uint32_t i = 0; err < 0 && i < job->rcpt_count; i++)
		job->codes[i] = err;
}

/* ---- the thread ---- */

static void
take_in(struct maildir_job *job)
{
	for (uint32_t i = 0; i < job->rcpt_count; i++)
		job->codes[i] = returned_take(
		    job->returned, job->message, job->rcpt_first + i);
}

static struct maildir_job *
next_job(struct maildir *m)
{
	(void)pthread_mutex_lock(&m->lock);
	while (m->first == NULL && !m->stopping)
		(void)pthread_cond_wait(&m->news, &m->lock);
	struct maildir_job *job = m->stopping ? NULL : m->first;
	if (job != NULL) {
		m->first = job->next;
		if (m->first == NULL)
			m->end = &m->first;
	}
	(void)pthread_mutex_unlock(&m->lock);
	return job;
}

static void *
work(void *arg)
{
	struct maildir *m = arg;
	for (;;) {
		struct maildir_job *job = next_job(m);
		if (job == NULL)
			return NULL;
		if (job->returned != NULL)
			take_in(job);
		else
			maildir_deliver(job);
		job->finished = true;
		loop_post(m->loop, &job->done);
	}
}

int
maildir_start(struct loop *loop, struct maildir **ret_maildir)
{
	struct maildir *m = MEM_NEW(struct maildir);
	m->loop = loop;
	m->end = &m->first;
	BUG_UNLESS(pthread_mutex_init(&m->lock, NULL) == 0);
	BUG_UNLESS(pthread_cond_init(&m->news, NULL) == 0);
	int err = pthread_create(&m->thread, NULL, work, m);
	if (err != 0) {
		(void)pthread_cond_destroy(&m->news);
		(void)pthread_mutex_destroy(&m->lock);
		mem_free(m);
		return -err;
	}
	(void)pthread_setname_np(m->thread, "maildir");
	*ret_maildir = m;
	return 0;
}

/* Jobs that have not begun are dropped: their owner frees them. */
void
maildir_stop(struct maildir **maildir)
{
	struct maildir *m = *maildir;
	*maildir = NULL;
	if (m == NULL)
		return;
	(void)pthread_mutex_lock(&m->lock);
	m->stopping = true;
	(void)pthread_cond_signal(&m->news);
	(void)pthread_mutex_unlock(&m->lock);
	(void)pthread_join(m->thread, NULL);
	(void)pthread_cond_destroy(&m->news);
	(void)pthread_mutex_destroy(&m->lock);
	mem_free(m);
}

void
maildir_submit(struct maildir *m, struct maildir_job *job)
{
	job->next = NULL;
	(void)pthread_mutex_lock(&m->lock);
	*m->end = job;
	m->end = &job->next;
	(void)pthread_cond_signal(&m->news);
	(void)pthread_mutex_unlock(&m->lock);
}
