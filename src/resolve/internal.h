/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The inside of the resolver. A query waits on a lookup; a lookup asks
 * questions of libunbound and fills an entry; the entry answers all queries
 * and stays in the cache.
 *
 *   resolve_mx - query -+            +- question MX
 *   resolve_mx - query -+- lookup ---+- questions A, AAAA of each host
 *                            |
 *                          entry -- cache
 */

#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "base/time.h"
#include "resolve/mxdata.h"
#include "resolve/resolve.h"

#include <unbound.h>

#define HOSTS_MAX 16 /* the best of a domain's MX hosts */
#define ADDRESSES_MAX 8 /* of a host, in each family */
#define RECORDS_MAX 64 /* of one answer */
#define CACHE_MAX 100000 /* entries */
#define LOOKUPS_MAX 10000 /* under way */
#define QUESTIONS_MAX 256 /* with libunbound at once; the others queue */

#define POSITIVE_TTL_MIN_US US_PER_MIN
#define POSITIVE_TTL_MAX_US US_PER_DAY
#define NEGATIVE_TTL_MIN_US US_PER_MIN
#define NEGATIVE_TTL_MAX_US (5 * US_PER_MIN)
/* Trouble is not cached, but need not be asked about again at once. */
#define TROUBLE_TTL_US (5 * US_PER_S)
/* How long past its time an answer still serves when the DNS is in trouble. */
#define STALE_US US_PER_HOUR

enum { RR_A = 1, RR_MX = 15, RR_AAAA = 28, CLASS_IN = 1, RCODE_NXDOMAIN = 3 };

/* ---- hosts and entries ---- */

/* 17 octets where a netaddr has 132: the cache is large. */
struct ip {
	uint8_t is_ip6;
	uint8_t octets[16];
};

enum host_problem {
	HOST_FINE,
	HOST_NO_ADDRESS,
	HOST_PRIVATE,
	HOST_TROUBLE, /* SERVFAIL, timeout, bogus */
};

struct host {
	char name[DNS_NAME_SIZE];
	uint16_t preference;
	bool is_secure;
	char canonical[DNS_NAME_SIZE]; /* "": the name itself */
	enum host_problem problem;
	char *trouble; /* what kind, or NULL */
	struct ip ips[2 * ADDRESSES_MAX];
	uint8_t ip_count;
};

/* Of a finished lookup: the part of `host` that is worth keeping. */
struct entry_host {
	char *name, *problem;
	char *canonical; /* or NULL */
	struct ip *ips;
	uint16_t preference;
	uint8_t ip_count;
	bool is_secure;
};

struct entry_record {
	char *octets;
	uint32_t len;
};

struct entry {
	struct list lru_link;
	char *key;
	int64_t valid_until_us, stale_until_us;
	char *problem, *site;
	struct entry_host *hosts;
	uint8_t host_count;
	uint8_t result;
	bool is_implicit_mx, is_mx_secure;
	/* of records as they are */
	struct entry_record *records;
	uint8_t record_count;
	bool is_secure, is_bogus;
};

void entry_free(struct entry *e);

/* ---- choosing hosts (pure) ---- */

struct mx_choice {
	struct mx_record best[HOSTS_MAX]; /* by preference, then name */
	size_t count;
	size_t malformed, roots, records; /* seen */
	bool is_ours; /* our own name is among them… */
	uint16_t our_preference; /* …at best so */
};

void mx_choice_add(
    struct mx_choice *choice, struct span rdata, const char *our_name);
/* Drops what RFC 5321 §5.1 forbids; call after the last one. */
void mx_choice_end(struct mx_choice *choice);
/* Addresses of one family into the host, a random choice if there are too
 * many. Malformed and, unless allowed, private ones are left out. */
void host_add_addresses(struct host *host, char *const *rdata, const int *len,
    bool is_ip6, bool allow_private);
/* "a.example+b.example", at most SITE_SIZE - 1, the same for the same set. */
#define SITE_SIZE 201
void site_name(const struct mx_record *names, size_t count,
    char ret_site[static SITE_SIZE]);
