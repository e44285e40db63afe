/* SPDX-License-Identifier: Apache-2.0 */
#include "os/socket.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
/* clang-format on */

#include "base/mem.h"
#include "os/file.h"

static struct netaddr
address(const char *text)
{
	struct netaddr addr;

	assert_true(netaddr_parse(span_of(text), &addr));
	return addr;
}

static int
listen_on(const char *text, int flags, struct netaddr *ret_addr)
{
	struct netaddr addr = address(text);
	int fd = socket_listen(&addr, flags);

	assert_true(fd >= 0);
	assert_int_equal(socket_local(fd, ret_addr), 0);
	return fd;
}

static bool
wait_for(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, 2000) == 1;
}

static int
option(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof value;

	assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static void
assert_flags(int fd)
{
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static void
try_pair(const char *text)
{
	struct netaddr at, peer, local;
	int AUTO_CLOSE listener = listen_on(text, 0, &at);
	assert_int_equal(socket_accept(listener, &peer), -EAGAIN);

	int AUTO_CLOSE client = socket_connect(&at, NULL);
	assert_true(client >= 0);
	assert_true(wait_for(client, POLLOUT));
	assert_int_equal(socket_connected(client), 0);
	assert_true(wait_for(listener, POLLIN));
	int AUTO_CLOSE server = socket_accept(listener, &peer);
	assert_true(server >= 0);
	assert_int_equal(peer.family, at.family);
	assert_flags(listener);
	assert_flags(client);
	assert_flags(server);
	if (at.family == NETADDR_UNIX)
		return;
	assert_int_equal(socket_local(client, &local), 0);
	assert_int_equal(local.port, peer.port);
	assert_true(option(server, IPPROTO_TCP, TCP_NODELAY));
	assert_true(option(client, IPPROTO_TCP, TCP_NODELAY));
}

static void
test_families(void **state)
{
	(void)state;
	try_pair("127.0.0.1:0");
	try_pair("[::1]:0");
}

static void
test_refused(void **state)
{
	(void)state;
	struct netaddr at;
	int listener = listen_on("127.0.0.1:0", 0, &at);
	close(listener);
	int client = socket_connect(&at, NULL);
	if (client >= 0) {
		assert_true(wait_for(client, POLLOUT));
		assert_int_equal(socket_connected(client), -ECONNREFUSED);
		close(client);
	} else {
		assert_int_equal(client, -ECONNREFUSED);
	}
	int AUTO_CLOSE idle = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(socket_connected(idle), -EINPROGRESS);
}

static void
test_source(void **state)
{
	(void)state;
	struct netaddr at, peer, source = address("127.0.0.9:0");
	int AUTO_CLOSE listener = listen_on("127.0.0.1:0", 0, &at);
	int AUTO_CLOSE client = socket_connect(&at, &source);
	assert_true(client >= 0);
	assert_true(wait_for(listener, POLLIN));
	int AUTO_CLOSE server = socket_accept(listener, &peer);
	assert_true(server >= 0);
	assert_true(netaddr_eq_ip(&peer, &source));
	struct netaddr other = address("[::1]:0");
	assert_int_equal(socket_connect(&at, &other), -EAFNOSUPPORT);
	struct netaddr foreign = address("192.0.2.1:0");
	assert_int_equal(socket_connect(&at, &foreign), -EADDRNOTAVAIL);
	struct netaddr none = { 0 };
	assert_int_equal(socket_connect(&none, NULL), -EAFNOSUPPORT);
	assert_int_equal(socket_listen(&none, 0), -EAFNOSUPPORT);
}

static void
test_reuse_port(void **state)
{
	(void)state;
	struct netaddr at;
	int AUTO_CLOSE first = listen_on("127.0.0.1:0", SOCKET_REUSE_PORT, &at);
	assert_true(first >= 0);
	int AUTO_CLOSE second = socket_listen(&at, SOCKET_REUSE_PORT);
	assert_true(second >= 0);
	assert_int_equal(socket_listen(&at, 0), -EADDRINUSE);
	assert_int_equal(
	    socket_listen(&at, SOCKET_REUSE_PORT | SOCKET_FIRST), -EADDRINUSE);
}

/* The first of several is alone at its address, the others join it. */
static void
test_first_of_a_shared_port(void **state)
{
	(void)state;
	struct netaddr at;
	int AUTO_CLOSE first =
	    listen_on("127.0.0.1:0", SOCKET_REUSE_PORT | SOCKET_FIRST, &at);
	assert_true(first >= 0);
	int AUTO_CLOSE second = socket_listen(&at, SOCKET_REUSE_PORT);
	assert_true(second >= 0);
	assert_int_equal(
	    socket_listen(&at, SOCKET_REUSE_PORT | SOCKET_FIRST), -EADDRINUSE);
}

/* Both wildcards on one port, as two lines of a config. */
static void
test_wildcards(void **state)
{
	(void)state;
	struct netaddr at;
	int AUTO_CLOSE six = listen_on("[::]:0", 0, &at);
	assert_true(six >= 0);
	struct netaddr four = address("0.0.0.0:0");
	four.port = at.port;
	int AUTO_CLOSE other = socket_listen(&four, 0);
	assert_true(other >= 0);
}

static void
test_unix(void **state)
{
	(void)state;
	char directory[] = "/tmp/posthouse-socket-XXXXXX";
	assert_non_null(mkdtemp(directory));
	char *AUTO_FREE path = mem_printf("%s/s", directory);
	char *AUTO_FREE text = mem_printf("unix:%s", path);
	try_pair(text); /* leaves the file behind */
	assert_int_equal(access(path, F_OK), 0);
	try_pair(text);
	struct netaddr at;
	int AUTO_CLOSE listener = listen_on(text, 0, &at);
	assert_true(listener >= 0);
	assert_string_equal(at.path, path);
	assert_int_equal(socket_listen(&at, 0), -EADDRINUSE);
	assert_int_equal(unlink(path), 0);
	int missing = socket_connect(&at, NULL);
	assert_int_equal(missing, -ENOENT);
	/* A file that is no socket is not ours to remove. */
	int AUTO_CLOSE file = open(path, O_CREAT | O_CLOEXEC, 0600);
	assert_true(file >= 0);
	assert_int_equal(socket_listen(&at, 0), -EADDRINUSE);
	struct buf content = BUF_EMPTY;
	assert_int_equal(file_read(path, 10, &content), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(directory), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_families),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_source),
		cmocka_unit_test(test_reuse_port),
		cmocka_unit_test(test_first_of_a_shared_port),
		cmocka_unit_test(test_wildcards),
		cmocka_unit_test(test_unix),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
