/* SPDX-License-Identifier: Apache-2.0 */

/* Metrics in Prometheus' text format, read off one table. */

#include "api/internal.h"
#include "base/time.h"

#include <stddef.h>
#include <string.h>

struct metric {
	const char *name;
	bool is_counter; /* else a gauge */
	size_t offset; /* of a uint64_t in struct totals */
	const char *help;
};

#define AT(member) offsetof(struct totals, member)

/* clang-format off */
static const struct metric metrics[] = {
	{ "connections_total", true, AT(receive.connections), "Inbound connections." },
	{ "sessions_open", false, AT(receive.sessions_open), "Inbound sessions now." },
	{ "sessions_tls", false, AT(receive.sessions_tls), "Inbound sessions under TLS now." },
	{ "connections_refused_total", true, AT(receive.refused), "Connections refused at the door." },
	{ "auth_successes_total", true, AT(receive.auth_successes), "Logins." },
	{ "auth_failures_total", true, AT(receive.auth_failures), "Failed logins." },
	{ "messages_accepted_total", true, AT(receive.messages_accepted), "Messages accepted by SMTP or LMTP." },
	{ "messages_refused_total", true, AT(receive.messages_refused), "Messages refused by SMTP or LMTP." },
	{ "recipients_refused_total", true, AT(receive.recipients_refused), "Recipients refused by SMTP or LMTP." },
	{ "session_timeouts_total", true, AT(receive.timeouts), "Inbound sessions cut by a deadline." },
	{ "outbound_connections_open", false, AT(dispatch.connections_open), "Outbound connections now." },
	{ "outbound_connections_total", true, AT(dispatch.connections_made), "Outbound connections made." },
	{ "outbound_connections_failed_total", true, AT(dispatch.connections_failed), "Outbound connections that failed." },
	{ "transactions_total", true, AT(dispatch.transactions), "Outbound mail transactions." },
	{ "recipients_delivered_total", true, AT(dispatch.delivered), "Recipients delivered." },
	{ "recipients_deferred_total", true, AT(dispatch.deferred), "Attempts that ended in a deferral, by recipient." },
	{ "recipients_bounced_total", true, AT(dispatch.bounced), "Recipients that bounced." },
	{ "recipients_expired_total", true, AT(dispatch.expired), "Recipients that expired." },
	{ "recipients_suppressed_total", true, AT(dispatch.suppressed), "Recipients suppressed at dispatch." },
	{ "recipients_unreadable_total", true, AT(dispatch.unreadable), "Recipients that expired because their message was damaged." },
	{ "signatures_made_total", true, AT(signing.made), "Messages signed (DKIM)." },
	{ "signatures_reused_total", true, AT(signing.reused), "Deliveries that went with a signature made before." },
	{ "signatures_failed_total", true, AT(signing.failed), "Times that a message could not be signed and waits." },
	{ "queue_messages", false, AT(spool.messages), "Messages with a recipient that waits." },
	{ "queue_recipients", false, AT(spool.recipients), "Recipients that wait." },
	{ "queue_deliveries", false, AT(schedule.deliveries), "Deliveries that wait." },
	{ "queue_in_flight", false, AT(schedule.in_flight), "Recipients being delivered." },
	{ "queue_ending", false, AT(schedule.reaped), "Deliveries that an operator ended, still to be recorded." },
	{ "queues", false, AT(schedule.queues), "Queues." },
	{ "sites", false, AT(schedule.sites), "Receiving sites with mail or connections." },
	{ "sites_parked", false, AT(schedule.sites_parked), "Sites that cannot be reached." },
	{ "schedule_bytes", false, AT(schedule.bytes), "Memory of queues and deliveries." },
	{ "spool_segments", false, AT(spool.segments), "Segments of the spool." },
	{ "spool_segments_free", false, AT(spool.segments_free), "Segments ready for reuse." },
	{ "spool_index_bytes", false, AT(spool.index_bytes), "Memory of the spool's index." },
	{ "spool_recent_bytes", false, AT(spool.recent_bytes), "Memory of recent bodies that may be shared." },
	{ "spool_bodies_shared", false, AT(spool.bodies_shared), "Bodies stored for several messages." },
	{ "spool_messages_sharing", false, AT(spool.messages_sharing), "Messages that need such a body." },
	{ "spool_written_bytes_total", true, AT(spool.bytes_written), "Bytes written to the spool." },
	{ "spool_batches_total", true, AT(spool.batches), "Batches committed." },
	{ "spool_syncs_total", true, AT(spool.syncs), "Syncs of the spool." },
	{ "spool_transactions_total", true, AT(spool.transactions), "Transactions committed." },
	{ "spool_quarantined_total", true, AT(spool.quarantined), "Records set aside as damaged." },
	{ "spool_checkpoints_total", true, AT(spool.checkpoints), "Checkpoints of the spool." },
	{ "spool_moved_total", true, AT(spool.messages_moved), "Messages moved to free segments." },
	{ "spool_scrubbed_total", true, AT(spool.scrubbed), "Waiting messages read again to check them." },
	{ "suppressions", false, AT(suppressions.entries), "Suppressed addresses." },
	{ "suppressions_bytes", false, AT(suppressions.bytes), "Memory of the suppressed addresses' fingerprints." },
	{ "disk_free_bytes", false, AT(disk_free), "Free bytes where the data are." },
	{ "disk_size_bytes", false, AT(disk_size), "Size of the file system where the data are." },
};

/* clang-format on */

static void
put_head(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP posthouse_%s %s\n# TYPE posthouse_%s %s\n",
	    name, help, name, type);
}

static void
put_metric(struct buf *out, const struct metric *m, const struct totals *t)
{
	uint64_t value;

	memcpy(&value, (const char *)t + m->offset, sizeof(value));
	put_head(out, m->name, m->is_counter ? "counter" : "gauge", m->help);
	buf_printf(
	    out, "posthouse_%s %llu\n", m->name, (unsigned long long)value);
}

static void
put_seconds(struct buf *out, const char *name, const char *type, uint64_t us)
{
	buf_printf(out, "# TYPE posthouse_%s %s\nposthouse_%s %llu.%06llu\n",
	    name, type, name, (unsigned long long)us / US_PER_S,
	    (unsigned long long)us % US_PER_S);
}

void
metrics_show(struct call *call)
{
	struct api_response *r = call->response;
	const struct api *api = call->api;
	struct buf *out = &r->body;
	struct api_facts facts;
	struct totals t;

	totals_collect(api, &t);
	api->facts(api->owner, &facts);
	r->status = 200;
	r->content_type = "text/plain; version=0.0.4; charset=utf-8";
	put_head(out, "info", "gauge", "This program.");
	buf_printf(
	    out, "posthouse_info{version=\"%s\"} 1\n", POSTHOUSE_VERSION);
	put_seconds(
	    out, "start_time_seconds", "gauge", (uint64_t)api->started_us);
	for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
		put_metric(out, &metrics[i], &t);
	put_seconds(
	    out, "spool_sync_seconds_total", "counter", t.spool.sync_us_total);
	put_seconds(
	    out, "spool_sync_seconds_max", "gauge", t.spool.sync_us_max);
	if (facts.certificate_end_us > 0)
		put_seconds(out, "certificate_end_time_seconds", "gauge",
		    (uint64_t)facts.certificate_end_us);
	put_head(out, "spool_state", "gauge",
	    "0 well, 1 little space, 2 no space, 3 failed.");
	buf_printf(
	    out, "posthouse_spool_state %d\n", (int)spool_space(api->spool));
}
