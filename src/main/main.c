/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Which program are we? Under the names sendmail, mailq and newaliases the
 * shims; else a command. `serve` and `sandbox` run the engine and live here,
 * every other command is a client of it and lives in cli.
 */

#include "base/span.h"
#include "cli/cli.h"
#include "main/engine.h"
#include "main/sandbox.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int
serve_usage(int status)
{
	fputs("usage: posthouse serve [--config FILE]\n",
	    status == 0 ? stdout : stderr);
	return status;
}

static int
serve(int argc, char **argv)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct engine_options engine = { .config_path = cli_default_config() };
	struct failure failure;
	int c;

	optind = 2;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c != 'c')
			return serve_usage(c == 'h' ? 0 : 2);
		engine.config_path = optarg;
	}
	if (optind < argc)
		return serve_usage(2);
	struct config *config = cli_load_config(engine.config_path);
	if (config == NULL)
		return 1;
	int result = engine_run(config, &engine, &failure);
	config_unref(&config);
	if (result < 0) {
		fprintf(stderr, "posthouse: %s\n", failure.text);
		return 1;
	}
	return 0;
}

/* The name behind the last slash. */
static struct span
own_name(const char *path)
{
	struct span name = span_of(path);
	size_t slash = span_find_last(name, '/');

	return slash == SIZE_MAX ? name : span_skip(name, slash + 1);
}

/* Who starts us may have closed them: then a socket or a file of ours would be
 * descriptor 2, and what is meant for people be written into it. Opened the
 * wrong way round, so that using them still fails. */
static bool
occupy_standard_streams(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null",
			fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			return false;
	}
	return true;
}

int
main(int argc, char **argv)
{
	struct span name = own_name(argc > 0 ? argv[0] : "posthouse");

	if (!occupy_standard_streams())
		return 1;
	if (span_eq(name, SPAN("sendmail")) ||
	    span_eq(name, SPAN("newaliases")))
		return cli_sendmail(argc, argv);
	if (span_eq(name, SPAN("mailq")))
		return cli_mailq(argc, argv);
	cli_put_command_first(argc, argv);
	if (argc > 1 && strcmp(argv[1], "serve") == 0)
		return serve(argc, argv);
	if (argc > 1 && strcmp(argv[1], "sandbox") == 0)
		return sandbox_run(argc, argv);
	return cli_run(argc, argv);
}
