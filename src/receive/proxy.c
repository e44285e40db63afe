/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The PROXY protocol's header (HAProxy's specification of 2020, versions 1 and
 * 2): who the client is, said by a proxy that the config trusts. A parser of
 * foreign bytes: nothing is read beyond what has arrived.
 */

#include "base/error.h"
#include "receive/internal.h"

#include <string.h>

#define V1_MAX 107 /* with CRLF */
#define V2_FIXED 16

static const char v2_signature[12] = "\r\n\r\n\0\r\nQUIT\n";

/* "TCP4 192.0.2.1 198.51.100.1 56324 25" or "UNKNOWN …" */
static int
parse_v1_line(struct span line, struct netaddr *ret_client)
{
	struct span protocol = span_cut(&line, ' ');
	struct netaddr source, destination;
	uint64_t source_port, destination_port;

	if (span_eq(protocol, SPAN("UNKNOWN"))) {
		*ret_client = (struct netaddr){ .family = NETADDR_NONE };
		return 0;
	}
	if (!span_eq(protocol, SPAN("TCP4")) &&
	    !span_eq(protocol, SPAN("TCP6")))
		return ERR_SYNTAX;
	if (!netaddr_parse_ip(span_cut(&line, ' '), &source) ||
	    !netaddr_parse_ip(span_cut(&line, ' '), &destination) ||
	    !span_to_u64(span_cut(&line, ' '), UINT16_MAX, &source_port) ||
	    !span_to_u64(line, UINT16_MAX, &destination_port))
		return ERR_SYNTAX;
	/* TCP6 may carry an IPv4 client, mapped. */
	if (span_eq(protocol, SPAN("TCP4")) && source.family != NETADDR_IP4)
		return ERR_SYNTAX;
	source.port = (uint16_t)source_port;
	*ret_client = source;
	return 0;
}

static int
parse_v1(struct span in, struct netaddr *ret_client)
{
	struct span head = span_slice(in, 0, V1_MAX);
	size_t end = span_search(head, SPAN("\r\n"));

	if (end == SIZE_MAX)
		return in.len >= V1_MAX ? ERR_LIMIT : 0;
	TRY(parse_v1_line(span_slice(in, 6, end - 6), ret_client));
	return (int)(end + 2);
}

/* The source of "TCP over IPv4" and "TCP over IPv6"; none of other kinds. A
 * mapped IPv4 address is folded, as everywhere. */
static int
parse_v2_address(const unsigned char *p, size_t length, unsigned kind,
    struct netaddr *ret_client)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

	if (kind == 0x11) {
		if (length < 12)
			return ERR_SYNTAX;
		memcpy(&in.sin_addr, p, 4);
		memcpy(&in.sin_port, p + 8, 2);
		return netaddr_from_sockaddr(
			   (const struct sockaddr *)&in, sizeof(in), ret_client)
			   ? 0
			   : ERR_SYNTAX;
	}
	if (kind != 0x21)
		return 0;
	if (length < 36)
		return ERR_SYNTAX;
	memcpy(&in6.sin6_addr, p, 16);
	memcpy(&in6.sin6_port, p + 32, 2);
	return netaddr_from_sockaddr(
		   (const struct sockaddr *)&in6, sizeof(in6), ret_client)
		   ? 0
		   : ERR_SYNTAX;
}

static int
parse_v2(struct span in, struct netaddr *ret_client)
{
	const unsigned char *p = (const unsigned char *)in.ptr;
	struct netaddr client = { .family = NETADDR_NONE };

	if (in.len < V2_FIXED)
		return 0;
	size_t length = (size_t)(p[14] << 8 | p[15]);
	unsigned version = p[12] >> 4, command = p[12] & 15;
	if (version != 2 || command > 1)
		return ERR_SYNTAX;
	if (V2_FIXED + length > PROXY_HEADER_MAX)
		return ERR_LIMIT;
	if (in.len < V2_FIXED + length)
		return 0;
	if (command == 1)
		TRY(parse_v2_address(p + V2_FIXED, length, p[13], &client));
	*ret_client = client;
	return (int)(V2_FIXED + length);
}

int
proxy_parse(struct span in, struct netaddr *ret_client)
{
	struct span signature = span_from(v2_signature, sizeof(v2_signature));
	struct span v1 = SPAN("PROXY ");

	if (span_starts(in, v1))
		return parse_v1(in, ret_client);
	if (span_starts(in, signature))
		return parse_v2(in, ret_client);
	/* The beginning of either may have arrived. */
	if (span_starts(v1, in) || span_starts(signature, in))
		return 0;
	return ERR_SYNTAX;
}
