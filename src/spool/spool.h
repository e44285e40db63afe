/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The durable log: messages, what became of their recipients, operations on
 * queues, and the events that tell of all this. The only room that syncs mail.
 *
 * One committer thread takes every transaction that was submitted during the
 * last sync, writes them as one batch and syncs once. A transaction is atomic:
 * after a crash all of it is there or none. When its `done` runs with 0, it is
 * on stable storage. Acknowledged bytes are never rewritten or truncated. A
 * failed sync is never tried again on the same pages: its transactions fail,
 * the segment is sealed, and they may be submitted anew to the next one.
 *
 * A message's identity is its number (mno), never its place. Format and crash
 * rules: README.md of this room.
 *
 * Threads: everything here may be called from any thread unless it says
 * otherwise. `done` runs on the committer thread and must only hand over
 * (loop_post, a condition variable). Reading may block on the disk; recent
 * mail is in the page cache.
 */

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "mail/msgid.h"

#include <stdbool.h>

struct spool;
struct spool_io; /* spool/io.h: what the disk looks like */

struct spool_options {
	const char *directory; /* made when missing */
	uint64_t segment_size; /* bytes; 0: 64 MiB */
	uint32_t
	    jumbo_size; /* bodies above go to a file of their own; 0: 1 MiB */
	uint32_t lazy_sync_us; /* outcomes without `done` wait at most so long
				    for a batch to ride in; 0: 100 ms */
	uint64_t free_low,
	    free_full; /* free bytes on the file system below which
				    spool_space says so; 0: 1 GiB, 256 MiB, on
				    a small one a tenth, a twenty-fifth */
	uint16_t node;
	const struct spool_io *io; /* NULL: the real disk */
	uint32_t pass_segments; /* a checkpoint is due when so many segments are
				   behind the last; 0: 8 */
	int64_t pass_age_us; /* … or one that waits so long; 0: 60 s */
	uint64_t pass_rate; /* bytes a second it reads and writes; 0: 64 MiB */
	int64_t scrub_period_us; /* within it all that waits is read again;
				    0: a week */
	uint64_t share_bytes; /* memory for bodies that may be shared; 0: each
				 message is stored with its own */
	uint64_t share_min; /* smaller ones never are; 0: 16 KiB */
};

/* Locks the directory (ERR_EXISTS when another process has it), repairs the
 * torn tail, starts the committer in a fresh segment: mail can be accepted.
 * What is stored is loaded by spool_recover. */
MUST_CHECK int spool_open(const struct spool_options *options,
    struct spool **ret_spool, struct failure *ret_failure);
/* Commits what was submitted and stops the threads. From here on transactions
 * fail with -ECANCELED; drafts and messages can still be freed. */
void spool_stop(struct spool *spool);
/* Stops it, if that was not done, and writes a clean end. Nothing of the spool
 * may be held any more. */
void spool_close(struct spool **spool);

/* ---- messages on their way in ------------------------------------------ */

/* A message number of its own, never given twice by one spool. */
uint64_t spool_next_mno(struct spool *spool);
/* The key with which this spool's message ids are scrambled; the node. */
uint64_t spool_id_key(const struct spool *spool);
uint16_t spool_node(const struct spool *spool);

enum spool_space {
	SPOOL_SPACE_OK,
	SPOOL_SPACE_LOW,
	SPOOL_SPACE_FULL,
	SPOOL_FAILED
};

/* LOW: refuse bulk; FULL, FAILED: refuse all (452 4.3.1). A state is left when
 * there is a quarter more free than its mark. Cheap. */
enum spool_space spool_space(const struct spool *spool);

/* A body being received: small ones in memory, large ones streamed to a file
 * under spool/big. One thread at a time. */
struct spool_draft;

struct spool_draft *spool_draft_new(struct spool *spool, uint64_t mno);
/* -ENOSPC and other errors of the disk; the draft is then only good to free. */
MUST_CHECK int spool_draft_write(struct spool_draft *draft, struct span piece);
/* What was written so far belongs to this message alone, as its header does.
 * What follows is stored once for all messages of its tenant that have the same
 * and come soon after one another. */
void spool_draft_end_own(struct spool_draft *draft);
uint64_t spool_draft_size(const struct spool_draft *draft);
void spool_draft_free(struct spool_draft **draft); /* removes its file, too */

enum spool_class { SPOOL_TRANSACTIONAL, SPOOL_REPORT, SPOOL_BULK };

enum spool_message_flags {
	SPOOL_8BIT = 1, /* body has octets above 127 */
	SPOOL_UTF8 = 2, /* header or an address needs SMTPUTF8 */
	SPOOL_DOTS = 4, /* some line of prefix or body starts with a dot */
	SPOOL_BINARY = 8, /* BINARYMIME: not made of CRLF lines */
	SPOOL_REPORT_MAIL = 16, /* made by us: never reported on */
	SPOOL_AUTO_SUBMITTED = 32,
	SPOOL_INBOUND = 64, /* from the world, for local mailboxes */
	SPOOL_REQUIRETLS = 128, /* RFC 8689: by TLS all the way, or not */
};

