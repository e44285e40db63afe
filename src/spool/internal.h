/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Inside the spool. Threads: the committer alone writes segments, rotates and
 * applies outcomes; the stager syncs large bodies before their transactions go
 * to the committer; the keeper prepares, recycles and removes files; the
 * folder writes checkpoints and copies what still lives. Locks are leaves:
 * none is taken while another is held.
 */

#include "base/buf.h"
#include "base/time.h"
#include "spool/bodies.h"
#include "spool/format.h"
#include "spool/io.h"
#include "spool/live.h"
#include "spool/spool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define LSN(segment, offset) ((uint64_t)(segment) << 32 | (uint64_t)(offset))
#define LSN_SEGMENT(lsn) ((uint32_t)((lsn) >> 32))
#define LSN_OFFSET(lsn) ((uint32_t)(lsn))

#define BATCH_BYTES_MAX (4u << 20)
#define BATCH_PIECES_MAX 1000

/* ---- io.c -------------------------------------------------------------- */

/* Writes everything, however short the calls; consumes iov. */
MUST_CHECK int io_write(const struct spool_io *io, int file, struct iovec *iov,
    size_t count, uint64_t offset);
/* Bytes read: fewer than len only at the end of the file. */
MUST_CHECK int64_t io_read(
    const struct spool_io *io, int file, void *p, size_t len, uint64_t offset);
/* Creates or overwrites a file with these bytes and syncs it. */
int io_put(const struct spool_io *io, const char *path, int flags,
    struct span content);

/* ---- segment.c --------------------------------------------------------- */

struct slot;

struct segment {
	uint32_t number;
	int32_t epoch; /* low 16 bits of the writer's; -1: unknown */
	bool is_whole; /* prewritten to full size: worth using again */
	bool is_active; /* the committer writes here */
	bool is_damaged; /* kept for people when it is dead */
	int file; /* -1: closed for now */
	uint64_t end; /* of what counts; grows while active */
	uint64_t attested; /* recovery: below this all was durable */
	uint64_t live; /* messages with a live recipient, bodies they share */
	uint64_t live_serial; /* of its live file in force; 0: none */
	uint32_t live_crc;
	uint64_t entries, live_bytes; /* in that file; of their records */
	bool is_touched; /* an outcome changed a message since */
	int64_t sealed_us; /* monotonic; 0: before this process */
	uint32_t refs;
	uint64_t used; /* tick of the last ref */
};

/* Numbers of segments that compaction wrote: no part of the log. */
#define COPIES_BIT 0x80000000u

/* By number, ascending. Guarded by `lock`. */
struct segments {
	pthread_mutex_t lock;
	pthread_cond_t chores; /* the keeper's work may be due */
	pthread_cond_t sealed; /* … and the folder's */
	struct segment **all;
	size_t count, capacity;
	size_t open_files;
	uint64_t tick;
	char **pool; /* paths of prepared files */
	size_t pool_count;
	uint64_t pool_serial;
	uint64_t exported; /* lsn; 0: nothing may be recycled */
	uint32_t folded; /* segments below are in the catalogue in force */
	uint64_t *dead_bodies; /* numbers of body files to remove */
	size_t dead_count, dead_capacity;
	int prepare_error; /* of the last attempt */
	bool is_stuck; /* a name could not be made durable: nothing is
			  recycled any more */
	bool is_closing;
};

/* A whole segment of copies with `live` messages. */
void segment_add_copies(
    struct spool *spool, uint32_t number, uint64_t end, uint64_t live);
char *segment_path(const struct spool *spool, uint32_t number);
char *body_path(const struct spool *spool, uint64_t mno);
struct segment *segment_add(struct spool *spool, uint32_t number);
/* A counted segment with its file open. ERR_NOT_FOUND: recycled. */
MUST_CHECK int segment_ref(
    struct spool *spool, uint32_t number, struct segment **ret_segment);
void segment_unref(struct spool *spool, struct segment *segment);
/* The same for the first one with a number of at least `number`. */
MUST_CHECK int segment_ref_from(
    struct spool *spool, uint32_t number, struct segment **ret_segment);
