/* SPDX-License-Identifier: Apache-2.0 */

/*
 * HTTP by libmicrohttpd, one thread per connection, so that a stream or a
 * handler that waits holds up nobody else. Connections are few and bounded:
 * this is the operator's door, not the mail's.
 */

#include "api/internal.h"
#include "base/arena.h"
#include "base/bug.h"
#include "base/mem.h"
#include "log/log.h"

#include <errno.h>
#include <microhttpd.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	CONTROL_CONNECTIONS = 64,
	PUBLIC_CONNECTIONS = 64,
	PUBLIC_PER_CLIENT = 8,
	CONTROL_TIMEOUT_S = 60,
	PUBLIC_TIMEOUT_S = 10,
	/* Header fields name up to some thousand recipients. */
	CONTROL_MEMORY = 1024 * 1024,
	PUBLIC_MEMORY = 16 * 1024,
	STREAM_BLOCK = 32 * 1024,
	THREAD_STACK = 512 * 1024,
};

struct api_server {
	const struct api *api;
	enum api_door door;
	struct MHD_Daemon *daemon;
};

/* One request from its first line to the answer. */
struct exchange {
	struct MHD_Connection *connection;
	struct arena *arena;
	struct buf body;
	bool too_large;
	struct intake *intake; /* of a message: counts its body */
	uint64_t held;
	bool too_much;
};

/* Bodies of messages count among mail under way (limits.memory). */
static bool
hold(struct exchange *x, uint64_t octets)
{
	if (x->intake == NULL)
		return true;
	x->held += octets;
	return intake_hold(x->intake, octets);
}

static void
drop_body(struct exchange *x)
{
	buf_done(&x->body);
	if (x->intake != NULL)
		intake_let_go(x->intake, x->held);
	x->held = 0;
}

/* ---- what handlers see of a request ------------------------------------ */

static const char *
lookup_query(const struct api_request *request, const char *name)
{
	const struct exchange *x = request->owner;

	return MHD_lookup_connection_value(
	    x->connection, MHD_GET_ARGUMENT_KIND, name);
}

struct gathering {
	const char *name;
	struct buf values;
	bool found;
};

static enum MHD_Result
gather(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct gathering *g = arg;

	(void)kind;
	if (!span_eq_nocase(span_of(name), span_of(g->name)))
		return MHD_YES;
	if (g->found)
		buf_append_char(&g->values, ',');
	buf_append_str(&g->values, value != NULL ? value : "");
	g->found = true;
	return MHD_YES;
}

static const char *
lookup_header(const struct api_request *request, const char *name)
{
	const struct exchange *x = request->owner;
	struct gathering g = { .name = name };
	const char *joined = NULL;

	(void)MHD_get_connection_values(
	    x->connection, MHD_HEADER_KIND, gather, &g);
	if (g.found)
		joined = arena_strdup(x->arena, buf_span(&g.values));
	buf_done(&g.values);
	return joined;
}

/* Who stands at the other end of the control socket: the kernel knows. */
static const char *
peer_user(const struct exchange *x)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
	    x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct ucred peer;
	socklen_t len = sizeof(peer);
	struct passwd passwd, *found = NULL;
	char buffer[4096];

	if (info == NULL ||
	    getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) <
		0 ||
	    peer.uid == (uid_t)-1)
		return NULL;
	if (getpwuid_r(peer.uid, &passwd, buffer, sizeof(buffer), &found) ==
		0 &&
	    found != NULL)
		return arena_strdup(x->arena, span_of(passwd.pw_name));
	return arena_printf(x->arena, "uid-%u", peer.uid).ptr;
}

/* ---- answers ----------------------------------------------------------- */

static ssize_t
read_stream(void *cls, uint64_t position, char *out, size_t max)
{
	struct api_response *r = cls;

	(void)position;
	if (buf_size(&r->body) == 0) {
		enum api_more more = r->more(r->stream, &r->body);

		if (more == API_BROKEN)
			return MHD_CONTENT_READER_END_WITH_ERROR;
		if (more == API_END && buf_size(&r->body) == 0)
			return MHD_CONTENT_READER_END_OF_STREAM;
		/* Only by writing do we learn that the reader is gone. */
		if (buf_size(&r->body) == 0)
			buf_append_char(&r->body, '\n');
	}
	struct span piece = span_slice(buf_span(&r->body), 0, max);
	BUG_UNLESS(piece.ptr != NULL);
	memcpy(out, piece.ptr, piece.len);
	buf_consume(&r->body, piece.len);
	return (ssize_t)piece.len;
}

