/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/header.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* clang-format on */

static void
test_fields_one_by_one(void **state)
{
	/* clang-format off */
	static const struct {
		const char *input;
		int code;
		const char *name, *value, *raw, *rest;
	} rows[] = {
		{ "A: b\r\nC: d\r\n\r\n", 1, "A", " b", "A: b\r\n", "C: d\r\n\r\n" },
		{ "A: b\r\n c\r\n\td\r\nE: f\r\n", 1, "A", " b\r\n c\r\n\td",
		  "A: b\r\n c\r\n\td\r\n", "E: f\r\n" },
		{ "A:\r\n", 1, "A", "", "A:\r\n", "" },
		{ "A:b", 1, "A", "b", "A:b", "" },
		{ "A \t: b\r\n", 1, "A", " b", "A \t: b\r\n", "" },
		{ "A: b: c\r\n", 1, "A", " b: c", "A: b: c\r\n", "" },
		{ "A: b\r\n \r\n\r\nbody", 1, "A", " b\r\n ", "A: b\r\n \r\n", "\r\nbody" },
		{ "__proto__: b\r\n", 1, "__proto__", " b", "__proto__: b\r\n", "" },
		/* A lone CR or LF ends no line here: intake let none pass. */
		{ "A: b\nC: d\r\n", 1, "A", " b\nC: d", "A: b\nC: d\r\n", "" },
		{ "A: b\rC: d\r\n", 1, "A", " b\rC: d", "A: b\rC: d\r\n", "" },
		{ "\r\nbody", 0, NULL, NULL, NULL, "body" },
		{ "", 0, NULL, NULL, NULL, "" },
		{ "junk\r\nA: b\r\n", ERR_SYNTAX, NULL, NULL, "junk\r\n", "A: b\r\n" },
		{ " A: b\r\nC: d\r\n", ERR_SYNTAX, NULL, NULL, " A: b\r\n", "C: d\r\n" },
		{ ": b\r\nC: d\r\n", ERR_SYNTAX, NULL, NULL, ": b\r\n", "C: d\r\n" },
		{ "From me Mon Nov 23 17:44:49\r\nC: d\r\n", ERR_SYNTAX, NULL, NULL,
		  "From me Mon Nov 23 17:44:49\r\n", "C: d\r\n" },
		{ "A B: c\r\n", ERR_SYNTAX, NULL, NULL, "A B: c\r\n", "" },
		{ "\xc3\xa4: c\r\n", ERR_SYNTAX, NULL, NULL, "\xc3\xa4: c\r\n", "" },
		{ "A\x01: c\r\n", ERR_SYNTAX, NULL, NULL, "A\x01: c\r\n", "" },
		{ "no colon", ERR_SYNTAX, NULL, NULL, "no colon", "" },
	};

	/* clang-format on */

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct header_field field = { .raw = SPAN_EMPTY };
		struct span rest = span_of(rows[i].input);
		int code = header_next(&rest, &field);
		if (code != rows[i].code)
			fail_msg("%s: %d", rows[i].input, code);
		if (!span_eq(rest, span_of(rows[i].rest)))
			fail_msg(
			    "%s: rest %.*s", rows[i].input, SPAN_ARG(rest));
		assert_true(span_eq(field.raw, span_of(rows[i].raw)));
		assert_true(span_eq(field.name, span_of(rows[i].name)));
		assert_true(span_eq(field.value, span_of(rows[i].value)));
	}
}

static void
test_section_length(void **state)
{
	/* clang-format off */
	static const struct {
		const char *message;
		size_t length;
	} rows[] = {
		{ "A: b\r\n\r\nbody", 8 },
		{ "A: b\r\n\r\n", 8 },
		{ "A: b\r\n", 0 },
		{ "A: b\r\n\r", 0 },
		{ "", 0 },
		{ "\r\nbody", 2 },
		{ "\r\n", 2 },
		{ "\r", 0 },
		{ "A: b\n\nbody", 0 },
		{ "A: b\r\n\r\nbody\r\n\r\n", 8 },
	};

	/* clang-format on */

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(
		    header_section_length(span_of(rows[i].message)),
		    rows[i].length);
}

static void
test_facts(void **state)
{
	static const char section[] = "Received: one\r\n"
				      "received: two\r\n"
				      "Return-Path: <a@b>\r\n"
				      "FROM: First <a@b>\r\n"
				      "From : second@b\r\n"
				      "Date: now\r\n"
				      "Message-Id:\r\n <x@y>\r\n"
				      "Subject: =?utf-8?q?x?=\r\n y\r\n"
				      "subject: other\r\n"
				      "Bcc: c@d\r\nBCC: e@f\r\n"
				      "Sender: s@t\r\n"
				      "Received-SPF: pass\r\n"
				      "\r\n";
	struct header_facts f;

	(void)state;
	header_inspect(SPAN(section), &f);
	assert_int_equal(f.field_count, 13);
	assert_int_equal(f.received_count, 2);
	assert_int_equal(f.return_path_count, 1);
	assert_int_equal(f.from_count, 2);
	assert_int_equal(f.date_count, 1);
	assert_int_equal(f.message_id_count, 1);
	assert_int_equal(f.subject_count, 2);
	assert_int_equal(f.bcc_count, 2);
	assert_int_equal(f.sender_count, 1);
	assert_true(span_eq(f.from, SPAN(" First <a@b>")));
	assert_true(span_eq(f.message_id, SPAN("<x@y>")));
	assert_true(span_eq(f.subject, SPAN(" =?utf-8?q?x?=\r\n y")));
	assert_false(f.auto_submitted);
	assert_false(f.has_8bit);
	assert_int_equal(f.first_bad_line.len, 0);
}

