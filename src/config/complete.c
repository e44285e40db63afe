/* SPDX-License-Identifier: Apache-2.0 */

/* Defaults that depend on other keys or on the machine, and what is derived
 * for quick use: the parts of `to`, the last route, the index of domains. */

#include "base/arena.h"
#include "base/bug.h"
#include "base/map.h"
#include "base/mem.h"
#include "config/internal.h"
#include "mail/address.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- the host's name --------------------------------------------------- */

/* The name with its domain where the resolver knows it: /etc/hosts, then DNS.
 * May block as long as the C library's resolver does. */
static char *
full_host_name(void)
{
	struct addrinfo hints = { .ai_flags = AI_CANONNAME,
		.ai_socktype = SOCK_STREAM };
	struct addrinfo *found = NULL;
	char name[256] = "";

	if (gethostname(name, sizeof name - 1) < 0)
		return mem_strdup("");
	if (strchr(name, '.') || !*name ||
	    getaddrinfo(name, NULL, &hints, &found) != 0)
		return mem_strdup(name);
	bool is_full = found->ai_canonname && strchr(found->ai_canonname, '.');
	char *full = mem_strdup(is_full ? found->ai_canonname : name);
	freeaddrinfo(found);
	return full;
}

static const struct config_key hostname_key = {
	.name = "hostname",
	.kind = VALUE_HOSTNAME,
};

static void
complete_hostname(struct config_reader *r)
{
	char reason[CONFIG_REASON_SIZE];

	if (r->config->hostname)
		return;
	char *AUTO_FREE name = full_host_name();
	struct config_scalar scalar = {
		.key = &hostname_key,
		.text = span_of(name),
	};
	if (!config_value_parse(&scalar, &r->config->hostname, reason))
		config_mistake(r, NULL,
		    "`hostname` is not given, and this host's own name will "
		    "not do: %s",
		    reason);
}

/* ---- the parts of `to` ------------------------------------------------- */

enum { SMTP_PORT = 25, LMTP_PORT = 24 /* RFC 2033 leaves it; IANA's */ };

static bool
refuse(char *reason, size_t size, const char *text)
{
	(void)snprintf(reason, size, "%s", text);
	return false;
}

static bool
parse_path(struct config_route *route, struct span path, char *reason,
    size_t reason_size)
{
	struct netaddr socket;

	if (!path.len || *path.ptr != '/')
		return refuse(reason, reason_size,
		    "must be an absolute path; let it begin with `/`");
	if (route->deliver == CONFIG_DELIVER_LMTP &&
	    !netaddr_parse(span_of(route->to), &socket))
		return refuse(reason, reason_size,
		    "the path is longer than the 107 octets that a Unix "
		    "socket may have");
	mem_free(route->to_path);
	route->to_path = span_dup(path);
	return true;
}

/* "host", "host:port", "192.0.2.1:25", "[2001:db8::1]:25" */
static bool
parse_host(struct config_route *route, char *reason, size_t reason_size)
{
	struct span host = span_of(route->to);
	size_t colon = span_find_last(host, ':');
	bool is_bracketed =
	    span_starts(host, SPAN("[")) && host.ptr[host.len - 1] == ']';
	uint64_t number =
	    route->deliver == CONFIG_DELIVER_LMTP ? LMTP_PORT : SMTP_PORT;
	char *name = NULL, ip_text[NETADDR_TEXT_SIZE];
	char name_reason[CONFIG_REASON_SIZE];
	struct netaddr ip;

	if (colon != SIZE_MAX && !is_bracketed) {
		struct span port = span_skip(host, colon + 1);
		host = span_slice(host, 0, colon);
		if (!span_to_u64(port, UINT16_MAX, &number) || !number)
			return refuse(reason, reason_size,
			    "the port must be 1 to 65535: write \"host:port\"");
		if (!span_starts(host, SPAN("[")) &&
		    span_find(host, ':') != SIZE_MAX)
			return refuse(reason, reason_size,
			    "an IPv6 address needs brackets: "
			    "\"[2001:db8::1]:25\"");
	}
	struct config_scalar scalar = { .key = &hostname_key, .text = host };
	if (netaddr_parse_ip(host, &ip))
		name = mem_strdup(netaddr_format_ip(&ip, ip_text));
	else if (!config_value_parse(&scalar, &name, name_reason))
		return refuse(reason, reason_size, name_reason);
	mem_free(route->to_host);
	route->to_host = name;
	route->to_port = (uint16_t)number;
	return true;
}

bool
config_parse_to(struct config_route *route, char *reason, size_t reason_size)
{
	struct span to = span_of(route->to);
	bool is_unix = span_starts(to, SPAN("unix:"));

	BUG_UNLESS(route->to != NULL && reason_size > 0);
	if (route->deliver == CONFIG_DELIVER_MAILDIR)
		return parse_path(route, to, reason, reason_size);
	if (is_unix && route->deliver == CONFIG_DELIVER_LMTP)
		return parse_path(route, span_skip(to, 5), reason, reason_size);
	if (is_unix)
		return refuse(reason, reason_size,
		    "a Unix socket is for deliver: lmtp; write \"host:port\"");
	return parse_host(route, reason, reason_size);
}

/* ---- lists ------------------------------------------------------------- */

