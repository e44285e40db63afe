/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a suppressed address costs in memory, and a look for one in time:
 * suppression_bench [ENTRIES]. Memory is the process's growth, not only what
 * the index says of itself.
 */

#include "directory/suppression_index.h"
#include "os/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOOKUPS = 2000000 };

/* The second number of statm, in pages. */
static uint64_t
resident_bytes(void)
{
	char text[128] = "";
	FILE *f = fopen("/proc/self/statm", "re");

	if (f == NULL)
		return 0;
	const char *line = fgets(text, sizeof text, f);
	(void)fclose(f);
	const char *second = line != NULL ? strchr(line, ' ') : NULL;
	if (second == NULL)
		return 0;
	return strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static struct suppression_key
key_of(uint64_t number, char text[static 64])
{
	int len = snprintf(
	    text, 64, "user.%llu@example.com", (unsigned long long)number);

	return (struct suppression_key){ .tenant = (uint32_t)(1 + number % 100),
		.address = span_from(text, (size_t)len) };
}

static uint64_t
look(struct suppression_index *index, uint64_t from, uint64_t entries)
{
	enum suppression_cause cause;
	uint64_t found = 0;
	char text[64];

	for (uint64_t i = 0; i < LOOKUPS; i++) {
		struct suppression_key key =
		    key_of(from + (i * 7919) % entries, text);
		key.stream = 1;
		found += suppression_index_find(index, &key, &cause);
	}
	return found;
}

int
main(int argc, char **argv)
{
	uint64_t entries = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000000;
	char text[64];

	if (entries == 0)
		return 2;
	uint64_t before = resident_bytes();
	int64_t start_us = clock_monotonic_us();
	struct suppression_index *index = suppression_index_new();
	suppression_index_reserve(index, entries);
	for (uint64_t i = 0; i < entries; i++) {
		struct suppression_key key = key_of(i, text);
		suppression_index_put(index, &key, SUPPRESSION_MANUAL);
	}
	int64_t filled_us = clock_monotonic_us();
	uint64_t hits = look(index, 0, entries);
	int64_t hit_us = clock_monotonic_us();
	uint64_t misses = LOOKUPS - look(index, entries, entries);
	int64_t miss_us = clock_monotonic_us();
	printf("%llu entries: %.2f bytes each (%.2f by its own account), "
	       "%.0f ns to put; found %llu of %d in %.0f ns each, missed %llu "
	       "of %d in %.0f ns each\n",
	    (unsigned long long)entries,
	    (double)(resident_bytes() - before) / (double)entries,
	    (double)suppression_index_memory(index).bytes / (double)entries,
	    (double)(filled_us - start_us) * 1000 / (double)entries,
	    (unsigned long long)hits, LOOKUPS,
	    (double)(hit_us - filled_us) * 1000 / LOOKUPS,
	    (unsigned long long)misses, LOOKUPS,
	    (double)(miss_us - hit_us) * 1000 / LOOKUPS);
	suppression_index_free(&index);
	return 0;
}
