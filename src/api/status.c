/* SPDX-License-Identifier: Apache-2.0 */
#include "api/internal.h"
#include "base/time.h"
#include "os/clock.h"

static json_t *
queue_json(const struct totals *t)
{
	const struct count counts[] = {
		{ "messages", t->spool.messages },
		{ "recipients", t->spool.recipients },
		{ "queues", t->schedule.queues },
		{ "deliveries", t->schedule.deliveries },
		{ "in_flight", t->schedule.in_flight },
		{ "ending", t->schedule.reaped },
		{ "sites", t->schedule.sites },
		{ "sites_parked", t->schedule.sites_parked },
		{ 0 },
	};

	return json_counts(counts);
}

static json_t *
inbound_json(const struct receive_stats *r)
{
	const struct count counts[] = {
		{ "sessions_open", r->sessions_open },
		{ "connections", r->connections },
		{ "refused", r->refused },
		{ "auth_failures", r->auth_failures },
		{ "messages_accepted", r->messages_accepted },
		{ "messages_refused", r->messages_refused },
		{ "recipients_refused", r->recipients_refused },
		{ "timeouts", r->timeouts },
		{ 0 },
	};

	return json_counts(counts);
}

static json_t *
outbound_json(const struct dispatch_stats *d)
{
	const struct count counts[] = {
		{ "connections_open", d->connections_open },
		{ "connections_made", d->connections_made },
		{ "connections_failed", d->connections_failed },
		{ "delivered", d->delivered },
		{ "deferred", d->deferred },
		{ "bounced", d->bounced },
		{ "expired", d->expired },
		{ "suppressed", d->suppressed },
		{ 0 },
	};

	return json_counts(counts);
}

static json_t *
spool_json(const struct api *api, const struct totals *t)
{
	const struct spool_stats *s = &t->spool;
	json_t *root = json_object();

	json_object_set_new(root, "state",
	    json_string(spool_space_name(spool_space(api->spool))));
	json_object_set_new(root, "segments", json_count(s->segments));
	json_object_set_new(
	    root, "segments_free", json_count(s->segments_free));
	json_object_set_new(root, "syncs", json_count(s->syncs));
	json_object_set_new(root, "sync_seconds_max",
	    json_real((double)s->sync_us_max / (double)US_PER_S));
	json_object_set_new(root, "quarantined", json_count(s->quarantined));
	json_object_set_new(
	    root, "loaded_percent", json_count(s->loaded_percent));
	json_object_set_new(root, "disk_free", json_count(t->disk_free));
	json_object_set_new(root, "disk_size", json_count(t->disk_size));
	return root;
}

/* ---- sources ---- */

struct sources {
	json_t *list, *warnings;
	bool has_asked;
};

static void
add_source(void *arg, const struct config_source *source, bool is_missing)
{
	struct sources *s = arg;
	char text[NETADDR_TEXT_SIZE];

	(void)netaddr_format_ip(&source->address, text);
	json_array_append_new(s->list,
	    json_pack("{s:s, s:s, s:s, s:b}", "name", source->name, "address",
		text, "hostname", source->hostname, "available", !is_missing));
	if (is_missing)
		json_array_append_new(s->warnings,
		    json_sprintf(
			"the source %s is taken out: %s is not usable on this "
			"machine; give the address to an interface, or change "
			"sources in the config",
			source->name, text));
}

/* All dispatchers find the same. */
static void
add_sources(void *arg, struct dispatch *dispatch)
{
	struct sources *s = arg;

	if (!s->has_asked)
		dispatch_each_source(dispatch, add_source, s);
	s->has_asked = true;
}

void
status_show(struct call *call)
{
	const struct api *api = call->api;
	int64_t uptime_us = clock_wall_us() - api->started_us;
	json_t *root = json_object(), *problems = problems_json(api);
	struct api_facts facts;
	struct totals t;

	totals_collect(api, &t);
	api->facts(api->owner, &facts);
	json_object_set_new(root, "status",
	    json_string(json_array_size(problems) == 0 ? "ok" : "failing"));
	json_object_set_new(root, "problems", problems);
	struct sources sources = { .list = json_array(),
		.warnings = warnings_json(&facts) };
	api->each_dispatch(api->owner, add_sources, &sources);
	json_object_set_new(root, "warnings", sources.warnings);
	json_object_set_new(root, "sources", sources.list);
	json_object_set_new(root, "version", json_string(POSTHOUSE_VERSION));
	json_object_set_new(
	    root, "hostname", json_text(span_of(facts.hostname)));
	json_object_set_new(
	    root, "data_dir", json_text(span_of(api->data_dir)));
	json_object_set_new(
	    root, "certificate_ends", json_time(facts.certificate_end_us));
	json_object_set_new(root, "dnssec", json_string(facts.dnssec));
	json_object_set_new(root, "started", json_time(api->started_us));
	json_object_set_new(root, "uptime_seconds",
	    json_integer(uptime_us > 0 ? uptime_us / US_PER_S : 0));
	json_object_set_new(root, "queue", queue_json(&t));
	json_object_set_new(root, "inbound", inbound_json(&t.receive));
	json_object_set_new(root, "outbound", outbound_json(&t.dispatch));
	json_object_set_new(root, "spool", spool_json(api, &t));
	respond_json(call, 200, root);
}

void
service_reload(struct call *call)
{
	struct failure failure = { 0 };

	if (call->api->reload(call->api->owner, &failure) < 0)
		respond_error(call, 409, "reload_failed", "%s", failure.text);
	else
		respond_json(call, 200, json_pack("{s:b}", "reloaded", 1));
}

void
health_show(struct call *call)
{
	enum spool_space space = spool_space(call->api->spool);
	bool works = space == SPOOL_SPACE_OK || space == SPOOL_SPACE_LOW;

	respond_json(call, works ? 200 : 503,
	    json_pack("{s:s, s:o}", "status", works ? "ok" : "failing",
		"problems", problems_json(call->api)));
}