static void
test_facts_of_odd_headers(void **state)
{
	struct header_facts f;

	(void)state;
	header_inspect(SPAN("A: b\r\njunk\r\nmore junk\r\nFrom: x@y\r\n"), &f);
	assert_true(span_eq(f.first_bad_line, SPAN("junk\r\n")));
	assert_int_equal(f.from_count, 1);
	header_inspect(SPAN("Subject: gr\xc3\xbc\xc3\x9f\r\n\r\n"), &f);
	assert_true(f.has_8bit);
	header_inspect(SPAN_EMPTY, &f);
	assert_int_equal(f.field_count, 0);
	header_inspect(SPAN("\r\nFrom: in the body\r\n"), &f);
	assert_int_equal(f.from_count, 0);
}

static void
test_auto_submitted(void **state)
{
	/* clang-format off */
	static const struct {
		const char *section;
		bool is_auto;
	} rows[] = {
		{ "Auto-Submitted: auto-replied\r\n", true },
		{ "auto-submitted: auto-generated; x=y\r\n", true },
		{ "Auto-Submitted: no\r\n", false },
		{ "Auto-Submitted: NO (by hand)\r\n", false },
		{ "Auto-Submitted: no;x=y\r\n", false },
		{ "Auto-Submitted:\r\n no\r\n", false },
		{ "Auto-Submitted: notify\r\n", true },
		{ "Auto-Submitted: no\r\nAuto-Submitted: auto-replied\r\n", true },
		{ "X: Auto-Submitted: auto-replied\r\n", false },
	};

	/* clang-format on */

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct header_facts f;
		header_inspect(span_of(rows[i].section), &f);
		if (f.auto_submitted != rows[i].is_auto)
			fail_msg("%s", rows[i].section);
	}
}

static void
test_copy_without(void **state)
{
	static const char *const names[] = { "bcc", "Return-Path", NULL };
	static const char *const none[] = { NULL };

	/* clang-format off */
	static const struct {
		const char *section, *kept;
	} rows[] = {
		{ "A: b\r\n\r\n", "A: b\r\n\r\n" },
		{ "Bcc: x\r\n y\r\n\tz\r\nA: b\r\n\r\n", "A: b\r\n\r\n" },
		{ "A: b\r\nBCC: x\r\nC: d\r\nBcc : y\r\n\r\n", "A: b\r\nC: d\r\n\r\n" },
		{ "return-path: x\r\nBcc: y\r\n\r\n", "\r\n" },
		{ "junk\r\nBcc: y\r\n: z\r\n", "junk\r\n: z\r\n" },
		{ "X-Bcc: y\r\nBccx: y\r\n", "X-Bcc: y\r\nBccx: y\r\n" },
		{ "A: b\r\n\r\nBcc: body\r\n", "A: b\r\n\r\nBcc: body\r\n" },
		{ "Bcc: x", "" },
		{ "", "" },
	};

	/* clang-format on */

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf out = BUF_EMPTY;
		header_copy_without(span_of(rows[i].section), names, &out);
		if (!span_eq(buf_span(&out), span_of(rows[i].kept)))
			fail_msg("%s: %s", rows[i].section, buf_cstring(&out));
		buf_clear(&out);
		header_copy_without(span_of(rows[i].section), none, &out);
		assert_true(span_eq(buf_span(&out), span_of(rows[i].section)));
		buf_done(&out);
	}
}

/* 10^6 continuation lines take one pass, not one pass each. */
static void
test_long_folding_is_linear(void **state)
{
	struct buf section = BUF_EMPTY;
	struct header_facts f;

	(void)state;
	buf_append_str(&section, "A: b\r\n");
	for (size_t i = 0; i < 1000000; i++)
		buf_append_str(&section, " \r\n");
	buf_append_str(&section, "Subject: x\r\n");
	header_inspect(buf_span(&section), &f);
	assert_int_equal(f.field_count, 2);
	assert_int_equal(f.subject_count, 1);
	buf_done(&section);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields_one_by_one),
		cmocka_unit_test(test_section_length),
		cmocka_unit_test(test_facts),
		cmocka_unit_test(test_facts_of_odd_headers),
		cmocka_unit_test(test_auto_submitted),
		cmocka_unit_test(test_copy_without),
		cmocka_unit_test(test_long_folding_is_linear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
