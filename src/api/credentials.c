/* SPDX-License-Identifier: Apache-2.0 */

/* Credentials. A password is in one answer only: the one that made it. */

#include "api/internal.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static json_t *
networks_json(const struct directory_credential *c)
{
	json_t *list = json_array();

	for (size_t i = 0; i < c->network_count; i++) {
		const struct netmask *mask = &c->networks[i];
		char ip[NETADDR_TEXT_SIZE], text[NETADDR_TEXT_SIZE + 4];

		(void)snprintf(text, sizeof(text), "%s/%u",
		    netaddr_format_ip(&mask->network, ip), mask->bits);
		json_array_append_new(list, json_string(text));
	}
	return list;
}

static json_t *
credential_json(
    const struct directory_snapshot *s, const struct directory_credential *c)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:b, s:o}", "username",
	    json_text(span_of(c->username)), "tenant",
	    json_tenant_name(s, c->tenant), "stream",
	    json_stream_name(s, c->stream), "name", json_text(span_of(c->name)),
	    "networks", networks_json(c), "revoked", c->revoked, "created",
	    json_time(c->created_us));
}

struct wanted {
	uint32_t tenant; /* 0: any */
	bool revoked; /* those, too */
	struct page page;
};

static json_t *
list_json(const struct directory_snapshot *s, struct wanted w)
{
	json_t *list = json_array(), *next = json_null();
	size_t count;
	const struct directory_credential *all =
	    directory_credentials(s, &count);

	for (size_t i = 0; i < count; i++) {
		if (all[i].id <= w.page.after ||
		    (w.tenant != 0 && all[i].tenant != w.tenant) ||
		    (all[i].revoked && !w.revoked))
			continue;
		if (json_array_size(list) == w.page.limit) {
			next = json_count(w.page.after);
			break;
		}
		json_array_append_new(list, credential_json(s, &all[i]));
		w.page.after = all[i].id;
	}
	return json_pack("{s:o, s:o}", "credentials", list, "next", next);
}

void
credentials_list(struct call *call)
{
	const char *name = query_text(call, "tenant");
	struct wanted wanted = { .revoked = query_flag(call, "revoked") };
	struct directory_snapshot *s;

	if (!page_read(call, &wanted.page))
		return;
	s = directory_snapshot(call->api->directory);
	const struct directory_tenant *t =
	    name != NULL ? directory_find_tenant(s, span_of(name)) : NULL;
	wanted.tenant = t != NULL ? t->id : 0;
	if (name != NULL && t == NULL)
		respond_error(call, 404, "not_found",
		    "there is no tenant `%.64s`; `posthouse tenant list` "
		    "shows them",
		    name);
	else
		respond_json(call, 200, list_json(s, wanted));
	directory_snapshot_unref(&s);
}

static const struct directory_credential *
find(const struct directory_snapshot *s, const char *username)
{
	size_t count;
	const struct directory_credential *all =
	    directory_credentials(s, &count);

	for (size_t i = 0; i < count; i++) {
		if (strcmp(all[i].username, username) == 0)
			return &all[i];
	}
	return NULL;
}

void
credentials_show(struct call *call)
{
	struct directory_snapshot *s = directory_snapshot(call->api->directory);
	const struct directory_credential *c = find(s, call->arguments[0]);

	if (c != NULL)
		respond_json(call, 200, credential_json(s, c));
	else
		respond_error(call, 404, "not_found",
		    "there is no credential `%.64s`; `posthouse credential "
		    "list` shows them",
		    call->arguments[0]);
	directory_snapshot_unref(&s);
}

/* ---- adding ------------------------------------------------------------ */

static void
respond_made(struct call *call, const struct directory_made_credential *made)
{
	struct directory_snapshot *s = directory_snapshot(call->api->directory);
	const struct directory_credential *c = find(s, made->username);

	if (c == NULL) {
		/* Removed by somebody else since. */
		respond_error(call, 409, "refused",
		    "the credential `%s` was removed at once", made->username);
	} else {
		json_t *root = json_object();

		json_object_set_new(
		    root, "username", json_string(made->username));
		json_object_set_new(
		    root, "password", json_string(made->password));
		json_t *rest = credential_json(s, c);
		json_object_update_missing(root, rest);
		json_decref(rest);
		respond_json(call, 201, root);
	}
	directory_snapshot_unref(&s);
}

/* A NULL-terminated array of borrowed strings. */
static const char **
networks_of(const json_t *list)
{
	size_t count = json_array_size(list);
	const char **networks = mem_zalloc((count + 1) * sizeof(*networks));

	for (size_t i = 0; i < count; i++)
		networks[i] = json_string_value(json_array_get(list, i));
	return networks;
}

void
credentials_add(struct call *call)
{
	struct directory_new_credential wanted = { 0 };
	struct directory_made_credential made;
	json_t *networks = NULL, *root;
	const struct body_field fields[] = {
		{ "tenant", BODY_STRING, false, &wanted.tenant },
		{ "stream", BODY_STRING, false, &wanted.stream },
		{ "name", BODY_STRING, false, &wanted.name },
		{ "networks", BODY_STRINGS, false, &networks },
	};
	struct failure failure;

	if (!body_read(call, fields, 4, &root))
		return;
	const char **list = networks_of(networks);
	wanted.networks = list;
	if (directory_add_credential(
		call->api->directory, &wanted, &made, &failure) < 0) {
		respond_failure(call, &failure);
	} else {
		respond_made(call, &made);
		mem_wipe(&made, sizeof(made));
	}
	mem_free(list);
	json_decref(root);
}

void
credentials_remove(struct call *call)
{
	const char *username = call->arguments[0];
	struct failure failure;

	if (directory_revoke_credential(
		call->api->directory, username, &failure) < 0)
		respond_failure(call, &failure);
	else
		respond_json(
		    call, 200, json_pack("{s:s}", "revoked", username));
}
