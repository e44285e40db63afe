/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/address.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#define TEN "abcdefghij"
#define LABEL63 TEN TEN TEN TEN TEN TEN "abc"

static void
test_normalise(void **state)
{
	/* clang-format off */
	static const struct {
		const char *input, *domain;
	} rows[] = {
		{ "Example.COM",                "example.com" },
		{ "example.com.",               "example.com" },
		{ "localhost",                  "localhost" },
		{ "b\xc3\xbc" "cher.example",   "xn--bcher-kva.example" },
		{ "xn--bcher-kva.example.",     "xn--bcher-kva.example" },
		{ "fa\xc3\x9f.de",              "xn--fa-hia.de" },
		{ "example.com..",              NULL },
		{ ".",                          NULL },
		{ "",                           NULL },
		{ "a@b",                        NULL },
		{ "[192.0.2.1]",                NULL },
		{ "192.0.2.1",                  NULL },
		{ "\xff.example",               NULL },
		{ "b\xc3",                      NULL },
	};
	/* clang-format on */
	struct arena *arena = arena_new();

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct span domain = SPAN("untouched");
		int code = address_normalise_domain(
		    span_of(rows[i].input), arena, &domain);
		if (rows[i].domain == NULL) {
			assert_int_equal(code, ERR_SYNTAX);
			assert_true(span_eq(domain, SPAN("untouched")));
			continue;
		}
		assert_int_equal(code, 0);
		if (!span_eq(domain, span_of(rows[i].domain)))
			fail_msg("%s: %.*s", rows[i].input, SPAN_ARG(domain));
	}
	arena_free(&arena);
}

static void
test_nul_in_domain(void **state)
{
	struct arena *arena = arena_new();
	struct span domain;

	(void)state;
	assert_int_equal(
	    address_normalise_domain(SPAN("a\0.b"), arena, &domain),
	    ERR_SYNTAX);
	assert_int_equal(
	    address_normalise_domain(SPAN("b\xc3\xbc\0.b"), arena, &domain),
	    ERR_SYNTAX);
	arena_free(&arena);
}

static void
test_helo_name(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name;
		bool is_name;
	} rows[] = {
		{ "mail.example.com",     true },
		{ "localhost",            true },
		{ "MY_PC",                true },
		{ "192.0.2.1",            true },
		{ "[192.0.2.1]",          true },
		{ "[IPv6:2001:db8::1]",   true },
		{ "[2001:db8::1]",        true },
		{ LABEL63,                true },
		{ LABEL63 "x",            false },
		{ "",                     false },
		{ "[",                    false },
		{ "[]",                   false },
		{ "[x]",                  false },
		{ "[[::1]]",              false },
		{ "[192.0.2.1",           false },
		{ "a b",                  false },
		{ "a\r\nb",               false },
		{ "a..b",                 false },
		{ ".a",                   false },
		{ "a.",                   false },
		{ "-a",                   false },
		{ "a-",                   false },
		{ "a(b)",                 false },
		{ "b\xc3\xbc" "cher",     false },
		{ "%s%n",                 false },
	};

	/* clang-format on */

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (address_is_helo_name(span_of(rows[i].name)) !=
		    rows[i].is_name)
			fail_msg("%s", rows[i].name);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_normalise),
		cmocka_unit_test(test_nul_in_domain),
		cmocka_unit_test(test_helo_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
