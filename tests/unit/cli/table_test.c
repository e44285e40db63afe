/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct table_column columns[] = { { "NAME", false },
	{ "COUNT", true }, { "NOTE", false } };

static void
expect(struct table *table, size_t width, const char *wanted)
{
	struct buf out = BUF_EMPTY;

	table_render(table, width, &out);
	assert_string_equal(buf_cstring(&out), wanted);
	buf_done(&out);
}

static void
columns_are_aligned(void **state)
{
	struct table *t = table_new(columns, 3);

	(void)state;
	expect(t, 0, "NAME  COUNT  NOTE\n");
	table_text(t, "a");
	table_number(t, 1234567);
	table_text(t, "first");
	table_text(t, "longer name");
	table_number(t, -1);
	table_text(t, "");
	expect(t, 0,
	    "NAME           COUNT  NOTE\n"
	    "a            1234567  first\n"
	    "longer name       -1\n");
	table_free(&t);
	assert_null(t);
}

static void
lines_are_cut_between_characters(void **state)
{
	struct table *t = table_new(columns, 3);

	(void)state;
	table_text(t, "\xe6\x97\xa5\xe6\x9c\xac"); /* two wide ones */
	table_number(t, 1);
	table_text(t, "h\xc3\xa9llo");
	expect(t, 15,
	    "NAME  COUNT  NO\n\xe6\x97\xa5\xe6\x9c\xac      1  h\xc3\xa9\n");
	expect(t, 3, "NAM\n\xe6\x97\xa5\n");
	table_free(&t);
}

/* A stranger's subject or reply must not move the operator's terminal. */
static void
control_characters_do_not_reach_terminals(void **state)
{
	struct table *t = table_new(columns, 1);

	(void)state;
	table_text(t, "a\x1b[2Jb\r\nc\xc2\x9b"
		      "d\x7f\xff");
	expect(t, 0, "NAME\na?[2Jb??c?d??\n");
	table_free(&t);
}

static void
widths_are_those_of_terminals(void **state)
{
	static const struct {
		const char *text;
		size_t width;
	} cases[] = {
		{ "", 0 },
		{ "abc", 3 },
		{ "\xc3\xa4", 1 },
		{ "a\xcc\x88", 1 },
		{ "\xe6\x97\xa5", 2 },
		{ "\xf0\x9f\x93\xa7", 2 },
		{ "\xff", 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_int_equal(
		    text_width(span_of(cases[i].text)), cases[i].width);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(columns_are_aligned),
		cmocka_unit_test(lines_are_cut_between_characters),
		cmocka_unit_test(control_characters_do_not_reach_terminals),
		cmocka_unit_test(widths_are_those_of_terminals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