static void
end_stream(void *cls)
{
	struct api_response *r = cls;

	api_response_done(r);
	mem_free(r);
}

/* Takes r's contents. */
static struct MHD_Response *
make_response(struct api_response *r)
{
	struct MHD_Response *response;

	if (r->more != NULL) {
		struct api_response *stream = mem_dup(r, sizeof(*r));

		response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN,
		    STREAM_BLOCK, read_stream, stream, end_stream);
		if (response == NULL)
			end_stream(stream);
		return response;
	}
	response = MHD_create_response_from_buffer(
	    buf_size(&r->body), r->body.ptr, MHD_RESPMEM_MUST_COPY);
	/* One answer has a password. */
	mem_wipe(r->body.ptr, r->body.len);
	buf_done(&r->body);
	return response;
}

static enum MHD_Result
send_response(struct exchange *x, struct api_response *r)
{
	unsigned status = (unsigned)r->status;
	const char *type = r->content_type;
	char allow[sizeof(r->allow)];

	memcpy(allow, r->allow, sizeof(allow));
	struct MHD_Response *response = make_response(r);
	if (response == NULL)
		return MHD_NO;
	(void)MHD_add_response_header(response, "Content-Type", type);
	(void)MHD_add_response_header(response, "Cache-Control", "no-store");
	if (allow[0] != '\0')
		(void)MHD_add_response_header(response, "Allow", allow);
	enum MHD_Result result =
	    MHD_queue_response(x->connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result
send_error(
    struct exchange *x, int status, const char *code, const char *message)
{
	struct api_response response = { .content_type = "application/json" };
	struct call call = { .response = &response };

	respond_error(&call, status, code, "%s", message);
	return send_response(x, &response);
}

/* ---- requests ---------------------------------------------------------- */

static void
log_change(const struct api_request *request, int status)
{
	if (strcmp(request->method, "GET") == 0)
		return;
	LOG(LOG_INFO, "api", "request", LOG_C("method", request->method),
	    LOG_C("path", request->path), LOG_N("status", status),
	    LOG_C("user", request->user));
}

static enum MHD_Result
answer(struct api_server *server, struct exchange *x,
    const struct api_request *request)
{
	struct api_response response;

	api_handle(server->api, request, &response);
	log_change(request, response.status);
	return send_response(x, &response);
}

static bool
is_public(const char *path)
{
	return strcmp(path, "/health") == 0 || strcmp(path, "/metrics") == 0;
}

/* The declared length, if any; beyond all limits when it is no number. */
static uint64_t
declared_length(struct exchange *x)
{
	const char *text = MHD_lookup_connection_value(
	    x->connection, MHD_HEADER_KIND, "Content-Length");
	uint64_t length = 0;

	if (text != NULL && !span_to_u64(span_of(text), UINT64_MAX, &length))
		return UINT64_MAX;
	return length;
}

static bool
is_submission(const struct api_request *request)
{
	return strcmp(request->method, "POST") == 0 &&
	       strcmp(request->path, "/api/v1/messages/raw") == 0;
}

static enum MHD_Result
begin(struct api_server *server, struct exchange *x,
    const struct api_request *request)
{
	if (server->door == API_DOOR_PUBLIC && !is_public(request->path))
		return send_error(x, 404, "not_found",
		    "only /health and /metrics are here; the admin API is on "
		    "the control socket");
	if (server->door == API_DOOR_PUBLIC &&
	    strcmp(request->method, "GET") != 0)
		return send_error(
		    x, 405, "method_not_allowed", "only GET is possible here");
	if (server->door == API_DOOR_SUBMIT && !is_submission(request))
		return send_error(x, 403, "forbidden",
		    "this socket takes messages only; the admin API is on the "
		    "control socket, for root and the service's group");
	if (declared_length(x) > api_body_limit(request))
		return send_error(x, 413, "too_large",
		    "the body is larger than this request may have");
	return MHD_YES;
}

static enum MHD_Result
take_body(struct api_server *server, struct exchange *x,
    const struct api_request *request, struct span piece)
{
	uint64_t limit =
	    server->door == API_DOOR_PUBLIC ? 0 : api_body_limit(request);

	if (buf_size(&x->body) + piece.len > limit)
		x->too_large = true;
	/* What is too large is read to its end, for the answer, unkept. */
	if (x->too_large || x->too_much)
		return MHD_YES;
	x->too_much = !hold(x, piece.len);
	if (x->too_much)
		drop_body(x);
	else
		buf_append(&x->body, piece);
	return MHD_YES;
}

static enum MHD_Result
/* The library set it. NOLINTNEXTLINE(readability-function-size) */
on_request(void *cls, struct MHD_Connection *connection, const char *url,
    const char *method, const char *version, const char *upload,
    size_t *upload_size, void **con_cls)
{
	struct api_server *server = cls;
	struct exchange *x = *con_cls;
	struct api_request request = {
		.method = strcmp(method, "HEAD") == 0 ? "GET" : method,
		.path = url,
		.query = lookup_query,
		.header = lookup_header,
	};

	(void)version;
	if (x == NULL) {
		x = MEM_NEW(struct exchange);
		x->connection = connection;
		x->arena = arena_new();
		if (is_submission(&request))
			x->intake = server->api->intake;
		*con_cls = x;
		return begin(server, x, &request);
	}
	if (*upload_size > 0) {
		struct span piece = span_from(upload, *upload_size);

		*upload_size = 0;
		return take_body(server, x, &request, piece);
	}
	if (x->too_large)
		return send_error(x, 413, "too_large",
		    "the body is larger than this request may have");
	if (x->too_much)
		return send_error(x, 503, "too_much",
		    "too much mail is arriving at once (limits.memory): try "
		    "again later");
	request.owner = x;
	request.body = buf_span(&x->body);
	request.user = server->door == API_DOOR_PUBLIC ? NULL : peer_user(x);
	return answer(server, x, &request);
}

static void
on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
    enum MHD_RequestTerminationCode code)
{
	struct exchange *x = *con_cls;

	(void)cls;
	(void)connection;
	(void)code;
	if (x == NULL)
		return;
	drop_body(x);
	arena_free(&x->arena);
	mem_free(x);
	*con_cls = NULL;
}

/* ---- start and stop ---------------------------------------------------- */

static struct MHD_Daemon *
start_daemon(struct api_server *server, int fd)
{
	bool is_public_door = server->door == API_DOOR_PUBLIC;
	const struct MHD_OptionItem options[] = {
		{ MHD_OPTION_CONNECTION_LIMIT,
		    is_public_door ? PUBLIC_CONNECTIONS : CONTROL_CONNECTIONS,
		    NULL },
		{ MHD_OPTION_PER_IP_CONNECTION_LIMIT,
		    is_public_door ? PUBLIC_PER_CLIENT : 0, NULL },
		{ MHD_OPTION_CONNECTION_TIMEOUT,
		    is_public_door ? PUBLIC_TIMEOUT_S : CONTROL_TIMEOUT_S,
		    NULL },
		{ MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		    is_public_door ? PUBLIC_MEMORY : CONTROL_MEMORY, NULL },
		{ MHD_OPTION_THREAD_STACK_SIZE, THREAD_STACK, NULL },
		{ MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL },
		{ MHD_OPTION_END, 0, NULL },
	};

	/* poll, not select: descriptors go beyond 1024 here. */
	return MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD |
				    MHD_USE_THREAD_PER_CONNECTION |
				    MHD_USE_POLL | MHD_USE_ITC,
	    0, NULL, NULL, on_request, server, MHD_OPTION_LISTEN_SOCKET, fd,
	    MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_ARRAY,
	    options, MHD_OPTION_END);
}

int
api_server_start(const struct api *api, int listen_fd, enum api_door door,
    struct api_server **ret_server, struct failure *ret_failure)
{
	struct api_server *server = MEM_NEW(struct api_server);

	BUG_UNLESS(listen_fd >= 0);
	server->api = api;
	server->door = door;
	server->daemon = start_daemon(server, listen_fd);
	if (server->daemon == NULL) {
		close(listen_fd);
		mem_free(server);
		return failure_set(ret_failure, -ENOMEM,
		    "cannot start the HTTP server: no thread or no memory is "
		    "left");
	}
	*ret_server = server;
	return 0;
}

void
api_server_stop(struct api_server **server)
{
	if (*server == NULL)
		return;
	MHD_stop_daemon((*server)->daemon);
	mem_free(*server);
	*server = NULL;
}
