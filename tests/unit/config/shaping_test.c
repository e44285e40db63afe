/* SPDX-License-Identifier: Apache-2.0 */

/* shaping.yaml, read with a config beside it. */

#include "base/mem.h"
#include "base/time.h"
#include "config/internal.h"
#include "config/shaping.h"
#include "os/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char main_text[] =
    "hostname: relay.example.com\n"
    "listeners:\n"
    "  - {address: \"127.0.0.1:8025\", service: http}\n"
    "sources:\n"
    "  - {name: out1, address: 192.0.2.10}\n"
    "  - {name: out2, address: 192.0.2.11}\n"
    "pools:\n"
    "  - {name: shared, sources: [{name: out1}, {name: out2}]}\n"
    "delivery: {connect_time: 20s}\n";

struct place {
	char directory[64], config[96], shaping[96];
	unsigned mistakes, line, column;
	char file[96], text[512];
};

static void
write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void
on_mistake(void *arg, const char *file, unsigned line, unsigned column,
    const char *text)
{
	struct place *p = arg;

	if (p->mistakes++)
		return;
	p->line = line;
	p->column = column;
	(void)snprintf(p->file, sizeof p->file, "%s", file);
	(void)snprintf(p->text, sizeof p->text, "%s", text);
}

/* NULL: mistakes. */
static struct config *
load(struct place *p, const char *shaping)
{
	struct config *config = NULL;

	p->mistakes = 0;
	write_file(p->config, main_text);
	(void)unlink(p->shaping);
	if (shaping)
		write_file(p->shaping, shaping);
	int code = config_load(p->config, false, on_mistake, p, &config);
	assert_int_equal(code, p->mistakes ? ERR_SYNTAX : 0);
	assert_int_equal(p->mistakes == 0, config != NULL);
	return config;
}

static int
set_up(void **state)
{
	struct place *p = MEM_NEW(struct place);

	(void)snprintf(
	    p->directory, sizeof p->directory, "%s", "/tmp/shaping.XXXXXX");
	assert_non_null(mkdtemp(p->directory));
	(void)snprintf(
	    p->config, sizeof p->config, "%s/posthouse.yaml", p->directory);
	(void)snprintf(
	    p->shaping, sizeof p->shaping, "%s/shaping.yaml", p->directory);
	*state = p;
	return 0;
}

static int
tear_down(void **state)
{
	struct place *p = *state;

	(void)unlink(p->config);
	(void)unlink(p->shaping);
	(void)rmdir(p->directory);
	mem_free(p);
	return 0;
}

static void
is_not_needed(void **state)
{
	struct config *c = load(*state, NULL);
	struct shaping_terms terms;

	assert_null(c->shaping);
	assert_null(shaping_domain(c, SPAN("example.com")));
	shaping_find(c, NULL, NULL, SPAN("out1"), &terms);
	assert_int_equal(terms.limits.connections, 20);
	assert_int_equal(terms.limits.connect_us, 20 * US_PER_S);
	assert_int_equal(terms.limits.ip, CONFIG_IP_ANY + 1);
	assert_int_equal(terms.lines[SHAPING_CONNECTIONS], 0);
	config_unref(&c);
	c = load(*state, "");
	assert_non_null(c->shaping);
	config_unref(&c);
}

static const char rules[] =
    "default: {max_connections: 11, idle_timeout: 3s}\n" /* 1 */
    "providers:\n" /* 2 */
    "  - name: big\n" /* 3 */
    "    mx: [\"*.big.example\", mx.other.example]\n" /* 4 */
    "    max_connections: 7\n" /* 5 */
    "    max_message_rate: 100/s\n" /* 6 */
    "    ip: \"4\"\n" /* 7 */
    "domains:\n" /* 8 */
    "  - {domains: [one.example, \"*.two.example\"], max_connections: 2}\n"
    "sources:\n" /* 10 */
    "  - {sources: [out1], max_connections: 9, idle_timeout: 4s}\n"
    "  - {sources: [out1], providers: [big], max_connections: 6}\n"
    "  - {sources: [out2], domains: [one.example], max_connections: 1}\n";

static const struct shaping_rule *
provider_of(const struct config *c, const char *a, const char *b)
{
	const char *const hosts[] = { a, b };

	return shaping_provider(c, hosts, b ? 2 : 1);
}

static void
providers_are_known_by_all_their_hosts(void **state)
{
	struct config *c = load(*state, rules);

	assert_non_null(provider_of(c, "mx1.big.example", NULL));
	assert_non_null(provider_of(c, "a.b.BIG.example", "mx.other.example"));
	assert_null(provider_of(c, "mx1.big.example", "mx.else.example"));
	assert_null(provider_of(c, "big.example", NULL));
	assert_null(provider_of(c, "mxbig.example", NULL));
	assert_null(shaping_provider(c, NULL, 0));
	config_unref(&c);
}

static void
domains_are_found_by_the_most_particular_name(void **state)
{
	struct config *c = load(*state, rules);
	const struct shaping_rule *rule =
	    shaping_domain(c, SPAN("one.example"));

	assert_non_null(rule);
	assert_ptr_equal(shaping_domain(c, SPAN("a.b.two.example")), rule);
	assert_null(shaping_domain(c, SPAN("two.example")));
	assert_null(shaping_domain(c, SPAN("x.one.example")));
	assert_null(shaping_domain(c, SPAN("")));
	config_unref(&c);
}

