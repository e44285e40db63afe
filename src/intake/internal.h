/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How a message grows between MAIL and its commit; private to intake. */

#include "base/arena.h"
#include "base/buf.h"
#include "base/map.h"
#include "directory/suppression.h"
#include "event/event.h"
#include "intake/intake.h"
#include "smtp/dots.h"

#include <pthread.h>
#include <stdatomic.h>

struct intake {
	struct spool *spool;
	struct directory *directory;
	const struct return_key *return_key;
	intake_accepted_fn *on_accepted;
	void *arg;
	pthread_mutex_t lock; /* guards config */
	struct config *config;
	uint64_t event_seed[2];
	atomic_uint_fast64_t event_count;
	atomic_uint_fast64_t held; /* octets of messages under way */
	atomic_uint_fast64_t held_max;
};

/* A recipient that was refused, newest first. */
struct suppressed_rcpt {
	struct suppressed_rcpt *next;
	struct span address, reply;
	enum suppression_cause cause;
};

struct intake_message {
	struct intake *intake;
	struct config *config; /* the one in force at MAIL */
	struct arena *arena;
	struct intake_client client;
	struct span tenant_name, stream_name;
	enum directory_sender_policy sender_policy; /* the tenant's */
	struct span warning; /* for the event */
	int64_t now_us; /* wall, at MAIL */

	/* What the spool will be told. rcpts grows; the rest is set once. */
	struct spool_envelope envelope;
	struct spool_rcpt *rcpts;
	uint32_t rcpt_capacity;
	struct map *seen; /* recipients, from the second on */
	struct suppressed_rcpt *suppressed;
	uint32_t suppressed_count;
	bool utf8_asked; /* MAIL said SMTPUTF8 */
	bool binary; /* MAIL said BODY=BINARYMIME */
	bool not_text; /* and some octet of it needs that */
	bool header_done;
	char last[2]; /* octets of the draft, for the final CRLF */

	/* Content. While the header section is incomplete it gathers in
	 * `header`; then the draft gets it, edited, and all that follows. */
	struct buf header;
	size_t header_scanned;
	struct buf prefix;
	struct spool_draft *draft;
	struct dots dots;
	uint64_t size; /* octets that came */
	uint64_t held; /* its part of intake's */
	size_t line_length; /* binary: of the draft's last line */

	/* A refusal decided before END; code 0: none. */
	struct reply refusal;

	/* Commit. */
	struct intake_group *groups;
	size_t group_count;
	struct loop_item item;
	struct loop *loop;
	intake_done_fn *done;
	void *done_arg;
	struct reply reply; /* the answer to END */
	bool detached;
};

struct intake_message *message_new(
    struct intake *intake, const struct intake_client *client);
void message_free(struct intake_message *m);

/* sender.c: may the tenant send in this name? The first is asked at MAIL, the
 * second when the header is there, which it may refuse. */
bool sender_may_mail(const struct intake_message *m, struct reply *ret_reply);
void sender_judge_header(struct intake_message *m, struct span fields);

/* content.c: somebody sends, rather than the world or we ourselves. */
bool message_is_submission(const struct intake_message *m);
/* The message gets its number and id, once. */
void content_begin(struct intake_message *m);
/* The final dot has come: what is left is settled, the prefix and
 * flags of the envelope are complete. */
void content_end(struct intake_message *m);

/* commit.c, for events: what all of a message's share, once its envelope is
 * prepared. */
struct event commit_event_of(const struct intake_message *m);
struct msgid commit_event_id(struct intake_message *m);
void commit_prepare(struct intake_message *m);
/* Octets of event lines after which another record is begun. */
#define COMMIT_EVENT_RECORD_SIZE ((size_t)256 * 1024)

/* return_path.c: may mail come to this address of returns.domain? */
bool return_path_takes(
    struct intake_message *m, struct span address, struct reply *ret_reply);

/* suppressed.c: is the recipient one that is refused, and how? */
bool suppressed_refuses(
    struct intake_message *m, struct span address, struct reply *ret_reply);
/* Their events, once. */
void suppressed_add_events(struct intake_message *m, struct spool_txn *txn);
/* The same in a transaction of their own, if there are any. */
void suppressed_tell(struct intake_message *m);

/* Counts octets that the message keeps in memory, until it is refused or gone.
 * False: all messages together have as many as they may. */
bool message_hold(struct intake_message *m, uint64_t octets);
extern const struct reply message_too_much;

/* Refuses the message, once: the first reason stands. */
void message_refuse(struct intake_message *m, const struct reply *reply);
