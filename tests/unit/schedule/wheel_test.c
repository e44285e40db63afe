/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"
#include "schedule/internal.h"

/* Takes all whose time has come, placing the spread ones again, and checks
 * each against the tick it was placed for. */
static unsigned
collect(struct wheel *w, struct slab *slab, uint32_t now)
{
	unsigned count = 0;

	for (;;) {
		uint32_t i = w->heads[WHEEL_SPREAD];
		if (i != NONE) {
			wheel_remove(w, slab, i);
			wheel_place(w, slab, i, slab_at(slab, i)->due);
			continue;
		}
		i = w->heads[WHEEL_READY];
		if (i != NONE) {
			struct delivery *d = slab_at(slab, i);
			assert_true(d->due <= w->now);
			wheel_remove(w, slab, i);
			d->due = TICK_NEVER;
			count++;
			continue;
		}
		if (!wheel_advance(w, slab, now))
			break;
	}
	assert_int_equal(w->now, now);
	return count;
}

static uint32_t
slot_new(struct slab *slab, uint32_t tick)
{
	uint32_t i = slab_take(slab);

	*slab_at(slab, i) = (struct delivery){
		.due = tick, .wheel_next = NONE, .wheel_prev = NONE
	};
	return i;
}

static void
nothing_is_early_or_late(void **state)
{
	enum { COUNT = 20000 };
	struct slab slab = { .free_head = NONE };
	struct wheel *w = malloc(sizeof *w);
	uint64_t random = 42;
	(void)state;

	assert_non_null(w);
	wheel_init(w);
	for (unsigned i = 0; i < COUNT; i++) {
		random = hash_mix(random);
		/* From a second to a month: both rings and beyond. */
		uint32_t tick = (uint32_t)(random >> 8) &
				((UINT32_C(16) << random % 21) - 1);
		wheel_place(w, &slab, slot_new(&slab, tick), tick);
	}
	unsigned total = 0;
	for (uint32_t now = 0; total < COUNT; now += now / 7 + 1) {
		assert_true(now < UINT32_C(1) << 30);
		total += collect(w, &slab, now);
		for (uint32_t i = 0; i < COUNT; i++)
			assert_true(slab_at(&slab, i)->due > now);
	}
	assert_int_equal(total, COUNT);
	assert_true(wheel_next_tick(w) == UINT64_MAX);
	slab_done(&slab);
	free(w);
}

static void
next_tick_is_where_something_happens(void **state)
{
	static const uint32_t ticks[] = { 1, 2, 1023, 1024, 1025, 2048, 4095,
		1000000, 8191 * 1024, 8192 * 1024, 9000 * 1024 };
	struct slab slab = { .free_head = NONE };
	struct wheel *w = malloc(sizeof *w);
	(void)state;

	assert_non_null(w);
	for (size_t n = 0; n < sizeof ticks / sizeof *ticks; n++) {
		wheel_init(w);
		wheel_place(w, &slab, slot_new(&slab, ticks[n]), ticks[n]);
		unsigned found = 0, steps = 0;
		while (!found) {
			uint64_t next = wheel_next_tick(w);
			assert_true(next > w->now && next <= ticks[n]);
			found = collect(w, &slab, (uint32_t)next);
			steps++;
		}
		assert_int_equal(w->now, ticks[n]);
		assert_true(steps <= 3);
	}
	slab_done(&slab);
	free(w);
}

static void
removal_leaves_the_others(void **state)
{
	struct slab slab = { .free_head = NONE };
	struct wheel *w = malloc(sizeof *w);
	uint32_t i[5];
	(void)state;

	assert_non_null(w);
	wheel_init(w);
	for (unsigned n = 0; n < 5; n++) {
		i[n] = slot_new(&slab, 77);
		wheel_place(w, &slab, i[n], 77);
	}
	wheel_remove(w, &slab, i[4]); /* head */
	wheel_remove(w, &slab, i[2]); /* middle */
	wheel_remove(w, &slab, i[0]); /* last */
	wheel_remove(w, &slab, i[0]); /* harmless */
	assert_int_equal(wheel_next_tick(w), 77);
	assert_int_equal(collect(w, &slab, 100), 2);
	wheel_place(w, &slab, i[0], 200);
	wheel_remove(w, &slab, i[0]);
	assert_true(wheel_next_tick(w) == UINT64_MAX);
	slab_done(&slab);
	free(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_early_or_late),
		cmocka_unit_test(next_tick_is_where_something_happens),
		cmocka_unit_test(removal_leaves_the_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
