/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "spool/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define COUNT 20000u

/* Against an array that says how many recipients each number has left. */
static void
test_model(void **state)
{
	uint16_t *AUTO_FREE live = mem_zalloc((COUNT + 1) * sizeof *live);
	uint64_t random = 7;
	struct index index;
	struct slot slot = { 0 };

	(void)state;
	index_init(&index);
	assert_false(index_get(&index, 5, &slot));
	assert_int_equal(0, index_settle(&index, 5, 1, &slot));
	for (uint32_t i = 0; i < 8 * COUNT; i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		uint64_t mno = 1 + (random >> 20) % COUNT;
		uint16_t n = (uint16_t)(1 + (random >> 50) % 3);

		if (live[mno] == 0) {
			live[mno] = n;
			slot = (struct slot){
				.mno = mno, .segment = (uint32_t)mno, .live = n
			};
			index_put(&index, &slot);
			continue;
		}
		uint32_t taken = index_settle(&index, mno, n, &slot);
		assert_int_equal(n < live[mno] ? n : live[mno], taken);
		live[mno] = (uint16_t)(live[mno] - taken);
		assert_int_equal(live[mno], slot.live);
		assert_int_equal(mno, slot.segment);
	}
	for (uint64_t mno = 1; mno <= COUNT; mno++) {
		assert_int_equal(live[mno] > 0, index_get(&index, mno, &slot));
		if (live[mno] > 0)
			assert_int_equal(live[mno], slot.live);
	}
	index_done(&index);
}

static void
test_all_in_order_of_log(void **state)
{
	struct index index;
	size_t count;

	(void)state;
	index_init(&index);
	for (uint32_t i = 0; i < 1000; i++) {
		struct slot slot = {
			.mno = 1000 - i,
			.segment = 1 + i / 100,
			.at = i % 100,
			.live = 1,
		};
		index_put(&index, &slot);
	}
	struct slot *all = index_all(&index, INDEX_ALL, &count);
	assert_int_equal(1000, count);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(1000 - i, all[i].mno);
	mem_free(all);
	index_done(&index);
}

static void
test_memory_per_message(void **state)
{
	struct index index;

	(void)state;
	assert_int_equal(24, sizeof(struct slot));
	index_init(&index);
	for (uint64_t i = 1; i <= 5 * COUNT; i++) {
		struct slot slot = { .mno = i, .live = 1 };
		index_put(&index, &slot);
	}
	assert_in_range(index_bytes(&index) / (5 * COUNT), 24, 60);
	index_done(&index);
}

static void
test_damage_is_news_once(void **state)
{
	struct slot slot = { .mno = 3, .live = 1 };
	struct index index;

	(void)state;
	index_init(&index);
	assert_false(index_mark_damaged(&index, 3));
	index_put(&index, &slot);
	assert_true(index_mark_damaged(&index, 3));
	assert_false(index_mark_damaged(&index, 3));
	assert_true(index_get(&index, 3, &slot));
	assert_true(slot.is_damaged);
	index_done(&index);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_all_in_order_of_log),
		cmocka_unit_test(test_memory_per_message),
		cmocka_unit_test(test_damage_is_news_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
