/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Orders as words: + hold, - release, tenant, stream, domain. */
static const struct {
	const char *given, *standing;
} cases[] = {
	{ "+10a", "+10a" },
	{ "+10a +10a", "+10a" },
	{ "+10a -10a", "" },
	{ "-10a", "" },
	{ "+10a +10b -10a", "+10b" },
	{ "+10a +10b -10*", "" },
	{ "+10a +20a -00*", "" },
	{ "+10* -10a", "+10* -10a" },
	{ "+10* -10a -10a", "+10* -10a" },
	{ "+10* -10a +10a", "+10* +10a" },
	{ "+10* -10a -10*", "" },
	{ "+00* -10a -20*", "+00* -10a -20*" },
	{ "+00* -10a -10*", "+00* -10*" },
	{ "+10a -20a", "+10a" },
	{ "+11a -12a", "+11a" },
	{ "+11a -10a", "" },
	{ "+10* -10a +10*", "+10*" },
	{ "+10a +10*", "+10a +10*" },
};

static struct spool_order
parse(const char *word)
{
	return (struct spool_order){
		.kind = word[0] == '+' ? SPOOL_ORDER_HOLD : SPOOL_ORDER_RELEASE,
		.tenant = (uint32_t)(word[1] - '0'),
		.stream = (uint32_t)(word[2] - '0'),
		.domain = word[3] == '*' ? SPAN_EMPTY : span_from(word + 3, 1),
		.reason = SPAN("reason"),
	};
}

static void
print(const struct standing *list, char *text, size_t size)
{
	size_t at = 0;

	text[0] = '\0';
	for (; list; list = list->next) {
		const struct spool_order *o = &list->order;

		assert_true(span_eq(SPAN("reason"), o->reason));
		at += (size_t)snprintf(text + at, size - at, "%s%c%u%u%c",
		    at ? " " : "", o->kind == SPOOL_ORDER_HOLD ? '+' : '-',
		    o->tenant, o->stream,
		    o->domain.len ? o->domain.ptr[0] : '*');
	}
}

static void
apply(struct standing **list, const char *words)
{
	for (; *words; words += words[4] ? 5 : 4) {
		struct spool_order order = parse(words);

		standing_apply(list, &order);
	}
}

static void
test_cases(void **state)
{
	char text[128], again[128];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct standing *list = NULL;

		apply(&list, cases[i].given);
		print(list, text, sizeof text);
		assert_string_equal(cases[i].standing, text);
		/* Telling them anew, as each new segment does, changes
		 * nothing, upon the old state or upon none. */
		apply(&list, text);
		standing_free(&list);
		apply(&list, text);
		print(list, again, sizeof again);
		assert_string_equal(text, again);
		standing_free(&list);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
