/* SPDX-License-Identifier: Apache-2.0 */
#include "api/suppressions.h"

#include "api/internal.h"
#include "base/time.h"
#include "os/clock.h"

#include <string.h>

enum { LIMIT_DEFAULT = 1000, LIMIT_MAX = 10000 };

/* ---- scopes ------------------------------------------------------------ */

static bool
stream_of(struct call *call, const struct directory_snapshot *s,
    const struct suppression_scope_names *names,
    struct suppression_scope *scope)
{
	const struct directory_stream *stream =
	    directory_find_stream(s, scope->tenant, span_of(names->stream));

	if (stream == NULL) {
		respond_error(call, 404, "not_found",
		    "the tenant `%.64s` has no stream `%.64s`; `posthouse "
		    "stream list` shows them",
		    names->tenant, names->stream);
		return false;
	}
	scope->stream = stream->id;
	return true;
}

static bool
tenant_of(struct call *call, const struct directory_snapshot *s,
    const struct suppression_scope_names *names,
    struct suppression_scope *scope)
{
	const struct directory_tenant *tenant =
	    directory_find_tenant(s, span_of(names->tenant));

	if (tenant == NULL) {
		respond_error(call, 404, "not_found",
		    "there is no tenant `%.64s`; `posthouse tenant list` "
		    "shows them",
		    names->tenant);
		return false;
	}
	scope->tenant = tenant->id;
	return names->stream == NULL || stream_of(call, s, names, scope);
}

bool
suppression_scope_find(struct call *call,
    const struct suppression_scope_names *names,
    struct suppression_scope *ret_scope)
{
	struct suppression_scope scope = { 0 };
	bool good = true;

	if (names->relay && (names->tenant != NULL || names->stream != NULL)) {
		respond_error(call, 422, "invalid",
		    "the whole relay has no tenant and no stream: give one or "
		    "the other");
		return false;
	}
	if (!names->relay) {
		struct suppression_scope_names given = *names;
		struct directory_snapshot *s =
		    directory_snapshot(call->api->directory);
		if (given.tenant == NULL)
			given.tenant = "default";
		good = tenant_of(call, s, &given, &scope);
		directory_snapshot_unref(&s);
	}
	if (good)
		*ret_scope = scope;
	return good;
}

const char *
suppression_address_parse(
    struct span text, struct arena *arena, struct span *ret_address)
{
	struct address address;
	const char *reason = NULL;

	if (address_parse(text, ADDRESS_ALLOW_UTF8 | ADDRESS_ALLOW_LITERAL,
		arena, &address, &reason) < 0)
		return reason;
	*ret_address = address.text;
	return NULL;
}

/* False: the answer is made. */
static bool
read_address(struct call *call, const char *text, struct arena *arena,
    struct span *ret_address)
{
	const char *reason =
	    suppression_address_parse(span_of(text), arena, ret_address);

	if (reason != NULL)
		respond_error(call, 422, "invalid",
		    "`%.320s` is no address: %s", text, reason);
	return reason == NULL;
}

/* ---- showing ----------------------------------------------------------- */

struct listing {
	const struct directory_snapshot *names;
	json_t *list;
	uint64_t last;
};

const char *
suppression_scope_name(const struct suppression *s)
{
	if (s->stream != 0)
		return "stream";
	return s->tenant != 0 ? "tenant" : "relay";
}

static json_t *
entry_json(const struct directory_snapshot *names, const struct suppression *s)
{
	return json_pack("{s:o, s:o, s:s, s:o, s:o, s:s, s:o, s:o, s:o}", "id",
	    json_count(s->id), "address", json_text(s->address), "scope",
	    suppression_scope_name(s), "tenant",
	    json_tenant_name(names, s->tenant), "stream",
	    json_stream_name(names, s->stream), "cause",
	    suppression_cause_name(s->cause), "evidence",
	    json_text(s->evidence), "created", json_time(s->created_us),
	    "expires", json_time(s->expire_us));
}

static void
on_entry(void *arg, const struct suppression *entry)
{
	struct listing *l = arg;

	l->last = entry->id;
	json_array_append_new(l->list, entry_json(l->names, entry));
}

static void
list(struct call *call, const struct suppression_query *query)
{
	struct listing l = { .names = directory_snapshot(call->api->directory),
		.list = json_array() };
	struct directory_snapshot *s =
	    (struct directory_snapshot *)(uintptr_t)l.names;
	struct failure failure;
	int result = suppressions_list(
	    call->api->directory, query, on_entry, &l, &failure);

	directory_snapshot_unref(&s);
	if (result < 0) {
		json_decref(l.list);
		respond_failure(call, &failure);
		return;
	}
	bool is_full = json_array_size(l.list) == query->limit;
	respond_json(call, 200,
	    json_pack("{s:o, s:o}", "suppressions", l.list, "next",
		is_full ? json_count(l.last) : json_null()));
}

