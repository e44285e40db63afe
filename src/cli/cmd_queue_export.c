/* SPDX-License-Identifier: Apache-2.0 */

/*
 * `queue export DIR`: for each message ID.eml, its octets, and ID.json, its
 * envelope. The envelope gets its name last, so that a pair with a .json is
 * whole, however the export ended.
 */

#include "base/mem.h"
#include "cli/internal.h"
#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define ID_SIZE (MSGID_TEXT_SIZE - 1)

struct export
{
	struct invocation *inv;
	const char *directory;
	struct buf ids; /* ID_SIZE octets each */
	json_t *end; /* the last line */
	bool failed;
	uint64_t written, gone, unreadable;
};

static int
complain_of(const char *path, int error)
{
	return complain("%s: %s", path, error_text(error));
}

/* A new directory, or one without anything: two exports do not mix. */
static int
prepare(const char *path)
{
	struct dirent *entry;
	int count = 0;
	int result = file_make_directory(path, 0700);
	DIR *d = result < 0 ? NULL : opendir(path);

	if (d == NULL)
		return complain_of(path, result < 0 ? result : -errno);
	while ((entry = readdir(d)) != NULL)
		count += strcmp(entry->d_name, ".") != 0 &&
			 strcmp(entry->d_name, "..") != 0;
	(void)closedir(d);
	if (count > 0)
		return complain("%s is not empty: name a new directory", path);
	return 0;
}

/* ---- envelopes --------------------------------------------------------- */

static void
write_envelope(struct export *x, const char *id, struct span line)
{
	AUTO_FREE char *path = mem_printf("%s/%s.part", x->directory, id);
	int AUTO_CLOSE fd =
	    open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int result = fd < 0 ? -errno : file_write_all(fd, line);

	if (result == 0)
		result = file_write_all(fd, SPAN("\n"));
	if (result == 0 && fsync(fd) < 0)
		result = -errno;
	if (result < 0) {
		x->failed = true;
		(void)complain_of(path, result);
		return;
	}
	buf_append(&x->ids, span_from(id, ID_SIZE));
}

static void
on_line(void *arg, struct span line)
{
	struct export *x = arg;
	json_t *root = json_loadb(line.ptr, line.len, 0, NULL);
	const char *id = text_at(root, "message_id");

	if (x->failed) {
		json_decref(root);
		return;
	}
	if (flag_at(root, "end")) {
		x->end = json_incref(root);
	} else if (text_at(root, "unreadable")[0] != '\0') {
		x->unreadable++;
		(void)complain("message number %lld cannot be read: %s",
		    number_at(root, "mno"), text_at(root, "unreadable"));
	} else if (strlen(id) == ID_SIZE) {
		write_envelope(x, id, line);
	} else {
		x->failed = true;
		(void)complain("the service's answer is no envelope: is it of "
			       "another version?");
	}
	json_decref(root);
}

/* ---- messages ---------------------------------------------------------- */

struct body {
	int fd;
	int result;
};

static bool
on_piece(void *arg, struct span piece)
{
	struct body *b = arg;

	b->result = file_write_all(b->fd, piece);
	return b->result == 0;
}

/* 0; 1: it has found its end; a negative code after saying why. */
static int
fetch(struct export *x, const char *id, const char *path)
{
	AUTO_FREE char *url = mem_printf("/api/v1/messages/%s/raw", id);
	int AUTO_CLOSE fd =
	    open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct body body = { .fd = fd };
	const struct question q = {
		.method = "GET", .path = url, .on_piece = on_piece, .arg = &body
	};
	struct answer answer = { 0 };
	struct failure failure;

	if (fd < 0) {
		body.result = -errno;
		(void)complain_of(path, body.result);
		return body.result;
	}
	int result = client_ask(x->inv->client, &q, &answer, &failure);
	if (result < 0) {
		(void)complain("%s: %s", path, failure.text);
		return result;
	}
	buf_done(&answer.body);
	if (answer.status == 404)
		return 1;
	if (answer.status >= 300)
		body.result = -EIO;
	if (body.result == 0 && fsync(fd) < 0)
		body.result = -errno;
	if (body.result < 0)
		(void)complain_of(path, body.result);
	return body.result;
}

static bool
write_message(struct export *x, const char *id)
{
	AUTO_FREE char *part = mem_printf("%s/%s.part", x->directory, id);
	AUTO_FREE char *envelope = mem_printf("%s/%s.json", x->directory, id);
	AUTO_FREE char *path = mem_printf("%s/%s.eml", x->directory, id);
	int result = fetch(x, id, path);

	if (result == 0 && rename(part, envelope) < 0) {
		(void)complain_of(envelope, -errno);
		return false;
	}
	if (result == 0) {
		x->written++;
		return true;
	}
	(void)unlink(path);
	(void)unlink(part);
	x->gone += result == 1;
	return result == 1;
}

static bool
write_messages(struct export *x)
{
	struct span ids = buf_span(&x->ids);
	char id[ID_SIZE + 1];

	for (; ids.len > 0; ids = span_skip(ids, ID_SIZE)) {
		if (!span_to_cstring(
			span_slice(ids, 0, ID_SIZE), id, sizeof(id)) ||
		    !write_message(x, id))
			return false;
	}
	int result = file_sync_directory(x->directory);
	if (result < 0)
		(void)complain_of(x->directory, result);
	return result == 0;
}

/* ---- the command ------------------------------------------------------- */

static int
report(struct export *x)
{
	long long in_flight = number_at(x->end, "in_flight");
	bool more = flag_at(x->end, "more");

	if (x->inv->json)
		return print_json(json_pack("{s:I, s:I, s:I, s:I, s:b}",
			   "exported", (json_int_t)x->written, "ended",
			   (json_int_t)x->gone, "unreadable",
			   (json_int_t)x->unreadable, "in_flight",
			   (json_int_t)in_flight, "more", more)) +
		       (more || x->unreadable > 0);
	printf("%llu messages are in %s\n", (unsigned long long)x->written,
	    x->directory);
	if (in_flight > 0)
		printf("%lld recipients were on their way and are not among "
		       "them; `posthouse queue hold` first keeps them here\n",
		    in_flight);
	if (more)
		return complain("there is more than one export can take: "
				"select by tenant, stream or domain");
	return x->unreadable > 0;
}

static int
run(struct export *x)
{
	const struct invocation *inv = x->inv;
	const struct pair query[] = {
		{ "tenant", option_value(inv, "tenant") },
		{ "stream", option_value(inv, "stream") },
		{ "domain", option_value(inv, "domain") },
		{ "site", option_value(inv, "site") },
		{ "class", option_value(inv, "class") },
		{ 0 },
	};

	if (!ask_open(x->inv) || prepare(x->directory) != 0 ||
	    ask_lines(x->inv, "/api/v1/queues/export", query, on_line, x) !=
		0 ||
	    x->failed)
		return 1;
	if (x->end == NULL)
		return complain("the service's answer has no end");
	return write_messages(x) ? report(x) : 1;
}

int
cmd_queue_export(struct invocation *inv)
{
	struct export x = { .inv = inv, .directory = inv->arguments[0] };
	int status = run(&x);

	json_decref(x.end);
	buf_done(&x.ids);
	return status;
}
