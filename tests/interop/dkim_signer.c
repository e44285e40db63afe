/* SPDX-License-Identifier: Apache-2.0 */

/*
 * dkim_signer DOMAIN SELECTOR=KEY.pem… signs what comes on stdin: each message
 * is a byte of bits (1: simple header, 2: simple body, 4, 8, …: sign with the
 * first, second, … key), its length in four octets, and its octets. For each
 * goes out the length of the new fields, and they. With --make ALGORITHM it
 * prints a new key and, on stderr, its record. For tests/interop.
 */

#include "base/bug.h"
#include "os/clock.h"
#include "os/file.h"
#include "sign/dkim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS_MAX = 4, HEADER_MAX = 1 << 20, MESSAGE_MAX = 64 << 20 };

struct signer {
	struct span domain;
	struct span selectors[KEYS_MAX];
	struct sign_key *keys[KEYS_MAX];
	size_t key_count;
	uint32_t seed;
};

static int
fail(const char *what, const char *why)
{
	fprintf(stderr, "dkim_signer: %s: %s\n", what, why);
	return 1;
}

static int
make(enum sign_algorithm algorithm)
{
	struct sign_key *key = NULL;
	struct buf pem = BUF_EMPTY, public_key = BUF_EMPTY, record = BUF_EMPTY;
	struct failure failure;

	if (sign_key_generate(algorithm, &key, &failure) < 0)
		return fail("key", failure.text);
	BUG_UNLESS(sign_key_write(key, &pem) == 0);
	BUG_UNLESS(sign_key_public(key, &public_key) == 0);
	sign_record(algorithm, buf_span(&public_key), &record);
	printf("%s", buf_cstring(&pem));
	fprintf(stderr, "%s\n", buf_cstring(&record));
	buf_done(&pem);
	buf_done(&public_key);
	buf_done(&record);
	sign_key_free(&key);
	return 0;
}

static int
add_key(struct signer *s, const char *argument)
{
	struct span path = span_of(argument);
	struct span selector = span_cut(&path, '=');
	struct buf pem = BUF_EMPTY;
	struct failure failure;

	if (s->key_count == KEYS_MAX || path.len == 0)
		return fail(argument, "is not SELECTOR=FILE");
	if (file_read(path.ptr, SIGN_PEM_MAX, &pem) < 0)
		return fail(argument, "cannot be read");
	int code =
	    sign_key_read(buf_span(&pem), &s->keys[s->key_count], &failure);
	buf_done(&pem);
	if (code < 0)
		return fail(argument, failure.text);
	s->selectors[s->key_count++] = selector;
	return 0;
}

/* In pieces of changing length. */
static int
feed(struct signer *s, struct dkim_message *m, struct span message)
{
	while (message.len > 0) {
		s->seed = s->seed * 1664525 + 1013904223;
		struct span piece =
		    span_slice(message, 0, 1 + (s->seed >> 20) % 700);
		int code = dkim_message_feed(m, piece);
		if (code < 0)
			return code;
		message = span_skip(message, piece.len);
	}
	return dkim_message_end(m);
}

static int
sign(struct signer *s, unsigned bits, struct span message, struct buf *out)
{
	struct dkim_message *m = dkim_message_new(
	    (bits & 2) != 0 ? CANON_SIMPLE : CANON_RELAXED, HEADER_MAX);
	int code = feed(s, m, message);

	for (size_t i = 0; i < s->key_count && code == 0; i++) {
		const struct dkim_options options = {
			.domain = s->domain,
			.selector = s->selectors[i],
			.header =
			    (bits & 1) != 0 ? CANON_SIMPLE : CANON_RELAXED,
			.time_s = clock_wall_us() / 1000000,
		};
		if ((bits & (4U << i)) != 0)
			code = dkim_sign(m, s->keys[i], &options, out);
	}
	dkim_message_free(&m);
	return code;
}

static int
serve(struct signer *s)
{
	unsigned char head[5];
	struct buf message = BUF_EMPTY, out = BUF_EMPTY;
	int code = 0;

	while (code == 0 && fread(head, 1, sizeof head, stdin) == sizeof head) {
		size_t len = (size_t)head[1] << 24 | (size_t)head[2] << 16 |
			     (size_t)head[3] << 8 | head[4];
		buf_clear(&message);
		buf_clear(&out);
		if (len > MESSAGE_MAX ||
		    fread(buf_reserve(&message, len + 1), 1, len, stdin) != len)
			return fail("stdin", "ends within a message");
		buf_added(&message, len);
		code = sign(s, head[0], buf_span(&message), &out);
		size_t n = buf_size(&out);
		const unsigned char size[4] = { (unsigned char)(n >> 24),
			(unsigned char)(n >> 16), (unsigned char)(n >> 8),
			(unsigned char)n };
		(void)fwrite(size, 1, sizeof size, stdout);
		(void)fwrite(buf_cstring(&out), 1, n, stdout);
	}
	buf_done(&message);
	buf_done(&out);
	return code == 0 ? fflush(stdout) != 0
			 : fail("signing", error_text(code));
}

int
main(int argc, char **argv)
{
	struct signer s = { .seed = 7 };
	int status = 0;

	if (argc == 3 && strcmp(argv[1], "--make") == 0)
		return make(strcmp(argv[2], "rsa") == 0 ? SIGN_RSA_SHA256
							: SIGN_ED25519_SHA256);
	if (argc < 3)
		return fail("usage", "DOMAIN SELECTOR=KEY.pem…");
	s.domain = span_of(argv[1]);
	for (int i = 2; i < argc && status == 0; i++)
		status = add_key(&s, argv[i]);
	if (status == 0)
		status = serve(&s);
	for (size_t i = 0; i < s.key_count; i++)
		sign_key_free(&s.keys[i]);
	return status;
}
