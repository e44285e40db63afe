/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a sender domain must publish, and what of it the DNS has: DKIM keys,
 * SPF, DMARC and the return path's host. Looking blocks for seconds: a thread
 * of the API's or a command, never a reactor. Private to api and its tests.
 */

#include "base/arena.h"
#include "config/config.h"
#include "directory/directory.h"

#include <stdatomic.h>

/* One record to be published. */
struct dns_record {
	const char *purpose; /* "dkim", "spf", "dmarc", "mx"; static */
	struct span name; /* without the last dot */
	const char *type; /* "TXT" or "MX"; static */
	struct span value; /* TXT: unsplit; MX: "10 host." */
	const struct directory_key *key; /* dkim only */
};

#define DNS_RECORDS_MAX 32

struct dns_plan {
	struct dns_record records[DNS_RECORDS_MAX];
	size_t count;
	/* Another thread sets it to end a look; NULL: none does. */
	const atomic_bool *cancelled;
};

/* Spans live in arena and in the domain. */
void dns_plan_make(const struct directory_domain *domain,
    const struct config *config, struct arena *arena,
    struct dns_plan *ret_plan);
/* A line of a zone file, without its end; TXT in strings of at most 255
 * octets (RFC 1035 §3.3.14). */
struct span dns_zone_line(const struct dns_record *r, struct arena *arena);

enum dns_state {
	DNS_FINE,
	DNS_MISSING,
	DNS_WRONG, /* another record is there */
	DNS_UNKNOWN, /* the DNS did not tell */
};

/* Of one record: what is there, and what is wrong in words. */
struct dns_finding {
	enum dns_state state;
	bool is_secure; /* validated by DNSSEC */
	struct span found; /* what is there instead; or empty */
	struct span problem; /* empty when fine */
};

/* What is found of each record of the plan. A failure: there is no resolver. */
MUST_CHECK int dns_look(const struct dns_plan *plan,
    const struct config *config, struct arena *arena,
    struct dns_finding ret_findings[static DNS_RECORDS_MAX],
    struct failure *ret_failure);

/* What the texts at a record's name mean for it (pure). */
void dns_judge(const struct dns_record *r, const struct span *texts,
    size_t count, struct arena *arena, struct dns_finding *finding);
/* The value of a tag in "a=1; b=2" (RFC 6376 §3.2), without white space.
 * Empty when it is not there. */
struct span dns_tag(struct span list, const char *tag, struct arena *arena);
