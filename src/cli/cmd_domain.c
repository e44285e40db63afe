/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "cli/internal.h"

#include <string.h>

static char *
path_of(const struct invocation *inv, const char *suffix)
{
	return mem_printf("/api/v1/domains/%s%s", inv->arguments[0], suffix);
}

static const char *
or_dash(const char *text)
{
	return text[0] != '\0' ? text : "-";
}

/* ---- one domain -------------------------------------------------------- */

static void
print_keys(const json_t *domain)
{
	static const struct table_column columns[] = { { "SELECTOR", false },
		{ "ALGORITHM", false }, { "BITS", true }, { "STATE", false },
		{ "SEEN", false } };
	struct table *table = table_new(columns, 5);
	const json_t *key;
	size_t i;

	json_array_foreach(json_object_get(domain, "keys"), i, key)
	{
		char when[WHEN_SIZE];

		table_text(table, text_at(key, "selector"));
		table_text(table, text_at(key, "algorithm"));
		table_number(table, number_at(key, "bits"));
		table_text(table, text_at(key, "state"));
		table_text(table, when_past(text_at(key, "seen"), when));
	}
	table_print(table);
	table_free(&table);
}

static void
print_domain(const json_t *d)
{
	char when[WHEN_SIZE];

	print_fact("name", "%s", text_at(d, "name"));
	print_fact("tenant", "%s", text_at(d, "tenant"));
	print_fact("return path", "%s", text_at(d, "return_path"));
	print_fact("verified", "%s",
	    flag_at(d, "verified") ? text_at(d, "verified_since") : "no");
	print_fact("checked", "%s", when_past(text_at(d, "checked"), when));
	print_fact("problem", "%s", or_dash(text_at(d, "problem")));
	print_fact("created", "%s", text_at(d, "created"));
	putchar('\n');
	print_keys(d);
}

static void
print_added(const json_t *d)
{
	const char *name = text_at(d, "name");

	printf("the domain %s of the tenant %s is added; its mail is signed "
	       "from now on\n",
	    name, text_at(d, "tenant"));
	printf("publish what `posthouse domain dns %s` prints, then run "
	       "`posthouse domain verify %s`\n",
	    name, name);
}

int
cmd_domain_add(struct invocation *inv)
{
	json_t *body = json_pack("{s:s}", "name", inv->arguments[0]);
	const char *tenant = option_value(inv, "tenant");
	const char *host = option_value(inv, "return-path");

	if (tenant != NULL)
		json_object_set_new(body, "tenant", json_string(tenant));
	if (host != NULL)
		json_object_set_new(body, "return_path", json_string(host));
	return post_and_show(inv, "/api/v1/domains", body, print_added);
}

int
cmd_domain_show(struct invocation *inv)
{
	AUTO_FREE char *path = path_of(inv, "");

	return get_and_show(inv, path, NULL, print_domain);
}

static void
print_removed(const json_t *root)
{
	printf("the domain %s is removed, with its keys; take its records out "
	       "of the DNS in a week\n",
	    text_at(root, "removed"));
}

int
cmd_domain_remove(struct invocation *inv)
{
	AUTO_FREE char *path = path_of(inv, "");

	return delete_and_show(inv, path, print_removed);
}

/* ---- all domains ------------------------------------------------------- */

static void
print_domains(const json_t *root)
{
	static const struct table_column columns[] = { { "TENANT", false },
		{ "NAME", false }, { "VERIFIED", false }, { "CHECKED", false },
		{ "PROBLEM", false } };
	struct table *table = table_new(columns, 5);
	const json_t *d;
	size_t i;

	json_array_foreach(json_object_get(root, "domains"), i, d)
	{
		char when[WHEN_SIZE];

		table_text(table, text_at(d, "tenant"));
		table_text(table, text_at(d, "name"));
		table_text(table, flag_at(d, "verified") ? "yes" : "no");
		table_text(table, when_past(text_at(d, "checked"), when));
		table_text(table, or_dash(text_at(d, "problem")));
	}
	table_print(table);
	table_free(&table);
}

