/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "cli/internal.h"

/* The API tells expire only where a stream has its own. */
static const char *
expire_of(const json_t *stream)
{
	const char *expire = text_at(stream, "expire");

	return expire[0] != '\0' ? expire : "as config";
}

static char *
path_of(const struct invocation *inv)
{
	const char *tenant = option_value(inv, "tenant");

	return mem_printf("/api/v1/streams/%s/%s",
	    tenant != NULL ? tenant : "default", inv->arguments[0]);
}

/* json_object_set_new with NULL would be an error. */
static void
set_given(json_t *body, const struct invocation *inv, const char *name)
{
	const char *value = option_value(inv, name);

	if (value != NULL)
		json_object_set_new(body, name, json_string(value));
}

int
cmd_stream_add(struct invocation *inv)
{
	json_t *body = json_pack("{s:s}", "name", inv->arguments[0]), *root;

	set_given(body, inv, "tenant");
	set_given(body, inv, "class");
	set_given(body, inv, "expire");
	if (ask_post(inv, "/api/v1/streams", body, &root) != 0)
		return 1;
	if (inv->json)
		return print_json(root);
	printf("the stream %s (%s) of the tenant %s is added\n",
	    text_at(root, "name"), text_at(root, "class"),
	    text_at(root, "tenant"));
	json_decref(root);
	return 0;
}

int
cmd_stream_list(struct invocation *inv)
{
	static const struct table_column columns[] = { { "TENANT", false },
		{ "NAME", false }, { "CLASS", false }, { "EXPIRE", false },
		{ "CREATED", false } };
	const struct pair query[] = {
		{ "tenant", option_value(inv, "tenant") },
		{ "limit", "10000" },
		{ 0 },
	};
	json_t *root, *s;
	size_t i;

	if (ask_get(inv, "/api/v1/streams", query, &root) != 0)
		return 1;
	if (inv->json)
		return print_json(root);
	struct table *table = table_new(columns, 5);
	json_array_foreach(json_object_get(root, "streams"), i, s)
	{
		table_text(table, text_at(s, "tenant"));
		table_text(table, text_at(s, "name"));
		table_text(table, text_at(s, "class"));
		table_text(table, expire_of(s));
		table_text(table, text_at(s, "created"));
	}
	table_print(table);
	table_free(&table);
	json_decref(root);
	return 0;
}

int
cmd_stream_show(struct invocation *inv)
{
	AUTO_FREE char *path = path_of(inv);
	json_t *root;

	if (ask_get(inv, path, NULL, &root) != 0)
		return 1;
	if (inv->json)
		return print_json(root);
	print_fact("tenant", "%s", text_at(root, "tenant"));
	print_fact("name", "%s", text_at(root, "name"));
	print_fact("class", "%s", text_at(root, "class"));
	print_fact("expire", "%s", expire_of(root));
	print_fact("created", "%s", text_at(root, "created"));
	json_decref(root);
	return 0;
}

int
cmd_stream_remove(struct invocation *inv)
{
	AUTO_FREE char *path = path_of(inv);
	const struct question q = { .method = "DELETE", .path = path };
	json_t *root;

	if (ask(inv, &q, &root) != 0)
		return 1;
	if (inv->json)
		return print_json(root);
	printf("the stream %s of the tenant %s is removed; its queued mail "
	       "still goes out\n",
	    text_at(root, "removed"), text_at(root, "tenant"));
	json_decref(root);
	return 0;
}
