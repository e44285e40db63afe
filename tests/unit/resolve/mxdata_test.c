/* SPDX-License-Identifier: Apache-2.0 */
#include "resolve/mxdata.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */

#define L63                                                                    \
	"\x3f"                                                                 \
	"aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggg"

static void
rdata_is_parsed_or_refused(void **state)
{
	static const struct {
		struct span rdata;
		int preference; /* -1: refused */
		const char *name;
	} cases[] = {
		/* clang-format off */
		{ SPAN(""), -1, NULL },
		{ SPAN("\0"), -1, NULL },
		{ SPAN("\0\x0a"), -1, NULL },
		{ SPAN("\0\x0a\0"), 10, "" },
		{ SPAN("\0\0\0"), 0, "" },
		{ SPAN("\xff\xff\1a\0"), 65535, "a" },
		{ SPAN("\0\1\2MX\7Example\3NET\0"), 1, "mx.example.net" },
		{ SPAN("\0\1\4_x-9\0"), 1, "_x-9" },
		{ SPAN("\0\1\2mx"), -1, NULL }, /* no root label */
		{ SPAN("\0\1\5mx\0"), -1, NULL }, /* label too long */
		{ SPAN("\0\1\2mx\0x"), -1, NULL }, /* more behind */
		{ SPAN("\0\1\xc0\x0c"), -1, NULL }, /* pointer */
		{ SPAN("\0\1\x40" "a\0"), -1, NULL },
		{ SPAN("\0\1\3a.b\0"), -1, NULL },
		{ SPAN("\0\1\3a b\0"), -1, NULL },
		{ SPAN("\0\1\3a\0b\0"), -1, NULL },
		{ SPAN("\0\1\3a\r\n\0"), -1, NULL },
		{ SPAN("\0\1\2\xc3\xa4\0"), -1, NULL },
		{ SPAN("\0\1" L63 "\0"), 1, &L63[1] },
		{ SPAN("\0\1" L63 L63 L63 L63 "\0"), -1, NULL },
		/* clang-format on */
	};

	(void)state;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct mx_record record = { .preference = 4711 };
		/* Exactly so much memory, for ASan to watch. */
		size_t len = cases[i].rdata.len;
		char *copy = malloc(len ? len : 1);
		assert_non_null(copy);
		memcpy(copy, cases[i].rdata.ptr, len);
		bool ok = mx_rdata_parse(span_from(copy, len), &record);
		free(copy);
		assert_int_equal(ok, cases[i].preference >= 0);
		assert_int_equal(
		    record.preference, ok ? cases[i].preference : 4711);
		if (ok)
			assert_string_equal(record.name, cases[i].name);
	}
}

static void
names_are_normalised(void **state)
{
	static const struct {
		const char *text, *name;
	} cases[] = {
		{ "example.com", "example.com" },
		{ "EXAMPLE.com.", "example.com" },
		{ "xn--bcher-kva.example", "xn--bcher-kva.example" },
		{ "a", "a" },
		{ "", NULL },
		{ ".", NULL },
		{ "a..b", NULL },
		{ ".a", NULL },
		{ "a..", NULL },
		{ "a b", NULL },
		{ "a/b", NULL },
		{ "b\xc3\xbc"
		  "cher.example",
		    NULL },
	};

	char name[DNS_NAME_SIZE], longest[300];
	(void)state;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		bool ok = dns_name_normalise(span_of(cases[i].text), name);
		assert_int_equal(ok, cases[i].name != NULL);
		if (ok)
			assert_string_equal(name, cases[i].name);
	}
	for (size_t len = 1; len < sizeof longest; len++) {
		for (size_t i = 0; i < len; i++)
			longest[i] = i % 50 == 49 ? '.' : 'a';
		bool ok = dns_name_normalise(span_from(longest, len), name);
		bool ends_in_dot = len % 50 == 0;
		assert_int_equal(ok, len <= 253 || (ends_in_dot && len <= 254));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rdata_is_parsed_or_refused),
		cmocka_unit_test(names_are_normalised),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
