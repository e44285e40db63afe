/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "config/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void __attribute__((format(printf, 4, 0))) add(struct config_mistakes *m,
    unsigned line, unsigned column, const char *format, va_list arguments)
{
	if (m->count == CONFIG_MISTAKES_MAX) {
		m->is_full = true;
		return;
	}
	if (!m->items)
		m->items =
		    mem_resize(NULL, CONFIG_MISTAKES_MAX, sizeof *m->items);
	struct config_mistake *mistake = &m->items[m->count];
	*mistake = (struct config_mistake){
		.line = line,
		.column = column,
		.number = (unsigned)m->count++,
	};
	(void)vsnprintf(mistake->text, sizeof mistake->text, format, arguments);
}

void
config_mistakes_add(
    struct config_mistakes *m, yaml_mark_t mark, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add(m, (unsigned)mark.line + 1, (unsigned)mark.column + 1, format,
	    arguments);
	va_end(arguments);
}

void
config_mistakes_add_file(struct config_mistakes *m, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add(m, 0, 0, format, arguments);
	va_end(arguments);
}

static int
compare(const void *a, const void *b)
{
	const struct config_mistake *x = a, *y = b;

	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	if (x->column != y->column)
		return x->column < y->column ? -1 : 1;
	return x->number < y->number ? -1 : 1;
}

void
config_mistakes_report(struct config_mistakes *m, const char *file,
    config_mistake_fn *fn, void *arg)
{
	if (m->count)
		qsort(m->items, m->count, sizeof *m->items, compare);
	for (size_t i = 0; i < m->count && fn; i++)
		fn(arg, file, m->items[i].line, m->items[i].column,
		    m->items[i].text);
	if (m->is_full && fn)
		fn(arg, file, 0, 0,
		    "there are more mistakes than are shown; mend these first");
}

void
config_mistakes_done(struct config_mistakes *m)
{
	mem_free(m->items);
	*m = (struct config_mistakes){ 0 };
}

const char *
config_quote(struct span text, char buffer[static CONFIG_QUOTE_SIZE])
{
	static const char cut[] = "…";
	size_t len = 0, next;

	/* Room for the mark of what is left out and the NUL. */
	while (text.len && (next = span_utf8_length(text)) != 0) {
		if (len + next > CONFIG_QUOTE_SIZE - sizeof cut)
			break;
		bool is_plain = next > 1 ? (unsigned char)*text.ptr != 0xc2
					 : *text.ptr >= ' ' && *text.ptr < 127;
		if (is_plain)
			memcpy(buffer + len, text.ptr, next);
		else
			buffer[len] = '?';
		len += is_plain ? next : 1;
		text = span_skip(text, next);
	}
	BUG_UNLESS(len + sizeof cut <= CONFIG_QUOTE_SIZE);
	memcpy(buffer + len, cut, sizeof cut);
	if (!text.len)
		buffer[len] = '\0';
	return buffer;
}

enum { SUGGEST_LENGTH_MAX = 40 };

static size_t
least(size_t a, size_t b, size_t c)
{
	size_t smaller = a < b ? a : b;

	return smaller < c ? smaller : c;
}

/* Letters to add, drop or change (Levenshtein), one row at a time. */
static size_t
distance(struct span a, struct span b)
{
	size_t row[SUGGEST_LENGTH_MAX + 1];

	BUG_UNLESS(b.len <= SUGGEST_LENGTH_MAX);
	for (size_t j = 0; j <= b.len; j++)
		row[j] = j;
	for (size_t i = 0; i < a.len; i++) {
		size_t diagonal = row[0];
		row[0] = i + 1;
		for (size_t j = 0; j < b.len; j++) {
			size_t above = row[j + 1];
			row[j + 1] = least(above + 1, row[j] + 1,
			    diagonal + (a.ptr[i] != b.ptr[j]));
			diagonal = above;
		}
	}
	return row[b.len];
}

const char *
config_suggest(const struct config_table *table, struct span name)
{
	const char *nearest = NULL;
	size_t nearest_distance = SIZE_MAX;

	if (name.len > SUGGEST_LENGTH_MAX)
		return NULL;
	for (size_t i = 0; i < table->count; i++) {
		struct span key = span_of(table->keys[i].name);
		size_t far = distance(name, key);
		if (far < nearest_distance && far <= 1 + key.len / 4) {
			nearest = table->keys[i].name;
			nearest_distance = far;
		}
	}
	return nearest;
}
