/* SPDX-License-Identifier: Apache-2.0 */
#include "config/shaping.h"

#include "base/bug.h"
#include "base/map.h"
#include "base/mem.h"
#include "config/internal.h"
#include "os/file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define FILE_SIZE_MAX ((size_t)4 * 1024 * 1024)

/* As the tables have them, in the order of enum shaping_key. */
static const char *const key_names[SHAPING_KEYS] = {
	[SHAPING_CONNECTIONS] = "max_connections",
	[SHAPING_FIRST_CONNECTIONS] = "first_connections",
	[SHAPING_CONNECTION_RATE] = "max_connection_rate",
	[SHAPING_MESSAGE_RATE] = "max_message_rate",
	[SHAPING_MESSAGES_PER_CONNECTION] = "max_messages_per_connection",
	[SHAPING_RECIPIENTS] = "max_recipients_per_transaction",
	[SHAPING_CONNECT_TIMEOUT] = "connect_timeout",
	[SHAPING_FINAL_REPLY_TIMEOUT] = "final_reply_timeout",
	[SHAPING_IDLE_TIMEOUT] = "idle_timeout",
	[SHAPING_IP] = "ip",
};

/* ---- patterns ---------------------------------------------------------- */

static bool
pattern_matches(const char *pattern, struct span name)
{
	struct span p = span_of(pattern);

	if (span_eq(p, SPAN("*")))
		return true;
	if (!span_starts(p, SPAN("*.")))
		return span_eq_nocase(p, name);
	p = span_skip(p, 1);
	return name.len > p.len && span_ends_nocase(name, p);
}

static bool
any_matches(char *const *patterns, size_t count, struct span name)
{
	for (size_t i = 0; i < count; i++)
		if (pattern_matches(patterns[i], name))
			return true;
	return false;
}

static bool
has_name(char *const *names, size_t count, struct span name)
{
	for (size_t i = 0; i < count; i++)
		if (span_eq(span_of(names[i]), name))
			return true;
	return false;
}

/* ---- reading ----------------------------------------------------------- */

static void
note_lines(struct config_reader *r, const char *list, size_t i,
    struct shaping_rule *rule)
{
	for (unsigned k = 0; k < SHAPING_KEYS; k++) {
		if (!config_is_given(r, list, i, key_names[k]))
			continue;
		const yaml_node_t *node = config_node(r, list, i, key_names[k]);
		rule->lines[k] = (unsigned)node->start_mark.line + 1;
	}
}

static void
check_providers(struct config_reader *r, struct shaping *s)
{
	struct map *seen = map_new();

	for (size_t i = 0; i < s->provider_count; i++) {
		struct shaping_rule *rule = &s->providers[i];
		note_lines(r, "providers", i, rule);
		if (rule->name && map_put(seen, span_of(rule->name), rule))
			config_mistake(r,
			    config_node(r, "providers", i, "name"),
			    "there is a provider `%s` already; choose another "
			    "name, or add to its mx",
			    rule->name);
	}
	map_free(&seen, NULL);
}

static void
check_domains(struct config_reader *r, struct shaping *s)
{
	s->by_domain = map_new();
	for (size_t i = 0; i < s->domain_count; i++) {
		struct shaping_rule *rule = &s->domains[i];
		note_lines(r, "domains", i, rule);
		for (size_t k = 0; k < rule->domain_count; k++) {
			struct span name = span_of(rule->domains[k]);
			if (name.len && map_put(s->by_domain, name, rule))
				config_mistake(r,
				    config_node(r, "domains", i, "domains"),
				    "`%s` is named before; remove one",
				    rule->domains[k]);
		}
	}
}

static void
check_sources(struct config_reader *r, struct shaping *s)
{
	for (size_t i = 0; i < s->source_count; i++) {
		struct shaping_rule *rule = &s->sources[i];
		note_lines(r, "sources", i, rule);
		for (size_t k = 0; k < rule->source_count; k++)
			if (rule->sources[k] && !config_source_find(r->config,
						    span_of(rule->sources[k])))
				config_mistake(r,
				    config_node(r, "sources", i, "sources"),
				    "there is no source `%s` in %s; add it, or "
				    "name another",
				    rule->sources[k], r->config->path);
		for (size_t k = 0; k < rule->provider_count; k++) {
			bool is_known = false;
			for (size_t p = 0; p < s->provider_count; p++)
				is_known |=
				    span_eq(span_of(s->providers[p].name),
					span_of(rule->providers[k]));
			if (!is_known)
				config_mistake(r,
				    config_node(r, "sources", i, "providers"),
				    "there is no provider `%s` in this file; "
				    "add it, or name another",
				    rule->providers[k]);
		}
	}
}

