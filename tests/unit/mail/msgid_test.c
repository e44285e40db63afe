/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/msgid.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */

#define KEY UINT64_C(0x0123456789abcdef)
#define NOW INT64_C(1795455889123456)

static void
test_number_comes_back(void **state)
{
	static const uint64_t numbers[] = { 0, 1, 2, 1000, UINT32_MAX,
		UINT64_C(1) << 32, UINT64_C(1) << 63, UINT64_MAX };
	static const uint64_t keys[] = { 0, 1, KEY, UINT64_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
			struct msgid id =
			    msgid_make(NOW, 0xbeef, numbers[i], keys[k]);
			assert_true(msgid_mno(&id, keys[k]) == numbers[i]);
			assert_int_equal(msgid_node(&id), 0xbeef);
			assert_true(msgid_wall_us(&id) == NOW - NOW % 1000);
		}
	}
}

static void
test_number_is_hidden(void **state)
{
	(void)state;
	for (uint64_t n = 0; n < 1000; n++) {
		struct msgid a = msgid_make(NOW, 1, n, KEY);
		struct msgid b = msgid_make(NOW, 1, n + 1, KEY);
		struct msgid c = msgid_make(NOW, 1, n, KEY + 1);
		uint64_t first, next, other_key;
		memcpy(&first, a.bytes + 8, 8);
		memcpy(&next, b.bytes + 8, 8);
		memcpy(&other_key, c.bytes + 8, 8);
		/* About half of the bits differ; 64 fair coins stay above 8. */
		assert_true(__builtin_popcountll(first ^ next) > 8);
		assert_true(__builtin_popcountll(first ^ other_key) > 8);
		assert_false(msgid_mno(&a, KEY + 1) == n);
	}
}

/* The spool of yesterday is read by the program of tomorrow. */
static void
test_form_is_stable(void **state)
{
	char text[MSGID_TEXT_SIZE];
	struct msgid id = msgid_make(NOW, 1, 42, KEY);

	(void)state;
	assert_string_equal(
	    msgid_format(&id, text), "01M84R5BQ3000MEN044G3BNE3Y");
}

static void
test_text(void **state)
{
	/* clang-format off */
	static const struct {
		struct msgid id;
		const char *text;
	} rows[] = {
		{ { { 0 } }, "00000000000000000000000000" },
		{ { { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff } },
		  "7ZZZZZZZZZZZZZZZZZZZZZZZZZ" },
		{ { { 0x01, 0x56, 0x3d, 0xf3, 0x64, 0x81, 0, 0,
		      0, 0, 0, 0, 0, 0, 0, 1 } },
		  "01ARYZ6S410000000000000001" },
	};

	/* clang-format on */

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[MSGID_TEXT_SIZE];
		struct msgid back;
		assert_string_equal(
		    msgid_format(&rows[i].id, text), rows[i].text);
		assert_true(msgid_parse(span_of(rows[i].text), &back));
		assert_memory_equal(back.bytes, rows[i].id.bytes, 16);
	}
}

static void
test_parse(void **state)
{
	/* clang-format off */
	static const struct {
		const char *text;
		bool is_id;
	} rows[] = {
		{ "01ARZ3NDEKTSV4RRFFQ69G5FAV", true },
		{ "01arz3ndektsv4rrffq69g5fav", true },
		{ "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", true },
		{ "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", false },
		{ "81ARZ3NDEKTSV4RRFFQ69G5FAV", false },
		{ "01ARZ3NDEKTSV4RRFFQ69G5FA", false },
		{ "01ARZ3NDEKTSV4RRFFQ69G5FAVX", false },
		{ "01ARZ3NDEKTSV4RRFFQ69G5FAI", false },
		{ "01ARZ3NDEKTSV4RRFFQ69G5FAL", false },
		{ "01ARZ3NDEKTSV4RRFFQ69G5FAO", false },
		{ "01ARZ3NDEKTSV4RRFFQ69G5FAU", false },
		{ "01ARZ3NDEKTSV4RRFFQ69G5FA-", false },
		{ "../../etc/passwd0000000000", false },
		{ "", false },
	};

	/* clang-format on */

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct msgid id;
		if (msgid_parse(span_of(rows[i].text), &id) != rows[i].is_id)
			fail_msg("%s", rows[i].text);
	}
	struct msgid id;
	assert_false(msgid_parse(SPAN("01ARZ3NDEKTSV4RRFFQ69G5FA\0"), &id));
}

static void
test_order_follows_time(void **state)
{
	char before[MSGID_TEXT_SIZE], after[MSGID_TEXT_SIZE];
	struct msgid first = msgid_make(NOW, 0xffff, 7, KEY);
	struct msgid next = msgid_make(NOW + 1000, 0, 3, KEY);

	(void)state;
	assert_true(strcmp(msgid_format(&first, before),
			msgid_format(&next, after)) < 0);
	struct msgid early = msgid_make(-1, 1, 2, KEY);
	assert_true(msgid_wall_us(&early) == 0);
}

static void
test_random(void **state)
{
	struct msgid id = msgid_random(
	    NOW, UINT64_C(0x1234567890abcdef), UINT64_C(0x1122334455667788));
	static const uint8_t tail[] = { 0xcd, 0xef, 0x11, 0x22, 0x33, 0x44,
		0x55, 0x66, 0x77, 0x88 };

	(void)state;
	assert_memory_equal(id.bytes + 6, tail, sizeof(tail));
	assert_true(msgid_wall_us(&id) == NOW - NOW % 1000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_number_comes_back),
		cmocka_unit_test(test_number_is_hidden),
		cmocka_unit_test(test_form_is_stable),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_order_follows_time),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