uint64_t segment_end(struct spool *spool, const struct segment *segment);
/* Messages of a segment gained or lost. */
void segment_count_live(struct spool *spool, uint32_t number, int change);
/* Makes a new segment the active one. The old one ends at the durable lsn. */
MUST_CHECK int segment_rotate(struct spool *spool);
/* A prepared file is ready. */
bool segment_is_prepared(struct spool *spool);
/* None is, and none can be made: what is left is for outcomes. */
bool segment_is_scarce(struct spool *spool);
/* Takes note of the active segment's end. */
void segment_advance(struct spool *spool, uint64_t end);
/* The active segment ends here; the next batch goes to another. */
void segment_seal(struct spool *spool);
void segment_mark_damaged(struct spool *spool, struct segment *segment);
/* A checkpoint has to write the states of its messages anew. */
void segment_touch(struct spool *spool, uint32_t number);
void segment_untouch(struct spool *spool); /* all */
/* Takes over what a catalogue says of it. Returns the serial of a live file
 * that nobody needs any more, or 0. */
uint64_t segment_adopt(struct spool *spool, const struct catalogue_item *item);
/* Copies of all, the log before the copies; mem_free them. */
struct segment *segment_all(struct spool *spool, size_t *ret_count);
/* A message has no live recipient any more. */
void segment_bury(struct spool *spool, const struct slot *slot);
/* Frees what is dead at the front of the log, and what a checkpoint covers. */
void segment_recycle(struct spool *spool);
/* Adds one prewritten file to the pool. */
MUST_CHECK int segment_prepare(struct spool *spool);
void segments_free(struct spool *spool);

/* ---- index.c ----------------------------------------------------------- */

/* Where a message is. 24 bytes; a table is between 7/10 and 7/8 full when it
 * grows, so a message costs 28 to 35 bytes. */
struct slot {
	uint64_t mno; /* 0: empty */
	uint32_t segment;
	uint32_t at; /* offset / FORMAT_ALIGN */
	/* Of the payload; where a body is shared, the handle of that. */
	uint32_t len;
	uint16_t live; /* recipients that are not done */
	uint8_t is_file : 1;
	uint8_t is_shared : 1;
	uint8_t is_damaged : 1; /* found wrong on reading, and set aside */
};

#define INDEX_SHARDS 64

struct index {
	struct index_shard {
		pthread_mutex_t lock;
		struct slot *table;
		size_t size, count;
	} shards[INDEX_SHARDS];
};

void index_init(struct index *index);
void index_done(struct index *index);
/* Replaces one of the same number. */
void index_put(struct index *index, const struct slot *slot);
bool index_get(struct index *index, uint64_t mno, struct slot *ret_slot);
/* Takes n live recipients off; removes the slot with the last. Returns how many
 * there were to take. *ret_slot is as after: live == 0 says that the message
 * is gone. */
uint32_t index_settle(
    struct index *index, uint64_t mno, uint32_t n, struct slot *ret_slot);
/* True when it was not marked before. */
bool index_mark_damaged(struct index *index, uint64_t mno);

enum index_which { INDEX_ALL, INDEX_FILES, INDEX_SHARED };

/* All slots in the order of the log, or only those whose body has a file, or
 * is shared; mem_free them. */
struct slot *index_all(
    struct index *index, enum index_which which, size_t *ret_count);
uint64_t index_bytes(struct index *index);
/* The slot with this place. Looks at all of them. */
bool index_find(
    struct index *index, const struct slot *place, struct slot *ret_slot);
/* The message is in another place from now on. False: it was not at `from`. */
bool index_move(
    struct index *index, const struct slot *from, const struct slot *to);

/* ---- scan.c ------------------------------------------------------------ */

enum found { FOUND_RECORD, FOUND_DAMAGE, FOUND_END };

struct record {
	enum found found;
	uint64_t offset, next;
	struct record_header header; /* of damage, too, if that was good */
	struct span payload; /* until the next call; empty unless wanted */
};

/* Walks the records of one segment. Below `attested` a bad record is damage:
 * it is passed over. From there on it is the end of the log. */
struct scan {
	const struct spool_io *io;
	int file;
	uint32_t segment, seal;
	int32_t epoch; /* -1: that of the first record */
	uint64_t at, end, attested;
	bool is_strict; /* what cannot be read is an error, not damage */
	uint32_t wanted; /* payloads to read and check: 1 << type */
	uint64_t batch_end;
	uint8_t *window;
	size_t window_size, window_len;
	uint64_t window_at;
};

#define SCAN_ALL UINT32_MAX

void scan_init(
    struct scan *scan, const struct spool_io *io, int file, uint32_t seal);
void scan_done(struct scan *scan);
MUST_CHECK int scan_next(struct scan *scan, struct record *ret_record);