int
cmd_domain_list(struct invocation *inv)
{
	const struct pair query[] = {
		{ "tenant", option_value(inv, "tenant") },
		{ "limit", "10000" },
		{ 0 },
	};

	return get_and_show(inv, "/api/v1/domains", query, print_domains);
}

/* ---- the DNS ----------------------------------------------------------- */

static void
print_records(const json_t *root)
{
	static const struct table_column columns[] = { { "FOR", false },
		{ "TYPE", false }, { "NAME", false }, { "STATE", false },
		{ "VALUE", false } };
	struct table *table = table_new(columns, 5);
	const json_t *r;
	size_t i;

	json_array_foreach(json_object_get(root, "records"), i, r)
	{
		table_text(table, text_at(r, "purpose"));
		table_text(table, text_at(r, "type"));
		table_text(table, text_at(r, "name"));
		table_text(table, or_dash(text_at(r, "state")));
		table_text(table, text_at(r, "value"));
	}
	table_print(table);
	table_free(&table);
	puts("\n; the same for a zone file");
	json_array_foreach(json_object_get(root, "records"), i, r)
	{
		puts(text_at(r, "zone"));
	}
}

int
cmd_domain_dns(struct invocation *inv)
{
	AUTO_FREE char *path = path_of(inv, "/dns");

	return get_and_show(inv, path, NULL, print_records);
}

static void
print_findings(const json_t *root)
{
	static const struct table_column columns[] = { { "FOR", false },
		{ "TYPE", false }, { "NAME", false }, { "RESULT", false },
		{ "DNSSEC", false } };
	struct table *table = table_new(columns, 5);
	const json_t *r;
	size_t i;

	json_array_foreach(json_object_get(root, "records"), i, r)
	{
		table_text(table, text_at(r, "purpose"));
		table_text(table, text_at(r, "type"));
		table_text(table, text_at(r, "name"));
		table_text(table, text_at(r, "result"));
		table_text(table, flag_at(r, "dnssec") ? "yes" : "no");
	}
	table_print(table);
	table_free(&table);
	json_array_foreach(json_object_get(root, "records"), i, r)
	{
		struct buf found = BUF_EMPTY;

		if (strcmp(text_at(r, "result"), "fine") == 0)
			continue;
		printf(
		    "\n%s: %s\n", text_at(r, "purpose"), text_at(r, "problem"));
		append_plain(&found, span_of(text_at(r, "found")));
		if (buf_size(&found) > 0)
			printf("  found:   %s\n", buf_cstring(&found));
		printf("  publish: %s\n", text_at(r, "zone"));
		buf_done(&found);
	}
	printf("\nthe domain %s is %s\n", text_at(root, "domain"),
	    flag_at(root, "verified") ? "verified" : "not verified");
}

/* The status tells whether there is something left to do. */
int
cmd_domain_verify(struct invocation *inv)
{
	AUTO_FREE char *path = path_of(inv, "/verify");
	json_t *root = NULL;
	int status = ask_post(inv, path, json_object(), &root);

	if (status != 0)
		return status;
	bool is_fine = flag_at(root, "fine");
	status = show_answer(inv, root, print_findings);
	return status == 0 && !is_fine ? 1 : status;
}

/* ---- keys -------------------------------------------------------------- */

static void
print_stage(const json_t *root)
{
	puts(text_at(root, "message"));
}

/* 1: nothing has moved yet. */
int
cmd_domain_rotate(struct invocation *inv)
{
	AUTO_FREE char *path = path_of(inv, "/rotate");
	bool is_forced = option_value(inv, "force") != NULL;
	json_t *root = NULL;
	int status =
	    ask_post(inv, path, json_pack("{s:b}", "force", is_forced), &root);

	if (status != 0)
		return status;
	bool waits = strcmp(text_at(root, "stage"), "waiting") == 0 ||
		     strcmp(text_at(root, "stage"), "keeping") == 0;
	status = show_answer(inv, root, print_stage);
	return status == 0 && waits ? 1 : status;
}
