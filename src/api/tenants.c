/* SPDX-License-Identifier: Apache-2.0 */
#include "api/internal.h"

#include <string.h>

static const char *const policy_names[] = {
	[DIRECTORY_SENDER_WARN] = "warn",
	[DIRECTORY_SENDER_REWRITE] = "rewrite",
	[DIRECTORY_SENDER_ENFORCE] = "enforce",
};

static json_t *
tenant_json(const struct directory_tenant *t)
{
	return json_pack("{s:o, s:b, s:s, s:o}", "name",
	    json_text(span_of(t->name)), "enabled", t->enabled, "sender_policy",
	    policy_names[t->sender_policy], "created",
	    json_time(t->created_us));
}

void
tenants_list(struct call *call)
{
	struct directory_snapshot *s;
	json_t *list = json_array(), *next = json_null();
	struct page page;
	size_t count;

	if (!page_read(call, &page)) {
		json_decref(list);
		return;
	}
	s = directory_snapshot(call->api->directory);
	const struct directory_tenant *all = directory_tenants(s, &count);
	for (size_t i = 0; i < count; i++) {
		if (all[i].id <= page.after)
			continue;
		if (json_array_size(list) == page.limit) {
			next = json_count(page.after);
			break;
		}
		json_array_append_new(list, tenant_json(&all[i]));
		page.after = all[i].id;
	}
	directory_snapshot_unref(&s);
	respond_json(
	    call, 200, json_pack("{s:o, s:o}", "tenants", list, "next", next));
}

static void
show(struct call *call, int status, const char *name)
{
	struct directory_snapshot *s = directory_snapshot(call->api->directory);
	const struct directory_tenant *t =
	    directory_find_tenant(s, span_of(name));

	if (t != NULL)
		respond_json(call, status, tenant_json(t));
	else
		respond_error(call, 404, "not_found",
		    "there is no tenant `%.64s`; `posthouse tenant list` "
		    "shows them",
		    name);
	directory_snapshot_unref(&s);
}

void
tenants_show(struct call *call)
{
	show(call, 200, call->arguments[0]);
}

void
tenants_add(struct call *call)
{
	const char *name = NULL;
	const struct body_field fields[] = {
		{ "name", BODY_STRING, true, &name },
	};
	struct failure failure;
	json_t *root;
	uint32_t id;

	if (!body_read(call, fields, 1, &root))
		return;
	int result =
	    directory_add_tenant(call->api->directory, name, &id, &failure);
	if (result < 0)
		respond_failure(call, &failure);
	else
		show(call, 201, name);
	json_decref(root);
}

void
tenants_set(struct call *call)
{
	const char *policy = NULL;
	const struct body_field fields[] = {
		{ "sender_policy", BODY_STRING, true, &policy },
	};
	struct failure failure;
	json_t *root;
	unsigned wanted = 0;

	if (!body_read(call, fields, 1, &root))
		return;
	while (wanted < 3 && strcmp(policy, policy_names[wanted]) != 0)
		wanted++;
	if (wanted == 3)
		respond_error(call, 422, "invalid",
		    "sender_policy is warn, rewrite or enforce, not `%.64s`",
		    policy);
	else if (directory_set_sender_policy(call->api->directory,
		     call->arguments[0], (enum directory_sender_policy)wanted,
		     &failure) < 0)
		respond_failure(call, &failure);
	else
		show(call, 200, call->arguments[0]);
	json_decref(root);
}

void
tenants_remove(struct call *call)
{
	struct failure failure;
	const char *name = call->arguments[0];

	if (directory_remove_tenant(call->api->directory, name, &failure) < 0)
		respond_failure(call, &failure);
	else
		respond_json(call, 200, json_pack("{s:s}", "removed", name));
}
