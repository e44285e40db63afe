/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"
#include "returns/token.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define NOW_US (INT64_C(1795478400) * US_PER_S)

static const struct return_key key = { .mac = { 1, 2, 3 }, .hash = { 4, 5 } };

static struct return_token
example(void)
{
	return (struct return_token){
		.accepted_us = NOW_US + 123 * US_PER_MS,
		.sent_us = NOW_US + 123 * US_PER_MS + 345600 * US_PER_S,
		.mno = UINT64_C(34000000000),
		.rcpt = 999,
		.tenant = 99999,
		.stream = 399999,
		.wishes = 5,
		.address_hash = return_address_hash(&key, SPAN("a@x.example")),
	};
}

static void
test_comes_back(void **state)
{
	struct return_token t = example(), back;
	char local[RETURN_LOCAL_SIZE];

	(void)state;
	assert_true(return_token_format(&key, &t, local));
	assert_true(strlen(local) <= 64);
	assert_int_equal(return_token_check(&key, span_of(local),
			     t.sent_us + US_PER_DAY, US_PER_DAY, &back),
	    RETURN_GOOD);
	assert_int_equal(back.accepted_us, t.accepted_us);
	assert_int_equal(back.sent_us, t.sent_us);
	assert_int_equal(back.mno, t.mno);
	assert_int_equal(back.rcpt, t.rcpt);
	assert_int_equal(back.tenant, t.tenant);
	assert_int_equal(back.stream, t.stream);
	assert_int_equal(back.wishes, t.wishes);
	assert_int_equal(back.address_hash, t.address_hash);
	assert_int_equal(
	    back.address_hash, return_address_hash(&key, SPAN("A@X.example")));
	assert_int_equal(return_token_check(&key, span_of(local),
			     t.sent_us + US_PER_DAY + 1, US_PER_DAY, &back),
	    RETURN_EXPIRED);
	for (char *p = local; *p != '\0'; p++)
		*p = (char)(*p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p);
	assert_int_equal(return_token_check(&key, span_of(local), t.sent_us,
			     US_PER_DAY, &back),
	    RETURN_GOOD);
}

/* Each bit of each character counts, and so does each character. */
static void
test_forged(void **state)
{
	struct return_token t = example(), back;
	struct return_key other = key;
	char local[RETURN_LOCAL_SIZE];

	(void)state;
	t.tenant = t.stream = 1;
	assert_true(return_token_format(&key, &t, local));
	size_t len = strlen(local);
	/* The last character may have bits that stand for nothing. */
	for (size_t i = 0; i + 1 < len; i++) {
		char was = local[i];
		local[i] = was == 'a' ? 'b' : 'a';
		assert_int_equal(return_token_check(&key, span_of(local),
				     t.sent_us, US_PER_DAY, &back),
		    RETURN_FORGED);
		local[i] = was;
	}
	for (size_t i = 0; i < len; i++)
		assert_int_equal(return_token_check(&key, span_from(local, i),
				     t.sent_us, US_PER_DAY, &back),
		    RETURN_FORGED);
	other.mac[31] ^= 1;
	assert_int_equal(return_token_check(&other, span_of(local), t.sent_us,
			     US_PER_DAY, &back),
	    RETURN_FORGED);
	static const char *const others[] = { "", "b", "b+", "b+aaaa",
		"postmaster", "b+\xff",
		"b+aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		assert_int_equal(return_token_check(&key, span_of(others[i]),
				     NOW_US, US_PER_DAY, &back),
		    RETURN_FORGED);
}

static void
test_too_large(void **state)
{
	struct return_token t = example();
	char local[RETURN_LOCAL_SIZE];

	(void)state;
	t.mno = UINT64_MAX;
	t.tenant = t.stream = t.rcpt = UINT32_MAX;
	assert_false(return_token_format(&key, &t, local));
}

static void
test_key(void **state)
{
	char folder[] = "/tmp/posthouse-returns-XXXXXX", path[64];
	struct return_key one, two;
	struct failure failure;

	(void)state;
	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof path, "%s/returns.key", folder);
	assert_int_equal(return_key_open(path, &one, &failure), 0);
	assert_int_equal(return_key_open(path, &two, &failure), 0);
	assert_memory_equal(one.mac, two.mac, sizeof one.mac);
	assert_int_equal(one.hash[0], two.hash[0]);
	assert_int_equal(truncate(path, 47), 0);
	assert_int_equal(return_key_open(path, &two, &failure), ERR_CORRUPT);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_comes_back),
		cmocka_unit_test(test_forged),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
