/* SPDX-License-Identifier: Apache-2.0 */
#include "api/internal.h"
#include "base/bug.h"
#include "base/time.h"
#include "os/clock.h"

#include <sys/statvfs.h>

static void
add_dispatch(struct dispatch_stats *sum, const struct dispatch_stats *one)
{
	sum->connections_open += one->connections_open;
	sum->connections_made += one->connections_made;
	sum->connections_failed += one->connections_failed;
	sum->delivered += one->delivered;
	sum->deferred += one->deferred;
	sum->bounced += one->bounced;
	sum->expired += one->expired;
	sum->suppressed += one->suppressed;
	sum->unreadable += one->unreadable;
	sum->transactions += one->transactions;
}

static void
add_schedule(struct schedule_stats *sum, const struct schedule_stats *one)
{
	sum->queues += one->queues;
	sum->sites += one->sites;
	sum->sites_parked += one->sites_parked;
	sum->connections += one->connections;
	sum->deliveries += one->deliveries;
	sum->recipients += one->recipients;
	sum->in_flight += one->in_flight;
	sum->reaped += one->reaped;
	sum->bytes += one->bytes;
}

static void
add_dispatcher(void *arg, struct dispatch *dispatch)
{
	struct totals *t = arg;
	struct dispatch_stats d;
	struct schedule_stats s;

	dispatch_stats(dispatch, &d);
	schedule_stats(dispatch_schedule(dispatch), &s);
	add_dispatch(&t->dispatch, &d);
	add_schedule(&t->schedule, &s);
}

static void
measure_disk(const struct api *api, struct totals *t)
{
	struct statvfs fs;

	if (statvfs(api->data_dir, &fs) < 0)
		return;
	t->disk_free = (uint64_t)fs.f_bavail * fs.f_frsize;
	t->disk_size = (uint64_t)fs.f_blocks * fs.f_frsize;
}

void
totals_collect(const struct api *api, struct totals *ret_totals)
{
	struct totals t = { 0 };

	BUG_UNLESS(api->spool != NULL);
	api->each_dispatch(api->owner, add_dispatcher, &t);
	receive_stats(api->receive, &t.receive);
	spool_stats(api->spool, &t.spool);
	t.suppressions = suppressions_memory(api->directory);
	if (api->signing != NULL)
		signing_stats(api->signing, &t.signing);
	measure_disk(api, &t);
	*ret_totals = t;
}

const char *
spool_space_name(enum spool_space space)
{
	static const char *const names[] = {
		[SPOOL_SPACE_OK] = "ok",
		[SPOOL_SPACE_LOW] = "low",
		[SPOOL_SPACE_FULL] = "full",
		[SPOOL_FAILED] = "failed",
	};

	BUG_UNLESS((size_t)space < sizeof names / sizeof *names);
	return names[space];
}

json_t *
warnings_json(const struct api_facts *facts)
{
	json_t *list = json_array();
	int64_t end_us = facts->certificate_end_us;
	int64_t left_us = end_us - clock_wall_us();
	char text[TIME_RFC3339_SIZE];

	if (end_us != 0 && left_us > 0 && left_us < API_CERTIFICATE_WARNING_US)
		json_array_append_new(list,
		    json_sprintf("the certificate ends on %s: renew it and "
				 "`posthouse reload`",
			time_format_rfc3339(end_us, text)));
	if (*facts->dnssec_problem)
		json_array_append_new(list,
		    json_sprintf("DNSSEC does not work, so DANE is off and "
				 "answers are believed as they come: %s; mend "
				 "resolver.servers or resolver.trust_anchor, "
				 "or set resolver.dnssec: false",
			facts->dnssec_problem));
	return list;
}

static void
add_certificate_problem(json_t *list, const struct api *api)
{
	struct api_facts facts;
	char text[TIME_RFC3339_SIZE];

	api->facts(api->owner, &facts);
	if (facts.certificate_end_us == 0 ||
	    facts.certificate_end_us > clock_wall_us())
		return;
	json_array_append_new(list,
	    json_sprintf("the certificate ended on %s, so clients refuse TLS: "
			 "renew it and `posthouse reload`",
		time_format_rfc3339(facts.certificate_end_us, text)));
}

json_t *
problems_json(const struct api *api)
{
	json_t *list = json_array();
	struct spool_stats stats;

	spool_stats(api->spool, &stats);
	switch (spool_space(api->spool)) {
	case SPOOL_SPACE_OK:
		break;
	case SPOOL_SPACE_LOW:
		json_array_append_new(list,
		    json_sprintf("disk space under %s is low: bulk mail is "
				 "refused until there is more",
			api->data_dir));
		break;
	case SPOOL_SPACE_FULL:
		json_array_append_new(
		    list, json_sprintf("the disk under %s is full: all mail is "
				       "refused until there is room",
			      api->data_dir));
		break;
	case SPOOL_FAILED:
		json_array_append_new(list,
		    json_sprintf("the spool cannot be written (%s): mend the "
				 "disk under %s and restart the service",
			error_text(stats.failed), api->data_dir));
		break;
	}
	if (stats.quarantined > 0)
		json_array_append_new(list,
		    json_sprintf("%llu damaged records of the spool are set "
				 "aside: check the disk and see `posthouse "
				 "queue verify`",
			(unsigned long long)stats.quarantined));
	add_certificate_problem(list, api);
	return list;
}
