/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/internal.h"

#include <string.h>
#include <unistd.h>

static const char *
colour_of(const char *level)
{
	static const struct {
		const char *level, *colour;
	} colours[] = {
		{ "ok", "\033[32m" },
		{ "note", "\033[36m" },
		{ "warning", "\033[33m" },
		{ "problem", "\033[31m" },
	};

	for (size_t i = 0; i < sizeof(colours) / sizeof(*colours); i++) {
		if (strcmp(level, colours[i].level) == 0)
			return colours[i].colour;
	}
	return "";
}

static void
print_plain(const char *text)
{
	struct buf plain = BUF_EMPTY;

	append_plain(&plain, span_of(text));
	fputs(buf_cstring(&plain), stdout);
	buf_done(&plain);
}

/* "problem  source  192.0.2.10: has no name", and below it how to mend it. */
static void
print_finding(const json_t *finding, bool is_coloured)
{
	const char *level = text_at(finding, "level");
	const char *how = text_at(finding, "remedy");

	printf("%s%-8s%s %-11s ", is_coloured ? colour_of(level) : "", level,
	    is_coloured ? "\033[0m" : "", text_at(finding, "area"));
	print_plain(text_at(finding, "subject"));
	fputs(": ", stdout);
	print_plain(text_at(finding, "text"));
	putchar('\n');
	if (how[0] == '\0')
		return;
	printf("%*s", 21, "");
	print_plain(how);
	putchar('\n');
}

static void
print_findings(const json_t *root)
{
	bool is_coloured = isatty(STDOUT_FILENO);
	const json_t *finding;
	size_t i;

	json_array_foreach(json_object_get(root, "findings"), i, finding)
	    print_finding(finding, is_coloured);
}

int
cmd_doctor(struct invocation *inv)
{
	const struct question q = {
		.method = "GET", .path = "/api/v1/doctor", .timeout_s = 300
	};
	json_t *root;

	if (isatty(STDERR_FILENO))
		fputs("looking at this machine and asking the DNS…\n", stderr);
	if (ask(inv, &q, &root) != 0)
		return 1;
	bool is_well = strcmp(text_at(root, "verdict"), "problem") != 0;
	(void)show_answer(inv, root, print_findings);
	return is_well ? 0 : 1;
}
