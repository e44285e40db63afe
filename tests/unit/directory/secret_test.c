/* SPDX-License-Identifier: Apache-2.0 */
#include "base/span.h"
#include "directory/internal.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void
draws_from_the_whole_alphabet(void **state)
{
	char text[65];
	bool seen[256] = { 0 };
	unsigned count = 0;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		directory_secret_text(text, 64);
		assert_int_equal(strlen(text), 64);
		for (unsigned j = 0; j < 64; j++)
			seen[(unsigned char)text[j]] = true;
	}
	for (unsigned i = 0; i < 256; i++)
		count += seen[i];
	assert_int_equal(count, 32);
	assert_false(seen['i'] || seen['l'] || seen['o'] || seen['u']);
}

/* Hi() of RFC 5802 §2.2, written out, against OpenSSL's PBKDF2. */
static void
salted_password(const char *password, const unsigned char salt[static 16],
    unsigned char ret_hash[static 32])
{
	unsigned char block[20], u[32];
	unsigned len;

	memcpy(block, salt, 16);
	memcpy(block + 16, "\0\0\0\1", 4);
	assert_non_null(HMAC(EVP_sha256(), password, (int)strlen(password),
	    block, sizeof block, u, &len));
	memcpy(ret_hash, u, 32);
	for (unsigned i = 1; i < DIRECTORY_SCRAM_ITERATIONS; i++) {
		assert_non_null(HMAC(EVP_sha256(), password,
		    (int)strlen(password), u, 32, u, &len));
		for (unsigned j = 0; j < 32; j++)
			ret_hash[j] ^= u[j];
	}
}

static void
derives_the_scram_keys(void **state)
{
	static const char password[] = "n0tv3ryr4nd0m";
	struct directory_secret a, b;
	unsigned char salted[32], key[32], expected[32];
	unsigned len;

	(void)state;
	assert_int_equal(directory_secret_derive(span_of(password), &a), 0);
	assert_int_equal(directory_secret_derive(span_of(password), &b), 0);
	assert_memory_not_equal(a.salt, b.salt, 16);
	assert_memory_not_equal(a.stored_key, b.stored_key, 32);
	assert_memory_equal(a.sha256, b.sha256, 32);
	salted_password(password, a.salt, salted);
	assert_non_null(HMAC(EVP_sha256(), salted, 32,
	    (const unsigned char *)"Client Key", 10, key, &len));
	assert_non_null(SHA256(key, 32, expected));
	assert_memory_equal(a.stored_key, expected, 32);
	assert_non_null(HMAC(EVP_sha256(), salted, 32,
	    (const unsigned char *)"Server Key", 10, expected, &len));
	assert_memory_equal(a.server_key, expected, 32);
}

static void
checks_secrets(void **state)
{
	struct directory_secret secret;
	struct directory_credential c = { 0 };
	struct directory_credential zero = { 0 };

	(void)state;
	assert_int_equal(directory_secret_derive(SPAN("right"), &secret), 0);
	memcpy(c.secret_sha256, secret.sha256, 32);
	assert_true(directory_check_secret(&c, SPAN("right")));
	assert_false(directory_check_secret(&c, SPAN("right ")));
	assert_false(directory_check_secret(&c, SPAN("wrong")));
	assert_false(directory_check_secret(&c, SPAN_EMPTY));
	assert_false(directory_check_secret(NULL, SPAN("right")));
	assert_false(directory_check_secret(&zero, SPAN_EMPTY));
	c.revoked = true;
	assert_false(directory_check_secret(&c, SPAN("right")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(draws_from_the_whole_alphabet),
		cmocka_unit_test(derives_the_scram_keys),
		cmocka_unit_test(checks_secrets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