void shuffle(void *items, size_t count, size_t size);
/* Hosts shuffled among equals, addresses in each family, IPv6 first. */
void answer_fill(
    const struct entry *e, struct arena *arena, struct resolve_answer *ret);
void records_fill(
    const struct entry *e, struct arena *arena, struct resolve_records *ret);

/* ---- questions ---- */

struct question {
	struct list link; /* in resolver.queued, while it waits for its turn */
	struct lookup *lookup;
	struct host *host; /* NULL: for MX or records */
	int type;
	int id; /* libunbound's, when asked */

	enum { QUESTION_NONE, QUESTION_QUEUED, QUESTION_ASKED } state;
};

void question_ask(struct question *q, struct lookup *l, int type);
void question_drop(struct question *q); /* harmless when not under way */
void questions_start(struct resolver *r); /* of those that are queued */

/* ---- lookups ---- */

struct lookup {
	struct list all_link;
	struct resolver *r;
	struct list queries;
	struct loop_timer timer;
	char *key; /* a kind, 'm', 'h' or of record_kinds, and the name */
	const char *name;
	struct entry *records; /* those that came, of a kind of records */
	int type; /* asked first: MX or that of the records; 0: addresses */
	bool is_mx, is_implicit_mx, is_mx_secure, is_bogus;
	bool is_partial; /* something is missing that may come */
	bool is_missing; /* NXDOMAIN for a host */
	int64_t ttl_us; /* the least so far */
	char site[SITE_SIZE];
	struct question mx;
	struct host *hosts;
	struct question *addresses; /* two for each host */
	size_t host_count;
	unsigned outstanding; /* questions */
};

/* Who is told: one of the two. */
struct asker {
	resolve_fn *fn;
	resolve_records_fn *records_fn;
	void *arg;
};

struct resolve_query {
	struct list link;
	struct asker asker;
	bool *is_gone; /* told when it is answered before it is returned */
};

struct lookup *lookup_new(struct resolver *r, const char *key);
/* Asks; may finish at once, which frees it. */
void lookup_start(struct lookup *l);
void lookup_free(struct lookup *l); /* without answering */
/* From question.c: result is NULL when libunbound failed with err. */
void lookup_on_answer(
    struct question *q, int err, const struct ub_result *result);

/* ---- libunbound ---- */

const char *unbound_anchor(const struct resolver_options *options);
/* `anchor`: a record that is believed instead of the options' file, or NULL. */
MUST_CHECK int unbound_open(const struct resolver_options *options,
    const char *anchor, struct ub_ctx **ret_ctx, struct failure *ret_failure);
void unbound_close(struct ub_ctx **ctx); /* harmless when NULL */
/* Starts a question of class IN; libunbound's code. */
MUST_CHECK int unbound_ask(struct ub_ctx *ctx, const char *name, int type,
    void *arg, ub_callback_type fn, int *ret_id);

/* ---- the whole ---- */

struct resolver {
	struct loop *loop;
	struct loop_watch watch;
	struct ub_ctx *unbound;
	char our_name[DNS_NAME_SIZE]; /* or "" */
	int64_t timeout_us;
	bool allow_private;
	bool has_thread;
	struct map *cache, *lookups_by_key;
	struct list lru; /* least recently used first */
	struct list lookups;
	struct list queued; /* questions */
	unsigned asked; /* questions */
	struct arena *answers; /* of callbacks under way */
	unsigned depth; /* of those */
	uint64_t questions, cache_hits, failures;
};

struct entry *cache_find(struct resolver *r, const char *key);
struct entry *cache_take(struct resolver *r, struct entry *e); /* out */
void cache_put(struct resolver *r, struct entry *e); /* takes it */
void cache_free(struct resolver *r);
/* Gives the entry to one caller. */
void entry_serve(
    struct resolver *r, const struct entry *e, const struct asker *asker);
/* The kind of a key, by which records of this type are kept. */
char records_kind(enum resolve_type type);
int records_type(char kind); /* 0: the kind is no records' */
