/* SPDX-License-Identifier: Apache-2.0 */
#include "sign/canon.h"

#include <string.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* clang-format on */

static void
collect(void *arg, struct span piece)
{
	buf_append(arg, piece);
}

/* In two pieces, cut at `cut`. */
static void
canonical_body(enum canon canon, struct span body, size_t cut, struct buf *out)
{
	struct canon_body b;

	buf_clear(out);
	canon_body_init(&b, canon, collect, out);
	canon_body_feed(&b, span_slice(body, 0, cut));
	canon_body_feed(&b, span_skip(body, cut));
	canon_body_end(&b);
}

static void
assert_span(struct span is, struct span wanted)
{
	if (!span_eq(is, wanted))
		print_message("is \"%.*s\", wanted \"%.*s\"\n", SPAN_ARG(is),
		    SPAN_ARG(wanted));
	assert_true(span_eq(is, wanted));
}

/* The first one is RFC 6376 §3.4.5's example. */
/* clang-format off */
static const struct {
	struct span body, relaxed, simple;
} bodies[] = {
	{ SPAN(" C \r\nD \t E\r\n\r\n\r\n"), SPAN(" C\r\nD E\r\n"), SPAN(" C \r\nD \t E\r\n") },
	{ SPAN(""), SPAN(""), SPAN("\r\n") },
	{ SPAN("\r\n"), SPAN(""), SPAN("\r\n") },
	{ SPAN("\r\n\r\n\r\n"), SPAN(""), SPAN("\r\n") },
	{ SPAN(" \t\r\n \r\n"), SPAN(""), SPAN(" \t\r\n \r\n") },
	{ SPAN("a"), SPAN("a\r\n"), SPAN("a\r\n") },
	{ SPAN("a \r\n\r\n b\r\n"), SPAN("a\r\n\r\n b\r\n"), SPAN("a \r\n\r\n b\r\n") },
	{ SPAN("\r\na\r\n"), SPAN("\r\na\r\n"), SPAN("\r\na\r\n") },
	{ SPAN("a \t b\t\r\n"), SPAN("a b\r\n"), SPAN("a \t b\t\r\n") },
	{ SPAN("a\rb\r\r\nc\n"), SPAN("a\rb\r\r\nc\n\r\n"), SPAN("a\rb\r\r\nc\n\r\n") },
	{ SPAN("a \rb \r"), SPAN("a \rb \r\r\n"), SPAN("a \rb \r\r\n") },
	{ SPAN("\0 \0\r\n"), SPAN("\0 \0\r\n"), SPAN("\0 \0\r\n") },
	{ SPAN("\xc3\xbc  \xff \r\n"), SPAN("\xc3\xbc \xff\r\n"), SPAN("\xc3\xbc  \xff \r\n") },
	{ SPAN(".\r\n..\r\n"), SPAN(".\r\n..\r\n"), SPAN(".\r\n..\r\n") },
};

/* clang-format on */

static void
test_bodies_cut_anywhere(void **state)
{
	struct buf out = BUF_EMPTY;

	(void)state;
	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
		struct span body = bodies[i].body;

		for (size_t cut = 0; cut <= body.len; cut++) {
			canonical_body(CANON_RELAXED, body, cut, &out);
			assert_span(buf_span(&out), bodies[i].relaxed);
			canonical_body(CANON_SIMPLE, body, cut, &out);
			assert_span(buf_span(&out), bodies[i].simple);
		}
	}
	buf_done(&out);
}

static void
relax_line(struct span line, struct buf *out)
{
	bool space = false;

	for (size_t i = 0; i < line.len; i++) {
		char c = line.ptr[i];

		if (c == ' ' || c == '\t') {
			space = true;
			continue;
		}
		if (space)
			buf_append_char(out, ' ');
		space = false;
		buf_append_char(out, c);
	}
}

