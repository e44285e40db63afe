/* SPDX-License-Identifier: Apache-2.0 */
#include "sign/dkim.h"

#include <openssl/evp.h>
#include <string.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* clang-format on */

static const char rfc8463_key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
    "-----END PRIVATE KEY-----\n";

#define BODY_HASH "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="

/* RFC 8463 appendix A.2 and A.3. */
static const char *const rfc8463_fields[] = {
	"From: Joe SixPack <joe@football.example.com>\r\n",
	"To: Suzie Q <suzie@shopping.example.net>\r\n",
	"Subject: Is dinner ready?\r\n",
	"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n",
	"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n",
};
static const char rfc8463_body[] = "Hi.\r\n\r\n"
				   "We lost the game.  Are you hungry yet?\r\n"
				   "\r\nJoe.\r\n";
static const char rfc8463_signature[] =
    "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
    " d=football.example.com; i=@football.example.com;\r\n"
    " q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"
    " subject : date : message-id : from : subject : date;\r\n"
    " bh=" BODY_HASH ";\r\n"
    " b=";

static struct sign_key *
read_key(void)
{
	struct sign_key *key = NULL;
	struct failure failure;

	assert_int_equal(
	    sign_key_read(span_of(rfc8463_key), &key, &failure), 0);
	return key;
}

/* The whole way by hand, for the field is not one that we would write. */
static void
test_vector_of_rfc8463(void **state)
{
	struct sign_key *key = read_key();
	struct buf canonical = BUF_EMPTY, raw = BUF_EMPTY, text = BUF_EMPTY;
	unsigned char hash[SIGN_HASH_SIZE];
	unsigned len = 0;

	(void)state;
	for (size_t i = 0; i < 5; i++)
		canon_field(
		    CANON_RELAXED, span_of(rfc8463_fields[i]), &canonical);
	canon_field(CANON_RELAXED, span_of(rfc8463_signature), &canonical);
	assert_int_equal(EVP_Digest(canonical.ptr, buf_size(&canonical) - 2,
			     hash, &len, EVP_sha256(), NULL),
	    1);
	assert_int_equal(sign_key_sign(key, hash, &raw), 0);
	sign_base64(buf_span(&raw), &text);
	assert_string_equal(buf_cstring(&text),
	    "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus"
	    "Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==");
	sign_key_free(&key);
	buf_done(&canonical);
	buf_done(&raw);
	buf_done(&text);
}

static const struct dkim_options options = {
	.domain = SPAN("football.example.com"),
	.selector = SPAN("brisbane"),
	.time_s = 1528637909,
};

/* Ed25519 signs the same the same way: pieces must not matter. */
static void
sign_in_pieces(const struct sign_key *key, struct span message, size_t cut,
    struct buf *out)
{
	struct dkim_message *m = dkim_message_new(CANON_RELAXED, 10000);

	buf_clear(out);
	assert_int_equal(dkim_message_feed(m, span_slice(message, 0, cut)), 0);
	assert_int_equal(dkim_message_feed(m, span_skip(message, cut)), 0);
	assert_int_equal(dkim_message_end(m), 0);
	assert_int_equal(dkim_sign(m, key, &options, out), 0);
	dkim_message_free(&m);
}

static void
make_message(struct buf *message)
{
	for (size_t i = 0; i < 5; i++)
		buf_append_str(message, rfc8463_fields[i]);
	buf_append_str(message, "\r\n");
	buf_append_str(message, rfc8463_body);
}

static void
test_pieces_do_not_matter(void **state)
{
	struct sign_key *key = read_key();
	struct buf message = BUF_EMPTY, whole = BUF_EMPTY, out = BUF_EMPTY;

	(void)state;
	make_message(&message);
	struct span all = buf_span(&message);
	sign_in_pieces(key, all, all.len, &whole);
	assert_non_null(strstr(buf_cstring(&whole), "bh=" BODY_HASH ";"));
	for (size_t cut = 0; cut < all.len; cut++) {
		sign_in_pieces(key, all, cut, &out);
		assert_true(span_eq(buf_span(&out), buf_span(&whole)));
	}
	sign_key_free(&key);
	buf_done(&message);
	buf_done(&whole);
	buf_done(&out);
}

static void
test_shape(void **state)
{
	struct sign_key *key = read_key();
	struct buf message = BUF_EMPTY, out = BUF_EMPTY;

	(void)state;
	make_message(&message);
	sign_in_pieces(key, buf_span(&message), 1, &out);
	const char *field = buf_cstring(&out);
	assert_memory_equal(
	    field, "DKIM-Signature: v=1; a=ed25519-sha256;", 38);
	assert_non_null(strstr(field, "c=relaxed/relaxed;"));
	assert_non_null(strstr(field, "d=football.example.com; s=brisbane;"));
	assert_non_null(strstr(field, "h=From:From:Reply-To:Subject:Subject:"));
	assert_null(strstr(field, "l="));
	assert_null(strstr(field, "x="));
	struct span rest = buf_span(&out);
	while (rest.len > 0) {
		size_t end = span_search(rest, SPAN("\r\n"));
		assert_true(end > 0 && end <= 78);
		rest = span_skip(rest, end + 2);
		assert_true(rest.len == 0 || rest.ptr[0] == '\t');
	}
	sign_key_free(&key);
	buf_done(&message);
	buf_done(&out);
}

/* Without body, without header, without anything; a header that never ends. */
static void
test_odd_messages(void **state)
{
	static const char *const odd[] = { "", "\r\n", "From: a@b\r\n",
		"From: a@b", "\r\nbody", "no field\r\nFrom: a@b\r\n\r\n" };
	struct sign_key *key = read_key();
	struct buf out = BUF_EMPTY;

	(void)state;
	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
		sign_in_pieces(key, span_of(odd[i]), 1, &out);
		assert_true(buf_size(&out) > 200);
	}
	struct dkim_message *m = dkim_message_new(CANON_SIMPLE, 16);
	assert_int_equal(
	    dkim_message_feed(m, SPAN("From: a@b\r\nX: yyyyyyyy\r\n")),
	    ERR_LIMIT);
	dkim_message_free(&m);
	m = dkim_message_new(CANON_SIMPLE, 16);
	assert_int_equal(
	    dkim_message_feed(m, SPAN("From: a@b\r\n\r\nbody and more")), 0);
	dkim_message_free(&m);
	sign_key_free(&key);
	buf_done(&out);
}

static void
test_fields_of_lists_are_oversigned(void **state)
{
	(void)state;
	for (const struct dkim_field *f = dkim_fields; f->name; f++) {
		if (strncmp(f->name, "List-", 5) == 0)
			assert_true(f->oversigned);
		assert_string_not_equal(f->name, "Received");
		assert_string_not_equal(f->name, "Return-Path");
	}
	assert_string_equal(dkim_fields[0].name, "From");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vector_of_rfc8463),
		cmocka_unit_test(test_pieces_do_not_matter),
		cmocka_unit_test(test_shape),
		cmocka_unit_test(test_odd_messages),
		cmocka_unit_test(test_fields_of_lists_are_oversigned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
