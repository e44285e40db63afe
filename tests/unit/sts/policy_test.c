/* SPDX-License-Identifier: Apache-2.0 */
#include "sts/policy.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* clang-format on */

static const struct {
	const char *text, *id; /* NULL: no record */
} records[] = {
	{ "v=STSv1; id=20160831085700Z;", "20160831085700Z" },
	{ "v=STSv1;id=a", "a" },
	{ "v=STSv1 ; x=y ; id = 1 ;", "1" },
	{ "v=STSv1; id=12345678901234567890123456789012;",
	    "12345678901234567890123456789012" },
	{ "v=STSv1; id=123456789012345678901234567890123;", NULL },
	{ "v=STSv1;", NULL },
	{ "v=STSv1; id=;", NULL },
	{ "v=STSv1; id=a-b;", NULL },
	{ "v=STSv2; id=1;", NULL },
	{ "id=1; v=STSv1;", NULL },
	{ "", NULL },
};

static void
records_name_an_id(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof records / sizeof *records; i++) {
		char id[STS_ID_SIZE] = "";
		bool is_record = sts_record_parse(span_of(records[i].text), id);
		assert_int_equal(is_record, records[i].id != NULL);
		if (is_record)
			assert_string_equal(id, records[i].id);
	}
}

#define HEAD "version: STSv1\r\nmode: enforce\r\nmax_age: 60\r\n"

static const struct {
	const char *text, *shown; /* NULL: unusable */
} policies[] = {
	{ HEAD "mx: Mx.Example\r\n",
	    "version: STSv1\nmode: enforce\nmax_age: 60\nmx: mx.example\n" },
	{ "version:STSv1\nmax_age:31557601\nmx:*.b\nmode:testing\nmx:a",
	    "version: STSv1\nmode: testing\nmax_age: 31557600\n"
	    "mx: *.b\nmx: a\n" },
	{ "version: STSv1\nmode: none\nmax_age: 0\n",
	    "version: STSv1\nmode: none\nmax_age: 0\n" },
	/* The first of a key counts; unknown ones do not. */
	{ HEAD "mode: none\nmax_age: x\nextra: 1\nnonsense\nmx: a\n",
	    "version: STSv1\nmode: enforce\nmax_age: 60\nmx: a\n" },
	{ HEAD, NULL },
	{ HEAD "mx: a b\n", NULL },
	{ HEAD "mx: *.*.a\n", NULL },
	{ HEAD "mx: *\n", NULL },
	{ HEAD "mx:\n", NULL },
	{ HEAD "mx: .a\n", NULL },
	{ "mode: enforce\nversion: STSv1\nmax_age: 60\nmx: a\n", NULL },
	{ "version: STSv2\nmode: enforce\nmax_age: 60\nmx: a\n", NULL },
	{ "version: STSv1\nmode: strict\nmax_age: 60\nmx: a\n", NULL },
	{ "version: STSv1\nmode: enforce\nmx: a\n", NULL },
	{ "version: STSv1\nmax_age: 60\nmx: a\n", NULL },
	{ "version: STSv1\nmode: enforce\nmax_age: -1\nmx: a\n", NULL },
	{ "<html>", NULL },
	{ "", NULL },
};

static void
policies_are_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
		const char *problem = NULL;
		struct buf shown = BUF_EMPTY;
		struct sts_policy *p =
		    sts_policy_parse(span_of(policies[i].text), &problem);
		if ((p != NULL) != (policies[i].shown != NULL))
			fail_msg("policy %zu", i);
		assert_int_equal(problem == NULL, p != NULL);
		if (p == NULL)
			continue;
		sts_policy_format(p, &shown);
		assert_string_equal(buf_cstring(&shown), policies[i].shown);
		buf_done(&shown);
		sts_policy_unref(&p);
	}
}

static void
what_asks_for_the_same_has_one_mark(void **state)
{
	static const char *const texts[] = { HEAD "mx: a\nmx: b\n",
		HEAD "x: y\nmx: B\nmx: A\n", HEAD "mx: a\n",
		"version: STSv1\nmode: testing\nmax_age: 60\nmx: a\nmx: b\n" };
	uint64_t marks[4];
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		const char *problem;
		struct sts_policy *p =
		    sts_policy_parse(span_of(texts[i]), &problem);
		assert_non_null(p);
		marks[i] = p->mark;
		sts_policy_unref(&p);
	}
	assert_true(marks[0] == marks[1]);
	assert_true(marks[0] != marks[2] && marks[0] != marks[3]);
}

static const struct {
	const char *host;
	bool is_allowed;
} hosts[] = {
	{ "mx.example", true },
	{ "MX.EXAMPLE", true },
	{ "mx.example.org", false },
	{ "a.b.example", true },
	{ "b.example", false },
	{ "x.a.b.example", false },
	{ ".b.example", false },
	{ "example", false },
	{ "", false },
};

static void
a_wildcard_is_one_label(void **state)
{
	const char *problem;
	struct sts_policy *p = sts_policy_parse(
	    SPAN(HEAD "mx: mx.example\nmx: *.b.example\n"), &problem);
	(void)state;
	assert_non_null(p);
	for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
		assert_int_equal(sts_policy_allows(p, span_of(hosts[i].host)),
		    hosts[i].is_allowed);
	sts_policy_unref(&p);
}

static void
there_is_an_end_to_it(void **state)
{
	struct buf text = BUF_EMPTY;
	const char *problem;
	(void)state;
	buf_append_str(&text, HEAD);
	for (int i = 0; i <= STS_MX_MAX; i++)
		buf_printf(&text, "mx: mx%d.example\n", i);
	assert_null(sts_policy_parse(buf_span(&text), &problem));
	assert_non_null(strstr(problem, "too many"));
	buf_clear(&text);
	buf_append_str(&text, HEAD "mx: a\n");
	while (buf_size(&text) <= STS_POLICY_MAX)
		buf_append_str(&text, "x: y\n");
	assert_null(sts_policy_parse(buf_span(&text), &problem));
	assert_non_null(strstr(problem, "64 KB"));
	buf_done(&text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_name_an_id),
		cmocka_unit_test(policies_are_read),
		cmocka_unit_test(what_asks_for_the_same_has_one_mark),
		cmocka_unit_test(a_wildcard_is_one_label),
		cmocka_unit_test(there_is_an_end_to_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
