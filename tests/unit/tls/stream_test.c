/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/stream.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
/* clang-format on */

#include "base/mem.h"
#include "os/file.h"
#include "tls/internal.h"

#include <openssl/pem.h>

/* --- a pair of ends ---------------------------------------------------- */

static struct buf certificate, key, other_certificate, other_key;
static char ca_path[] = "/tmp/posthouse-tls-XXXXXX";
static struct tls_context *server_context;

static struct tls_context *
new_client_context(const char *ca_file)
{
	struct tls_context *context = NULL;
	struct failure f = { 0 };

	if (tls_context_new_client(ca_file, &context, &f) < 0)
		fail_msg("%s", f.text);
	return context;
}

static struct tls_context *
new_server_context(struct buf *cert, struct buf *secret)
{
	struct tls_context *context = NULL;
	struct failure f = { 0 };

	if (tls_context_new_server_pem(
		buf_span(cert), buf_span(secret), &context, &f) < 0)
		fail_msg("%s", f.text);
	return context;
}

struct pair {
	struct stream *client, *server;
};

static struct pair
new_pair(void)
{
	int fds[2];

	assert_int_equal(
	    socketpair(
		AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
	    0);
	return (struct pair){ stream_new(fds[0]), stream_new(fds[1]) };
}

static void
pair_done(struct pair *pair)
{
	stream_free(&pair->client);
	stream_free(&pair->server);
	assert_null(pair->client);
}

static enum progress
shake_both(struct pair *pair, enum progress *ret_server)
{
	enum progress client = PROGRESS_WAIT, server = PROGRESS_WAIT;

	for (int i = 0; i < 20; i++) {
		if (client == PROGRESS_WAIT)
			client = stream_handshake(pair->client);
		if (server == PROGRESS_WAIT)
			server = stream_handshake(pair->server);
	}
	*ret_server = server;
	return client;
}

static void
begin_tls(struct pair *pair, const char *ca_file,
    const struct tls_connect_options *options)
{
	struct tls_context *client = new_client_context(ca_file);

	assert_int_equal(stream_accept_tls(pair->server, server_context), 0);
	assert_int_equal(stream_connect_tls(pair->client, client, options), 0);
	tls_context_unref(&client); /* the stream keeps what it needs */
	assert_null(client);
}

static struct pair
new_tls_pair(void)
{
	static const struct tls_connect_options options = {
		.server_name = "mx.example.com", .verify = true
	};
	struct pair pair = new_pair();
	enum progress server;

	begin_tls(&pair, ca_path, &options);
	assert_int_equal(shake_both(&pair, &server), PROGRESS_DONE);
	assert_int_equal(server, PROGRESS_DONE);
	return pair;
}

static enum progress
write_text(struct stream *stream, const char *text)
{
	struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };
	size_t len = 0;
	enum progress progress = stream_write(stream, &iov, 1, &len);

	if (progress == PROGRESS_DONE)
		assert_int_equal(len, iov.iov_len);
	return progress;
}

static void
assert_reads(struct stream *stream, const char *expected)
{
	char text[256] = "";
	size_t len = 0;

	assert_int_equal(
	    stream_read(stream, text, sizeof text - 1, &len), PROGRESS_DONE);
	text[len] = '\0';
	assert_string_equal(text, expected);
}

static enum progress
read_nothing(struct stream *stream)
{
	char c;
	size_t len = 77;
	enum progress progress = stream_read(stream, &c, 1, &len);

	assert_int_equal(len, 77); /* untouched */
	return progress;
}

/* --- plain ------------------------------------------------------------- */

