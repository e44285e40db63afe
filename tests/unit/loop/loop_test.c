/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/loop.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
/* clang-format on */

#include "base/bug.h"
#include "base/mem.h"
#include "base/time.h"
#include "os/clock.h"

static struct loop *
new_loop(void)
{
	struct loop *loop = NULL;

	assert_int_equal(loop_new(&loop), 0);
	return loop;
}

static void
turn(struct loop *loop)
{
	assert_int_equal(loop_turn(loop, 0), 0);
}

/* --- readiness ------------------------------------------------------- */

struct end {
	struct loop_watch watch;
	int fd, other;
	unsigned seen;
	int calls;
	struct end *victim; /* unwatched by the callback */
	struct end *heir; /* watched by the callback */
};

static void
on_ready(struct loop_watch *watch, unsigned events)
{
	struct end *end = (struct end *)(void *)watch;

	end->seen = events;
	end->calls++;
	if (end->victim)
		loop_unwatch(&end->victim->watch);
	if (end->heir && !end->heir->watch.loop)
		BUG_UNLESS(loop_watch_fd(end->watch.loop, &end->heir->watch,
			       end->heir->fd, LOOP_READ) == 0);
}

static void
end_init(struct end *end)
{
	int fds[2];

	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	*end = (struct end){ .fd = fds[0], .other = fds[1] };
	end->watch.on_ready = on_ready;
}

static void
end_done(struct end *end)
{
	loop_unwatch(&end->watch);
	close(end->fd);
	if (end->other >= 0)
		close(end->other);
}

static void
make_readable(struct end *end)
{
	assert_int_equal(write(end->other, "x", 1), 1);
}

static void
test_readiness(void **state)
{
	(void)state;
	struct loop *loop = new_loop();
	struct end end;
	end_init(&end);
	assert_int_equal(loop_watch_fd(loop, &end.watch, end.fd, LOOP_READ), 0);
	turn(loop);
	assert_int_equal(end.calls, 0);
	make_readable(&end);
	turn(loop);
	assert_int_equal(end.seen, LOOP_READ);
	turn(loop); /* level-triggered: said again until it is read */
	assert_int_equal(end.calls, 2);
	loop_watch_events(&end.watch, LOOP_READ | LOOP_WRITE);
	turn(loop);
	assert_int_equal(end.seen, LOOP_READ | LOOP_WRITE);
	loop_watch_events(&end.watch, LOOP_WRITE);
	turn(loop);
	assert_int_equal(end.seen, LOOP_WRITE);
	loop_unwatch(&end.watch);
	loop_unwatch(&end.watch);
	turn(loop);
	assert_int_equal(end.calls, 4);
	end_done(&end);
	loop_free(&loop);
	assert_null(loop);
	loop_free(&loop);
}

static void
test_hang_up(void **state)
{
	(void)state;
	struct loop *loop = new_loop();
	struct end end;
	end_init(&end);
	assert_int_equal(loop_watch_fd(loop, &end.watch, end.fd, LOOP_READ), 0);
	loop_watch_events(&end.watch, 0);
	close(end.other);
	end.other = -1;
	turn(loop);
	assert_int_equal(end.calls, 0);
	/* Silent, and not spinning either. */
	int64_t before = clock_monotonic_us();
	turn(loop);
	assert_int_equal(loop_turn(loop, 20 * US_PER_MS), 0);
	assert_true(clock_monotonic_us() - before >= 15 * US_PER_MS);
	assert_int_equal(end.calls, 0);
	loop_watch_events(&end.watch, LOOP_READ);
	turn(loop);
	assert_int_equal(end.calls, 1);
	assert_int_equal(end.seen, LOOP_READ | LOOP_WRITE);
	end_done(&end);
	loop_free(&loop);
}

/* Both are ready in one turn, and each would remove the other. */
static void
test_unwatch_in_turn(void **state)
{
	(void)state;
	struct loop *loop = new_loop();
	struct end a, b;
	end_init(&a);
	end_init(&b);
	a.victim = &b;
	b.victim = &a;
	assert_int_equal(loop_watch_fd(loop, &a.watch, a.fd, LOOP_READ), 0);
	assert_int_equal(loop_watch_fd(loop, &b.watch, b.fd, LOOP_READ), 0);
	make_readable(&a);
	make_readable(&b);
	turn(loop);
	assert_int_equal(a.calls + b.calls, 1);
	end_done(&a);
	end_done(&b);
	loop_free(&loop);
}

