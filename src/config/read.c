/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Walks the YAML tree along the tables. The functions call each other in a
 * circle, but only as deep as the tables are (root, pool, source), whatever
 * the file is like.
 */

#include "base/bug.h"
#include "base/mem.h"
#include "config/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Aliases let a small file stand for a large one; this is where it ends. */
#define VISITS_MAX 300000
#define NAME_SIZE 64

/* A value of the file and where it belongs. */
struct place {
	const struct config_table *table;
	const struct config_key *key;
	void *base; /* of the structure that the table describes */
};

static void read_map(struct config_reader *r, yaml_node_t *node,
    const struct config_table *table, void *base);

static void *
field_of(const struct place *p)
{
	return (char *)p->base + p->key->offset;
}

/* "limits.recipients" */
static const char *
full_name(const struct place *p, char buffer[static NAME_SIZE])
{
	(void)snprintf(buffer, NAME_SIZE, "%s%s%s",
	    p->table->name ? p->table->name : "", p->table->name ? "." : "",
	    p->key->name);
	return buffer;
}

static struct span
text_of(const yaml_node_t *node)
{
	BUG_UNLESS(node->type == YAML_SCALAR_NODE);
	return span_from(node->data.scalar.value, node->data.scalar.length);
}

static bool
is_quoted(const yaml_node_t *node)
{
	return node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
}

/* What YAML reads as "nothing here". */
static bool
is_nothing(const yaml_node_t *node)
{
	struct span text;

	if (node->type != YAML_SCALAR_NODE || is_quoted(node))
		return false;
	text = text_of(node);
	return !text.len || span_eq(text, SPAN("~")) ||
	       span_eq_nocase(text, SPAN("null"));
}

static const char *
what_it_is(const yaml_node_t *node)
{
	if (is_nothing(node))
		return "is empty; give it a value or remove the line";
	if (node->type == YAML_SEQUENCE_NODE)
		return "is a list";
	if (node->type == YAML_MAPPING_NODE)
		return "is a map";
	return "is a single value";
}

void
config_mistake(
    struct config_reader *r, const yaml_node_t *node, const char *format, ...)
{
	char text[CONFIG_MISTAKE_TEXT_MAX];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	config_mistakes_add(&r->mistakes,
	    node ? node->start_mark : (yaml_mark_t){ 0 }, "%s", text);
}

/* The node with this id; NULL when the file expands too far. */
static yaml_node_t *
visit(struct config_reader *r, int id)
{
	yaml_node_t *node = yaml_document_get_node(r->document, id);

	BUG_UNLESS(node != NULL);
	if (r->mistakes.is_full || r->visited > VISITS_MAX)
		return NULL;
	if (++r->visited > VISITS_MAX) {
		config_mistake(r, node,
		    "aliases make the file longer than %d values; write fewer",
		    VISITS_MAX);
		return NULL;
	}
	return node;
}

static bool
read_scalar(struct config_reader *r, const struct place *p,
    const yaml_node_t *node, void *field)
{
	char reason[CONFIG_REASON_SIZE], name[NAME_SIZE];

	(void)full_name(p, name);
	if (node->type != YAML_SCALAR_NODE || is_nothing(node)) {
		config_mistake(r, node, "`%s` must be %s, but %s", name,
		    config_value_noun(p->key->kind), what_it_is(node));
		return false;
	}
	struct config_scalar scalar = {
		.key = p->key,
		.text = text_of(node),
		.is_quoted = is_quoted(node),
		.config = r->config,
	};
	if (config_value_parse(&scalar, field, reason))
		return true;
	config_mistake(r, node, "`%s`: %s", name, reason);
	return false;
}

/* ---- lists ------------------------------------------------------------- */

static size_t
item_size(const struct config_key *key)
{
	return key->kind == VALUE_MAP ? key->table->item_size
				      : config_value_size(key->kind);
}

/* Makes the list `count` zeroed entries long. */
static void *
make_list(const struct place *p, size_t count)
{
	void *items = NULL;

	if (count) {
		items = mem_resize(NULL, count, item_size(p->key));
		memset(items, 0, count * item_size(p->key));
	}
	*(void **)field_of(p) = items;
	*(size_t *)(void *)((char *)p->base + p->key->count_offset) = count;
	return items;
}

