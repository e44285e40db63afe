/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */

#include "base/mem.h"

static void
test_put_get_remove(void **state)
{
	(void)state;
	struct map *map = map_new();
	int a, b;
	char key[] = "key";
	assert_null(map_get(map, SPAN("key")));
	assert_null(map_put(map, span_of(key), &a));
	key[0] = 'x'; /* the key was copied */
	assert_ptr_equal(map_get(map, SPAN("key")), &a);
	assert_ptr_equal(map_put(map, SPAN("key"), &b), &a);
	assert_int_equal(map_count(map), 1);
	assert_null(map_put(map, SPAN_EMPTY, &a));
	assert_ptr_equal(map_get(map, SPAN("")), &a);
	assert_null(map_put(map, SPAN("a\0b"), &a));
	assert_null(map_get(map, SPAN("a\0c")));
	assert_null(map_get(map, SPAN("a")));
	assert_ptr_equal(map_remove(map, SPAN("key")), &b);
	assert_null(map_remove(map, SPAN("key")));
	assert_int_equal(map_count(map), 2);
	map_free(&map, NULL);
	assert_null(map);
	map_free(&map, NULL);
}

/* Against an array as the model, with much coming and going. */
static void
test_churn(void **state)
{
	(void)state;

	enum { KEYS = 500 };
	struct map *map = map_new();
	static char values[KEYS];
	bool present[KEYS] = { false };
	size_t count = 0;
	uint32_t random = 1;

	for (int step = 0; step < 60000; step++) {
		random = random * 1664525 + 1013904223;
		unsigned k = (random >> 8) % KEYS;
		bool is_put = random >> 31;
		void *before = is_put ? map_put_u64(map, k, &values[k])
				      : map_remove_u64(map, k);
		assert_ptr_equal(before, present[k] ? &values[k] : NULL);
		count += (size_t)is_put - (size_t)present[k];
		present[k] = is_put;
		assert_int_equal(map_count(map), count);
	}
	for (unsigned k = 0; k < KEYS; k++)
		assert_ptr_equal(
		    map_get_u64(map, k), present[k] ? &values[k] : NULL);
	map_free(&map, NULL);
}

static void
test_large_numbers(void **state)
{
	(void)state;
	struct map *map = map_new();
	int x, y;
	map_put_u64(map, 0, &x);
	map_put_u64(map, UINT64_MAX, &y);
	assert_ptr_equal(map_get_u64(map, 0), &x);
	assert_ptr_equal(map_get_u64(map, UINT64_MAX), &y);
	assert_null(map_get_u64(map, 1));
	map_free(&map, NULL);
}

/* Each entry is seen once although the current one is removed. */
static void
test_iterate_and_remove(void **state)
{
	(void)state;

	enum { KEYS = 1000 };
	struct map *map = map_new();
	bool is_seen[KEYS] = { false };
	for (unsigned i = 0; i < KEYS; i++) {
		char key[16];
		(void)snprintf(key, sizeof key, "key-%u", i);
		map_put(map, span_of(key), &is_seen[i]);
	}
	struct map_cursor cursor = { 0 };
	size_t count = 0;
	while (map_next(map, &cursor)) {
		bool *seen = cursor.value;
		char key[16];
		(void)snprintf(
		    key, sizeof key, "key-%u", (unsigned)(seen - is_seen));
		assert_true(span_eq(cursor.key, span_of(key)));
		assert_false(*seen);
		*seen = true;
		if (count++ % 2)
			assert_ptr_equal(map_remove(map, cursor.key), seen);
	}
	assert_int_equal(count, KEYS);
	assert_int_equal(map_count(map), KEYS / 2);
	map_free(&map, NULL);
}

static void
test_free_values(void **state)
{
	(void)state;
	struct map *map = map_new();
	for (uint64_t i = 0; i < 100; i++)
		map_put_u64(map, i, mem_alloc(10));
	mem_free(map_remove_u64(map, 50));
	map_free(&map, mem_free); /* the leak check is the assertion */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_get_remove),
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_large_numbers),
		cmocka_unit_test(test_iterate_and_remove),
		cmocka_unit_test(test_free_values),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