/* The slot of the removed watch is used again within the turn: the old
 * event must not reach the new watch. */
static void
test_reused_slot(void **state)
{
	(void)state;
	struct loop *loop = new_loop();
	struct end a, b, heir;
	end_init(&a);
	end_init(&b);
	end_init(&heir);
	a.victim = &b;
	b.victim = &a;
	a.heir = b.heir = &heir;
	assert_int_equal(loop_watch_fd(loop, &a.watch, a.fd, LOOP_READ), 0);
	assert_int_equal(loop_watch_fd(loop, &b.watch, b.fd, LOOP_READ), 0);
	uint32_t slots[] = { a.watch.slot, b.watch.slot };
	make_readable(&a);
	make_readable(&b);
	turn(loop);
	assert_int_equal(heir.watch.slot, a.calls ? slots[1] : slots[0]);
	assert_int_equal(heir.calls, 0);
	make_readable(&heir);
	turn(loop);
	assert_int_equal(heir.calls, 1);
	end_done(&a);
	end_done(&b);
	end_done(&heir);
	loop_free(&loop);
}

static void
free_self(struct loop_watch *watch, unsigned events)
{
	(void)events;
	loop_unwatch(watch);
	close(watch->fd);
	mem_free(watch);
}

static void
test_free_in_callback(void **state)
{
	(void)state;
	struct loop *loop = new_loop();
	int fds[2];
	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	struct loop_watch *watch = MEM_NEW(struct loop_watch);
	watch->on_ready = free_self;
	assert_int_equal(
	    loop_watch_fd(loop, watch, fds[0], LOOP_READ | LOOP_WRITE), 0);
	turn(loop);
	turn(loop);
	close(fds[1]);
	loop_free(&loop);
}

static void
test_many_watches(void **state)
{
	(void)state;

	enum { COUNT = 300 }; /* more than one batch and one growth */
	static struct end ends[COUNT];
	struct loop *loop = new_loop();
	for (int i = 0; i < COUNT; i++) {
		end_init(&ends[i]);
		assert_int_equal(
		    loop_watch_fd(loop, &ends[i].watch, ends[i].fd, LOOP_WRITE),
		    0);
	}
	for (int i = 0; i < 4; i++)
		turn(loop);
	for (int i = 0; i < COUNT; i++)
		assert_true(ends[i].calls >= 1);
	assert_int_equal(
	    loop_watch_fd(loop, &(struct loop_watch){ .on_ready = on_ready },
		-1, LOOP_READ),
	    -EBADF);
	loop_free(&loop); /* with the watches still in it */
	assert_null(ends[0].watch.loop);
	for (int i = 0; i < COUNT; i++)
		end_done(&ends[i]);
}

/* --- timers ---------------------------------------------------------- */

static char fired[64];

struct letter {
	struct loop_timer timer;
	char name;
	int again; /* how often it sets itself to the past */
	struct loop *home;
};

static void
on_time(struct loop_timer *timer)
{
	struct letter *letter = (struct letter *)(void *)timer;
	size_t len = strlen(fired);

	BUG_UNLESS(len + 1 < sizeof fired && !timer->loop);
	fired[len] = letter->name;
	fired[len + 1] = '\0';
}

static void
on_time_again(struct loop_timer *timer)
{
	struct letter *letter = (struct letter *)(void *)timer;

	on_time(timer);
	if (letter->again-- > 0)
		loop_timer_set(letter->home, timer, 0);
}

