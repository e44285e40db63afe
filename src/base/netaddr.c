/* SPDX-License-Identifier: Apache-2.0 */
#include "base/netaddr.h"

#include "base/decimal.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

static const uint8_t mapped_prefix[12] = { [10] = 0xff, [11] = 0xff };

static struct netaddr
addr_from_ip6(const uint8_t ip[static 16])
{
	struct netaddr addr = { .family = NETADDR_IP6 };

	if (memcmp(ip, mapped_prefix, sizeof mapped_prefix) == 0) {
		addr.family = NETADDR_IP4;
		memcpy(addr.ip, ip + 12, 4);
	} else {
		memcpy(addr.ip, ip, 16);
	}
	return addr;
}

bool
netaddr_parse_ip(struct span s, struct netaddr *ret_addr)
{
	char text[INET6_ADDRSTRLEN];
	uint8_t ip[16];
	bool in_brackets = s.len >= 2 && s.ptr[0] == '[';

	if (in_brackets && s.ptr[s.len - 1] != ']')
		return false;
	if (in_brackets)
		s = span_slice(s, 1, s.len - 2);
	if (span_find(s, '\0') != SIZE_MAX ||
	    !span_to_cstring(s, text, sizeof text))
		return false;
	if (inet_pton(AF_INET6, text, ip) == 1) {
		*ret_addr = addr_from_ip6(ip);
		return true;
	}
	if (in_brackets || inet_pton(AF_INET, text, ip) != 1)
		return false;
	*ret_addr = (struct netaddr){ .family = NETADDR_IP4 };
	memcpy(ret_addr->ip, ip, 4);
	return true;
}

static bool
parse_unix(struct span path, struct netaddr *ret_addr)
{
	struct netaddr addr = { .family = NETADDR_UNIX };

	if (!path.len || span_find(path, '\0') != SIZE_MAX ||
	    !span_to_cstring(path, addr.path, sizeof addr.path))
		return false;
	*ret_addr = addr;
	return true;
}

bool
netaddr_parse(struct span s, struct netaddr *ret_addr)
{
	struct netaddr addr;
	uint64_t port;

	if (span_starts(s, SPAN("unix:")))
		return parse_unix(span_skip(s, 5), ret_addr);
	size_t colon = span_find_last(s, ':');
	if (colon == SIZE_MAX)
		return false;
	struct span host = span_slice(s, 0, colon);
	/* "2001:db8::1:25" without brackets could be read in two ways. */
	if (!span_starts(host, SPAN("[")) && span_find(host, ':') != SIZE_MAX)
		return false;
	if (!span_to_u64(span_skip(s, colon + 1), UINT16_MAX, &port) ||
	    !netaddr_parse_ip(host, &addr))
		return false;
	addr.port = (uint16_t)port;
	*ret_addr = addr;
	return true;
}

static bool
has_prefix(const uint8_t *ip, const uint8_t *network, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	if (memcmp(ip, network, whole) != 0)
		return false;
	return !rest || (ip[whole] ^ network[whole]) >> (8 - rest) == 0;
}

static bool
has_host_bits(const struct netmask *m, unsigned width)
{
	for (unsigned bit = m->bits; bit < width; bit++)
		if (m->network.ip[bit / 8] & (0x80 >> bit % 8))
			return true;
	return false;
}

bool
netmask_parse(struct span s, struct netmask *ret_mask)
{
	struct netmask m = { 0 };
	bool has_bits = span_find(s, '/') != SIZE_MAX;
	struct span ip = span_cut(&s, '/');

	if (!netaddr_parse_ip(ip, &m.network))
		return false;
	unsigned width = m.network.family == NETADDR_IP4 ? 32 : 128;
	bool is_mapped = width == 32 && span_find(ip, ':') != SIZE_MAX;
	uint64_t bits = is_mapped ? 128 : width;
	if (has_bits && !span_to_u64(s, bits, &bits))
		return false;
	if (is_mapped && bits < 96)
		return false;
	m.bits = (uint8_t)(is_mapped ? bits - 96 : bits);
	if (has_host_bits(&m, width))
		return false;
	*ret_mask = m;
	return true;
}

bool
netmask_contains(const struct netmask *m, const struct netaddr *addr)
{
	if (m->network.family != addr->family ||
	    (addr->family != NETADDR_IP4 && addr->family != NETADDR_IP6))
		return false;
	return has_prefix(addr->ip, m->network.ip, m->bits);
}

