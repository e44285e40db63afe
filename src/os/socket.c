/* SPDX-License-Identifier: Apache-2.0 */
#include "os/socket.h"

#include "os/file.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	BACKLOG = 4096, /* the kernel lowers it to net.core.somaxconn */
	ABORTED_MAX = 16, /* dead connections skipped in one accept */
};

static int
set_option(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof value) < 0 ? -errno
								     : 0;
}

static int
kernel_family(const struct netaddr *addr)
{
	switch (addr->family) {
	case NETADDR_IP4:
		return AF_INET;
	case NETADDR_IP6:
		return AF_INET6;
	case NETADDR_UNIX:
		return AF_UNIX;
	case NETADDR_NONE:
		break;
	}
	return -EAFNOSUPPORT;
}

static int
open_stream(const struct netaddr *addr)
{
	int family = kernel_family(addr);

	TRY(family);
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int result =
	    family == AF_UNIX ? 0 : set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (result < 0)
		(void)close(fd);
	return result < 0 ? result : fd;
}

static int
bind_to(int fd, const struct netaddr *addr)
{
	struct sockaddr_storage sa;
	socklen_t len = netaddr_to_sockaddr(addr, &sa);

	return bind(fd, (struct sockaddr *)&sa, len) < 0 ? -errno : 0;
}

static int
connect_to(int fd, const struct netaddr *addr)
{
	struct sockaddr_storage sa;
	socklen_t len = netaddr_to_sockaddr(addr, &sa);

	return connect(fd, (struct sockaddr *)&sa, len) < 0 ? -errno : 0;
}

/* A Unix socket's file outlives its process. Whether somebody still listens
 * there only a connection tells. */
static int
bind_over_stale(int fd, const struct netaddr *addr)
{
	int AUTO_CLOSE probe = open_stream(addr);
	struct stat st;

	TRY(probe);
	if (lstat(addr->path, &st) < 0 || !S_ISSOCK(st.st_mode) ||
	    connect_to(probe, addr) != -ECONNREFUSED)
		return -EADDRINUSE;
	if (unlink(addr->path) < 0)
		return -errno;
	return bind_to(fd, addr);
}

static int
bind_listener(int fd, const struct netaddr *addr, int flags)
{
	if (addr->family == NETADDR_UNIX) {
		int result = bind_to(fd, addr);
		return result == -EADDRINUSE ? bind_over_stale(fd, addr)
					     : result;
	}
	bool first = (flags & SOCKET_FIRST) != 0;
	TRY(set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1));
	if ((flags & SOCKET_REUSE_PORT) && !first)
		TRY(set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1));
	if (addr->family == NETADDR_IP6)
		TRY(set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1));
	TRY(bind_to(fd, addr));
	/* Set behind the binding it lets others in, not us. */
	if ((flags & SOCKET_REUSE_PORT) && first)
		return set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	return 0;
}

int
socket_listen(const struct netaddr *addr, int flags)
{
	int fd = open_stream(addr);

	TRY(fd);
	int result = bind_listener(fd, addr, flags);
	if (result == 0 && listen(fd, BACKLOG) < 0)
		result = -errno;
	if (result < 0)
		(void)close(fd);
	return result < 0 ? result : fd;
}

static int
bind_source(int fd, const struct netaddr *to, const struct netaddr *source)
{
	if (source->family != to->family)
		return -EAFNOSUPPORT;
	/* The port is chosen at connect, so that one source address has its
	 * ports once per destination and not once for all. */
	if (source->port == 0)
		(void)set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	return bind_to(fd, source);
}

int
socket_connect(const struct netaddr *to, const struct netaddr *source)
{
	int fd = open_stream(to);

	TRY(fd);
	int result = source ? bind_source(fd, to, source) : 0;
	if (result == 0)
		result = connect_to(fd, to);
	/* EINTR too leaves the attempt under way. */
	if (result == -EINPROGRESS || result == -EINTR)
		result = 0;
	if (result < 0)
		(void)close(fd);
	return result < 0 ? result : fd;
}

int
socket_can_bind(const struct netaddr *addr)
{
	int fd = open_stream(addr);

	TRY(fd);
	int result = bind_source(fd, addr, addr);
	(void)close(fd);
	return result;
}

int
socket_connected(int fd)
{
	int error = 0;
	socklen_t len = sizeof error;
	struct sockaddr_storage peer;
	socklen_t peer_len = sizeof peer;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return -errno;
	if (error)
		return -error;
	if (getpeername(fd, (struct sockaddr *)&peer, &peer_len) == 0)
		return 0;
	return errno == ENOTCONN ? -EINPROGRESS : -errno;
}

static bool
is_peer_fault(int error)
{
	/* accept(2): the new connection's own trouble, not the listener's. */
	return error == ECONNABORTED || error == EPROTO || error == EINTR ||
	       error == ENETDOWN || error == ENOPROTOOPT ||
	       error == EHOSTDOWN || error == ENONET || error == EHOSTUNREACH ||
	       error == ENETUNREACH;
}

int
socket_accept(int listen_fd, struct netaddr *ret_peer)
{
	struct sockaddr_storage sa;
	struct netaddr peer;
	socklen_t len;
	int fd = -1;

	for (int tries = 0; fd < 0; tries++) {
		len = sizeof sa;
		fd = accept4(listen_fd, (struct sockaddr *)&sa, &len,
		    SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0 && (!is_peer_fault(errno) || tries >= ABORTED_MAX))
			return is_peer_fault(errno) ? -EAGAIN : -errno;
	}
	if (!netaddr_from_sockaddr((struct sockaddr *)&sa, len, &peer)) {
		(void)close(fd);
		return -EAFNOSUPPORT;
	}
	/* Inherited from our own listeners, but perhaps not from a foreign
	 * one; a peer that is gone already is found out by reading. */
	if (peer.family != NETADDR_UNIX)
		(void)set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	*ret_peer = peer;
	return fd;
}

int
socket_local(int fd, struct netaddr *ret_addr)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;

	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		return -errno;
	if (!netaddr_from_sockaddr((struct sockaddr *)&sa, len, ret_addr))
		return -EAFNOSUPPORT;
	return 0;
}
