/* SPDX-License-Identifier: Apache-2.0 */
#include "api/internal.h"
#include "base/time.h"

#include <string.h>

static json_t *
expire_json(int64_t expire_us)
{
	char text[32];

	if (expire_us == 0)
		return json_null();
	return json_string(time_format_duration(expire_us, text, sizeof(text)));
}

static json_t *
stream_json(
    const struct directory_snapshot *s, const struct directory_stream *t)
{
	return json_pack("{s:o, s:o, s:s, s:o, s:o, s:o}", "tenant",
	    json_tenant_name(s, t->tenant), "name", json_text(span_of(t->name)),
	    "class", t->class == DIRECTORY_BULK ? "bulk" : "transactional",
	    "expire", expire_json(t->expire_us), "pool",
	    json_text_or_null(span_of(t->pool)), "created",
	    json_time(t->created_us));
}

bool
wanted_tenant(
    struct call *call, const struct directory_snapshot *s, uint32_t *ret_tenant)
{
	const char *name = query_text(call, "tenant");
	const struct directory_tenant *t =
	    name != NULL ? directory_find_tenant(s, span_of(name)) : NULL;

	if (name != NULL && t == NULL) {
		respond_error(call, 404, "not_found",
		    "there is no tenant `%.64s`; `posthouse tenant list` "
		    "shows them",
		    name);
		return false;
	}
	*ret_tenant = t != NULL ? t->id : 0;
	return true;
}

static void
list_streams(
    struct call *call, const struct directory_snapshot *s, struct page page)
{
	json_t *list, *next = json_null();
	uint32_t tenant;
	size_t count;

	if (!wanted_tenant(call, s, &tenant))
		return;
	list = json_array();
	const struct directory_stream *all = directory_streams(s, &count);
	for (size_t i = 0; i < count; i++) {
		if (all[i].id <= page.after ||
		    (tenant != 0 && all[i].tenant != tenant))
			continue;
		if (json_array_size(list) == page.limit) {
			next = json_count(page.after);
			break;
		}
		json_array_append_new(list, stream_json(s, &all[i]));
		page.after = all[i].id;
	}
	respond_json(
	    call, 200, json_pack("{s:o, s:o}", "streams", list, "next", next));
}

void
streams_list(struct call *call)
{
	struct directory_snapshot *s;
	struct page page;

	if (!page_read(call, &page))
		return;
	s = directory_snapshot(call->api->directory);
	list_streams(call, s, page);
	directory_snapshot_unref(&s);
}

static void
show(struct call *call, int status, const char *tenant, const char *name)
{
	struct directory_snapshot *s = directory_snapshot(call->api->directory);
	const struct directory_tenant *t =
	    directory_find_tenant(s, span_of(tenant));
	const struct directory_stream *found =
	    t == NULL ? NULL : directory_find_stream(s, t->id, span_of(name));

	if (found != NULL)
		respond_json(call, status, stream_json(s, found));
	else
		respond_error(call, 404, "not_found",
		    "the tenant `%.64s` has no stream `%.64s`; `posthouse "
		    "stream list` shows them",
		    tenant, name);
	directory_snapshot_unref(&s);
}

void
streams_show(struct call *call)
{
	show(call, 200, call->arguments[0], call->arguments[1]);
}

/* False: the answer is made. */
static bool
read_settings(struct call *call, const char *class, const char *expire,
    struct directory_new_stream *stream)
{
	if (strcmp(class, "bulk") == 0)
		stream->class = DIRECTORY_BULK;
	else if (strcmp(class, "transactional") == 0)
		stream->class = DIRECTORY_TRANSACTIONAL;
	else {
		respond_error(call, 422, "invalid",
		    "a stream's class is transactional or bulk, not `%.64s`",
		    class);
		return false;
	}
	if (expire == NULL ||
	    (time_parse_duration(span_of(expire), &stream->expire_us) &&
		stream->expire_us > 0))
		return true;
	respond_error(call, 422, "invalid",
	    "expire is a duration such as 4d or 12h, not `%.64s`", expire);
	return false;
}

void
streams_add(struct call *call)
{
	const char *expire = NULL, *class = "transactional";
	struct directory_new_stream stream = { .tenant = "default" };
	const struct body_field fields[] = {
		{ "tenant", BODY_STRING, false, &stream.tenant },
		{ "name", BODY_STRING, true, &stream.name },
		{ "class", BODY_STRING, false, &class },
		{ "expire", BODY_STRING, false, &expire },
		{ "pool", BODY_STRING, false, &stream.pool },
	};
	struct failure failure;
	json_t *root;
	uint32_t id;

	if (!body_read(call, fields, 5, &root))
		return;
	if (!read_settings(call, class, expire, &stream)) {
		json_decref(root);
		return;
	}
	int result =
	    directory_add_stream(call->api->directory, &stream, &id, &failure);
	if (result < 0)
		respond_failure(call, &failure);
	else
		show(call, 201, stream.tenant, stream.name);
	json_decref(root);
}

static void
look_up_again(void *arg, struct dispatch *dispatch)
{
	(void)arg;
	dispatch_look_up_again(dispatch, 0);
}

void
streams_set(struct call *call)
{
	const char *tenant = call->arguments[0], *name = call->arguments[1];
	const char *pool = NULL;
	const struct body_field fields[] = {
		{ "pool", BODY_STRING, true, &pool },
	};
	struct failure failure;
	json_t *root;

	if (!body_read(call, fields, 1, &root))
		return;
	if (directory_set_stream_pool(
		call->api->directory, tenant, name, pool, &failure) < 0) {
		respond_failure(call, &failure);
	} else {
		/* Its queued mail goes the new way, too. */
		if (call->api->each_dispatch != NULL)
			call->api->each_dispatch(
			    call->api->owner, look_up_again, NULL);
		show(call, 200, tenant, name);
	}
	json_decref(root);
}

void
streams_remove(struct call *call)
{
	const char *tenant = call->arguments[0], *name = call->arguments[1];
	struct failure failure;

	if (directory_remove_stream(
		call->api->directory, tenant, name, &failure) < 0)
		respond_failure(call, &failure);
	else
		respond_json(call, 200,
		    json_pack("{s:s, s:s}", "removed", name, "tenant", tenant));
}
