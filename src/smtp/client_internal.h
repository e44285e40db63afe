/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The client session between its three files: client.c keeps the steps, the
 * ring and the end; client_hello.c goes from the banner to being ready;
 * client_mail.c carries a transaction. Apart from internal.h, which is the
 * server's half: the two sessions share nothing.
 */

#include "base/arena.h"
#include "base/buf.h"
#include "base/bug.h"
#include "smtp/client.h"
#include "smtp/offers.h"

enum {
	CLIENT_RCPTS_MAX = 1000,
	CLIENT_RING_SIZE = 1024, /* RSET, MAIL, each RCPT, DATA, and to spare */
	CLIENT_EVENTS_MAX = 4, /* BODY_ABORT, DONE, CLOSED, and to spare */
};

struct recipient {
	struct smtp_client_fate fate;
	bool asked; /* RCPT was sent */
};

struct smtp_client {
	struct smtp_client_options options;
	struct arena *session; /* lives as long as the client */
	struct arena *memory; /* of the transaction */
	struct reply_parser *parser;
	bool half_reply; /* the parser holds a part of one */
	struct buf out;

	enum smtp_client_step step;
	uint8_t ring[CLIENT_RING_SIZE]; /* steps whose replies are to come */
	size_t ring_head, ring_count;
	struct smtp_client_event events[CLIENT_EVENTS_MAX];
	size_t event_count;
	struct reply closing; /* why the session is over */

	struct offers offers;
	bool secured;
	struct span mechanism; /* chosen; a view of the options */
	bool auth_begun, auth_cancelled;
	unsigned auth_rounds;
	struct buf auth_held; /* an initial response too long for AUTH's line */

	const struct smtp_client_transaction *transaction;
	struct recipient *rcpts;
	size_t rcpt_count;
	size_t send_cursor, read_cursor; /* into rcpts */
	size_t accepted;
	bool bdat, chunking_refused;
	bool body_open; /* the driver owns the wire */
	bool body_complete; /* all octets are out */
	bool mail_open; /* the server holds a transaction */
};

/* Reacts to the reply of the step that the session is in. */
typedef void reply_fn(struct smtp_client *c, const struct reply *reply);
/* client_hello.c */
reply_fn client_on_banner, client_on_ehlo, client_on_helo, client_on_starttls;
reply_fn client_on_auth;
/* client_mail.c */
reply_fn client_on_rset, client_on_mail, client_on_rcpt, client_on_data;
reply_fn client_on_body, client_on_end;

/* Goes to a step, which must be one of its next ones. */
void client_enter(struct smtp_client *c, enum smtp_client_step to);
/* A command of that step went to the output: its reply will come. */
void client_expect(struct smtp_client *c, enum smtp_client_step step);
/* Puts the step where the oldest unanswered command says. Called after each
 * reply, and by whoever sends outside of a reply. */
void client_await(struct smtp_client *c);
struct smtp_client_event *client_emit(
    struct smtp_client *c, enum smtp_client_event_type type);
void client_ready(struct smtp_client *c);

enum client_cause {
	CLIENT_CAUSE_REPLY, /* the server's own words */
	CLIENT_CAUSE_VERDICT, /* ours about what it said */
	CLIENT_CAUSE_DRIVER, /* the driver's: it knows that the body ends */
};

/* Ends the session; settles what is open. Nothing happens the second time. */
void client_over(
    struct smtp_client *c, const struct reply *why, enum client_cause cause);
/* Ends it before any mail was tried: in good form, with a QUIT. */
void client_decline(
    struct smtp_client *c, const struct reply *why, enum client_cause cause);
/* Ends it because the reply makes no sense here. */
void client_over_unexpected(struct smtp_client *c, const struct reply *reply);

/* The open transaction's share in the session's end. `fate` is for those who
 * have none; the reply to a 421 goes to whom it answers first. */
void client_mail_over(
    struct smtp_client *c, const struct smtp_client_fate *fate);
void client_mail_unavailable(struct smtp_client *c, const struct reply *reply);

/* A copy with at most 1,024 octets of text. */
struct reply client_keep_reply(const struct reply *r, struct arena *arena);

static inline bool
client_offered(const struct smtp_client *c, int flag)
{
	return (c->offers.flags & flag) != 0;
}

static inline bool
reply_is_completion(const struct reply *reply)
{
	return reply->code / 100 == 2;
}

static inline bool
reply_is_intermediate(const struct reply *reply)
{
	return reply->code / 100 == 3;
}