/* The largest durable lsn any batch of the segment tells of; also how far the
 * file reaches and the largest next_mno. */
struct scan_tail {
	uint64_t durable_lsn, next_mno, batch_no;
};

MUST_CHECK int scan_tail(
    struct scan *scan, uint64_t size, struct scan_tail *ret_tail);
/* End of the last whole transaction, at least `attested`. */
MUST_CHECK int scan_find_end(struct scan *scan, uint64_t *ret_end);

/* ---- orders.c ---------------------------------------------------------- */

struct standing {
	struct standing *next;
	struct spool_order order; /* its spans are owned */
};

void standing_apply(struct standing **list, const struct spool_order *order);
size_t standing_count(const struct standing *list);
void standing_free(struct standing **list);

/* ---- txn.c ------------------------------------------------------------- */

struct spool_txn {
	struct spool_txn *next;
	struct spool *spool;
	spool_done_fn *done;
	void *arg;
	struct buf message; /* MSG record up to an inline body */
	struct spool_draft *draft;
	uint32_t message_len; /* payload of the MSG record */
	uint32_t inline_len;

	/* The body that the message shares; number 0: none. */
	struct txn_body {
		uint64_t number;
		uint32_t tenant;
		uint32_t len; /* payload */
		bool is_claimed;
		bool is_written; /* before the message, this time */
		uint8_t head[FORMAT_HEADER + FORMAT_BODY];
	} body;

	struct slot slot; /* what the index will get; mno 0: no message */
	struct buf rest; /* other records, whole */
	enum record_type open_type;
	size_t open_at; /* record of rest that takes more items; SIZE_MAX */
	uint32_t records;
	bool has_outcome;
	int error; /* cannot be committed */
	int64_t queued_us; /* monotonic */
};

/* Somebody waits for it. What became of mail is not urgent but always taken,
 * and the report that is told with it: it waits for company, and for room. */
static inline bool
txn_is_urgent(const struct spool_txn *txn)
{
	return txn->done && !txn->has_outcome;
}

/* Nothing more is added: closes the last record, marks the group. */
void txn_seal(struct spool_txn *txn);
/* Tells the submitter and frees. The body's file stays. */
void txn_finish(struct spool_txn *txn, int result);
uint64_t txn_size(const struct spool_txn *txn);
size_t txn_pieces(const struct spool_txn *txn);
/* Fills lsns and checksums of headers, adds its pieces to iov. */
size_t txn_stamp(struct spool_txn *txn, uint64_t lsn, struct iovec *iov);
/* It is going to be written to this segment: decides whether a body that it
 * shares must be written as well, and keeps that alive. */
void txn_claim_body(struct spool_txn *txn, uint32_t segment);
/* It was not written after all. */
void txn_release_body(struct spool_txn *txn);
/* Removes the body file of a transaction that will not be. */
void txn_abandon(struct spool_txn *txn);

typedef void record_fn(void *arg, enum record_type type, struct span payload);
/* Calls fn for every record beside the message. */
void txn_each(const struct spool_txn *txn, record_fn *fn, void *arg);
/* A transaction with every standing order. NULL: there is none. */
struct spool_txn *txn_of_orders(struct spool *spool);

/* ---- commit.c ---------------------------------------------------------- */

enum sleep { SLEEP_AWAKE, SLEEP_DOZING /* lazy work waits */, SLEEP_DEEP };

/* Transactions on their way to a thread, in order. */
struct queue {
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct spool_txn *first, **last;
	enum sleep sleep; /* of the thread that takes */
	bool is_closing;
	bool is_over; /* nobody takes any more */
};

void queue_init(struct queue *queue);
void queue_done(struct queue *queue);
/* Wakes the taker only if it sleeps and this is worth it. False: it is over. */
MUST_CHECK bool queue_push(struct queue *queue, struct spool_txn *txn);
void queue_close(struct queue *queue);
/* To the committer. */
void commit_push(struct spool *spool, struct spool_txn *txn);
/* Tells the submitter that it will not be, and frees. */
void commit_refuse(struct spool_txn *txn, int code);
/* An outcome that is durable. */
void commit_outcome(struct spool *spool, const struct spool_outcome *outcome);
void *commit_thread(void *spool);

/* ---- keeper.c ---------------------------------------------------------- */

void *keeper_thread(void *spool);
void *stager_thread(void *spool);
void stage_push(struct spool *spool, struct spool_txn *txn);
void keeper_measure_space(struct spool *spool);

