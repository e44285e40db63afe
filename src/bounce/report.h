/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a message reports: which recipients a system could not reach, yet or
 * for good, and why; or a complaint; or that somebody's machine answers. Reads
 * delivery reports (RFC 3464 and its forerunner RFC 1894, RFC 6533), feedback
 * reports (RFC 5965), and what the many systems without a machine-readable
 * part write, by the rules of reports.rules, which are part of the program.
 *
 * The message is a stranger's. Nothing here trusts it: who acts on a report
 * first proves, by a token in the address it came to, that it is about mail of
 * his. Bounded in time and memory, whatever the bytes are (REPORT_*_MAX below).
 *
 * A reader is made once, is immutable, and serves all threads. It never waits.
 */

#include "base/arena.h"
#include "base/buf.h"
#include "bounce/judge.h"

#define REPORT_BYTES_MAX                                                       \
	((size_t)1024 * 1024) /* looked at; the rest is ignored */
#define REPORT_PARTS_MAX 100
#define REPORT_DEPTH_MAX 8
#define REPORT_RECIPIENTS_MAX 10000
#define REPORT_LINES_MAX 4000 /* of text for people */
#define REPORT_X_FIELDS_MAX 100 /* of the original message */

enum bounce_kind {
	BOUNCE_NONE,
	BOUNCE_DELIVERY_REPORT, /* with a machine-readable part */
	BOUNCE_TEXT, /* as JSON: "bounce", in words only */
	BOUNCE_FEEDBACK_REPORT,
	BOUNCE_AUTOMATIC_REPLY, /* vacation and the like */
};

enum bounce_action {
	ACTION_FAILED,
	ACTION_DELAYED,
	ACTION_DELIVERED,
	ACTION_RELAYED,
	ACTION_EXPANDED,
};

/* All text is UTF-8. Addresses are as they stand in the report, without
 * brackets; nothing says that they are well-formed. */
struct bounce_recipient {
	struct span address; /* the original, if it is told, else the final */
	struct span original; /* as the sender named it; may be empty */
	struct span final; /* after aliases and forwarding; may be empty */
	struct span status; /* "5.1.1", or empty */
	struct span remote_mta;
	struct span reply; /* the diagnostic text, on one line */
	enum bounce_action action;
	enum reply_class class;
	bool is_permanent; /* the reporter has given up */
	bool suppresses; /* as in judge.h */
};

struct bounce_feedback {
	struct span type; /* "abuse", "fraud", … */
	struct span user_agent, source_ip, arrival_date, reported_domain;
	struct span original_envelope_id, original_mail_from;
	const struct span *recipients; /* Original-Rcpt-To, or whom the
					  reported message names */
	size_t recipient_count;
};

struct bounce_field {
	struct span name, value;
};

/* What the report quotes of the message that it is about. */
struct bounce_original {
	struct span message_id; /* without brackets */
	struct span return_path, from, to, subject; /* to: the first */
	const struct bounce_field *x_fields; /* those named X-… */
	size_t x_field_count;
};

struct bounce_report {
	enum bounce_kind kind;
	const struct bounce_recipient *recipients;
	size_t recipient_count;
	struct span reporting_mta, envelope_id;
	struct bounce_feedback feedback; /* BOUNCE_FEEDBACK_REPORT only */
	struct bounce_original original;
};

const char *bounce_kind_name(enum bounce_kind kind);
const char *bounce_action_name(enum bounce_action action);

struct bounce_reader;

/* Of the program's rules. The judge must outlive it. */
struct bounce_reader *bounce_reader_new(const struct judge *judge);
void bounce_reader_free(struct bounce_reader **reader);

/* Any bytes are read: what cannot be understood is BOUNCE_NONE. The report
 * lives as long as arena does. */
void bounce_read(const struct bounce_reader *reader, struct span message,
    struct arena *arena, struct bounce_report *ret_report);

/* Appends the report as one JSON object, without a newline. */
void bounce_report_render(const struct bounce_report *report, struct buf *out);
