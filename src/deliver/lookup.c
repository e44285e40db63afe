/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "deliver/internal.h"
#include "log/log.h"

#include <stdio.h>
#include <string.h>

/*
 * A queue's domain becomes a site. Places on this machine and fixed addresses
 * are known at once; the rest asks the resolver. The scheduler bounds how many
 * are under way.
 */

#define FIXED_VALID_US (5 * US_PER_MIN)

struct lookup {
	struct list link;
	struct dispatch *dispatch;
	struct schedule_queue *queue;
	struct config *config; /* counted: route lives in it */
	const struct config_route *route;
	struct resolve_query *query;
	/* mx: the hosts are known, what they must show is being asked. */
	struct plan *plan;
	char *mx_site;
	struct secure *secure;
};

static void
lookup_free(struct lookup *l)
{
	list_remove(&l->link);
	plan_unref(&l->plan);
	mem_free(l->mx_site);
	config_unref(&l->config);
	mem_free(l);
}

/* A host that the operator named and DNS does not know is the operator's to
 * mend: the mail waits. */
static void
fail(struct dispatch *d, struct schedule_queue *queue,
    const struct resolve_answer *answer)
{
	struct schedule_key key = schedule_queue_key(queue);
	const struct config_route *route =
	    config_route_for(d->config, key.domain);
	struct result result =
	    result_of_resolve(answer->result, span_of(answer->problem));
	if (route->deliver != CONFIG_DELIVER_MX) {
		result.kind = SPOOL_DEFERRED;
		result.reply.enhanced.class = 4;
	}
	bool permanent = result.kind == SPOOL_BOUNCED;
	LOG(permanent ? LOG_INFO : LOG_WARNING, "deliver",
	    permanent ? "domain cannot receive mail" : "lookup failed",
	    LOG_S("domain", key.domain), LOG_S("reason", result.reply.text));
	struct cause *cause = cause_new(&result);
	cause->route = route_kind(route);
	schedule_queue_set_last_reply(queue, result.reply.text);
	struct backlog_sink sink = { d, cause };
	schedule_resolve_failed(d->schedule, queue, permanent,
	    loop_now_us(d->loop), backlog_take, &sink);
	cause_unref(&cause);
	dispatch_pump_soon(d);
}

/* RFC 5321 §5.1: hosts that are no better than ourselves are left out, lest
 * mail goes in circles. */
static size_t
hosts_before_us(const struct resolve_answer *answer, const char *hostname)
{
	for (size_t i = 0; i < answer->host_count; i++) {
		const struct resolve_host *us = &answer->hosts[i];
		if (!span_eq_nocase(span_of(us->name), span_of(hostname)))
			continue;
		size_t better = 0;
		while (answer->hosts[better].preference < us->preference)
			better++;
		return better;
	}
	return answer->host_count;
}

static void
shape(struct lookup *l, struct plan *plan, const struct resolve_host *hosts,
    size_t count)
{
	const char *names[PLAN_HOSTS_MAX];
	if (l->config->shaping == NULL)
		return;
	if (count > PLAN_HOSTS_MAX)
		count = PLAN_HOSTS_MAX;
	for (size_t i = 0; i < count; i++)
		names[i] = hosts[i].name;
	plan_shape(plan, schedule_queue_key(l->queue).domain, names, count);
}

static void
on_secure(void *arg, int64_t valid_until_us)
{
	struct lookup *l = arg;
	struct dispatch *d = l->dispatch;
	struct plan *plan = l->plan;
	l->plan = NULL;
	site_assign(d, l->queue, plan, l->mx_site, valid_until_us);
	lookup_free(l);
	dispatch_pump_soon(d);
}

/* Takes the plan and ends the lookup, now or later. */
static void
secure_plan(
    struct lookup *l, struct plan *plan, const struct resolve_answer *answer)
{
	plan->mx_secure = answer->mx_secure;
	l->plan = plan;
	l->mx_site = mem_strdup(answer->site);
	/* NULL: it is done, and l is gone. */
	const struct secure_options options = {
		.plan = plan,
		.domain = schedule_queue_key(l->queue).domain,
		.valid_until_us = answer->valid_until_us,
		.fn = on_secure,
		.arg = l,
	};
	struct secure *secure = secure_find(l->dispatch, &options);
	if (secure != NULL)
		l->secure = secure;
}

/* True: the lookup is at its end. */
static bool
finish(struct lookup *l, const struct resolve_answer *answer)
{
	struct dispatch *d = l->dispatch;
	if (answer->result != RESOLVE_OK) {
		fail(d, l->queue, answer);
		return true;
	}
	bool mx = l->route->deliver == CONFIG_DELIVER_MX;
	size_t count = answer->host_count;
	if (mx && !answer->implicit_mx)
		count = hosts_before_us(answer, l->config->hostname);
	struct plan *plan = plan_new(l->config, l->route);
	shape(l, plan, answer->hosts, count);
	for (size_t i = 0; i < count; i++)
		plan_add_host(plan, &answer->hosts[i]);
	if (plan->address_count > 0 && mx) {
		secure_plan(l, plan, answer);
		return false;
	}
	if (plan->address_count > 0) {
		site_assign(
		    d, l->queue, plan, answer->site, answer->valid_until_us);
		return true;
	}
	plan_unref(&plan);
	bool loops = count < answer->host_count;
	struct resolve_answer none = {
		.result = loops ? RESOLVE_LOOP : RESOLVE_NO_ADDRESS,
	};
	/* What our own `ip` left out may be mended here. */
	for (size_t i = 0; i < count; i++)
		if (answer->hosts[i].address_count > 0)
			none.result = RESOLVE_TEMPORARY;
	if (none.result == RESOLVE_TEMPORARY)
		(void)snprintf(none.problem, sizeof none.problem,
		    "`ip` in the config leaves out all addresses of the "
		    "domain's mail servers");
	fail(d, l->queue, &none);
	return true;
}

