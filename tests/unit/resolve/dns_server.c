/* SPDX-License-Identifier: Apache-2.0 */
#include "dns_server.h"

#include "base/span.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

struct dns_server {
	pthread_t thread;
	const struct dns_record *records;
	size_t count;
	struct netaddr address;
	int udp, tcp, stop[2];
	atomic_uint mx_questions;
	atomic_bool is_broken;
};

struct packet {
	uint8_t octets[65535];
	size_t len;
};

static void
put16(struct packet *p, unsigned value)
{
	if (p->len + 2 > sizeof p->octets)
		return;
	p->octets[p->len++] = (uint8_t)(value >> 8);
	p->octets[p->len++] = (uint8_t)value;
}

static void
put(struct packet *p, const void *octets, size_t len)
{
	if (p->len + len > sizeof p->octets)
		return;
	memcpy(p->octets + p->len, octets, len);
	p->len += len;
}

static void
put_name(struct packet *p, const char *name)
{
	while (*name) {
		size_t len = strcspn(name, ".");
		uint8_t octet = (uint8_t)len;
		put(p, &octet, 1);
		put(p, name, len);
		name += len + (name[len] == '.');
	}
	put(p, "", 1);
}

static void
put_rr(struct packet *p, const char *name, int type, const char *data)
{
	uint8_t ip[16];

	put_name(p, name);
	put16(p, (unsigned)type);
	put16(p, 1);
	put(p, "\0\0\1\x2c", 4); /* 300 s */
	size_t len_at = p->len;
	put16(p, 0);
	if (type == DNS_A && inet_pton(AF_INET, data, ip) == 1) {
		put(p, ip, 4);
	} else if (type == DNS_AAAA && inet_pton(AF_INET6, data, ip) == 1) {
		put(p, ip, 16);
	} else if (type == DNS_MX) {
		char *host;
		put16(p, (unsigned)strtoul(data, &host, 10));
		put_name(p, host + (*host == ' '));
	} else if (type == DNS_CNAME) {
		put_name(p, data);
	} else if (type == DNS_TXT && *data) {
		uint8_t octet = (uint8_t)strlen(data);
		put(p, &octet, 1);
		put(p, data, octet);
	} else if (type == DNS_SOA) {
		put_name(p, "ns.example");
		put_name(p, "postmaster.example");
		put(p, "\0\0\0\1\0\0\1\1\0\0\1\1\0\0\1\1\0\0\1\1", 20);
	}
	size_t len = p->len - len_at - 2;
	p->octets[len_at] = (uint8_t)(len >> 8);
	p->octets[len_at + 1] = (uint8_t)len;
}

/* Answers of one name and type, following aliases. Sets whether it exists. */
static unsigned
put_answers(const struct dns_server *s, struct packet *p, const char *name,
    int type, bool *ret_exists)
{
	char data[64];
	unsigned count = 0;

	for (size_t i = 0; i < s->count; i++) {
		const struct dns_record *r = &s->records[i];
		if (strcasecmp(r->name, name) != 0)
			continue;
		*ret_exists = true;
		if (r->type == DNS_CNAME && type != DNS_CNAME) {
			put_rr(p, name, DNS_CNAME, r->data);
			bool exists;
			return 1 + put_answers(s, p, r->data, type, &exists);
		}
		if (r->type != type)
			continue;
		for (unsigned n = 0; n == 0 || n < r->count; n++, count++) {
			if (r->count)
				(void)snprintf(
				    data, sizeof data, "%u mx%u.example", n, n);
			put_rr(p, name, type, r->count ? data : r->data);
		}
	}
	return count;
}

static bool
ends_with(const char *name, const char *suffix)
{
	return span_ends_nocase(span_of(name), span_of(suffix));
}

/* False: no reply. */
static bool
answer(struct dns_server *s, const struct packet *in, struct packet *out)
{
	char name[256];
	size_t at = 12, len = 0;

	while (at < in->len && in->octets[at] && len < 190) {
		size_t label = in->octets[at++];
		if (len)
			name[len++] = '.';
		memcpy(name + len, in->octets + at, label);
		len += label;
		at += label;
	}
	name[len] = '\0';
	if (at + 5 > in->len || ends_with(name, ".silent.example"))
		return false;
	int type = in->octets[at + 1] << 8 | in->octets[at + 2];
	if (type == DNS_MX)
		atomic_fetch_add(&s->mx_questions, 1);
	out->len = 0;
	put(out, in->octets, 2);
	put(out, "\x85\x80\0\1\0\0\0\0\0\0", 10);
	put(out, in->octets + 12, at + 5 - 12);
	unsigned rcode = 0, count = 0;
	bool exists = false;
	if (ends_with(name, ".servfail.example") || atomic_load(&s->is_broken))
		rcode = 2;
	else if (ends_with(name, ".refused.example"))
		rcode = 5;
	else
		count = put_answers(s, out, name, type, &exists);
	if (!rcode && !exists)
		rcode = 3;
	if (!count) {
		put_rr(out, "", DNS_SOA, "");
		out->octets[9] = 1;
	}
	out->octets[3] |= (uint8_t)rcode;
	out->octets[6] = (uint8_t)(count >> 8);
	out->octets[7] = (uint8_t)count;
	return true;
}