static void
test_plain(void **state)
{
	(void)state;
	struct pair pair = new_pair();
	struct tls_facts facts;
	unsigned char binding[32];
	assert_false(stream_is_tls(pair.client));
	assert_false(stream_tls_facts(pair.client, &facts));
	assert_int_equal(stream_channel_binding(pair.client, binding), ERR_TLS);
	assert_int_equal(read_nothing(pair.client), PROGRESS_WAIT);
	assert_false(stream_wants_write(pair.client));
	struct iovec iov[] = { { "250 ", 4 }, { NULL, 0 }, { "ok\r\n", 4 } };
	size_t len = 0;
	assert_int_equal(
	    stream_write(pair.server, iov, 3, &len), PROGRESS_DONE);
	assert_int_equal(len, 8);
	assert_reads(pair.client, "250 ok\r\n");
	stream_free(&pair.server);
	assert_int_equal(read_nothing(pair.client), PROGRESS_CLOSED);
	/* No SIGPIPE, which would end this test. */
	assert_int_equal(write_text(pair.client, "x"), PROGRESS_FAILED);
	assert_string_equal(stream_error(pair.client), "Broken pipe");
	pair_done(&pair);
}

/* --- handshakes --------------------------------------------------------- */

static void
test_both_directions(void **state)
{
	(void)state;
	struct pair pair = new_tls_pair();
	struct tls_facts facts;
	assert_int_equal(write_text(pair.client, "EHLO x\r\n"), PROGRESS_DONE);
	assert_reads(pair.server, "EHLO x\r\n");
	assert_int_equal(write_text(pair.server, "250 ok\r\n"), PROGRESS_DONE);
	assert_reads(pair.client, "250 ok\r\n");
	assert_true(stream_tls_facts(pair.client, &facts));
	assert_string_equal(facts.version, "TLSv1.3");
	assert_true(facts.bits >= 128 && *facts.cipher);
	assert_true(facts.verified);
	assert_string_equal(facts.verify_error, "");
	assert_true(stream_tls_facts(pair.server, &facts));
	assert_false(facts.verified);
	assert_true(stream_is_tls(pair.server));
	assert_int_equal(stream_handshake(pair.server), PROGRESS_DONE);
	pair_done(&pair);
}

/* The name, the authority and whether it is insisted on. */
static void
test_verification(void **state)
{
	(void)state;

	static const struct {
		const char *name;
		bool has_ca, verify, is_ok;
		const char *error; /* of the facts, or of the handshake */
	} cases[] = {
		{ "mx.example.com", true, true, true, "" },
		{ "MX.example.com.", true, true, true, "" },
		{ "mx.example.com", false, true, false,
		    "certificate verify failed: self-signed certificate" },
		{ "mx.example.com", false, false, true,
		    "self-signed certificate" },
		{ "other.example.com", true, true, false,
		    "certificate verify failed: hostname mismatch" },
		{ "other.example.com", true, false, true, "hostname mismatch" },
		{ "192.0.2.1", true, true, false,
		    "certificate verify failed: IP address mismatch" },
		{ NULL, true, false, true, "no name to verify" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct pair pair = new_pair();
		struct tls_connect_options options = {
			.server_name = cases[i].name,
			.verify = cases[i].verify,
		};
		struct tls_facts facts = { 0 };
		enum progress server;
		begin_tls(&pair, cases[i].has_ca ? ca_path : NULL, &options);
		enum progress client = shake_both(&pair, &server);
		assert_int_equal(
		    client, cases[i].is_ok ? PROGRESS_DONE : PROGRESS_FAILED);
		assert_int_equal(
		    stream_tls_facts(pair.client, &facts), cases[i].is_ok);
		assert_string_equal(cases[i].is_ok ? facts.verify_error
						   : stream_error(pair.client),
		    cases[i].error);
		assert_int_equal(
		    facts.verified, cases[i].is_ok && !*cases[i].error);
		pair_done(&pair);
	}
}

/* A record for the server's own key; `wrong` turns one bit of it. */
static struct tls_dane_record
record_of(uint8_t usage, uint8_t matching, bool wrong)
{
	static unsigned char der[4096];
	unsigned char *end = der;
	BIO *bio = BIO_new_mem_buf(certificate.ptr, (int)certificate.len);
	X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	assert_non_null(x);
	unsigned len = (unsigned)i2d_X509(x, &end);
	if (matching == 1)
		assert_int_equal(X509_digest(x, EVP_sha256(), der, &len), 1);
	X509_free(x);
	BIO_free(bio);
	der[len - 1] ^= wrong;
	return (struct tls_dane_record){ .usage = usage,
		.matching = matching,
		.data = span_from(der, len) };
}

/* RFC 7672: a matching record, whatever name and authority say; without one
 * the handshake fails. */
static void
test_dane(void **state)
{
	static const struct {
		uint8_t usage, matching;
		bool wrong;
		const char *name, *error;
	} cases[] = {
		{ 3, 1, false, "other.example.com", "" },
		{ 3, 0, false, "mx.example.com", "" },
		{ 3, 1, true, "mx.example.com",
		    "certificate verify failed: no matching DANE TLSA "
		    "records" },
		{ 1, 1, false, "mx.example.com", NULL },
		{ 3, 9, false, "mx.example.com", NULL },
	};

	(void)state;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct pair pair = new_pair();
		struct tls_dane_record record = record_of(
		    cases[i].usage, cases[i].matching, cases[i].wrong);
		struct tls_connect_options options = {
			.server_name = cases[i].name,
			.dane = &record,
			.dane_count = 1,
		};
		struct tls_facts facts = { 0 };
		enum progress server;
		if (cases[i].error == NULL) {
			struct tls_context *context = new_client_context(NULL);
			assert_int_equal(
			    stream_connect_tls(pair.client, context, &options),
			    -EINVAL);
			tls_context_unref(&context);
			pair_done(&pair);
			continue;
		}
		begin_tls(&pair, NULL, &options);
		enum progress client = shake_both(&pair, &server);
		bool is_ok = !*cases[i].error;
		assert_int_equal(
		    client, is_ok ? PROGRESS_DONE : PROGRESS_FAILED);
		if (!is_ok)
			assert_string_equal(
			    stream_error(pair.client), cases[i].error);
		assert_int_equal(stream_tls_facts(pair.client, &facts), is_ok);
		assert_int_equal(facts.verified, is_ok);
		assert_int_equal(facts.by_dane, is_ok);
		pair_done(&pair);
	}
}

