/* SPDX-License-Identifier: Apache-2.0 */
#include "resolve/resolve.h"

#include "base/bug.h"
#include "base/mem.h"
#include "resolve/internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ROOT_ANCHOR "/usr/share/dns/root.key" /* Debian's dns-root-data */
#define TIMEOUT_US (30 * US_PER_S)

/* ---- libunbound ---- */

static const struct {
	const char *option, *value;
} unbound_options[] = {
	{ "do-not-query-localhost:", "no" },
	/* Its own defaults are for a program that asks now and then. */
	{ "outgoing-range:", "128" },
	{ "num-queries-per-thread:", "1024" },
	{ "outgoing-num-tcp:", "16" },
	{ "msg-cache-size:", "4m" },
	{ "rrset-cache-size:", "8m" },
	{ "key-cache-size:", "2m" },
	{ "cache-max-negative-ttl:", "300" },
	/* A server that was silent about one domain, or away for a while, must
	 * not count as dead for a quarter of an hour. */
	{ "infra-host-ttl:", "60" },
	{ "infra-keep-probing:", "yes" },
	/* Names of private addresses, too, are the server's to tell. */
	{ "unblock-lan-zones:", "yes" },
	{ "insecure-lan-zones:", "yes" },
};

static int
unbound_failed(struct failure *f, const char *what, int err)
{
	return failure_set(f, ERR_DNS, "cannot set up the resolver (%s): %s",
	    what, ub_strerror(err));
}

static int
set_options(
    struct ub_ctx *ctx, const struct resolver_options *o, struct failure *f)
{
	size_t count = sizeof unbound_options / sizeof *unbound_options;

	for (size_t i = 0; i < count; i++) {
		const char *option = unbound_options[i].option;
		int err =
		    ub_ctx_set_option(ctx, option, unbound_options[i].value);
		if (err)
			return unbound_failed(f, option, err);
	}
	const char *modules = o->dnssec ? "validator iterator" : "iterator";
	int err = ub_ctx_set_option(ctx, "module-config:", modules);
	if (err)
		return unbound_failed(f, "module-config", err);
	err = ub_ctx_async(ctx, 1);
	if (err)
		return unbound_failed(f, "threads", err);
	/* What goes wrong comes back in the answers. */
	(void)ub_ctx_debugout(ctx, NULL);
	return 0;
}

static int
set_servers(
    struct ub_ctx *ctx, const struct resolver_options *o, struct failure *f)
{
	for (size_t i = 0; i < o->server_count; i++) {
		char ip[NETADDR_TEXT_SIZE], text[NETADDR_TEXT_SIZE + 8];
		const struct netaddr *server = &o->servers[i];
		(void)snprintf(text, sizeof text, "%s@%u",
		    netaddr_format_ip(server, ip),
		    server->port ? server->port : 53U);
		int err = ub_ctx_set_fwd(ctx, text);
		if (err)
			return failure_set(f, ERR_DNS,
			    "resolver.servers: cannot use %s: %s", text,
			    ub_strerror(err));
	}
	if (o->server_count)
		return 0;
	/* Without that file libunbound asks from the root on by itself. */
	int err = ub_ctx_resolvconf(ctx, NULL);
	if (err && err != UB_READFILE)
		return unbound_failed(f, "/etc/resolv.conf", err);
	return 0;
}

const char *
unbound_anchor(const struct resolver_options *options)
{
	return options->trust_anchor ? options->trust_anchor : ROOT_ANCHOR;
}

static int
set_anchor(
    struct ub_ctx *ctx, const struct resolver_options *o, struct failure *f)
{
	const char *path = unbound_anchor(o);

	if (!o->dnssec)
		return 0;
	if (access(path, R_OK) != 0)
		return failure_set(f, -errno,
		    "cannot read the DNSSEC trust anchor %s: %s; install "
		    "dns-root-data, set resolver.trust_anchor, or set "
		    "resolver.dnssec: false",
		    path, error_text(-errno));
	int err = ub_ctx_add_ta_file(ctx, path);
	return err ? unbound_failed(f, path, err) : 0;
}

/* Names that RFC 6761 and 8375 reserve are answered by libunbound itself; here
 * the server decides, which may well serve them (as in tests). The first call
 * of this kind makes the settings final, and so finds their mistakes. */
static int
finish_settings(
    struct ub_ctx *ctx, const struct resolver_options *o, struct failure *f)
{
	static const char *const zones[] = { "test.", "home.arpa.",
		"127.in-addr.arpa." };
	int err = 0;

