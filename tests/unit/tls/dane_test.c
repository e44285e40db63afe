/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "tls/dane.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */

/* A P-256 key, as SubjectPublicKeyInfo. */
static const unsigned char key[] = { 0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a,
	0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
	0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04, 0x6b, 0x17, 0xd1, 0xf2,
	0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2,
	0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45,
	0xd8, 0x98, 0xc2, 0x96, 0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b,
	0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33, 0x57,
	0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51,
	0xf5 };

/* `len` octets behind the three numbers; -1: the key, -2: it and one more. */
static const struct {
	int usage, selector, matching, len;
	bool is_usable;
} cases[] = {
	/* clang-format off */
	{ 3, 1, 1, 32, true },   { 2, 0, 2, 64, true },  { 3, 0, 1, 32, true },
	{ 3, 1, 0, -1, true },   { 2, 1, 0, -1, true },
	{ 3, 1, 0, -2, false },  { 3, 0, 0, -1, false }, { 3, 1, 0, 4, false },
	{ 3, 1, 0, 0, false },   { 3, 1, 1, 0, false },  { 3, 1, 1, 16, false },
	{ 3, 1, 1, 31, false },  { 3, 1, 1, 33, false }, { 3, 1, 2, 32, false },
	{ 0, 1, 1, 32, false },  { 1, 1, 1, 32, false }, { 4, 1, 1, 32, false },
	{ 255, 1, 1, 32, false }, { 3, 2, 1, 32, false }, { 3, 1, 3, 32, false },
	/* clang-format on */
};

static void
some_records_can_be_used(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tls_dane_record r;
		int wanted = cases[i].len;
		size_t len =
		    wanted >= 0 ? (size_t)wanted : sizeof key + (wanted == -2);
		/* Exactly as long as it is, for those who look behind ends. */
		unsigned char *rdata = mem_zalloc(len + 3);
		rdata[0] = (unsigned char)cases[i].usage;
		rdata[1] = (unsigned char)cases[i].selector;
		rdata[2] = (unsigned char)cases[i].matching;
		if (wanted < 0)
			memcpy(rdata + 3, key, sizeof key);
		assert_true(tls_dane_parse(span_from(rdata, len + 3), &r));
		assert_int_equal(r.data.len, len);
		if (tls_dane_is_usable(&r) != cases[i].is_usable)
			fail_msg("case %zu", i);
		mem_free(rdata);
	}
}

static void
short_ones_are_none(void **state)
{
	(void)state;
	for (size_t len = 0; len < 3; len++) {
		struct tls_dane_record r;
		unsigned char *rdata = mem_zalloc(len + !len);
		assert_false(tls_dane_parse(span_from(rdata, len), &r));
		mem_free(rdata);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(some_records_can_be_used),
		cmocka_unit_test(short_ones_are_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