static void
test_unusable_names(void **state)
{
	(void)state;
	static const char *const names[] = { "", ".", NULL };
	struct tls_context *context = new_client_context(NULL);
	for (size_t i = 0; i < 3; i++) {
		struct pair pair = new_pair();
		struct tls_connect_options options = { .server_name = names[i],
			.verify = true };
		assert_int_equal(
		    stream_connect_tls(pair.client, context, &options),
		    -EINVAL);
		pair_done(&pair);
	}
	tls_context_unref(&context);
	tls_context_unref(&context);
}

static void
test_garbage_instead_of_handshake(void **state)
{
	(void)state;
	struct pair pair = new_pair();
	assert_int_equal(
	    write_text(pair.client, "EHLO plain\r\n"), PROGRESS_DONE);
	assert_int_equal(stream_accept_tls(pair.server, server_context), 0);
	assert_int_equal(stream_handshake(pair.server), PROGRESS_FAILED);
	assert_string_not_equal(stream_error(pair.server), "no error");
	assert_int_equal(stream_handshake(pair.server), PROGRESS_FAILED);
	assert_int_equal(read_nothing(pair.server), PROGRESS_FAILED);
	assert_int_equal(write_text(pair.server, "x"), PROGRESS_FAILED);
	pair_done(&pair);
}

static void
test_close_in_handshake(void **state)
{
	(void)state;
	struct pair pair = new_pair();
	assert_int_equal(stream_accept_tls(pair.server, server_context), 0);
	assert_int_equal(stream_handshake(pair.server), PROGRESS_WAIT);
	assert_false(stream_wants_write(pair.server));
	stream_free(&pair.client);
	assert_int_equal(stream_handshake(pair.server), PROGRESS_FAILED);
	assert_string_equal(stream_error(pair.server),
	    "connection closed during the handshake");
	pair_done(&pair);
}

