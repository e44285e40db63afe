/* SPDX-License-Identifier: Apache-2.0 */

/* What messages report, as JSON: without a service, without a config. */

#include "base/mem.h"
#include "bounce/report.h"
#include "cli/internal.h"

#include <errno.h>
#include <string.h>

/* Larger than any report; the parser looks at less. */
#define MESSAGE_BYTES_MAX ((size_t)8 * 1024 * 1024)

/* 0, or 1 after saying why not. What is beyond the limit is left unread. */
static int
read_message(const char *path, struct buf *message)
{
	bool is_stdin = strcmp(path, "-") == 0;
	FILE *file = is_stdin ? stdin : fopen(path, "rb");
	size_t got = 1;

	if (file == NULL)
		return complain("cannot open %s: %s", path, strerror(errno));
	while (got > 0 && buf_size(message) < MESSAGE_BYTES_MAX) {
		char *room = buf_reserve(message, 65536);
		got = fread(room, 1, 65536, file);
		buf_added(message, got);
	}
	int failed = ferror(file) ? errno : 0;
	if (!is_stdin)
		(void)fclose(file);
	if (failed != 0)
		return complain("cannot read %s: %s", path, strerror(failed));
	return 0;
}

static int
print_report(const struct bounce_reader *reader, const char *path)
{
	struct buf message = BUF_EMPTY, line = BUF_EMPTY;
	struct arena *arena = arena_new();
	struct bounce_report report;
	int status = read_message(path, &message);

	if (status == 0) {
		bounce_read(reader, buf_span(&message), arena, &report);
		bounce_report_render(&report, &line);
		puts(buf_cstring(&line));
	}
	arena_free(&arena);
	buf_done(&message);
	buf_done(&line);
	return status;
}

int
cmd_parse_report(struct invocation *inv)
{
	struct judge *judge = judge_new();
	struct bounce_reader *reader = bounce_reader_new(judge);
	int status = 0;

	if (inv->argument_count == 0)
		status = print_report(reader, "-");
	for (size_t i = 0; i < inv->argument_count; i++) {
		if (print_report(reader, inv->arguments[i]) != 0)
			status = 1;
	}
	bounce_reader_free(&reader);
	judge_free(&judge);
	return status;
}
