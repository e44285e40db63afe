/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/internal.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */

#include "base/mem.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* Outcomes as letters: "R(text)" ready, "L" too long, "B" broken, "." more. */
static void
run(struct line *l, struct span in, bool is_auth, struct buf *out)
{
	for (;;) {
		switch (line_take(l, &in, is_auth)) {
		case LINE_MORE:
			return;
		case LINE_READY:
			buf_printf(out, "R(%.*s)", SPAN_ARG(l->text));
			break;
		case LINE_TOO_LONG:
			buf_append_char(out, 'L');
			break;
		case LINE_BROKEN:
			buf_append_char(out, 'B');
			return;
		}
	}
}

static void
check(struct span in, bool normalise, bool is_auth, const char *expected)
{
	for (size_t piece = 1; piece <= in.len; piece += 1 + piece / 7) {
		struct line l = { .normalise = normalise };
		struct buf out = BUF_EMPTY;
		struct span rest = in;
		while (rest.len > 0 &&
		       span_find(buf_span(&out), 'B') == SIZE_MAX) {
			struct span part = span_slice(rest, 0, piece);
			char *copy = span_dup(part);
			run(&l, span_from(copy, part.len), is_auth, &out);
			mem_free(copy);
			rest = span_skip(rest, part.len);
		}
		if (strcmp(buf_cstring(&out), expected) != 0)
			fail_msg(
			    "pieces of %zu: \"%.200s\", expected \"%.200s\"",
			    piece, buf_cstring(&out), expected);
		buf_done(&out);
		buf_done(&l.buf);
	}
}

static void
test_strict(void **state)
{
	(void)state;
	check(SPAN("NOOP\r\n"), false, false, "R(NOOP)");
	check(SPAN("\r\n"), false, false, "R()");
	check(SPAN("a\r\nb\r\n\r\nc"), false, false, "R(a)R(b)R()");
	check(SPAN("a\nb\r\n"), false, false, "B");
	check(SPAN("\n"), false, false, "B");
	check(SPAN("a\rb\r\n"), false, false, "B");
	check(SPAN("a\r\r\n"), false, false, "B");
	check(SPAN("a\r\nb\nc\r\n"), false, false, "R(a)B");
	/* NUL shows at once: a TLS hello on a plain port has no line end. */
	check(SPAN("\x16\x03\x01\0\xa5"), false, false, "B");
}

static void
test_normalised(void **state)
{
	(void)state;
	check(SPAN("a\r\nb\nc\rd\r\n"), true, false, "R(a)R(b)R(c)R(d)");
	check(SPAN("\n\n\r\n"), true, false, "R()R()R()");
	check(SPAN("a\r\rb\r\r\n"), true, false, "R(a)R()R(b)R()");
	check(SPAN("a\0b\n"), true, false, "B");
	check(SPAN("a\r"), true, false, "");
}

static void
fill(struct buf *b, const char *start, size_t len, const char *end)
{
	buf_clear(b);
	buf_append_str(b, start);
	while (buf_size(b) < len - strlen(end))
		buf_append_char(b, 'x');
	buf_append_str(b, end);
}

static void
test_limits(void **state)
{
	(void)state;

	static const struct {
		const char *start, *end;
		size_t len;
		bool is_auth;
		const char *expected; /* NULL: one ready line */
	} cases[] = {
		{ "MAIL ", "\r\n", LINE_MAX_COMMAND, false, NULL },
		{ "MAIL ", "\r\n", LINE_MAX_COMMAND + 1, false, "L" },
		{ "MAIL ", "\r\nNOOP\r\n", 5000, false, "LR(NOOP)" },
		{ "MAIL ", "\nNOOP\r\n", 5000, false, "B" },
		{ "MAIL ", "\r\nNOOP\r\n", 30000, false, "LR(NOOP)" },
		{ "MAIL ", "\r\r\nNOOP\r\n", 30000, false, "B" },
		{ "MAIL ", "\nNOOP\r\n", 30000, false, "B" },
		{ "auth ", "\r\n", LINE_MAX_AUTH, false, NULL },
		{ "AUTH ", "\r\nNOOP\r\n", LINE_MAX_AUTH + 9, false,
		    "LR(NOOP)" },
		{ "AUTHX", "\r\n", 5000, false, "L" },
		{ "x", "\r\n", LINE_MAX_AUTH, true, NULL },
		{ "x", "\r\n", LINE_MAX_AUTH + 1, true, "L" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct buf in = BUF_EMPTY, ready = BUF_EMPTY;
		fill(&in, cases[i].start, cases[i].len, cases[i].end);
		struct span line = buf_span(&in);
		buf_printf(&ready, "R(%.*s)", (int)line.len - 2, line.ptr);
		check(line, false, cases[i].is_auth,
		    cases[i].expected != NULL ? cases[i].expected
					      : buf_cstring(&ready));
		buf_done(&in);
		buf_done(&ready);
	}
}

/* What breaks a line breaks a long one, wherever it is cut. */
static void
test_long_and_broken(void **state)
{
	(void)state;

	static const struct {
		char c;
		size_t at;
		const char *strict, *normalised;
	} cases[] = {
		{ '\r', 100, "B", "R(xxx)LR(NOOP)" },
		{ '\r', 2047, "B", "R(xxx)LR(NOOP)" },
		{ '\r', 2048, "B", "LLR(NOOP)" },
		{ '\r', 9000, "B", "LLR(NOOP)" },
		{ '\r', 13000, "B", "LLR(NOOP)" },
		{ '\n', 100, "B", "R(xxx)LR(NOOP)" },
		{ '\n', 9000, "B", "LLR(NOOP)" },
		{ '\0', 100, "B", "B" },
		{ '\0', 9000, "B", "B" },
		{ '\0', 19000, "B", "B" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct buf in = BUF_EMPTY, expected = BUF_EMPTY;
		fill(&in, "x", 20000, "\r\nNOOP\r\n");
		in.ptr[cases[i].at] = cases[i].c;
		check(buf_span(&in), false, false, cases[i].strict);
		struct span rest = span_of(cases[i].normalised);
		if (span_starts(rest, SPAN("R(xxx)"))) {
			buf_printf(
			    &expected, "R(%.*s)", (int)cases[i].at, in.ptr);
			rest = span_skip(rest, 6);
		}
		buf_append(&expected, rest);
		check(buf_span(&in), true, false, buf_cstring(&expected));
		buf_done(&in);
		buf_done(&expected);
	}
}

/* A line that never ends costs no memory. */
static void
test_endless(void **state)
{
	(void)state;
	struct line l = { 0 };
	char block[4096];
	memset(block, 'x', sizeof(block));
	for (int i = 0; i < 2500; i++) {
		struct span in = span_from(block, sizeof(block));
		assert_int_equal(line_take(&l, &in, false), LINE_MORE);
		assert_int_equal(in.len, 0);
	}
	assert_true(l.buf.capacity < 4 * LINE_MAX_AUTH);
	struct span end = SPAN("\r\nQUIT\r\n");
	assert_int_equal(line_take(&l, &end, false), LINE_TOO_LONG);
	assert_int_equal(line_take(&l, &end, false), LINE_READY);
	assert_true(span_eq(l.text, SPAN("QUIT")));
	buf_done(&l.buf);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strict),
		cmocka_unit_test(test_normalised),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_long_and_broken),
		cmocka_unit_test(test_endless),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
