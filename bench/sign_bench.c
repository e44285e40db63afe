/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How many messages a second are signed (DKIM): sign_bench [rsa|ed25519|both
 * [THREADS [SECONDS [BYTES]]]]. Each thread takes the whole way again and
 * again: canonical form, hash of the body, header, signature. bench/sign puts
 * it beside `openssl speed`.
 */

#include "base/bug.h"
#include "os/clock.h"
#include "sign/dkim.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS_MAX = 256, LINE = 76 };

struct bench {
	struct sign_key *keys[2];
	struct buf message;
	int64_t end_us;
	atomic_uint_fast64_t count;
};

static void
make_message(struct buf *out, size_t bytes)
{
	buf_append_str(out, "Received: from client.example (client.example "
			    "[192.0.2.1])\r\n\tby relay.example with ESMTPSA; "
			    "Tue, 24 Nov 2026 00:00:00 +0000\r\n"
			    "From: Sender <sender@example.com>\r\n"
			    "To: Recipient <recipient@example.net>\r\n"
			    "Subject: A message of an ordinary size\r\n"
			    "Date: Tue, 24 Nov 2026 00:00:00 +0000\r\n"
			    "Message-ID: <1@example.com>\r\n"
			    "MIME-Version: 1.0\r\n"
			    "Content-Type: text/plain; charset=utf-8\r\n\r\n");
	while (buf_size(out) < bytes) {
		for (unsigned i = 0; i < LINE / 8; i++)
			buf_append_str(out, "letters ");
		buf_append_str(out, "end\r\n");
	}
}

static void
sign_once(const struct bench *b, struct buf *out)
{
	struct dkim_message *m = dkim_message_new(CANON_RELAXED, 65536);
	const struct dkim_options options = {
		.domain = SPAN("example.com"),
		.selector = SPAN("ph20261124abcd-rsa"),
		.time_s = 1795478400,
	};

	buf_clear(out);
	BUG_UNLESS(dkim_message_feed(m, buf_span(&b->message)) == 0);
	BUG_UNLESS(dkim_message_end(m) == 0);
	for (unsigned i = 0; i < 2; i++)
		if (b->keys[i] != NULL)
			BUG_UNLESS(
			    dkim_sign(m, b->keys[i], &options, out) == 0);
	dkim_message_free(&m);
}

static void *
run(void *arg)
{
	struct bench *b = arg;
	struct buf out = BUF_EMPTY;

	for (; clock_monotonic_us() < b->end_us; atomic_fetch_add(&b->count, 1))
		sign_once(b, &out);
	buf_done(&out);
	return NULL;
}

static long
number(int argc, char **argv, int at, long otherwise)
{
	return argc > at ? strtol(argv[at], NULL, 10) : otherwise;
}

int
main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "rsa";
	long threads = number(argc, argv, 2, 1);
	long seconds = number(argc, argv, 3, 3);
	long bytes = number(argc, argv, 4, 10240);
	pthread_t ids[THREADS_MAX];
	struct bench b = { .message = BUF_EMPTY };

	if (threads < 1 || threads > THREADS_MAX || seconds < 1 || bytes < 0) {
		fputs("usage: sign_bench [rsa|ed25519|both [THREADS [SECONDS "
		      "[BYTES]]]]\n",
		    stderr);
		return 2;
	}
	for (unsigned i = 0; i < 2; i++) {
		bool is_wanted = strcmp(kind, i == 0 ? "ed25519" : "rsa") != 0;
		struct failure failure;
		if (is_wanted && sign_key_generate((enum sign_algorithm)i,
				     &b.keys[i], &failure) < 0) {
			fprintf(stderr, "sign_bench: %s\n", failure.text);
			return 1;
		}
	}
	make_message(&b.message, (size_t)bytes);
	int64_t start_us = clock_monotonic_us();
	b.end_us = start_us + seconds * 1000000L;
	for (long i = 0; i < threads; i++)
		BUG_UNLESS(pthread_create(&ids[i], NULL, run, &b) == 0);
	for (long i = 0; i < threads; i++)
		BUG_UNLESS(pthread_join(ids[i], NULL) == 0);
	double took_s = (double)(clock_monotonic_us() - start_us) / 1e6;
	printf("%.1f\n", (double)atomic_load(&b.count) / took_s);
	for (unsigned i = 0; i < 2; i++)
		sign_key_free(&b.keys[i]);
	buf_done(&b.message);
	return 0;
}
