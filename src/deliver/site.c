/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "deliver/internal.h"

#include <string.h>

enum { PLAN_ADDRESSES_PER_HOST = 8 };

struct plan *
plan_new(struct config *config, const struct config_route *route)
{
	struct plan *plan = MEM_NEW(struct plan);
	plan->references = 1;
	plan->config = config_ref(config);
	plan->route = route;
	plan->place = route_place(route);
	plan->hosts = mem_zalloc(PLAN_HOSTS_MAX * sizeof *plan->hosts);
	plan->terms = mem_strdup("");
	return plan;
}

struct plan *
plan_ref(struct plan *plan)
{
	BUG_UNLESS(plan->references > 0);
	plan->references++;
	return plan;
}

void
plan_unref(struct plan **plan)
{
	struct plan *p = *plan;
	*plan = NULL;
	if (p == NULL || --p->references > 0)
		return;
	for (size_t i = 0; i < p->host_count; i++) {
		struct plan_host *h = &p->hosts[i];
		mem_free(h->name);
		mem_free(h->canonical);
		mem_free(h->base);
		mem_free(h->dane);
		mem_free(h->octets);
		mem_free(h->problem);
	}
	mem_free(p->hosts);
	mem_free(p->terms);
	sts_policy_unref(&p->policy);
	mem_free(p->report_domain);
	mem_free(p->place);
	mem_free(p->domain);
	config_unref(&p->config);
	mem_free(p);
}

void
plan_shape(struct plan *plan, struct span domain, const char *const *hosts,
    size_t host_count)
{
	plan->provider = shaping_provider(plan->config, hosts, host_count);
	plan->domain_rule = shaping_domain(plan->config, domain);
	if (plan->domain_rule != NULL)
		plan->domain = span_dup(domain);
}

void
plan_add_address(
    struct plan *plan, const char *host, const struct netaddr *address)
{
	bool known = plan->host_count > 0 &&
		     strcmp(plan->hosts[plan->host_count - 1].name, host) == 0;
	if (plan->address_count == PLAN_ADDRESSES_MAX ||
	    (!known && plan->host_count == PLAN_HOSTS_MAX))
		return;
	if (!known)
		plan->hosts[plan->host_count++].name = mem_strdup(host);
	plan->addresses[plan->address_count++] = (struct plan_address){
		.address = *address,
		.host = plan->host_count - 1,
	};
}

/* Of more addresses than are tried each family keeps its half: we may well be
 * without one of the two. */
static bool
leaves_out(const struct resolve_host *host, size_t i)
{
	const size_t half = PLAN_ADDRESSES_PER_HOST / 2;
	size_t six = 0;
	while (six < host->address_count &&
	       host->addresses[six].family == NETADDR_IP6)
		six++;
	size_t four = host->address_count - six;
	size_t fours = four;
	if (four > half)
		fours = PLAN_ADDRESSES_PER_HOST - (six < half ? six : half);
	return i < six ? i >= PLAN_ADDRESSES_PER_HOST - fours
		       : i - six >= fours;
}

/* The family of the n-th pass over a host's addresses; 0: all at once. */
static enum netaddr_family
family_of_pass(enum config_ip policy, unsigned pass)
{
	switch (policy) {
	case CONFIG_IP_ANY:
		break;
	case CONFIG_IP_PREFER4:
		return pass == 0 ? NETADDR_IP4 : NETADDR_IP6;
	case CONFIG_IP_4:
		return NETADDR_IP4;
	case CONFIG_IP_6:
		return NETADDR_IP6;
	}
	return NETADDR_NONE;
}

static void
add_family(struct plan *plan, const struct resolve_host *host,
    enum netaddr_family family)
{
	for (size_t i = 0; i < host->address_count; i++) {
		struct netaddr address = host->addresses[i];
		if (leaves_out(host, i) ||
		    (family != NETADDR_NONE && address.family != family))
			continue;
		address.port = plan->route->deliver == CONFIG_DELIVER_MX
				   ? plan->route->port
				   : plan->route->to_port;
		size_t before = plan->host_count;
		plan_add_address(plan, host->name, &address);
		if (plan->host_count == before)
			continue;
		struct plan_host *added = &plan->hosts[before];
		added->secure = host->secure;
		if (host->canonical != NULL)
			added->canonical = mem_strdup(host->canonical);
	}
}

void
plan_add_host(struct plan *plan, const struct resolve_host *host)
{
	struct shaping_terms terms;
	shaping_find(plan->config, plan->provider, plan->domain_rule,
	    SPAN_EMPTY, &terms);
	enum config_ip policy = (enum config_ip)(terms.limits.ip - 1);
	add_family(plan, host, family_of_pass(policy, 0));
	if (policy == CONFIG_IP_PREFER4)
		add_family(plan, host, family_of_pass(policy, 1));
}

const char *
route_kind(const struct config_route *route)
{
	static const char *const names[] = {
		[CONFIG_DELIVER_MX] = "mx",
		[CONFIG_DELIVER_SMTP] = "smtp",
		[CONFIG_DELIVER_LMTP] = "lmtp",
		[CONFIG_DELIVER_MAILDIR] = "maildir",
		[CONFIG_DELIVER_DISCARD] = "discard",
		[CONFIG_DELIVER_RETURNS] = "returns",
	};
	BUG_UNLESS((size_t)route->deliver < sizeof names / sizeof names[0]);
	return names[route->deliver];
}

