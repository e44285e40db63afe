/* SPDX-License-Identifier: Apache-2.0 */

/* The addresses that mail leaves from: whether the world finds a name for
 * them that leads back, and whether a blocklist has them. Most large receivers
 * refuse mail from an address without a forward-confirmed name. */

#include "base/mem.h"
#include "doctor/internal.h"
#include "os/socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

struct source {
	const struct netaddr *address;
	const char *hostname; /* in EHLO */
	char text[NETADDR_TEXT_SIZE]; /* the address */
};

static bool
has_address(
    const struct interview_answer *answer, const struct netaddr *address)
{
	for (size_t i = 0; i < answer->address_count; i++) {
		if (netaddr_eq_ip(&answer->addresses[i], address))
			return true;
	}
	return false;
}

static bool
has_name(const struct interview_answer *answer, const char *name)
{
	for (size_t i = 0; i < answer->text_count; i++) {
		if (strcasecmp(answer->texts[i], name) == 0)
			return true;
	}
	return false;
}

static const char *
address_type(const struct netaddr *address)
{
	return address->family == NETADDR_IP6 ? "AAAA" : "A";
}

/* ---- its name ------------------------------------------------------------ */

static void
check_forward(struct examination *x, const struct source *s, const char *name)
{
	struct interview_answer forward;

	interview_host(x->dns, name, &forward);
	if (has_address(&forward, s->address)) {
		find(x, DOCTOR_OK, "source", s->text,
		    "its name %s leads back to it", name);
	} else if (forward.result == RESOLVE_TEMPORARY) {
		find(x, DOCTOR_WARNING, "source", s->text,
		    "its name %s could not be looked up: %s", name,
		    forward.problem);
	} else {
		find(x, DOCTOR_PROBLEM, "source", s->text,
		    "its name %s does not lead back to it, so many servers "
		    "refuse its mail",
		    name);
		remedy(x, "%s. %s %s", name, address_type(s->address), s->text);
	}
	interview_answer_done(&forward);
}

static void
check_ehlo(struct examination *x, const struct source *s,
    const struct interview_answer *names)
{
	struct interview_answer forward;

	if (names->text_count > 0 && !has_name(names, s->hostname)) {
		find(x, DOCTOR_WARNING, "source", s->text,
		    "says EHLO %s, but is called %s", s->hostname,
		    names->texts[0]);
		remedy(x, "let hostname (of the source, or of the relay) be %s",
		    names->texts[0]);
	}
	interview_host(x->dns, s->hostname, &forward);
	if (forward.result != RESOLVE_TEMPORARY &&
	    !has_address(&forward, s->address)) {
		find(x, DOCTOR_WARNING, "source", s->text,
		    "says EHLO %s, which does not lead to it", s->hostname);
		remedy(x, "%s. %s %s", s->hostname, address_type(s->address),
		    s->text);
	}
	interview_answer_done(&forward);
}

static void
check_names(struct examination *x, const struct source *s)
{
	char reverse[REVERSE_SIZE + DNS_NAME_SIZE];
	struct interview_answer names;

	interview_records(
	    x->dns, RESOLVE_PTR, reverse_name(s->address, "", reverse), &names);
	if (names.result == RESOLVE_TEMPORARY) {
		find(x, DOCTOR_WARNING, "source", s->text,
		    "its name could not be looked up: %s", names.problem);
	} else if (names.text_count == 0) {
		find(x, DOCTOR_PROBLEM, "source", s->text,
		    "has no name (PTR record), so many servers refuse its "
		    "mail");
		remedy(x,
		    "ask who gave you the address to publish: %s. PTR %s.",
		    reverse, s->hostname);
	}
	for (size_t i = 0; i < names.text_count; i++)
		check_forward(x, s, names.texts[i]);
	if (names.result != RESOLVE_TEMPORARY)
		check_ehlo(x, s, &names);
	interview_answer_done(&names);
}

/* ---- blocklists ---------------------------------------------------------- */

static void
find_listed(struct examination *x, const struct source *s, const char *list,
    const char *name)
{
	struct interview_answer why;

	interview_records(x->dns, RESOLVE_TXT, name, &why);
	find(x, DOCTOR_PROBLEM, "blocklist", s->text, "is listed by %s: %s",
	    list, why.text_count > 0 ? why.texts[0] : "no reason is given");
	remedy(x,
	    "find out which mail caused it, stop that, and then ask %s to "
	    "remove the address",
	    list);
	interview_answer_done(&why);
}