static void
read_document(struct config_reader *r, struct shaping *s)
{
	config_read(r);
	note_lines(r, "default", CONFIG_NO_INDEX, &s->all);
	check_providers(r, s);
	check_domains(r, s);
	check_sources(r, s);
}

static int
shaping_parse(struct config *config, const char *path, struct span text,
    config_mistake_fn *fn, void *arg)
{
	yaml_document_t document;
	struct shaping *s = MEM_NEW(struct shaping);
	struct config_reader reader = {
		.config = config, .root = &shaping_root_table, .base = s
	};

	s->path = mem_strdup(path);
	config->shaping = s;
	if (config_document_load(text, &reader.mistakes, &document)) {
		reader.document = &document;
		read_document(&reader, s);
		yaml_document_delete(&document);
	}
	size_t mistakes = reader.mistakes.count;
	config_mistakes_report(&reader.mistakes, path, fn, arg);
	config_mistakes_done(&reader.mistakes);
	return mistakes ? ERR_SYNTAX : 0;
}

/* Beside posthouse.yaml. */
static char *
usual_path(const char *config_path)
{
	const char *slash = strrchr(config_path, '/');

	if (!slash)
		return mem_strdup("shaping.yaml");
	return mem_printf(
	    "%.*s/shaping.yaml", (int)(slash - config_path), config_path);
}

int
shaping_load(struct config *config, config_mistake_fn *fn, void *arg)
{
	AUTO_FREE char *usual = usual_path(config->path);
	const char *path = config->shaping_path ? config->shaping_path : usual;
	struct buf content = BUF_EMPTY;

	if (!config->shaping_path && access(path, F_OK) < 0 && errno == ENOENT)
		return 0;
	int code = file_read(path, FILE_SIZE_MAX, &content);
	if (code < 0) {
		AUTO_FREE char *text = mem_printf(
		    "cannot be read: %s; correct the file or `shaping` in %s",
		    code == ERR_LIMIT ? "it is larger than 4 MiB"
				      : error_text(code),
		    config->path);
		fn(arg, path, 0, 0, text);
	} else {
		code = shaping_parse(config, path, buf_span(&content), fn, arg);
	}
	buf_done(&content);
	return code;
}

void
shaping_free(struct shaping **shaping)
{
	struct shaping *s = *shaping;

	*shaping = NULL;
	if (!s)
		return;
	map_free(&s->by_domain, NULL);
	config_table_done(&shaping_root_table, s);
	mem_free(s->path);
	mem_free(s);
}

/* ---- asking ------------------------------------------------------------ */

const struct shaping_rule *
shaping_provider(
    const struct config *config, const char *const *hosts, size_t host_count)
{
	const struct shaping *s = config->shaping;

	for (size_t i = 0; s && host_count && i < s->provider_count; i++) {
		const struct shaping_rule *rule = &s->providers[i];
		size_t own = 0;
		while (own < host_count && any_matches(rule->mx, rule->mx_count,
					       span_of(hosts[own])))
			own++;
		if (own == host_count)
			return rule;
	}
	return NULL;
}

const struct shaping_rule *
shaping_domain(const struct config *config, struct span domain)
{
	const struct shaping *s = config->shaping;
	char pattern[2 + 256] = "*.";
	const struct shaping_rule *found;
	struct span rest = domain;

	if (!s || !s->domain_count)
		return NULL;
	found = map_get(s->by_domain, domain);
	while (!found && span_cut(&rest, '.').len && rest.len &&
	       rest.len <= sizeof pattern - 2) {
		memcpy(pattern + 2, rest.ptr, rest.len);
		found = map_get(s->by_domain, span_from(pattern, 2 + rest.len));
	}
	return found;
}

/* ---- terms ------------------------------------------------------------- */