static const char *
format_ip4(const uint8_t ip[static 4], char *buffer)
{
	char *to = buffer;

	for (size_t i = 0; i < 4; i++) {
		to = decimal_put(to, ip[i]);
		*to++ = i < 3 ? '.' : '\0';
	}
	return buffer;
}

const char *
netaddr_format_ip(
    const struct netaddr *a, char buffer[static NETADDR_TEXT_SIZE])
{
	switch (a->family) {
	case NETADDR_IP4:
		return format_ip4(a->ip, buffer);
	case NETADDR_IP6:
		return inet_ntop(AF_INET6, a->ip, buffer, NETADDR_TEXT_SIZE);
	case NETADDR_UNIX:
		(void)snprintf(buffer, NETADDR_TEXT_SIZE, "unix:%.*s",
		    (int)sizeof a->path - 1, a->path);
		return buffer;
	case NETADDR_NONE:
		break;
	}
	(void)snprintf(buffer, NETADDR_TEXT_SIZE, "none");
	return buffer;
}

const char *
netaddr_format(const struct netaddr *a, char buffer[static NETADDR_TEXT_SIZE])
{
	char ip[NETADDR_TEXT_SIZE];

	if (a->family != NETADDR_IP4 && a->family != NETADDR_IP6)
		return netaddr_format_ip(a, buffer);
	(void)snprintf(buffer, NETADDR_TEXT_SIZE,
	    a->family == NETADDR_IP6 ? "[%.*s]:%u" : "%.*s:%u",
	    INET6_ADDRSTRLEN, netaddr_format_ip(a, ip), a->port);
	return buffer;
}

bool
netaddr_eq_ip(const struct netaddr *a, const struct netaddr *b)
{
	if (a->family != b->family)
		return false;
	switch (a->family) {
	case NETADDR_IP4:
		return memcmp(a->ip, b->ip, 4) == 0;
	case NETADDR_IP6:
		return memcmp(a->ip, b->ip, 16) == 0;
	case NETADDR_UNIX:
		return strncmp(a->path, b->path, sizeof a->path) == 0;
	case NETADDR_NONE:
		break;
	}
	return true;
}

struct range {
	uint8_t ip[4];
	uint8_t bits;
};

/* clang-format off */
/* The IANA special-purpose registry that RFC 6890 founded, plus multicast. */
static const struct range special_ip4[] = {
	{ { 0, 0, 0, 0 },       8 },  /* this network */
	{ { 10, 0, 0, 0 },      8 },  /* RFC 1918 */
	{ { 100, 64, 0, 0 },    10 }, /* shared by carriers, RFC 6598 */
	{ { 127, 0, 0, 0 },     8 },  /* loopback */
	{ { 169, 254, 0, 0 },   16 }, /* link-local */
	{ { 172, 16, 0, 0 },    12 }, /* RFC 1918 */
	{ { 192, 0, 0, 0 },     24 }, /* IETF protocol assignments */
	{ { 192, 0, 2, 0 },     24 }, /* TEST-NET-1 */
	{ { 192, 88, 99, 0 },   24 }, /* 6to4 relays, RFC 7526 */
	{ { 192, 168, 0, 0 },   16 }, /* RFC 1918 */
	{ { 198, 18, 0, 0 },    15 }, /* benchmarks, RFC 2544 */
	{ { 198, 51, 100, 0 },  24 }, /* TEST-NET-2 */
	{ { 203, 0, 113, 0 },   24 }, /* TEST-NET-3 */
	{ { 224, 0, 0, 0 },     4 },  /* multicast */
	{ { 240, 0, 0, 0 },     4 },  /* reserved, and broadcast */
};

struct range6 {
	uint8_t ip[16];
	uint8_t bits;
};

/* Inside 2000::/3; all outside of it is special anyway. */
static const struct range6 special_ip6[] = {
	{ { 0x20, 0x01, 0x00, 0x00 }, 23 }, /* IETF, Teredo */
	{ { 0x20, 0x01, 0x0d, 0xb8 }, 32 }, /* documentation */
	{ { 0x3f, 0xff, 0x00 },       20 }, /* documentation, RFC 9637 */
};

/* clang-format on */

static bool
is_special_ip4(const uint8_t *ip)
{
	for (size_t i = 0; i < sizeof special_ip4 / sizeof *special_ip4; i++)
		if (has_prefix(ip, special_ip4[i].ip, special_ip4[i].bits))
			return true;
	return false;
}

