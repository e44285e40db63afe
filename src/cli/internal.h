/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What commands have in common; private to cli. */

#include "api/api.h"
#include "base/buf.h"
#include "cli/cli.h"

#include <jansson.h>
#include <stdio.h>

/* ---- commands.c, options.c: which command, and with what --------------- */

#define CLI_OPTIONS 12
#define CLI_ARGUMENTS 64

struct cli_option {
	const char *name; /* "tenant" for --tenant; NULL ends a list */
	const char *value; /* what its value is called; NULL: a flag */
	const char *help;
};

struct invocation;
typedef int command_fn(struct invocation *inv);

struct command {
	const char *name, *sub; /* "queue", "hold"; sub may be NULL */
	const char *arguments; /* for the usage line */
	uint8_t arguments_min, arguments_max;
	const char *summary;
	const struct cli_option *options; /* beside the common ones, or NULL */
	command_fn *run; /* NULL: main runs it, listed here for the help */
};

/* All commands; a row without a name ends the table. */
extern const struct command commands[];

/* One command as it was called. */
struct invocation {
	const struct command *command;
	const char *config_path;
	const char *control; /* NULL: the config's data_dir has it */
	bool json;
	const char *values[CLI_OPTIONS]; /* as command->options; flags: "" */
	const char *arguments[CLI_ARGUMENTS];
	size_t argument_count;
	struct client *client; /* opened by the first question */
};

/* One of those that every command takes, and with a value: --config. */
bool options_takes_value(const char *word);
/* argv[0] is to be skipped. False: *ret_status is the exit status. */
bool options_parse(
    struct invocation *inv, int argc, char **argv, int *ret_status);
/* NULL: not given. The option must be in the command's list. */
const char *option_value(const struct invocation *inv, const char *name);
/* Prints how the command is used and returns 2. */
int usage_error(const struct command *command, const char *why);
void usage_print(const struct command *command, FILE *out);

/* Prints the mistakes to `out`, as file:line:column: text. */
struct config *config_load_for(const char *path, bool check_files, FILE *out);

/* ---- client.c: asking the service -------------------------------------- */

struct pair {
	const char *name; /* NULL ends a list */
	const char *value; /* NULL: left out */
};

struct question {
	const char *method, *path;
	const struct pair *query; /* or NULL */
	const struct pair *headers; /* or NULL */
	struct span body;
	long timeout_s; /* 0: none */
	/* Takes the answer as it comes, when it is no error; returns false to
	 * end it. NULL: it is gathered. */
	bool (*on_piece)(void *arg, struct span piece);
	void *arg;
};

struct answer {
	int status; /* HTTP's */
	struct buf body;
};

struct client;

enum client_flags {
	CLIENT_NEEDS_SERVICE = 1,
	CLIENT_SUBMITS = 2, /* the submission socket will do */
};

/* To the service's control socket; when none runs, to handlers in this process.
 * The failure's code is ERR_CLOSED when only the service is missing. */
MUST_CHECK int client_open(const char *config_path, const char *control,
    int flags, struct client **ret_client, struct failure *ret_failure);
void client_close(struct client **client);
/* The config, when it was read for the socket's path; else NULL. */
const struct config *client_config(const struct client *client);
/* ret_answer->body is the caller's to free; also on failure untouched. */
MUST_CHECK int client_ask(struct client *client, const struct question *q,
    struct answer *ret_answer, struct failure *ret_failure);

/* Opens inv->client, once. False after saying what is wrong. */
bool ask_open(struct invocation *inv);
/* Asks for a command. 0 and the answer, or 1 after saying what is wrong. */
int ask(struct invocation *inv, const struct question *q, json_t **ret_root);
int ask_get(struct invocation *inv, const char *path, const struct pair *query,
    json_t **ret_root);
/* Takes body. */
int ask_post(
    struct invocation *inv, const char *path, json_t *body, json_t **ret_root);
/* Shows an answer to people. */
typedef void show_fn(const json_t *root);
/* With --json prints the answer, else shows it. Takes root; returns 0. */
int show_answer(const struct invocation *inv, json_t *root, show_fn *show);
/* Ask and show; return the exit status. */
int get_and_show(struct invocation *inv, const char *path,
    const struct pair *query, show_fn *show);
