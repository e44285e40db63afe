/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Runs the program in a child and catches what it prints. */

#include "base/buf.h"
#include "cli/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct caught {
	int status;
	struct buf out, err;
};

static inline void
caught_done(struct caught *c)
{
	buf_done(&c->out);
	buf_done(&c->err);
}

static inline void
catch_file(FILE *file, struct buf *out)
{
	rewind(file);
	for (;;) {
		size_t n = fread(buf_reserve(out, 4096), 1, 4096, file);

		if (n == 0)
			break;
		buf_added(out, n);
	}
	fclose(file);
}

typedef int catch_fn(int argc, char **argv);

/* line: words between single spaces; input: standard input. */
static inline void
catch_run(struct caught *c, catch_fn *fn, const char *line, const char *input)
{
	FILE *out = tmpfile(), *err = tmpfile(), *in = tmpfile();
	char words[1024], *argv[32] = { 0 };
	int argc = 0, status;

	snprintf(words, sizeof(words), "%s", line);
	for (char *rest = words, *word;
	     argc < 31 && (word = strsep(&rest, " ")) != NULL;)
		argv[argc++] = word;
	fputs(input, in);
	rewind(in);
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		dup2(fileno(in), STDIN_FILENO);
		dup2(fileno(out), STDOUT_FILENO);
		dup2(fileno(err), STDERR_FILENO);
		status = fn(argc, argv);
		fflush(NULL);
		_exit(status);
	}
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	*c = (struct caught){ .status = WEXITSTATUS(status) };
	catch_file(out, &c->out);
	catch_file(err, &c->err);
	fclose(in);
}

static inline bool
caught_has(struct buf *text, const char *wanted)
{
	return strstr(buf_cstring(text), wanted) != NULL;
}
