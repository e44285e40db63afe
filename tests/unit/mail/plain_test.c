/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/internal.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* clang-format on */

static void
test_plain_text(void **state)
{
	/* clang-format off */
	static const struct {
		struct span input;
		const char *ascii, *utf8;
	} rows[] = {
		{ SPAN("plain"),             "plain", "plain" },
		{ SPAN("a\r\nb"),            "a b", "a b" },
		{ SPAN("a\n\n\tb"),          "a b", "a b" },
		{ SPAN("a\0b\x1b[2Jc\x7f"),  "a?b?[2Jc?", "a?b?[2Jc?" },
		{ SPAN("gr\xc3\xbcn"),       "gr?n", "gr\xc3\xbcn" },
		{ SPAN("\xe2\x82\xac\xf0\x9f\x93\xa7"), "??", "\xe2\x82\xac\xf0\x9f\x93\xa7" },
		{ SPAN("a\xc2\x9b" "b"),     "a?b", "a?b" },
		{ SPAN("a\xe2\x80\xa8" "b"), "a?b", "a?b" },
		{ SPAN("a\xe2\x80\xae" "b"), "a?b", "a?b" },
		{ SPAN("a\xe2\x81\xa6" "b"), "a?b", "a?b" },
		{ SPAN("a\xffz"),            "a?z", "a?z" },
		{ SPAN("\xc3"),              "?", "?" },
		{ SPAN("\xc0\x8a"),          "??", "??" },
		{ SPAN("\xed\xa0\x80"),      "???", "???" },
		{ SPAN("\xf4\x90\x80\x80"),  "????", "????" },
		{ SPAN(""),                  "", "" },
	};

	/* clang-format on */

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf out = BUF_EMPTY;
		plain_append(rows[i].input, PLAIN_ASCII, &out);
		assert_string_equal(buf_cstring(&out), rows[i].ascii);
		buf_clear(&out);
		plain_append(rows[i].input, PLAIN_UTF8, &out);
		assert_string_equal(buf_cstring(&out), rows[i].utf8);
		buf_done(&out);
	}
}

static void
test_utf8_comes_back(void **state)
{
	static const uint32_t points[] = { 0, 'a', 0x7f, 0x80, 0x7ff, 0x800,
		0xd7ff, 0xe000, 0xffff, 0x10000, 0x10ffff };

	(void)state;
	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
		struct buf out = BUF_EMPTY;
		uint32_t point = UINT32_MAX;
		utf8_append(points[i], &out);
		struct span s = buf_span(&out);
		assert_true(utf8_next(&s, &point));
		assert_true(point == points[i]);
		assert_int_equal(s.len, 0);
		assert_false(utf8_next(&s, &point));
		buf_done(&out);
	}
}

static void
test_atext(void **state)
{
	const char *others = " \"(),.:;<>@[\\]\t\r\n\x7f";

	(void)state;
	assert_true(char_is_atext('a') && char_is_atext('Z'));
	assert_true(char_is_atext('0') && char_is_atext('~'));
	assert_true(char_is_atext('\'') && char_is_atext(0xc3));
	assert_false(char_is_atext('\0'));
	for (; *others != '\0'; others++)
		assert_false(char_is_atext((unsigned char)*others));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_text),
		cmocka_unit_test(test_utf8_comes_back),
		cmocka_unit_test(test_atext),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
