/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/loop.h"

#include "base/bug.h"
#include "base/mem.h"
#include "base/time.h"
#include "loop/internal.h"
#include "os/clock.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
	BATCH = 256,
	NO_SLOT = UINT32_MAX, /* also the wake descriptor's tag */
};

/* The kernel gives back slot and generation. A slot's generation changes when
 * its watch leaves, so an event that was fetched before finds nobody. */
struct slot {
	struct loop_watch *watch; /* NULL: free */
	unsigned armed; /* events the kernel was asked for */
	uint32_t generation;
	uint32_t next_free;
};

struct loop {
	int epoll_fd, wake_fd;
	struct slot *slots;
	uint32_t slot_count, first_free;
	struct timer_heap timers;
	struct loop_item *deferred, **deferred_end;
	int64_t now_us, wall_us;
	_Atomic(struct loop_item *) posted; /* newest first */
	atomic_bool is_stopped;
	_Atomic int64_t last_turn_us;
	struct epoll_event events[BATCH];
};

static void
read_clocks(struct loop *loop)
{
	loop->now_us = clock_monotonic_us();
	loop->wall_us = clock_wall_us();
	atomic_store_explicit(
	    &loop->last_turn_us, loop->now_us, memory_order_relaxed);
}

static int
open_descriptors(struct loop *loop)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = NO_SLOT };

	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		return -errno;
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0)
		return -errno;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) < 0)
		return -errno;
	return 0;
}

int
loop_new(struct loop **ret_loop)
{
	struct loop *loop = MEM_NEW(struct loop);

	loop->epoll_fd = loop->wake_fd = -1;
	loop->first_free = NO_SLOT;
	loop->deferred_end = &loop->deferred;
	read_clocks(loop);
	int result = open_descriptors(loop);
	if (result < 0) {
		loop_free(&loop);
		return result;
	}
	*ret_loop = loop;
	return 0;
}

void
loop_free(struct loop **ptr)
{
	struct loop *loop = *ptr;

	if (!loop)
		return;
	/* Owners that live longer may still unwatch and clear. */
	for (uint32_t i = 0; i < loop->slot_count; i++)
		if (loop->slots[i].watch)
			loop->slots[i].watch->loop = NULL;
	timer_heap_done(&loop->timers);
	if (loop->epoll_fd >= 0)
		(void)close(loop->epoll_fd);
	if (loop->wake_fd >= 0)
		(void)close(loop->wake_fd);
	mem_free(loop->slots);
	mem_free(loop);
	*ptr = NULL;
}

int64_t
loop_now_us(const struct loop *loop)
{
	return loop->now_us;
}

int64_t
loop_wall_us(const struct loop *loop)
{
	return loop->wall_us;
}

int64_t
loop_last_turn_us(const struct loop *loop)
{
	return atomic_load_explicit(&loop->last_turn_us, memory_order_relaxed);
}

/* --- readiness ------------------------------------------------------- */

static struct epoll_event
event_for(const struct loop_watch *watch, const struct slot *slot)
{
	struct epoll_event event = {
		.data.u64 = (uint64_t)slot->generation << 32 | watch->slot,
	};

	if (watch->events & LOOP_READ)
		event.events |= EPOLLIN;
	if (watch->events & LOOP_WRITE)
		event.events |= EPOLLOUT;
	/* Hang-ups are reported even when nothing is asked for: once only. */
	if (!event.events)
		event.events = EPOLLONESHOT;
	return event;
}

static uint32_t
take_slot(struct loop *loop)
{
	if (loop->first_free == NO_SLOT) {
		uint32_t before = loop->slot_count;
		uint32_t after = before ? before * 2 : 64;
		BUG_UNLESS(after > before && after < NO_SLOT);
		loop->slots =
		    mem_resize(loop->slots, after, sizeof *loop->slots);
		for (uint32_t i = before; i < after; i++)
			loop->slots[i] = (struct slot){ .next_free = i + 1 };
		loop->slots[after - 1].next_free = NO_SLOT;
		loop->first_free = before;
		loop->slot_count = after;
	}
	uint32_t slot = loop->first_free;
	loop->first_free = loop->slots[slot].next_free;
	return slot;
}

