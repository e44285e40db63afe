/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The disk as the spool sees it. Everything the spool does to files goes
 * through this table, so that tests can put a simulated disk below it that
 * drops, tears and reorders what was not synced, and fails any call.
 * All functions return 0 or a count, or a negated errno. `directory` paths end
 * without a slash; handles are the implementation's own numbers.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct spool_io {
	void *owner;
	/* flags as for open(2); regular files only */
	int (*open)(void *owner, const char *path, int flags);
	int (*close)(void *owner, int file);
	int64_t (*pread)(
	    void *owner, int file, void *p, size_t len, uint64_t offset);
	int64_t (*pwritev)(void *owner, int file, const struct iovec *iov,
	    int count, uint64_t offset);
	int (*datasync)(void *owner, int file);
	int64_t (*size)(void *owner, int file);
	int (*rename)(void *owner, const char *from, const char *to);
	int (*unlink)(void *owner, const char *path);
	int (*mkdir)(void *owner, const char *path); /* existing is 0 */
	int (*sync_directory)(void *owner, const char *path);
	/* Calls fn for each name in a directory, in no order. */
	int (*list)(void *owner, const char *path,
	    void (*fn)(void *arg, const char *name), void *arg);
	int64_t (*free_bytes)(void *owner, const char *path);
	/* Of the file system, used or not. NULL: nobody knows. */
	int64_t (*total_bytes)(void *owner, const char *path);
	/* Takes the exclusive lock on a file, made when missing: a handle whose
	 * close (or the process's end) gives the lock back; -EWOULDBLOCK when
	 * it is taken. */
	int (*lock)(void *owner, const char *path);
};

extern const struct spool_io spool_io_disk;
