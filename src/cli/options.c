/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "cli/internal.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

/* What getopt_long gives for the common options; the command's own are their
 * index. */
enum { OPTION_CONFIG = 100, OPTION_CONTROL, OPTION_JSON, OPTION_HELP };

enum { COMMON_OPTIONS = 4 };

static const struct cli_option common[] = {
	{ "config", "FILE", "" },
	{ "control", "SOCKET", "" },
	{ "json", NULL, "" },
	{ 0 },
};

const char *
cli_default_config(void)
{
	const char *path = getenv("POSTHOUSE_CONFIG");

	return path != NULL && path[0] != '\0'
		   ? path
		   : "/etc/posthouse/posthouse.yaml";
}

/* ---- usage ------------------------------------------------------------- */

static void
print_options(const struct cli_option *options, FILE *out)
{
	for (; options != NULL && options->name != NULL; options++)
		fprintf(out, " [--%s%s%s]", options->name,
		    options->value != NULL ? " " : "",
		    options->value != NULL ? options->value : "");
}

void
usage_print(const struct command *command, FILE *out)
{
	const struct cli_option *o = command->options;

	fprintf(out, "usage: posthouse %s%s%s%s%s", command->name,
	    command->sub != NULL ? " " : "",
	    command->sub != NULL ? command->sub : "",
	    command->arguments[0] != '\0' ? " " : "", command->arguments);
	print_options(o, out);
	if (command->run != NULL)
		print_options(common, out);
	fprintf(out, "\n  %s\n", command->summary);
	for (; o != NULL && o->name != NULL; o++) {
		char left[40];

		(void)snprintf(left, sizeof(left), "--%s %s", o->name,
		    o->value != NULL ? o->value : "");
		fprintf(out, "    %-20s %s\n", left, o->help);
	}
}

int
usage_error(const struct command *command, const char *why)
{
	if (why != NULL)
		(void)complain("%s", why);
	usage_print(command, stderr);
	return 2;
}

/* ---- parsing ----------------------------------------------------------- */

static void
fill_options(const struct command *command,
    struct option long_options[static CLI_OPTIONS + COMMON_OPTIONS + 1])
{
	static const struct option shared[] = {
		{ "config", required_argument, NULL, OPTION_CONFIG },
		{ "control", required_argument, NULL, OPTION_CONTROL },
		{ "json", no_argument, NULL, OPTION_JSON },
		{ "help", no_argument, NULL, OPTION_HELP },
	};
	const struct cli_option *o = command->options;
	int count = 0;

	for (; o != NULL && o[count].name != NULL; count++) {
		BUG_UNLESS(count < CLI_OPTIONS);
		long_options[count] = (struct option){
			.name = o[count].name,
			.has_arg = o[count].value != NULL ? required_argument
							  : no_argument,
			.val = count,
		};
	}
	memcpy(&long_options[count], shared, sizeof(shared));
	long_options[count + COMMON_OPTIONS] = (struct option){ 0 };
}

/* What is no UTF-8 has no place in JSON: a selection would lose the part that
 * narrows it. False: *ret_status. */
static bool
is_text(const struct invocation *inv, const char *value, int *ret_status)
{
	struct buf why = BUF_EMPTY;

	if (span_is_utf8(span_of(value)))
		return true;
	buf_append_char(&why, '`');
	append_plain(&why, span_of(value));
	buf_append_str(&why, "` is not UTF-8: write it in UTF-8, or a domain "
			     "in its ASCII form, xn--…");
	*ret_status = usage_error(inv->command, buf_cstring(&why));
	buf_done(&why);
	return false;
}

/* False: *ret_status. */
static bool
take_option(struct invocation *inv, int option, int *ret_status)
{
	switch (option) {
	case OPTION_CONFIG:
		inv->config_path = optarg;
		return true;
	case OPTION_CONTROL:
		inv->control = optarg;
		return true;
	case OPTION_JSON:
		inv->json = true;
		return true;
	case OPTION_HELP:
		usage_print(inv->command, stdout);
		*ret_status = 0;
		return false;
	case '?':
		*ret_status = usage_error(inv->command, NULL);
		return false;
	default:
		BUG_UNLESS(option >= 0 && option < CLI_OPTIONS);
		inv->values[option] = optarg != NULL ? optarg : "";
		return is_text(inv, inv->values[option], ret_status);
	}
}

static bool
take_arguments(struct invocation *inv, int argc, char **argv, int *ret_status)
{
	size_t count = (size_t)(argc - optind);

	if (count < inv->command->arguments_min) {
		*ret_status =
		    usage_error(inv->command, "an argument is missing");
		return false;
	}
	if (count > inv->command->arguments_max) {
		*ret_status =
		    usage_error(inv->command, "there are too many arguments");
		return false;
	}
	BUG_UNLESS(count <= CLI_ARGUMENTS);
	for (size_t i = 0; i < count; i++) {
		inv->arguments[i] = argv[optind + (int)i];
		if (!is_text(inv, inv->arguments[i], ret_status))
			return false;
	}
	inv->argument_count = count;
	return true;
}

bool
options_takes_value(const char *word)
{
	for (const struct cli_option *o = common; o->name != NULL; o++) {
		if (o->value != NULL && strcmp(word + 2, o->name) == 0)
			return true;
	}
	return false;
}

bool
options_parse(struct invocation *inv, int argc, char **argv, int *ret_status)
{
	struct option long_options[CLI_OPTIONS + COMMON_OPTIONS + 1];
	const char *control = getenv("POSTHOUSE_CONTROL");
	static char program[] = "posthouse";
	int c;

	inv->config_path = cli_default_config();
	inv->control = control != NULL && control[0] != '\0' ? control : NULL;
	fill_options(inv->command, long_options);
	argv[0] = program; /* for getopt's sentences */
	optind = 0; /* glibc: start anew */
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (!take_option(inv, c, ret_status))
			return false;
	}
	return take_arguments(inv, argc, argv, ret_status);
}

const char *
option_value(const struct invocation *inv, const char *name)
{
	const struct cli_option *o = inv->command->options;

	for (size_t i = 0; o != NULL && o[i].name != NULL; i++) {
		if (strcmp(o[i].name, name) == 0)
			return inv->values[i];
	}
	UNREACHABLE("a command asks for its own options only");
}

/* ---- the config -------------------------------------------------------- */

static void
print_mistake(void *arg, const char *file, unsigned line, unsigned column,
    const char *text)
{
	if (line == 0)
		fprintf(arg, "%s: %s\n", file, text);
	else
		fprintf(arg, "%s:%u:%u: %s\n", file, line, column, text);
}

struct config *
config_load_for(const char *path, bool check_files, FILE *out)
{
	struct config *config = NULL;

	if (config_load(path, check_files, print_mistake, out, &config) < 0)
		return NULL;
	return config;
}

struct config *
cli_load_config(const char *path)
{
	return config_load_for(path, true, stderr);
}
