/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What receiving systems were found to bear (windows and paces of the ledger)
 * outlives a restart in DATA_DIR/paths.json, written once a minute and at the
 * end. It saves a round of finding out: without it, or with a file that is no
 * good, everything begins anew.
 */

#include "base/mem.h"
#include "base/time.h"
#include "log/log.h"
#include "main/internal.h"
#include "os/clock.h"
#include "os/file.h"

#include <errno.h>
#include <jansson.h>

#define FILE_SIZE_MAX ((size_t)16 * 1024 * 1024)
#define FILE_MODE 0640
#define SAVE_US US_PER_MIN
/* As long as the ledger keeps what is not used. */
#define GOOD_US US_PER_DAY

static char *
path_of(const struct engine *e)
{
	return mem_printf("%s/paths.json", e->data_dir);
}

/* ---- saving ------------------------------------------------------------ */

static void
add_path(void *arg, const struct schedule_learned *l)
{
	struct span reply = span_is_utf8(l->reply) ? l->reply : SPAN_EMPTY;

	if (!span_is_utf8(l->name))
		return;
	json_array_append_new(
	    arg, json_pack("{s:s%, s:I, s:I, s:I, s:s%}", "path",
		     (const char *)l->name.ptr, l->name.len, "window",
		     (json_int_t)l->window, "pace", (json_int_t)l->pace,
		     "ceiling", (json_int_t)l->ceiling, "reply",
		     reply.len > 0 ? (const char *)reply.ptr : "", reply.len));
}

static int
append_piece(const char *piece, size_t len, void *out)
{
	buf_append(out, span_from(piece, len));
	return 0;
}

static void
save(const struct engine *e)
{
	AUTO_FREE char *path = path_of(e);
	json_t *paths = json_array();
	struct buf text = BUF_EMPTY;

	schedule_ledger_each_learned(e->ledger, add_path, paths);
	json_t *root = json_pack("{s:I, s:o}", "saved_us",
	    (json_int_t)clock_wall_us(), "paths", paths);
	(void)json_dump_callback(root, append_piece, &text, JSON_INDENT(1));
	json_decref(root);
	int result = file_replace(path, buf_span(&text), FILE_MODE);
	if (result < 0)
		LOG(LOG_WARNING, "main",
		    "what receiving systems bear cannot be saved",
		    LOG_C("file", path), LOG_C("error", error_text(result)));
	buf_done(&text);
}

void
engine_save_learned(struct engine *e, bool is_last)
{
	int64_t now_us = clock_monotonic_us();

	if (e->ledger == NULL || e->learned_us == 0 ||
	    (!is_last && now_us - e->learned_us < SAVE_US))
		return;
	e->learned_us = now_us;
	save(e);
}

/* ---- loading ----------------------------------------------------------- */

static void
take_path(struct engine *e, const json_t *path)
{
	const json_t *name = json_object_get(path, "path");
	const json_t *reply = json_object_get(path, "reply");
	json_int_t window = json_integer_value(json_object_get(path, "window"));
	const struct schedule_learned learned = {
		.name = span_from(
		    json_string_value(name), json_string_length(name)),
		.window = window > 0 && window < 100000 ? (uint32_t)window : 0,
		.pace = json_integer_value(json_object_get(path, "pace")),
		.ceiling = json_integer_value(json_object_get(path, "ceiling")),
		.reply = span_from(
		    json_string_value(reply), json_string_length(reply)),
	};

	if (learned.name.len > 0)
		schedule_ledger_learn(
		    e->ledger, &learned, clock_monotonic_us());
}

static void
take_paths(struct engine *e, const json_t *root)
{
	int64_t age_us = clock_wall_us() -
			 json_integer_value(json_object_get(root, "saved_us"));
	const json_t *path;
	size_t i;

	if (age_us < 0 || age_us > GOOD_US)
		return;
	json_array_foreach(json_object_get(root, "paths"), i, path)
	{
		take_path(e, path);
	}
}

void
engine_load_learned(struct engine *e)
{
	AUTO_FREE char *path = path_of(e);
	struct buf text = BUF_EMPTY;
	json_error_t error;

	e->learned_us = clock_monotonic_us();
	int result = file_read(path, FILE_SIZE_MAX, &text);
	if (result < 0) {
		if (result != -ENOENT)
			LOG(LOG_WARNING, "main",
			    "what receiving systems bear cannot be read",
			    LOG_C("file", path),
			    LOG_C("error", error_text(result)));
		buf_done(&text);
		return;
	}
	json_t *root = json_loads(buf_cstring(&text), 0, &error);
	if (root == NULL)
		LOG(LOG_WARNING, "main",
		    "what receiving systems bear is no JSON and begins anew",
		    LOG_C("file", path), LOG_C("error", error.text));
	else
		take_paths(e, root);
	json_decref(root);
	buf_done(&text);
}
