/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Suppressions as CSV, of any length: an import goes to the service in pieces
 * of whole records, each under the first line of the file, which names the
 * columns.
 */

#include "base/mem.h"
#include "cli/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { PIECE_SIZE = 512 * 1024, READ_SIZE = 64 * 1024 };

/* ---- export ------------------------------------------------------------ */

struct export
{
	bool is_json;
	struct buf gathered; /* for --json */
};

static bool
on_piece(void *arg, struct span piece)
{
	struct export *x = arg;

	if (x->is_json) {
		buf_append(&x->gathered, piece);
		return true;
	}
	return piece.len == 0 ||
	       fwrite(piece.ptr, 1, piece.len, stdout) == piece.len;
}

int
cmd_suppression_export(struct invocation *inv)
{
	struct export x = { .is_json = inv->json };
	const struct pair query[] = {
		{ "tenant", option_value(inv, "tenant") },
		{ "stream", option_value(inv, "stream") },
		{ "relay", option_value(inv, "relay") != NULL ? "1" : NULL },
		{ "cause", option_value(inv, "cause") },
		{ 0 },
	};
	const struct question q = {
		.method = "GET",
		.path = "/api/v1/suppressions/export",
		.query = query,
		.on_piece = on_piece,
		.arg = &x,
	};
	json_t *root = NULL;
	int status = ask(inv, &q, &root);

	json_decref(root);
	if (status == 0 && inv->json)
		status = print_json(json_pack("{s:o}", "csv",
		    json_stringn(
			buf_cstring(&x.gathered), buf_size(&x.gathered))));
	buf_done(&x.gathered);
	return status;
}

/* ---- import ------------------------------------------------------------ */

struct import {
	struct invocation *inv;
	struct buf head; /* the line that names the columns */
	struct buf piece;
	uint64_t line; /* where the piece begins in the file, from 1 */
	uint64_t lines; /* of the file so far, that are whole */
	uint64_t imported, changed, refused;
	json_t *complaints;
};

static void
count_answer(struct import *im, const json_t *root)
{
	json_t *complaint;
	size_t i;

	im->imported += (uint64_t)number_at(root, "imported");
	im->changed += (uint64_t)number_at(root, "changed");
	im->refused += (uint64_t)number_at(root, "refused");
	json_array_foreach(json_object_get(root, "complaints"), i, complaint)
	{
		/* The first line of each piece is the file's. */
		long long line =
		    number_at(complaint, "line") + (long long)im->line - 2;
		json_object_set_new(
		    complaint, "line", json_integer((json_int_t)line));
		json_array_append(im->complaints, complaint);
	}
}

static int
send_piece(struct import *im)
{
	struct invocation *inv = im->inv;
	const struct pair query[] = {
		{ "tenant", option_value(inv, "tenant") },
		{ "stream", option_value(inv, "stream") },
		{ "relay", option_value(inv, "relay") != NULL ? "1" : NULL },
		{ "cause", option_value(inv, "cause") },
		{ 0 },
	};
	struct buf body = BUF_EMPTY;
	json_t *root = NULL;

	buf_append(&body, buf_span(&im->head));
	buf_append(&body, buf_span(&im->piece));
	const struct question q = {
		.method = "POST",
		.path = "/api/v1/suppressions/import",
		.query = query,
		.body = buf_span(&body),
	};
	int status = ask(inv, &q, &root);
	buf_done(&body);
	if (status != 0)
		return status;
	count_answer(im, root);
	json_decref(root);
	buf_clear(&im->piece);
	im->line = im->lines + 1;
	return 0;
}

/* A record is complete when its line ends outside of quotes. */
static int
take_octet(struct import *im, char c, bool *quoted)
{
	struct buf *to = im->lines == 0 ? &im->head : &im->piece;

	buf_append_char(to, c);
	if (buf_size(to) > PIECE_SIZE)
		return complain("a record is longer than %d octets, or a "
				"quote is never closed: after line %llu",
		    PIECE_SIZE, (unsigned long long)im->line);
	if (c == '"')
		*quoted = !*quoted;
	if (c != '\n')
		return 0;
	im->lines++;
	if (im->lines == 1)
		im->line = 2;
	if (*quoted || buf_size(&im->piece) < PIECE_SIZE / 2)
		return 0;
	return send_piece(im);
}

static int
read_file(struct import *im, int fd, const char *name)
{
	char buffer[READ_SIZE];
	bool quoted = false;
	ssize_t n;

	while ((n = read(fd, buffer, sizeof buffer)) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (take_octet(im, buffer[i], &quoted) != 0)
				return 1;
		}
	}
	if (n < 0)
		return complain("%s: %s", name, strerror(errno));
	if (buf_size(&im->head) > 0 && im->lines == 0)
		buf_append_char(&im->head, '\n');
	return send_piece(im);
}

static int
report(struct import *im)
{
	const json_t *complaint;
	size_t i;

	if (im->inv->json)
		return print_json(json_pack("{s:I, s:I, s:I, s:O}", "imported",
			   (json_int_t)im->imported, "changed",
			   (json_int_t)im->changed, "refused",
			   (json_int_t)im->refused, "complaints",
			   im->complaints)) +
		       (im->refused > 0);
	printf("%llu rows are taken in, %llu of them new or other; %llu are "
	       "refused\n",
	    (unsigned long long)im->imported, (unsigned long long)im->changed,
	    (unsigned long long)im->refused);
	json_array_foreach(im->complaints, i, complaint)(void)
	    complain("line %lld: %s", number_at(complaint, "line"),
		text_at(complaint, "reason"));
	return im->refused > 0;
}

int
cmd_suppression_import(struct invocation *inv)
{
	const char *name = inv->arguments[0];
	bool is_stdin = strcmp(name, "-") == 0;
	struct import im = {
		.inv = inv, .line = 1, .complaints = json_array()
	};
	int fd = is_stdin ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		json_decref(im.complaints);
		return complain("%s: %s", name, strerror(errno));
	}
	int status = read_file(&im, fd, name);
	if (!is_stdin)
		(void)close(fd);
	if (status == 0)
		status = report(&im);
	json_decref(im.complaints);
	buf_done(&im.head);
	buf_done(&im.piece);
	return status;
}