/* Answers are in 127.0.0.0/8; those in 127.255.255.0/24 are about the asker
 * and not about the address. */
static void
check_list(struct examination *x, const struct source *s, const char *list)
{
	char name[REVERSE_SIZE + DNS_NAME_SIZE];
	struct interview_answer found;

	interview_host(x->dns, reverse_name(s->address, list, name), &found);
	const uint8_t *ip = found.addresses[0].ip;
	bool is_there = found.address_count > 0 &&
			found.addresses[0].family == NETADDR_IP4 &&
			ip[0] == 127;
	if (found.result == RESOLVE_TEMPORARY)
		find(x, DOCTOR_NOTE, "blocklist", s->text,
		    "%s could not be asked: %s", list, found.problem);
	else if (!is_there)
		find(x, DOCTOR_OK, "blocklist", s->text, "is not listed by %s",
		    list);
	else if (ip[1] == 255 && ip[2] == 255)
		find(x, DOCTOR_NOTE, "blocklist", s->text,
		    "%s does not answer your resolver; a resolver of your own "
		    "gets an answer",
		    list);
	else
		find_listed(x, s, list, name);
	interview_answer_done(&found);
}

/* ---- a source ------------------------------------------------------------ */

/* Tries to bind: what a connection will do. */
static bool
is_ours(const struct netaddr *address)
{
	struct sockaddr_storage sa;
	socklen_t len = netaddr_to_sockaddr(address, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return false;
	bool is_bound = bind(fd, (const struct sockaddr *)&sa, len) == 0;
	close(fd);
	return is_bound;
}

static void
check_source(
    struct examination *x, const struct netaddr *address, const char *hostname)
{
	struct source s = { .address = address, .hostname = hostname };

	(void)netaddr_format_ip(address, s.text);
	if (!is_ours(address)) {
		find(x, DOCTOR_PROBLEM, "source", s.text,
		    "is not an address of this machine");
		remedy(x,
		    "ip address add %s dev INTERFACE, or take the source out "
		    "of the config",
		    s.text);
		return;
	}
	if (netaddr_is_private(address) && !x->config->delivery.allow_private) {
		find(x, DOCTOR_NOTE, "source", s.text,
		    "is a private address: the world sees another one, whose "
		    "names and listings cannot be found out from here");
	} else {
		check_names(x, &s);
		for (size_t i = 0; i < x->config->doctor.blocklist_count; i++)
			check_list(x, &s, x->config->doctor.blocklists[i]);
	}
	examine_way_out(x, address);
}

/* ---- without sources: what the system would choose ----------------------- */

/* Connecting a datagram socket sends nothing, it only asks for the route. The
 * addresses are of documentation: any of the world's would do. */
static bool
system_address(const char *somewhere, struct netaddr *ret_address)
{
	struct sockaddr_storage sa;
	struct netaddr to;

	if (!netaddr_parse(span_of(somewhere), &to))
		return false;
	socklen_t len = netaddr_to_sockaddr(&to, &sa);
	int fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool is_found = connect(fd, (const struct sockaddr *)&sa, len) == 0 &&
			socket_local(fd, ret_address) == 0;
	close(fd);
	ret_address->port = 0;
	return is_found;
}

static void
examine_system_addresses(struct examination *x)
{
	static const char *const ways[] = { "192.0.2.1:25",
		"[2001:db8::1]:25" };
	unsigned found = 0;

	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		struct netaddr address;

		if (!system_address(ways[i], &address))
			continue;
		found++;
		check_source(x, &address, x->config->hostname);
	}
	if (found > 0)
		return;
	find(x, DOCTOR_PROBLEM, "source", x->config->hostname,
	    "this machine has no route to the world");
	remedy(x, "ip route add default via GATEWAY");
}

void
examine_sources(struct examination *x)
{
	const struct config *c = x->config;

	for (size_t i = 0; i < c->source_count; i++) {
		const char *own = c->sources[i].hostname;

		check_source(x, &c->sources[i].address,
		    own != NULL && own[0] != '\0' ? own : c->hostname);
	}
	if (c->source_count == 0)
		examine_system_addresses(x);
}
