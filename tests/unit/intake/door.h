/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A door to try: a real spool and directory in a directory of their own, a
 * config from text, and an intake that counts what it hands over. For the
 * tests of intake, report and receive.
 */

#include "base/mem.h"
#include "config/config.h"
#include "directory/directory.h"
#include "intake/intake.h"
#include "os/clock.h"
#include "os/file.h"
#include "spool/spool.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define DOOR_CONFIG                                                            \
	"hostname: relay.example.org\n"                                        \
	"listeners:\n"                                                         \
	"  - {address: \"127.0.0.1:2525\", service: mx, tls: none}\n"          \
	"routes:\n"                                                            \
	"  - {domains: [local.example], deliver: discard}\n"

struct door {
	char path[64];
	struct spool *spool;
	struct directory *directory;
	struct config *config;
	struct intake *intake;
	struct directory_made_credential credential;
	/* What on_accepted told last. */
	atomic_uint accepted, groups;
	_Atomic uint64_t mno;
};

static inline void
door_on_accepted(void *arg, const struct intake_accepted *accepted)
{
	struct door *d = arg;

	atomic_store(&d->groups, (unsigned)accepted->group_count);
	atomic_store(&d->mno, accepted->mno);
	atomic_fetch_add(&d->accepted, 1);
}

static inline void
door_mistake(void *arg, const char *file, unsigned line, unsigned column,
    const char *text)
{
	(void)arg;
	print_error("%s:%u:%u: %s\n", file, line, column, text);
}

static inline struct config *
door_config(const char *text)
{
	struct config *config = NULL;

	assert_int_equal(0, config_parse(span_of(text), "test", false,
				door_mistake, NULL, &config));
	return config;
}

static inline void
door_open_spool(struct door *d)
{
	AUTO_FREE char *path = mem_printf("%s/spool", d->path);
	struct failure failure = { 0 };
	const struct spool_options options = {
		.directory = path,
		.segment_size = 1 << 20,
		.jumbo_size = 64 << 10,
		.lazy_sync_us = 2000,
		.free_low = 2,
		.free_full = 1,
	};

	if (spool_open(&options, &d->spool, &failure) < 0)
		fail_msg("%s", failure.text);
	assert_int_equal(0, spool_recover(d->spool, NULL, NULL));
}

static inline void
door_open(struct door *d, const char *config)
{
	struct failure failure = { 0 };

	*d = (struct door){ .path = "/tmp/door-test-XXXXXX" };
	assert_non_null(mkdtemp(d->path));
	AUTO_FREE char *db = mem_printf("%s/directory.db", d->path);
	door_open_spool(d);
	if (directory_open(db, &d->directory, &failure) < 0)
		fail_msg("%s", failure.text);
	const struct directory_new_credential new = { 0 };
	if (directory_add_credential(
		d->directory, &new, &d->credential, &failure) < 0)
		fail_msg("%s", failure.text);
	d->config = door_config(config);
	const struct intake_options options = {
		.spool = d->spool,
		.directory = d->directory,
		.config = d->config,
		.on_accepted = door_on_accepted,
		.arg = d,
	};
	d->intake = intake_new(&options);
}

static inline void
door_empty_directory(const char *path)
{
	struct dirent *entry;
	DIR *directory = opendir(path);

	if (!directory)
		return;
	while ((entry = readdir(directory))) {
		AUTO_FREE char *name = mem_printf("%s/%s", path, entry->d_name);

		if (entry->d_name[0] == '.')
			continue;
		if (unlink(name) < 0) {
			door_empty_directory(name);
			(void)rmdir(name);
		}
	}
	(void)closedir(directory);
}

static inline void
door_close(struct door *d)
{
	spool_close(&d->spool);
	intake_free(&d->intake);
	directory_close(&d->directory);
	config_unref(&d->config);
	door_empty_directory(d->path);
	(void)rmdir(d->path);
}

/* ---- messages ---------------------------------------------------- */

static inline struct smtp_mail
door_mail(const char *sender)
{
	struct span text = span_of(sender);

	return (struct smtp_mail){ .sender = { .text = text,
				       .domain = address_domain_of(text) } };
}

static inline struct smtp_rcpt
door_rcpt(const char *recipient)
{
	struct span text = span_of(recipient);

	return (struct smtp_rcpt){ .recipient = { .text = text,
				       .domain = address_domain_of(text) } };
}

/* The answer to END, waited for. */
struct door_answer {
	uint16_t code;
	char text[256];
	struct msgid id;
	atomic_bool done;
};

static inline void
door_done(void *arg, const struct reply *reply, const struct msgid *id)
{
	struct door_answer *a = arg;

	a->code = reply->code;
	(void)span_to_cstring(span_slice(reply->text, 0, sizeof a->text - 1),
	    a->text, sizeof a->text);
	assert_true((id != NULL) == reply_is_positive(reply));
	if (id != NULL)
		a->id = *id;
	atomic_store(&a->done, true);
}

static inline void
door_end(struct intake_message *m, struct door_answer *ret_answer)
{
	*ret_answer = (struct door_answer){ 0 };
	intake_end(m, NULL, door_done, ret_answer);
	for (int i = 0; !atomic_load(&ret_answer->done); i++) {
		assert_true(i < 50000);
		usleep(100);
	}
}

/* A message from `origin` to recipients ("a@x b@y"), its text in pieces of
 * `step` octets; 0: at once. The code of END's answer. */
static inline uint16_t
door_send(struct door *d, const struct intake_client *client,
    const struct smtp_mail *mail, const char *recipients, struct span text,
    size_t step)
{
	struct reply reply;
	struct door_answer answer;
	struct span rest = span_of(recipients);
	struct intake_message *m = intake_mail(d->intake, client, mail, &reply);

	if (m == NULL)
		return reply.code;
	while (rest.len > 0) {
		struct span one = span_cut(&rest, ' ');
		AUTO_FREE char *address = span_dup(one);
		struct smtp_rcpt rcpt = door_rcpt(address);

		intake_rcpt(m, &rcpt, &reply);
		if (!reply_is_positive(&reply)) {
			intake_abort(&m);
			return reply.code;
		}
	}
	for (size_t at = 0; at<text.len; at += step> 0 ? step : text.len)
		intake_body(
		    m, span_slice(text, at, step > 0 ? step : text.len));
	door_end(m, &answer);
	return answer.code;
}

/* Prefix and body of the message accepted last. */
static inline void
door_read(
    struct door *d, struct spool_message **ret_message, struct buf *ret_text)
{
	struct span piece;

	assert_int_equal(
	    0, spool_message_open(d->spool, atomic_load(&d->mno), ret_message));
	for (;;) {
		assert_int_equal(0, spool_message_read(*ret_message,
					buf_size(ret_text), &piece));
		if (piece.len == 0)
			return;
		buf_append(ret_text, piece);
	}
}

static inline int
door_take_lines(void *arg, struct span lines)
{
	buf_append(arg, lines);
	return 0;
}

/* All events so far. */
static inline void
door_events(struct door *d, struct buf *ret_lines)
{
	uint64_t lsn = 0;

	while (
	    spool_events_read(d->spool, &lsn, door_take_lines, ret_lines) > 0)
		continue;
}

static inline size_t
door_count(struct span text, const char *needle)
{
	size_t count = 0, at;

	while ((at = span_search(text, span_of(needle))) != SIZE_MAX) {
		text = span_skip(text, at + 1);
		count++;
	}
	return count;
}