static void
serve_udp(struct dns_server *s, struct packet *in, struct packet *out)
{
	struct sockaddr_storage from;
	socklen_t from_len = sizeof from;
	ssize_t len = recvfrom(s->udp, in->octets, sizeof in->octets, 0,
	    (struct sockaddr *)&from, &from_len);

	in->len = len > 0 ? (size_t)len : 0;
	if (in->len < 12 || !answer(s, in, out))
		return;
	if (out->len > 1200) {
		out->octets[2] |= 2; /* TC */
		out->octets[6] = out->octets[7] = 0;
		out->len = 12;
		while (in->octets[out->len])
			out->len += 1U + in->octets[out->len];
		out->len += 5;
	}
	(void)sendto(s->udp, out->octets, out->len, 0, (struct sockaddr *)&from,
	    from_len);
}

static bool
read_all(int fd, void *p, size_t len)
{
	return recv(fd, p, len, MSG_WAITALL) == (ssize_t)len;
}

static void
serve_tcp(struct dns_server *s, struct packet *in, struct packet *out)
{
	struct timeval limit = { .tv_sec = 2 };
	uint8_t size[2];
	int fd = accept(s->tcp, NULL, NULL);

	if (fd < 0)
		return;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	if (read_all(fd, size, 2)) {
		in->len = (size_t)(size[0] << 8 | size[1]);
		if (read_all(fd, in->octets, in->len) && answer(s, in, out)) {
			size[0] = (uint8_t)(out->len >> 8);
			size[1] = (uint8_t)out->len;
			(void)send(fd, size, 2, MSG_NOSIGNAL);
			(void)send(fd, out->octets, out->len, MSG_NOSIGNAL);
		}
	}
	(void)close(fd);
}

static void *
run(void *arg)
{
	struct dns_server *s = arg;
	struct packet *in = calloc(1, sizeof *in),
		      *out = calloc(1, sizeof *out);
	struct pollfd fds[3] = { { s->udp, POLLIN, 0 }, { s->tcp, POLLIN, 0 },
		{ s->stop[0], POLLIN, 0 } };

	while (in && out && poll(fds, 3, -1) >= 0 && !fds[2].revents) {
		if (fds[0].revents)
			serve_udp(s, in, out);
		if (fds[1].revents)
			serve_tcp(s, in, out);
	}
	free(in);
	free(out);
	return NULL;
}

static bool
bind_both(struct dns_server *s)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;
	struct netaddr any = { .family = NETADDR_IP4, .ip = { 127, 0, 0, 1 } };

	s->udp = socket(AF_INET, SOCK_DGRAM, 0);
	s->tcp = socket(AF_INET, SOCK_STREAM, 0);
	if (s->udp < 0 || s->tcp < 0)
		return false;
	len = netaddr_to_sockaddr(&any, &sa);
	if (bind(s->udp, (struct sockaddr *)&sa, len) != 0)
		return false;
	len = sizeof sa;
	if (getsockname(s->udp, (struct sockaddr *)&sa, &len) != 0 ||
	    !netaddr_from_sockaddr((struct sockaddr *)&sa, len, &s->address))
		return false;
	return bind(s->tcp, (struct sockaddr *)&sa, len) == 0 &&
	       listen(s->tcp, 16) == 0;
}

struct dns_server *
dns_server_start(const struct dns_record *records, size_t count)
{
	/* The free UDP port may be taken for TCP: try some. */
	for (unsigned n = 0; n < 20; n++) {
		struct dns_server *s = calloc(1, sizeof *s);
		if (!s)
			return NULL;
		s->records = records;
		s->count = count;
		if (bind_both(s) && pipe(s->stop) == 0 &&
		    pthread_create(&s->thread, NULL, run, s) == 0)
			return s;
		(void)close(s->udp);
		(void)close(s->tcp);
		free(s);
	}
	return NULL;
}

void
dns_server_stop(struct dns_server *server)
{
	(void)!write(server->stop[1], "", 1);
	(void)pthread_join(server->thread, NULL);
	(void)close(server->udp);
	(void)close(server->tcp);
	(void)close(server->stop[0]);
	(void)close(server->stop[1]);
	free(server);
}

struct netaddr
dns_server_address(const struct dns_server *server)
{
	return server->address;
}

unsigned
dns_server_mx_questions(const struct dns_server *server)
{
	return atomic_load(&server->mx_questions);
}

void
dns_server_break(struct dns_server *server, bool is_broken)
{
	atomic_store(&server->is_broken, is_broken);
}
