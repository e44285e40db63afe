/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * shaping.yaml: what each receiving system bears. It stands beside
 * posthouse.yaml, is as strict, and belongs to the config that it was read
 * with. Every value may be said for all mail, for a source, for a provider
 * (known by the names of its mail hosts), for a domain, and for a source at
 * one of those; each value by itself is taken from the most particular rule
 * that has it (shaping_find).
 */

#include "config/config.h"

enum shaping_key {
	SHAPING_CONNECTIONS,
	SHAPING_FIRST_CONNECTIONS,
	SHAPING_CONNECTION_RATE,
	SHAPING_MESSAGE_RATE,
	SHAPING_MESSAGES_PER_CONNECTION,
	SHAPING_RECIPIENTS,
	SHAPING_CONNECT_TIMEOUT,
	SHAPING_FINAL_REPLY_TIMEOUT,
	SHAPING_IDLE_TIMEOUT,
	SHAPING_IP,
	SHAPING_KEYS
};

/* 0 everywhere: not said here. */
struct shaping_limits {
	uint32_t connections, first_connections;
	struct config_rate connection_rate, message_rate;
	uint32_t messages_per_connection, recipients;
	int64_t connect_us, final_reply_us, idle_us;
	int ip; /* 0, or enum config_ip + 1 */
};

struct shaping_rule {
	char *name; /* of a provider */
	char **mx; /* a provider's hosts: "*.google.com" */
	size_t mx_count;
	char **domains; /* of a rule for domains, or for sources at them */
	size_t domain_count;
	char **sources, **providers; /* of a rule for sources */
	size_t source_count, provider_count;
	struct shaping_limits limits;
	unsigned lines[SHAPING_KEYS]; /* where each is said; 0: not here */
};

struct shaping {
	char *path;
	struct shaping_rule all; /* `default` */
	struct shaping_rule *providers, *domains, *sources;
	size_t provider_count, domain_count, source_count;
	struct map *by_domain; /* rule by pattern; the room's own */
};

/* NULL when there is no such rule, or no shaping.yaml. A provider's hosts must
 * be all of the domain's. */
const struct shaping_rule *shaping_provider(
    const struct config *config, const char *const *hosts, size_t host_count);
const struct shaping_rule *shaping_domain(
    const struct config *config, struct span domain);

/* What holds for a source ("": any) at a site of this provider, for mail of
 * this domain's rule (both may be NULL). */
struct shaping_terms {
	struct shaping_limits limits; /* complete */
	unsigned lines[SHAPING_KEYS]; /* of shaping.yaml; 0: posthouse.yaml
					 says it, or its default does */
};

void shaping_find(const struct config *config,
    const struct shaping_rule *provider, const struct shaping_rule *domain,
    struct span source, struct shaping_terms *ret_terms);

/* As config_show, for shaping.yaml; nothing without one. */
void shaping_show(const struct config *config, bool explain, struct buf *out);
