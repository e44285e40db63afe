/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Reads the machine-readable parts of delivery reports (RFC 3464, RFC 1894)
 * and of feedback reports (RFC 5965): groups of fields, wherever in the
 * message they stand. What is said in words only is not understood. The
 * message is a stranger's: any bytes are read, within REPORT_*_MAX; who acts on
 * a report first proves by a token that it is about mail of his. Pure.
 */

#include "base/arena.h"
#include "bounce/judge.h"

#define REPORT_BYTES_MAX                                                       \
	((size_t)1024 * 1024) /* looked at; the rest is ignored */
#define REPORT_RECIPIENTS_MAX 10000

enum returned_kind {
	RETURNED_NONE,
	RETURNED_DELIVERY_REPORT,
	RETURNED_FEEDBACK_REPORT,
	RETURNED_AUTOMATIC_REPLY, /* vacation and the like */
};

enum returned_action {
	ACTION_FAILED,
	ACTION_DELAYED,
	ACTION_DELIVERED,
	ACTION_RELAYED,
	ACTION_EXPANDED,
};

/* Addresses are as they stand in the report; nothing says that they are
 * well-formed. */
struct returned_recipient {
	struct span address;
	struct span original; /* as the sender named it; may be empty */
	struct span status; /* "5.1.1", or empty */
	struct span remote_mta;
	struct span reply; /* the diagnostic text, on one line */
	enum returned_action action;
	enum reply_class class;
	bool suppresses; /* as in judge.h */
};

struct returned_report {
	enum returned_kind kind;
	const struct returned_recipient *recipients;
	size_t recipient_count;
	struct span reporting_mta;
	/* A feedback report's. */
	struct span feedback_type; /* "abuse", "fraud", … */
	struct span user_agent, reported_domain, original_mail_from;
	struct span original_rcpt_to;
	/* Of the message that is quoted. */
	struct span return_path, to;
};

const char *returned_kind_name(enum returned_kind kind);
/* The report lives as long as arena does. */
void returned_read(const struct judge *judge, struct span message,
    struct arena *arena, struct returned_report *ret_report);
