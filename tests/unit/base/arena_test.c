/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* clang-format on */

static void
test_alignment_and_zeroes(void **state)
{
	(void)state;
	struct arena *arena = arena_new();
	for (size_t size = 0; size < 300; size++) {
		unsigned char *p = arena_alloc(arena, size);
		assert_int_equal((uintptr_t)p % 16, 0);
		for (size_t i = 0; i < size; i++)
			assert_int_equal(p[i], 0);
		memset(p, 0xaa, size);
	}
	arena_free(&arena);
	assert_null(arena);
	arena_free(&arena);
}

static void
test_pieces_do_not_overlap(void **state)
{
	(void)state;
	struct arena *arena = arena_new();
	unsigned char *pieces[400];
	for (int i = 0; i < 400; i++) {
		pieces[i] = arena_alloc(arena, 700);
		memset(pieces[i], i & 0xff, 700);
	}
	for (int i = 0; i < 400; i++)
		for (int k = 0; k < 700; k++)
			assert_int_equal(pieces[i][k], i & 0xff);
	arena_free(&arena);
}

static void
test_reset(void **state)
{
	(void)state;
	struct arena *arena = arena_new();
	char *first = arena_alloc(arena, 64);
	memset(first, 'x', 64);
	memset(arena_alloc(arena, 1000000), 'y', 1000000);
	assert_true(arena_used(arena) >= 1000064);
	arena_reset(arena);
	assert_int_equal(arena_used(arena), 0);
	char *again = arena_alloc(arena, 64);
	assert_ptr_equal(again, first);
	assert_int_equal(again[5], 0);
	arena_free(&arena);
}

static void
test_texts(void **state)
{
	(void)state;
	struct arena *arena = arena_new();
	struct span s = arena_dup(arena, SPAN("a\0b"));
	assert_int_equal(s.len, 3);
	assert_memory_equal(s.ptr, "a\0b", 4);
	assert_string_equal(arena_strdup(arena, SPAN_EMPTY), "");
	struct span p = arena_printf(arena, "<%s@%d>", "x", 5);
	assert_true(span_eq(p, SPAN("<x@5>")));
	assert_int_equal(p.ptr[p.len], 0);
	struct span wide = arena_printf(arena, "%70000d", 1);
	assert_int_equal(wide.len, 70000);
	int *numbers = ARENA_ARRAY(arena, int, 10);
	assert_int_equal(numbers[9], 0);
	arena_free(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alignment_and_zeroes),
		cmocka_unit_test(test_pieces_do_not_overlap),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_texts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
