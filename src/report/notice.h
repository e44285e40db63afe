/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * When and about whom to write delivery reports (RFC 3461, RFC 3464): turns
 * what became of recipients into zero or more reports inside the same spool
 * transaction as the outcomes. Rules held here:
 *   - never for a null sender, never about a report of our own;
 *   - NOTIFY decides (unset: failure and delay); NEVER is never;
 *   - success only on final delivery (maildir, lmtp), or as "relayed" when the
 *     next hop has no DSN;
 *   - one report for all recipients that end in the same transaction;
 *   - copies to the postmaster when the config asks: of reports of failure,
 *     and a report of its own when mail with a null sender fails; never
 *     looping.
 */

#include "intake/intake.h"
#include "mail/report.h"

struct notice_recipient {
	uint32_t rcpt; /* index in the envelope */
	enum report_action action;
	struct span status; /* "5.1.1" */
	struct span remote_mta;
	struct span diagnostic;
	struct span reason;
	int64_t last_attempt_us, retry_until_us;
};

struct notice {
	struct intake *intake;
	const struct config *config;
	struct spool_message *message;
	const struct notice_recipient *recipients;
	size_t recipient_count;
	int64_t now_us;
};

/* One: a copy is another recipient of the same report. */
#define NOTICE_REPORTS_MAX 1

/* Adds the reports that are due to txn; *ret_count of them go into reports[]
 * for intake_submit. A report that cannot be made is an error: then nothing of
 * the transaction may be submitted. */
MUST_CHECK int notice_add(const struct notice *n, struct spool_txn *txn,
    struct intake_message *reports[static NOTICE_REPORTS_MAX],
    size_t *ret_count);