struct spool_rcpt {
	struct span address; /* canonical; never changes its index */
	struct span orcpt; /* "type;xtext" or empty */
	uint8_t notify; /* bits of enum smtp_notify */
};

struct spool_envelope {
	uint64_t mno;
	struct msgid id;
	uint32_t tenant, stream; /* directory ids */
	enum spool_class class;
	uint32_t flags;
	int64_t accepted_us, expire_us, not_before_us; /* wall */
	struct span sender; /* canonical; empty: <> */
	struct span envid; /* xtext or empty */
	uint8_t ret; /* enum smtp_ret */
	struct span user; /* credential's user name, or empty */
	struct span client; /* address of the client in text, or empty */
	struct span header_from; /* addr-spec of the From field, or empty */
	struct span subject; /* raw, cut to 200 octets */
	const struct spool_rcpt *rcpts; /* sorted so that equal domains stand
					   together */
	uint32_t rcpt_count;
	struct span prefix; /* our trace field and added fields; goes out
				    before the body */
	uint64_t body_size; /* octets, without prefix; set by the spool */
};

/* ---- transactions ------------------------------------------------------ */

enum spool_outcome_kind {
	SPOOL_DELIVERED,
	SPOOL_BOUNCED,
	SPOOL_EXPIRED,
	SPOOL_SUPPRESSED,
	SPOOL_CANCELLED,
	SPOOL_DEFERRED, /* not an end: attempts and due change */
};

/* What became of recipients rcpt_first … + rcpt_count of one message. Every
 * recipient gets exactly one outcome that is not SPOOL_DEFERRED. */
struct spool_outcome {
	uint64_t mno;
	uint32_t rcpt_first, rcpt_count;
	enum spool_outcome_kind kind;
	uint16_t code; /* SMTP reply code, 0: none */
	uint8_t attempts; /* so far */
	bool warned; /* the delay warning is sent or not wanted */
	int64_t due_us; /* wall; SPOOL_DEFERRED only */
};

enum spool_order_kind {
	SPOOL_ORDER_HOLD,
	SPOOL_ORDER_RELEASE,
	/* Works on all matching messages numbered below cut_mno; stands until
	 * that is done, and an END of the same cut_mno withdraws it. */
	SPOOL_ORDER_BOUNCE,
	SPOOL_ORDER_EXPIRE,
	SPOOL_ORDER_CANCEL,
	SPOOL_ORDER_MOVE, /* to to_stream */
	SPOOL_ORDER_END,
};

/* An operator's order on queues. A hold survives restarts until released: a
 * release that covers it ends it; a narrower one makes an exception and stands
 * beside it. Orders on messages are durable before they begin and survive until
 * they are worked off. spool_orders tells all in the order to apply. */
struct spool_order {
	enum spool_order_kind kind;
	uint32_t tenant, stream; /* 0: any */
	uint8_t classes; /* bits 1 << enum spool_class; 0: any */
	struct span domain, site; /* empty: any */
	struct span reason; /* for people */
	int64_t since_us;
	/* BOUNCE … END: of spool_next_mno; also the command's identity, which
	 * several orders may share. */
	uint64_t cut_mno;
	uint32_t to_stream; /* MOVE */
	enum spool_class to_class;
};

struct spool_txn;

struct spool_txn *spool_txn_new(struct spool *spool);
void spool_txn_free(struct spool_txn **txn); /* not submitted after all */
/* At most one message per transaction. Takes the draft. Everything else is
 * serialised now: spans may go away afterwards. */
void spool_txn_message(struct spool_txn *txn,
    const struct spool_envelope *envelope, struct spool_draft **draft);
void spool_txn_outcome(
    struct spool_txn *txn, const struct spool_outcome *outcome);
void spool_txn_order(struct spool_txn *txn, const struct spool_order *order);
/* One or more whole JSON lines for the event log. */
void spool_txn_event(struct spool_txn *txn, struct span lines);

typedef void spool_done_fn(void *arg, int result);

/* Submits and frees. `done` may be NULL: then the transaction waits for
 * company (lazy_sync_us) and its failure stops the spool (SPOOL_FAILED).
 * Never blocks. Transactions of one thread keep their order, except that one
 * whose body has a file goes when that is synced. */
void spool_txn_submit(struct spool_txn **txn, spool_done_fn *done, void *arg);
/* The same, but waits. Not for reactor threads. */
MUST_CHECK int spool_txn_commit(struct spool_txn **txn);

/* ---- messages on their way out ----------------------------------------- */

/* A counted handle on a stored message: its bytes stay while it is held. */
struct spool_message;

/* ERR_NOT_FOUND when it is gone; ERR_CORRUPT when its checksum fails (it is
 * then quarantined). */
MUST_CHECK int spool_message_open(
    struct spool *spool, uint64_t mno, struct spool_message **ret_message);
