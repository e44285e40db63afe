/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The ways to a site. A pool's sources are each a way of their own, as long as
 * their addresses are this machine's: every few seconds each is bound to, and
 * one that is gone takes no mail until it is back. Mail whose pool has no
 * source left waits.
 */

#include "base/bug.h"
#include "base/mem.h"
#include "deliver/internal.h"
#include "log/log.h"
#include "os/socket.h"

#include <errno.h>

#define LOOK_US (5 * US_PER_S)

/* ---- what is here ---- */

static struct span
key_of(const struct config_source *source, char text[static NETADDR_TEXT_SIZE])
{
	return span_of(netaddr_format_ip(&source->address, text));
}

static bool
is_missing(const struct dispatch *d, const struct config_source *source)
{
	char text[NETADDR_TEXT_SIZE];
	return d->missing != NULL &&
	       map_get(d->missing, key_of(source, text)) != NULL;
}

/* All dispatchers find the same: one of them says it. */
static void
tell(const struct dispatch *d, const struct config_source *source, int err)
{
	char text[NETADDR_TEXT_SIZE];
	(void)netaddr_format_ip(&source->address, text);
	if (d->number != 0)
		return;
	if (err < 0)
		LOG(LOG_ERROR, "deliver",
		    "a source is taken out: its address is not usable on this "
		    "machine; give the address to an interface, or change "
		    "sources in the config",
		    LOG_C("source", source->name), LOG_C("address", text),
		    LOG_C("error", error_text(err)));
	else
		LOG(LOG_INFO, "deliver", "a source is back",
		    LOG_C("source", source->name), LOG_C("address", text));
}

/* True when that is news. */
static bool
note(struct dispatch *d, const struct config_source *source, int err)
{
	static char present;
	char text[NETADDR_TEXT_SIZE];
	struct span key = key_of(source, text);
	if (is_missing(d, source) == (err < 0))
		return false;
	if (err < 0)
		(void)map_put(d->missing, key, &present);
	else
		(void)map_remove(d->missing, key);
	tell(d, source, err);
	return true;
}

static bool
look(struct dispatch *d)
{
	bool is_news = false;
	for (size_t i = 0; i < d->config->source_count; i++) {
		const struct config_source *source = &d->config->sources[i];
		is_news |= note(d, source, socket_can_bind(&source->address));
	}
	if (d->config->source_count > 0)
		loop_timer_set(
		    d->loop, &d->source_timer, loop_now_us(d->loop) + LOOK_US);
	return is_news;
}

static void
on_time(struct loop_timer *timer)
{
	struct dispatch *d = LIST_ENTRY(timer, struct dispatch, source_timer);
	if (look(d))
		dispatch_look_up_again(d, 0);
}

void
source_not_here(struct dispatch *d, const struct config_source *source)
{
	if (note(d, source, -EADDRNOTAVAIL))
		dispatch_look_up_again(d, 0);
}

void
sources_start(struct dispatch *d)
{
	loop_timer_clear(&d->source_timer);
	map_free(&d->missing, NULL);
	d->missing = map_new();
	d->source_timer.on_time = on_time;
	(void)look(d);
}

void
sources_done(struct dispatch *d)
{
	loop_timer_clear(&d->source_timer);
	map_free(&d->missing, NULL);
}

void
dispatch_each_source(
    const struct dispatch *d, dispatch_source_fn *fn, void *arg)
{
	for (size_t i = 0; i < d->config->source_count; i++)
		fn(arg, &d->config->sources[i],
		    is_missing(d, &d->config->sources[i]));
}

/* ---- ways ---- */

static const struct config_pool *
pool_of_stream(struct dispatch *d, uint32_t id)
{
	struct directory_snapshot *s = directory_snapshot(d->directory);
	const struct directory_stream *stream = directory_stream(s, id);
	const struct config_pool *pool = NULL;
	if (stream != NULL && stream->pool[0] != '\0') {
		pool = config_pool_find(d->config, span_of(stream->pool));
		if (pool == NULL)
			LOG(LOG_WARNING, "deliver",
			    "a stream's pool is not in the config; its mail "
			    "leaves by the default one",
			    LOG_C("stream", stream->name),
			    LOG_C("pool", stream->pool));
	}
	directory_snapshot_unref(&s);
	return pool != NULL ? pool : config_pool_default(d->config);
}

const struct config_pool *
pool_for(struct dispatch *d, const struct config_route *route,
    const struct schedule_key *key)
{
	if (d->config->pool_count == 0 || config_route_is_local(route))
		return NULL;
	if (route->pool != NULL)
		return config_pool_find(d->config, span_of(route->pool));
	if (route->deliver != CONFIG_DELIVER_MX)
		return NULL;
	return pool_of_stream(d, key->stream);
}

static bool
has_family(const struct plan *plan, enum netaddr_family family)
{
	for (size_t i = 0; i < plan->address_count; i++)
		if (plan->addresses[i].address.family == family)
			return true;
	return false;
}

/* What shares limits: a provider, a domain that has a rule, or a site; by a
 * source. */
static struct span
ledger_name(const struct plan *plan, const char *site_name, const char *source,
    struct arena *arena)
{
	if (plan->provider != NULL && plan->domain == NULL)
		return arena_printf(
		    arena, "provider %s\n%s", plan->provider->name, source);
	return arena_printf(arena, "%s\n%s", site_name, source);
}

