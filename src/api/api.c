/* SPDX-License-Identifier: Apache-2.0 */
#include "api/api.h"

#include "api/internal.h"
#include "base/bug.h"

#include <stdio.h>
#include <string.h>

struct route {
	const char *method;
	const char *pattern; /* a segment {…} takes any one segment */
	handler_fn *handler;
	bool needs_engine;
};

/* clang-format off */
static const struct route routes[] = {
	{ "GET",    "/health",                          health_show,        true },
	{ "GET",    "/metrics",                         metrics_show,       true },
	{ "GET",    "/api/v1/status",                   status_show,        true },
	{ "GET",    "/api/v1/doctor",                   doctor_show,        false },
	{ "GET",    "/api/v1/tenants",                  tenants_list,       false },
	{ "POST",   "/api/v1/tenants",                  tenants_add,        false },
	{ "GET",    "/api/v1/tenants/{name}",           tenants_show,       false },
	{ "POST",   "/api/v1/tenants/{name}",           tenants_set,        false },
	{ "DELETE", "/api/v1/tenants/{name}",           tenants_remove,     false },
	{ "GET",    "/api/v1/streams",                  streams_list,       false },
	{ "POST",   "/api/v1/streams",                  streams_add,        false },
	{ "GET",    "/api/v1/streams/{tenant}/{name}",  streams_show,       false },
	{ "POST",   "/api/v1/streams/{tenant}/{name}",  streams_set,        false },
	{ "DELETE", "/api/v1/streams/{tenant}/{name}",  streams_remove,     false },
	{ "GET",    "/api/v1/credentials",              credentials_list,   false },
	{ "POST",   "/api/v1/credentials",              credentials_add,    false },
	{ "GET",    "/api/v1/credentials/{username}",   credentials_show,   false },
	{ "DELETE", "/api/v1/credentials/{username}",   credentials_remove, false },
	{ "GET",    "/api/v1/suppressions",             suppressions_show,  false },
	{ "POST",   "/api/v1/suppressions",             suppressions_change, false },
	{ "DELETE", "/api/v1/suppressions",             suppressions_delete, false },
	{ "GET",    "/api/v1/suppressions/export",      suppressions_export, false },
	{ "POST",   "/api/v1/suppressions/import",      suppressions_import, false },
	{ "GET",    "/api/v1/domains",                  domains_list,       false },
	{ "POST",   "/api/v1/domains",                  domains_add,        false },
	{ "GET",    "/api/v1/domains/{name}",           domains_show,       false },
	{ "DELETE", "/api/v1/domains/{name}",           domains_remove,     false },
	{ "GET",    "/api/v1/domains/{name}/dns",       domains_dns,        false },
	{ "POST",   "/api/v1/domains/{name}/verify",    domains_verify,     false },
	{ "POST",   "/api/v1/domains/{name}/rotate",    domains_rotate,     false },
	{ "GET",    "/api/v1/queues",                   queues_list,        true },
	{ "GET",    "/api/v1/queues/deliveries",        queues_deliveries,  true },
	{ "GET",    "/api/v1/queues/export",            queues_export,      true },
	{ "POST",   "/api/v1/queues/hold",              queues_hold,        true },
	{ "POST",   "/api/v1/queues/release",           queues_release,     true },
	{ "POST",   "/api/v1/queues/retry",             queues_retry,       true },
	{ "POST",   "/api/v1/queues/bounce",            queues_bounce,      true },
	{ "POST",   "/api/v1/queues/expire",            queues_expire,      true },
	{ "POST",   "/api/v1/queues/cancel",            queues_cancel,      true },
	{ "POST",   "/api/v1/queues/move",              queues_move,        true },
	{ "POST",   "/api/v1/messages/raw",             messages_submit,    true },
	{ "POST",   "/api/v1/messages/import",          messages_import,    true },
	{ "GET",    "/api/v1/messages/{id}",            messages_show,      false },
	{ "DELETE", "/api/v1/messages/{id}",            messages_cancel,    true },
	{ "GET",    "/api/v1/messages/{id}/raw",        messages_raw,       true },
	{ "GET",    "/api/v1/events",                   events_list,        false },
	{ "GET",    "/api/v1/trace",                    trace_follow,       true },
	{ "POST",   "/api/v1/reload",                   service_reload,     true },
};

/* clang-format on */

enum { ROUTE_COUNT = sizeof routes / sizeof *routes };

/* Takes the segments of path that stand where the pattern has {…}. */
static bool
path_matches(const char *pattern, const char *path, struct call *call)
{
	struct span want = span_of(pattern), have = span_of(path);
	size_t count = 0;

	while (want.len > 0 && have.len > 0) {
		struct span a = span_cut(&want, '/');
		struct span b = span_cut(&have, '/');

		if (a.len == 0 || a.ptr[0] != '{') {
			if (!span_eq(a, b))
				return false;
			continue;
		}
		BUG_UNLESS(count < API_ARGUMENTS);
		if (b.len == 0 || !span_to_cstring(b, call->arguments[count++],
				      API_ARGUMENT_SIZE))
			return false;
	}
	/* "/x/" is not "/x". */
	return want.len == 0 && have.len == 0 && path[strlen(path) - 1] != '/';
}

static const struct route *
find_route(struct call *call)
{
	const struct api_request *r = call->request;
	char *allow = call->response->allow;
	size_t used = 0, room = sizeof(call->response->allow);

	if (r->path[0] != '/') {
		respond_error(call, 404, "not_found", "a path begins with /");
		return NULL;
	}
	for (size_t i = 0; i < ROUTE_COUNT; i++) {
		if (!path_matches(routes[i].pattern, r->path, call))
			continue;
		if (strcmp(routes[i].method, r->method) == 0) {
			allow[0] = '\0';
			return &routes[i];
		}
		used += (size_t)snprintf(allow + used, room - used, "%s%s",
		    used > 0 ? ", " : "", routes[i].method);
		BUG_UNLESS(used < room);
	}
	if (used > 0)
		respond_error(call, 405, "method_not_allowed",
		    "%.16s is not possible on %.200s, but %s is", r->method,
		    r->path, allow);
	else
		respond_error(call, 404, "not_found",
		    "there is nothing at %.200s; paths begin with /api/v1/",
		    r->path);
	return NULL;
}

void
api_handle(const struct api *api, const struct api_request *request,
    struct api_response *ret_response)
{
	struct call call = {
		.api = api, .request = request, .response = ret_response
	};

	*ret_response = (struct api_response){ .status = 500,
		.content_type = "application/json" };
	const struct route *route = find_route(&call);
	if (route == NULL)
		return;
	if (route->needs_engine && api->spool == NULL) {
		respond_error(&call, 503, "service_not_running",
		    "the service is not running, and this needs it: start it "
		    "with `posthouse serve` or `systemctl start posthouse`");
		return;
	}
	route->handler(&call);
	BUG_UNLESS(
	    buf_size(&ret_response->body) > 0 || ret_response->more != NULL);
}

uint64_t
api_body_limit(const struct api_request *request)
{
	static const char *const with_messages[] = { "/api/v1/messages/raw",
		"/api/v1/messages/import" };

	for (size_t i = 0; i < 2; i++) {
		if (strcmp(request->method, "POST") == 0 &&
		    strcmp(request->path, with_messages[i]) == 0)
			return API_MESSAGE_MAX;
	}
	return API_BODY_MAX;
}

void
api_response_done(struct api_response *response)
{
	if (response->end != NULL)
		response->end(response->stream);
	buf_done(&response->body);
	*response = (struct api_response){ 0 };
}
