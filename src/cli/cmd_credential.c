/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "cli/internal.h"

static json_t *
split_networks(const char *text)
{
	struct span rest = span_of(text);
	json_t *list = json_array();

	while (rest.len > 0) {
		struct span one = span_trim(span_cut(&rest, ','));

		if (one.len > 0)
			json_array_append_new(
			    list, json_stringn(one.ptr, one.len));
	}
	return list;
}

static json_t *
wanted(const struct invocation *inv)
{
	static const char *const names[] = { "tenant", "stream", "name" };
	const char *networks = option_value(inv, "networks");
	json_t *body = json_object();

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *value = option_value(inv, names[i]);

		if (value != NULL)
			json_object_set_new(body, names[i], json_string(value));
	}
	if (networks != NULL)
		json_object_set_new(body, "networks", split_networks(networks));
	return body;
}

/* "192.0.2.0/24 2001:db8::/32", or "any". */
static char *
join_networks(const json_t *credential)
{
	struct buf text = BUF_EMPTY;
	const json_t *one;
	char *joined;
	size_t i;

	json_array_foreach(json_object_get(credential, "networks"), i, one)
	{
		if (i > 0)
			buf_append_char(&text, ' ');
		buf_append_str(&text, json_string_value(one));
	}
	joined = mem_strdup(i == 0 ? "any" : buf_cstring(&text));
	buf_done(&text);
	return joined;
}

static void
print_credential(const json_t *c)
{
	AUTO_FREE char *networks = join_networks(c);

	print_fact("username", "%s", text_at(c, "username"));
	if (text_at(c, "password")[0] != '\0')
		print_fact("password", "%s", text_at(c, "password"));
	print_fact("tenant", "%s", text_at(c, "tenant"));
	print_fact("stream", "%s", text_at(c, "stream"));
	if (text_at(c, "name")[0] != '\0')
		print_fact("name", "%s", text_at(c, "name"));
	print_fact("networks", "%s", networks);
	print_fact("created", "%s", text_at(c, "created"));
	if (flag_at(c, "revoked"))
		print_fact("revoked", "yes");
}

static void
print_added(const json_t *c)
{
	print_credential(c);
	puts("\nThe password is shown this once; only its hash is kept.");
}

int
cmd_credential_add(struct invocation *inv)
{
	return post_and_show(
	    inv, "/api/v1/credentials", wanted(inv), print_added);
}

static void
print_credentials(const json_t *root)
{
	static const struct table_column columns[] = { { "USERNAME", false },
		{ "TENANT", false }, { "STREAM", false }, { "NAME", false },
		{ "NETWORKS", false }, { "CREATED", false },
		{ "STATE", false } };
	struct table *table = table_new(columns, 7);
	const json_t *c;
	size_t i;

	json_array_foreach(json_object_get(root, "credentials"), i, c)
	{
		AUTO_FREE char *networks = join_networks(c);

		table_text(table, text_at(c, "username"));
		table_text(table, text_at(c, "tenant"));
		table_text(table, text_at(c, "stream"));
		table_text(table, text_at(c, "name"));
		table_text(table, networks);
		table_text(table, text_at(c, "created"));
		table_text(table, flag_at(c, "revoked") ? "revoked" : "good");
	}
	table_print(table);
	table_free(&table);
}

int
cmd_credential_list(struct invocation *inv)
{
	const struct pair query[] = {
		{ "tenant", option_value(inv, "tenant") },
		{ "revoked", option_value(inv, "revoked") ? "1" : NULL },
		{ "limit", "10000" },
		{ 0 },
	};

	return get_and_show(
	    inv, "/api/v1/credentials", query, print_credentials);
}

static char *
path_of(const struct invocation *inv)
{
	return mem_printf("/api/v1/credentials/%s", inv->arguments[0]);
}

int
cmd_credential_show(struct invocation *inv)
{
	AUTO_FREE char *path = path_of(inv);

	return get_and_show(inv, path, NULL, print_credential);
}

static void
print_revoked(const json_t *root)
{
	printf("the credential %s is revoked\n", text_at(root, "revoked"));
}

int
cmd_credential_remove(struct invocation *inv)
{
	AUTO_FREE char *path = path_of(inv);

	return delete_and_show(inv, path, print_revoked);
}