/* Takes body. */
int post_and_show(
    struct invocation *inv, const char *path, json_t *body, show_fn *show);
int delete_and_show(struct invocation *inv, const char *path, show_fn *show);
/* A stream: gives each line, without its newline, until it or the service
 * ends. Returns the exit status. */
typedef void line_fn(void *arg, struct span line);
int ask_lines(struct invocation *inv, const char *path,
    const struct pair *query, line_fn *fn, void *arg);
/* "posthouse: …" to stderr; returns 1. */
int complain(const char *format, ...) PRINTF_LIKE(1, 2);

/* ---- print.c: for people ----------------------------------------------- */

/* Prints the API's JSON and frees it; returns 0. */
int print_json(json_t *root);
/* Text of strangers: control characters become '?'. */
void append_plain(struct buf *out, struct span s);
/* Values of an object; "" and 0 when missing. */
const char *text_at(const json_t *object, const char *name);
long long number_at(const json_t *object, const char *name);
bool flag_at(const json_t *object, const char *name);
#define WHEN_SIZE 32
/* "in 4 min", "now", "-"; "3 min ago". From an RFC 3339 time, or NULL. */
const char *when_next(const char *time, char buffer[static WHEN_SIZE]);
const char *when_past(const char *time, char buffer[static WHEN_SIZE]);
/* "1.2 GB" */
const char *format_bytes(long long bytes, char buffer[static WHEN_SIZE]);
/* "name  value" lines. */
void print_fact(const char *name, const char *format, ...) PRINTF_LIKE(2, 3);

/* ---- table.c ----------------------------------------------------------- */

struct table_column {
	const char *title;
	bool right; /* numbers */
};

struct table;
struct table *table_new(const struct table_column *columns, size_t count);
void table_free(struct table **table);
/* Cells of a row from left to right, row after row. */
void table_text(struct table *table, const char *text);
void table_number(struct table *table, long long number);
/* Aligned; lines are cut to `width` columns, 0: not. */
void table_render(const struct table *table, size_t width, struct buf *out);
/* To stdout, cut where that is a terminal. */
void table_print(struct table *table);
/* Columns that a text takes on a terminal. */
size_t text_width(struct span s);

/* ---- commands ---------------------------------------------------------- */

command_fn cmd_config_check, cmd_config_show;
command_fn cmd_status, cmd_top;
command_fn cmd_doctor;
command_fn cmd_tenant_add, cmd_tenant_list, cmd_tenant_show, cmd_tenant_set,
    cmd_tenant_remove;
command_fn cmd_stream_add, cmd_stream_list, cmd_stream_show, cmd_stream_set,
    cmd_stream_remove;
command_fn cmd_credential_add, cmd_credential_list, cmd_credential_show,
    cmd_credential_remove;
command_fn cmd_suppression_add, cmd_suppression_list, cmd_suppression_show,
    cmd_suppression_remove, cmd_suppression_import, cmd_suppression_export;
command_fn cmd_domain_add, cmd_domain_list, cmd_domain_show, cmd_domain_dns,
    cmd_domain_verify, cmd_domain_rotate, cmd_domain_remove;
command_fn cmd_queue_summary, cmd_queue_list, cmd_queue_show;
command_fn cmd_queue_hold, cmd_queue_release, cmd_queue_retry, cmd_queue_bounce,
    cmd_queue_expire, cmd_queue_cancel, cmd_queue_move, cmd_queue_verify;
command_fn cmd_queue_export, cmd_queue_import;
command_fn cmd_message_show, cmd_message_why, cmd_message_cancel,
    cmd_message_raw;
command_fn cmd_parse_report;
command_fn cmd_events, cmd_trace, cmd_reload, cmd_version, cmd_help;

/* The status as lines; false: the service is failing. */
bool status_print(const json_t *root);
/* totals may be NULL. */
/* All about one queue, a line per fact. */
void queue_print(const json_t *queue);
void queues_print(const json_t *queues, const json_t *totals);
/* One event in one line. */
void event_line(const json_t *event, struct buf *out);
