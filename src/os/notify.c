/* SPDX-License-Identifier: Apache-2.0 */
#include "os/notify.h"

#include "os/clock.h"
#include "os/socket.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

enum { HANDED_OVER_MAX = 256 };

/* A manager that does not answer is no reason to stop relaying mail, so the
 * results of sd_notify are ignored throughout. */

void
notify_ready(void)
{
	(void)sd_notify(0, "READY=1");
}

void
notify_reloading(void)
{
	(void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld",
	    (long long)clock_monotonic_us());
}

void
notify_stopping(void)
{
	(void)sd_notify(0, "STOPPING=1");
}

void
notify_status(const char *format, ...)
{
	char status[256];
	va_list args;

	va_start(args, format);
	int len = vsnprintf(status, sizeof status, format, args);
	va_end(args);
	if (len < 0)
		return;
	/* A line end would start another assignment. */
	for (char *p = status; *p; p++)
		if (*p == '\n')
			*p = ' ';
	(void)sd_notifyf(0, "STATUS=%s", status);
}

void
notify_watchdog(void)
{
	(void)sd_notify(0, "WATCHDOG=1");
}

int64_t
notify_watchdog_interval_us(void)
{
	uint64_t limit_us = 0;

	/* sd_watchdog_enabled(3) recommends half the limit. */
	if (sd_watchdog_enabled(0, &limit_us) <= 0)
		return 0;
	return (int64_t)(limit_us / 2 > 0 ? limit_us / 2 : 1);
}

static bool
is_listener_on(int fd, const struct netaddr *addr)
{
	struct netaddr local;

	if (addr->family == NETADDR_UNIX)
		return sd_is_socket_unix(fd, SOCK_STREAM, 1, addr->path, 0) > 0;
	return sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) > 0 &&
	       socket_local(fd, &local) == 0 && netaddr_eq_ip(&local, addr) &&
	       local.port == addr->port;
}

static bool is_taken[HANDED_OVER_MAX];

unsigned
notify_untaken_sockets(void)
{
	int count = sd_listen_fds(0);
	unsigned untaken = 0;

	for (int i = 0; i < count; i++)
		untaken += i >= HANDED_OVER_MAX || !is_taken[i];
	return untaken;
}

int
notify_take_socket(const struct netaddr *addr)
{
	int count = sd_listen_fds(0);

	for (int i = 0; i < count && i < HANDED_OVER_MAX; i++) {
		int fd = SD_LISTEN_FDS_START + i;
		if (is_taken[i] || !is_listener_on(fd, addr))
			continue;
		int flags = fcntl(fd, F_GETFL);
		if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
			return -1;
		is_taken[i] = true;
		return fd;
	}
	return -1;
}