static void
the_most_particular_rule_counts_for_each_value(void **state)
{
	struct config *c = load(*state, rules);
	const struct shaping_rule *big =
	    provider_of(c, "mx1.big.example", NULL);
	const struct shaping_rule *one = shaping_domain(c, SPAN("one.example"));

	const struct {
		const struct shaping_rule *provider, *domain;
		const char *source;
		unsigned connections, line;
	} cases[] = {
		{ NULL, NULL, "", 11, 1 },
		{ NULL, NULL, "out1", 9, 11 },
		{ NULL, NULL, "out2", 11, 1 },
		{ big, NULL, "", 7, 5 },
		{ big, NULL, "out1", 6, 12 },
		{ big, NULL, "out2", 7, 5 },
		{ big, one, "", 2, 9 },
		{ NULL, one, "out1", 2, 9 },
		{ big, one, "out2", 1, 13 },
		{ big, one, "out1", 6, 12 },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct shaping_terms terms;
		shaping_find(c, cases[i].provider, cases[i].domain,
		    span_of(cases[i].source), &terms);
		assert_int_equal(
		    terms.limits.connections, cases[i].connections);
		assert_int_equal(
		    terms.lines[SHAPING_CONNECTIONS], cases[i].line);
		assert_int_equal(terms.limits.connect_us, 20 * US_PER_S);
		assert_int_equal(terms.limits.message_rate.count,
		    cases[i].provider ? 100 : 0);
		assert_int_equal(terms.limits.ip - 1,
		    cases[i].provider ? CONFIG_IP_4 : CONFIG_IP_ANY);
	}
	config_unref(&c);
}

static void
mistakes_have_their_place(void **state)
{
	static const struct {
		const char *text, *mistake;
		unsigned line, column;
	} cases[] = {
		{ "default: {max_conections: 3}\n",
		    "did you mean `max_connections`?", 1, 11 },
		{ "defaults: {}\n", "did you mean `default`?", 1, 1 },
		{ "default: {max_message_rate: fast}\n", "a rate such as", 1,
		    29 },
		{ "providers:\n  - {mx: [a.example]}\n",
		    "`providers.name` is missing", 2, 5 },
		{ "providers:\n  - {name: a, mx: [a.example]}\n"
		  "  - {name: a, mx: [b.example]}\n",
		    "there is a provider `a` already", 3, 12 },
		{ "domains:\n  - {domains: [a.example]}\n"
		  "  - {domains: [a.example]}\n",
		    "`a.example` is named before", 3, 15 },
		{ "sources:\n  - {sources: [out9]}\n",
		    "there is no source `out9`", 2, 15 },
		{ "sources:\n  - {sources: [out1], providers: [x]}\n",
		    "there is no provider `x`", 2, 34 },
		{ "- a\n", "must be a map", 1, 1 },
	};
	struct place *p = *state;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_null(load(p, cases[i].text));
		if (!strstr(p->text, cases[i].mistake))
			fail_msg("%s: %s", cases[i].text, p->text);
		assert_string_equal(p->file, p->shaping);
		assert_int_equal(p->line, cases[i].line);
		assert_int_equal(p->column, cases[i].column);
	}
}

static void
what_is_shown_reads_back(void **state)
{
	struct config *c = load(*state, rules);
	struct buf first = BUF_EMPTY, second = BUF_EMPTY;

	shaping_show(c, false, &first);
	config_unref(&c);
	c = load(*state, buf_cstring(&first));
	shaping_show(c, false, &second);
	assert_string_equal(buf_cstring(&first), buf_cstring(&second));
	assert_non_null(strstr(buf_cstring(&first), "max_connections: 7"));
	config_unref(&c);
	buf_done(&first);
	buf_done(&second);
}

static void
the_shipped_rules_are_clean_and_reasoned(void **state)
{
	struct buf text = BUF_EMPTY;

	assert_int_equal(
	    file_read(SOURCE_ROOT "/doc/shaping.yaml", 1 << 20, &text), 0);
	struct config *c = load(*state, buf_cstring(&text));
	assert_non_null(c);
	assert_string_equal(
	    provider_of(c, "gmail-smtp-in.l.google.com", NULL)->name, "google");
	assert_string_equal(
	    provider_of(c, "outlook-com.olc.protection.outlook.com", NULL)
		->name,
	    "outlook");
	config_unref(&c);
	buf_done(&text);
}

static void
every_key_is_in_the_manual(void **state)
{
	struct buf page = BUF_EMPTY;
	const struct config_table *root = &shaping_root_table;

	(void)state;
	assert_int_equal(
	    file_read(SOURCE_ROOT "/doc/posthouse-shaping.5", 1 << 20, &page),
	    0);
	for (size_t i = 0; i < root->count; i++)
		for (size_t k = 0; k < root->keys[i].table->count; k++) {
			char entry[64];
			(void)snprintf(entry, sizeof entry, "\n.It Cm %s\n",
			    root->keys[i].table->keys[k].name);
			if (!strstr(buf_cstring(&page), entry))
				fail_msg("posthouse-shaping.5 lacks%s", entry);
		}
	buf_done(&page);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(is_not_needed),
		TEST(providers_are_known_by_all_their_hosts),
		TEST(domains_are_found_by_the_most_particular_name),
		TEST(the_most_particular_rule_counts_for_each_value),
		TEST(mistakes_have_their_place),
		TEST(what_is_shown_reads_back),
		TEST(the_shipped_rules_are_clean_and_reasoned),
		TEST(every_key_is_in_the_manual),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