static void
release_slot(struct loop *loop, uint32_t slot)
{
	loop->slots[slot].watch = NULL;
	loop->slots[slot].generation++;
	loop->slots[slot].next_free = loop->first_free;
	loop->first_free = slot;
}

int
loop_watch_fd(
    struct loop *loop, struct loop_watch *watch, int fd, unsigned events)
{
	BUG_UNLESS(watch->on_ready && !watch->loop);
	watch->fd = fd;
	watch->events = events;
	watch->slot = take_slot(loop);
	struct slot *slot = &loop->slots[watch->slot];
	struct epoll_event event = event_for(watch, slot);
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		int result = -errno;
		release_slot(loop, watch->slot);
		return result;
	}
	slot->watch = watch;
	slot->armed = events;
	watch->loop = loop;
	return 0;
}

static void
arm(struct loop_watch *watch)
{
	struct slot *slot = &watch->loop->slots[watch->slot];
	struct epoll_event event = event_for(watch, slot);

	/* Fails only for a descriptor closed or never watched. */
	BUG_UNLESS(epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_MOD, watch->fd,
		       &event) == 0);
	slot->armed = watch->events;
}

void
loop_watch_events(struct loop_watch *watch, unsigned events)
{
	BUG_UNLESS(watch->loop);
	unsigned armed = watch->loop->slots[watch->slot].armed;
	watch->events = events;
	/* Not to be told of input can wait until there is some: mostly it is
	 * asked for again before that. Room for output there is at once. */
	if ((events & ~armed) || (armed & ~events & LOOP_WRITE))
		arm(watch);
}

