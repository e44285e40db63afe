/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/reply.h"

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

static void
test_compose(void **state)
{
	(void)state;

	const struct {
		struct reply reply;
		const char *wire;
	} cases[] = {
		{ REPLY(250, 2, 1, 0, "sender ok"), "250 2.1.0 sender ok\r\n" },
		{ REPLY(354, 0, 0, 0, "go"), "354 go\r\n" },
		{ REPLY(250, 0, 0, 0, ""), "250 \r\n" },
		{ REPLY(250, 0, 0, 0, "a\nb"), "250-a\r\n250 b\r\n" },
		{ REPLY(550, 5, 7, 26, "a\nb\n"),
		    "550-5.7.26 a\r\n550 5.7.26 b\r\n" },
		{ REPLY(550, 5, 1, 1, "x\r\0\033[1m\177"),
		    "550 5.1.1 x   [1m \r\n" },
		{ REPLY(599, 5, 999, 999, "\nb"),
		    "599-5.999.999 \r\n599 5.999.999 b\r\n" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct buf out = BUF_EMPTY;
		reply_append(&cases[i].reply, &out);
		assert_string_equal(buf_cstring(&out), cases[i].wire);
		buf_done(&out);
	}
}

/* No line over 510 octets, whatever the text; nothing of the text is lost but
 * nothing is invented either. */
static void
test_compose_long(void **state)
{
	(void)state;
	static const char *const units[] = { "word ", "x", "\xc3\xa4",
		"\xf0\x9f\x93\xac", "\x80" };
	for (size_t u = 0; u < COUNT(units); u++) {
		struct buf text = BUF_EMPTY, out = BUF_EMPTY;
		struct buf back = BUF_EMPTY;
		while (buf_size(&text) < 3000)
			buf_append_str(&text, units[u]);
		struct reply r = { .code = 450,
			.enhanced = { 7, 1, 4 },
			.text = buf_span(&text) };
		reply_append(&r, &out);
		struct span rest = buf_span(&out);
		size_t lines = 0;
		while (rest.len > 0) {
			struct span line = span_cut(&rest, '\n');
			assert_true(line.len <= 511);
			assert_int_equal(line.ptr[line.len - 1], '\r');
			assert_int_equal(line.ptr[3], rest.len > 0 ? '-' : ' ');
			line = span_slice(line, 10, line.len - 11);
			if (u < 4)
				assert_true(span_is_utf8(line));
			buf_append(&back, line);
			lines++;
		}
		assert_true(lines >= 6 && lines <= 14);
		assert_true(span_eq(buf_span(&back), buf_span(&text)));
		buf_done(&text);
		buf_done(&out);
		buf_done(&back);
	}
}

static void
test_format(void **state)
{
	(void)state;
	struct arena *arena = arena_new();
	struct reply r = REPLY(550, 5, 1, 1, "no such user\nsee\thelp");
	assert_true(span_eq(
	    reply_format(&r, arena), SPAN("550 5.1.1 no such user see help")));
	assert_true(span_eq(reply_status(&r, arena), SPAN("5.1.1")));
	r = REPLY(421, 0, 0, 0, "closing");
	assert_true(span_eq(reply_format(&r, arena), SPAN("421 closing")));
	assert_true(span_eq(reply_status(&r, arena), SPAN("4.0.0")));
	assert_true(reply_is_temporary(&r));
	r = REPLY(500, 0, 0, 0, "");
	assert_true(span_eq(reply_status(&r, arena), SPAN("5.0.0")));
	assert_true(reply_is_permanent(&r));
	r = REPLY(354, 0, 0, 0, "");
	assert_true(span_eq(reply_status(&r, arena), SPAN("2.0.0")));
	assert_true(reply_is_positive(&r));
	arena_free(&arena);
}

struct parse_case {
	const char *wire;
	int result;
	uint16_t code;
	const char *status; /* "" for none */
	const char *text;
	size_t length; /* of wire, when it holds NUL */
};

static const struct parse_case parse_cases[] = {
	{ "250 ok\r\n", 1, 250, "", "ok" },
	{ "250\r\n", 1, 250, "", "" },
	{ "250 \r\n", 1, 250, "", "" },
	{ "250 2.1.0 ok\r\n", 1, 250, "2.1.0", "ok" },
	{ "250 2.1.0\r\n", 1, 250, "2.1.0", "" },
	{ "250-a\r\n250-b\r\n250 c\r\n", 1, 250, "", "a\nb\nc" },
	{ "250-a\r\n250\r\n", 1, 250, "", "a\n" },
	{ "550-5.7.1 a\r\n550 5.7.1 b\r\n", 1, 550, "5.7.1", "a\nb" },
	{ "550-5.7.1 a\r\n550 5.7.2 b\r\n", 1, 550, "5.7.1", "a\n5.7.2 b" },
	{ "550-a\r\n550 5.7.2 b\r\n", 1, 550, "5.7.2", "a\nb" },
	/* A status of another class is only text. */
	{ "550 4.7.1 a\r\n", 1, 550, "", "4.7.1 a" },
	{ "354 3.0.0 a\r\n", 1, 354, "", "3.0.0 a" },
	{ "550 5.7.1000 a\r\n", 1, 550, "", "5.7.1000 a" },
	{ "550 5.7 a\r\n", 1, 550, "", "5.7 a" },
	{ "550 5.7.1: a\r\n", 1, 550, "", "5.7.1: a" },
	{ "250 bare LF\n", 1, 250, "", "bare LF" },
	{ "250 two\r\r\n", 1, 250, "", "two" },
	{ "250 a\033[m\tb\001\r\n", 1, 250, "", "a?[m b?" },
	{ "250 a\0b\r\n", 1, 250, "", "a?b", 9 },
	{ "250-a\r\n", 0, 0, "", "" },
	{ "250 no end", 0, 0, "", "" },
	{ "", 0, 0, "", "" },
	{ "250-a\r\n251 b\r\n", ERR_SYNTAX, 0, "", "" },
	{ "000 a\r\n", ERR_SYNTAX, 0, "", "" },
	{ "199 a\r\n", ERR_SYNTAX, 0, "", "" },
	{ "600 a\r\n", ERR_SYNTAX, 0, "", "" },
	{ "999 a\r\n", ERR_SYNTAX, 0, "", "" },
	{ "25x a\r\n", ERR_SYNTAX, 0, "", "" },
	{ "25\r\n", ERR_SYNTAX, 0, "", "" },
	{ "250_a\r\n", ERR_SYNTAX, 0, "", "" },
	{ "2500 a\r\n", ERR_SYNTAX, 0, "", "" },
	{ "\r\n", ERR_SYNTAX, 0, "", "" },
	{ " 250 a\r\n", ERR_SYNTAX, 0, "", "" },
	{ "SSH-2.0-x\r\n", ERR_SYNTAX, 0, "", "" },
};

static void
check_parse(const struct parse_case *c, size_t piece)
{
	struct reply_parser *p = reply_parser_new();
	struct arena *arena = arena_new();
	struct span wire =
	    span_from(c->wire, c->length != 0 ? c->length : strlen(c->wire));
	struct reply r = { 0 };
	int result = 0;
	while (wire.len > 0 && result == 0) {
		struct span part = span_slice(wire, 0, piece);
		size_t before = part.len;
		result = reply_parser_feed(p, &part, &r);
		wire = span_skip(wire, before - part.len);
	}
	assert_int_equal(result, c->result);
	if (result == 1) {
		assert_int_equal(r.code, c->code);
		if (!span_eq(r.text, span_of(c->text)))
			fail_msg("text \"%.*s\"", SPAN_ARG(r.text));
		if (c->status[0] == '\0')
			assert_int_equal(r.enhanced.class, 0);
		else
			assert_true(span_eq(
			    reply_status(&r, arena), span_of(c->status)));
	}
	if (result < 0) {
		struct span more = SPAN("250 ok\r\n");
		assert_int_equal(reply_parser_feed(p, &more, &r), result);
		assert_string_not_equal(reply_parser_error(p), "no error");
		reply_parser_reset(p);
		assert_string_equal(reply_parser_error(p), "no error");
		assert_int_equal(reply_parser_feed(p, &more, &r), 1);
		assert_int_equal(r.code, 250);
	}
	arena_free(&arena);
	reply_parser_free(&p);
	assert_null(p);
}

static void
test_parse(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(parse_cases); i++) {
		for (size_t piece = 1; piece < 12; piece++)
			check_parse(&parse_cases[i], piece);
	}
}

