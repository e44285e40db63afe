/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "cli/internal.h"

static void
print_tenant(const json_t *t)
{
	print_fact("name", "%s", text_at(t, "name"));
	print_fact("enabled", "%s", flag_at(t, "enabled") ? "yes" : "no");
	print_fact("created", "%s", text_at(t, "created"));
}

int
cmd_tenant_add(struct invocation *inv)
{
	json_t *root;

	if (ask_post(inv, "/api/v1/tenants",
		json_pack("{s:s}", "name", inv->arguments[0]), &root) != 0)
		return 1;
	if (inv->json)
		return print_json(root);
	printf("the tenant %s is added, with the streams transactional and "
	       "bulk\n",
	    text_at(root, "name"));
	json_decref(root);
	return 0;
}

int
cmd_tenant_list(struct invocation *inv)
{
	static const struct table_column columns[] = { { "NAME", false },
		{ "ENABLED", false }, { "CREATED", false } };
	static const struct pair all[] = { { "limit", "10000" }, { 0 } };
	json_t *root, *t;
	size_t i;

	if (ask_get(inv, "/api/v1/tenants", all, &root) != 0)
		return 1;
	if (inv->json)
		return print_json(root);
	struct table *table = table_new(columns, 3);
	json_array_foreach(json_object_get(root, "tenants"), i, t)
	{
		table_text(table, text_at(t, "name"));
		table_text(table, flag_at(t, "enabled") ? "yes" : "no");
		table_text(table, text_at(t, "created"));
	}
	table_print(table);
	table_free(&table);
	json_decref(root);
	return 0;
}

int
cmd_tenant_show(struct invocation *inv)
{
	AUTO_FREE char *path =
	    mem_printf("/api/v1/tenants/%s", inv->arguments[0]);
	json_t *root;

	if (ask_get(inv, path, NULL, &root) != 0)
		return 1;
	if (inv->json)
		return print_json(root);
	print_tenant(root);
	json_decref(root);
	return 0;
}

int
cmd_tenant_remove(struct invocation *inv)
{
	AUTO_FREE char *path =
	    mem_printf("/api/v1/tenants/%s", inv->arguments[0]);
	const struct question q = { .method = "DELETE", .path = path };
	json_t *root;

	if (ask(inv, &q, &root) != 0)
		return 1;
	if (inv->json)
		return print_json(root);
	printf("the tenant %s is disabled for good, its credentials are "
	       "revoked; its queued mail still goes out\n",
	    text_at(root, "removed"));
	json_decref(root);
	return 0;
}
