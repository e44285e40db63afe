/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the tests of the scheduler share: a policy, short ways to add and take,
 * and a driver that answers look-ups and connections at once. */

#include "base/hash.h"
#include "base/time.h"
#include "schedule/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define START_US (100 * US_PER_DAY)
#define TICK_US 65536

#define POLICY                                                                 \
	{                                                                      \
		.delay_us = { US_PER_MIN, 5 * US_PER_MIN, 15 * US_PER_MIN,     \
			US_PER_HOUR },                                         \
		.delay_count = 4, .jitter_percent = 5, .site_connections = 4,  \
		.probe_first_us = 30 * US_PER_S,                               \
		.probe_max_us = 30 * US_PER_MIN, .fail_limit = 3,              \
	}

static inline struct schedule_key
key_of(uint32_t tenant, enum schedule_class class, const char *domain)
{
	return (struct schedule_key){ tenant, 1, class, span_of(domain) };
}

static inline void
add(struct schedule *s, struct schedule_key key, uint64_t mno, int64_t now_us)
{
	schedule_add(s, &key,
	    &(struct schedule_delivery){ .mno = mno,
		.rcpt_count = 1,
		.due_us = now_us,
		.warn_us = TIME_NEVER,
		.expire_us = now_us + 5 * US_PER_DAY },
	    now_us);
}

/* Answers look-ups (every domain is a site of its own) until a CONNECT comes,
 * and makes that connection usable. */
static inline void
connect_one(struct schedule *s, struct schedule_connection *c, int64_t now_us)
{
	struct schedule_want want;

	for (;;) {
		enum schedule_want_type type =
		    schedule_next_want(s, now_us, &want);
		if (type == SCHEDULE_RESOLVE) {
			(void)schedule_set_site(s, want.queue,
			    schedule_queue_key(want.queue).domain,
			    now_us + 100 * US_PER_DAY);
			continue;
		}
		assert_int_equal(type, SCHEDULE_CONNECT);
		break;
	}
	schedule_connecting(s, want.site, c);
	schedule_connected(s, c, now_us);
}

/* The message that goes next, or 0. */
static inline uint64_t
take(struct schedule *s, struct schedule_connection *c, int64_t now_us,
    struct schedule_queue **ret_queue, struct schedule_delivery *ret_d)
{
	struct schedule_queue *q = NULL;
	struct schedule_delivery d = { 0 };

	(void)schedule_take(s, c, now_us, &q, &d);
	if (ret_queue)
		*ret_queue = q;
	if (ret_d)
		*ret_d = d;
	return d.mno;
}

static inline uint64_t
deliver(struct schedule *s, struct schedule_connection *c, int64_t now_us)
{
	struct schedule_queue *q;
	struct schedule_delivery d;

	if (!schedule_take(s, c, now_us, &q, &d))
		return 0;
	schedule_done(s, q, d.rcpt_count);
	return d.mno;
}

static inline void
expect_idle(struct schedule *s, int64_t now_us)
{
	struct schedule_want want;

	assert_int_equal(schedule_next_want(s, now_us, &want), SCHEDULE_IDLE);
}

struct told {
	size_t count;
	struct schedule_delivery last;
};

static inline void
on_told(
    void *arg, struct schedule_queue *queue, const struct schedule_delivery *d)
{
	struct told *told = arg;

	(void)queue;
	told->count++;
	told->last = *d;
}

static inline size_t
reap_all(struct schedule *s, const struct schedule_selector *sel,
    schedule_delivery_fn *fn, void *arg)
{
	struct schedule_queue *q;
	struct schedule_delivery d;
	void *tag;
	size_t count = 0;

	(void)schedule_reap(s, sel, UINT64_MAX, NULL);
	for (; schedule_reap_next(s, &q, &d, &tag); count++)
		fn(arg, q, &d);
	return count;
}