static void
test_channel_binding(void **state)
{
	(void)state;
	struct pair pair = new_tls_pair(), other = new_tls_pair();
	unsigned char a[32], b[32], c[32];
	assert_int_equal(stream_channel_binding(pair.client, a), 0);
	assert_int_equal(stream_channel_binding(pair.server, b), 0);
	assert_int_equal(stream_channel_binding(other.client, c), 0);
	assert_memory_equal(a, b, sizeof a);
	assert_memory_not_equal(a, c, sizeof a);
	pair_done(&pair);
	pair_done(&other);
}

static enum progress
shake_at_most(int version, uint64_t without, struct pair *pair)
{
	static const struct tls_connect_options options = {
		.server_name = "mx.example.com", .verify = true
	};
	struct tls_context *client = new_client_context(ca_path);
	enum progress server;

	/* 0: any lower bound, so that the server is the one to refuse. */
	assert_int_equal(SSL_CTX_set_min_proto_version(client->ssl_ctx, 0), 1);
	assert_int_equal(
	    SSL_CTX_set_max_proto_version(client->ssl_ctx, version), 1);
	SSL_CTX_set_security_level(client->ssl_ctx, 0);
	SSL_CTX_set_options(client->ssl_ctx, without);
	*pair = new_pair();
	assert_int_equal(stream_accept_tls(pair->server, server_context), 0);
	assert_int_equal(stream_connect_tls(pair->client, client, &options), 0);
	tls_context_unref(&client);
	(void)shake_both(pair, &server);
	return server;
}

static void
test_older_versions(void **state)
{
	(void)state;
	struct pair pair;
	struct tls_facts facts;
	unsigned char a[32], b[32];
	assert_int_equal(
	    shake_at_most(TLS1_2_VERSION, 0, &pair), PROGRESS_DONE);
	assert_true(stream_tls_facts(pair.client, &facts));
	assert_string_equal(facts.version, "TLSv1.2");
	assert_non_null(strstr(facts.cipher, "ECDHE-"));
	assert_true(facts.verified);
	assert_int_equal(stream_channel_binding(pair.client, a), 0);
	assert_int_equal(stream_channel_binding(pair.server, b), 0);
	assert_memory_equal(a, b, sizeof a);
	assert_int_equal(write_text(pair.client, "NOOP"), PROGRESS_DONE);
	assert_reads(pair.server, "NOOP");
	pair_done(&pair);
	assert_int_equal(shake_at_most(TLS1_2_VERSION,
			     SSL_OP_NO_EXTENDED_MASTER_SECRET, &pair),
	    PROGRESS_DONE);
	assert_int_equal(stream_channel_binding(pair.client, a), ERR_TLS);
	assert_int_equal(stream_channel_binding(pair.server, b), ERR_TLS);
	pair_done(&pair);
	assert_int_equal(
	    shake_at_most(TLS1_1_VERSION, 0, &pair), PROGRESS_FAILED);
	assert_string_equal(stream_error(pair.server), "unsupported protocol");
	pair_done(&pair);
}

/* A reload makes a new context while a session of the old one is open. */
static void
test_reload(void **state)
{
	(void)state;
	struct pair old = new_tls_pair();
	struct tls_context *before = server_context;
	struct tls_context *kept = tls_context_ref(before);
	struct tls_facts facts;
	server_context = new_server_context(&other_certificate, &other_key);
	tls_context_unref(&before);
	tls_context_unref(&kept);
	assert_int_equal(write_text(old.client, "still"), PROGRESS_DONE);
	assert_reads(old.server, "still");

	struct pair new = new_pair();
	struct tls_connect_options options = { .server_name =
						   "mx.example.com" };
	enum progress server;
	begin_tls(&new, ca_path, &options);
	assert_int_equal(shake_both(&new, &server), PROGRESS_DONE);
	assert_true(stream_tls_facts(new.client, &facts));
	assert_false(facts.verified);
	pair_done(&new);
	pair_done(&old);
	tls_context_unref(&server_context);
	server_context = new_server_context(&certificate, &key);
}

/* --- data --------------------------------------------------------------- */

static int
bytes_in_socket(const struct stream *stream)
{
	int count = 0;

	assert_int_equal(ioctl(stream_fd(stream), FIONREAD, &count), 0);
	return count;
}

