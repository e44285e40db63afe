/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One report being taken in; private to report. */

#include "base/arena.h"
#include "mail/report.h"
#include "report/returned.h"

/* What is known of the delivery that is reported on. Empty: not any more. */
struct facts {
	struct msgid id;
	struct span address; /* the recipient */
	struct span sender, subject, header_from;
	struct span envid; /* decoded */
};

struct work {
	const struct returned_options *options;
	const char *events;
	struct config *config; /* counted */
	struct arena *arena;
	const struct spool_envelope *envelope; /* of the report */
	int64_t now_us;
	struct return_token token;
	struct bounce_report report;
	struct facts facts;
	struct spool_message *original; /* while the spool has it, or NULL */
};

/* Stored: never change a number. */
enum told_kind {
	TOLD_FAILED = 1,
	TOLD_DELAYED = 2,
	TOLD_DELIVERED = 3,
	TOLD_COMPLAINT = 4,
};

struct told {
	enum told_kind kind;
	struct span class, status, reply, remote_mta;
	bool suppresses;
};

/* ---- returned_facts.c -------------------------------------------------- */

/* From the spool, else from the event log. An address that is known already
 * stays. */
void returned_find_facts(struct work *w);

/* ---- returned_tell.c --------------------------------------------------- */

/* Events, and the sender's report where he wants one; durable. */
MUST_CHECK int returned_tell(struct work *w, const struct told *told);
