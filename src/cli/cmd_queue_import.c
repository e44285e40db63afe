/* SPDX-License-Identifier: Apache-2.0 */

/*
 * `queue import DIR`: hands in what an export wrote, each message once. While
 * one is on its way ID.importing stands beside it; when it is taken, ID.json
 * becomes ID.done, which names its new id. So an import can be repeated; of one
 * that was cut off amid a message nobody can say whether that was taken, and it
 * is left alone until somebody has looked.
 */

#include "base/mem.h"
#include "cli/internal.h"
#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENVELOPE_MAX ((size_t)16 * 1024 * 1024)

struct import {
	struct invocation *inv;
	const char *directory;
	uint64_t taken, failed, done_before;
	bool stopped; /* nobody answers any more */
};

/* One message's files. */
struct files {
	char *envelope, *message, *marker, *done;
};

static struct files
files_of(const char *directory, const char *id)
{
	return (struct files){
		.envelope = mem_printf("%s/%s.json", directory, id),
		.message = mem_printf("%s/%s.eml", directory, id),
		.marker = mem_printf("%s/%s.importing", directory, id),
		.done = mem_printf("%s/%s.done", directory, id),
	};
}

static void
files_done(struct files *f)
{
	mem_free(f->envelope);
	mem_free(f->message);
	mem_free(f->marker);
	mem_free(f->done);
}

static int
complain_of(const char *path, int error)
{
	return complain("%s: %s", path, error_text(error));
}

/* ---- one message ------------------------------------------------------- */

static json_t *
read_envelope(const struct import *im, const char *path)
{
	const char *tenant = option_value(im->inv, "tenant");
	const char *stream = option_value(im->inv, "stream");
	struct buf text = BUF_EMPTY;
	json_error_t error;
	int result = file_read(path, ENVELOPE_MAX, &text);
	json_t *root = NULL;

	if (result < 0)
		(void)complain_of(path, result);
	else
		root = json_loads(
		    buf_cstring(&text), JSON_REJECT_DUPLICATES, &error);
	buf_done(&text);
	if (result == 0 && !json_is_object(root)) {
		(void)complain("%s:%d:%d: %s", path, error.line, error.column,
		    root == NULL ? error.text : "this is no envelope");
		json_decref(root);
		return NULL;
	}
	if (root != NULL && tenant != NULL)
		json_object_set_new(root, "tenant", json_string(tenant));
	if (root != NULL && stream != NULL)
		json_object_set_new(root, "stream", json_string(stream));
	if (root != NULL && option_value(im->inv, "fresh") != NULL)
		json_object_set_new(root, "expires", json_null());
	return root;
}

/* The envelope in a line, then the message. */
static int
make_body(const json_t *root, const char *path, struct buf *ret_body)
{
	char *line = json_dumps(root, JSON_COMPACT);

	buf_append_str(ret_body, line != NULL ? line : "");
	buf_append_char(ret_body, '\n');
	free(line);
	int result =
	    file_read(path, API_MESSAGE_MAX - buf_size(ret_body), ret_body);
	return result < 0 ? complain_of(path, result) : 0;
}

static const char *
message_of(const json_t *root)
{
	const char *text = text_at(json_object_get(root, "error"), "message");

	return text[0] != '\0' ? text : "the service refused it without a word";
}

/* 0, 1 after a refusal, or a negative code when nobody knows. */
static int
submit(struct import *im, const struct files *f, struct span body,
    json_t **ret_answer)
{
	const struct question q = {
		.method = "POST",
		.path = "/api/v1/messages/import",
		.body = body,
	};
	struct answer answer;
	struct failure failure;
	int result = client_ask(im->inv->client, &q, &answer, &failure);

	if (result < 0) {
		(void)complain("%s: %s", f->envelope, failure.text);
		return result;
	}
	json_t *root = json_loads(buf_cstring(&answer.body), 0, NULL);
	buf_done(&answer.body);
	if (answer.status == 201) {
		*ret_answer = root;
		return 0;
	}
	(void)complain("%s: %s", f->envelope, message_of(root));
	json_decref(root);
	return 1;
}