/* Small pieces share a record: header, type byte and tag once. */
static void
test_one_record(void **state)
{
	(void)state;
	struct pair pair = new_tls_pair();
	assert_int_equal(read_nothing(pair.client), PROGRESS_WAIT); /* ticket */
	struct iovec iov[] = { { "250-a\r\n", 7 }, { NULL, 0 },
		{ "250-b\r\n", 7 }, { "250 c\r\n", 7 }, { NULL, 0 } };
	size_t len = 0;
	assert_int_equal(
	    stream_write(pair.server, iov, 5, &len), PROGRESS_DONE);
	assert_int_equal(len, 21);
	assert_int_equal(bytes_in_socket(pair.client), 21 + 5 + 1 + 16);
	assert_reads(pair.client, "250-a\r\n250-b\r\n250 c\r\n");
	struct iovec nothing[] = { { NULL, 0 }, { NULL, 0 } };
	assert_int_equal(
	    stream_write(pair.server, nothing, 2, &len), PROGRESS_DONE);
	assert_int_equal(len, 0);
	pair_done(&pair);
}

/* What read-ahead has fetched is pending though the socket is empty. */
static void
test_pending(void **state)
{
	(void)state;
	struct pair pair = new_tls_pair();
	char text[4];
	size_t len;
	assert_int_equal(write_text(pair.client, "abcd"), PROGRESS_DONE);
	assert_int_equal(write_text(pair.client, "efgh"), PROGRESS_DONE);
	assert_int_equal(
	    stream_read(pair.server, text, 2, &len), PROGRESS_DONE);
	assert_true(stream_has_pending(pair.server));
	assert_false(stream_took_all(pair.server));
	assert_int_equal(
	    stream_read(pair.server, text, 2, &len), PROGRESS_DONE);
	assert_int_equal(bytes_in_socket(pair.server), 0);
	assert_true(stream_has_pending(pair.server));
	assert_reads(pair.server, "efgh");
	assert_false(stream_has_pending(pair.server));
	assert_true(stream_took_all(pair.server));
	pair_done(&pair);
}

enum { BIG = 3 * 1000 * 1000 };

static size_t
write_some(struct stream *stream, const char *bytes, size_t sent, int *waits)
{
	/* In odd pieces, and again from the first unsent byte after a wait. */
	struct iovec iov[4];
	size_t len = 0, at = sent;
	int count = 0;

	for (; count < 4 && at < BIG; count++) {
		size_t n = (size_t[]){ 7, 20000, 1, 300 }[count];
		n = n < BIG - at ? n : BIG - at;
		iov[count] =
		    (struct iovec){ (void *)(uintptr_t)(bytes + at), n };
		at += n;
	}
	if (!count)
		return 0;
	enum progress progress = stream_write(stream, iov, count, &len);
	if (progress == PROGRESS_WAIT) {
		assert_true(stream_wants_write(stream));
		++*waits;
		return 0;
	}
	assert_int_equal(progress, PROGRESS_DONE);
	return len;
}

static void
transfer(struct stream *from, struct stream *to)
{
	char *AUTO_FREE bytes = mem_alloc(BIG), *AUTO_FREE got = mem_alloc(BIG);
	size_t sent = 0, received = 0;
	int waits = 0;

	for (size_t i = 0; i < BIG; i++)
		bytes[i] = (char)(i * 31 + i / 257);
	while (received < BIG) {
		int before = waits;
		while (sent < BIG && waits == before)
			sent += write_some(from, bytes, sent, &waits);
		size_t len = 0, room = BIG - received;
		enum progress progress = stream_read(
		    to, got + received, room < 50000 ? room : 50000, &len);
		assert_true(
		    progress == PROGRESS_DONE || progress == PROGRESS_WAIT);
		received += len;
	}
	assert_true(waits > 0);
	assert_memory_equal(bytes, got, BIG);
}

