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

enum mode { STRICT, NORMALISE };

struct frame_case {
	const char *in;
	const char *strict; /* "text" + outcome letter: + more, . end, R L N */
	const char *normalised; /* likewise */
	size_t length; /* when in holds NUL */
};

static char
letter(enum framer_outcome outcome)
{
	switch (outcome) {
	case FRAMER_MORE:
		return '+';
	case FRAMER_END:
		return '.';
	case FRAMER_BARE_CR:
		return 'R';
	case FRAMER_BARE_LF:
		return 'L';
	case FRAMER_NUL:
		return 'N';
	}
	return '?';
}

/* Feeds until the end, a violation, or no more; then what is left over. */
static void
run(struct framer *f, struct span in, size_t piece, struct buf *out)
{
	enum framer_outcome outcome = FRAMER_MORE;
	while (in.len > 0 && outcome == FRAMER_MORE) {
		size_t len = in.len < piece ? in.len : piece;
		char *copy = mem_dup(in.ptr, len);
		struct span part = span_from(copy, len);
		while (part.len > 0 && outcome == FRAMER_MORE) {
			struct span text;
			outcome = framer_take(f, &part, &text);
			if (outcome == FRAMER_MORE || outcome == FRAMER_END)
				buf_append(out, text);
		}
		mem_free(copy);
		in = span_skip(in, len - part.len);
	}
	buf_append_char(out, letter(outcome));
	if (outcome == FRAMER_END)
		buf_append(out, in);
}

/* A violation may be seen sooner or later by piece size, and what was passed on
 * before does not matter: only its letter is compared. */
static void
check(const struct frame_case *c, enum mode mode, bool dots, size_t piece)
{
	struct framer f = { .normalise = mode == NORMALISE };
	struct buf out = BUF_EMPTY;
	framer_begin(&f, dots);
	size_t length = c->length != 0 ? c->length : strlen(c->in);
	run(&f, span_from(c->in, length), piece, &out);
	const char *expected = mode == STRICT ? c->strict : c->normalised;
	struct span got = buf_span(&out);
	if (strchr("RLN", expected[0]) != NULL && expected[0] != '\0')
		got = span_skip(got, got.len - 1);
	if (!span_eq(got, span_of(expected)))
		fail_msg("\"%s\" in %zu (%s): \"%.*s\", expected \"%s\"", c->in,
		    piece, mode == STRICT ? "strict" : "normalised",
		    SPAN_ARG(got), expected);
	buf_done(&out);
	buf_done(&f.scratch);
}

static void
check_all(const struct frame_case *cases, size_t count, bool dots)
{
	for (size_t i = 0; i < count; i++) {
		size_t length =
		    cases[i].length ? cases[i].length : strlen(cases[i].in);
		for (size_t piece = 1; piece <= length; piece++) {
			check(&cases[i], STRICT, dots, piece);
			check(&cases[i], NORMALISE, dots, piece);
		}
	}
}

#define SAME(in, out)                                                          \
	{                                                                      \
		(in), (out), (out)                                             \
	}
#define NEXT "NEXT"

static void
test_dots(void **state)
{
	(void)state;
	static const struct frame_case cases[] = {
		SAME(".\r\n" NEXT, "." NEXT),
		SAME("a\r\n.\r\n" NEXT, "a\r\n." NEXT),
		SAME("a\r\n..\r\n.\r\n", "a\r\n.\r\n."),
		SAME("..\r\n...\r\n.x\r\n.\r\n", ".\r\n..\r\nx\r\n."),
		SAME("a.\r\n.b.\r\n\r\n.\r\n", "a.\r\nb.\r\n\r\n."),
		SAME("a\r\n", "a\r\n+"),
		SAME("a\r\n.", "a\r\n+"),
		SAME("a\r\n.\r", "a\r\n+"),
		SAME("\r\n\r\n.\r\n", "\r\n\r\n."),
		SAME("\xff\x80\x01\r\n.\r\n", "\xff\x80\x01\r\n."),
	};
	check_all(cases, COUNT(cases), true);
}

/* Reliability A1: what others take for an end of data. Only the true one may
 * end the message, and nothing behind a false one may be left over. */
