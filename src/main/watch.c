/* SPDX-License-Identifier: Apache-2.0 */

/* The spool keeps no log of its own: what an administrator must hear of it is
 * said here, once for each change. */

#include "log/log.h"
#include "main/internal.h"

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

void
engine_watch_spool(struct engine *e)
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
}