static bool
is_special_ip6(const uint8_t *ip)
{
	/* RFC 6052 §2.1, RFC 3056 §2: ways to an IPv4 address. */
	static const uint8_t nat64[16] = { 0x00, 0x64, 0xff, 0x9b };
	static const uint8_t sixto4[16] = { 0x20, 0x02 };

	if (has_prefix(ip, nat64, 96))
		return is_special_ip4(ip + 12);
	if (has_prefix(ip, sixto4, 16))
		return is_special_ip4(ip + 2);
	/* Global unicast is 2000::/3, RFC 4291 §2.4 and IANA. */
	if (ip[0] >> 5 != 1)
		return true;
	for (size_t i = 0; i < sizeof special_ip6 / sizeof *special_ip6; i++)
		if (has_prefix(ip, special_ip6[i].ip, special_ip6[i].bits))
			return true;
	return false;
}

bool
netaddr_is_private(const struct netaddr *a)
{
	if (a->family == NETADDR_IP4)
		return is_special_ip4(a->ip);
	if (a->family != NETADDR_IP6)
		return true;
	/* A value that was filled in by hand may still be a mapped one. */
	struct netaddr folded = addr_from_ip6(a->ip);
	if (folded.family == NETADDR_IP4)
		return is_special_ip4(folded.ip);
	return is_special_ip6(a->ip);
}

struct netaddr
netaddr_client_network(const struct netaddr *a)
{
	struct netaddr network = *a;

	network.port = 0;
	if (network.family == NETADDR_IP6)
		memset(network.ip + 8, 0, 8);
	return network;
}

static socklen_t
unix_to_sockaddr(const char *path, struct sockaddr_storage *ret_sa)
{
	struct sockaddr_un *un = (struct sockaddr_un *)(void *)ret_sa;
	size_t len = strnlen(path, sizeof un->sun_path - 1);

	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path, len);
	un->sun_path[len] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
}

socklen_t
netaddr_to_sockaddr(const struct netaddr *a, struct sockaddr_storage *ret_sa)
{
	memset(ret_sa, 0, sizeof *ret_sa);
	if (a->family == NETADDR_IP4) {
		struct sockaddr_in *in = (struct sockaddr_in *)(void *)ret_sa;
		in->sin_family = AF_INET;
		in->sin_port = htons(a->port);
		memcpy(&in->sin_addr, a->ip, 4);
		return sizeof *in;
	}
	if (a->family == NETADDR_IP6) {
		struct sockaddr_in6 *in6 =
		    (struct sockaddr_in6 *)(void *)ret_sa;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(a->port);
		memcpy(&in6->sin6_addr, a->ip, 16);
		return sizeof *in6;
	}
	if (a->family == NETADDR_UNIX)
		return unix_to_sockaddr(a->path, ret_sa);
	ret_sa->ss_family = AF_UNSPEC;
	return sizeof(sa_family_t);
}

static struct netaddr
addr_from_unix(const struct sockaddr *sa, socklen_t len)
{
	struct netaddr addr = { .family = NETADDR_UNIX };
	size_t start = offsetof(struct sockaddr_un, sun_path);
	size_t room = len > start ? len - start : 0;

	if (room > sizeof addr.path - 1)
		room = sizeof addr.path - 1;
	/* Abstract names start with NUL and end here as an empty path. */
	const char *path = (const char *)sa + start;
	memcpy(addr.path, path, strnlen(path, room));
	return addr;
}

bool
netaddr_from_sockaddr(
    const struct sockaddr *sa, socklen_t len, struct netaddr *ret_addr)
{
	if (len < sizeof sa->sa_family)
		return false;
	if (sa->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
		struct sockaddr_in in;
		memcpy(&in, sa, sizeof in);
		*ret_addr = (struct netaddr){ .family = NETADDR_IP4,
			.port = ntohs(in.sin_port) };
		memcpy(ret_addr->ip, &in.sin_addr, 4);
		return true;
	}
	if (sa->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
		struct sockaddr_in6 in6;
		memcpy(&in6, sa, sizeof in6);
		*ret_addr = addr_from_ip6(in6.sin6_addr.s6_addr);
		ret_addr->port = ntohs(in6.sin6_port);
		return true;
	}
	if (sa->sa_family != AF_UNIX)
		return false;
	*ret_addr = addr_from_unix(sa, len);
	return true;
}
