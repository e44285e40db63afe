/* SPDX-License-Identifier: Apache-2.0 */

/* Every key of shaping.yaml; see table.c. */

#include "base/time.h"
#include "config/internal.h"
#include "config/shaping.h"

#define AT(member) .offset = offsetof(struct shaping, member)
#define IN(member) .offset = offsetof(struct shaping_rule, member)
#define LIST_IN(member, counter)                                               \
	.is_list = true, .offset = offsetof(struct shaping_rule, member),      \
	.count_offset = offsetof(struct shaping_rule, counter)
#define BETWEEN(least, most_) .min = (least), .max = (most_)
#define KEYS(rows) .keys = (rows), .count = sizeof(rows) / sizeof *(rows)

static const char *const ip_names[] = { "inherit", "any", "prefer4", "4", "6",
	NULL };

/* The limits, at the place that each table has them. 0: as a less particular
 * rule says. */
/* clang-format off */
#define LIMITS(PLACE)                                                          \
	{ "max_connections", VALUE_NUMBER, PLACE(limits.connections),          \
	    .default_text = "0", BETWEEN(0, 10000),                            \
	    .explain = "Open connections." },                                  \
	{ "first_connections", VALUE_NUMBER, PLACE(limits.first_connections),  \
	    .default_text = "0", BETWEEN(0, 10000),                            \
	    .explain = "Open connections where nothing is known yet; success " \
		       "leads to more, failure to fewer." },                   \
	{ "max_connection_rate", VALUE_RATE, PLACE(limits.connection_rate),    \
	    .default_text = "0", .max = 1000000,                               \
	    .explain = "Connections that are opened." },                       \
	{ "max_message_rate", VALUE_RATE, PLACE(limits.message_rate),          \
	    .default_text = "0", .max = 1000000,                               \
	    .explain = "Messages that are sent." },                            \
	{ "max_messages_per_connection", VALUE_NUMBER,                         \
	    PLACE(limits.messages_per_connection), .default_text = "0",        \
	    BETWEEN(0, 1000000),                                               \
	    .explain = "Messages after which a connection is closed." },       \
	{ "max_recipients_per_transaction", VALUE_NUMBER,                      \
	    PLACE(limits.recipients), .default_text = "0", BETWEEN(0, 10000),  \
	    .explain = "Recipients of one message in one transaction." },      \
	{ "connect_timeout", VALUE_DURATION, PLACE(limits.connect_us),         \
	    .default_text = "0s", BETWEEN(0, 10 * US_PER_MIN),                 \
	    .explain = "How long a server may take to accept a connection." }, \
	{ "final_reply_timeout", VALUE_DURATION, PLACE(limits.final_reply_us), \
	    .default_text = "0s", BETWEEN(0, US_PER_HOUR),                     \
	    .explain = "How long a server may take to answer after the "       \
		       "message; less than 10m risks duplicates." },           \
	{ "idle_timeout", VALUE_DURATION, PLACE(limits.idle_us),               \
	    .default_text = "0s", BETWEEN(0, 10 * US_PER_MIN),                 \
	    .explain = "How long a connection without work is kept." }
#define IP(PLACE)                                                              \
	{ "ip", VALUE_CHOICE, PLACE(limits.ip), .choices = ip_names,           \
	    .default_text = "inherit",                                         \
	    .explain = "Which addresses are tried." }
/* clang-format on */

#define IN_ALL(member) AT(all.member)
static const struct config_key all_keys[] = { LIMITS(IN_ALL), IP(IN_ALL) };
static const struct config_table all_table = { "default", KEYS(all_keys) };

static const struct config_key provider_keys[] = {
	{ "name", VALUE_NAME, IN(name), .max = 64,
	    .explain = "What the provider is called." },
	{ "mx", VALUE_PATTERN, LIST_IN(mx, mx_count), .least = 1, .most = 1000,
	    .explain = "Its mail hosts: a name, or \"*.name\" for everything "
		       "below a name. A domain is the provider's when all "
		       "its mail hosts are." },
	LIMITS(IN),
	IP(IN),
};
static const struct config_table provider_table = { "providers",
	KEYS(provider_keys), .item_size = sizeof(struct shaping_rule) };

static const struct config_key domain_keys[] = {
	{ "domains", VALUE_PATTERN, LIST_IN(domains, domain_count), .least = 1,
	    .most = 100000,
	    .explain = "Recipient domains, each for itself: a name, or "
		       "\"*.name\" for everything below a name." },
	LIMITS(IN),
	IP(IN),
};
static const struct config_table domain_table = { "domains", KEYS(domain_keys),
	.item_size = sizeof(struct shaping_rule) };

static const struct config_key source_keys[] = {
	{ "sources", VALUE_NAME, LIST_IN(sources, source_count), .least = 1,
	    .most = 1000, .max = 64,
	    .explain = "Names of sources of posthouse.yaml, each for itself." },
	{ "providers", VALUE_NAME, LIST_IN(providers, provider_count),
	    .default_text = "[]", .most = 1000, .max = 64,
	    .explain = "Only at these providers." },
	{ "domains", VALUE_PATTERN, LIST_IN(domains, domain_count),
	    .default_text = "[]", .most = 1000,
	    .explain = "Only for these domains, which have a rule of their "
		       "own in domains." },
	LIMITS(IN),
};
static const struct config_table source_table = { "sources", KEYS(source_keys),
	.item_size = sizeof(struct shaping_rule) };

#define RULES(member, counter)                                                 \
	.is_list = true, .offset = offsetof(struct shaping, member),           \
	.count_offset = offsetof(struct shaping, counter), .most = 1000,       \
	.default_text = "[]"

static const struct config_key root_keys[] = {
	{ "default", VALUE_MAP, .table = &all_table,
	    .explain = "For each receiving system, and each source." },
	{ "providers", VALUE_MAP, RULES(providers, provider_count),
	    .table = &provider_table,
	    .explain = "For each source at a provider, all domains of which "
		       "count together." },
	{ "domains", VALUE_MAP, RULES(domains, domain_count),
	    .table = &domain_table,
	    .explain = "For each source at a recipient domain, which counts "
		       "for itself, whatever its provider." },
	{ "sources", VALUE_MAP, RULES(sources, source_count),
	    .table = &source_table,
	    .explain = "For some of our sources, everywhere or at some "
		       "providers or domains." },
};
const struct config_table shaping_root_table = { NULL, KEYS(root_keys) };