static bool
mark_done(const struct files *f, json_t *envelope, const json_t *answer)
{
	json_object_set(
	    envelope, "imported_as", json_object_get(answer, "message_id"));
	char *text = json_dumps(envelope, JSON_COMPACT);
	int result = file_replace(f->done, span_of(text), 0600);

	free(text);
	if (result < 0) {
		(void)complain_of(f->done, result);
		return false;
	}
	(void)unlink(f->envelope);
	(void)unlink(f->marker);
	return true;
}

/* False: it stays for another time. */
static bool
hand_in(struct import *im, const struct files *f, json_t *envelope,
    struct span body)
{
	json_t *answer = NULL;
	int AUTO_CLOSE fd =
	    open(f->marker, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int result = fd < 0 ? -errno : file_sync_directory(im->directory);

	if (result == -EEXIST)
		(void)complain(
		    "%s: an import was cut off here and may have handed the "
		    "message in: look for its sender and recipients in "
		    "`posthouse events --type accepted`, then remove the "
		    "file to import it, or rename the .json to .done",
		    f->marker);
	else if (result < 0)
		(void)complain_of(f->marker, result);
	if (result < 0)
		return false;
	result = submit(im, f, body, &answer);
	if (result > 0)
		(void)unlink(f->marker);
	im->stopped = result < 0;
	bool taken = result == 0 && mark_done(f, envelope, answer);
	json_decref(answer);
	return taken;
}

static void
import_one(struct import *im, const char *id)
{
	struct files f = files_of(im->directory, id);
	struct buf body = BUF_EMPTY;

	/* Taken, but cut off before the envelope went. */
	if (access(f.done, F_OK) == 0) {
		(void)unlink(f.envelope);
		(void)unlink(f.marker);
		files_done(&f);
		return;
	}
	json_t *envelope = read_envelope(im, f.envelope);
	bool taken = envelope != NULL &&
		     make_body(envelope, f.message, &body) == 0 &&
		     hand_in(im, &f, envelope, buf_span(&body));
	im->taken += taken;
	im->failed += !taken;
	buf_done(&body);
	json_decref(envelope);
	files_done(&f);
}

/* ---- all --------------------------------------------------------------- */

static int
select_envelopes(const struct dirent *entry)
{
	return span_ends_nocase(span_of(entry->d_name), SPAN(".json"));
}

static int
select_done(const struct dirent *entry)
{
	return span_ends_nocase(span_of(entry->d_name), SPAN(".done"));
}

/* -1 after saying why. Ids come in the order of their times. */
static int
list(const char *directory, int (*select)(const struct dirent *),
    struct dirent ***ret_entries)
{
	int count = scandir(directory, ret_entries, select, alphasort);

	if (count < 0)
		(void)complain_of(directory, -errno);
	return count;
}

static void
free_list(struct dirent **entries, int count)
{
	for (int i = 0; i < count; i++)
		free(entries[i]);
	free(entries);
}

static int
report(const struct import *im)
{
	if (im->inv->json)
		return print_json(json_pack("{s:I, s:I, s:I}", "imported",
			   (json_int_t)im->taken, "failed",
			   (json_int_t)im->failed, "done_before",
			   (json_int_t)im->done_before)) +
		       (im->failed > 0);
	printf("%llu messages are queued, %llu failed, %llu were done before\n",
	    (unsigned long long)im->taken, (unsigned long long)im->failed,
	    (unsigned long long)im->done_before);
	return im->failed > 0;
}

int
cmd_queue_import(struct invocation *inv)
{
	struct import im = { .inv = inv, .directory = inv->arguments[0] };
	struct dirent **entries;
	int count;

	if (!ask_open(inv))
		return 1;
	count = list(im.directory, select_done, &entries);
	if (count < 0)
		return 1;
	free_list(entries, count);
	im.done_before = (uint64_t)count;
	count = list(im.directory, select_envelopes, &entries);
	if (count < 0)
		return 1;
	for (int i = 0; i < count && !im.stopped; i++) {
		struct span name = span_of(entries[i]->d_name);
		AUTO_FREE char *id =
		    span_dup(span_slice(name, 0, name.len - 5));

		import_one(&im, id);
	}
	free_list(entries, count);
	return report(&im);
}