static struct schedule_limits
limits_of(const struct dispatch *d, const struct plan *plan,
    const struct shaping_limits *l)
{
	struct schedule_limits limits = {
		.connections = l->connections,
		.reserved = l->connections > 1 ? (l->connections + 9) / 10 : 0,
		.window_first = l->first_connections,
		.message_rate = dispatch_rate(&l->message_rate),
		.connection_rate = dispatch_rate(&l->connection_rate),
		/* A provider's many sites would each claim a dispatcher's
		 * part. */
		.share = 1,
	};
	if (plan->provider == NULL || plan->domain != NULL)
		limits.share =
		    dispatch_part(l->connections, d->share, d->number);
	return limits;
}

static struct schedule_way
way_make(const struct dispatch *d, const struct plan *plan,
    const struct config_pool_member *m, const char *site_name,
    struct arena *arena)
{
	const char *source = m != NULL ? m->source->name : "";
	struct shaping_terms terms;
	shaping_find(plan->config, plan->provider, plan->domain_rule,
	    span_of(source), &terms);
	return (struct schedule_way){
		.source = span_of(source),
		.ledger = ledger_name(plan, site_name, source, arena),
		.weight = m != NULL ? m->weight : 1,
		.by_policy = plan->config->shaping == NULL,
		.limits = limits_of(d, plan, &terms.limits),
	};
}

size_t
ways_make(struct dispatch *d, const struct plan *plan,
    const struct config_pool *pool, const char *site_name, struct arena *arena,
    struct schedule_way ret_ways[static SCHEDULE_WAYS])
{
	size_t count = 0;
	if (pool == NULL) {
		ret_ways[0] = way_make(d, plan, NULL, site_name, arena);
		return 1;
	}
	for (size_t i = 0; i < pool->member_count; i++) {
		const struct config_pool_member *m = &pool->members[i];
		if (is_missing(d, m->source) ||
		    !has_family(plan, m->source->address.family))
			continue;
		BUG_UNLESS(count < SCHEDULE_WAYS);
		ret_ways[count++] = way_make(d, plan, m, site_name, arena);
	}
	return count;
}

/* ---- who set it ---- */

static void
name_limit(const struct schedule_queue_facts *facts, enum shaping_key key,
    const char *shaping_name, const char *general_name, struct buf *out)
{
	const struct site *site = facts->owner;
	struct shaping_terms terms;
	if (site == NULL)
		return;
	const struct config *config = site->plan->config;
	shaping_find(config, site->plan->provider, site->plan->domain_rule,
	    facts->source, &terms);
	if (terms.lines[key] != 0)
		buf_printf(out, "%s:%u: %s", config->shaping->path,
		    terms.lines[key], shaping_name);
	else
		buf_printf(out, "%s: delivery.%s", config->path, general_name);
}

static void
name_general(
    const struct schedule_queue_facts *facts, const char *name, struct buf *out)
{
	const struct site *site = facts->owner;
	if (site != NULL)
		buf_printf(
		    out, "%s: delivery.%s", site->plan->config->path, name);
}

static void
name_reply(struct span reply, struct buf *out)
{
	if (reply.len == 0)
		return;
	buf_append_str(out, "the reply: ");
	buf_append(out, reply);
}

void
dispatch_who_set(const struct schedule_queue_facts *f, struct buf *out)
{
	switch (f->bound) {
	case SCHEDULE_BOUND_MESSAGE_RATE:
		name_general(f, "message_rate", out);
		return;
	case SCHEDULE_BOUND_TENANT_RATE:
		name_general(f, "message_rate_per_tenant", out);
		return;
	case SCHEDULE_BOUND_DOMAIN_RATE:
		name_general(f, "message_rate_per_domain", out);
		return;
	case SCHEDULE_BOUND_ALL_CONNECTIONS:
		name_general(f, "connections", out);
		return;
	case SCHEDULE_BOUND_SITE_RATE:
		name_limit(f, SHAPING_MESSAGE_RATE, "max_message_rate",
		    "message_rate_per_site", out);
		return;
	case SCHEDULE_BOUND_CONNECTION_RATE:
		name_limit(f, SHAPING_CONNECTION_RATE, "max_connection_rate",
		    "connection_rate_per_site", out);
		return;
	case SCHEDULE_BOUND_CONNECTIONS:
		name_limit(f, SHAPING_CONNECTIONS, "max_connections",
		    "connections_per_site", out);
		return;
	case SCHEDULE_BOUND_PACE:
		name_reply(span_of(f->pace_reply), out);
		return;
	case SCHEDULE_BOUND_HOLD:
		buf_append(out, f->hold_reason);
		return;
	case SCHEDULE_BOUND_LOOKUP_FAILED:
	case SCHEDULE_BOUND_PARKED:
	case SCHEDULE_BOUND_SPARED:
	case SCHEDULE_BOUND_WINDOW:
	case SCHEDULE_BOUND_SCHEDULE:
	case SCHEDULE_BOUND_SUSPENDED:
		name_reply(f->last_reply, out);
		return;
	case SCHEDULE_BOUND_NOTHING:
	case SCHEDULE_BOUND_LOOKUP:
	case SCHEDULE_BOUND_NO_SOURCE:
		return;
	}
	UNREACHABLE("schedule_bound has no other value");
}
