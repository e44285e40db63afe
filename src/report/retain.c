/* SPDX-License-Identifier: Apache-2.0 */

/* Old events leave by whole files: the day is in the name, so that nothing
 * need be read to know what is too old. */

#include "base/mem.h"
#include "base/time.h"
#include "log/log.h"
#include "report/internal.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct kept {
	const char *directory;
	struct events_files files;
	uint64_t *sizes;
	uint64_t total;
};

static char *
path_of(const struct kept *k, size_t i)
{
	return mem_printf("%s/%s", k->directory, k->files.names[i]);
}

static int
measure(struct kept *k)
{
	k->sizes = mem_resize(NULL, k->files.count, sizeof(*k->sizes));
	for (size_t i = 0; i < k->files.count; i++) {
		AUTO_FREE char *path = path_of(k, i);
		struct stat st;

		if (stat(path, &st) < 0)
			return -errno;
		k->sizes[i] = (uint64_t)st.st_size;
		k->total += k->sizes[i];
	}
	return 0;
}

/* The day has ended so long ago; a name without a day never has. */
static bool
is_old(const char *name, int64_t time_us, int64_t now_us)
{
	char midnight[TIME_RFC3339_SIZE];
	int64_t begin_us;

	(void)snprintf(midnight, sizeof(midnight), "%.10sT00:00:00Z", name);
	return time_us > 0 &&
	       time_parse_rfc3339(span_of(midnight), &begin_us) &&
	       now_us - begin_us - US_PER_DAY > time_us;
}

static int
drop(struct kept *k, size_t i, const char *why)
{
	AUTO_FREE char *path = path_of(k, i);

	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	LOG(LOG_INFO, "report", "old events are removed", LOG_C("file", path),
	    LOG_N("bytes", k->sizes[i]), LOG_C("limit", why));
	k->total -= k->sizes[i];
	return 0;
}

/* The newest file is being written: it stays, whatever the limits. */
static int
drop_old(struct kept *k, const struct event_limits *limits, int64_t now_us)
{
	for (size_t i = 0; i + 1 < k->files.count; i++) {
		bool is_large = limits->bytes > 0 && k->total > limits->bytes;

		if (is_old(k->files.names[i], limits->time_us, now_us))
			TRY(drop(k, i, "limits.events_time"));
		else if (is_large)
			TRY(drop(k, i, "limits.events_size"));
		else
			break;
	}
	return 0;
}

int
events_retain(
    const char *directory, const struct event_limits *limits, int64_t now_us)
{
	struct kept k = { .directory = directory };
	int result = events_list_files(directory, &k.files);

	if (result == 0)
		result = measure(&k);
	if (result == 0)
		result = drop_old(&k, limits, now_us);
	events_files_done(&k.files);
	mem_free(k.sizes);
	return result;
}