static void
on_answer(void *arg, const struct resolve_answer *answer)
{
	struct lookup *l = arg;
	struct dispatch *d = l->dispatch;
	l->query = NULL;
	if (!finish(l, answer))
		return;
	lookup_free(l);
	dispatch_pump_soon(d);
}

/* Recipients at an address literal, "user@[192.0.2.1]". */
static void
start_literal(struct lookup *l, struct span domain)
{
	struct span text = span_slice(domain, 1, domain.len - 2);
	if (span_starts_nocase(text, SPAN("IPv6:")))
		text = span_skip(text, 5);
	struct resolve_answer answer = { .result = RESOLVE_NO_DOMAIN };
	struct netaddr address;
	bool good = netaddr_parse_ip(text, &address);
	if (good && netaddr_is_private(&address) &&
	    !l->config->delivery.allow_private) {
		good = false;
		answer.result = RESOLVE_PRIVATE;
	}
	if (!good) {
		fail(l->dispatch, l->queue, &answer);
		lookup_free(l);
		return;
	}
	char name[ADDRESS_DOMAIN_MAX + 1];
	if (!span_to_cstring(domain, name, sizeof name))
		UNREACHABLE("a literal longer than a domain was parsed");
	address.port = l->route->port;
	struct plan *plan = plan_new(l->config, l->route);
	plan_shape(plan, domain, NULL, 0);
	plan_add_address(plan, name, &address);
	site_assign(l->dispatch, l->queue, plan, name,
	    loop_now_us(l->dispatch->loop) + FIXED_VALID_US);
	lookup_free(l);
}

static void
start_fixed(struct lookup *l)
{
	struct dispatch *d = l->dispatch;
	struct plan *plan = plan_new(l->config, l->route);
	if (l->route->deliver == CONFIG_DELIVER_LMTP) {
		struct netaddr address = { .family = NETADDR_UNIX };
		/* Paths that do not fit were a mistake in the config. */
		bool fits = span_to_cstring(span_of(l->route->to_path),
		    address.path, sizeof address.path);
		BUG_UNLESS(fits);
		plan_add_address(plan, l->route->to_path, &address);
	}
	site_assign(
	    d, l->queue, plan, NULL, loop_now_us(d->loop) + FIXED_VALID_US);
	lookup_free(l);
}

static bool
is_fixed(const struct config_route *route)
{
	return route->deliver == CONFIG_DELIVER_MAILDIR ||
	       route->deliver == CONFIG_DELIVER_DISCARD ||
	       route->deliver == CONFIG_DELIVER_RETURNS ||
	       (route->deliver == CONFIG_DELIVER_LMTP &&
		   route->to_path != NULL);
}

static void
ask(struct lookup *l)
{
	struct dispatch *d = l->dispatch;
	bool mx = l->route->deliver == CONFIG_DELIVER_MX;
	/* The answer may come before the call returns, and end the lookup:
	 * then the handle is NULL, and l is gone. */
	struct resolve_query *query =
	    mx ? resolve_mx(d->resolver, schedule_queue_key(l->queue).domain,
		     on_answer, l)
	       : resolve_host(
		     d->resolver, span_of(l->route->to_host), on_answer, l);
	if (query != NULL)
		l->query = query;
}

void
site_find(struct dispatch *d, struct schedule_queue *queue)
{
	struct span domain = schedule_queue_key(queue).domain;
	struct lookup *l = MEM_NEW(struct lookup);
	l->dispatch = d;
	l->queue = queue;
	l->config = config_ref(d->config);
	l->route = config_route_for(l->config, domain);
	list_init(&l->link);
	if (is_fixed(l->route)) {
		start_fixed(l);
		return;
	}
	if (l->route->deliver == CONFIG_DELIVER_MX && domain.len > 2 &&
	    domain.ptr[0] == '[') {
		start_literal(l, domain);
		return;
	}
	list_append(&d->lookups, &l->link);
	if (d->validation != VALIDATION_UNKNOWN)
		ask(l);
}

void
lookup_restart_all(struct dispatch *d)
{
	struct list old;
	list_init(&old);
	while (!list_is_empty(&d->lookups)) {
		struct list *link = d->lookups.next;
		list_remove(link);
		list_append(&old, link);
	}
	while (!list_is_empty(&old)) {
		struct lookup *l = LIST_ENTRY(old.next, struct lookup, link);
		struct schedule_queue *queue = l->queue;
		resolve_cancel(&l->query);
		secure_cancel(&l->secure);
		lookup_free(l);
		site_find(d, queue);
	}
}

void
lookup_free_all(struct dispatch *d)
{
	LIST_FOR_EACH_SAFE(link, &d->lookups) {
		struct lookup *l = LIST_ENTRY(link, struct lookup, link);
		resolve_cancel(&l->query);
		secure_cancel(&l->secure);
		lookup_free(l);
	}
}
