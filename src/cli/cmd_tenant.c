/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "cli/internal.h"

static void
print_tenant(const json_t *t)
{
	print_fact("name", "%s", text_at(t, "name"));
	print_fact("enabled", "%s", flag_at(t, "enabled") ? "yes" : "no");
	print_fact("sender policy", "%s", text_at(t, "sender_policy"));
	print_fact("created", "%s", text_at(t, "created"));
}

static void
print_added(const json_t *t)
{
	printf("the tenant %s is added, with the streams transactional and "
	       "bulk\n",
	    text_at(t, "name"));
}

int
cmd_tenant_add(struct invocation *inv)
{
	return post_and_show(inv, "/api/v1/tenants",
	    json_pack("{s:s}", "name", inv->arguments[0]), print_added);
}

static void
print_tenants(const json_t *root)
{
	static const struct table_column columns[] = { { "NAME", false },
		{ "ENABLED", false }, { "SENDER POLICY", false },
		{ "CREATED", false } };
	struct table *table = table_new(columns, 4);
	const json_t *t;
	size_t i;

	json_array_foreach(json_object_get(root, "tenants"), i, t)
	{
		table_text(table, text_at(t, "name"));
		table_text(table, flag_at(t, "enabled") ? "yes" : "no");
		table_text(table, text_at(t, "sender_policy"));
		table_text(table, text_at(t, "created"));
	}
	table_print(table);
	table_free(&table);
}

int
cmd_tenant_list(struct invocation *inv)
{
	static const struct pair all[] = { { "limit", "10000" }, { 0 } };

	return get_and_show(inv, "/api/v1/tenants", all, print_tenants);
}

static char *
path_of(const struct invocation *inv)
{
	return mem_printf("/api/v1/tenants/%s", inv->arguments[0]);
}

int
cmd_tenant_show(struct invocation *inv)
{
	AUTO_FREE char *path = path_of(inv);

	return get_and_show(inv, path, NULL, print_tenant);
}

int
cmd_tenant_set(struct invocation *inv)
{
	AUTO_FREE char *path = path_of(inv);
	const char *policy = option_value(inv, "sender-policy");

	if (policy == NULL)
		return complain("nothing to change: give --sender-policy");
	return post_and_show(inv, path,
	    json_pack("{s:s}", "sender_policy", policy), print_tenant);
}

static void
print_removed(const json_t *root)
{
	printf("the tenant %s is disabled for good, its credentials are "
	       "revoked; its queued mail still goes out\n",
	    text_at(root, "removed"));
}

int
cmd_tenant_remove(struct invocation *inv)
{
	AUTO_FREE char *path = path_of(inv);

	return delete_and_show(inv, path, print_removed);
}
