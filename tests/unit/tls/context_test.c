/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/stream.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
/* clang-format on */

#include "base/mem.h"
#include "base/time.h"
#include "os/clock.h"
#include "os/file.h"

static void
assert_refused(struct span certificate, struct span key, const char *expected)
{
	struct tls_context *context = NULL;
	struct failure f = { 0 };

	assert_true(
	    tls_context_new_server_pem(certificate, key, &context, &f) < 0);
	assert_null(context);
	if (!strstr(f.text, expected))
		fail_msg("\"%s\" does not say \"%s\"", f.text, expected);
	/* A caller may not care for the sentence. */
	assert_true(
	    tls_context_new_server_pem(certificate, key, &context, NULL) < 0);
}

static void
test_bad_pem(void **state)
{
	(void)state;
	struct buf cert = BUF_EMPTY, key = BUF_EMPTY, other_cert = BUF_EMPTY,
		   other_key = BUF_EMPTY;
	assert_int_equal(tls_make_self_signed("a.example", &cert, &key), 0);
	assert_int_equal(
	    tls_make_self_signed("b.example", &other_cert, &other_key), 0);
	assert_refused(buf_span(&cert), buf_span(&other_key),
	    "cannot use the private key: key values mismatch");
	assert_refused(SPAN_EMPTY, buf_span(&key),
	    "cannot use the certificate: no start line");
	assert_refused(buf_span(&cert), SPAN("x"), "private key");
	assert_refused(buf_span(&cert), SPAN_EMPTY, "private key");
	/* The chain behind the first certificate is damaged. */
	buf_append(&cert, span_slice(buf_span(&other_cert), 0, 100));
	assert_refused(
	    buf_span(&cert), buf_span(&key), "the certificate chain");
	buf_done(&cert);
	buf_done(&key);
	buf_done(&other_cert);
	buf_done(&other_key);
}

static void
test_encrypted_key(void **state)
{
	(void)state;
	/* Only its head matters: a prompt would hang this test. */
	static const char pem[] =
	    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
	    "DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\n"
	    "AAAAAAAAAAAAAAAAAAAAAA==\n-----END RSA PRIVATE KEY-----\n";
	struct buf cert = BUF_EMPTY, key = BUF_EMPTY;
	assert_int_equal(tls_make_self_signed("a.example", &cert, &key), 0);
	assert_refused(
	    buf_span(&cert), SPAN(pem), "cannot use the private key");
	buf_done(&cert);
	buf_done(&key);
}

static void
test_files(void **state)
{
	(void)state;
	char directory[] = "/tmp/posthouse-context-XXXXXX";
	assert_non_null(mkdtemp(directory));
	char *AUTO_FREE cert_path = mem_printf("%s/cert.pem", directory);
	char *AUTO_FREE key_path = mem_printf("%s/key.pem", directory);
	struct buf cert = BUF_EMPTY, key = BUF_EMPTY;
	struct tls_context *context = NULL;
	struct failure f = { 0 };

	assert_int_equal(
	    tls_context_new_server(cert_path, key_path, &context, &f), -ENOENT);
	assert_non_null(strstr(f.text, cert_path));
	assert_int_equal(tls_make_self_signed("a.example", &cert, &key), 0);
	assert_int_equal(file_replace(cert_path, buf_span(&cert), 0644), 0);
	assert_int_equal(file_replace(key_path, buf_span(&cert), 0600), 0);
	assert_int_equal(
	    tls_context_new_server(cert_path, key_path, &context, &f), ERR_TLS);
	assert_non_null(strstr(f.text, key_path));
	assert_int_equal(file_replace(key_path, buf_span(&key), 0600), 0);
	assert_int_equal(
	    tls_context_new_server(cert_path, key_path, &context, &f), 0);
	int64_t left_us =
	    tls_context_certificate_end_us(context) - clock_wall_us();
	assert_true(left_us > 3649 * US_PER_DAY);
	assert_true(left_us <= 3650 * US_PER_DAY);
	tls_context_unref(&context);

	assert_int_equal(
	    tls_context_new_client("/nonexistent/ca", &context, &f), ERR_TLS);
	assert_non_null(strstr(f.text, "/nonexistent/ca"));
	assert_int_equal(
	    tls_context_new_client(key_path, &context, &f), ERR_TLS);
	assert_int_equal(tls_context_new_client(NULL, &context, &f), 0);
	tls_context_unref(&context);
	buf_done(&cert);
	buf_done(&key);
	assert_int_equal(unlink(cert_path), 0);
	assert_int_equal(unlink(key_path), 0);
	assert_int_equal(rmdir(directory), 0);
}

struct ends {
	struct stream *client, *server;
};

static enum progress
connect_ends(struct ends *ends, struct tls_context *server,
    struct tls_context *client, const char *name)
{
	int fds[2];
	struct tls_connect_options options = { .server_name = name,
		.verify = true };
	enum progress progress = PROGRESS_WAIT;

	assert_int_equal(
	    socketpair(
		AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
	    0);
	*ends = (struct ends){ stream_new(fds[0]), stream_new(fds[1]) };
	assert_int_equal(stream_accept_tls(ends->server, server), 0);
	assert_int_equal(stream_connect_tls(ends->client, client, &options), 0);
	for (int i = 0; i < 20 && progress == PROGRESS_WAIT; i++) {
		progress = stream_handshake(ends->client);
		(void)stream_handshake(ends->server);
	}
	return progress;
}

static bool
is_valid_for(const char *made_for, const char *asked)
{
	char path[] = "/tmp/posthouse-made-XXXXXX";
	int fd = mkstemp(path);
	struct buf cert = BUF_EMPTY, key = BUF_EMPTY;
	struct tls_context *server = NULL, *client = NULL;
	struct ends ends;

	assert_true(fd >= 0);
	assert_int_equal(tls_make_self_signed(made_for, &cert, &key), 0);
	assert_int_equal(file_write_all(fd, buf_span(&cert)), 0);
	close(fd);
	assert_int_equal(tls_context_new_server_pem(
			     buf_span(&cert), buf_span(&key), &server, NULL),
	    0);
	assert_int_equal(tls_context_new_client(path, &client, NULL), 0);
	bool is_ok =
	    connect_ends(&ends, server, client, asked) == PROGRESS_DONE;
	stream_free(&ends.client);
	stream_free(&ends.server);
	tls_context_unref(&client);
	tls_context_unref(&server);
	buf_done(&cert);
	buf_done(&key);
	assert_int_equal(unlink(path), 0);
	return is_ok;
}

static void
test_self_signed_names(void **state)
{
	(void)state;
	assert_true(is_valid_for("localhost", "localhost"));
	assert_true(is_valid_for("localhost", "127.0.0.1"));
	assert_true(is_valid_for("localhost", "::1"));
	assert_false(is_valid_for("localhost", "127.0.0.2"));
	assert_true(is_valid_for("192.0.2.7", "192.0.2.7"));
	assert_true(is_valid_for("2001:db8::7", "[2001:db8::7]"));
	assert_true(is_valid_for(
	    "a-name-longer-than-the-sixty-four-bytes.that-a-common-name."
	    "may-have.example.com",
	    "a-name-longer-than-the-sixty-four-bytes.that-a-common-name."
	    "may-have.example.com"));
	/* One name, whatever it looks like in OpenSSL's little language. */
	assert_false(is_valid_for("a.example,DNS:b.example", "b.example"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_pem),
		cmocka_unit_test(test_encrypted_key),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_self_signed_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
