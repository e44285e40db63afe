/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * An event: one line of a message's story, as JSON. Rendered once, when it
 * happens, by whoever knows it; it then rides in the spool's log beside the
 * record it tells of, and projections (event files, webhooks, search) copy it.
 * The field names are those that operators will grep for, so they never change
 * meaning. Pure.
 */

#include "base/buf.h"
#include "mail/msgid.h"

#include <stdint.h>

enum event_type {
	EVENT_ACCEPTED,
	EVENT_DEFERRED,
	EVENT_DELIVERED,
	EVENT_BOUNCED,
	EVENT_EXPIRED,
	EVENT_SUPPRESSED,
	EVENT_CANCELLED,
	EVENT_REJECTED,
	EVENT_COMPLAINED,
	EVENT_TYPES
};

/* Empty spans and zero numbers are left out of the line. */
struct event {
	enum event_type type;
	struct msgid event_id; /* stable: a consumer drops one it has seen */
	int64_t time_us; /* wall */
	struct msgid message_id;
	struct span tenant, stream; /* names */
	struct span sender, recipient;
	struct span subject, header_from;
	struct span origin; /* "smtp", "sendmail", "http", "report" */
	struct span warning; /* what its sender's policy found (accepted) */
	struct span user; /* credential that submitted */
	struct span client; /* its address (accepted, rejected) */
	uint64_t size; /* octets */
	/* attempts */
	uint32_t attempt; /* 1, 2, … */
	uint16_t code; /* the reply that decided */
	struct span enhanced; /* "5.1.1" */
	struct span reply; /* its text, one line */
	struct span class; /* what the refusal means: "no_such_user" */
	bool suppresses; /* no more mail to this recipient from now on */
	struct span cause; /* of a suppression: "complaint" */
	struct span step; /* "rcpt", "end", "connect", "resolve" … */
	struct span route; /* "mx", "smtp", "lmtp", "maildir", "discard" */
	struct span site;
	struct span peer_host, peer_address, source_address;
	struct span tls; /* "TLSv1.3 TLS_AES_256_GCM_SHA384" */
	bool tls_verified;
	/* What TLS the host had to show: "dane", "dane-unusable" (encrypted is
	 * enough), "sts", "require", "opportunistic", "none". */
	struct span tls_policy;
	int64_t attempt_us; /* how long the transaction took */
	int64_t age_us; /* since acceptance */
	int64_t next_attempt_us; /* wall; deferred only */
	/* Of a message that cannot be read, which has no id any more: its
	 * number in the spool, and how many recipients end. */
	uint64_t mno;
	uint32_t recipients;
	bool duplicate_risk; /* broken after the final dot: may arrive twice */
};

const char *event_type_name(enum event_type type);
bool event_type_parse(struct span name, enum event_type *ret_type);
/* Appends one line with its newline. */
void event_render(const struct event *e, struct buf *out);
