/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A directory in a temporary folder and a way to ask the handlers. With
 * rig_open_spool there is a spool and an intake, too, but no dispatchers: what
 * is accepted stays.
 */

#include "api/api.h"
#include "base/mem.h"
#include "config/config.h"
#include "intake/intake.h"
#include "spool/spool.h"

#include <errno.h>
#include <ftw.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct rig {
	char dir[32];
	struct api api;
	struct config *config;
	unsigned accepted; /* messages handed to dispatchers */
	struct api_response response;
	json_t *root; /* of the last answer */
	const char *const *query; /* name, value, …, NULL */
	const char *const *headers;
};

static inline void
rig_open(struct rig *rig)
{
	struct failure failure;

	*rig = (struct rig){ .dir = "/tmp/api-test-XXXXXX" };
	assert_non_null(mkdtemp(rig->dir));
	AUTO_FREE char *path = mem_printf("%s/directory.db", rig->dir);
	assert_int_equal(
	    directory_open(path, &rig->api.directory, &failure), 0);
	rig->api.data_dir = rig->dir;
	rig->api.owner = rig;
}

static inline int
rig_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void
rig_forget(struct rig *rig)
{
	api_response_done(&rig->response);
	json_decref(rig->root);
	rig->root = NULL;
}

static inline void
rig_close(struct rig *rig)
{
	rig_forget(rig);
	spool_close(&rig->api.spool);
	intake_free(&rig->api.intake);
	directory_close(&rig->api.directory);
	config_unref(&rig->config);
	nftw(rig->dir, rig_remove, 8, FTW_DEPTH | FTW_PHYS);
}

/* ---- an engine without dispatchers ------------------------------------- */

static inline void
rig_no_dispatch(
    void *owner, void (*fn)(void *arg, struct dispatch *dispatch), void *arg)
{
	(void)owner;
	(void)fn;
	(void)arg;
}

static inline void
rig_count(void *arg, const struct intake_accepted *accepted)
{
	struct rig *rig = arg;

	assert_true(accepted->group_count > 0);
	rig->accepted++;
}

static inline void
rig_no_mistake(void *arg, const char *file, unsigned line, unsigned column,
    const char *text)
{
	(void)arg;
	fail_msg("%s:%u:%u: %s", file, line, column, text);
}

static inline void
rig_open_spool(struct rig *rig)
{
	static const char yaml[] =
	    "hostname: relay.example.com\n"
	    "listeners:\n"
	    "  - {address: \"127.0.0.1:2525\", service: mx, tls: none}\n";
	AUTO_FREE char *path = mem_printf("%s/spool", rig->dir);
	const struct spool_options options = { .directory = path };
	struct failure failure;

	assert_int_equal(config_parse(SPAN(yaml), "test", false, rig_no_mistake,
			     NULL, &rig->config),
	    0);
	assert_int_equal(spool_open(&options, &rig->api.spool, &failure), 0);
	assert_int_equal(spool_recover(rig->api.spool, NULL, NULL), 0);
	const struct intake_options intake = {
		.spool = rig->api.spool,
		.directory = rig->api.directory,
		.config = rig->config,
		.on_accepted = rig_count,
		.arg = rig,
	};
	rig->api.intake = intake_new(&intake);
	rig->api.each_dispatch = rig_no_dispatch;
}

/* ---- asking ------------------------------------------------------------ */

static inline const char *
rig_find(const char *const *pairs, const char *name)
{
	for (; pairs != NULL && *pairs != NULL; pairs += 2) {
		if (strcmp(pairs[0], name) == 0)
			return pairs[1];
	}
	return NULL;
}

static inline const char *
rig_query(const struct api_request *request, const char *name)
{
	const struct rig *rig = request->owner;

	return rig_find(rig->query, name);
}

static inline const char *
rig_header(const struct api_request *request, const char *name)
{
	const struct rig *rig = request->owner;

	return rig_find(rig->headers, name);
}

/* Asks and keeps the answer; returns its status. */
static inline int
rig_ask(struct rig *rig, const char *method, const char *path, const char *body)
{
	const struct api_request request = {
		.method = method,
		.path = path,
		.query = rig_query,
		.header = rig_header,
		.body = span_of(body),
		.user = "ann",
		.owner = rig,
	};

	rig_forget(rig);
	api_handle(&rig->api, &request, &rig->response);
	if (rig->response.more == NULL &&
	    strcmp(rig->response.content_type, "application/json") == 0) {
		rig->root =
		    json_loads(buf_cstring(&rig->response.body), 0, NULL);
		assert_non_null(rig->root);
	}
	return rig->response.status;
}

/* The code of the last answer's error, after checking its shape. */
static inline const char *
rig_error(const struct rig *rig)
{
	const json_t *error = json_object_get(rig->root, "error");
	const char *message =
	    json_string_value(json_object_get(error, "message"));

	assert_int_equal(json_object_size(rig->root), 1);
	assert_non_null(message);
	assert_true(strlen(message) > 8);
	return json_string_value(json_object_get(error, "code"));
}

static inline const char *
rig_text(const struct rig *rig, const char *name)
{
	return json_string_value(json_object_get(rig->root, name));
}
