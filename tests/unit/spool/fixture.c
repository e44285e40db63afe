/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "base/mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

void
fixture_setup(struct fixture *f)
{
	*f = (struct fixture){ 0 };
	(void)strncpy(
	    f->directory, "/tmp/spool-test-XXXXXX", sizeof f->directory - 1);
	assert_non_null(mkdtemp(f->directory));
	f->options = (struct spool_options){
		.directory = f->directory,
		.segment_size = 256 << 10,
		.jumbo_size = 32 << 10,
		.lazy_sync_us = 2000,
		.free_low = 2,
		.free_full = 1,
		.pass_segments = UINT32_MAX, /* no checkpoint */
		.node = 7,
	};
}

static void
empty_directory(const char *path)
{
	struct dirent *entry;
	DIR *directory = opendir(path);

	if (!directory)
		return;
	while ((entry = readdir(directory))) {
		char *AUTO_FREE name = mem_printf("%s/%s", path, entry->d_name);

		if (entry->d_name[0] == '.')
			continue;
		if (unlink(name) < 0) {
			empty_directory(name);
			(void)rmdir(name);
		}
	}
	(void)closedir(directory);
}

void
fixture_teardown(struct fixture *f)
{
	spool_close(&f->spool);
	empty_directory(f->directory);
	(void)rmdir(f->directory);
}

void
fixture_open(struct fixture *f)
{
	struct failure failure = { 0 };

	if (spool_open(&f->options, &f->spool, &failure) < 0)
		fail_msg("%s", failure.text);
}

void
fixture_open_on(struct fixture *f, const struct spool_io *io)
{
	f->options = (struct spool_options){
		.directory = "/spool",
		.segment_size = 128 << 10,
		.jumbo_size = 16 << 10,
		.lazy_sync_us = 1000,
		.free_low = 2,
		.free_full = 1,
		.pass_segments = UINT32_MAX, /* no checkpoint */
		.io = io,
	};
	fixture_open(f);
}

void
fixture_close(struct fixture *f)
{
	spool_close(&f->spool);
}

int
fixture_begin(void **state)
{
	struct fixture *f = MEM_NEW(struct fixture);

	fixture_setup(f);
	fixture_open(f);
	assert_int_equal(0, spool_recover(f->spool, NULL, NULL));
	*state = f;
	return 0;
}

int
fixture_end(void **state)
{
	struct fixture *f = *state;

	fixture_teardown(f);
	mem_free(f);
	return 0;
}

