/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Internet addresses, ports and networks as values, without a socket in sight.
 * IPv4-mapped IPv6 addresses are folded to IPv4 on parsing and conversion, so
 * that one client has one face.
 */

#include "base/span.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum netaddr_family { NETADDR_NONE, NETADDR_IP4, NETADDR_IP6, NETADDR_UNIX };

struct netaddr {
	enum netaddr_family family;
	uint16_t port; /* host byte order; 0 where there is none */
	uint8_t ip[16]; /* network byte order; IPv4 in the first four */
	char path[108]; /* NETADDR_UNIX */
};

struct netmask {
	struct netaddr network;
	uint8_t bits;
};

#define NETADDR_TEXT_SIZE 128

/* "192.0.2.1", "2001:db8::1", "[2001:db8::1]". No port. */
bool netaddr_parse_ip(struct span s, struct netaddr *ret_addr);
/* "192.0.2.1:25", "[2001:db8::1]:25", "unix:/run/x". */
bool netaddr_parse(struct span s, struct netaddr *ret_addr);
/* "192.0.2.0/24", "2001:db8::/32", or a single address. Host bits must be 0. */
bool netmask_parse(struct span s, struct netmask *ret_mask);
bool netmask_contains(const struct netmask *m, const struct netaddr *addr);

/* Without / with the port. Return buffer. */
const char *netaddr_format_ip(
    const struct netaddr *a, char buffer[static NETADDR_TEXT_SIZE]);
const char *netaddr_format(
    const struct netaddr *a, char buffer[static NETADDR_TEXT_SIZE]);

bool netaddr_eq_ip(const struct netaddr *a, const struct netaddr *b);
/* Loopback, private, link-local, unspecified, multicast, shared, reserved,
 * documentation: anything that an MX record on the public Internet must not
 * lead to (RFC 6890). */
bool netaddr_is_private(const struct netaddr *a);
/* The network a client counts as: the IPv4 address, or the IPv6 /64. */
struct netaddr netaddr_client_network(const struct netaddr *a);

socklen_t netaddr_to_sockaddr(
    const struct netaddr *a, struct sockaddr_storage *ret_sa);
bool netaddr_from_sockaddr(
    const struct sockaddr *sa, socklen_t len, struct netaddr *ret_addr);