	for (size_t i = 0; i < sizeof zones / sizeof *zones && !err; i++)
		err = ub_ctx_zone_remove(ctx, zones[i]);
	if (!err)
		return 0;
	if (o->dnssec && o->trust_anchor)
		return failure_set(f, ERR_DNS,
		    "cannot set up the resolver (%s); is %s a file of DNSKEY "
		    "or DS records?",
		    ub_strerror(err), o->trust_anchor);
	return unbound_failed(f, "settings", err);
}

static int
set_up(struct ub_ctx *ctx, const struct resolver_options *o, const char *anchor,
    struct failure *f)
{
	TRY(set_options(ctx, o, f));
	TRY(set_servers(ctx, o, f));
	if (anchor) {
		int err = ub_ctx_add_ta(ctx, anchor);
		if (err)
			return unbound_failed(f, anchor, err);
	} else {
		TRY(set_anchor(ctx, o, f));
	}
	return finish_settings(ctx, o, f);
}

/* Each context is one thread's, but libunbound keeps some of its settings, and
 * their locks, for the process, and touches them whenever a context is made or
 * ends. Reactors do that at the same time. */
static pthread_mutex_t unbound_lock = PTHREAD_MUTEX_INITIALIZER;

int
unbound_open(const struct resolver_options *o, const char *anchor,
    struct ub_ctx **ret_ctx, struct failure *f)
{
	int code = -ENOMEM;

	(void)pthread_mutex_lock(&unbound_lock);
	struct ub_ctx *ctx = ub_ctx_create();
	if (ctx)
		code = set_up(ctx, o, anchor, f);
	else
		(void)failure_set(f, code,
		    "cannot make a resolver: out of memory or file "
		    "descriptors");
	if (ctx && code < 0)
		ub_ctx_delete(ctx);
	(void)pthread_mutex_unlock(&unbound_lock);
	if (code == 0)
		*ret_ctx = ctx;
	return code;
}

void
unbound_close(struct ub_ctx **ctx)
{
	if (!*ctx)
		return;
	(void)pthread_mutex_lock(&unbound_lock);
	ub_ctx_delete(*ctx);
	(void)pthread_mutex_unlock(&unbound_lock);
	*ctx = NULL;
}

static void
on_ready(struct loop_watch *watch, unsigned events)
{
	struct resolver *r = LIST_ENTRY(watch, struct resolver, watch);

	(void)events;
	/* If its thread is gone, silence: what is asked ends by timeout. */
	if (ub_process(r->unbound) != 0)
		loop_watch_events(watch, 0);
}

/* ---- life ---- */

static void
fill(struct resolver *r, const struct resolver_options *o)
{
	r->timeout_us = o->timeout_us > 0 ? o->timeout_us : TIMEOUT_US;
	r->allow_private = o->allow_private;
	if (o->hostname &&
	    !dns_name_normalise(span_of(o->hostname), r->our_name))
		r->our_name[0] = '\0';
	r->watch.on_ready = on_ready;
	list_init(&r->lru);
	list_init(&r->lookups);
	list_init(&r->queued);
	r->cache = map_new();
	r->lookups_by_key = map_new();
	r->answers = arena_new();
}

int
resolver_new(struct loop *loop, const struct resolver_options *options,
    struct resolver **ret_resolver, struct failure *ret_failure)
{
	struct resolver *r = MEM_NEW(struct resolver);

	r->loop = loop;
	fill(r, options);
	int code = unbound_open(options, NULL, &r->unbound, ret_failure);
	if (code == 0) {
		code = loop_watch_fd(
		    loop, &r->watch, ub_fd(r->unbound), LOOP_READ);
		if (code < 0)
			(void)failure_set(ret_failure, code,
			    "cannot watch the resolver: %s", error_text(code));
	}
	if (code < 0) {
		resolver_free(&r);
		return code;
	}
	*ret_resolver = r;
	return 0;
}

void
resolver_free(struct resolver **resolver)
{
	struct resolver *r = *resolver;

	if (!r)
		return;
	BUG_UNLESS(r->depth == 0);
	LIST_FOR_EACH_SAFE(link, &r->lookups)
		lookup_free(LIST_ENTRY(link, struct lookup, all_link));
	loop_unwatch(&r->watch);
	unbound_close(&r->unbound);
	cache_free(r);
	map_free(&r->lookups_by_key, NULL);
	arena_free(&r->answers);
	mem_free(r);
	*resolver = NULL;
}

/* ---- asking ---- */

static void
serve_result(struct resolver *r, enum resolve_result result,
    const char *problem, const struct asker *asker)
{
	struct entry e = { .result = (uint8_t)result,
		.valid_until_us =
		    loop_now_us(r->loop) + (result == RESOLVE_TEMPORARY
						   ? TROUBLE_TTL_US
						   : NEGATIVE_TTL_MAX_US) };
	char *AUTO_FREE text = mem_strdup(problem);

	e.problem = text;
	entry_serve(r, &e, asker);
}

