/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/internal.h"

#include <string.h>

#define PATH "/api/v1/suppressions"

/* "tenant acme", "stream acme/bulk", "relay" */
static void
append_scope(const json_t *s, struct table *table)
{
	char text[160];
	const char *scope = text_at(s, "scope");

	if (strcmp(scope, "relay") == 0)
		(void)snprintf(text, sizeof text, "relay");
	else if (strcmp(scope, "tenant") == 0)
		(void)snprintf(
		    text, sizeof text, "tenant %s", text_at(s, "tenant"));
	else
		(void)snprintf(text, sizeof text, "stream %s/%s",
		    text_at(s, "tenant"), text_at(s, "stream"));
	table_text(table, text);
}

static const char *
expires_of(const json_t *s)
{
	const char *expires = text_at(s, "expires");

	return expires[0] != '\0' ? expires : "never";
}

static void
print_suppressions(const json_t *root)
{
	static const struct table_column columns[] = { { "ADDRESS", false },
		{ "SCOPE", false }, { "CAUSE", false }, { "CREATED", false },
		{ "EXPIRES", false }, { "EVIDENCE", false } };
	struct table *table = table_new(columns, 6);
	const json_t *s;
	size_t i;

	json_array_foreach(json_object_get(root, "suppressions"), i, s)
	{
		table_text(table, text_at(s, "address"));
		append_scope(s, table);
		table_text(table, text_at(s, "cause"));
		table_text(table, text_at(s, "created"));
		table_text(table, expires_of(s));
		table_text(table, text_at(s, "evidence"));
	}
	table_print(table);
	table_free(&table);
	if (json_is_integer(json_object_get(root, "next")))
		printf("there may be more: --after %lld\n",
		    number_at(root, "next"));
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
cmd_suppression_add(struct invocation *inv)
{
	json_t *body = json_pack("{s:s}", "address", inv->arguments[0]);

	if (body == NULL)
		return complain("the address is not UTF-8");
	set_given(body, inv, "tenant");
	set_given(body, inv, "stream");
	set_given(body, inv, "cause");
	set_given(body, inv, "evidence");
	set_given(body, inv, "expire");
	if (option_value(inv, "relay") != NULL)
		json_object_set_new(body, "relay", json_true());
	return post_and_show(inv, PATH, body, print_suppressions);
}

static const char *
flag_value(const struct invocation *inv, const char *name)
{
	return option_value(inv, name) != NULL ? "1" : NULL;
}

int
cmd_suppression_list(struct invocation *inv)
{
	const struct pair query[] = {
		{ "tenant", option_value(inv, "tenant") },
		{ "stream", option_value(inv, "stream") },
		{ "relay", flag_value(inv, "relay") },
		{ "cause", option_value(inv, "cause") },
		{ "after", option_value(inv, "after") },
		{ "limit", option_value(inv, "limit") },
		{ 0 },
	};

	return get_and_show(inv, PATH, query, print_suppressions);
}

int
cmd_suppression_show(struct invocation *inv)
{
	const struct pair query[] = {
		{ "address", inv->arguments[0] },
		{ 0 },
	};
	json_t *root = NULL;

	if (ask_get(inv, PATH, query, &root) != 0)
		return 1;
	if (json_array_size(json_object_get(root, "suppressions")) == 0 &&
	    !inv->json) {
		printf("%s is not suppressed\n", inv->arguments[0]);
		json_decref(root);
		return 0;
	}
	return show_answer(inv, root, print_suppressions);
}

static void
print_removed(const json_t *root)
{
	printf(
	    "%s is not suppressed there any more\n", text_at(root, "removed"));
}

int
cmd_suppression_remove(struct invocation *inv)
{
	const struct pair query[] = {
		{ "address", inv->arguments[0] },
		{ "tenant", option_value(inv, "tenant") },
		{ "stream", option_value(inv, "stream") },
		{ "relay", flag_value(inv, "relay") },
		{ 0 },
	};
	const struct question q = {
		.method = "DELETE", .path = PATH, .query = query
	};
	json_t *root = NULL;

	if (ask(inv, &q, &root) != 0)
		return 1;
	return show_answer(inv, root, print_removed);
}
