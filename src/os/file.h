/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Small files as wholes, and the syncs that make names durable. Everything
 * here may block on a disk: not for a reactor thread. */

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define AUTO_CLOSE __attribute__((cleanup(file_auto_close)))
void file_auto_close(int *fd); /* ignores fd < 0 */

/* Appends the whole file; ERR_LIMIT when larger than max. */
MUST_CHECK int file_read(const char *path, size_t max, struct buf *ret_content);
/* Writes under a temporary name, syncs, renames, syncs the directory. */
MUST_CHECK int file_replace(const char *path, struct span content, mode_t mode);
MUST_CHECK int file_sync_directory(const char *path);
/* mkdir -p -m mode; existing directories are left as they are. The mode is the
 * last one's: those above are made for everybody to pass. */
MUST_CHECK int file_make_directory(const char *path, mode_t mode);
MUST_CHECK int file_write_all(int fd, struct span content);
MUST_CHECK int file_pread_all(int fd, void *p, size_t len, off_t offset);