static void
test_timer_order(void **state)
{
	(void)state;
	struct loop *loop = new_loop();
	struct letter l[6];
	int64_t now = loop_now_us(loop);
	fired[0] = '\0';
	for (int i = 0; i < 6; i++)
		l[i] = (struct letter){ .timer.on_time = on_time,
			.name = (char)('a' + i) };
	loop_timer_set(loop, &l[0].timer, now + 300);
	loop_timer_set(loop, &l[1].timer, now + 100);
	loop_timer_set(loop, &l[2].timer, now + 200);
	loop_timer_set(loop, &l[3].timer, now + 200);
	loop_timer_set(loop, &l[4].timer, now + 50);
	loop_timer_set(loop, &l[4].timer, now + 400); /* moved */
	loop_timer_set(loop, &l[5].timer, now + 150);
	loop_timer_clear(&l[5].timer);
	loop_timer_clear(&l[5].timer);
	assert_null(l[5].timer.loop);
	while (strlen(fired) < 5)
		assert_int_equal(loop_turn(loop, TIME_NEVER), 0);
	assert_string_equal(fired, "bcdae");
	assert_true(loop_now_us(loop) >= now + 400);
	loop_free(&loop);
}

static void
test_equal_times(void **state)
{
	(void)state;

	enum { COUNT = 50 };
	struct loop *loop = new_loop();
	struct letter l[COUNT];
	char expected[COUNT + 1] = "";
	fired[0] = '\0';
	for (int i = 0; i < COUNT; i++) {
		l[i] = (struct letter){ .timer.on_time = on_time,
			.name = (char)('0' + i) };
		expected[i] = l[i].name;
		loop_timer_set(loop, &l[i].timer, 0);
	}
	turn(loop);
	assert_string_equal(fired, expected);
	loop_free(&loop);
}

/* One that sets itself to the past runs once a turn and starves nobody. */
static void
test_no_starvation(void **state)
{
	(void)state;

	struct loop *loop = new_loop();
	struct letter greedy = { .timer.on_time = on_time_again,
		.name = 'g',
		.again = 20,
		.home = loop };
	struct letter meek = { .timer.on_time = on_time, .name = 'm' };
	fired[0] = '\0';
	loop_timer_set(loop, &greedy.timer, 0);
	turn(loop);
	assert_string_equal(fired, "g");
	loop_timer_set(loop, &meek.timer, loop_now_us(loop) + 1);
	while (clock_monotonic_us() <= loop_now_us(loop) + 2)
		continue;
	turn(loop);
	turn(loop);
	assert_non_null(strchr(fired, 'm'));
	loop_free(&loop);
	assert_null(greedy.timer.loop);
}

static int heap_calls;
static int64_t heap_last_us;

static void
on_heap_time(struct loop_timer *timer)
{
	BUG_UNLESS(timer->due_us >= heap_last_us);
	heap_last_us = timer->due_us;
	heap_calls++;
}

static void
test_random_timers(void **state)
{
	(void)state;

	enum { COUNT = 2000 };
	static struct loop_timer timers[COUNT];
	struct loop *loop = new_loop();
	uint32_t random = 7;
	int expected = 0;
	int64_t base = loop_now_us(loop);
	for (int step = 0; step < 5 * COUNT; step++) {
		random = random * 1664525 + 1013904223;
		struct loop_timer *timer = &timers[(random >> 8) % COUNT];
		timer->on_time = on_heap_time;
		if (random >> 30 == 0)
			loop_timer_clear(timer);
		else
			loop_timer_set(
			    loop, timer, base + 1 + (random >> 16) % 5000);
	}
	for (int i = 0; i < COUNT; i++)
		expected += timers[i].loop != NULL;
	while (heap_calls < expected)
		assert_int_equal(loop_turn(loop, TIME_NEVER), 0);
	assert_int_equal(heap_calls, expected);
	loop_free(&loop);
}

static void
test_waits_for_timer(void **state)
{
	(void)state;
	struct loop *loop = new_loop();
	struct letter l = { .timer.on_time = on_time, .name = 'w' };
	fired[0] = '\0';
	int64_t due = clock_monotonic_us() + 5 * US_PER_MS;
	loop_timer_set(loop, &l.timer, due);
	int turns = 0;
	for (; !*fired; turns++)
		assert_int_equal(loop_turn(loop, TIME_NEVER), 0);
	assert_true(turns <= 3);
	assert_true(clock_monotonic_us() >= due);
	assert_int_equal(loop_last_turn_us(loop), loop_now_us(loop));
	int64_t off = loop_wall_us(loop) - clock_wall_us();
	assert_true(off > -US_PER_S * 60 && off < US_PER_S * 60);
	loop_free(&loop);
}

/* --- items ----------------------------------------------------------- */

