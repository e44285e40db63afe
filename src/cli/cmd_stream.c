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

static const char *
pool_of(const json_t *stream)
{
	const char *pool = text_at(stream, "pool");

	return pool[0] != '\0' ? pool : "default";
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

static void
print_added(const json_t *s)
{
	printf("the stream %s (%s) of the tenant %s is added\n",
	    text_at(s, "name"), text_at(s, "class"), text_at(s, "tenant"));
}

int
cmd_stream_add(struct invocation *inv)
{
	json_t *body = json_pack("{s:s}", "name", inv->arguments[0]);

	set_given(body, inv, "tenant");
	set_given(body, inv, "class");
	set_given(body, inv, "expire");
	set_given(body, inv, "pool");
	return post_and_show(inv, "/api/v1/streams", body, print_added);
}

static void
print_streams(const json_t *root)
{
	static const struct table_column columns[] = { { "TENANT", false },
		{ "NAME", false }, { "CLASS", false }, { "EXPIRE", false },
		{ "POOL", false }, { "CREATED", false } };
	struct table *table = table_new(columns, 6);
	const json_t *s;
	size_t i;

	json_array_foreach(json_object_get(root, "streams"), i, s)
	{
		table_text(table, text_at(s, "tenant"));
		table_text(table, text_at(s, "name"));
		table_text(table, text_at(s, "class"));
		table_text(table, expire_of(s));
		table_text(table, pool_of(s));
		table_text(table, text_at(s, "created"));
	}
	table_print(table);
	table_free(&table);
}

int
cmd_stream_list(struct invocation *inv)
{
	const struct pair query[] = {
		{ "tenant", option_value(inv, "tenant") },
		{ "limit", "10000" },
		{ 0 },
	};

	return get_and_show(inv, "/api/v1/streams", query, print_streams);
}

static void
print_stream(const json_t *s)
{
	print_fact("tenant", "%s", text_at(s, "tenant"));
	print_fact("name", "%s", text_at(s, "name"));
	print_fact("class", "%s", text_at(s, "class"));
	print_fact("expire", "%s", expire_of(s));
	print_fact("pool", "%s", pool_of(s));
	print_fact("created", "%s", text_at(s, "created"));
}

int
cmd_stream_show(struct invocation *inv)
{
	AUTO_FREE char *path = path_of(inv);

	return get_and_show(inv, path, NULL, print_stream);
}

int
cmd_stream_set(struct invocation *inv)
{
	AUTO_FREE char *path = path_of(inv);

	if (option_value(inv, "pool") == NULL)
		return complain("nothing to change: give --pool");
	json_t *body = json_pack("{s:s}", "pool", option_value(inv, "pool"));
	return post_and_show(inv, path, body, print_stream);
}

static void
print_removed(const json_t *root)
{
	printf("the stream %s of the tenant %s is removed; its queued mail "
	       "still goes out\n",
	    text_at(root, "removed"), text_at(root, "tenant"));
}

int
cmd_stream_remove(struct invocation *inv)
{
	AUTO_FREE char *path = path_of(inv);

	return delete_and_show(inv, path, print_removed);
}