/* ---- draft.c ----------------------------------------------------------- */

struct draft_chunk {
	struct draft_chunk *next;
	size_t len, capacity;
	char bytes[];
};

struct spool_draft {
	struct spool *spool;
	uint64_t mno;
	uint64_t size;
	uint64_t own; /* octets at the front that no other message has */
	struct draft_chunk *first, *last;
	int error;
	int file; /* -1: in memory */
	char *path;
	uint64_t written; /* octets that are in the file */
	struct buf piece_crcs;
};

/* No more will be written: the file has everything, but is not synced. */
MUST_CHECK int draft_finish(struct spool_draft *draft);
/* Syncs the file and its name; closes it. May take long. */
MUST_CHECK int draft_settle(struct spool_draft *draft);
/* Frees the memory; the file stays. */
void draft_keep(struct spool_draft **draft);

/* ---- recover.c --------------------------------------------------------- */

char *catalogue_path(const struct spool *spool, uint64_t serial);
/* Writes the older of both manifests. */
MUST_CHECK int manifest_write(struct spool *spool, bool is_clean);
/* What must be known before mail is accepted. */
MUST_CHECK int recover_scan(struct spool *spool, struct failure *ret_failure);
bool parse_hex(const char *s, size_t digits, uint64_t *ret_value);

/* ---- quarantine.c ------------------------------------------------------ */

/* Sets bytes of a segment aside and counts them, the first time it is told. */
void quarantine(struct spool *spool, struct segment *segment, uint64_t offset,
    uint64_t len, const char *problem);
/* Counts a file that is not what it should be. */
void quarantine_file(
    struct spool *spool, const char *path, const char *problem);
/* A message that must not be sent. */
void quarantine_message(
    struct spool *spool, const struct slot *slot, const char *problem);
/* A body, and all the messages that share it: none is given out again. */
void quarantine_body(
    struct spool *spool, const struct body *body, const char *problem);
/* What stands at this place must not be sent; the place was set aside. */
void quarantine_place(struct spool *spool, const struct slot *place);

/* ---- fold.c ------------------------------------------------------------ */

/* Outcomes of many messages in the order of the log. */
struct fold {
	struct spool *spool;
	bool live_only; /* of messages in the index, and marks their segments */

	struct fold_item {
		uint64_t mno;
		int64_t due_us;
		uint32_t next; /* of the same message */
		uint16_t first, count;
		uint8_t attempts;
		bool warned, is_end;
	} * items;

	size_t count, capacity;
	uint32_t *heads; /* by number of the message */
	size_t head_count;
};

/* Adds what one segment says. Damage is set aside. */
MUST_CHECK int fold_scan(struct fold *fold, uint32_t number);
/* Nothing more is added: fold_apply may be used. */
void fold_finish(struct fold *fold);
void fold_apply(const struct fold *fold, struct live_entry *entry);
void fold_done(struct fold *fold);

typedef int live_entry_fn(void *arg, struct live_entry *entry);
/* Calls fn for each message of a segment, from its live file or, without a good
 * one, from its records; stops at the first negative code. */
MUST_CHECK int fold_each(
    struct spool *spool, uint32_t number, live_entry_fn *fn, void *arg);
/* Tells the table of the shared bodies that live in a segment. */
MUST_CHECK int fold_bodies(struct spool *spool, uint32_t number);
char *live_path(const struct spool *spool, uint32_t segment, uint64_t serial);
/* Appends all of a file. */
MUST_CHECK int fold_read_file(
    struct spool *spool, const char *path, struct buf *b);

/* ---- load.c ------------------------------------------------------------ */

/* All that spool_recover does. on_message may be NULL. */
MUST_CHECK int load_all(
    struct spool *spool, spool_live_fn *on_message, void *arg);

/* ---- checkpoint.c ------------------------------------------------------ */

void *folder_thread(void *spool);

/* ---- message.c --------------------------------------------------------- */

/* A MSG record in memory. */
struct stored {
	char *bytes;
	size_t size;
	uint32_t len; /* of the payload */
	struct spool_envelope envelope; /* looks into bytes and rcpts */
	struct message_body body;
	struct spool_rcpt *rcpts;
};

/* Reads the record of a slot, without an inline body unless `whole`, which
 * also checks the sum. */
MUST_CHECK int stored_load(struct spool *spool, const struct segment *segment,
    const struct slot *slot, bool whole, struct stored *ret_stored);