/* An entry that is wrong stays zeroed, so that entry and index agree. */
static void
read_list(struct config_reader *r, const struct place *p, yaml_node_t *node)
{
	char name[NAME_SIZE];

	(void)full_name(p, name);
	if (node->type != YAML_SEQUENCE_NODE) {
		config_mistake(r, node, "`%s` must be a list [%s, …], but %s",
		    name, config_value_noun(p->key->kind), what_it_is(node));
		return;
	}
	size_t count = (size_t)(node->data.sequence.items.top -
				node->data.sequence.items.start);
	if (count < p->key->least || count > p->key->most) {
		config_mistake(r, node,
		    "`%s` has %zu entries; it must have %u to %u", name, count,
		    p->key->least, p->key->most);
		return;
	}
	char *items = make_list(p, count);
	for (size_t i = 0; i < count; i++) {
		yaml_node_t *item =
		    visit(r, node->data.sequence.items.start[i]);
		void *field = items + i * item_size(p->key);
		if (!item)
			return;
		if (p->key->kind == VALUE_MAP)
			read_map(r, item, p->key->table, field);
		else
			(void)read_scalar(r, p, item, field);
	}
}

/* ---- defaults ---------------------------------------------------------- */

/* Our own words: they must be right. */
static void
set_default_scalar(struct config_reader *r, const struct place *p,
    struct span text, void *field)
{
	char reason[CONFIG_REASON_SIZE];
	struct config_scalar scalar = {
		.key = p->key,
		.text = text,
		.config = r->config,
	};

	BUG_UNLESS(config_value_parse(&scalar, field, reason));
}

/* From "[a, b]". */
static void
set_default_list(struct config_reader *r, const struct place *p)
{
	struct span text = span_of(p->key->default_text);
	size_t count = 0;

	BUG_UNLESS(text.len >= 2 && *text.ptr == '[');
	text = span_slice(text, 1, text.len - 2);
	if (!text.len)
		return;
	for (size_t i = 0; i < text.len; i++)
		count += text.ptr[i] == ',';
	char *items = make_list(p, ++count);
	for (size_t i = 0; i < count; i++)
		set_default_scalar(r, p, span_trim(span_cut(&text, ',')),
		    items + i * item_size(p->key));
}

static void
set_default(struct config_reader *r, const struct place *p)
{
	if (p->key->is_computed)
		return;
	if (p->key->is_list)
		set_default_list(r, p);
	else
		set_default_scalar(
		    r, p, span_of(p->key->default_text), field_of(p));
}

/* ---- maps -------------------------------------------------------------- */

static void
read_missing(
    struct config_reader *r, const struct place *p, const yaml_node_t *map)
{
	char name[NAME_SIZE];

	if (p->key->kind == VALUE_MAP && !p->key->is_list) {
		read_map(r, NULL, p->key->table, p->base);
		return;
	}
	if (p->key->default_text)
		set_default(r, p);
	else if (map)
		config_mistake(r, map, "`%s` is missing: %s",
		    full_name(p, name), p->key->explain);
}

static void
read_value(struct config_reader *r, const struct place *p, yaml_node_t *node)
{
	if (p->key->is_list) {
		read_list(r, p, node);
		return;
	}
	if (p->key->kind == VALUE_MAP) {
		read_map(r, node, p->key->table, p->base);
		return;
	}
	(void)read_scalar(r, p, node, field_of(p));
}

static const struct config_key *
find_key(const struct config_table *table, struct span name)
{
	for (size_t i = 0; i < table->count; i++)
		if (span_eq(name, span_of(table->keys[i].name)))
			return &table->keys[i];
	return NULL;
}

/* The section that does have the key, for those who put it one level off. */
static const char *
other_place(const struct config_table *root, const struct config_table *table,
    struct span name)
{
	if (table != root && find_key(root, name) != NULL)
		return "the top level";
	for (size_t i = 0; i < root->count; i++) {
		const struct config_key *key = &root->keys[i];
		if (key->table && key->table != table &&
		    find_key(key->table, name) != NULL)
			return key->name;
	}
	return NULL;
}

static void
report_unknown(struct config_reader *r, const struct config_table *table,
    const yaml_node_t *node)
{
	struct span name = text_of(node);
	char quote[CONFIG_QUOTE_SIZE];
	const char *near = config_suggest(table, name);
	const char *other = other_place(r->root, table, name);

	(void)config_quote(name, quote);
	if (other)
		config_mistake(r, node, "unknown key `%s`: it belongs in %s",
		    quote, other);
	else if (near)
		config_mistake(r, node, "unknown key `%s`: did you mean `%s`?",
		    quote, near);
	else
		config_mistake(r, node,
		    "unknown key `%s`%s%s; posthouse.yaml(5) lists the keys",
		    quote, table->name ? " in " : "",
		    table->name ? table->name : "");
}

