/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* clang-format on */

static void
test_crc32c(void **state)
{
	(void)state;
	/* RFC 3720 appendix B.4 */
	unsigned char bytes[32] = { 0 };
	assert_int_equal(hash_crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(hash_crc32c(0, bytes, 32), 0x8a9136aa);
	memset(bytes, 0xff, sizeof bytes);
	assert_int_equal(hash_crc32c(0, bytes, 32), 0x62a8ab43);
	assert_int_equal(hash_crc32c(0, NULL, 0), 0);
	for (size_t cut = 0; cut <= 9; cut++) {
		uint32_t crc = hash_crc32c(0, "123456789", cut);
		crc = hash_crc32c(crc, &"123456789"[cut], 9 - cut);
		assert_int_equal(crc, 0xe3069283);
	}
}

/* Computed with an independent implementation, key 00 01 … 0f and message
 * 00 01 …: SipHash-1-3. */
static void
test_siphash(void **state)
{
	(void)state;
	const uint64_t key[2] = { UINT64_C(0x0706050403020100),
		UINT64_C(0x0f0e0d0c0b0a0908) };
	const char message[] = "\0\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20\21";
	assert_true(
	    hash_siphash(key, SPAN_EMPTY) == UINT64_C(0xabac0158050fc4dc));
	assert_true(hash_siphash(key, span_from(message, 7)) ==
		    UINT64_C(0xd3927d989bb11140));
	assert_true(hash_siphash(key, span_from(message, 8)) ==
		    UINT64_C(0x369095118d299a8e));
	assert_true(hash_siphash(key, span_from(message, 17)) ==
		    UINT64_C(0x9cf2689063dbd80c));
}

static void
test_keyed(void **state)
{
	(void)state;
	assert_true(hash_keyed(SPAN("a")) == hash_keyed(SPAN("a")));
	assert_true(hash_keyed(SPAN("a")) != hash_keyed(SPAN("b")));
	assert_true(hash_keyed(SPAN("a")) != hash_stable(SPAN("a")));
	assert_true(hash_keyed_u64(1) == hash_keyed_u64(1));
	assert_true(hash_keyed_u64(1) != hash_keyed_u64(2));
}

/* Stored or shared placements depend on these never changing. */
static void
test_stable(void **state)
{
	(void)state;
	assert_true(hash_mix(0) == 0);
	assert_true(hash_mix(1) == UINT64_C(0xb456bcfc34c2cb2c));
	assert_true(hash_stable(SPAN("")) == UINT64_C(0xefd01f60ba992926));
	assert_true(
	    hash_stable(SPAN("example.com")) == UINT64_C(0x9591d6421994d599));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crc32c),
		cmocka_unit_test(test_siphash),
		cmocka_unit_test(test_keyed),
		cmocka_unit_test(test_stable),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