void stored_done(struct stored *stored);
/* Opens one without reading a body that it shares: many may share that. */
MUST_CHECK int message_open_own(
    struct spool *spool, uint64_t mno, struct spool_message **ret_message);
/* Reads all of a message as delivery would, but for a shared body. ERR_CORRUPT:
 * it was set aside. */
MUST_CHECK int message_check(struct spool *spool, uint64_t mno);
/* A BODY record, read and checked; hold its segment. mem_free it. */
MUST_CHECK int body_load(struct spool *spool, const struct segment *segment,
    const struct body *body, char **ret_record);
/* Reads a shared body. ERR_CORRUPT: it was set aside. */
MUST_CHECK int body_check(struct spool *spool, const struct body *body);

/* ---- verify.c ---------------------------------------------------------- */

/* Recovery that changes nothing and tells of problems. */
struct verification {
	spool_problem_fn *fn;
	void *arg;
	struct spool_verify_result result;
};

void verify_problem(struct verification *v, const char *file, uint64_t offset,
    const char *problem);
MUST_CHECK int verify_with(
    const struct spool_options *options, struct verification *v);

/* ---- spool.c ----------------------------------------------------------- */

struct spool {
	const struct spool_io *io;
	char *directory;
	struct spool_options options; /* with the defaults filled in */
	int lock_file;
	uint64_t id_key;
	uint32_t seal, epoch;
	uint64_t manifest_serial;
	uint64_t catalogue_serial; /* of the one in force; 0: none */
	uint64_t last_serial; /* the largest that any file had */
	uint64_t first_mno; /* of this process */
	uint32_t first_segment; /* of this process */
	uint32_t next_copies; /* number of the next segment of copies */

	atomic_uint_fast64_t next_mno;
	atomic_uint_fast64_t durable_lsn;
	atomic_uint written_segment; /* the last one this process wrote to */
	atomic_int failed; /* 0 or a negative code */
	atomic_int space; /* enum spool_space by free bytes */
	atomic_int no_room; /* no segment can be had: no message is taken */

	struct segments segments;
	struct index index;
	struct bodies bodies;
	struct recent recent;
	struct queue queue; /* to the committer */
	struct queue stage; /* to the stager */

	/* The committer's alone. */
	struct spool_txn *pending, **pending_last; /* taken off the queue */
	size_t urgent; /* of these: somebody waits */
	size_t company; /* so many waited for the last batch */
	uint64_t lazy_bytes; /* … and nobody */
	int64_t no_room_until_us; /* monotonic; when to try again */
	struct segment *active; /* NULL: the next batch makes one */
	uint32_t next_segment;
	uint64_t tail; /* offset in the active segment */
	uint64_t batch_no;
	int failures; /* batches in a row */
	struct standing *orders;
	struct iovec *iov;

	atomic_bool is_loading; /* until spool_recover has returned */
	atomic_bool is_load_cancelled;
	atomic_bool is_incomplete; /* the catalogue was lost: write a new one */
	atomic_uint load_done, load_total; /* steps */
	atomic_int checkpoint_error; /* of the last one tried */
	atomic_uint_fast64_t checkpoints, messages_moved, scrubbed;
	struct verification *verification; /* NULL: for real */

	pthread_mutex_t event_lock;
	pthread_cond_t event_news;
	uint64_t event_wakes;
	struct map *damage; /* lsns that were told; under event_lock */
	uint64_t unreadable_lsn; /* where a reader failed, … */
	unsigned unreadable_count; /* … so often in a row */
	atomic_uint event_waiters;

	pthread_t committer, keeper, stager, folder;
	bool is_stopped; /* the threads have ended */

	atomic_uint_fast64_t recipients, messages;
	atomic_uint_fast64_t order_count; /* in orders, for looking */
	atomic_uint_fast64_t bytes_written, batches, syncs, transactions;
	atomic_uint_fast64_t sync_us_total, sync_us_max, quarantined;
};

struct spool *spool_new(const struct spool_options *options);
void spool_free(struct spool *spool);
/* Stops the spool for good (until it is opened again). */
void spool_fail(struct spool *spool, int code);
struct superblock spool_superblock(
    const struct spool *spool, enum superblock_kind kind);
void cond_init_monotonic(pthread_cond_t *cond);
/* Waits until woken or `deadline_us` (monotonic) has passed. */
void cond_wait_until(
    pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline_us);