/* Everything beside the target that makes a connection another one. */
static void
append_terms(const struct config_route *route, struct buf *out)
{
	static const char *const tls[] = {
		[CONFIG_ROUTE_TLS_OPPORTUNISTIC] = "",
		[CONFIG_ROUTE_TLS_NONE] = " tls=none",
		[CONFIG_ROUTE_TLS_REQUIRE] = " tls=require",
	};
	if (route->deliver == CONFIG_DELIVER_MX && route->port != 25)
		buf_printf(out, " port=%u", (unsigned)route->port);
	if (route->deliver == CONFIG_DELIVER_MAILDIR ||
	    route->deliver == CONFIG_DELIVER_DISCARD ||
	    route->deliver == CONFIG_DELIVER_RETURNS)
		return;
	buf_append_str(out, tls[route->tls]);
	if (route->tls_verify)
		buf_append_str(out, " verify");
	if (route->tls_ca != NULL)
		buf_printf(out, " ca=%s", route->tls_ca);
	if (route->username != NULL)
		buf_printf(out, " user=%s", route->username);
}

static char *
name_of(const struct config_route *route, const char *target)
{
	struct buf name = BUF_EMPTY;
	buf_append_str(&name, route_kind(route));
	if (target != NULL)
		buf_printf(&name, " %s", target);
	append_terms(route, &name);
	char *copy = span_dup(buf_span(&name));
	buf_done(&name);
	return copy;
}

char *
route_place(const struct config_route *route)
{
	bool has_target = route->deliver != CONFIG_DELIVER_MX &&
			  route->deliver != CONFIG_DELIVER_DISCARD &&
			  route->deliver != CONFIG_DELIVER_RETURNS;
	return name_of(route, has_target ? route->to : NULL);
}

char *
route_site_name(const struct config_route *route, const char *mx_site)
{
	if (route->deliver != CONFIG_DELIVER_MX)
		return route_place(route);
	BUG_UNLESS(mx_site != NULL);
	return name_of(route, mx_site);
}

char *
plan_site_name(const struct plan *plan, const char *mx_site)
{
	char *AUTO_FREE name = route_site_name(plan->route, mx_site);
	if (plan->domain == NULL)
		return mem_printf("%s%s", name, plan->terms);
	return mem_printf("%s%s domain=%s", name, plan->terms, plan->domain);
}

/* What was learned of an address is still true after a new lookup. */
static void
carry_over(struct plan *to, const struct plan *from)
{
	for (size_t i = 0; i < to->address_count; i++) {
		struct plan_address *a = &to->addresses[i];
		for (size_t k = 0; k < from->address_count; k++) {
			const struct plan_address *b = &from->addresses[k];
			if (a->address.port == b->address.port &&
			    netaddr_eq_ip(&a->address, &b->address))
				a->avoid_until_us = b->avoid_until_us;
		}
	}
}

void
site_assign(struct dispatch *d, struct schedule_queue *queue, struct plan *plan,
    const char *mx_site, int64_t valid_until_us)
{
	char *AUTO_FREE name = plan_site_name(plan, mx_site);
	struct schedule_key key = schedule_queue_key(queue);
	const struct config_pool *pool = pool_for(d, plan->route, &key);
	struct schedule_way ways[SCHEDULE_WAYS];
	struct arena *arena = arena_new();
	struct schedule_place place = {
		.name = span_of(name),
		.pool = pool != NULL ? span_of(pool->name) : SPAN_EMPTY,
		.ways = ways,
		.way_count = ways_make(d, plan, pool, name, arena, ways),
	};
	schedule_set_place(d->schedule, queue, &place, valid_until_us);
	arena_free(&arena);
	struct site *site = schedule_place_owner(queue);
	if (site == NULL) {
		site = MEM_NEW(struct site);
		site->dispatch = d;
		schedule_place_set_owner(queue, site);
	} else {
		carry_over(plan, site->plan);
		plan_unref(&site->plan);
	}
	site->plan = plan;
	dispatch_pump_soon(d);
}

void
site_on_free(void *owner)
{
	struct site *site = owner;
	plan_unref(&site->plan);
	mem_free(site);
}

void
site_note_result(struct site *site, struct schedule_connection *c,
    const struct result *result)
{
	enum result_pace pace = result_pace(result);
	struct dispatch *d = site->dispatch;
	if (pace == RESULT_PACE_FAST)
		schedule_site_slow(d->schedule, c->site,
		    result_line(result, d->scratch), loop_now_us(d->loop));
	if (pace != RESULT_PACE_FINE)
		schedule_site_pushback(site->dispatch->schedule, c->site,
		    pace == RESULT_PACE_CROWDED);
}

bool
site_take(struct site *site, struct schedule_connection *c,
    struct schedule_queue **ret_queue, struct schedule_delivery *ret_delivery)
{
	struct dispatch *d = site->dispatch;
	return dispatch_may_take(d) &&
	       schedule_take(d->schedule, c, loop_now_us(d->loop), ret_queue,
		   ret_delivery);
}
