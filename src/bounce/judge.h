/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a refusal means: one table of classes for the replies of an SMTP session
 * and for what delivery reports say of a recipient. The code and the enhanced
 * status decide little, since providers put anything behind 550 5.7.1; the
 * text decides, by the rules of replies.rules, which are part of the program.
 *
 * A judge is made once, is immutable, and serves all threads. Judging never
 * waits and is bounded: patterns have limits, and most are ruled out without
 * being tried.
 */

#include "base/error.h"
#include "base/span.h"

enum reply_class {
	CLASS_NO_SUCH_USER,
	CLASS_NO_SUCH_DOMAIN, /* or one that takes no mail (RFC 7505) */
	CLASS_MOVED, /* has another address now */
	CLASS_MAILBOX_FULL,
	CLASS_MAILBOX_DISABLED, /* exists, but takes no mail */
	CLASS_TOO_LARGE,
	CLASS_CONTENT, /* or spam: this message's content */
	CLASS_POLICY, /* a rule of the receiver about sender or recipient */
	CLASS_AUTHENTICATION, /* SPF, DKIM, DMARC, PTR */
	CLASS_REPUTATION, /* of the source or sender, or a blocklist */
	CLASS_RATE_LIMIT,
	CLASS_GREYLIST,
	CLASS_TLS,
	CLASS_NETWORK, /* unreachable, timeouts, loops, broken hosts */
	CLASS_RELAYING_DENIED,
	CLASS_OTHER,
	REPLY_CLASSES
};

/* As in JSON: "no_such_user". */
const char *reply_class_name(enum reply_class class);
bool reply_class_parse(struct span name, enum reply_class *ret_class);

/* A refusal, as an SMTP reply or as a report tells it. */
struct refusal {
	uint16_t code; /* 400..599, or 0: not known */
	uint8_t status_class; /* of the enhanced status; 0: there is none */
	uint16_t status_subject, status_detail;
	struct span text; /* lines may be joined by spaces or newlines */
};

struct judgement {
	enum reply_class class;
	/* Trying again is no use: by the code, unless the text knows better (a
	 * greylisting stays one behind a 550). */
	bool is_permanent;
	/* The cause concerns the address itself and lasts: no more mail to it.
	 * Never by the class of the code or status alone. */
	bool suppresses;
	uint16_t rule; /* its line in replies.rules; 0: none matched */
};

struct judge;

/* With the rules of the program. */
struct judge *judge_new(void);
/* With rules in the same form: for checking a file. ERR_SYNTAX names the line.
 */
MUST_CHECK int judge_read(
    struct span rules, struct judge **ret_judge, struct failure *ret_failure);
void judge_free(struct judge **judge); /* nulls it; accepts NULL */

void judge_reply(const struct judge *judge, const struct refusal *refusal,
    struct judgement *ret_judgement);
