/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The effective config as YAML, table by table, so that it reads back to the
 * same. Entries of lists show only what differs from a fixed default; all else
 * is shown in full.
 */

#include "base/bug.h"
#include "config/internal.h"
#include "config/shaping.h"

#include <string.h>

enum { WIDTH = 80, LIST_IN_LINE_MAX = 8 };

struct show {
	struct buf *out;
	bool explain;
	unsigned indent; /* columns */
	bool is_item_start; /* "- " stands where the indent would end */
	const struct config_table *root;
};

static void show_table(struct show *s, const struct config_table *table,
    const void *base, bool in_list);

static void
show_indent(struct show *s)
{
	unsigned blanks = s->indent - (s->is_item_start ? 2 : 0);

	for (unsigned i = 0; i < blanks; i++)
		buf_append_char(s->out, ' ');
	if (s->is_item_start)
		buf_append_str(s->out, "- ");
	s->is_item_start = false;
}

/* Width in characters, as people count. */
static size_t
width_of(struct span word)
{
	size_t width = 0;

	for (size_t i = 0; i < word.len; i++)
		width += ((unsigned char)word.ptr[i] & 0xc0) != 0x80;
	return width;
}

/* A comment, wrapped between words. */
static void
show_comment(struct show *s, struct span text)
{
	size_t column = 0;

	while (text.len) {
		struct span word = span_cut(&text, ' ');
		if (column && column + 1 + width_of(word) >= WIDTH) {
			buf_append_char(s->out, '\n');
			column = 0;
		}
		if (!column) {
			for (; column < s->indent; column++)
				buf_append_char(s->out, ' ');
			buf_append_char(s->out, '#');
			column++;
		}
		buf_append_char(s->out, ' ');
		buf_append(s->out, word);
		column += 1 + width_of(word);
	}
	buf_append_char(s->out, '\n');
}

static void
show_explanation(struct show *s, const struct config_key *key)
{
	struct buf text = BUF_EMPTY;

	if (!s->explain)
		return;
	buf_append_str(&text, key->explain);
	if (key->choices) {
		buf_append_str(&text, " One of");
		for (unsigned i = 0; key->choices[i]; i++)
			buf_printf(
			    &text, "%s %s", i ? "," : "", key->choices[i]);
		buf_append_char(&text, '.');
	}
	if (key->default_text && *key->default_text && key->kind != VALUE_MAP)
		buf_printf(&text, " Default: %s.", key->default_text);
	show_comment(s, buf_span(&text));
	buf_done(&text);
}

static const void *
list_items(const struct config_key *key, const void *base, size_t *ret_count)
{
	memcpy(ret_count, (const char *)base + key->count_offset,
	    sizeof *ret_count);
	const void *items;
	memcpy(&items, (const char *)base + key->offset, sizeof items);
	return items;
}

static void
show_maps(struct show *s, const struct config_key *key, const void *base)
{
	size_t count;
	const char *items = list_items(key, base, &count);
	bool explain = s->explain;

	buf_append_char(s->out, '\n');
	s->indent += 4;
	for (size_t i = 0; i < count; i++) {
		s->is_item_start = true;
		show_table(
		    s, key->table, items + i * key->table->item_size, true);
		s->is_item_start = false;
		s->explain = false;
	}
	s->indent -= 4;
	s->explain = explain;
}

static void
show_scalars(struct show *s, const struct config_key *key, const void *base)
{
	size_t count;
	const char *items = list_items(key, base, &count);
	bool in_line = count <= LIST_IN_LINE_MAX;

	buf_append_str(s->out, in_line ? " [" : "\n");
	for (size_t i = 0; i < count; i++) {
		if (in_line && i)
			buf_append_str(s->out, ", ");
		if (!in_line) {
			s->indent += 4;
			s->is_item_start = true;
			show_indent(s);
			s->indent -= 4;
		}
		config_value_format(
		    key, items + i * config_value_size(key->kind), s->out);
		if (!in_line)
			buf_append_char(s->out, '\n');
	}
	if (in_line)
		buf_append_str(s->out, "]\n");
}

/* Whether the value is the table's own default. */
static bool
is_default(const struct config_key *key, const void *base)
{
	struct buf text = BUF_EMPTY;
	size_t count;

	if (key->is_computed || !key->default_text)
		return false;
	if (key->is_list) {
		(void)list_items(key, base, &count);
		return count == 0;
	}
	config_value_format(key, (const char *)base + key->offset, &text);
	struct span expected =
	    *key->default_text ? span_of(key->default_text) : SPAN("\"\"");
	bool is_same = span_eq(buf_span(&text), expected);
	buf_done(&text);
	return is_same;
}

static void
show_list(struct show *s, const struct config_key *key, const void *base)
{
	size_t count;

	(void)list_items(key, base, &count);
	if (key->kind == VALUE_MAP && count)
		show_maps(s, key, base);
	else if (key->kind == VALUE_MAP)
		buf_append_str(s->out, " []\n");
	else
		show_scalars(s, key, base);
}

static void
show_key(struct show *s, const struct config_key *key, const void *base)
{
	show_explanation(s, key);
	show_indent(s);
	buf_printf(s->out, "%s:", key->name);
	if (key->is_list) {
		show_list(s, key, base);
	} else if (key->kind == VALUE_MAP) {
		buf_append_char(s->out, '\n');
		s->indent += 2;
		show_table(s, key->table, base, false);
		s->indent -= 2;
	} else {
		buf_append_char(s->out, ' ');
		config_value_format(
		    key, (const char *)base + key->offset, s->out);
		buf_append_char(s->out, '\n');
	}
}

/* As deep as the tables are. */
static void
show_table(struct show *s, const struct config_table *table, const void *base,
    bool in_list)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct config_key *key = &table->keys[i];
		if (in_list && is_default(key, base))
			continue;
		show_key(s, key, base);
		if (s->explain && table == s->root)
			buf_append_char(s->out, '\n');
	}
}

void
config_show(const struct config *config, bool explain, struct buf *out)
{
	struct show show = {
		.out = out, .explain = explain, .root = &config_root_table
	};

	show_table(&show, &config_root_table, config, false);
	BUG_UNLESS(show.indent == 0);
}

void
shaping_show(const struct config *config, bool explain, struct buf *out)
{
	struct show show = {
		.out = out, .explain = explain, .root = &shaping_root_table
	};

	if (config->shaping)
		show_table(&show, &shaping_root_table, config->shaping, false);
	BUG_UNLESS(show.indent == 0);
}
