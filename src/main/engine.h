/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The running service: reactors with their receivers and dispatchers, the spool
 * between them, the directory, the exporter, the control socket. Wiring only:
 * what a thing does is told by its room.
 *
 * The thread that calls engine_run becomes the chief: it takes the signals
 * (SIGTERM and SIGINT drain, a second one ends at once, SIGHUP reloads), feeds
 * the watchdog and looks for other processes' changes to the directory.
 */

#include "base/error.h"
#include "config/config.h"
#include "directory/directory.h"
#include "loop/loop.h"

struct engine;

struct engine_options {
	const char *config_path; /* read again on reload; NULL: no reload */
	bool keep_user; /* drop nothing: the sandbox is its starter's */
	/* Called when the service takes mail; may be NULL. */
	void (*on_ready)(void *arg, struct engine *engine);
	void *arg;
};

/* Takes over the process: binds, drops privileges, recovers the spool, serves
 * until told to stop. 0 after an orderly end. */
MUST_CHECK int engine_run(struct config *config,
    const struct engine_options *options, struct failure *ret_failure);

/* For on_ready. */
struct directory *engine_directory(struct engine *engine);
struct loop *engine_chief_loop(struct engine *engine);
