/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * From a recipient's domain to addresses to connect to: MX with preference and
 * randomisation, implicit MX, null MX, IPv6 and IPv4 (RFC 5321 §5.1 and
 * RFC 7505), validated by DNSSEC. Asynchronous: libunbound does the work in its
 * own thread; answers come back on the loop that asked. One resolver per loop;
 * same-thread use only.
 *
 * A resolver never blocks the loop, asks each question once at a time, caches
 * answers for their time to live (60 s .. 24 h; negative 60 .. 300 s), and has
 * a bound on all of it. SERVFAIL, timeouts and bogus signatures are temporary;
 * only NXDOMAIN and null MX are permanent. In DNS trouble other than a failed
 * validation, hosts serve for up to an hour past their time.
 */

#include "base/buf.h"
#include "base/error.h"
#include "base/netaddr.h"
#include "loop/loop.h"

#include <stdbool.h>
#include <stdint.h>

struct resolver;

struct resolver_options {
	const struct netaddr *servers; /* forwarders; none: the system's
					  (/etc/resolv.conf) */
	size_t server_count;
	bool dnssec;
	const char *trust_anchor; /* file; NULL: the root's from Debian's
				     dns-root-data */
	int64_t timeout_us; /* for the whole of a lookup; 0: 30 s */
	bool allow_private; /* hosts at private addresses are kept */
	const char *hostname; /* our own name among the MX hosts is a loop
				     (RFC 5321 §5.1); NULL: not looked for */
};

/* As the config has them; they live as long as it does. */
struct config;
struct resolver_options resolver_options_of(const struct config *config);

MUST_CHECK int resolver_new(struct loop *loop,
    const struct resolver_options *options, struct resolver **ret_resolver,
    struct failure *ret_failure);
/* Cancels what is under way; not from inside a callback. */
void resolver_free(struct resolver **resolver);

enum resolve_result {
	RESOLVE_OK,
	RESOLVE_TEMPORARY, /* .problem says what: SERVFAIL, timeout, bogus */
	RESOLVE_NO_DOMAIN, /* NXDOMAIN: permanent, 5.1.2 */
	RESOLVE_NULL_MX, /* RFC 7505: permanent, 5.1.10 */
	/* The domain is there but has neither MX nor address, or its MX hosts
	 * have none: permanent, 5.1.2 / 5.4.4 */
	RESOLVE_NO_ADDRESS,
	/* Leads only to addresses that we must not speak to: 5.4.4 */
	RESOLVE_PRIVATE,
	RESOLVE_LOOP, /* best MX is this host: 5.4.6 */
};

struct resolve_host {
	const char *name; /* MX target, lower case, no trailing dot */
	uint16_t preference;
	bool secure; /* MX and address answers validated */
	/* What its addresses belong to, when the name is an alias; or NULL. */
	const char *canonical;
	const struct netaddr *addresses; /* port 0; IPv6 first, then IPv4,
					    each shuffled */
	size_t address_count;
	const char *problem; /* why there is no address (then there is none),
				or NULL */
};

struct resolve_answer {
	enum resolve_result result;
	bool implicit_mx;
	bool mx_secure; /* the MX answer was validated */
	const struct resolve_host *hosts; /* in the order to try: by preference,
					     shuffled within one */
	size_t host_count;
	int64_t valid_until_us; /* monotonic */
	char problem[256]; /* for people */
	const char *site; /* names the receiving system: equal for domains
				     with the same set of MX hosts */
};

struct resolve_query;
/* The answer lives until the callback returns. */
typedef void resolve_fn(void *arg, const struct resolve_answer *answer);

/* Both may answer before they return (from the cache). The handle is good until
 * the callback runs; NULL is returned when it already has. A domain may be an
 * address literal "[192.0.2.1]". Of a domain's MX hosts the best 16 count. */
struct resolve_query *resolve_mx(
    struct resolver *r, struct span domain, resolve_fn *fn, void *arg);
/* Addresses of one host (a smarthost), or an address as text. Private ones are
 * kept: a smarthost is the operator's word. */
struct resolve_query *resolve_host(
    struct resolver *r, struct span host, resolve_fn *fn, void *arg);

/* ---- records as they are ---- */

enum resolve_type {
	RESOLVE_CNAME = 5,
	RESOLVE_PTR = 12,
	RESOLVE_TXT = 16,
	RESOLVE_TLSA = 52
};

/* RESOLVE_OK with no record: the name is there, the type is not. */
struct resolve_records {
	enum resolve_result result; /* OK, TEMPORARY or NO_DOMAIN */
	bool secure; /* validated, be it that there is none */
	bool bogus; /* TEMPORARY because a validation failed */
	const struct span *rdata; /* as on the wire; at most 64 of them */
	size_t count;
	int64_t valid_until_us; /* monotonic */
	char problem[256]; /* for people */
};

typedef void resolve_records_fn(
    void *arg, const struct resolve_records *records);

/* As resolve_mx; but nothing serves past its time. A name may have labels that
 * begin with an underscore. */
struct resolve_query *resolve_records(struct resolver *r,
    enum resolve_type type, struct span name, resolve_records_fn *fn,
    void *arg);
/* The text of one TXT record, its strings joined (RFC 7208 §3.3). False: the
 * octets are no TXT record. */
bool resolve_txt_join(struct span rdata, struct buf *out);

void resolve_cancel(struct resolve_query **query);

struct resolver_stats {
	uint64_t questions, cache_hits, failures;
	uint64_t pending, cached;
};

void resolver_stats(const struct resolver *r, struct resolver_stats *ret_stats);