static void
test_false_ends(void **state)
{
	(void)state;
#define TAIL "MAIL\r\n.\r\n"
#define KEPT "MAIL\r\n."
	static const struct frame_case cases[] = {
		{ "a\n.\n" TAIL, "L", "a\r\n.\r\n" KEPT },
		{ "a\r.\r" TAIL, "R", "a\r\n.\r\n" KEPT },
		{ "a\r.\n" TAIL, "R", "a\r\n.\r\n" KEPT },
		{ "a\n.\r" TAIL, "L", "a\r\n.\r\n" KEPT },
		{ "a\n.\r\n" TAIL, "L", "a\r\n.\r\n" KEPT },
		{ "a\r\n.\n" TAIL, "L", "a\r\n\r\n" KEPT },
		{ "a\r.\r\n" TAIL, "R", "a\r\n.\r\n" KEPT },
		{ "a\r\n.\r" TAIL, "R", "a\r\n\r\n" KEPT },
		{ "a\r\n\0.\r\n" TAIL, "N", "N", 16 },
		{ "a\r\n.\0\r\n" TAIL, "N", "N", 16 },
		{ "a\r\n.\r\r\n" TAIL, "R", "a\r\n\r\n\r\n" KEPT },
		/* The bytes CRLF.CRLF are there: after the stray CR became a
		 * line end of its own, they end the message. */
		{ "a\r\r\n.\r\n" TAIL, "R", "a\r\n\r\n." TAIL },
		{ "a\n\n.\r\n" TAIL, "L", "a\r\n\r\n.\r\n" KEPT },
		{ "a\r\n.\n\r\n" TAIL, "L", "a\r\n\r\n\r\n" KEPT },
	};
	assert_int_equal(COUNT(cases), 14);
	check_all(cases, COUNT(cases), true);
}

static void
test_bare(void **state)
{
	(void)state;
	static const struct frame_case cases[] = {
		{ "a\nb\rc\r\n.\r\n", "L", "a\r\nb\r\nc\r\n." },
		{ "\n", "L", "\r\n+" },
		{ "\rx", "R", "\r\nx+" },
		{ "\r\r\r\n.\r\n", "R", "\r\n\r\n\r\n." },
		{ "\n\r\n.\r\n", "L", "\r\n\r\n." },
		{ "a\0b", "N", "N", 3 },
		/* a dot behind a normalised line end is text, not stuffing */
		{ "\n..x\n.y\r\n.\r\n", "L", "\r\n..x\r\n.y\r\n." },
		{ "a\r\n..\n.\r\n.\r\n", "L", "a\r\n.\r\n.\r\n." },
	};
	check_all(cases, COUNT(cases), true);
}

/* BDAT: dots mean nothing. */
static void
test_chunks(void **state)
{
	(void)state;
	static const struct frame_case cases[] = {
		SAME(".\r\n..\r\nx\r\n.\r\n", ".\r\n..\r\nx\r\n.\r\n+"),
		SAME("no end of line", "no end of line+"),
		{ "a\n.\n", "L", "a\r\n.\r\n+" },
		{ "a\rb", "R", "a\r\nb+" },
	};
	check_all(cases, COUNT(cases), false);
}

static void
test_finish(void **state)
{
	(void)state;
	for (int normalise = 0; normalise < 2; normalise++) {
		struct framer f = { .normalise = normalise };
		struct span text, in = SPAN("a\r");
		framer_begin(&f, false);
		assert_int_equal(framer_finish(&f, &text), FRAMER_MORE);
		assert_int_equal(text.len, 0);
		assert_int_equal(framer_take(&f, &in, &text), FRAMER_MORE);
		assert_int_equal(framer_finish(&f, &text),
		    normalise ? FRAMER_MORE : FRAMER_BARE_CR);
		assert_int_equal(text.len, normalise ? 2 : 0);
		buf_done(&f.scratch);
	}
}

static void
test_line_max(void **state)
{
	(void)state;

	static const struct {
		const char *in;
		bool too_long;
	} cases[] = {
		{ "0123456789\r\n0123456789\r\n.\r\n", false },
		{ "01234567890\r\n.\r\n", true },
		{ "a\r\n01234567890\r\n.\r\n", true },
		{ "01234567890", true },
		{ "..23456789\r\n.\r\n", false },
		{ "\r\n\r\n\r\n\r\n\r\n\r\n\r\n.\r\n", false },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		size_t length = strlen(cases[i].in);
		for (size_t piece = 1; piece <= 2 * length; piece++) {
			struct framer f = { .line_max = 10,
				.normalise = piece > length };
			struct buf out = BUF_EMPTY;
			framer_begin(&f, true);
			run(&f, span_of(cases[i].in),
			    piece > length ? piece - length : piece, &out);
			assert_int_equal(f.line_too_long, cases[i].too_long);
			buf_done(&out);
			buf_done(&f.scratch);
		}
	}
}

/* A long run without stuffed dots is one view of the input, not a copy. */
static void
test_large_pieces(void **state)
{
	(void)state;
	struct buf in = BUF_EMPTY;
	for (int i = 0; i < 1000; i++)
		buf_append_str(&in, "a line of the message\r\n");
	struct framer f = { 0 };
	framer_begin(&f, true);
	struct span rest = buf_span(&in), text;
	assert_int_equal(framer_take(&f, &rest, &text), FRAMER_MORE);
	assert_ptr_equal(text.ptr, in.ptr);
	assert_int_equal(text.len, 23000);
	assert_int_equal(rest.len, 0);
	buf_done(&in);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dots),
		cmocka_unit_test(test_false_ends),
		cmocka_unit_test(test_bare),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_finish),
		cmocka_unit_test(test_line_max),
		cmocka_unit_test(test_large_pieces),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