static void
complete_listeners(struct config_reader *r)
{
	for (size_t i = 0; i < r->config->listener_count; i++) {
		struct config_listener *l = &r->config->listeners[i];
		bool is_smtp =
		    l->service == CONFIG_SUBMISSION || l->service == CONFIG_MX;
		if (!config_is_given(r, "listeners", i, "tls"))
			l->tls =
			    is_smtp ? CONFIG_TLS_STARTTLS : CONFIG_TLS_NONE;
	}
}

static void
complete_sources(struct config *c)
{
	for (size_t i = 0; i < c->source_count; i++)
		if (!c->sources[i].hostname)
			c->sources[i].hostname = mem_strdup(c->hostname);
}

bool
config_route_is_for_all(const struct config_route *route)
{
	for (size_t i = 0; i < route->domain_count; i++)
		if (span_eq(span_of(route->domains[i]), SPAN("*")))
			return true;
	return false;
}

/* The implicit last route, unless a written one takes all. */
static void
append_last_route(struct config *c)
{
	if (c->route_count &&
	    config_route_is_for_all(&c->routes[c->route_count - 1]))
		return;
	c->routes =
	    mem_resize(c->routes, c->route_count + 1, sizeof *c->routes);
	char **domains = mem_alloc(sizeof *domains);
	*domains = mem_strdup("*");
	c->routes[c->route_count++] = (struct config_route){
		.domains = domains,
		.domain_count = 1,
		.deliver = CONFIG_DELIVER_MX,
		.port = SMTP_PORT,
		.tls = CONFIG_ROUTE_TLS_OPPORTUNISTIC,
		.dane = true,
		.mta_sts = true,
	};
}

static void
complete_routes(struct config_reader *r)
{
	struct config *c = r->config;

	for (size_t i = 0; i < c->route_count; i++) {
		struct config_route *route = &c->routes[i];
		bool has_server = route->deliver == CONFIG_DELIVER_SMTP ||
				  route->deliver == CONFIG_DELIVER_LMTP;
		if (!config_is_given(r, "routes", i, "tls_verify"))
			route->tls_verify =
			    has_server &&
			    route->tls == CONFIG_ROUTE_TLS_REQUIRE;
	}
	append_last_route(c);
	c->routes_by_domain = map_new();
	for (size_t i = 0; i < c->route_count; i++)
		for (size_t j = 0; j < c->routes[i].domain_count; j++)
			map_put(c->routes_by_domain,
			    span_of(c->routes[i].domains[j]), &c->routes[i]);
}

static bool
is_in(const char *mailbox, const char *domain)
{
	return span_eq_nocase(
	    address_domain_of(span_of(mailbox)), span_of(domain));
}

/* Texts that may be empty, but else are a name and a mailbox; in the form that
 * addresses have. */
static bool
normalise_returns(struct config_reader *r)
{
	struct config *c = r->config;
	char reason[CONFIG_REASON_SIZE], *domain = NULL;
	struct config_scalar scalar = {
		.key = &hostname_key,
		.text = span_of(c->returns.domain),
	};

	if (c->returns.domain) {
		if (!config_value_parse(&scalar, &domain, reason)) {
			config_mistake(r,
			    config_node(
				r, "returns", CONFIG_NO_INDEX, "domain"),
			    "%s", reason);
			return false;
		}
		mem_free(c->returns.domain);
		c->returns.domain = domain;
	}
	if (!c->returns.complaints)
		return true;
	struct arena *arena = arena_new();
	struct address address;
	const char *why = NULL;
	int code = address_parse(
	    span_of(c->returns.complaints), 0, arena, &address, &why);
	if (code == 0) {
		mem_free(c->returns.complaints);
		c->returns.complaints = span_dup(address.text);
	} else {
		config_mistake(r,
		    config_node(r, "returns", CONFIG_NO_INDEX, "complaints"),
		    "this is not a mailbox: %s", why);
	}
	arena_free(&arena);
	return code == 0;
}

static void
complete_returns(struct config_reader *r)
{
	struct config *c = r->config;

	if (!normalise_returns(r))
		return;
	const char *domain = c->returns.domain;
	c->returns.route = (struct config_route){
		.deliver = CONFIG_DELIVER_RETURNS,
	};
	if (!domain && c->returns.complaints)
		config_mistake(r,
		    config_node(r, "returns", CONFIG_NO_INDEX, "complaints"),
		    "complaints come by returns.domain, which is not given");
	if (!domain)
		return;
	if (span_eq(span_of(domain), span_of(c->hostname)) ||
	    is_in(c->reports.postmaster, domain))
		config_mistake(r,
		    config_node(r, "returns", CONFIG_NO_INDEX, "domain"),
		    "`returns.domain` takes nothing but reports: give it a "
		    "name of its own, such as bounces.example.com, that is "
		    "neither the hostname nor the postmaster's domain");
	if (c->returns.complaints && !is_in(c->returns.complaints, domain))
		config_mistake(r,
		    config_node(r, "returns", CONFIG_NO_INDEX, "complaints"),
		    "`returns.complaints` must be a mailbox in "
		    "returns.domain, such as fbl@%s",
		    domain);
}

void
config_complete(struct config_reader *r)
{
	BUG_UNLESS(r->mistakes.count == 0);
	complete_hostname(r);
	if (!r->config->hostname)
		return;
	complete_listeners(r);
	complete_sources(r->config);
	complete_routes(r);
	if (!r->config->reports.postmaster)
		r->config->reports.postmaster =
		    mem_printf("postmaster@%s", r->config->hostname);
	complete_returns(r);
}
