/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the schedulers of one process share: how many connections each site has,
 * how many at once it has proved to bear, and when it, a tenant or all of us
 * may send again. Any thread; the lock is a leaf. Still pure: time is an
 * argument, and nothing is done by itself.
 *
 * A site is known by its name. Each scheduler may always have its part of the
 * site's connections, and as many of the others' as are free; who wants one of
 * his own part gets it from those who have more, one at a time, or is the next
 * when one ends. Where the window is narrow, so are the parts. What was
 * learned of a site is kept for a day after nobody uses it.
 */

#include "base/list.h"
#include "base/span.h"
#include "schedule/schedule.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* GCRA: the theoretical arrival time of the next one, nothing else. */
struct bucket {
	atomic_int_fast64_t next_ns;
};

/* False, and when to ask again. */
bool bucket_take(struct bucket *bucket, const struct schedule_rate *rate,
    int64_t now_us, int64_t *ret_at_us);
/* What was taken is not used after all. */
void bucket_give(struct bucket *bucket, const struct schedule_rate *rate);

struct bucket *ledger_all(struct schedule_ledger *ledger);
struct bucket *ledger_tenant(struct schedule_ledger *ledger, uint32_t tenant);

/* A scheduler's end of it. */
struct ledger_member {
	void (*tell)(void *arg); /* by any thread; NULL: nobody sleeps */
	void *arg;
	atomic_bool has_news;
	struct list news; /* the ledger's */
};

void ledger_member_init(
    struct ledger_member *member, void (*tell)(void *arg), void *arg);

/* What all schedulers know of a site. */
struct ledger_site;

/* A scheduler's part in a site. */
struct ledger_share {
	struct list link, news_link;
	struct ledger_member *member;
	struct ledger_site *site;
	const atomic_uint *owed; /* the site's shares that are, for a glance */
	const atomic_int_fast64_t *pace; /* the site's, the same */
	bool waits; /* was refused */
	uint32_t own; /* its part when it last asked */
	/* Its own thread may read these. */
	bool is_owed; /* was refused within its own part */
	uint32_t held, yielding; /* connections; of those, about to be given */
};

struct ledger_limits {
	uint32_t connections; /* at the site, all together */
	uint32_t reserved; /* of those, not for bulk */
	uint32_t own; /* what this scheduler may always have */
	uint32_t window_first; /* 0: no window */
};

void ledger_open(struct schedule_ledger *ledger, struct span name,
    struct ledger_member *member, int64_t now_us,
    struct ledger_share *ret_share);
void ledger_close(struct ledger_share *share, int64_t now_us);
/* A share that was refused and may ask again, or that may have to yield. NULL:
 * no more. */
struct ledger_share *ledger_news(
    struct schedule_ledger *ledger, struct ledger_member *member);

enum ledger_answer { LEDGER_YES, LEDGER_WINDOW, LEDGER_FULL };

/* One more connection. If not, the member is told when to ask again. */
enum ledger_answer ledger_take(struct ledger_share *share,
    const struct ledger_limits *limits, bool is_reserved);
/* Not wanted any more, if it was owed one. */
void ledger_waive(struct ledger_share *share);
/* It is there already. */
void ledger_force(struct ledger_share *share, bool is_reserved);
void ledger_give(struct ledger_share *share, bool is_reserved);
/* Should one of its connections go to somebody else? Cheap. */
bool ledger_may_yield(
    const struct ledger_share *share, const struct ledger_limits *limits);
/* The same; then it must be closed. */
bool ledger_yields(
    struct ledger_share *share, const struct ledger_limits *limits);

/* How many connections at once the site bears, as far as known; at least 1. */
uint32_t ledger_window(
    const struct ledger_share *share, const struct ledger_limits *limits);
/* Cheap while the window is fully open. */
void ledger_success(
    struct ledger_share *share, const struct ledger_limits *limits);
void ledger_failure(
    struct ledger_share *share, const struct ledger_limits *limits, bool halve);
/* ---- the pace ---- */

/* Messages per 10^6 seconds that the site bears, as far as known; 0: any. It
 * rises by being asked, once a second, while it is made use of. */
int64_t ledger_pace(
    const struct ledger_share *share, bool is_used, int64_t now_us);
/* Too fast, says the reply; `measured` is how fast we were. */
void ledger_slow(const struct ledger_share *share, int64_t measured,
    struct span reply, int64_t now_us);
/* The reply that made it, cut to fit. */
void ledger_pace_reply(
    const struct ledger_share *share, char *buffer, size_t size);

struct bucket *ledger_messages(const struct ledger_share *share);
struct bucket *ledger_connections(const struct ledger_share *share);
