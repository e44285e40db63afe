/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The admin API: HTTP and JSON. The same handlers answer on the control socket
 * (DATA_DIR/control.sock, whose file mode is the permission), and, without any
 * socket, inside a command when no service runs: then only what the directory
 * and the event files can answer is answered, the rest is 503.
 *
 *	GET    /api/v1/status
 *	GET    /api/v1/doctor               takes up to three minutes
 *	GET    /api/v1/tenants
 *	POST   /api/v1/tenants              {name}
 *	GET    /api/v1/tenants/{name}       DELETE: disable
 *	POST   /api/v1/tenants/{name}       {sender_policy}
 *	GET    /api/v1/streams?tenant=
 *	POST   /api/v1/streams              {tenant, name, class, expire}
 *	GET    /api/v1/streams/{tenant}/{name}  DELETE
 *	GET    /api/v1/credentials?tenant=&revoked=1
 *	POST   /api/v1/credentials          {tenant, stream, name, networks}
 *	GET    /api/v1/credentials/{username}  DELETE: revoke
 *	GET    /api/v1/domains?tenant=
 *	POST   /api/v1/domains              {tenant, name, return_path}
 *	GET    /api/v1/domains/{name}       DELETE: with its keys
 *	GET    /api/v1/domains/{name}/dns   what is to be published
 *	POST   /api/v1/domains/{name}/verify  {}: what of it is there
 *	POST   /api/v1/domains/{name}/rotate  {force}: the next stage
 *	GET    /api/v1/queues?tenant=&stream=&domain=&site=&class=
 *	                     &limit=&offset=
 *	GET    /api/v1/queues/deliveries?tenant=&stream=&domain=&site=&class=
 *	                     &limit=
 *	GET    /api/v1/queues/export        (the same selection)
 *	POST   /api/v1/queues/hold          {tenant, stream, domain, site,
 *	POST   /api/v1/queues/release       class, reason} or {all, reason}
 *	POST   /api/v1/queues/retry         the same, or {message}
 *	POST   /api/v1/queues/bounce        "
 *	POST   /api/v1/queues/expire        "
 *	POST   /api/v1/queues/cancel        "
 *	POST   /api/v1/queues/move          {to, tenant, …}: to a stream
 *	GET    /api/v1/messages/{id}        DELETE: cancel
 *	GET    /api/v1/messages/{id}/raw
 *	POST   /api/v1/messages/raw
 *	POST   /api/v1/messages/import
 *	GET    /api/v1/events?type=&recipient=&message=&tenant=
 *	                     &since=&until=&limit=&follow=1
 *	GET    /api/v1/trace?peer=
 *	POST   /api/v1/reload               as SIGHUP
 *	GET    /health, /metrics            (also on `http` listeners)
 *
 * The directory's listings take limit= and after=, and name the next `after`
 * in `next`.
 *
 * Bodies are JSON objects, but for messages/raw: there the body is the message,
 * its lines ending in CRLF, and the envelope stands in header fields:
 * X-Posthouse-Sender (empty: the null sender), X-Posthouse-Recipient (repeated,
 * or separated by commas), and, if wanted, X-Posthouse-Notify (as in RFC 3461),
 * X-Posthouse-Ret (full or hdrs) and X-Posthouse-Envid.
 *
 * An export is JSON lines: the envelope of each message with its recipients
 * that wait, and at last {"end": true, "messages", "in_flight", "more"}. An
 * import is such a line, LF, and the octets of messages/{id}/raw; it is kept as
 * it is, under a new id.
 *
 * Errors: {"error": {"code": "not_found", "message": "…"}} with a fitting
 * status. Field names are the words of the product in snake_case, times are
 * RFC 3339 in UTC. Streams (follow, trace) are JSON lines; an empty line comes
 * when there was nothing for a second.
 */

#include "base/time.h"
#include "config/config.h"
#include "deliver/deliver.h"
#include "directory/directory.h"
#include "intake/intake.h"
#include "receive/receive.h"

/* What a reload can change. */
struct api_facts {
	char hostname[256];
	int64_t certificate_end_us; /* wall; 0: there is none */
	/* DNSSEC: "validates", "checking", "fails", "off". Static. */
	const char *dnssec;
	char dnssec_problem[320]; /* why it fails */
};

/* From so long before a certificate's end on it is warned of. */
#define API_CERTIFICATE_WARNING_US (14 * US_PER_DAY)

/* What handlers work on. Engine parts are NULL in a command of its own. */
struct api {
	struct directory *directory;
	const char *data_dir;
	struct spool *spool;
	struct intake *intake;
	struct receive_shared *receive;
	struct signing *signing;
	/* Runs fn on each dispatcher's thread in turn and waits. */
	void (*each_dispatch)(void *owner,
	    void (*fn)(void *arg, struct dispatch *dispatch), void *arg);
	/* Starts a reload and waits for its result. */
	int (*reload)(void *owner, struct failure *ret_failure);
	/* Those of now. */
	void (*facts)(void *owner, struct api_facts *ret_facts);
	/* The one in force, counted for the caller; also in a command of its
	 * own. */
	struct config *(*config)(void *owner);
	void *owner;
	int64_t started_us; /* wall */
};

#define API_BODY_MAX ((uint64_t)1024 * 1024)
#define API_MESSAGE_MAX ((uint64_t)64 * 1024 * 1024)

struct api_request {
	const char *method; /* "GET" */
	const char *path; /* decoded, without query */
	/* Decoded values; NULL: not given. A header field that is repeated
	 * gives all its values, joined by commas. */
	const char *(*query)(
	    const struct api_request *request, const char *name);
	const char *(*header)(
	    const struct api_request *request, const char *name);
	struct span body;
	const char *user; /* who asks, by the control socket; may be NULL */
	void *owner;
};

/* What a request's body may measure. */
uint64_t api_body_limit(const struct api_request *request);

enum api_more {
	API_MORE, /* with nothing appended: nothing for a second */
	API_END,
	API_BROKEN, /* what was sent is not the whole */
};

struct api_response {
	int status;
	const char *content_type; /* static */
	char allow[32]; /* 405: the methods that are possible */
	struct buf body;
	/* For long answers: asked after body until it does not say API_MORE. */
	enum api_more (*more)(void *stream, struct buf *out);
	void (*end)(void *stream);
	void *stream;
};

/* Answers one request; may block. Any thread. */
void api_handle(const struct api *api, const struct api_request *request,
    struct api_response *ret_response);
void api_response_done(struct api_response *response);

struct api_server;

/* What a socket is for; the rest is not there. */
enum api_door {
	API_DOOR_CONTROL, /* everything: DATA_DIR/control.sock, by file mode */
	API_DOOR_SUBMIT, /* POST messages/raw: DATA_DIR/submit.sock, for every
			     local user's sendmail */
	API_DOOR_PUBLIC, /* GET /health and /metrics: `http` listeners */
};

/* On a listening socket, which is taken. */
MUST_CHECK int api_server_start(const struct api *api, int listen_fd,
    enum api_door door, struct api_server **ret_server,
    struct failure *ret_failure);
/* Ends open streams and waits for open requests. */
void api_server_stop(struct api_server **server);