/* Replies to a pipelined burst come in one piece, each with its own status. */
static void
test_parse_burst(void **state)
{
	(void)state;
	struct reply_parser *p = reply_parser_new();
	struct span in =
	    SPAN("250 2.1.0 a\r\n550-5.1.1 b\r\n550 c\r\n354 d\r\n");
	struct reply r;
	assert_int_equal(reply_parser_feed(p, &in, &r), 1);
	assert_int_equal(r.enhanced.subject, 1);
	assert_int_equal(reply_parser_feed(p, &in, &r), 1);
	assert_int_equal(r.code, 550);
	assert_true(span_eq(r.text, SPAN("b\nc")));
	assert_int_equal(reply_parser_feed(p, &in, &r), 1);
	assert_int_equal(r.code, 354);
	assert_int_equal(r.enhanced.class, 0);
	assert_int_equal(reply_parser_feed(p, &in, &r), 0);
	assert_int_equal(in.len, 0);
	reply_parser_free(&p);
}

static void
fill(struct buf *b, const char *unit, size_t count)
{
	for (size_t i = 0; i < count; i++)
		buf_append_str(b, unit);
}

static void
test_parse_bounds(void **state)
{
	(void)state;

	const struct {
		const char *start, *unit, *end;
		size_t count;
		int result;
		size_t text_len;
	} cases[] = {
		{ "250 ", "x", "\r\n", 4092, 1, 4092 },
		{ "250 ", "x", "\r\n", 4094, ERR_LIMIT, 0 },
		{ "250 ", "x", "", 1000000, ERR_LIMIT, 0 },
		{ "", "250-x\r\n", "250 y\r\n", 99, 1, 199 },
		{ "", "250-x\r\n", "250 y\r\n", 100, ERR_LIMIT, 0 },
		{ "", "250-x\r\n", "", 1000000, ERR_LIMIT, 0 },
		/* 90 lines of 100: the text is cut, the reply is good */
		{ "",
		    "550-0123456789012345678901234567890123456789"
		    "012345678901234567890123456789012345678901234567\r\n",
		    "550 end\r\n", 98, 1, 8192 },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct buf wire = BUF_EMPTY;
		buf_append_str(&wire, cases[i].start);
		fill(&wire, cases[i].unit, cases[i].count);
		buf_append_str(&wire, cases[i].end);
		struct reply_parser *p = reply_parser_new();
		struct span in = buf_span(&wire);
		struct reply r;
		int result = reply_parser_feed(p, &in, &r);
		assert_int_equal(result, cases[i].result);
		if (result == 1)
			assert_int_equal(r.text.len, cases[i].text_len);
		reply_parser_free(&p);
		buf_done(&wire);
	}
}

/* The cut at the text's bound never splits a character. */
static void
test_parse_cut_utf8(void **state)
{
	(void)state;
	for (size_t shift = 0; shift < 4; shift++) {
		struct buf wire = BUF_EMPTY;
		for (int line = 0; line < 4; line++) {
			buf_append_str(&wire, line < 3 ? "550-" : "550 ");
			fill(&wire, "x", shift);
			fill(&wire, "\xf0\x9f\x93\xac", 800);
			buf_append_str(&wire, "\r\n");
		}
		struct reply_parser *p = reply_parser_new();
		struct span in = buf_span(&wire);
		struct reply r;
		assert_int_equal(reply_parser_feed(p, &in, &r), 1);
		assert_true(r.text.len > 8192 - 5 && r.text.len <= 8192);
		assert_true(span_is_utf8(r.text));
		reply_parser_free(&p);
		buf_done(&wire);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_compose),
		cmocka_unit_test(test_compose_long),
		cmocka_unit_test(test_format),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_parse_burst),
		cmocka_unit_test(test_parse_bounds),
		cmocka_unit_test(test_parse_cut_utf8),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
