/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/hash.h"
#include "base/mem.h"
#include "deliver/internal.h"
#include "log/log.h"
#include "os/random.h"

#include <string.h>

#define PROBE_FIRST_US (30 * US_PER_S)
#define PROBE_MAX_US (30 * US_PER_MIN)

enum {
	FAIL_LIMIT = 3,
	LOOKUPS_MAX = 500,
	HINTS_MAX = 4096,
	WANTS_PER_TURN = 256,
	BACKLOG_ENOUGH = 256, /* then reports wait in the scheduler */
};

static loop_timer_fn pump, on_drain_over;

uint32_t
dispatch_home(struct span domain, uint32_t count)
{
	BUG_UNLESS(count > 0);
	return (uint32_t)(hash_stable(domain) % count);
}

void
dispatch_count(atomic_uint_fast64_t *counter, uint64_t n)
{
	(void)atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static uint64_t
read_counter(const atomic_uint_fast64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

void
dispatch_stats(const struct dispatch *d, struct dispatch_stats *ret_stats)
{
	const struct dispatch_counters *c = &d->counters;
	*ret_stats = (struct dispatch_stats){
		.connections_open = read_counter(&c->connections_open),
		.connections_made = read_counter(&c->connections_made),
		.connections_failed = read_counter(&c->connections_failed),
		.delivered = read_counter(&c->delivered),
		.deferred = read_counter(&c->deferred),
		.bounced = read_counter(&c->bounced),
		.expired = read_counter(&c->expired),
		.suppressed = read_counter(&c->suppressed),
		.unreadable = read_counter(&c->unreadable),
		.transactions = read_counter(&c->transactions),
	};
}

const struct schedule *
dispatch_schedule(const struct dispatch *d)
{
	return d->schedule;
}

/* ---- settings ---- */

uint32_t
dispatch_share(const struct config *config, uint32_t count)
{
	uint32_t least = config->delivery.connections_per_site;
	if (config->delivery.connections < least)
		least = config->delivery.connections;
	return least > 0 && least < count ? least : count;
}

uint32_t
dispatch_part(uint32_t limit, uint32_t share, uint32_t number)
{
	uint32_t part = limit / share + (number < limit % share);
	return part > 0 ? part : 1;
}

uint32_t
dispatch_connections_max(const struct dispatch *d)
{
	uint32_t all = d->config->delivery.connections;
	if (all > d->connections_cap)
		all = d->connections_cap;
	return dispatch_part(all, d->share, d->number);
}

/* What a second may take comes at once. */
struct schedule_rate
dispatch_rate(const struct config_rate *rate)
{
	if (rate->count == 0)
		return (struct schedule_rate){ .interval_ns = 0 };
	return (struct schedule_rate){
		.interval_ns =
		    (int64_t)rate->seconds * 1000 * US_PER_S / rate->count,
		.burst = (rate->count + rate->seconds - 1) / rate->seconds,
	};
}

static struct schedule_policy
policy_of(const struct dispatch *d)
{
	const struct config *config = d->config;
	struct schedule_policy p = {
		.jitter_percent = config->retry.jitter_percent,
		.site_connections = config->delivery.connections_per_site,
		.site_share = dispatch_part(
		    config->delivery.connections_per_site, d->share, d->number),
		.window_first = config->delivery.first_connections_per_site,
		.message_rate = dispatch_rate(&config->delivery.message_rate),
		.site_message_rate =
		    dispatch_rate(&config->delivery.message_rate_per_site),
		.domain_message_rate =
		    dispatch_rate(&config->delivery.message_rate_per_domain),
		.tenant_message_rate =
		    dispatch_rate(&config->delivery.message_rate_per_tenant),
		.site_connection_rate =
		    dispatch_rate(&config->delivery.connection_rate_per_site),
		.connections = dispatch_connections_max(d),
		.lookups = LOOKUPS_MAX,
		.probe_first_us = PROBE_FIRST_US,
		.probe_max_us = PROBE_MAX_US,
		.fail_limit = FAIL_LIMIT,
	};
	size_t count = config->retry.schedule_count;
	for (size_t i = 0; i < count && i < SCHEDULE_LEVELS; i++)
		p.delay_us[p.delay_count++] = config->retry.schedule_us[i];
	if (p.delay_count == 0)
		p.delay_us[p.delay_count++] = US_PER_MIN;
	if (p.site_connections > 1)
		p.reserved_connections = (p.site_connections + 9) / 10;
	return p;
}

static int
make_resolver(struct dispatch *d, struct resolver **ret_resolver,
    struct failure *ret_failure)
{
	struct resolver_options options = resolver_options_of(d->config);

	if (d->validation == VALIDATION_FAILS)
		options.dnssec = false;
	return resolver_new(d->loop, &options, ret_resolver, ret_failure);
}

int
dispatch_tls_context(struct dispatch *d, const char *ca_file,
    struct tls_context **ret_context, struct failure *ret_failure)
{
	struct span key = span_of(ca_file != NULL ? ca_file : "");
	struct tls_context *context = map_get(d->tls_contexts, key);
	if (context == NULL) {
		TRY(tls_context_new_client(ca_file, &context, ret_failure));
		(void)map_put(d->tls_contexts, key, context);
	}
	*ret_context = tls_context_ref(context);
	return 0;
}

/* ---- hints ---- */

static struct span
hint_key(const struct netaddr *address, char buffer[static NETADDR_TEXT_SIZE])
{
	return span_of(netaddr_format(address, buffer));
}

const struct hint *
dispatch_find_hint(const struct dispatch *d, const struct netaddr *address)
{
	char text[NETADDR_TEXT_SIZE];
	return map_get(d->hints, hint_key(address, text));
}

static void
forget_hints(struct dispatch *d, int64_t now_us)
{
	struct map_cursor cursor = { 0 };
	while (map_next(d->hints, &cursor)) {
		struct hint *hint = cursor.value;
		if (hint->plain_until_us <= now_us &&
		    hint->no_chunks_until_us <= now_us)
			mem_free(map_remove(d->hints, cursor.key));
	}
	if (map_count(d->hints) < HINTS_MAX)
		return;
	/* They only save an attempt each. */
	map_free(&d->hints, mem_free);
	d->hints = map_new();
}

struct hint *
dispatch_hint(struct dispatch *d, const struct netaddr *address)
{
	char text[NETADDR_TEXT_SIZE];
	struct span key = hint_key(address, text);
	struct hint *hint = map_get(d->hints, key);
	if (hint != NULL)
		return hint;
	if (map_count(d->hints) >= HINTS_MAX)
		forget_hints(d, loop_now_us(d->loop));
	hint = MEM_NEW(struct hint);
	(void)map_put(d->hints, key, hint);
	return hint;
}

/* ---- wants ---- */

bool
dispatch_may_take(const struct dispatch *d)
{
	return !d->draining && spool_space(d->spool) != SPOOL_FAILED;
}

/* A timer, for it can be taken back, and because a burst of changes is looked
 * at once. */
void
dispatch_pump_soon(struct dispatch *d)
{
	int64_t now_us = loop_now_us(d->loop);
	if (d->timer.loop != NULL && d->timer.due_us <= now_us)
		return;
	loop_timer_set(d->loop, &d->timer, now_us);
}

/* "450 4.2.0 try later": then the peer said it. */
static bool
is_reply_line(struct span text)
{
	uint64_t code;
	return text.len > 4 && (text.ptr[3] == ' ' || text.ptr[3] == '-') &&
	       span_to_u64(span_slice(text, 0, 3), 599, &code) && code >= 200;
}

static void
add_to_backlog(struct dispatch *d, const struct schedule_want *want)
{
	bool warning = want->type == SCHEDULE_WARN;
	struct span last = schedule_queue_last_reply(want->queue);
	struct schedule_queue_facts facts;
	schedule_queue_facts(d->schedule, want->queue, &facts);
	struct result result = {
		.kind = warning ? SPOOL_DEFERRED : SPOOL_EXPIRED,
		.local = !is_reply_line(last),
		.step = warning ? "warn" : "expire",
		.reply = { .enhanced = { 4, 7, warning ? 4 : 5 },
		    .text = last },
	};
	if (last.len == 0)
		result.reply.text =
		    facts.held ? SPAN("the queue was held")
			       : SPAN("no attempt could be made in time");
	struct cause *cause = cause_new(&result);
	cause->warning = warning;
	cause->route =
	    route_kind(config_route_for(d->config, facts.key.domain));
	if (facts.site.len > 0)
		cause->site = span_dup(facts.site);
	backlog_add(d, cause, want->queue, &want->delivery);
	cause_unref(&cause);
}

static void
connect_to(struct schedule_site *handle)
{
	struct site *site = schedule_site_owner(handle);
	BUG_UNLESS(site != NULL);
	enum config_deliver deliver = site->plan->route->deliver;
	if (deliver == CONFIG_DELIVER_MAILDIR ||
	    deliver == CONFIG_DELIVER_DISCARD ||
	    deliver == CONFIG_DELIVER_RETURNS)
		local_open(site, handle);
	else
		connection_open(site, handle);
}

/* False: nothing more for now. */
static bool
serve(struct dispatch *d, const struct schedule_want *want)
{
	switch (want->type) {
	case SCHEDULE_IDLE:
		return false;
	case SCHEDULE_RESOLVE:
		site_find(d, want->queue);
		return true;
	case SCHEDULE_CONNECT:
		connect_to(want->site);
		return true;
	case SCHEDULE_WAKE:
		connection_wake(want->connection);
		return true;
	case SCHEDULE_CLOSE:
		connection_yield(want->connection);
		return true;
	case SCHEDULE_WARN:
	case SCHEDULE_EXPIRE:
		add_to_backlog(d, want);
		return d->backlog_count < BACKLOG_ENOUGH;
	}
	UNREACHABLE("schedule_want_type has no other value");
}

static void
pump(struct loop_timer *timer)
{
	struct dispatch *d = LIST_ENTRY(timer, struct dispatch, timer);
	int64_t now_us = loop_now_us(d->loop);
	unsigned n = 0;
	if (!dispatch_may_take(d))
		return;
	for (; n < WANTS_PER_TURN; n++) {
		struct schedule_want want;
		(void)schedule_next_want(d->schedule, now_us, &want);
		if (!serve(d, &want))
			break;
	}
	/* With a long backlog, its next slice comes back here. */
	int64_t next_us =
	    n == WANTS_PER_TURN ? now_us : schedule_next_time(d->schedule);
	bool later = d->backlog_count >= BACKLOG_ENOUGH && next_us <= now_us;
	if (next_us != TIME_NEVER && !later)
		loop_timer_set(d->loop, &d->timer, next_us);
}

static void
on_news(struct loop_item *item)
{
	struct dispatch *d = LIST_ENTRY(item, struct dispatch, news);
	atomic_store(&d->has_news, false);
	dispatch_pump_soon(d);
}

/* Any dispatcher's thread: a place at a site is free, or somebody's due. */
static void
tell_news(void *arg)
{
	struct dispatch *d = arg;
	if (!atomic_exchange(&d->has_news, true))
		loop_post(d->loop, &d->news);
}

/* ---- mail ---- */

enum schedule_class dispatch_class_of(enum spool_class class)
{
	switch (class) {
	case SPOOL_TRANSACTIONAL:
		return SCHEDULE_TRANSACTIONAL;
	case SPOOL_REPORT:
		return SCHEDULE_REPORT;
	case SPOOL_BULK:
		return SCHEDULE_BULK;
	}
	UNREACHABLE("spool_class has no other value");
}

static int64_t
monotonic(const struct dispatch *d, int64_t wall_us)
{
	if (wall_us == TIME_NEVER)
		return TIME_NEVER;
	return loop_now_us(d->loop) + (wall_us - loop_wall_us(d->loop));
}

void
dispatch_add(struct dispatch *d, const struct dispatch_delivery *delivery)
{
	int64_t now_us = loop_now_us(d->loop);
	int64_t warning_us = d->config->retry.delay_warning_us;
	bool warns = delivery->wants_delay_warning && warning_us > 0;
	struct schedule_key key = {
		.tenant = delivery->tenant,
		.stream = delivery->stream,
		.class = dispatch_class_of(delivery->class),
		.domain = delivery->domain,
	};
	struct schedule_delivery queued = {
		.mno = delivery->mno,
		.rcpt_first = delivery->rcpt_first,
		.rcpt_count = delivery->rcpt_count,
		.attempts = delivery->attempts,
		.warned = !warns,
		.due_us = delivery->due_us == 0
			      ? now_us
			      : monotonic(d, delivery->due_us),
		.warn_us =
		    warns ? monotonic(d, delivery->accepted_us) + warning_us
			  : TIME_NEVER,
		.expire_us = monotonic(d, delivery->expire_us),
	};
	if (delivery->mno < d->works_cut && works_apply(d, &key, &queued))
		return;
	schedule_add(d->schedule, &key, &queued, now_us);
	dispatch_pump_soon(d);
}

/* ---- life ---- */

static void
unref_context(void *value)
{
	struct tls_context *context = value;
	tls_context_unref(&context);
}

int
dispatch_new(const struct dispatch_options *options,
    struct dispatch **ret_dispatch, struct failure *ret_failure)
{
	BUG_UNLESS(options->share > 0);
	struct dispatch *d = MEM_NEW(struct dispatch);
	d->loop = options->loop;
	d->config = config_ref(options->config);
	d->spool = options->spool;
	d->directory = options->directory;
	d->intake = options->intake;
	d->judge = options->judge;
	d->suppressor = options->suppressor;
	d->signing = options->signing;
	d->sts = options->sts;
	d->return_key = options->return_key;
	d->returned = options->returned;
	d->results = options->results;
	d->share = options->share;
	d->connections_cap = options->connections_cap;
	d->number = options->number;
	d->timer.on_time = pump;
	d->news.run = on_news;
	d->backlog_timer.on_time = backlog_run;
	d->drain_timer.on_time = on_drain_over;
	d->hints = map_new();
	d->tls_contexts = map_new();
	d->scratch = arena_new();
	list_init(&d->connections);
	list_init(&d->lookups);
	list_init(&d->locals);
	list_init(&d->backlog);
	list_init(&d->works);
	list_init(&d->submissions);
	d->event_seed[0] = random_u64();
	d->event_seed[1] = random_u64();
	struct schedule_policy policy = policy_of(d);
	d->schedule = schedule_new(&policy, random_u64());
	schedule_on_site_free(d->schedule, site_on_free);
	if (options->ledger != NULL)
		schedule_join(d->schedule, options->ledger, tell_news, d);
	d->validation =
	    options->awaits_validation ? VALIDATION_UNKNOWN : VALIDATION_WORKS;
	int err = make_resolver(d, &d->resolver, ret_failure);
	if (err < 0) {
		dispatch_free(&d);
		return err;
	}
	sources_start(d);
	*ret_dispatch = d;
	return 0;
}

void
dispatch_free(struct dispatch **dispatch)
{
	struct dispatch *d = *dispatch;
	*dispatch = NULL;
	if (d == NULL)
		return;
	d->draining = true;
	maildir_stop(&d->maildir);
	maildir_stop(&d->returns);
	local_free_all(d);
	LIST_FOR_EACH_SAFE(link, &d->connections)
		connection_free(LIST_ENTRY(link, struct connection, link));
	lookup_free_all(d);
	submission_leave_all(d);
	backlog_free(d);
	works_free(d);
	schedule_free(&d->schedule);
	resolver_free(&d->resolver);
	loop_timer_clear(&d->timer);
	loop_timer_clear(&d->drain_timer);
	sources_done(d);
	map_free(&d->hints, mem_free);
	map_free(&d->tls_contexts, unref_context);
	arena_free(&d->scratch);
	buf_done(&d->lines);
	config_unref(&d->config);
	mem_free(d);
}

static bool
same_text(const char *a, const char *b)
{
	return span_eq(span_of(a), span_of(b));
}

static bool
same_resolver(const struct config *a, const struct config *b)
{
	if (a->resolver.server_count != b->resolver.server_count ||
	    a->resolver.dnssec != b->resolver.dnssec ||
	    a->resolver.timeout_us != b->resolver.timeout_us ||
	    a->delivery.allow_private != b->delivery.allow_private ||
	    !same_text(a->resolver.trust_anchor, b->resolver.trust_anchor))
		return false;
	for (size_t i = 0; i < a->resolver.server_count; i++) {
		const struct netaddr *x = &a->resolver.servers[i];
		const struct netaddr *y = &b->resolver.servers[i];
		if (x->port != y->port || !netaddr_eq_ip(x, y))
			return false;
	}
	return true;
}

static void
renew_resolver(struct dispatch *d)
{
	struct resolver *old = d->resolver;
	struct failure failure;
	if (make_resolver(d, &d->resolver, &failure) < 0) {
		d->resolver = old;
		LOG(LOG_ERROR, "deliver",
		    "cannot start a resolver; the old one stays",
		    LOG_C("reason", failure.text));
		old = NULL;
	}
	lookup_restart_all(d);
	resolver_free(&old);
}

void
dispatch_set_validation(struct dispatch *d, bool works)
{
	enum validation before = d->validation;
	d->validation = works ? VALIDATION_WORKS : VALIDATION_FAILS;
	if (d->validation == before)
		return;
	if (before == VALIDATION_UNKNOWN && works)
		lookup_restart_all(d);
	else
		renew_resolver(d);
	if (before != VALIDATION_UNKNOWN)
		schedule_look_up_again(
		    d->schedule, &(struct schedule_selector){ .tenant = 0 });
	dispatch_pump_soon(d);
}

/* Connections go on under the config they were made by; what differs between
 * configs makes another site. */
void
dispatch_reload(struct dispatch *d, struct config *config)
{
	struct config *old = d->config;
	d->config = config_ref(config);
	struct schedule_policy policy = policy_of(d);
	schedule_set_policy(d->schedule, &policy);
	map_free(&d->tls_contexts, unref_context);
	d->tls_contexts = map_new();
	if (same_resolver(old, config))
		lookup_restart_all(d);
	else
		renew_resolver(d);
	sources_start(d);
	dispatch_look_up_again(d, 0);
	config_unref(&old);
}

void
dispatch_look_up_again(struct dispatch *d, uint32_t stream)
{
	schedule_look_up_again(
	    d->schedule, &(struct schedule_selector){ .stream = stream });
	dispatch_pump_soon(d);
}

static void
retire_all(struct dispatch *d, bool abrupt)
{
	LIST_FOR_EACH_SAFE(link, &d->connections)
		connection_retire(
		    LIST_ENTRY(link, struct connection, link), abrupt);
}

static void
on_drain_over(struct loop_timer *timer)
{
	retire_all(LIST_ENTRY(timer, struct dispatch, drain_timer), true);
}

void
dispatch_drain(struct dispatch *d, int64_t deadline_us)
{
	d->draining = true;
	retire_all(d, false);
	loop_timer_set(d->loop, &d->drain_timer, deadline_us);
}

bool
dispatch_busy(const struct dispatch *d)
{
	if (!list_is_empty(&d->backlog) || !list_is_empty(&d->submissions) ||
	    local_is_busy(d))
		return true;
	LIST_FOR_EACH(link, &d->connections) {
		const struct connection *c =
		    LIST_ENTRY(link, struct connection, link);
		if (c->transaction.open)
			return true;
	}
	return false;
}
