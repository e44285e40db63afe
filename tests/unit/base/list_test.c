/* SPDX-License-Identifier: Apache-2.0 */
#include "base/list.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* clang-format on */

struct member {
	int number;
	struct list link;
};

static int
sum_in_order(struct list *head)
{
	int digits = 0;

	LIST_FOR_EACH(link, head)
		digits =
		    digits * 10 + LIST_ENTRY(link, struct member, link)->number;
	return digits;
}

static void
test_order(void **state)
{
	(void)state;
	struct list head;
	struct member m[4] = { { .number = 1 }, { .number = 2 },
		{ .number = 3 }, { .number = 4 } };
	list_init(&head);
	assert_true(list_is_empty(&head));
	list_append(&head, &m[1].link);
	list_append(&head, &m[2].link);
	list_prepend(&head, &m[0].link);
	list_append(&head, &m[3].link);
	assert_int_equal(sum_in_order(&head), 1234);
	list_remove(&m[1].link);
	list_remove(&m[1].link);
	assert_int_equal(sum_in_order(&head), 134);
	LIST_FOR_EACH_SAFE(link, &head)
		list_remove(link);
	assert_true(list_is_empty(&head));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