void
fixture_flip_byte(const char *path, off_t at)
{
	char c;
	int fd = open(path, O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(1, pread(fd, &c, 1, at));
	c ^= 4;
	assert_int_equal(1, pwrite(fd, &c, 1, at));
	(void)close(fd);
}

void
fixture_body(uint64_t mno, size_t size, struct buf *ret_body)
{
	uint64_t state = mno * UINT64_C(0x9e3779b97f4a7c15) + 1;
	char *p = buf_reserve(ret_body, size + 1);

	for (size_t i = 0; i < size; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		p[i] = (char)(state >> 32);
	}
	buf_added(ret_body, size);
}

struct spool_txn *
fixture_message(struct spool *spool, uint64_t mno, size_t size, uint32_t rcpts)
{
	struct spool_rcpt *list = mem_zalloc((rcpts + 1) * sizeof *list);
	struct spool_draft *draft = spool_draft_new(spool, mno);
	struct buf body = BUF_EMPTY;
	char line[64];

	for (uint32_t i = 0; i < rcpts; i++) {
		list[i].address = SPAN("someone@example.org");
		list[i].orcpt = i % 2 ? SPAN("rfc822;x") : SPAN_EMPTY;
		list[i].notify = (uint8_t)i;
	}
	struct spool_envelope e = {
		.mno = mno,
		.id = msgid_make(1000, 7, mno, spool_id_key(spool)),
		.tenant = 3,
		.stream = 4,
		.class = SPOOL_BULK,
		.flags = SPOOL_DOTS,
		.accepted_us = (int64_t)mno,
		.sender = SPAN("sender@example.com"),
		.subject = SPAN("a subject"),
		.rcpts = list,
		.rcpt_count = rcpts,
		.prefix = SPAN("Received: from nowhere\r\n"),
	};
	fixture_body(mno, size, &body);
	for (size_t at = 0; at < size; at += 1000)
		assert_int_equal(0, spool_draft_write(draft,
					span_slice(buf_span(&body), at, 1000)));
	assert_int_equal(size, spool_draft_size(draft));
	struct spool_txn *txn = spool_txn_new(spool);
	(void)snprintf(
	    line, sizeof line, "{\"mno\":%llu}\n", (unsigned long long)mno);
	spool_txn_event(txn, span_of(line));
	spool_txn_message(txn, &e, &draft);
	assert_null(draft);
	buf_done(&body);
	mem_free(list);
	return txn;
}

uint64_t
fixture_send(struct spool *spool, size_t size, uint32_t rcpts)
{
	uint64_t mno = spool_next_mno(spool);
	struct spool_txn *txn = fixture_message(spool, mno, size, rcpts);

	assert_int_equal(0, spool_txn_commit(&txn));
	assert_null(txn);
	return mno;
}

void
fixture_done(struct spool *spool, uint64_t mno, uint32_t first, uint32_t count)
{
	struct spool_txn *txn = spool_txn_new(spool);
	struct spool_outcome outcome = {
		.mno = mno,
		.rcpt_first = first,
		.rcpt_count = count,
		.kind = SPOOL_DELIVERED,
		.code = 250,
	};

	spool_txn_outcome(txn, &outcome);
	assert_int_equal(0, spool_txn_commit(&txn));
}

static int
check_octets(struct spool_message *message, struct span want)
{
	struct span piece;

	for (size_t at = 0; at < want.len; at += piece.len) {
		TRY(spool_message_read(message, at, &piece));
		assert_true(piece.len > 0 && piece.len <= want.len - at);
		assert_memory_equal(piece.ptr, want.ptr + at, piece.len);
	}
	TRY(spool_message_read(message, want.len, &piece));
	assert_int_equal(0, piece.len);
	return 0;
}

int
fixture_check(struct spool *spool, uint64_t mno, size_t size, uint32_t rcpts)
{
	struct buf want = BUF_EMPTY;
	struct spool_message *message;

	TRY(spool_message_open(spool, mno, &message));
	const struct spool_envelope *e = spool_message_envelope(message);
	assert_int_equal(mno, e->mno);
	assert_int_equal(rcpts, e->rcpt_count);
	assert_int_equal(size, e->body_size);
	assert_int_equal(SPOOL_BULK, e->class);
	assert_int_equal(SPOOL_DOTS, e->flags);
	assert_int_equal(3, e->tenant);
	assert_int_equal(4, e->stream);
	assert_true(span_eq(SPAN("sender@example.com"), e->sender));
	assert_true(span_eq(SPAN("a subject"), e->subject));
	assert_int_equal(0, e->envid.len);
	for (uint32_t i = 0; i < rcpts; i++) {
		assert_true(
		    span_eq(SPAN("someone@example.org"), e->rcpts[i].address));
		assert_int_equal(i % 2 ? 8 : 0, e->rcpts[i].orcpt.len);
		assert_int_equal((uint8_t)i, e->rcpts[i].notify);
	}
	assert_int_equal(mno, msgid_mno(&e->id, spool_id_key(spool)));
	buf_append_str(&want, "Received: from nowhere\r\n");
	fixture_body(mno, size, &want);
	assert_int_equal(buf_size(&want), spool_message_size(message));
	int result = check_octets(message, buf_span(&want));
	buf_done(&want);
	spool_message_unref(&message);
	assert_null(message);
	return result;
}

static void
on_message(void *arg, const struct spool_live *message)
{
	struct told *told = arg;
	uint32_t live = 0;

	if (!message)
		return;
	for (uint32_t i = 0; i < message->run_count; i++)
		live += message->runs[i].rcpt_count;
	assert_true(live > 0);
	assert_true(told->count < 4096);
	told->mnos[told->count] = message->mno;
	told->live[told->count] = live;
	told->runs[told->count] = message->run_count;
	told->first[told->count] = message->runs[0];
	told->first[told->count].domain = SPAN_EMPTY;
	told->count++;
}

static void
on_order(void *arg, const struct spool_order *order)
{
	struct told *told = arg;

	told->orders++;
	(void)span_to_cstring(
	    order->domain, told->last_domain, sizeof told->last_domain);
}

void
fixture_recover(struct spool *spool, struct told *told)
{
	told->count = told->orders = 0;
	spool_orders(spool, on_order, told);
	assert_int_equal(0, spool_recover(spool, on_message, told));
}

bool
told_has(const struct told *told, uint64_t mno)
{
	for (size_t i = 0; i < told->count; i++) {
		if (told->mnos[i] == mno)
			return true;
	}
	return false;
}
