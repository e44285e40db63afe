/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A spool in a directory of its own, and mail that can be told apart: every
 * octet of a message follows from its number. */

#include "base/buf.h"
#include "spool/spool.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fixture {
	char directory[64];
	struct spool_options options;
	struct spool *spool;
};

void fixture_setup(struct fixture *f);
void fixture_teardown(struct fixture *f); /* closes and removes */
void fixture_open(struct fixture *f);
/* On a simulated disk, with segments that fill soon; close it yourself. */
void fixture_open_on(struct fixture *f, const struct spool_io *io);
void fixture_close(struct fixture *f);
/* For cmocka: *state becomes a fixture that is open. */
int fixture_begin(void **state);
int fixture_end(void **state);

/* Damages one octet of a file. */
void fixture_flip_byte(const char *path, off_t at);

/* The body of message number mno with this size. */
void fixture_body(uint64_t mno, size_t size, struct buf *ret_body);
/* A transaction with this message and an event line. */
struct spool_txn *fixture_message(
    struct spool *spool, uint64_t mno, size_t size, uint32_t rcpts);
/* Commits one; returns its number. */
uint64_t fixture_send(struct spool *spool, size_t size, uint32_t rcpts);
void fixture_done(
    struct spool *spool, uint64_t mno, uint32_t first, uint32_t count);
/* Opens, reads, compares. 0, or the code of opening or reading. */
int fixture_check(
    struct spool *spool, uint64_t mno, size_t size, uint32_t rcpts);

/* What spool_recover tells. */
struct told {
	uint64_t mnos[4096];
	uint32_t live[4096], runs[4096];
	struct spool_live_run first[4096];
	size_t count;
	size_t orders;
	char last_domain[64];
};

void fixture_recover(struct spool *spool, struct told *told);
bool told_has(const struct told *told, uint64_t mno);
