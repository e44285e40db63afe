/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A disk in memory with the manners of a real one in its worst hour: what was
 * not synced may be there, not be there, be there in parts or in another
 * order; a name may be lost though its file was synced, until its directory
 * is; after a failed sync the pages count as clean, whatever became of them.
 * Thread-safe.
 */

#include "spool/io.h"

#include <stdbool.h>
#include <stdint.h>

struct simdisk;

struct simdisk *simdisk_new(uint64_t seed);
void simdisk_free(struct simdisk **disk);
const struct spool_io *simdisk_io(struct simdisk *disk);

/* Calls that change something, so far. */
uint64_t simdisk_calls(struct simdisk *disk);
/* Power goes at the n-th such call from now: it may happen in part, and from
 * then on all calls fail. 0: never. */
void simdisk_cut_at(struct simdisk *disk, uint64_t n);
bool simdisk_is_dead(struct simdisk *disk);
/* Power is back: decides what became of everything not synced. */
void simdisk_power_cycle(struct simdisk *disk);
/* The process died, the machine did not: the cache is still there. */
void simdisk_kill(struct simdisk *disk);

enum simdisk_call {
	SIMDISK_OPEN,
	SIMDISK_READ,
	SIMDISK_WRITE,
	SIMDISK_SYNC,
	SIMDISK_RENAME,
	SIMDISK_SYNC_DIRECTORY,
	SIMDISK_CALLS,
};

/* Of the calls of this kind on paths that contain `part`, the next `count`
 * after `skip` fail with `code`. */
void simdisk_fail(struct simdisk *disk, enum simdisk_call kind,
    const char *part, unsigned skip, unsigned count, int code);
/* Total size of files: what exceeds it is ENOSPC. */
void simdisk_set_capacity(struct simdisk *disk, uint64_t bytes);
/* A copy of a file's bytes, to mem_free, and new ones in their place, durable at
 * once: to damage what is stored. NULL when there is no such file. */
uint8_t *simdisk_get(struct simdisk *disk, const char *path, size_t *ret_size);
void simdisk_put(
    struct simdisk *disk, const char *path, const uint8_t *bytes, size_t size);
/* Number of files whose path contains `part`. */
unsigned simdisk_count(struct simdisk *disk, const char *part);
