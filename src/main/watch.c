/* SPDX-License-Identifier: Apache-2.0 */

/* What an administrator must hear of the spool, which keeps no log of its own,
 * and of the certificate is said here, once for each change; and the service
 * manager is told how we are. */

#include "base/bug.h"
#include "base/time.h"
#include "log/log.h"
#include "main/internal.h"
#include "os/clock.h"
#include "os/notify.h"

#include <stdio.h>
#include <string.h>

static void
tell_space(enum spool_space space, int failed)
{
	switch (space) {
	case SPOOL_SPACE_OK:
		LOG(LOG_INFO, "main", "the spool has room again");
		return;
	case SPOOL_SPACE_LOW:
		LOG(LOG_WARNING, "main",
		    "the spool's disk is nearly full: bulk mail is refused");
		return;
	case SPOOL_SPACE_FULL:
		LOG(LOG_ERROR, "main",
		    "the spool's disk is full: all mail is refused until there "
		    "is room; deliveries go on");
		return;
	case SPOOL_FAILED:
		LOG(LOG_ERROR, "main",
		    "the spool cannot be written: no mail is taken or "
		    "delivered; mend the disk and restart the service",
		    LOG_C("error", error_text(failed)));
		return;
	}
}

static void
watch_spool(struct engine *e)
{
	enum spool_space space = spool_space(e->spool);
	struct spool_stats stats;

	spool_stats(e->spool, &stats);
	if (space != e->told_space)
		tell_space(space, stats.failed);
	e->told_space = space;
	if (stats.quarantined > e->told_quarantined)
		LOG(LOG_ERROR, "main",
		    "damaged records were set aside in spool/quarantine; the "
		    "disk or the memory may be bad",
		    LOG_N("records", stats.quarantined - e->told_quarantined));
	e->told_quarantined = stats.quarantined;
	if (stats.checkpoint_error < 0 && e->told_checkpoint == 0)
		LOG(LOG_WARNING, "main",
		    "a checkpoint of the spool failed: mail is safe, but the "
		    "spool grows and a restart takes longer until one is made",
		    LOG_C("error", error_text(stats.checkpoint_error)));
	e->told_checkpoint = stats.checkpoint_error;
}

/* ---- the certificate --------------------------------------------------- */

void
engine_take_facts(struct engine *e)
{
	struct api_facts facts = {
		.certificate_end_us =
		    e->tls != NULL ? tls_context_certificate_end_us(e->tls) : 0,
	};

	BUG_UNLESS(span_to_cstring(span_of(e->config->hostname), facts.hostname,
	    sizeof(facts.hostname)));
	pthread_mutex_lock(&e->facts_lock);
	facts.dnssec = e->facts.dnssec;
	memcpy(facts.dnssec_problem, e->facts.dnssec_problem,
	    sizeof(facts.dnssec_problem));
	e->facts = facts;
	pthread_mutex_unlock(&e->facts_lock);
	e->told_certificate = CERTIFICATE_FINE;
}

void
engine_facts(void *engine, struct api_facts *ret_facts)
{
	struct engine *e = engine;

	pthread_mutex_lock(&e->facts_lock);
	*ret_facts = e->facts;
	pthread_mutex_unlock(&e->facts_lock);
}

static enum certificate_state
certificate_state(int64_t end_us)
{
	int64_t left_us = end_us - clock_wall_us();

	if (end_us == 0 || left_us >= API_CERTIFICATE_WARNING_US)
		return CERTIFICATE_FINE;
	return left_us > 0 ? CERTIFICATE_ENDS_SOON : CERTIFICATE_ENDED;
}

static void
watch_certificate(struct engine *e)
{
	int64_t end_us = e->facts.certificate_end_us;
	enum certificate_state state = certificate_state(end_us);
	char text[TIME_RFC3339_SIZE];

	if (state == e->told_certificate)
		return;
	e->told_certificate = state;
	if (state == CERTIFICATE_FINE)
		return;
	(void)time_format_rfc3339(end_us, text);
	if (state == CERTIFICATE_ENDED)
		LOG(LOG_ERROR, "main",
		    "the certificate has ended, so clients refuse TLS: renew "
		    "it and reload",
		    LOG_C("file", e->config->tls.certificate),
		    LOG_C("ended", text));
	else
		LOG(LOG_WARNING, "main",
		    "the certificate ends soon: renew it and reload",
		    LOG_C("file", e->config->tls.certificate),
		    LOG_C("ends", text));
}

/* ---- the service manager ----------------------------------------------- */

static void
tell_status(struct engine *e)
{
	struct receive_stats receive;
	struct spool_stats spool;
	char text[sizeof(e->told_status)];

	receive_stats(e->receive, &receive);
	spool_stats(e->spool, &spool);
	snprintf(text, sizeof(text), "%s%llu sessions, %llu messages queued",
	    e->stopping ? "Stopping: " : "",
	    (unsigned long long)receive.sessions_open,
	    (unsigned long long)spool.messages);
	if (strcmp(text, e->told_status) == 0)
		return;
	memcpy(e->told_status, text, sizeof(text));
	notify_status("%s", text);
}

void
engine_watch(struct engine *e)
{
	watch_spool(e);
	watch_certificate(e);
	tell_status(e);
}
