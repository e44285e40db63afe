/* SPDX-License-Identifier: Apache-2.0 */

/* The tables are sound, and what is written about them is complete. */

#include "base/buf.h"
#include "config/internal.h"
#include "log/log.h"
#include "os/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

typedef void visit_fn(
    const struct config_table *table, const struct config_key *key, void *arg);

static void
visit_keys(const struct config_table *table, visit_fn *visit, void *arg)
{
	assert_true(table->count <= CONFIG_TABLE_KEYS_MAX);
	for (size_t i = 0; i < table->count; i++) {
		visit(table, &table->keys[i], arg);
		if (table->keys[i].table)
			visit_keys(table->keys[i].table, visit, arg);
	}
}

static void
check_key(
    const struct config_table *table, const struct config_key *key, void *arg)
{
	size_t len = strlen(key->explain);

	(void)arg;
	assert_true(len > 10 && key->explain[len - 1] == '.');
	assert_int_equal(key->kind == VALUE_MAP, key->table != NULL);
	if (key->is_list)
		assert_true(key->most > 0 && key->least <= key->most);
	if (key->is_list && key->kind == VALUE_MAP)
		assert_true(key->table->item_size > 0);
	assert_true(key->max >= key->min);
	for (const struct config_key *k = table->keys; k < key; k++)
		assert_string_not_equal(k->name, key->name);
	for (const char *p = key->name; *p; p++)
		assert_true((*p >= 'a' && *p <= 'z') || *p == '_');
}

static void
is_sound(void **state)
{
	(void)state;
	visit_keys(&config_root_table, check_key, NULL);
}

/* The part of the page under the table's name. */
static struct span
section_of(const struct config_table *table, struct span page)
{
	char title[64];

	(void)snprintf(title, sizeof title, "\n.Ss %s\n",
	    table->name ? table->name : "General");
	size_t start = span_search(page, span_of(title));
	if (start == SIZE_MAX)
		fail_msg("posthouse.yaml.5 lacks%s", title);
	struct span rest = span_skip(page, start + strlen(title) - 1);
	size_t next = span_search(rest, SPAN("\n.Ss "));
	size_t last = span_search(rest, SPAN("\n.Sh "));
	return span_slice(rest, 0, next < last ? next : last);
}

static void
check_mentioned(
    const struct config_table *table, const struct config_key *key, void *arg)
{
	const struct span *page = arg;
	struct span section = section_of(table, *page);
	char entry[64];
	const char *value = key->default_text;

	(void)snprintf(entry, sizeof entry, "\n.It Cm %s\n", key->name);
	size_t start = span_search(section, span_of(entry));
	if (start == SIZE_MAX)
		fail_msg("posthouse.yaml.5 lacks%s", entry);
	struct span rest = span_skip(section, start + strlen(entry));
	size_t end = span_search(rest, SPAN("\n.It Cm "));
	if (key->choices)
		end = SIZE_MAX; /* each choice is an entry, too */
	rest = span_slice(rest, 0, end == SIZE_MAX ? rest.len : end);
	if (value && *value && *value != '[' && !key->is_computed &&
	    span_search(rest, span_of(value)) == SIZE_MAX)
		fail_msg("posthouse.yaml.5 lacks the default %s of %s", value,
		    key->name);
}

static void
is_in_the_manual(void **state)
{
	struct buf page = BUF_EMPTY;

	(void)state;
	assert_int_equal(
	    file_read(SOURCE_ROOT "/doc/posthouse.yaml.5", 1 << 20, &page), 0);
	struct span text = buf_span(&page);
	visit_keys(&config_root_table, check_mentioned, &text);
	buf_done(&page);
}

static void
check_in_example(
    const struct config_table *table, const struct config_key *key, void *arg)
{
	char entry[64];

	(void)table;
	(void)snprintf(entry, sizeof entry, "%s:", key->name);
	if (!strstr(arg, entry))
		fail_msg("posthouse.yaml lacks %s", entry);
}

static void
no_mistake(void *arg, const char *file, unsigned line, unsigned column,
    const char *text)
{
	(void)arg;
	fail_msg("%s:%u:%u: %s", file, line, column, text);
}

static void
the_example_is_clean_and_complete(void **state)
{
	static const char path[] = SOURCE_ROOT "/doc/posthouse.yaml";
	struct buf text = BUF_EMPTY;
	struct config *c = NULL;

	(void)state;
	assert_int_equal(file_read(path, 1 << 20, &text), 0);
	assert_int_equal(config_parse(buf_span(&text), "posthouse.yaml", false,
			     no_mistake, NULL, &c),
	    0);
	assert_true(c->listener_count > 0);
	config_unref(&c);
	visit_keys(&config_root_table, check_in_example,
	    (char *)(uintptr_t)buf_cstring(&text));
	buf_done(&text);
}

/* The room may not include log/log.h; its words must still mean the same. */
static void
agrees_with_the_log(void **state)
{
	static const struct {
		const char *level;
		enum log_level value;
	} rows[] = { { "debug", LOG_DEBUG }, { "info", LOG_INFO },
		{ "warning", LOG_WARNING }, { "error", LOG_ERROR } };

	char text[160];

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct config *c = NULL;
		(void)snprintf(text, sizeof text,
		    "hostname: a.example\nlisteners: [{address: "
		    "\"127.0.0.1:1\", service: http}]\n"
		    "log: {level: %s, format: %s}\n",
		    rows[i].level, i % 2 ? "json" : "text");
		assert_int_equal(config_parse(span_of(text), "t", false,
				     no_mistake, NULL, &c),
		    0);
		assert_int_equal(c->log.level, (int)rows[i].value);
		assert_int_equal(c->log.format, i % 2 ? LOG_JSON : LOG_TEXT);
		config_unref(&c);
	}
}

static void
suggests_what_is_near(void **state)
{
	static const struct {
		const char *name, *near;
	} rows[] = {
		{ "listener", "listeners" },
		{ "hostnmae", "hostname" },
		{ "retries", NULL },
		{ "x", NULL },
		{ "lgo", NULL },
		{ "", NULL },
		{ "listenerslistenerslistenerslistenerslisteners", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *found =
		    config_suggest(&config_root_table, span_of(rows[i].name));
		if (rows[i].near)
			assert_string_equal(found, rows[i].near);
		else
			assert_null(found);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_sound),
		cmocka_unit_test(is_in_the_manual),
		cmocka_unit_test(the_example_is_clean_and_complete),
		cmocka_unit_test(agrees_with_the_log),
		cmocka_unit_test(suggests_what_is_near),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
