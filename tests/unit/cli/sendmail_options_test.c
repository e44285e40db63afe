/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/sendmail.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define WORDS_MAX 12

struct line {
	const char *words[WORDS_MAX];
};

static int
parse(const struct line *line, struct sendmail_options *o, struct failure *f)
{
	char *argv[WORDS_MAX + 1] = { 0 };
	static char *kept[WORDS_MAX + 1];
	int argc = 0;

	for (; argc < WORDS_MAX && line->words[argc] != NULL; argc++)
		memcpy(&argv[argc], &line->words[argc], sizeof(argv[argc]));
	memcpy(kept, argv, sizeof(argv));
	return sendmail_options_parse(argc, kept, o, f);
}

static void
what_programs_write_is_understood(void **state)
{
	static const struct {
		struct line line;
		enum sendmail_mode mode;
		bool reads, ignores;
		const char *sender, *name;
		size_t recipients;
	} cases[] = {
		{ { { "sendmail" } }, SENDMAIL_SUBMIT, false, false, NULL, NULL,
		    0 },
		{ { { "sendmail", "-t", "-i" } }, SENDMAIL_SUBMIT, true, true,
		    NULL, NULL, 0 },
		{ { { "sendmail", "-ti" } }, SENDMAIL_SUBMIT, true, true, NULL,
		    NULL, 0 },
		{ { { "sendmail", "-oi", "-f", "a@b", "--", "c@d", "e@f" } },
		    SENDMAIL_SUBMIT, false, true, "a@b", NULL, 2 },
		{ { { "sendmail", "-fa@b", "-FAnn B", "c@d" } },
		    SENDMAIL_SUBMIT, false, false, "a@b", "Ann B", 1 },
		{ { { "sendmail", "-o", "i", "-oem", "-odb", "-om", "c@d" } },
		    SENDMAIL_SUBMIT, false, true, NULL, NULL, 1 },
		{ { { "sendmail", "-f", "", "c@d" } }, SENDMAIL_SUBMIT, false,
		    false, "", NULL, 1 },
		{ { { "sendmail", "-r<>", "-B8BITMIME", "-G", "-U", "c@d" } },
		    SENDMAIL_SUBMIT, false, false, "<>", NULL, 1 },
		{ { { "sendmail", "-bm", "-X", "/log", "c@d" } },
		    SENDMAIL_SUBMIT, false, false, NULL, NULL, 1 },
		{ { { "sendmail", "-bp" } }, SENDMAIL_LIST, false, false, NULL,
		    NULL, 0 },
		{ { { "sendmail", "-bi" } }, SENDMAIL_ALIASES, false, false,
		    NULL, NULL, 0 },
		{ { { "sendmail", "-I" } }, SENDMAIL_ALIASES, false, false,
		    NULL, NULL, 0 },
		{ { { "sendmail", "-em", "-c", "c@d" } }, SENDMAIL_SUBMIT,
		    false, false, NULL, NULL, 1 },
		{ { { "sendmail", "-q" } }, SENDMAIL_FLUSH, false, false, NULL,
		    NULL, 0 },
		{ { { "sendmail", "-q30m" } }, SENDMAIL_FLUSH, false, false,
		    NULL, NULL, 0 },
		{ { { "sendmail", "-", "-t" } }, SENDMAIL_SUBMIT, false, false,
		    NULL, NULL, 2 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct sendmail_options o;
		struct failure f;

		assert_int_equal(parse(&cases[i].line, &o, &f), 0);
		assert_int_equal(o.mode, cases[i].mode);
		assert_int_equal(o.reads_recipients, cases[i].reads);
		assert_int_equal(o.ignores_dots, cases[i].ignores);
		assert_int_equal(o.recipient_count, cases[i].recipients);
		assert_int_equal(o.sender == NULL, cases[i].sender == NULL);
		if (o.sender != NULL)
			assert_string_equal(o.sender, cases[i].sender);
		assert_int_equal(o.full_name == NULL, cases[i].name == NULL);
		if (o.full_name != NULL)
			assert_string_equal(o.full_name, cases[i].name);
	}
}

static void
reports_can_be_asked_for(void **state)
{
	static const struct line line = { { "sendmail", "-N", "success,failure",
	    "-R", "hdrs", "-Vabc", "--control=/run/x", "--config", "/etc/y",
	    "-v", "a@b" } };
	struct sendmail_options o;
	struct failure f;

	(void)state;
	assert_int_equal(parse(&line, &o, &f), 0);
	assert_string_equal(o.notify, "success,failure");
	assert_string_equal(o.ret, "hdrs");
	assert_string_equal(o.envid, "abc");
	assert_string_equal(o.control, "/run/x");
	assert_string_equal(o.config, "/etc/y");
	assert_true(o.is_verbose);
}

/* CVE-2016-10033 and its kin: an address is no option. */
static void
options_end_at_the_first_address(void **state)
{
	static const struct line line = { { "sendmail", "-i", "a@b", "-fx@y",
	    "-bp" } };
	struct sendmail_options o;
	struct failure f;

	(void)state;
	assert_int_equal(parse(&line, &o, &f), 0);
	assert_null(o.sender);
	assert_int_equal(o.mode, SENDMAIL_SUBMIT);
	assert_int_equal(o.recipient_count, 3);
}

static void
what_cannot_be_is_said(void **state)
{
	static const struct {
		struct line line;
		const char *says;
	} cases[] = {
		{ { { "sendmail", "-bs" } }, "-bs" },
		{ { { "sendmail", "-bd" } }, "posthouse serve" },
		{ { { "sendmail", "-bz" } }, "-bz" },
		{ { { "sendmail", "-f" } }, "needs a value" },
		{ { { "sendmail", "-tf" } }, "needs a value" },
		{ { { "sendmail", "-y" } }, "-y is not known" },
		{ { { "sendmail", "--queue" } }, "not known" },
		{ { { "sendmail", "--config" } }, "value" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct sendmail_options o;
		struct failure f;

		assert_int_equal(parse(&cases[i].line, &o, &f), ERR_SYNTAX);
		if (strstr(f.text, cases[i].says) == NULL)
			fail_msg("%s", f.text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_programs_write_is_understood),
		cmocka_unit_test(reports_can_be_asked_for),
		cmocka_unit_test(options_end_at_the_first_address),
		cmocka_unit_test(what_cannot_be_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