/* An address is its own answer: "[192.0.2.1]" and "[IPv6:2001:db8::1]" as in
 * RFC 5321 §4.1.3, and for a smarthost without brackets, too. */
static bool
parse_address(char kind, struct span text, struct netaddr *ret_addr)
{
	bool in_brackets =
	    text.len > 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']';

	if (in_brackets)
		text = span_slice(text, 1, text.len - 2);
	else if (kind != 'h')
		return false;
	if (span_starts_nocase(text, SPAN("IPv6:")))
		text = span_skip(text, 5);
	return netaddr_parse_ip(text, ret_addr);
}

static void
serve_address(struct resolver *r, struct netaddr addr, bool allow_private,
    const struct asker *asker)
{
	char name[NETADDR_TEXT_SIZE];

	if (!allow_private && netaddr_is_private(&addr)) {
		serve_result(
		    r, RESOLVE_PRIVATE, "it is a private address", asker);
		return;
	}
	struct ip ip = { .is_ip6 = addr.family == NETADDR_IP6 };
	memcpy(ip.octets, addr.ip, sizeof ip.octets);
	(void)netaddr_format_ip(&addr, name);
	struct entry_host host = { .name = name, .ips = &ip, .ip_count = 1 };
	struct entry e = { .result = RESOLVE_OK,
		.valid_until_us = loop_now_us(r->loop) + POSITIVE_TTL_MAX_US,
		.site = name,
		.hosts = &host,
		.host_count = 1 };
	entry_serve(r, &e, asker);
}

static struct lookup *
lookup_of(struct resolver *r, const char *key, bool *ret_is_new)
{
	struct lookup *l = map_get(r->lookups_by_key, span_of(key));

	*ret_is_new = !l;
	if (!l && map_count(r->lookups_by_key) < LOOKUPS_MAX)
		l = lookup_new(r, key);
	return l;
}

/* The query may be gone when the lookup has started: it can fail at once. */
static struct resolve_query *
query_start(struct resolver *r, const char *key, const struct asker *asker)
{
	bool is_new;
	struct lookup *l = lookup_of(r, key, &is_new);

	if (!l) {
		r->failures++;
		serve_result(r, RESOLVE_TEMPORARY,
		    "too many DNS look-ups are under way", asker);
		return NULL;
	}
	struct resolve_query *query = MEM_NEW(struct resolve_query);
	query->asker = *asker;
	query->is_gone = NULL;
	list_append(&l->queries, &query->link);
	if (!is_new)
		return query;
	bool is_gone = false;
	query->is_gone = &is_gone;
	lookup_start(l);
	if (is_gone)
		return NULL;
	query->is_gone = NULL;
	return query;
}

static struct resolve_query *
resolve(
    struct resolver *r, char kind, struct span name, const struct asker *asker)
{
	char key[1 + DNS_NAME_SIZE];
	struct netaddr addr;

	if (!records_type(kind) && parse_address(kind, name, &addr)) {
		serve_address(r, addr, kind == 'h' || r->allow_private, asker);
		return NULL;
	}
	key[0] = kind;
	if (!dns_name_normalise(name, key + 1)) {
		serve_result(r, RESOLVE_NO_DOMAIN,
		    "it is not the name of a domain", asker);
		return NULL;
	}
	const struct entry *e = cache_find(r, key);
	if (!e || e->valid_until_us <= loop_now_us(r->loop))
		return query_start(r, key, asker);
	r->cache_hits++;
	entry_serve(r, e, asker);
	return NULL;
}

struct resolve_query *
resolve_mx(struct resolver *r, struct span domain, resolve_fn *fn, void *arg)
{
	return resolve(r, 'm', domain, &(struct asker){ .fn = fn, .arg = arg });
}

struct resolve_query *
resolve_host(struct resolver *r, struct span host, resolve_fn *fn, void *arg)
{
	return resolve(r, 'h', host, &(struct asker){ .fn = fn, .arg = arg });
}

struct resolve_query *
resolve_records(struct resolver *r, enum resolve_type type, struct span name,
    resolve_records_fn *fn, void *arg)
{
	return resolve(r, records_kind(type), name,
	    &(struct asker){ .records_fn = fn, .arg = arg });
}

void
resolve_cancel(struct resolve_query **query)
{
	if (!*query)
		return;
	/* The lookup goes on: its answer is for the cache, its end is near. */
	list_remove(&(*query)->link);
	mem_free(*query);
	*query = NULL;
}

void
resolver_stats(const struct resolver *r, struct resolver_stats *ret_stats)
{
	*ret_stats = (struct resolver_stats){
		.questions = r->questions,
		.cache_hits = r->cache_hits,
		.failures = r->failures,
		.pending = map_count(r->lookups_by_key),
		.cached = map_count(r->cache),
	};
}