/* Takes from the rule what no more particular one has said. */
static void
take_limits(const struct shaping_rule *rule, struct shaping_terms *terms)
{
	struct shaping_limits *to = &terms->limits;
	const struct shaping_limits *from = &rule->limits;
	const bool is_new[SHAPING_KEYS] = {
		[SHAPING_CONNECTIONS] = !to->connections,
		[SHAPING_FIRST_CONNECTIONS] = !to->first_connections,
		[SHAPING_CONNECTION_RATE] = !to->connection_rate.count,
		[SHAPING_MESSAGE_RATE] = !to->message_rate.count,
		[SHAPING_MESSAGES_PER_CONNECTION] =
		    !to->messages_per_connection,
		[SHAPING_RECIPIENTS] = !to->recipients,
		[SHAPING_CONNECT_TIMEOUT] = !to->connect_us,
		[SHAPING_FINAL_REPLY_TIMEOUT] = !to->final_reply_us,
		[SHAPING_IDLE_TIMEOUT] = !to->idle_us,
		[SHAPING_IP] = !to->ip,
	};

#define TAKE(key, member)                                                      \
	if (is_new[key])                                                       \
	to->member = from->member
	TAKE(SHAPING_CONNECTIONS, connections);
	TAKE(SHAPING_FIRST_CONNECTIONS, first_connections);
	TAKE(SHAPING_CONNECTION_RATE, connection_rate);
	TAKE(SHAPING_MESSAGE_RATE, message_rate);
	TAKE(SHAPING_MESSAGES_PER_CONNECTION, messages_per_connection);
	TAKE(SHAPING_RECIPIENTS, recipients);
	TAKE(SHAPING_CONNECT_TIMEOUT, connect_us);
	TAKE(SHAPING_FINAL_REPLY_TIMEOUT, final_reply_us);
	TAKE(SHAPING_IDLE_TIMEOUT, idle_us);
	TAKE(SHAPING_IP, ip);
#undef TAKE
	for (unsigned k = 0; k < SHAPING_KEYS; k++)
		if (is_new[k])
			terms->lines[k] = rule->lines[k];
}

/* How particular a rule for sources is; 0: it is about another place. */
static unsigned
rank_of(const struct shaping_rule *rule, const struct shaping_rule *provider,
    const struct shaping_rule *domain)
{
	if (!rule->provider_count && !rule->domain_count)
		return 1;
	for (size_t i = 0; domain && i < rule->domain_count; i++)
		if (has_name(domain->domains, domain->domain_count,
			span_of(rule->domains[i])))
			return 3;
	if (provider && has_name(rule->providers, rule->provider_count,
			    span_of(provider->name)))
		return 2;
	return 0;
}

static void
take_sources(const struct shaping *s, const struct shaping_rule *provider,
    const struct shaping_rule *domain, struct span source, unsigned rank,
    struct shaping_terms *terms)
{
	for (size_t i = 0; source.len && i < s->source_count; i++) {
		const struct shaping_rule *rule = &s->sources[i];
		if (has_name(rule->sources, rule->source_count, source) &&
		    rank_of(rule, provider, domain) == rank)
			take_limits(rule, terms);
	}
}

/* What posthouse.yaml says for all. */
static void
take_general(const struct config *config, struct shaping_terms *terms)
{
	const struct shaping_rule general = {
		.limits = {
		    .connections = config->delivery.connections_per_site,
		    .first_connections =
			config->delivery.first_connections_per_site,
		    .connection_rate =
			config->delivery.connection_rate_per_site,
		    .message_rate = config->delivery.message_rate_per_site,
		    .messages_per_connection =
			config->delivery.messages_per_connection,
		    .recipients = config->delivery.recipients_per_message,
		    .connect_us = config->delivery.connect_us,
		    .final_reply_us = config->delivery.final_reply_us,
		    .idle_us = config->delivery.idle_us,
		    .ip = (int)config->delivery.ip + 1,
		},
	};

	take_limits(&general, terms);
}

void
shaping_find(const struct config *config, const struct shaping_rule *provider,
    const struct shaping_rule *domain, struct span source,
    struct shaping_terms *ret_terms)
{
	const struct shaping *s = config->shaping;

	*ret_terms = (struct shaping_terms){ 0 };
	if (s) {
		take_sources(s, provider, domain, source, 3, ret_terms);
		take_sources(s, provider, domain, source, 2, ret_terms);
		if (domain)
			take_limits(domain, ret_terms);
		if (provider)
			take_limits(provider, ret_terms);
		take_sources(s, provider, domain, source, 1, ret_terms);
		take_limits(&s->all, ret_terms);
	}
	take_general(config, ret_terms);
}
