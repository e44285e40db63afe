/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The one door. Every message, whatever brought it (SMTP, LMTP, the sendmail
 * shim, HTTP, a delivery report of our own), passes here: may this client
 * relay, is the header sound, is there room; it gets its id and trace field,
 * is committed to the spool, and only then handed to the dispatchers and
 * acknowledged. Answers come from memory: nothing here waits for a disk but
 * the commit itself, which is asynchronous.
 *
 * An intake is shared by all threads; an intake_message belongs to one thread
 * until intake_end.
 */

#include "config/config.h"
#include "directory/directory.h"
#include "loop/loop.h"
#include "returns/token.h"
#include "smtp/parameters.h"
#include "smtp/reply.h"
#include "spool/spool.h"

struct intake;
struct intake_message;

/* A run of a message's recipients that share a domain, ready for a queue. */
struct intake_group {
	struct span domain;
	uint32_t rcpt_first, rcpt_count;
	bool wants_delay_warning;
};

struct intake_accepted {
	uint64_t mno;
	uint32_t tenant, stream;
	enum spool_class class;
	int64_t accepted_us, expire_us; /* wall */
	const struct intake_group *groups;
	size_t group_count;
};

/* Called when a message is durable, before it is acknowledged, on the
 * committer thread: must only hand over. Spans die when it returns. */
typedef void intake_accepted_fn(
    void *arg, const struct intake_accepted *accepted);

struct intake_options {
	struct spool *spool;
	struct directory *directory;
	struct config *config; /* counted by intake */
	/* For returns.domain; NULL: nothing is taken for it. */
	const struct return_key *return_key;
	intake_accepted_fn *on_accepted;
	void *arg;
};

struct intake *intake_new(const struct intake_options *options);
void intake_free(struct intake **intake);
void intake_set_config(struct intake *intake, struct config *config);
/* The one in force, counted for the caller. Any thread. */
struct config *intake_config(struct intake *intake);

enum intake_origin {
	INTAKE_SUBMISSION, /* may relay: authenticated or trusted */
	INTAKE_MX, /* from the world: local domains only */
	INTAKE_SENDMAIL, /* the shim: a local user */
	INTAKE_HTTP,
	INTAKE_REPORT, /* our own delivery reports */
	INTAKE_IMPORT, /* exported from a queue: kept octet for octet */
};

/* Who hands the message over; spans must live as long as the message. */
struct intake_client {
	enum intake_origin origin;
	struct netaddr address; /* NETADDR_NONE for local ones */
	struct span helo;
	struct span protocol; /* for the trace field: "ESMTPSA" */
	struct span tls; /* "TLSv1.3 …" or empty */
	struct span user; /* authenticated name, or empty */
	uint32_t credential; /* id, 0: none; checked again at MAIL: in an
				     open session, too, a revoked one ends */
	bool trusted; /* by trusted_networks */
	bool trace_user; /* the Received field may name the user */
	uint32_t tenant, stream; /* used when there is no credential; 0:
				     default tenant, transactional */
	/* INTAKE_IMPORT: */
	int64_t expire_us; /* wall; 0: by the stream */
	bool is_report; /* a delivery report, never reported on */
};

/* A message begins with MAIL; ret_reply is the answer. NULL when refused. */
struct intake_message *intake_mail(struct intake *intake,
    const struct intake_client *client, const struct smtp_mail *mail,
    struct reply *ret_reply);
/* Answers RCPT; a duplicate of an earlier recipient is accepted and merged. */
void intake_rcpt(struct intake_message *m, const struct smtp_rcpt *rcpt,
    struct reply *ret_reply);
uint32_t intake_recipients(const struct intake_message *m);
/* The next bytes of the message: CRLF lines (or any octets when BINARYMIME).
 * After a refusal further pieces are ignored; intake_end tells. */
void intake_body(struct intake_message *m, struct span piece);

/* The message is complete. done gets the reply, its text living until done
 * returns: on `loop`'s thread, or, with loop NULL, on the committer's or this
 * thread. The message is freed afterwards; m is not to be used after this call.
 * To be told of nothing (the session died), intake_detach: the message, if it
 * is sound, is still accepted; the client will find out by trying again. */
typedef void intake_done_fn(
    void *arg, const struct reply *reply, const struct msgid *id);
void intake_end(struct intake_message *m, struct loop *loop,
    intake_done_fn *done, void *arg);
void intake_detach(struct intake_message *m);
/* Counts octets of a message that waits outside of it, beside what messages
 * hold. False: all together have more than they may; the octets are counted
 * nevertheless, until intake_let_go. Any thread. */
bool intake_hold(struct intake *intake, uint64_t octets);
void intake_let_go(struct intake *intake, uint64_t octets);
/* The transaction ended without END. */
void intake_abort(struct intake_message **m);

/* RFC 3461 §4.1: does the sender want a report of this kind about the
 * recipient? Never for a null sender or a report of our own. */
bool intake_sender_wants(const struct spool_envelope *envelope, uint32_t rcpt,
    enum smtp_notify what);
/* The same of a message that was not read. */
bool intake_live_sender_wants(const struct spool_live *message,
    const struct spool_live_run *run, enum smtp_notify what);

/* ---- our own reports --------------------------------------------- */

struct intake_report {
	struct span to; /* canonical */
	struct span copy_to; /* another recipient of the same, or empty */
	uint32_t tenant, stream; /* of the message reported on */
	bool utf8;
	/* Composes the message for this id into out. */
	void (*compose)(void *arg, struct span message_id, struct buf *out);
	void *arg;
};

/* Adds a report to a transaction, so that it is there exactly when the outcome
 * it reports is. Afterwards submit with intake_submit, not spool_txn_submit. */
MUST_CHECK int intake_add_report(struct intake *intake, struct spool_txn *txn,
    const struct intake_report *report, struct intake_message **ret_m);
/* Submits the transaction; hands the reports to the dispatchers when it is
 * durable. `done` is as for spool_txn_submit, and only for transactions with
 * reports: after a failure nothing of them has happened. Others are kept until
 * they can be written. */
void intake_submit(struct intake *intake, struct spool_txn **txn,
    struct intake_message **reports, size_t count, spool_done_fn *done,
    void *arg);
