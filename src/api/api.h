/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The admin API: HTTP and JSON. The same handlers answer on the control socket
 * (DATA_DIR/control.sock, whose file mode is the permission), and, without any
 * socket, inside a command when no service runs: then only what the directory
 * and the event files can answer is answered, the rest is 503.
 *
 *	GET    /api/v1/status
 *	GET    /api/v1/tenants              POST, DELETE /api/v1/tenants/{name}
 *	GET    /api/v1/streams?tenant=      POST, DELETE /api/v1/streams/{tenant}/{name}
 *	GET    /api/v1/credentials?tenant=  POST, DELETE /api/v1/credentials/{username}
 *	GET    /api/v1/queues?tenant=&stream=&domain=
 *	GET    /api/v1/queues/deliveries?…&limit=
 *	POST   /api/v1/queues/{hold,release,retry,bounce}   {tenant,stream,domain,message,reason}
 *	GET    /api/v1/messages/{id}        DELETE: cancel
 *	GET    /api/v1/messages/{id}/raw
 *	POST   /api/v1/messages/raw         the sendmail shim: envelope in headers
 *	GET    /api/v1/events?…             &follow=1: one line after another
 *	GET    /api/v1/trace?peer=          lines as they happen
 *	POST   /api/v1/reload               as SIGHUP
 *	GET    /health, /metrics            (also on `http` listeners)
 *
 * Errors: {"error": {"code": "not_found", "message": "…"}} with a fitting
 * status. Field names are the words of the product in snake_case, times are
 * RFC 3339 in UTC.
 */

#include "config/config.h"
#include "deliver/deliver.h"
#include "directory/directory.h"
#include "intake/intake.h"
#include "receive/receive.h"

/* What handlers work on. Engine parts are NULL in a command of its own. */
struct api {
	struct directory *directory;
	const char *data_dir;
	struct spool *spool;
	struct intake *intake;
	struct receive_shared *receive;
	/* Runs fn on each dispatcher's thread, one after the other, and waits. */
	void (*each_dispatch)(void *owner, void (*fn)(void *arg, struct dispatch *dispatch), void *arg);
	/* Starts a reload and waits for its result. */
	int (*reload)(void *owner, struct failure *ret_failure);
	void *owner;
	int64_t started_us; /* wall */
	const char *hostname;
};

struct api_request {
	const char *method; /* "GET" */
	const char *path;   /* without query, decoded segments by api_route */
	const char *(*query)(const struct api_request *request, const char *name); /* NULL: not given */
	const char *(*header)(const struct api_request *request, const char *name);
	struct span body;
	void *owner;
};

struct api_response {
	int status;
	const char *content_type; /* static */
	struct buf body;
	/* For endless answers: called for more until it returns false. */
	bool (*more)(void *stream, struct buf *out);
	void (*end)(void *stream);
	void *stream;
};

/* Answers one request; may block. Any thread. */
void api_handle(const struct api *api, const struct api_request *request, struct api_response *ret_response);

struct api_server;
/* On a listening socket (the control socket's, or an `http` listener's with
 * `public_only`: then only /health and /metrics are there). Takes fd. */
MUST_CHECK int api_server_start(const struct api *api, int listen_fd, bool public_only, struct api_server **ret_server, struct failure *ret_failure);
void api_server_stop(struct api_server **server);
