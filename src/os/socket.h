/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Non-blocking, close-on-exec sockets. TCP_NODELAY is always set: sessions
 * gather what belongs together into one write themselves. */

#include "base/error.h"
#include "base/netaddr.h"

#include <stdbool.h>

enum socket_listen_flags {
	/* One listener per reactor on the same address. */
	SOCKET_REUSE_PORT = 1,
	/* With it: the first of them. Fails where somebody listens already,
	 * who may be another service of the same user. */
	SOCKET_FIRST = 2,
};

/* The descriptor, or a negative code. IPv6 wildcard listeners are v6-only. */
MUST_CHECK int socket_listen(const struct netaddr *addr, int flags);
/* A descriptor with the connection under way (or made). `source` may be NULL:
 * the address to bind to. Wait for writability, then socket_connected. */
MUST_CHECK int socket_connect(
    const struct netaddr *to, const struct netaddr *source);
/* 0 when connections may come from this address of ours, -EADDRNOTAVAIL when
 * it is not on this machine. */
MUST_CHECK int socket_can_bind(const struct netaddr *addr);
/* 0 when connected, else the negated errno of the attempt. */
int socket_connected(int fd);
/* -EAGAIN when nobody waits. */
MUST_CHECK int socket_accept(int listen_fd, struct netaddr *ret_peer);
MUST_CHECK int socket_local(int fd, struct netaddr *ret_addr);