void
loop_unwatch(struct loop_watch *watch)
{
	struct loop *loop = watch->loop;

	if (!loop)
		return;
	/* Fails when the owner closed the descriptor first: gone as well. */
	(void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	release_slot(loop, watch->slot);
	watch->loop = NULL;
}

static void
drain_wake(struct loop *loop)
{
	uint64_t count;

	/* EAGAIN: another turn took it. */
	if (read(loop->wake_fd, &count, sizeof count) < 0)
		BUG_UNLESS(errno == EAGAIN || errno == EINTR);
}

/* The kernel goes on telling of it, turn after turn. */
static bool
is_unwanted(const struct loop_watch *watch, const struct epoll_event *event)
{
	bool reads = watch->events & LOOP_READ;

	return !watch->events || (!reads && (event->events & EPOLLIN));
}

static void
dispatch(struct loop *loop, const struct epoll_event *event)
{
	uint32_t index = (uint32_t)event->data.u64;
	uint32_t generation = (uint32_t)(event->data.u64 >> 32);
	unsigned ready = 0;

	if (index == NO_SLOT) {
		drain_wake(loop);
		return;
	}
	const struct slot *slot = &loop->slots[index];
	struct loop_watch *watch = slot->watch;
	/* An earlier callback of this turn may have changed its mind. */
	if (!watch || slot->generation != generation)
		return;
	if (watch->events != slot->armed && is_unwanted(watch, event))
		arm(watch);
	if (!watch->events)
		return;
	if (event->events & EPOLLIN)
		ready |= LOOP_READ;
	if (event->events & EPOLLOUT)
		ready |= LOOP_WRITE;
	ready &= watch->events;
	if (event->events & (EPOLLERR | EPOLLHUP))
		ready = LOOP_READ | LOOP_WRITE;
	if (ready)
		watch->on_ready(watch, ready);
}

/* --- timers ---------------------------------------------------------- */

void
loop_timer_set(struct loop *loop, struct loop_timer *timer, int64_t due_us)
{
	BUG_UNLESS(timer->on_time);
	BUG_UNLESS(!timer->loop || timer->loop == loop);
	if (timer->loop)
		timer_heap_remove(&loop->timers, timer);
	timer->loop = loop;
	timer->due_us = due_us;
	/* What is overdue queues behind what was due before: a timer that is
	 * set to the past again and again must not starve the others. */
	timer_heap_add(&loop->timers, timer,
	    due_us > loop->now_us ? due_us : loop->now_us);
}

void
loop_timer_clear(struct loop_timer *timer)
{
	if (!timer->loop)
		return;
	timer_heap_remove(&timer->loop->timers, timer);
	timer->loop = NULL;
}

static void
run_timers(struct loop *loop)
{
	/* Those set from here on wait for the next turn. */
	uint64_t limit = loop->timers.next_sequence;

	while (loop->timers.count) {
		const struct timer_entry *first = &loop->timers.entries[0];
		if (first->due_us > loop->now_us || first->sequence >= limit)
			return;
		struct loop_timer *timer = first->timer;
		loop_timer_clear(timer);
		timer->on_time(timer);
	}
}

/* --- work from other threads, and for later -------------------------- */

static void
wake(struct loop *loop)
{
	static const uint64_t one = 1;
	int saved = errno;

	/* EAGAIN means the counter is full: awake enough. */
	if (write(loop->wake_fd, &one, sizeof one) < 0)
		BUG_UNLESS(errno == EAGAIN || errno == EINTR);
	errno = saved;
}

void
loop_post(struct loop *loop, struct loop_item *item)
{
	struct loop_item *head =
	    atomic_load_explicit(&loop->posted, memory_order_relaxed);

	BUG_UNLESS(item->run);
	do
		item->next = head;
	while (!atomic_compare_exchange_weak_explicit(&loop->posted, &head,
	    item, memory_order_release, memory_order_relaxed));
	/* Whoever fills an empty list wakes the loop for all that follow. */
	if (!head)
		wake(loop);
}

static void
run_items(struct loop_item *item)
{
	while (item) {
		struct loop_item *next = item->next; /* it may free itself */
		item->run(item);
		item = next;
	}
}

static void
run_posted(struct loop *loop)
{
	/* The wake descriptor was drained before, never after: what is posted
	 * from here on makes it readable again. */
	struct loop_item *newest =
	    atomic_exchange_explicit(&loop->posted, NULL, memory_order_acquire);
	struct loop_item *oldest = NULL;

	while (newest) {
		struct loop_item *next = newest->next;
		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	run_items(oldest);
}

void
loop_defer(struct loop *loop, struct loop_item *item)
{
	BUG_UNLESS(item->run);
	item->next = NULL;
	*loop->deferred_end = item;
	loop->deferred_end = &item->next;
}

static void
run_deferred(struct loop *loop)
{
	struct loop_item *first = loop->deferred;

	loop->deferred = NULL;
	loop->deferred_end = &loop->deferred;
	run_items(first);
}

/* --- turns ----------------------------------------------------------- */

static int
wait_ms(const struct loop *loop, int64_t max_wait_us)
{
	if (loop->deferred || max_wait_us <= 0)
		return 0;
	int64_t wait_us = max_wait_us;
	if (loop->timers.count) {
		/* The clock again: callbacks took time since now_us. */
		int64_t due_us =
		    loop->timers.entries[0].due_us - clock_monotonic_us();
		if (due_us < wait_us)
			wait_us = due_us;
	}
	if (wait_us <= 0)
		return 0;
	if (wait_us == TIME_NEVER)
		return -1;
	/* Rounded up, or the last millisecond would be spent spinning. */
	int64_t ms = wait_us / US_PER_MS + (wait_us % US_PER_MS != 0);
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

int
loop_turn(struct loop *loop, int64_t max_wait_us)
{
	int count = epoll_wait(
	    loop->epoll_fd, loop->events, BATCH, wait_ms(loop, max_wait_us));

	if (count < 0 && errno != EINTR)
		return -errno;
	read_clocks(loop);
	for (int i = 0; i < count; i++)
		dispatch(loop, &loop->events[i]);
	run_timers(loop);
	run_posted(loop);
	run_deferred(loop);
	return 0;
}

int
loop_run(struct loop *loop)
{
	int result = 0;

	while (result == 0 && !atomic_load(&loop->is_stopped))
		result = loop_turn(loop, TIME_NEVER);
	atomic_store(&loop->is_stopped, false);
	return result;
}

void
loop_stop(struct loop *loop)
{
	atomic_store(&loop->is_stopped, true);
	wake(loop);
}
