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

/* Orders on messages: each once, in their order, until withdrawn. */
static void
test_work(void **state)
{
	struct standing *list = NULL;
	struct spool_order bounce = {
		.kind = SPOOL_ORDER_BOUNCE, .tenant = 1, .cut_mno = 10
	};
	struct spool_order move = { .kind = SPOOL_ORDER_MOVE,
		.stream = 2,
		.cut_mno = 20,
		.to_stream = 3 };
	struct spool_order end = { .kind = SPOOL_ORDER_END, .cut_mno = 10 };
	struct spool_order release = { .kind = SPOOL_ORDER_RELEASE };

	(void)state;
	standing_apply(&list, &bounce);
	bounce.tenant = 2; /* of the same command */
	standing_apply(&list, &bounce);
	standing_apply(&list, &move);
	standing_apply(&list, &bounce);
	standing_apply(&list, &move);
	standing_apply(&list, &release); /* of everything held */
	assert_int_equal(3, standing_count(list));
	assert_int_equal(1, list->order.tenant);
	assert_int_equal(2, list->next->order.tenant);
	standing_apply(&list, &end);
	assert_int_equal(1, standing_count(list));
	assert_int_equal(SPOOL_ORDER_MOVE, list->order.kind);
	assert_int_equal(3, list->order.to_stream);
	end.cut_mno = 20;
	standing_apply(&list, &end);
	assert_null(list);
}

/* A release below a hold with a glob is an exception, too. */
static void
test_globs(void **state)
{
	struct standing *list = NULL;
	struct spool_order hold = { .kind = SPOOL_ORDER_HOLD,
		.domain = SPAN("*.example.com") };
	struct spool_order release = { .kind = SPOOL_ORDER_RELEASE,
		.domain = SPAN("a.example.com") };
	struct spool_order site = { .kind = SPOOL_ORDER_HOLD,
		.site = SPAN("mx a") };

	(void)state;
	standing_apply(&list, &hold);
	standing_apply(&list, &release);
	assert_int_equal(2, standing_count(list));
	standing_apply(&list, &site);
	assert_int_equal(3, standing_count(list));
	release.domain = SPAN_EMPTY;
	standing_apply(&list, &release);
	assert_null(list);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_work),
		cmocka_unit_test(test_globs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
