/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Who goes next, where, and when again. Pure: no clock (time is an argument,
 * monotonic, never going back), no I/O, no globals; one scheduler belongs to
 * one thread. Callbacks given to it must not call into it.
 *
 * A delivery (a run of one message's recipients at one domain) waits in the
 * queue of its tenant, stream, class and domain. Queues whose mail goes to the
 * same place hang under one site, which counts connections. Within a site:
 * transactional before reports before bulk (who waits keeps 1 turn in 20),
 * tenants in turn by recipients, their queues in turn, three fresh for one
 * retry. Every operation on a delivery is O(1), whatever the backlog; what an
 * operator does costs by queues (README.md tells how).
 *
 * A site that cannot be reached is parked: its queues are unlinked and cost
 * nothing; one probe tries again after a growing pause. Where a pool has
 * several sources, each is a way of its own, which is parked, limited and
 * suspended by itself, and they share the mail by weight. Expiry and delay
 * warnings come in time for all waiting mail: held, parked or unresolved.
 *
 * Why pull and not push: ready work is taken by a free connection at the last
 * moment, so there is no second queue whose order could be wrong.
 *
 * The driver's part:
 *
 *   schedule_add          for each recovered or new delivery
 *   schedule_next_want    until SCHEDULE_IDLE; then sleep to
 *                         schedule_next_time or any event of its own
 *     RESOLVE -> schedule_set_site | schedule_resolve_failed
 *     CONNECT -> schedule_connecting at once, then
 *                  schedule_connected, then schedule_take …
 *                | schedule_site_failed, schedule_disconnected(failed)
 *     WAKE    -> schedule_take on .connection at once
 *     WARN, EXPIRE -> a report
 *   schedule_take         true: deliver; each recipient ends in exactly one of
 *                         schedule_done, _defer, _return; then take again
 *                         false: the connection is idle: WAKE may name it
 *   schedule_disconnected whenever a connection is gone, in any state
 *
 * After anything but next_want itself, new wants may stand: ask again.
 */

#include "base/error.h"
#include "base/list.h"
#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct schedule;
/* Good while it has mail, waiting or taken, while its site is being looked up,
 * and otherwise until the next call of schedule_next_want. */
struct schedule_queue;
/* A way to a receiving system, by one of our sources: its connections, limits
 * and failures. Queues of one pool with the same goal share its ways. Good
 * while a queue leads there or a connection belongs to it. */
struct schedule_site;

enum schedule_class {
	SCHEDULE_TRANSACTIONAL,
	SCHEDULE_REPORT,
	SCHEDULE_BULK,
	SCHEDULE_CLASSES,
};

#define SCHEDULE_LEVELS 16

/* At most one each `interval_ns` on average, `burst` at once. */
struct schedule_rate {
	int64_t interval_ns; /* 0: any number */
	uint32_t burst; /* 0: 1 */
};

struct schedule_policy {
	/* After the n-th counted failure; the last one in use repeats. */
	int64_t delay_us[SCHEDULE_LEVELS];
	uint32_t delay_count; /* 1 … SCHEDULE_LEVELS */
	uint32_t jitter_percent; /* 0 … 50 */
	/* Most at one site, of all schedulers that share a ledger; at least 1.
	 * Of those this one may always have site_share (0: all). */
	uint32_t site_connections, site_share;
	uint32_t reserved_connections; /* of those, never for bulk; one is
					  always left to bulk */
	/* A site nothing is known of is opened so far at once; success widens
	 * this window up to site_connections, failure narrows it. 0: none. */
	uint32_t window_first;
	uint32_t connections; /* most at all sites together; 0: any */
	/* Deliveries taken: by all, to a site, to a domain, of a tenant; and
	 * connections opened to a site. */
	struct schedule_rate message_rate, site_message_rate,
	    domain_message_rate, tenant_message_rate, site_connection_rate;
	uint32_t lookups; /* most RESOLVE unanswered at once; 0: 256 */
	/* Parked sites: the pause between probes, doubling. */
	int64_t probe_first_us, probe_max_us;
	/* Connections that failed in a row before a site is parked; 0: 1. */
	uint32_t fail_limit;
};

struct schedule_delivery {
	uint64_t mno;
	uint32_t rcpt_first, rcpt_count; /* < 2^24 each; count at least 1 */
	uint8_t attempts;
	bool warned; /* no delay warning (any more): same as warn_us NEVER */
	/* Monotonic; kept in steps of 66 ms, rounded up. */
	int64_t due_us; /* <= now: fresh, or due at once */
	int64_t warn_us; /* TIME_NEVER: no warning wanted */
	int64_t expire_us; /* TIME_NEVER: never */
};

struct schedule_key {
	uint32_t tenant, stream;
	enum schedule_class class;
	struct span domain; /* lower case; any text, "" included */
};

struct schedule_selector {
	uint32_t tenant, stream; /* 0: any */
	struct span domain; /* empty: any; "*" stands for any octets */
	struct span site; /* name, the same; queues without a site: no */
	uint8_t classes; /* bits 1 << enum schedule_class; 0: any */
};

/* The policy is copied. The seed makes the jitter. */
struct schedule *schedule_new(
    const struct schedule_policy *policy, uint64_t seed);
/* What the schedulers of one process share: how many connections each site has
 * and has proved to bear, and the rates. Counted; any thread. */
struct schedule_ledger;
struct schedule_ledger *schedule_ledger_new(void);
struct schedule_ledger *schedule_ledger_ref(struct schedule_ledger *ledger);
void schedule_ledger_unref(struct schedule_ledger **ledger);

/* What has been learned of a path, to outlive a restart. */
struct schedule_learned {
	struct span name; /* of the ledger's entry; any octets */
	uint32_t window; /* connections; 0: nothing learned */
	int64_t pace, ceiling; /* messages per 10^6 s; 0: nothing learned */
	struct span reply; /* that it was learned from */
};

typedef void schedule_learned_fn(
    void *arg, const struct schedule_learned *learned);
/* Any thread; fn is called with the ledger locked. */
void schedule_ledger_each_learned(
    struct schedule_ledger *ledger, schedule_learned_fn *fn, void *arg);
/* Before mail goes. */
void schedule_ledger_learn(struct schedule_ledger *ledger,
    const struct schedule_learned *learned, int64_t now_us);

/* Before anything else: it shares a ledger (counted) with others. tell(arg) is
 * called by their threads when schedule_next_want should be asked again; it
 * must only hand that over, and work until all of them are freed. */
void schedule_join(struct schedule *s, struct schedule_ledger *ledger,
    void (*tell)(void *arg), void *arg);
/* No site owner is left behind: schedule_on_site_free is called for each. */
void schedule_free(struct schedule **s);
/* A reload: applies to every decision from now on. */
void schedule_set_policy(
    struct schedule *s, const struct schedule_policy *policy);

/* A new, or recovered, delivery, in any order. attempts > 0 or due_us > now:
 * not fresh. */
void schedule_add(struct schedule *s, const struct schedule_key *key,
    const struct schedule_delivery *d, int64_t now_us);

/* ---- what the driver should do ---- */

/* One per connection to a site, a member of the driver's own structure. All of
 * it is the scheduler's; LIST_ENTRY leads from it to its owner. */
struct schedule_connection {
	struct schedule_site *site; /* NULL when not in use */
	struct list link;
	uint8_t state;
	bool is_reserved;
	int64_t taken_us; /* when it got what it carries */
};

enum schedule_want_type {
	/* Nothing before schedule_next_time. */
	SCHEDULE_IDLE,
	/* Find .queue's site; then schedule_set_site or
	 * schedule_resolve_failed. Not asked again meanwhile. */
	SCHEDULE_RESOLVE,
	/* Open a connection to .site: call schedule_connecting before the next
	 * schedule_next_want. */
	SCHEDULE_CONNECT,
	/* .connection was idle, there is work: call schedule_take on it (or
	 * schedule_disconnected). */
	SCHEDULE_WAKE,
	/* .connection is idle, and another scheduler has a right to its place:
	 * call schedule_closing, or schedule_disconnected, at once. */
	SCHEDULE_CLOSE,
	/* .delivery of .queue has waited long: a delay warning is due. It stays
	 * queued; not asked again. */
	SCHEDULE_WARN,
	/* .delivery of .queue is past its time: it has been taken out for good,
	 * nothing must be given back. */
	SCHEDULE_EXPIRE,
};

struct schedule_want {
	enum schedule_want_type type;
	struct schedule_queue *queue;
	struct schedule_site *site;
	struct schedule_connection *connection;
	struct schedule_delivery delivery;
};

/* Call until SCHEDULE_IDLE; bounded work each. Wants that let mail flow come
 * before reports, so a driver may stop early and come back. */
enum schedule_want_type schedule_next_want(
    struct schedule *s, int64_t now_us, struct schedule_want *ret_want);
/* Monotonic time at which the next want may arise, in the past when one does
 * now; TIME_NEVER. */
int64_t schedule_next_time(const struct schedule *s);

/* ---- sites ---- */

/* Answers RESOLVE: the queue's mail goes to the site of this name (any string
 * that names the place: "mx example.com", "lmtp unix:/run/x") until a time,
 * when RESOLVE is asked again. The site is made when there is none; its owner
 * is NULL then: give it one. May be called unasked, to move a queue. The site
 * that the queue had before may be freed in this call. */
struct schedule_site *schedule_set_site(struct schedule *s,
    struct schedule_queue *queue, struct span site_name,
    int64_t valid_until_us);
/* After a reload that changed routes: nothing of matching queues is taken
 * before RESOLVE was asked and answered again; until then they stay with their
 * sites. A look-up under way is not asked again: its answer counts. */
void schedule_look_up_again(
    struct schedule *s, const struct schedule_selector *sel);
#define SCHEDULE_WAYS 64

struct schedule_limits {
	uint32_t connections; /* at least 1; all schedulers together */
	uint32_t share; /* of those, this one's; 0: all */
	uint32_t reserved; /* as reserved_connections of the policy */
	uint32_t window_first;
	struct schedule_rate message_rate, connection_rate;
};

/* One way to a site. */
struct schedule_way {
	struct span source; /* its name; "": the system chooses */
	struct span ledger; /* what shares this name shares the limits */
	uint32_t weight; /* of the mail, relative to other ways; at least 1 */
	bool by_policy; /* the limits are the policy's, now and later */
	struct schedule_limits limits;
};

/* The mail of different pools never shares connections, whatever the name. */
struct schedule_place {
	struct span name; /* of the site, for people and selectors */
	struct span pool; /* or empty */
	/* At most SCHEDULE_WAYS; none: nothing goes. Those that are there, by
	 * source and ledger, get the new limits and weight; what is not named
	 * any more takes no more mail. */
	const struct schedule_way *ways;
	size_t way_count;
};

/* As schedule_set_site, which gives a site one way, with the policy's limits
 * and no source. The owner is one for all ways: NULL when the place is new. */
void schedule_set_place(struct schedule *s, struct schedule_queue *queue,
    const struct schedule_place *place, int64_t valid_until_us);
void *schedule_place_owner(const struct schedule_queue *queue);
void schedule_place_set_owner(struct schedule_queue *queue, void *owner);
/* "" when the system chooses. */
struct span schedule_site_source(const struct schedule_site *site);
/* Nothing goes this way before. */
void schedule_site_suspend(
    struct schedule *s, struct schedule_site *site, int64_t until_us);
/* What the driver keeps with a site (hosts, addresses), for all its ways. */
void *schedule_site_owner(const struct schedule_site *site);
/* fn(owner) is called before a site whose ways have no connections is freed,
 * for owners that are not NULL. */
void schedule_on_site_free(struct schedule *s, void (*fn)(void *owner));
struct span schedule_site_name(const struct schedule_site *site);

typedef void schedule_delivery_fn(
    void *arg, struct schedule_queue *queue, const struct schedule_delivery *d);

/* Answers RESOLVE. Not `permanent`: the queue pauses by the retry schedule, in
 * step with its failures in a row. Only the first in line is deferred (as a
 * counted attempt) and told through fn, to be recorded: a deferral per message
 * and pause would cost by the backlog and say nothing new. The rest stays as
 * it is, and expires if this goes on. Permanent: each delivery that is due is
 * taken out and told; those that wait for a retry see it when they are due. */
void schedule_resolve_failed(struct schedule *s, struct schedule_queue *queue,
    bool permanent, int64_t now_us, schedule_delivery_fn *fn, void *arg);

/* ---- connections ---- */

/* Answers CONNECT: this is the connection being opened. Counts at once. */
void schedule_connecting(struct schedule *s, struct schedule_site *site,
    struct schedule_connection *c);
/* It is usable (after greeting, EHLO and TLS): the site is well; a parked one
 * is linked again. Follow with schedule_take. */
void schedule_connected(
    struct schedule *s, struct schedule_connection *c, int64_t now_us);
/* The next delivery for a connection that is usable and has nothing to do. It
 * is out of the queues until its recipients are given back. False: none now;
 * the connection is idle until a WAKE names it. A delivery may be past its
 * time: it then has its last attempt. */
bool schedule_take(struct schedule *s, struct schedule_connection *c,
    int64_t now_us, struct schedule_queue **ret_queue,
    struct schedule_delivery *ret_delivery);
/* Call before schedule_disconnected(failed) to make it felt: when no other
 * connection to the site is usable, the one delivery that the connection would
 * have taken is deferred, not counted, and told through fn, to be recorded. All
 * others stay as they are. False: nobody was deferred. */
bool schedule_site_failed(struct schedule *s, struct schedule_site *site,
    int64_t now_us, schedule_delivery_fn *fn, void *arg);
/* The site asked us, in a reply, to go slower (421, 4.7.x): the window narrows;
 * `halve` when it spoke of too many connections. */
void schedule_site_pushback(
    struct schedule *s, struct schedule_site *site, bool halve);
/* It said that we send too fast: fewer messages per second from now on, rising
 * again while nothing is said. The reply is kept, to be shown. Known to all
 * that share the ledger; nothing happens below a message per second. */
void schedule_site_slow(struct schedule *s, struct schedule_site *site,
    struct span reply, int64_t now_us);
/* It takes no more and is about to end, politely: it still counts, so that a
 * server that allows n connections never sees one more. schedule_disconnected
 * follows. Give back first what it had taken. */
void schedule_closing(struct schedule *s, struct schedule_connection *c);
/* The connection is gone, whatever its state; give back first what it had
 * taken. failed: it never became usable (could not be opened, or was refused
 * at greeting, EHLO or TLS). With enough failures in a row the site is parked;
 * while other connections are usable, it is only spared new ones for a time.
 * The site may be freed in this call. */
void schedule_disconnected(struct schedule *s, struct schedule_connection *c,
    bool failed, int64_t now_us);

/* ---- giving back what was taken ---- */

/* So many recipients have found their end (delivered, bounced…). */
void schedule_done(
    struct schedule *s, struct schedule_queue *queue, uint32_t rcpt_count);
/* A part of what was taken (same mno, a sub-range of recipients) must be tried
 * again; returns it with the time and the attempts to record. `counts` false:
 * the site failed before the mail was spoken of, the attempt is not the
 * message's. min_delay_us: 0, or a wish of the other side (greylisting), which
 * is granted up to the longest delay. */
struct schedule_delivery schedule_defer(struct schedule *s,
    struct schedule_queue *queue, const struct schedule_delivery *d,
    bool counts, int64_t min_delay_us, int64_t now_us);
/* Gives back untouched, to the front. Only when a connection that had been of
 * use before ended before the mail was spoken of; a new connection that dies
 * at its first mail defers, or this would go round without end. */
void schedule_return(struct schedule *s, struct schedule_queue *queue,
    const struct schedule_delivery *d, int64_t now_us);

/* ---- operators ---- */

/* Held queues keep their mail; expiry still counts. Also holds queues that
 * come into being later: of all holds and releases that match a queue the
 * latest decides. Returns the number of queues matched now. */
size_t schedule_hold(struct schedule *s, const struct schedule_selector *sel,
    struct span reason);
size_t schedule_release(
    struct schedule *s, const struct schedule_selector *sel, int64_t now_us);
/* Everything waiting becomes due now; pauses end, parked sites are tried at
 * once. Held queues stay held. Returns the number of deliveries. */
size_t schedule_retry(
    struct schedule *s, const struct schedule_selector *sel, int64_t now_us);
/* Takes everything that waits of messages below cut_mno out of its queues at
 * once: none of it will go, be warned of or expire. schedule_reap_next tells
 * each, with `tag`. Costs by queues. What is on a connection at this moment is
 * not touched. Returns the number of deliveries (some above the cut, too). */
size_t schedule_reap(struct schedule *s, const struct schedule_selector *sel,
    uint64_t cut_mno, void *tag);
/* At a restart: what such an order had meant joins what is reaped. */
void schedule_add_reaped(struct schedule *s, const struct schedule_key *key,
    const struct schedule_delivery *d, void *tag, int64_t now_us);
/* The next of those, which leaves the scheduler for good. False: none is left.
 * The queue is good for its key until the next call. */
bool schedule_reap_next(struct schedule *s, struct schedule_queue **ret_queue,
    struct schedule_delivery *ret_delivery, void **ret_tag);
/* Everything that waits of messages below cut_mno goes to the queues of another
 * stream of its tenant. Costs by queues. Returns the number of deliveries. */
size_t schedule_move(struct schedule *s, const struct schedule_selector *sel,
    uint64_t cut_mno, uint32_t to_stream, enum schedule_class to_class,
    int64_t now_us);
/* Does a queue of this key match? Without a site. */
bool schedule_selects(
    const struct schedule_selector *sel, const struct schedule_key *key);
/* Takes what waits of one message out, telling each through fn; linear in all
 * that waits, about 10 ns each. */
size_t schedule_remove_message(
    struct schedule *s, uint64_t mno, schedule_delivery_fn *fn, void *arg);
size_t schedule_retry_message(struct schedule *s, uint64_t mno, int64_t now_us);

/* ---- looking ---- */

/* What a queue waits for, the first that applies. */
enum schedule_bound {
	SCHEDULE_BOUND_NOTHING, /* it goes */
	SCHEDULE_BOUND_HOLD,
	SCHEDULE_BOUND_LOOKUP, /* its site is being looked up, or will be */
	SCHEDULE_BOUND_LOOKUP_FAILED,
	SCHEDULE_BOUND_PARKED, /* the site cannot be reached */
	SCHEDULE_BOUND_SCHEDULE, /* no delivery's next attempt is due */
	SCHEDULE_BOUND_MESSAGE_RATE, /* of all mail */
	SCHEDULE_BOUND_TENANT_RATE,
	SCHEDULE_BOUND_DOMAIN_RATE,
	SCHEDULE_BOUND_SITE_RATE,
	SCHEDULE_BOUND_CONNECTION_RATE,
	SCHEDULE_BOUND_ALL_CONNECTIONS,
	SCHEDULE_BOUND_SPARED, /* the site refused one more connection */
	SCHEDULE_BOUND_CONNECTIONS, /* the site has as many as it may */
	SCHEDULE_BOUND_WINDOW, /* … as it has proved to bear */
	SCHEDULE_BOUND_PACE, /* … a rate, that is */
	SCHEDULE_BOUND_NO_SOURCE, /* the pool has none that could be used */
	SCHEDULE_BOUND_SUSPENDED, /* all ways are, for a time */
};

/* "the site cannot be reached", for people. */
const char *schedule_bound_text(enum schedule_bound bound);
/* "a connection ends", for people: what lets it go on. */
const char *schedule_bound_freed_by(enum schedule_bound bound);
/* "parked", for programs. */
const char *schedule_bound_name(enum schedule_bound bound);

struct schedule_queue_facts {
	struct schedule_key key;
	struct span site; /* name, or empty: not known yet */
	uint64_t fresh, retry; /* deliveries waiting */
	uint64_t recipients; /* of those */
	uint64_t in_flight; /* recipients taken and not given back */
	/* When something goes next, if it can: <= now when mail is ready,
	 * TIME_NEVER without any or when held. */
	int64_t next_due_us;
	int64_t oldest_expire_us; /* of the first in each list; TIME_NEVER */
	bool held, parked; /* parked: the site, or the queue's look-up */
	struct span hold_reason;
	struct span last_reply; /* queue's or, later, site's; or empty */
	uint32_t site_connections; /* open or being opened, of all ways */
	/* All schedulers' together, of the way that is named: the one that
	 * binds least. */
	uint32_t site_limit, site_window;
	struct span source, pool;
	int64_t site_pace; /* messages per 10^6 s that it bears; 0: unknown */
	char pace_reply[200]; /* that made the pace */
	void *owner; /* of the place, or NULL */
	enum schedule_bound bound;
	int64_t bound_until_us; /* TIME_NEVER: nobody knows */
};

void schedule_queue_facts(const struct schedule *s,
    const struct schedule_queue *queue, struct schedule_queue_facts *ret_facts);
struct schedule_key schedule_queue_key(const struct schedule_queue *queue);
/* Kept (cut to 500 octets) for queue show and the report at expiry. A site's
 * text stands for all its queues until they have a later one. */
void schedule_queue_set_last_reply(
    struct schedule_queue *queue, struct span text);
void schedule_site_set_last_reply(struct schedule_site *site, struct span text);
struct span schedule_queue_last_reply(const struct schedule_queue *queue);
typedef void schedule_queue_fn(
    void *arg, const struct schedule_queue_facts *facts);
/* Queues without mail (kept for a minute) are left out. */
void schedule_each_queue(const struct schedule *s,
    const struct schedule_selector *sel, schedule_queue_fn *fn, void *arg);
/* Waiting deliveries of matching queues, roughly in order of going, at most
 * `limit`. Returns the number told. */
size_t schedule_each_delivery(const struct schedule *s,
    const struct schedule_selector *sel, size_t limit, schedule_delivery_fn *fn,
    void *arg);

struct schedule_stats {
	uint64_t queues, sites, sites_parked;
	uint64_t connections;
	uint64_t deliveries; /* waiting */
	uint64_t recipients; /* waiting and in flight */
	uint64_t in_flight; /* recipients taken and not given back */
	uint64_t reaped; /* deliveries that schedule_reap_next will tell */
	uint64_t bytes; /* memory of deliveries and queues */
};

void schedule_stats(const struct schedule *s, struct schedule_stats *ret_stats);