enum { POSTERS = 4, POSTS = 3000 };

struct post {
	struct loop_item item;
	struct poster *poster;
	int number;
};

struct poster {
	struct loop *loop;
	struct post *posts;
	int next; /* on the loop's thread */
	int *left;
};

static void
on_post(struct loop_item *item)
{
	struct post *post = (struct post *)(void *)item;
	struct poster *poster = post->poster;

	BUG_UNLESS(post->number == poster->next);
	poster->next++;
	if (--*poster->left == 0)
		loop_stop(poster->loop);
}

static void *
post_all(void *argument)
{
	struct poster *poster = argument;

	for (int i = 0; i < POSTS; i++) {
		poster->posts[i] = (struct post){
			.item.run = on_post, .poster = poster, .number = i
		};
		loop_post(poster->loop, &poster->posts[i].item);
	}
	return NULL;
}

static void
test_posts_from_threads(void **state)
{
	(void)state;
	struct loop *loop = new_loop();
	pthread_t threads[POSTERS];
	struct poster posters[POSTERS];
	int left = POSTERS * POSTS;
	for (int i = 0; i < POSTERS; i++) {
		posters[i] = (struct poster){ .loop = loop,
			.left = &left,
			.posts = mem_alloc(sizeof(struct post) * POSTS) };
		assert_int_equal(
		    pthread_create(&threads[i], NULL, post_all, &posters[i]),
		    0);
	}
	assert_int_equal(loop_run(loop), 0);
	for (int i = 0; i < POSTERS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(posters[i].next, POSTS);
		mem_free(posters[i].posts);
	}
	loop_free(&loop);
}

static int items_run;
static struct loop *items_loop;

static void
on_item(struct loop_item *item)
{
	items_run++;
	if (items_run == 1)
		loop_defer(items_loop, item);
}

static void
defer_from_callback(struct loop_watch *watch, unsigned events)
{
	static struct loop_item item = { .run = on_item };

	(void)events;
	loop_unwatch(watch);
	loop_defer(items_loop, &item);
	BUG_UNLESS(items_run == 0); /* not before this callback returns */
}

static void
test_defer(void **state)
{
	(void)state;
	struct end end;
	items_loop = new_loop();
	end_init(&end);
	end.watch.on_ready = defer_from_callback;
	assert_int_equal(
	    loop_watch_fd(items_loop, &end.watch, end.fd, LOOP_WRITE), 0);
	assert_int_equal(loop_turn(items_loop, TIME_NEVER), 0);
	assert_int_equal(items_run, 1);
	/* Deferred again from a deferred one: the next turn does not sleep. */
	assert_int_equal(loop_turn(items_loop, TIME_NEVER), 0);
	assert_int_equal(items_run, 2);
	end_done(&end);
	loop_free(&items_loop);
}

static void
on_signal(int number)
{
	(void)number;
	loop_stop(items_loop);
}

static void *
send_signal(void *argument)
{
	(void)usleep(5000);
	(void)kill(getpid(), SIGUSR1);
	return argument;
}

static void
test_stop_by_signal(void **state)
{
	(void)state;
	pthread_t thread;
	struct sigaction action = { .sa_handler = on_signal };
	items_loop = new_loop();
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, send_signal, NULL), 0);
	assert_int_equal(loop_run(items_loop), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	/* Stopped before it runs: returns at once, and only once. */
	loop_stop(items_loop);
	assert_int_equal(loop_run(items_loop), 0);
	(void)signal(SIGUSR1, SIG_DFL);
	loop_free(&items_loop);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_readiness),
		cmocka_unit_test(test_hang_up),
		cmocka_unit_test(test_unwatch_in_turn),
		cmocka_unit_test(test_reused_slot),
		cmocka_unit_test(test_free_in_callback),
		cmocka_unit_test(test_many_watches),
		cmocka_unit_test(test_timer_order),
		cmocka_unit_test(test_equal_times),
		cmocka_unit_test(test_no_starvation),
		cmocka_unit_test(test_random_timers),
		cmocka_unit_test(test_waits_for_timer),
		cmocka_unit_test(test_posts_from_threads),
		cmocka_unit_test(test_defer),
		cmocka_unit_test(test_stop_by_signal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
