/* SPDX-License-Identifier: Apache-2.0 */
#include "doctor/internal.h"

#include <stdio.h>

static size_t
reverse_ip6(const uint8_t octets[static 16], char *buffer)
{
	static const char hex[] = "0123456789abcdef";
	size_t len = 0;

	for (size_t i = 16; i-- > 0;) {
		buffer[len++] = hex[octets[i] & 15];
		buffer[len++] = '.';
		buffer[len++] = hex[octets[i] >> 4];
		buffer[len++] = '.';
	}
	return len;
}

const char *
reverse_name(const struct netaddr *address, const char *zone,
    char buffer[static REVERSE_SIZE + DNS_NAME_SIZE])
{
	const uint8_t *a = address->ip;
	bool is_ip6 = address->family == NETADDR_IP6;
	size_t len = is_ip6 ? reverse_ip6(a, buffer)
			    : (size_t)snprintf(buffer, REVERSE_SIZE,
				  "%u.%u.%u.%u.", a[3], a[2], a[1], a[0]);

	if (zone[0] == '\0')
		zone = is_ip6 ? "ip6.arpa" : "in-addr.arpa";
	(void)snprintf(buffer + len, DNS_NAME_SIZE, "%s", zone);
	return buffer;
}
