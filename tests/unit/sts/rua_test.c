/* SPDX-License-Identifier: Apache-2.0 */
#include "sts/rua.h"

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
	const char *text, *shown; /* addresses, each with a space behind */
} cases[] = {
	{ "v=TLSRPTv1; rua=mailto:a@b.example", "a@b.example " },
	{ "v=TLSRPTv1;rua=mailto:a@b.example,mailto:c@d.example;",
	    "a@b.example c@d.example " },
	{ "v=TLSRPTv1; rua=https://x.example/y, MAILTO:a@b.example",
	    "a@b.example " },
	{ "v=TLSRPTv1; x=y; rua=mailto:a%2Cb@c.example?subject=x",
	    "a,b@c.example " },
	{ "v=TLSRPTv1; rua=mailto:,mailto:%0,mailto:%00,mailto:a@b", "a@b " },
	{ "v=TLSRPTv1; rua=mailto:0123456789012345678901234567890123@x", "" },
	{ "v=TLSRPTv1; rua=https://x.example/y", "" },
	{ "v=TLSRPTv1; rua=", "" },
	{ "v=TLSRPTv1;", "" },
	{ "v=TLSRPTv2; rua=mailto:a@b.example", "" },
	{ "rua=mailto:a@b.example; v=TLSRPTv1", "" },
	{ "", "" },
};

static void
addresses_are_found(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char all[256] = "", one[32];
		size_t at = 0, len = 0;
		while (
		    sts_rua_next(span_of(cases[i].text), &at, one, sizeof one))
			len += (size_t)snprintf(
			    all + len, sizeof all - len, "%s ", one);
		assert_string_equal(all, cases[i].shown);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_found),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
