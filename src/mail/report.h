/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The text of delivery reports: multipart/report after RFC 3462, RFC 3464 and
 * (for addresses that are not ASCII) RFC 6533. Pure: facts in, message out.
 * Everything a peer or a sender wrote is escaped or encoded on the way in.
 */

#include "base/buf.h"
#include "base/netaddr.h"

enum report_action {
	REPORT_FAILED,
	REPORT_DELAYED,
	REPORT_DELIVERED, /* final delivery, NOTIFY=SUCCESS */
	REPORT_RELAYED, /* handed to a system without DSN */
};

struct report_recipient {
	struct span address; /* final recipient */
	struct span
	    original; /* ORCPT as received ("rfc822;…", decoded), or empty */
	enum report_action action;
	struct span status; /* "5.1.1" */
	struct span remote_mta; /* host name, or empty */
	struct span diagnostic; /* the SMTP reply as text, or empty */
	struct span reason; /* one sentence for people */
	int64_t last_attempt_us; /* wall; 0: none */
	int64_t retry_until_us; /* wall; REPORT_DELAYED only */
};

struct report {
	struct span reporting_mta; /* our host name */
	struct span from; /* "postmaster@host" */
	struct span to; /* the original sender */
	struct span report_id; /* our id for this report, in text */
	struct span original_id; /* posthouse id of the message reported on */
	struct span envelope_id; /* ENVID, decoded, or empty */
	int64_t arrival_us, now_us; /* wall */
	const struct report_recipient *recipients;
	size_t recipient_count;
	struct span original_header; /* the message's header section */
	struct span original_body; /* with RET=FULL; else empty */
	bool return_full;
	/* Use message/global-* types and raw UTF-8, as only systems with
	 * SMTPUTF8 take it. Without, all is ASCII but a returned body. */
	bool needs_utf8;
};

/* Appends the complete message: header, text for people, machine part,
 * returned content. Auto-Submitted: auto-replied, null-sender-safe. */
void report_compose(const struct report *r, struct buf *out);
