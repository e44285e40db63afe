/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/xtext.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* clang-format on */

struct row {
	struct span input;
	const char *text; /* NULL: refused */
};

static void
check_rows(const struct row *rows, size_t count,
    int (*decode)(struct span, struct buf *))
{
	for (size_t i = 0; i < count; i++) {
		struct buf out = BUF_EMPTY;
		buf_append_str(&out, ">");
		int code = decode(rows[i].input, &out);
		struct span got = span_skip(buf_span(&out), 1);
		if ((code == 0) != (rows[i].text != NULL))
			fail_msg("%.*s: %d", SPAN_ARG(rows[i].input), code);
		if (code != 0)
			assert_int_equal(code, ERR_SYNTAX);
		/* Untouched on failure. */
		if (!span_eq(got, span_of(rows[i].text)))
			fail_msg("%.*s: %.*s", SPAN_ARG(rows[i].input),
			    SPAN_ARG(got));
		buf_done(&out);
	}
}

static void
test_decode(void **state)
{
	/* clang-format off */
	static const struct row rows[] = {
		{ SPAN(""),                 "" },
		{ SPAN("user@example.com"), "user@example.com" },
		{ SPAN("a+2Bb+3Dc"),        "a+b=c" },
		{ SPAN("a+2bb+3dc"),        "a+b=c" },
		{ SPAN("a+20b"),            "a b" },
		{ SPAN("+7E"),              "~" },
		{ SPAN("+0A"),              NULL },
		{ SPAN("ok+0D+0Aevil"),     NULL },
		{ SPAN("+00"),              NULL },
		{ SPAN("+1B"),              NULL },
		{ SPAN("+7F"),              NULL },
		{ SPAN("+C3+A4"),           NULL },
		{ SPAN("+"),                NULL },
		{ SPAN("+2"),               NULL },
		{ SPAN("a+2"),              NULL },
		{ SPAN("+2G"),              NULL },
		{ SPAN("+G2"),              NULL },
		{ SPAN("++2B"),             NULL },
		{ SPAN("a=b"),              NULL },
		{ SPAN("a b"),              NULL },
		{ SPAN("a\tb"),             NULL },
		{ SPAN("a\r\nb"),           NULL },
		{ SPAN("a\0b"),             NULL },
		{ SPAN("a\x7f"),            NULL },
		{ SPAN("\xc3\xa4"),         NULL },
	};
	/* clang-format on */

	(void)state;
	check_rows(rows, sizeof(rows) / sizeof(rows[0]), xtext_decode);
}

static void
test_encode(void **state)
{
	struct buf out = BUF_EMPTY;

	(void)state;
	xtext_encode(SPAN("a+b=c d\x01\r\n\0~!\xc3\xa4"), &out);
	assert_string_equal(
	    buf_cstring(&out), "a+2Bb+3Dc+20d+01+0D+0A+00~!+C3+A4");
	buf_done(&out);
}

static void
test_every_printable_comes_back(void **state)
{
	struct buf text = BUF_EMPTY, encoded = BUF_EMPTY, back = BUF_EMPTY;

	(void)state;
	for (int c = ' '; c < 0x7f; c++)
		buf_append_char(&text, (char)c);
	xtext_encode(buf_span(&text), &encoded);
	assert_int_equal(xtext_decode(buf_span(&encoded), &back), 0);
	assert_true(span_eq(buf_span(&text), buf_span(&back)));
	buf_clear(&encoded);
	buf_clear(&back);
	buf_append_str(&text, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x93\xa7");
	xtext_encode_utf8_address(buf_span(&text), &encoded);
	assert_true(span_is_ascii(buf_span(&encoded)));
	assert_int_equal(
	    xtext_decode_utf8_address(buf_span(&encoded), &back), 0);
	assert_true(span_eq(buf_span(&text), buf_span(&back)));
	buf_done(&text);
	buf_done(&encoded);
	buf_done(&back);
}

static void
test_decode_utf8_address(void **state)
{
	/* clang-format off */
	static const struct row rows[] = {
		{ SPAN("j\\x{F6}rg@example.com"), "j\xc3\xb6rg@example.com" },
		{ SPAN("j\\x{f6}rg@example.com"), "j\xc3\xb6rg@example.com" },
		{ SPAN("j\xc3\xb6rg@example.com"), "j\xc3\xb6rg@example.com" },
		{ SPAN("a\\x{5C}b\\x{2B}\\x{3D}"), "a\\b+=" },
		{ SPAN("\\x{1F4E7}"),             "\xf0\x9f\x93\xa7" },
		{ SPAN("\\x{10FFFF}"),            "\xf4\x8f\xbf\xbf" },
		{ SPAN("\\x{110000}"),            NULL },
		{ SPAN("\\x{D800}"),              NULL },
		{ SPAN("\\x{0A}"),                NULL },
		{ SPAN("\\x{0}"),                 NULL },
		{ SPAN("\\x{9B}"),                NULL },
		{ SPAN("\\x{202E}"),              NULL },
		{ SPAN("\\x{}"),                  NULL },
		{ SPAN("\\x{F6"),                 NULL },
		{ SPAN("\\x{00000F6}"),           NULL },
		{ SPAN("\\x"),                    NULL },
		{ SPAN("\\"),                     NULL },
		{ SPAN("\\\\"),                   NULL },
		{ SPAN("a+b"),                    NULL },
		{ SPAN("a=b"),                    NULL },
		{ SPAN("a b"),                    NULL },
		{ SPAN("\xc2\x9b"),               NULL },
		{ SPAN("\xc3"),                   NULL },
		{ SPAN("a\0"),                    NULL },
	};
	/* clang-format on */

	(void)state;
	check_rows(
	    rows, sizeof(rows) / sizeof(rows[0]), xtext_decode_utf8_address);
}

static void
test_encode_utf8_address(void **state)
{
	struct buf out = BUF_EMPTY;

	(void)state;
	xtext_encode_utf8_address(
	    SPAN("j\xc3\xb6rg+x@b\\\xff.example\r\n"), &out);
	assert_string_equal(buf_cstring(&out),
	    "j\\x{F6}rg\\x{2B}x@b\\x{5C}\\x{FFFD}.example\\x{0D}\\x{0A}");
	buf_done(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decode),
		cmocka_unit_test(test_encode),
		cmocka_unit_test(test_every_printable_comes_back),
		cmocka_unit_test(test_decode_utf8_address),
		cmocka_unit_test(test_encode_utf8_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