/* Sorts the map's values by the table's keys. */
static void
find_values(struct config_reader *r, yaml_node_t *map,
    const struct config_table *table, yaml_node_t **ret_values)
{
	yaml_node_pair_t *pair = map->data.mapping.pairs.start;

	for (; pair < map->data.mapping.pairs.top; pair++) {
		yaml_node_t *name = visit(r, pair->key);
		yaml_node_t *value = visit(r, pair->value);
		if (!name || !value)
			return;
		if (name->type != YAML_SCALAR_NODE) {
			config_mistake(r, name,
			    "a key must be a word, but this %s",
			    what_it_is(name));
			continue;
		}
		const struct config_key *key = find_key(table, text_of(name));
		if (!key)
			report_unknown(r, table, name);
		else if (ret_values[key - table->keys])
			config_mistake(r, name,
			    "`%s` is given twice; remove one", key->name);
		else
			ret_values[key - table->keys] = value;
	}
}

/* With a NULL node: sets all defaults. */
static void
read_map(struct config_reader *r, yaml_node_t *node,
    const struct config_table *table, void *base)
{
	yaml_node_t *values[CONFIG_TABLE_KEYS_MAX] = { 0 };

	BUG_UNLESS(table->count <= CONFIG_TABLE_KEYS_MAX);
	if (node && node->type != YAML_MAPPING_NODE) {
		config_mistake(r, node,
		    "%s must be a map of keys and values, but %s",
		    table->name ? table->name : "the file", what_it_is(node));
		node = NULL;
	}
	if (node)
		find_values(r, node, table, values);
	for (size_t i = 0; i < table->count; i++) {
		struct place place = { table, &table->keys[i], base };
		if (values[i])
			read_value(r, &place, values[i]);
		else
			read_missing(r, &place, node);
	}
}

void
config_read(struct config_reader *r)
{
	yaml_node_t *root = yaml_document_get_root_node(r->document);

	if ((!root || is_nothing(root)) && r->root == &shaping_root_table) {
		read_map(r, NULL, r->root, r->base);
		return;
	}
	if (!root || is_nothing(root)) {
		config_mistake(r, NULL,
		    "the file is empty; at least `listeners` is needed");
		return;
	}
	read_map(r, root, r->root, r->base);
}

/* ---- looking back ------------------------------------------------------ */

static yaml_node_t *
map_get(struct config_reader *r, yaml_node_t *map, const char *key)
{
	if (!map || map->type != YAML_MAPPING_NODE)
		return NULL;
	yaml_node_pair_t *pair = map->data.mapping.pairs.start;
	for (; pair < map->data.mapping.pairs.top; pair++) {
		const yaml_node_t *name =
		    yaml_document_get_node(r->document, pair->key);
		if (name->type == YAML_SCALAR_NODE &&
		    span_eq(text_of(name), span_of(key)))
			return yaml_document_get_node(r->document, pair->value);
	}
	return NULL;
}

static yaml_node_t *
list_get(struct config_reader *r, yaml_node_t *list, size_t index)
{
	if (!list || list->type != YAML_SEQUENCE_NODE ||
	    index >= (size_t)(list->data.sequence.items.top -
			      list->data.sequence.items.start))
		return NULL;
	return yaml_document_get_node(
	    r->document, list->data.sequence.items.start[index]);
}

yaml_node_t *
config_node(struct config_reader *r, const char *key, size_t index,
    const char *item_key)
{
	yaml_node_t *root = yaml_document_get_root_node(r->document);
	yaml_node_t *value = map_get(r, root, key);
	bool is_item = index != CONFIG_NO_INDEX;
	yaml_node_t *item = is_item ? list_get(r, value, index) : value;
	yaml_node_t *field = item_key ? map_get(r, item, item_key) : NULL;

	if (field)
		return field;
	if (item)
		return item;
	return value ? value : root;
}

bool
config_is_given(struct config_reader *r, const char *key, size_t index,
    const char *item_key)
{
	yaml_node_t *value =
	    map_get(r, yaml_document_get_root_node(r->document), key);

	if (index != CONFIG_NO_INDEX)
		value = list_get(r, value, index);
	if (item_key)
		value = map_get(r, value, item_key);
	return value != NULL;
}

static bool
is_before(size_t line, size_t column, const yaml_mark_t *mark)
{
	return line < mark->line ||
	       (line == mark->line && column < mark->column);
}

bool
config_has_mistake(struct config_reader *r, const yaml_node_t *node)
{
	for (size_t i = 0; node && i < r->mistakes.count; i++) {
		const struct config_mistake *m = &r->mistakes.items[i];
		if (m->line == 0)
			continue;
		if (!is_before(m->line - 1, m->column - 1, &node->start_mark) &&
		    is_before(m->line - 1, m->column - 1, &node->end_mark))
			return true;
	}
	return false;
}