static void
test_big_transfers(void **state)
{
	(void)state;
	struct pair plain = new_pair(), sealed = new_tls_pair();
	transfer(plain.client, plain.server);
	transfer(sealed.client, sealed.server);
	transfer(sealed.server, sealed.client);
	pair_done(&plain);
	pair_done(&sealed);
}

/* --- ends --------------------------------------------------------------- */

/* CVE-2026-45185: clear text behind the close_notify. */
static void
test_nothing_behind_close_notify(void **state)
{
	(void)state;
	struct pair pair = new_tls_pair();
	int raw = dup(stream_fd(pair.client));
	assert_true(raw >= 0);
	assert_int_equal(write_text(pair.client, "last"), PROGRESS_DONE);
	stream_free(&pair.client);
	assert_int_equal(send(raw, "\nMAIL FROM:<>\r\n", 15, 0), 15);
	assert_reads(pair.server, "last");
	assert_false(stream_has_pending(pair.server));
	/* The end was seen, and no readiness tells of it. */
	assert_false(stream_took_all(pair.server));
	for (int i = 0; i < 3; i++)
		assert_int_equal(read_nothing(pair.server), PROGRESS_CLOSED);
	/* The other direction still works. */
	assert_int_equal(write_text(pair.server, "bye"), PROGRESS_DONE);
	close(raw);
	pair_done(&pair);
}

static void
test_abrupt_end(void **state)
{
	(void)state;
	struct pair pair = new_tls_pair();
	/* An unread ticket would make the close a reset. */
	assert_int_equal(read_nothing(pair.client), PROGRESS_WAIT);
	assert_int_equal(write_text(pair.client, "half"), PROGRESS_DONE);
	stream_abort(pair.client);
	stream_free(&pair.client);
	assert_reads(pair.server, "half");
	assert_int_equal(read_nothing(pair.server), PROGRESS_CLOSED);
	assert_string_equal(stream_error(pair.server),
	    "connection closed without close_notify");
	assert_int_equal(write_text(pair.server, "x"), PROGRESS_FAILED);
	pair_done(&pair);
}

static void
test_broken_record(void **state)
{
	(void)state;
	static const char record[] = "\x17\x03\x03\x00\x15"
				     "xxxxxxxxxxxxxxxxxxxxx";
	struct pair pair = new_tls_pair();
	assert_int_equal(send(stream_fd(pair.client), record, 26, 0), 26);
	assert_int_equal(read_nothing(pair.server), PROGRESS_FAILED);
	assert_int_equal(read_nothing(pair.server), PROGRESS_FAILED);
	assert_string_not_equal(stream_error(pair.server), "no error");
	pair_done(&pair);
}

/* --- the whole ---------------------------------------------------------- */

static int
set_up(void **state)
{
	(void)state;
	int fd = mkstemp(ca_path);
	if (fd < 0 ||
	    tls_make_self_signed("mx.example.com", &certificate, &key) < 0 ||
	    tls_make_self_signed(
		"mx.example.com", &other_certificate, &other_key) < 0 ||
	    file_write_all(fd, buf_span(&certificate)) < 0)
		return -1;
	server_context = new_server_context(&certificate, &key);
	return close(fd);
}

static int
tear_down(void **state)
{
	(void)state;
	tls_context_unref(&server_context);
	buf_done(&certificate);
	buf_done(&key);
	buf_done(&other_certificate);
	buf_done(&other_key);
	return unlink(ca_path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_both_directions),
		cmocka_unit_test(test_verification),
		cmocka_unit_test(test_dane),
		cmocka_unit_test(test_unusable_names),
		cmocka_unit_test(test_garbage_instead_of_handshake),
		cmocka_unit_test(test_close_in_handshake),
		cmocka_unit_test(test_channel_binding),
		cmocka_unit_test(test_older_versions),
		cmocka_unit_test(test_reload),
		cmocka_unit_test(test_one_record),
		cmocka_unit_test(test_pending),
		cmocka_unit_test(test_big_transfers),
		cmocka_unit_test(test_nothing_behind_close_notify),
		cmocka_unit_test(test_abrupt_end),
		cmocka_unit_test(test_broken_record),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