/* RFC 6376 §3.4.3 and §3.4.4 as one reads them: of a whole body. */
static void
by_the_book(enum canon canon, struct span body, struct buf *out)
{
	buf_clear(out);
	while (body.len > 0) {
		size_t end = span_search(body, SPAN("\r\n"));
		struct span line =
		    span_slice(body, 0, end == SIZE_MAX ? body.len : end);

		body = span_skip(body, line.len + 2);
		if (canon == CANON_RELAXED)
			relax_line(line, out);
		else
			buf_append(out, line);
		buf_append_str(out, "\r\n");
	}
	while (span_ends_nocase(buf_span(out), SPAN("\r\n\r\n")))
		out->len -= 2;
	if (span_eq(buf_span(out), SPAN("\r\n")))
		buf_clear(out);
	if (buf_size(out) == 0 && canon == CANON_SIMPLE)
		buf_append_str(out, "\r\n");
}

static void
test_random_bodies(void **state)
{
	static const char alphabet[] = "ab \t\r\n\r\n";
	struct buf is = BUF_EMPTY, wanted = BUF_EMPTY;
	uint32_t seed = 2026;

	(void)state;
	for (unsigned n = 0; n < 3000; n++) {
		char text[24];
		size_t len = n % sizeof text;

		for (size_t i = 0; i < len; i++) {
			seed = seed * 1664525 + 1013904223;
			text[i] = alphabet[(seed >> 24) % 8];
		}
		struct span body = span_from(text, len);
		for (unsigned c = CANON_RELAXED; c <= CANON_SIMPLE; c++) {
			by_the_book((enum canon)c, body, &wanted);
			canonical_body((enum canon)c, body, len / 2, &is);
			assert_span(buf_span(&is), buf_span(&wanted));
		}
	}
	buf_done(&is);
	buf_done(&wanted);
}

/* Larger than what is held before it is put out. */
static void
test_long_bodies(void **state)
{
	struct buf body = BUF_EMPTY, out = BUF_EMPTY;

	(void)state;
	for (unsigned i = 0; i < 5000; i++)
		buf_append_str(&body, "\r\n");
	buf_append_str(&body, "x");
	for (unsigned i = 0; i < 5000; i++)
		buf_append_str(&body, " y");
	canonical_body(CANON_RELAXED, buf_span(&body), 7777, &out);
	assert_int_equal(buf_size(&out), buf_size(&body) + 2);
	canonical_body(CANON_SIMPLE, buf_span(&body), 7777, &out);
	assert_int_equal(buf_size(&out), buf_size(&body) + 2);
	buf_done(&body);
	buf_done(&out);
}

static void
test_fields(void **state)
{
	/* clang-format off */
	static const struct {
		const char *raw, *relaxed, *simple;
	} rows[] = {
		{ "A: X\r\n", "a:X\r\n", "A: X\r\n" },
		{ "B : Y\t\r\n\tZ  \r\n", "b:Y Z\r\n", "B : Y\t\r\n\tZ  \r\n" },
		{ "Subject:\r\n", "subject:\r\n", "Subject:\r\n" },
		{ "Subject:  \r\n \r\n\tx", "subject:x\r\n", "Subject:  \r\n \r\n\tx\r\n" },
		{ "X: a:b \t c\r\n", "x:a:b c\r\n", "X: a:b \t c\r\n" },
		{ "X: a\rb\r\n", "x:a\rb\r\n", "X: a\rb\r\n" },
	};

	/* clang-format on */

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct buf out = BUF_EMPTY;

		canon_field(CANON_RELAXED, span_of(rows[i].raw), &out);
		assert_string_equal(buf_cstring(&out), rows[i].relaxed);
		buf_clear(&out);
		canon_field(CANON_SIMPLE, span_of(rows[i].raw), &out);
		assert_string_equal(buf_cstring(&out), rows[i].simple);
		buf_done(&out);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bodies_cut_anywhere),
		cmocka_unit_test(test_random_bodies),
		cmocka_unit_test(test_long_bodies),
		cmocka_unit_test(test_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
