/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One reactor: readiness (epoll, level-triggered), timers, and work posted by
 * other threads. A loop belongs to the thread that runs it; all functions but
 * loop_post and loop_stop are for that thread only. Callbacks must not block.
 *
 * Owners embed loop_watch and loop_timer; the loop owns nothing. A callback
 * may unwatch or free any watch, its own included: events of this turn for a
 * watch that is gone are dropped.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_watch;
struct loop_timer;
struct loop_item;

enum loop_events { LOOP_READ = 1, LOOP_WRITE = 2 };

/* `events` are of LOOP_*; errors and hang-ups are reported as both. */
typedef void loop_ready_fn(struct loop_watch *watch, unsigned events);
typedef void loop_timer_fn(struct loop_timer *timer);
typedef void loop_item_fn(struct loop_item *item);

struct loop_watch {
	loop_ready_fn *on_ready;
	int fd;
	unsigned events; /* asked for; 0 keeps the watch but silent */
	struct loop *loop; /* NULL while not watched */
	uint32_t slot; /* the loop's own */
};

struct loop_timer {
	loop_timer_fn *on_time;
	int64_t due_us; /* monotonic */
	struct loop *loop; /* NULL while not set */
	uint32_t position; /* the loop's own */
};

/* Work for another thread; must stay valid until it has run. */
struct loop_item {
	loop_item_fn *run;
	struct loop_item *next; /* the loop's own */
};

MUST_CHECK int loop_new(struct loop **ret_loop);
void loop_free(struct loop **loop);
/* Runs until loop_stop. */
MUST_CHECK int loop_run(struct loop *loop);
/* One turn: waits at most max_wait_us (TIME_NEVER: for ever). */
MUST_CHECK int loop_turn(struct loop *loop, int64_t max_wait_us);
void loop_stop(struct loop *loop); /* any thread, or a signal handler */

/* Monotonic time at the start of this turn: cheap. */
int64_t loop_now_us(const struct loop *loop);
/* Wall time at the start of this turn. */
int64_t loop_wall_us(const struct loop *loop);
/* When the last turn began, readable by a watchdog in another thread. */
int64_t loop_last_turn_us(const struct loop *loop);

MUST_CHECK int loop_watch_fd(
    struct loop *loop, struct loop_watch *watch, int fd, unsigned events);
/* Changes the events asked for; free of system calls when unchanged. */
void loop_watch_events(struct loop_watch *watch, unsigned events);
void loop_unwatch(struct loop_watch *watch); /* harmless when not watched */

/* Sets or moves. Equal times fire in the order they were set. */
void loop_timer_set(
    struct loop *loop, struct loop_timer *timer, int64_t due_us);
void loop_timer_clear(struct loop_timer *timer); /* harmless when not set */

/* Any thread: runs item on the loop's thread, in the order posted by each
 * thread. One eventfd write per burst, not per item. */
void loop_post(struct loop *loop, struct loop_item *item);
/* This thread: runs item at the end of the current turn, after all readiness
 * callbacks: the safe place to free a session from inside its own callback. */
void loop_defer(struct loop *loop, struct loop_item *item);
