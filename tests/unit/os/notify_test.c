/* SPDX-License-Identifier: Apache-2.0 */
#include "os/notify.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
/* clang-format on */

#include "base/mem.h"
#include "base/time.h"
#include "os/socket.h"

static void
receive(int fd, char *text, size_t size)
{
	ssize_t n = recv(fd, text, size - 1, MSG_DONTWAIT);

	text[n > 0 ? n : 0] = '\0';
}

static void
test_messages(void **state)
{
	(void)state;
	char directory[] = "/tmp/posthouse-notify-XXXXXX", text[512];
	assert_non_null(mkdtemp(directory));
	struct netaddr addr = { .family = NETADDR_UNIX };
	char *AUTO_FREE path = mem_printf("%s/n", directory);
	assert_true(
	    span_to_cstring(span_of(path), addr.path, sizeof addr.path));
	struct sockaddr_storage sa;
	socklen_t len = netaddr_to_sockaddr(&addr, &sa);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);

	notify_ready(); /* nowhere to go: harmless */
	assert_int_equal(setenv("NOTIFY_SOCKET", path, 1), 0);
	notify_ready();
	receive(fd, text, sizeof text);
	assert_string_equal(text, "READY=1");
	notify_status("%d sessions\nREADY=0", 3);
	receive(fd, text, sizeof text);
	assert_string_equal(text, "STATUS=3 sessions READY=0");
	notify_watchdog();
	receive(fd, text, sizeof text);
	assert_string_equal(text, "WATCHDOG=1");
	notify_reloading();
	receive(fd, text, sizeof text);
	assert_non_null(strstr(text, "RELOADING=1\nMONOTONIC_USEC="));
	notify_stopping();
	receive(fd, text, sizeof text);
	assert_string_equal(text, "STOPPING=1");
	assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
	close(fd);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(directory), 0);
}

static void
test_watchdog(void **state)
{
	(void)state;
	assert_int_equal(notify_watchdog_interval_us(), 0);
	assert_int_equal(setenv("WATCHDOG_USEC", "30000000", 1), 0);
	assert_int_equal(notify_watchdog_interval_us(), 15 * US_PER_S);
	assert_int_equal(unsetenv("WATCHDOG_USEC"), 0);
}

/* In a child, because descriptors are handed over from number 3 on. */
static int
take_sockets(void)
{
	struct netaddr any, at, unused;
	if (!netaddr_parse(SPAN("127.0.0.1:0"), &any) ||
	    !netaddr_parse(SPAN("127.0.0.1:1"), &unused))
		return 10;
	int fd = socket_listen(&any, 0);
	if (fd < 0 || socket_local(fd, &at) < 0)
		return 11;
	if (fd != 4 && dup2(fd, 4) < 0)
		return 12;
	if (dup2(2, 3) < 0) /* something else at 3 */
		return 13;
	char *AUTO_FREE pid = mem_printf("%d", (int)getpid());
	(void)setenv("LISTEN_PID", pid, 1);
	(void)setenv("LISTEN_FDS", "2", 1);
	(void)fcntl(4, F_SETFL, 0);
	if (notify_take_socket(&unused) != -1)
		return 14;
	if (notify_untaken_sockets() != 2)
		return 18;
	if (notify_take_socket(&at) != 4)
		return 15;
	if (!(fcntl(4, F_GETFL) & O_NONBLOCK))
		return 16;
	if (notify_take_socket(&at) != -1) /* once only */
		return 17;
	return notify_untaken_sockets() == 1 ? 0 : 19;
}

static void
test_take_socket(void **state)
{
	(void)state;
	struct netaddr addr;
	assert_true(netaddr_parse(SPAN("127.0.0.1:1"), &addr));
	assert_int_equal(notify_take_socket(&addr), -1);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(take_sockets());
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_watchdog),
		cmocka_unit_test(test_take_socket),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
