/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"

#include "base/bug.h"
#include "base/map.h"
#include "base/mem.h"
#include "config/internal.h"
#include "os/file.h"

#include <string.h>

#define FILE_SIZE_MAX ((size_t)1024 * 1024)

/* ---- life -------------------------------------------------------------- */

static void
list_done(const struct config_key *key, void *base)
{
	void **items = (void **)(void *)((char *)base + key->offset);
	size_t *count = (size_t *)(void *)((char *)base + key->count_offset);
	bool is_map = key->kind == VALUE_MAP;
	size_t size =
	    is_map ? key->table->item_size : config_value_size(key->kind);

	for (size_t i = 0; i < *count; i++) {
		void *item = (char *)*items + i * size;
		if (is_map)
			config_table_done(key->table, item);
		else
			config_value_done(key->kind, item);
	}
	mem_free(*items);
	*items = NULL;
	*count = 0;
}

/* As deep as the tables are. */
void
config_table_done(const struct config_table *table, void *base)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct config_key *key = &table->keys[i];
		if (key->is_list)
			list_done(key, base);
		else if (key->kind == VALUE_MAP)
			config_table_done(key->table, base);
		else
			config_value_done(
			    key->kind, (char *)base + key->offset);
	}
}

static void
config_free(struct config *c)
{
	for (size_t i = 0; i < c->route_count; i++) {
		struct config_route *route = &c->routes[i];
		mem_free(route->to_host);
		mem_free(route->to_path);
		if (route->password)
			mem_wipe(route->password, strlen(route->password));
		mem_free(route->password);
	}
	map_free(&c->routes_by_domain, NULL);
	shaping_free(&c->shaping);
	config_table_done(&config_root_table, c);
	mem_free(c->path);
	mem_free(c);
}

struct config *
config_ref(struct config *config)
{
	unsigned before =
	    __atomic_fetch_add(&config->references, 1, __ATOMIC_RELAXED);

	BUG_UNLESS(before > 0);
	return config;
}

void
config_unref(struct config **config)
{
	struct config *c = *config;

	*config = NULL;
	if (!c)
		return;
	unsigned before =
	    __atomic_fetch_sub(&c->references, 1, __ATOMIC_ACQ_REL);
	BUG_UNLESS(before > 0);
	if (before == 1)
		config_free(c);
}

/* ---- reading ----------------------------------------------------------- */

/* All steps that find mistakes, each where the ones before let it make sense.
 * Files are looked at even when a key elsewhere is wrong. */
static void
read_document(struct config_reader *r, bool check_files)
{
	config_read(r);
	config_check(r);
	if (check_files)
		config_check_files(r);
	if (!r->mistakes.count)
		config_complete(r);
}

int
config_parse(struct span text, const char *name, bool check_files,
    config_mistake_fn *fn, void *arg, struct config **ret_config)
{
	yaml_document_t document;
	struct config_reader reader = { 0 };

	reader.config = MEM_NEW(struct config);
	reader.config->references = 1;
	reader.root = &config_root_table;
	reader.base = reader.config;
	reader.config->path = mem_strdup(name);
	if (text.len > FILE_SIZE_MAX) {
		config_mistakes_add_file(&reader.mistakes,
		    "the file is larger than 1 MiB; shorten it");
	} else if (config_document_load(text, &reader.mistakes, &document)) {
		reader.document = &document;
		read_document(&reader, check_files);
		yaml_document_delete(&document);
	}
	size_t mistakes = reader.mistakes.count;
	config_mistakes_report(&reader.mistakes, name, fn, arg);
	config_mistakes_done(&reader.mistakes);
	if (mistakes) {
		config_unref(&reader.config);
		return ERR_SYNTAX;
	}
	*ret_config = reader.config;
	return 0;
}

int
config_load(const char *path, bool check_files, config_mistake_fn *fn,
    void *arg, struct config **ret_config)
{
	struct buf content = BUF_EMPTY;
	struct config_mistakes mistakes = { 0 };
	struct config *config = NULL;
	int code = file_read(path, FILE_SIZE_MAX, &content);

	if (code == ERR_LIMIT)
		config_mistakes_add_file(
		    &mistakes, "the file is larger than 1 MiB; shorten it");
	else if (code < 0)
		config_mistakes_add_file(&mistakes,
		    "cannot be read: %s; give the right file with --config",
		    error_text(code));
	else
		code = config_parse(
		    buf_span(&content), path, check_files, fn, arg, &config);
	config_mistakes_report(&mistakes, path, fn, arg);
	config_mistakes_done(&mistakes);
	buf_done(&content);
	if (code < 0)
		return code;
	code = shaping_load(config, fn, arg);
	if (code < 0)
		config_unref(&config);
	else
		*ret_config = config;
	return code;
}

/* ---- asking ------------------------------------------------------------ */

const struct config_source *
config_source_find(const struct config *config, struct span name)
{
	for (size_t i = 0; i < config->source_count; i++)
		if (span_eq(span_of(config->sources[i].name), name))
			return &config->sources[i];
	return NULL;
}

const struct config_pool *
config_pool_find(const struct config *config, struct span name)
{
	for (size_t i = 0; i < config->pool_count; i++)
		if (span_eq(span_of(config->pools[i].name), name))
			return &config->pools[i];
	return NULL;
}

const struct config_pool *
config_pool_default(const struct config *config)
{
	if (config->delivery.pool)
		return config_pool_find(config, span_of(config->delivery.pool));
	return config->pool_count ? &config->pools[0] : NULL;
}

/* "*.rest" of a domain "label.rest". */
static const struct config_route *
find_below(const struct config *config, struct span rest)
{
	char pattern[2 + 256] = "*.";

	if (rest.len > sizeof pattern - 2)
		return NULL;
	memcpy(pattern + 2, rest.ptr, rest.len);
	return map_get(
	    config->routes_by_domain, span_from(pattern, 2 + rest.len));
}

static const struct config_route *
earlier(const struct config_route *a, const struct config_route *b)
{
	if (!a || !b)
		return a ? a : b;
	return a < b ? a : b;
}

const struct config_route *
config_route_for(const struct config *config, struct span domain)
{
	const struct config_route *found =
	    map_get(config->routes_by_domain, SPAN("*"));
	struct span rest = domain;

	BUG_UNLESS(found != NULL);
	/* Whatever the routes say: reports are ours. */
	if (config->returns.domain &&
	    span_eq(domain, span_of(config->returns.domain)))
		return &config->returns.route;
	found = earlier(found, map_get(config->routes_by_domain, domain));
	/* An address literal is below nothing. */
	if (span_starts(domain, SPAN("[")))
		return found;
	for (;;) {
		(void)span_cut(&rest, '.');
		if (!rest.len)
			return found;
		found = earlier(found, find_below(config, rest));
	}
}

bool
config_route_is_local(const struct config_route *route)
{
	switch (route->deliver) {
	case CONFIG_DELIVER_LMTP:
	case CONFIG_DELIVER_MAILDIR:
	case CONFIG_DELIVER_DISCARD:
	case CONFIG_DELIVER_RETURNS:
		return true;
	case CONFIG_DELIVER_MX:
	case CONFIG_DELIVER_SMTP:
		break;
	}
	return false;
}

bool
config_is_trusted(const struct config *config, const struct netaddr *client)
{
	for (size_t i = 0; i < config->trusted_network_count; i++)
		if (netmask_contains(&config->trusted_networks[i], client))
			return true;
	return false;
}
