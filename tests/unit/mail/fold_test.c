/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/internal.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* clang-format on */

static void
test_fold(void **state)
{
	static const struct fold fold = {
		.width = 12,
		.indent = { "  ", 2 },
	};

	/* clang-format off */
	static const struct {
		const char *text, *folded;
	} rows[] = {
		{ "", "\r\n" },
		{ "one", "one\r\n" },
		{ "one two four", "one two four\r\n" },
		{ "one two three", "one two\r\n  three\r\n" },
		{ "one  two ", "one two\r\n" },
		{ "one\ntwo", "one\r\n  two\r\n" },
		{ "a-word-longer-than-a-line two", "a-word-longer-than-a-line\r\n  two\r\n" },
		{ "one a-word-longer-than-a-line", "one\r\n  a-word-longer-than-a-line\r\n" },
	};

	/* clang-format on */

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf out = BUF_EMPTY;
		fold_append(&fold, span_of(rows[i].text), &out);
		assert_string_equal(buf_cstring(&out), rows[i].folded);
		buf_done(&out);
	}
}

/* Lines end before 998 octets, and no character is torn. */
static void
test_endless_word(void **state)
{
	struct buf word = BUF_EMPTY, out = BUF_EMPTY;

	(void)state;
	buf_append_char(&word, 'x');
	for (size_t i = 0; i < 5000; i++)
		buf_append_str(&word, "\xe2\x82\xac");
	fold_append_field(buf_span(&word), &out);
	struct span rest = buf_span(&out);
	size_t total = 0;
	while (rest.len > 0) {
		size_t end = span_search(rest, SPAN("\r\n"));
		assert_true(end <= 998);
		struct span line = span_slice(rest, 0, end);
		assert_true(span_is_utf8(line));
		total += span_trim(line).len;
		rest = span_skip(rest, end + 2);
	}
	assert_int_equal(total, buf_size(&word));
	buf_done(&word);
	buf_done(&out);
}

static void
test_field(void **state)
{
	struct buf out = BUF_EMPTY;

	(void)state;
	field_append("Diagnostic-Code",
	    SPAN("smtp; 550 5.1.1 no such user here, and\r\nBcc: evil\x1b, "
		 "truly"),
	    PLAIN_ASCII, &out);
	assert_string_equal(buf_cstring(&out),
	    "Diagnostic-Code: smtp; 550 5.1.1 no such user here, and Bcc: "
	    "evil?, truly\r\n");
	buf_done(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fold),
		cmocka_unit_test(test_endless_word),
		cmocka_unit_test(test_field),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
