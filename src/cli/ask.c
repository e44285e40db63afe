/* SPDX-License-Identifier: Apache-2.0 */

/* How a command asks, and what it says when the answer is an error. */

#include "base/bug.h"
#include "base/mem.h"
#include "cli/internal.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* A line of a stream; events are far shorter. */
#define LINE_MAX_OCTETS ((size_t)1024 * 1024)

int
complain(const char *format, ...)
{
	struct buf line = BUF_EMPTY;
	char text[2048];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	append_plain(&line, span_of(text));
	fprintf(stderr, "posthouse: %s\n", buf_cstring(&line));
	buf_done(&line);
	return 1;
}

static int
fail(const struct invocation *inv, const char *code, const char *message)
{
	if (inv->json)
		(void)print_json(json_pack("{s:{s:s, s:s}}", "error", "code",
		    code, "message", message));
	return complain("%s", message);
}

bool
ask_open(struct invocation *inv)
{
	struct failure failure;

	if (inv->client != NULL)
		return true;
	if (client_open(
		inv->config_path, inv->control, 0, &inv->client, &failure) == 0)
		return true;
	(void)fail(inv,
	    failure.code == ERR_CLOSED ? "service_not_running" : "failed",
	    failure.text);
	return false;
}

/* Says what an error answer says; takes root. */
static int
fail_with(const struct invocation *inv, int status, json_t *root)
{
	json_t *error = json_object_get(root, "error");
	const char *message = text_at(error, "message");

	if (message[0] == '\0')
		(void)complain("the service answered with status %d", status);
	else
		(void)complain("%s", message);
	if (inv->json && root != NULL)
		(void)print_json(json_incref(root));
	json_decref(root);
	return 1;
}

int
ask(struct invocation *inv, const struct question *q, json_t **ret_root)
{
	struct failure failure;
	struct answer answer;
	json_t *root;

	if (!ask_open(inv))
		return 1;
	if (client_ask(inv->client, q, &answer, &failure) < 0)
		return fail(inv, "failed", failure.text);
	root = buf_size(&answer.body) == 0
		   ? NULL
		   : json_loadb(answer.body.ptr + answer.body.head,
			 buf_size(&answer.body), JSON_ALLOW_NUL, NULL);
	/* One answer has a password. */
	mem_wipe(answer.body.ptr, answer.body.len);
	buf_done(&answer.body);
	if (answer.status >= 300)
		return fail_with(inv, answer.status, root);
	if (root == NULL && q->on_piece == NULL)
		return fail(inv, "failed",
		    "the service's answer is not JSON: is it of another "
		    "version?");
	*ret_root = root;
	return 0;
}

int
ask_get(struct invocation *inv, const char *path, const struct pair *query,
    json_t **ret_root)
{
	const struct question q = {
		.method = "GET", .path = path, .query = query
	};

	return ask(inv, &q, ret_root);
}

int
ask_post(
    struct invocation *inv, const char *path, json_t *body, json_t **ret_root)
{
	char *text = json_dumps(body, JSON_COMPACT);
	int status;

	json_decref(body);
	if (text == NULL)
		return complain("the arguments are not UTF-8");
	const struct question q = {
		.method = "POST", .path = path, .body = span_of(text)
	};
	status = ask(inv, &q, ret_root);
	free(text);
	return status;
}

/* ---- asking and showing ------------------------------------------------ */

int
show_answer(const struct invocation *inv, json_t *root, show_fn *show)
{
	if (inv->json)
		return print_json(root);
	show(root);
	json_decref(root);
	return 0;
}

int
get_and_show(struct invocation *inv, const char *path, const struct pair *query,
    show_fn *show)
{
	json_t *root = NULL;

	if (ask_get(inv, path, query, &root) != 0)
		return 1;
	return show_answer(inv, root, show);
}

int
post_and_show(
    struct invocation *inv, const char *path, json_t *body, show_fn *show)
{
	json_t *root = NULL;

	if (ask_post(inv, path, body, &root) != 0)
		return 1;
	return show_answer(inv, root, show);
}

int
delete_and_show(struct invocation *inv, const char *path, show_fn *show)
{
	const struct question q = { .method = "DELETE", .path = path };
	json_t *root = NULL;

	if (ask(inv, &q, &root) != 0)
		return 1;
	return show_answer(inv, root, show);
}

/* ---- streams ----------------------------------------------------------- */

struct lines {
	line_fn *fn;
	void *arg;
	struct buf rest; /* of a line that is not complete */
};

static bool
split_lines(void *arg, struct span piece)
{
	struct lines *l = arg;
	size_t newline;

	buf_append(&l->rest, piece);
	while ((newline = span_find(buf_span(&l->rest), '\n')) != SIZE_MAX) {
		/* An empty line is the service's sign of life. */
		if (newline > 0)
			l->fn(
			    l->arg, span_slice(buf_span(&l->rest), 0, newline));
		buf_consume(&l->rest, newline + 1);
	}
	/* Whoever reads our output shall see it now; if nobody does, end. */
	return fflush(stdout) == 0 && buf_size(&l->rest) < LINE_MAX_OCTETS;
}

int
ask_lines(struct invocation *inv, const char *path, const struct pair *query,
    line_fn *fn, void *arg)
{
	struct lines lines = { .fn = fn, .arg = arg };
	const struct question q = {
		.method = "GET",
		.path = path,
		.query = query,
		.on_piece = split_lines,
		.arg = &lines,
	};
	json_t *root = NULL;
	int status = ask(inv, &q, &root);

	json_decref(root);
	buf_done(&lines.rest);
	return status;
}
