/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/span.h"
#include "report/internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DAY_LEN 10

void
events_file_name(
    const char *day, unsigned part, char name[static EVENTS_FILE_SIZE])
{
	if (part == 0)
		snprintf(name, EVENTS_FILE_SIZE, "%.*s.jsonl", DAY_LEN, day);
	else
		snprintf(name, EVENTS_FILE_SIZE, "%.*s.%u.jsonl", DAY_LEN, day,
		    part);
}

/* The part's number; 0 for the first file of a day. */
static uint64_t
part_of(const char *name)
{
	struct span rest = span_skip(span_of(name), DAY_LEN + 1);
	uint64_t part = 0;

	if (!span_to_u64(span_cut(&rest, '.'), UINT32_MAX, &part))
		return 0;
	return part;
}

int
events_compare_files(const char *a, const char *b)
{
	int day = strncmp(a, b, DAY_LEN);
	uint64_t x, y;

	if (day != 0)
		return day;
	x = part_of(a);
	y = part_of(b);
	return (x > y) - (x < y);
}

static int
compare_names(const void *a, const void *b)
{
	return events_compare_files(*(char *const *)a, *(char *const *)b);
}

bool
events_is_file(const char *name)
{
	size_t len = strlen(name);

	return len > DAY_LEN && len < EVENTS_FILE_SIZE && name[4] == '-' &&
	       name[7] == '-' && strchr(name, '/') == NULL &&
	       span_ends_nocase(span_of(name), SPAN(".jsonl"));
}

int
events_list_files(const char *directory, struct events_files *ret_files)
{
	struct events_files files = { 0 };
	struct dirent *entry;
	DIR *dir = opendir(directory);

	if (dir == NULL && errno != ENOENT)
		return -errno;
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		if (!events_is_file(entry->d_name))
			continue;
		files.names = mem_resize(
		    files.names, files.count + 1, sizeof(*files.names));
		files.names[files.count++] = mem_strdup(entry->d_name);
	}
	if (dir != NULL)
		closedir(dir);
	if (files.count > 1)
		qsort(files.names, files.count, sizeof(*files.names),
		    compare_names);
	*ret_files = files;
	return 0;
}

void
events_files_done(struct events_files *files)
{
	for (size_t i = 0; i < files->count; i++)
		mem_free(files->names[i]);
	mem_free(files->names);
	*files = (struct events_files){ 0 };
}