bool
suppression_query_read(
    struct call *call, struct arena *arena, struct suppression_query *ret_query)
{
	const struct suppression_scope_names names = {
		.tenant = query_text(call, "tenant"),
		.stream = query_text(call, "stream"),
		.relay = query_flag(call, "relay"),
	};
	const char *cause = query_text(call, "cause");
	const char *address = query_text(call, "address");
	uint64_t limit = LIMIT_DEFAULT;
	struct suppression_query q = { 0 };
	struct suppression_scope scope;

	if (!query_number(call, "limit", LIMIT_MAX, &limit) ||
	    !query_number(call, "after", INT64_MAX, &q.after))
		return false;
	q.limit = limit > 0 ? (uint32_t)limit : 1;
	if (names.tenant != NULL || names.stream != NULL || names.relay) {
		if (!suppression_scope_find(call, &names, &scope))
			return false;
		q.has_tenant = true;
		q.tenant = scope.tenant;
		q.has_stream = names.stream != NULL;
		q.stream = scope.stream;
	}
	if (cause != NULL &&
	    !suppression_cause_parse(span_of(cause), &q.cause)) {
		respond_error(
		    call, 422, "invalid", SUPPRESSION_CAUSE_HELP, cause);
		return false;
	}
	if (address != NULL && !read_address(call, address, arena, &q.address))
		return false;
	*ret_query = q;
	return true;
}

void
suppressions_show(struct call *call)
{
	struct suppression_query query;
	struct arena *arena = arena_new();

	if (suppression_query_read(call, arena, &query))
		list(call, &query);
	arena_free(&arena);
}

/* ---- adding ------------------------------------------------------------ */

struct addition {
	const char *address, *cause, *evidence, *expire;
	struct suppression_scope_names names;
};

/* False: the answer is made. */
static bool
read_entry(struct call *call, const struct addition *a, struct arena *arena,
    struct suppression *ret_entry)
{
	struct suppression s = { .evidence = span_of(a->evidence) };
	struct suppression_scope scope;
	int64_t after_us = 0;

	if (!suppression_cause_parse(span_of(a->cause), &s.cause)) {
		respond_error(
		    call, 422, "invalid", SUPPRESSION_CAUSE_HELP, a->cause);
		return false;
	}
	if (a->expire != NULL) {
		if (!time_parse_duration(span_of(a->expire), &after_us) ||
		    after_us <= 0) {
			respond_error(call, 422, "invalid",
			    "expire is a duration such as 30d or 12h, not "
			    "`%.64s`",
			    a->expire);
			return false;
		}
		s.expire_us = clock_wall_us() + after_us;
	}
	if (!suppression_scope_find(call, &a->names, &scope) ||
	    !read_address(call, a->address, arena, &s.address))
		return false;
	s.tenant = scope.tenant;
	s.stream = scope.stream;
	*ret_entry = s;
	return true;
}

static void
add(struct call *call, const struct suppression *entry)
{
	struct suppression_query query = { .has_tenant = true,
		.has_stream = true,
		.tenant = entry->tenant,
		.stream = entry->stream,
		.address = entry->address,
		.limit = 1 };
	struct failure failure;
	uint64_t changed;

	if (suppressions_add(
		call->api->directory, entry, 1, true, &changed, &failure) < 0) {
		respond_failure(call, &failure);
		return;
	}
	list(call, &query);
}

void
suppressions_change(struct call *call)
{
	struct addition a = { .cause = "manual" };
	const struct body_field fields[] = {
		{ "address", BODY_STRING, true, &a.address },
		{ "tenant", BODY_STRING, false, &a.names.tenant },
		{ "stream", BODY_STRING, false, &a.names.stream },
		{ "relay", BODY_BOOLEAN, false, &a.names.relay },
		{ "cause", BODY_STRING, false, &a.cause },
		{ "evidence", BODY_STRING, false, &a.evidence },
		{ "expire", BODY_STRING, false, &a.expire },
	};
	struct suppression entry;
	json_t *root;

	if (!body_read(call, fields, sizeof fields / sizeof *fields, &root))
		return;
	struct arena *arena = arena_new();
	if (read_entry(call, &a, arena, &entry))
		add(call, &entry);
	arena_free(&arena);
	json_decref(root);
}

/* ---- removing ---------------------------------------------------------- */

static void
remove_entry(struct call *call, const char *text, struct arena *arena)
{
	const struct suppression_scope_names names = {
		.tenant = query_text(call, "tenant"),
		.stream = query_text(call, "stream"),
		.relay = query_flag(call, "relay"),
	};
	struct suppression_scope scope;
	struct span address = SPAN_EMPTY;
	struct failure failure;

	if (!suppression_scope_find(call, &names, &scope) ||
	    !read_address(call, text, arena, &address))
		return;
	if (suppression_remove(call->api->directory, scope.tenant, scope.stream,
		address, &failure) < 0) {
		respond_failure(call, &failure);
		return;
	}
	respond_json(
	    call, 200, json_pack("{s:o}", "removed", json_text(address)));
}

void
suppressions_delete(struct call *call)
{
	const char *text = query_text(call, "address");
	struct arena *arena = arena_new();

	if (text == NULL)
		respond_error(call, 400, "bad_query",
		    "name the address whose suppression ends: ?address=…");
	else
		remove_entry(call, text, arena);
	arena_free(&arena);
}