void spool_message_unref(struct spool_message **message);
const struct spool_envelope *spool_message_envelope(
    const struct spool_message *message);
/* Octets of prefix and body together, from `offset`. Small messages: the whole
 * rest, without copying; large ones: at most what is read ahead at a time.
 * The span lives until the next call. Empty at the end. */
MUST_CHECK int spool_message_read(
    struct spool_message *message, uint64_t offset, struct span *ret_piece);
uint64_t spool_message_size(
    const struct spool_message *message); /* prefix + body */

/* ---- after a restart --------------------------------------------------- */

/* Neighbouring recipients that are not done and alike in all this. */
struct spool_live_run {
	uint32_t rcpt_first, rcpt_count;
	struct span domain; /* of their addresses, as stored */
	uint8_t notify; /* as in spool_rcpt */
	uint8_t attempts;
	bool warned;
	int64_t due_us; /* wall; 0: at once */
};

/* What scheduling needs of a message, known without reading it. */
struct spool_live {
	uint64_t mno;
	uint32_t tenant, stream;
	enum spool_class class;
	uint32_t flags; /* enum spool_message_flags */
	bool has_sender; /* not <> */
	int64_t accepted_us, expire_us, not_before_us; /* wall */
	const struct spool_live_run *runs; /* in the order of recipients */
	uint32_t run_count;
};

/* One call per message with a recipient that is not done, oldest first. What it
 * points to lives until it returns. A last one has NULL: that was all. */
typedef void spool_live_fn(void *arg, const struct spool_live *message);
typedef void spool_order_fn(void *arg, const struct spool_order *order);

/* The standing orders, in the order to apply. Before anything is submitted. */
void spool_orders(struct spool *spool, spool_order_fn *fn, void *arg);
/* Loads what a former life left. Call once after spool_open, from any thread;
 * all else may be done meanwhile, but a message is known (to
 * spool_message_open) only once it was told of. Until it has returned nothing
 * is recycled and spool_stats says how far it is. -ECANCELED: the spool is
 * stopping. on_message may be NULL. */
MUST_CHECK int spool_recover(
    struct spool *spool, spool_live_fn *on_message, void *arg);
/* Makes it return soon, from any thread; it is then not to be called again. */
void spool_recover_cancel(struct spool *spool);

/* ---- events: projections follow the log -------------------------------- */

typedef int spool_event_fn(void *arg, struct span lines);

/* Calls fn for the event records from position *lsn on that are durable, at
 * most about 1 MiB of them, and moves *lsn behind what was looked at. Stops
 * early when fn returns a negative code, and returns it: the record refused
 * comes again. Start with 0 for the oldest there is. 1: there was something;
 * 0: nothing new. */
MUST_CHECK int spool_events_read(
    struct spool *spool, uint64_t *lsn, spool_event_fn *fn, void *arg);
/* Waits until there may be news after `lsn`, or timeout. */
void spool_events_wait(struct spool *spool, uint64_t lsn, int64_t timeout_us);
/* Wakes waiters (shutdown). */
void spool_events_wake(struct spool *spool);
/* Events before lsn are safe elsewhere: their segments may be recycled. Until
 * the first call nothing is recycled. */
void spool_events_exported(struct spool *spool, uint64_t lsn);

/* ---- looking ----------------------------------------------------------- */

struct spool_stats {
	uint64_t messages; /* with a live recipient */
	uint64_t recipients; /* live */
	uint64_t segments, segments_free;
	uint64_t index_bytes; /* memory, with the table of shared bodies */
	uint64_t recent_bytes; /* memory: bodies that may be shared */
	uint64_t bodies_shared; /* stored for several messages */
	uint64_t messages_sharing; /* that need them */
	uint64_t bytes_written; /* since open */
	uint64_t batches, syncs, transactions;
	uint64_t sync_us_total, sync_us_max;
	uint64_t quarantined; /* records set aside as damaged */
	uint64_t orders; /* of operators, that stand */
	uint64_t checkpoints, messages_moved; /* since open; by compaction */
	uint64_t scrubbed; /* messages read again */
	int checkpoint_error; /* of the last one tried; 0: it was good */
	unsigned loaded_percent; /* of a former life's mail; 100: all is */
	uint64_t durable_lsn;
	int failed; /* 0, or why the spool stopped */
};

void spool_stats(struct spool *spool, struct spool_stats *ret_stats);

/* Reads a spool that no process has open and tells of each thing wrong.
 * Returns the number of problems or a negative code. */
struct spool_verify_result {
	uint64_t segments, records, messages, live_messages, live_recipients;
	uint64_t torn_bytes; /* an unacknowledged tail: harmless */
	uint64_t problems;
};

typedef void spool_problem_fn(
    void *arg, const char *file, uint64_t offset, const char *problem);
MUST_CHECK int spool_verify(const char *directory, spool_problem_fn *fn,
    void *arg, struct spool_verify_result *ret_result);
