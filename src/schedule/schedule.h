/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Who goes next, where, and when again. Pure: no clock (time is an argument,
 * monotonic), no I/O, no globals; one scheduler belongs to one thread.
 *
 * A delivery (a run of one message's recipients at one domain) waits in the
 * queue of its tenant, stream and domain. A queue has one FIFO of fresh mail
 * and one FIFO per retry level; a level has one delay, so appending keeps it
 * sorted and every operation is O(1). Queues hold timers, deliveries never.
 *
 * Queues whose mail goes to the same place hang under one site, which counts
 * connections. The driver asks in turn: schedule_next_want tells what it should
 * do (resolve a queue's domain, open a connection to a site, warn, expire);
 * a connection with room calls schedule_take. Within a site: transactional
 * before reports before bulk (bulk keeps a small share, so that it cannot
 * starve), tenants in turn, their queues in turn, three fresh for one retry.
 *
 * A site that keeps failing is parked: its queues are unlinked and cost
 * nothing; one probe tries again after a growing pause.
 *
 * Why pull and not push: ready work is taken by a free connection at the last
 * moment, so there is no second queue whose order could be wrong.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/span.h"

struct schedule;
struct schedule_queue; /* opaque; stable while non-empty or referenced */
struct schedule_site;

enum schedule_class { SCHEDULE_TRANSACTIONAL, SCHEDULE_REPORT, SCHEDULE_BULK, SCHEDULE_CLASSES };

#define SCHEDULE_LEVELS 16

struct schedule_policy {
	int64_t delay_us[SCHEDULE_LEVELS]; /* the last one in use repeats */
	uint32_t delay_count;
	uint32_t jitter_percent;
	uint32_t site_connections;   /* most at one site */
	uint32_t reserved_connections; /* of those, never for bulk */
	int64_t probe_first_us, probe_max_us; /* parked sites: 30 s … 30 min */
	uint32_t fail_limit;         /* connections failed in a row before parking */
};

struct schedule_delivery {
	uint64_t mno;
	uint32_t rcpt_first, rcpt_count;
	uint8_t attempts;
	bool warned;          /* no delay warning (any more) */
	int64_t due_us;       /* monotonic; <= now: fresh or due at once */
	int64_t warn_us;      /* monotonic; TIME_NEVER: no warning wanted */
	int64_t expire_us;    /* monotonic */
};

struct schedule_key {
	uint32_t tenant, stream;
	enum schedule_class class;
	struct span domain;
};

struct schedule *schedule_new(const struct schedule_policy *policy, uint64_t seed);
void schedule_free(struct schedule **s);
/* A reload: applies to every decision from now on. */
void schedule_set_policy(struct schedule *s, const struct schedule_policy *policy);

/* A new, or recovered, delivery. */
void schedule_add(struct schedule *s, const struct schedule_key *key, const struct schedule_delivery *d, int64_t now_us);

/* ---- what the driver should do ------------------------------------------- */

enum schedule_want_type {
	SCHEDULE_IDLE,    /* nothing until schedule_next_time */
	SCHEDULE_RESOLVE, /* find .queue's site; then schedule_set_site or
			     schedule_resolve_failed. Not asked again meanwhile */
	SCHEDULE_CONNECT, /* open a connection to .site; then schedule_connected,
			     _disconnected. Counted as open from now on */
	SCHEDULE_WARN,    /* .delivery of .queue has waited long: a delay warning
			     is due. Stays queued; not asked again */
	SCHEDULE_EXPIRE,  /* .delivery of .queue is past its time: taken out */
};

struct schedule_want {
	enum schedule_want_type type;
	struct schedule_queue *queue;
	struct schedule_site *site;
	struct schedule_delivery delivery;
};

/* Call until SCHEDULE_IDLE; bounded work each. */
enum schedule_want_type schedule_next_want(struct schedule *s, int64_t now_us, struct schedule_want *ret_want);
/* Monotonic time at which the next want may arise; TIME_NEVER. */
int64_t schedule_next_time(const struct schedule *s);

/* The queue's mail goes to the site of this name (any string that names the
 * place: "mx example.com", "lmtp unix:/run/x"), valid until a time. `owner` is
 * kept with the site for the driver; when the site exists the old owner is
 * handed back in *ret_old_owner for the driver to free or keep. */
struct schedule_site *schedule_set_site(struct schedule *s, struct schedule_queue *queue, struct span site_name, int64_t valid_until_us);
void *schedule_site_owner(const struct schedule_site *site);
void schedule_site_set_owner(struct schedule_site *site, void *owner);
/* Called before a site that has no queues and no connections is forgotten. */
void schedule_on_site_free(struct schedule *s, void (*fn)(void *owner));
struct span schedule_site_name(const struct schedule_site *site);

/* The domain cannot be resolved now: every delivery that is due is deferred as
 * a failed attempt would be. The driver is given each through fn, in order to
 * record it; with `permanent` each is taken out instead. */
typedef void schedule_delivery_fn(void *arg, struct schedule_queue *queue, const struct schedule_delivery *d);
void schedule_resolve_failed(struct schedule *s, struct schedule_queue *queue, bool permanent, int64_t now_us, schedule_delivery_fn *fn, void *arg);

/* The next delivery for an open, idle connection, or false: none now. It is
 * out of the queues until schedule_done. `reserved` connections get no bulk. */
bool schedule_take(struct schedule *s, struct schedule_site *site, int64_t now_us, struct schedule_queue **ret_queue, struct schedule_delivery *ret_delivery);
/* A part of what was taken has found its end (delivered, bounced…). */
void schedule_done(struct schedule *s, struct schedule_queue *queue, uint32_t rcpt_count);
/* A part of what was taken must be tried again; gives the time (monotonic) and
 * the attempts to record. `counts` false: the site failed before the mail was
 * spoken of, the attempt is not the message's. min_delay_us: 0, or a hint. */
struct schedule_delivery schedule_defer(struct schedule *s, struct schedule_queue *queue, const struct schedule_delivery *d, bool counts, int64_t min_delay_us, int64_t now_us);
/* Gives back untouched: goes to the front (a connection died before use). */
void schedule_return(struct schedule *s, struct schedule_queue *queue, const struct schedule_delivery *d, int64_t now_us);

/* A connection that SCHEDULE_CONNECT asked for is usable: the site is well. */
void schedule_connected(struct schedule *s, struct schedule_site *site, int64_t now_us);
/* It ended. failed: it could not be opened or was refused at the greeting. */
void schedule_disconnected(struct schedule *s, struct schedule_site *site, bool failed, int64_t now_us);
/* The site is unreachable for now (all hosts refused): each due delivery is
 * deferred as a site failure and told through fn; then the site is parked. */
void schedule_site_failed(struct schedule *s, struct schedule_site *site, int64_t now_us, schedule_delivery_fn *fn, void *arg);

/* ---- operators ------------------------------------------------------------ */

struct schedule_selector {
	uint32_t tenant, stream; /* 0: any */
	struct span domain;      /* empty: any; "*.example.com" */
};

/* Held queues keep their mail; expiry still counts. Also holds queues that
 * come into being later. Returns the number of queues matched now. */
size_t schedule_hold(struct schedule *s, const struct schedule_selector *sel, struct span reason);
size_t schedule_release(struct schedule *s, const struct schedule_selector *sel, int64_t now_us);
/* Everything waiting becomes due now; parked sites are tried at once. Returns
 * the number of deliveries. */
size_t schedule_retry(struct schedule *s, const struct schedule_selector *sel, int64_t now_us);
/* Takes everything waiting out, telling each through fn. What is on a
 * connection at this moment is not touched. Returns the number. */
size_t schedule_remove(struct schedule *s, const struct schedule_selector *sel, schedule_delivery_fn *fn, void *arg);
/* The same for one message (linear in the queues that match). */
size_t schedule_remove_message(struct schedule *s, uint64_t mno, schedule_delivery_fn *fn, void *arg);
size_t schedule_retry_message(struct schedule *s, uint64_t mno, int64_t now_us);

/* ---- looking --------------------------------------------------------------- */

struct schedule_queue_facts {
	struct schedule_key key;
	struct span site;       /* name, or empty: not known yet */
	uint64_t fresh, retry, in_flight; /* deliveries */
	int64_t next_due_us, oldest_expire_us;
	bool held, parked;
	struct span hold_reason;
	struct span last_reply; /* the latest deferral's text */
	uint32_t site_connections;
	uint32_t site_limit;
};

void schedule_queue_facts(const struct schedule *s, const struct schedule_queue *queue, struct schedule_queue_facts *ret_facts);
struct schedule_key schedule_queue_key(const struct schedule_queue *queue);
/* Kept (cut to 500 octets) for queue show. */
void schedule_queue_set_last_reply(struct schedule_queue *queue, struct span text);
typedef void schedule_queue_fn(void *arg, const struct schedule_queue_facts *facts);
void schedule_each_queue(const struct schedule *s, const struct schedule_selector *sel, schedule_queue_fn *fn, void *arg);
/* Waiting deliveries of matching queues, in order of going, at most `limit`. */
size_t schedule_each_delivery(const struct schedule *s, const struct schedule_selector *sel, size_t limit, schedule_delivery_fn *fn, void *arg);

struct schedule_stats {
	uint64_t queues, sites, sites_parked;
	uint64_t deliveries, recipients; /* waiting and in flight */
	uint64_t in_flight;
	uint64_t bytes; /* memory of deliveries and queues */
};
void schedule_stats(const struct schedule *s, struct schedule_stats *ret_stats);
