/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "sign/key.h"

#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <string.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* clang-format on */

/* RFC 8463 appendix A.1, as PKCS #8. */
static const char rfc8463_key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
    "-----END PRIVATE KEY-----\n";

static void
test_writes_and_reads(void **state)
{
	(void)state;
	for (unsigned a = SIGN_RSA_SHA256; a <= SIGN_ED25519_SHA256; a++) {
		struct sign_key *key = NULL, *again = NULL;
		struct buf pem = BUF_EMPTY, one = BUF_EMPTY, two = BUF_EMPTY;
		struct failure failure;

		assert_int_equal(
		    sign_key_generate((enum sign_algorithm)a, &key, &failure),
		    0);
		assert_int_equal(sign_key_algorithm(key), a);
		assert_int_equal(
		    sign_key_bits(key), a == SIGN_RSA_SHA256 ? 2048 : 256);
		assert_int_equal(sign_key_write(key, &pem), 0);
		assert_int_equal(
		    sign_key_read(buf_span(&pem), &again, &failure), 0);
		assert_int_equal(sign_key_public(key, &one), 0);
		assert_int_equal(sign_key_public(again, &two), 0);
		assert_string_equal(buf_cstring(&one), buf_cstring(&two));
		sign_key_free(&key);
		sign_key_free(&again);
		buf_done(&pem);
		buf_done(&one);
		buf_done(&two);
	}
}

static void
test_record(void **state)
{
	struct buf text = BUF_EMPTY, public_key = BUF_EMPTY;
	struct sign_key *key = NULL;
	struct failure failure;

	(void)state;
	assert_int_equal(
	    sign_key_read(span_of(rfc8463_key), &key, &failure), 0);
	assert_int_equal(sign_key_public(key, &public_key), 0);
	sign_record(SIGN_ED25519_SHA256, buf_span(&public_key), &text);
	assert_string_equal(buf_cstring(&text),
	    "v=DKIM1; k=ed25519; "
	    "p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
	buf_clear(&text);
	sign_record(SIGN_RSA_SHA256, SPAN_EMPTY, &text);
	assert_string_equal(buf_cstring(&text), "v=DKIM1; k=rsa; p=");
	sign_key_free(&key);
	buf_done(&text);
	buf_done(&public_key);
}

static int
read_rsa(unsigned bits, struct failure *ret_failure)
{
	EVP_PKEY *pkey = EVP_RSA_gen(bits);
	unsigned char *der = NULL;
	int len = i2d_PrivateKey(pkey, &der);
	struct buf pem = BUF_EMPTY;
	struct sign_key *key = NULL;

	buf_append_str(&pem, "-----BEGIN RSA PRIVATE KEY-----\n");
	struct buf base64 = BUF_EMPTY;
	sign_base64(span_from(der, (size_t)len), &base64);
	struct span rest = buf_span(&base64);
	for (; rest.len > 0; rest = span_skip(rest, 64))
		buf_printf(&pem, "%.*s\n", SPAN_ARG(span_slice(rest, 0, 64)));
	buf_append_str(&pem, "-----END RSA PRIVATE KEY-----\n");
	int code = sign_key_read(buf_span(&pem), &key, ret_failure);
	sign_key_free(&key);
	buf_done(&pem);
	buf_done(&base64);
	OPENSSL_free(der);
	EVP_PKEY_free(pkey);
	return code;
}

static void
test_refuses_bad_keys(void **state)
{
	static const char *const bad[] = {
		"",
		"not a key",
		"-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n"
		"-----END PRIVATE KEY-----\n",
		"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
		"MIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBA=\n"
		"-----END ENCRYPTED PRIVATE KEY-----\n",
	};
	struct failure failure;
	struct sign_key *key = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(
		    sign_key_read(span_of(bad[i]), &key, &failure), ERR_SYNTAX);
		assert_null(key);
	}
	assert_int_equal(read_rsa(512, &failure), ERR_REFUSED);
	assert_non_null(strstr(failure.text, "512 bits"));
	assert_int_equal(read_rsa(1024, &failure), 0);
}

static void
test_base64(void **state)
{
	struct buf out = BUF_EMPTY;

	(void)state;
	sign_base64(SPAN_EMPTY, &out);
	assert_int_equal(buf_size(&out), 0);
	sign_base64(SPAN("\xff\xfe"), &out);
	assert_string_equal(buf_cstring(&out), "//4=");
	buf_done(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_writes_and_reads),
		cmocka_unit_test(test_record),
		cmocka_unit_test(test_refuses_bad_keys),
		cmocka_unit_test(test_base64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
