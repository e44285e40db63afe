/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What single keys cannot show: values that contradict each other, and those
 * that would make an open relay. A value that is already known to be wrong is
 * not judged again. Looks at the file as well as at the fields, because a key
 * that was written is not the same as its default.
 */

#include "base/bug.h"
#include "base/map.h"
#include "config/internal.h"

#include <stdio.h>

/* ---- listeners --------------------------------------------------------- */

static yaml_node_t *
listener_node(struct config_reader *r, size_t i, const char *key)
{
	return config_node(r, "listeners", i, key);
}

static bool
has_plain_access(struct config_reader *r)
{
	yaml_node_t *networks =
	    config_node(r, "trusted_networks", CONFIG_NO_INDEX, NULL);

	return r->config->trusted_network_count > 0 ||
	       (config_is_given(r, "trusted_networks", CONFIG_NO_INDEX, NULL) &&
		   config_has_mistake(r, networks));
}

static void
check_listener_tls(
    struct config_reader *r, const struct config_listener *l, size_t i)
{
	bool tls_is_given = config_is_given(r, "listeners", i, "tls");
	bool is_smtp =
	    l->service == CONFIG_SUBMISSION || l->service == CONFIG_MX;
	bool has_tls = tls_is_given ? l->tls != CONFIG_TLS_NONE : is_smtp;
	bool has_files =
	    r->config->tls.certificate && r->config->tls.private_key;
	bool is_judged =
	    config_is_given(r, "tls", CONFIG_NO_INDEX, NULL) &&
	    config_has_mistake(r, config_node(r, "tls", CONFIG_NO_INDEX, NULL));

	if (has_tls && !has_files && !is_judged)
		config_mistake(r, listener_node(r, i, "tls"),
		    "this listener needs a certificate%s; set tls.certificate "
		    "and tls.private_key, or write tls: none",
		    tls_is_given ? "" : " (its default is tls: starttls)");
	if (l->service == CONFIG_HTTP && l->tls == CONFIG_TLS_STARTTLS)
		config_mistake(r, listener_node(r, i, "tls"),
		    "HTTP has no STARTTLS; write tls: implicit or tls: none");
	if (l->service == CONFIG_SUBMISSION && !has_tls && !has_plain_access(r))
		config_mistake(r, listener_node(r, i, "tls"),
		    "nobody could send mail here: passwords are only taken "
		    "under TLS, and trusted_networks is empty; write tls: "
		    "starttls or tls: implicit, or name trusted_networks");
}

static void
check_listener_proxy(
    struct config_reader *r, const struct config_listener *l, size_t i)
{
	if (l->proxy_protocol && !l->proxy_network_count)
		config_mistake(r, listener_node(r, i, "proxy_protocol"),
		    "anybody could forge the client's address; name the "
		    "proxies in proxy_networks");
	if (!l->proxy_protocol && l->proxy_network_count)
		config_mistake(r, listener_node(r, i, "proxy_networks"),
		    "proxy_networks has no effect without proxy_protocol: "
		    "true; add it or remove this");
}

static void
check_listener_address(
    struct config_reader *r, const struct config_listener *l, size_t i)
{
	bool is_local = l->service == CONFIG_LMTP || l->service == CONFIG_HTTP;

	if (l->address.family == NETADDR_UNIX && !is_local)
		config_mistake(r, listener_node(r, i, "address"),
		    "a Unix socket is for lmtp and http; write an address and "
		    "port");
	for (size_t j = 0; j < i; j++) {
		const struct config_listener *other = &r->config->listeners[j];
		if (!netaddr_eq_ip(&other->address, &l->address) ||
		    other->address.port != l->address.port)
			continue;
		const yaml_node_t *first = listener_node(r, j, "address");
		config_mistake(r, listener_node(r, i, "address"),
		    "the listener of line %zu has this address already; "
		    "change or remove one",
		    first ? first->start_mark.line + 1 : 0);
		return;
	}
}

static void
check_listeners(struct config_reader *r)
{
	for (size_t i = 0; i < r->config->listener_count; i++) {
		const struct config_listener *l = &r->config->listeners[i];
		if (config_has_mistake(r, listener_node(r, i, NULL)))
			continue;
		check_listener_tls(r, l, i);
		check_listener_proxy(r, l, i);
		check_listener_address(r, l, i);
	}
}

/* ---- networks ---------------------------------------------------------- */

/* A prefix this short holds strangers; unique local addresses are no such
 * (RFC 4193, fc00::/7). */
static bool
is_too_wide(const struct netmask *m)
{
	if (m->network.family == NETADDR_IP4)
		return m->bits < 8;
	if (m->network.family != NETADDR_IP6)
		return false;
	bool is_local = m->bits >= 7 && (m->network.ip[0] & 0xfe) == 0xfc;
	return m->bits < 16 && !is_local;
}

static void
check_networks(struct config_reader *r)
{
	struct config *c = r->config;

	for (size_t i = 0; i < c->trusted_network_count; i++)
		if (is_too_wide(&c->trusted_networks[i]))
			config_mistake(r,
			    config_node(r, "trusted_networks", i, NULL),
			    "this trusts much of the Internet and makes an "
			    "open relay; name only your own networks");
	for (size_t i = 0; i < c->listener_count; i++)
		for (size_t j = 0; j < c->listeners[i].proxy_network_count; j++)
			if (is_too_wide(&c->listeners[i].proxy_networks[j]))
				config_mistake(r,
				    listener_node(r, i, "proxy_networks"),
				    "this lets much of the Internet forge "
				    "client addresses; name only your own "
				    "proxies");
}

/* ---- routes ------------------------------------------------------------ */

/* What each way of delivering wants in `to`; NULL: nothing. */
static const char *const wants_to[] = {
	[CONFIG_DELIVER_MX] = NULL,
	[CONFIG_DELIVER_SMTP] = "`to: \"host:port\"`",
	[CONFIG_DELIVER_LMTP] = "`to: \"host:port\"` or `to: \"unix:/path\"`",
	[CONFIG_DELIVER_MAILDIR] = "`to: /directory`",
	[CONFIG_DELIVER_DISCARD] = NULL,
	[CONFIG_DELIVER_RETURNS] = NULL,
};

static yaml_node_t *
route_node(struct config_reader *r, size_t i, const char *key)
{
	return config_node(r, "routes", i, key);
}

static void
check_route_to(struct config_reader *r, struct config_route *route, size_t i)
{
	const char *wanted = wants_to[route->deliver];
	char reason[CONFIG_REASON_SIZE];

	if (!wanted && route->to)
		config_mistake(r, route_node(r, i, "to"),
		    "`to` has no meaning with this kind of delivery; remove "
		    "it, or use deliver: smtp, lmtp or maildir");
	else if (wanted && !route->to)
		config_mistake(r, route_node(r, i, NULL),
		    "this route does not say where to; add %s", wanted);
	else if (wanted && !config_parse_to(route, reason, sizeof reason))
		config_mistake(
		    r, route_node(r, i, "to"), "`routes.to`: %s", reason);
	if (route->deliver != CONFIG_DELIVER_MX &&
	    config_is_given(r, "routes", i, "port"))
		config_mistake(r, route_node(r, i, "port"),
		    "`port` is for deliver: mx; write the port in `to`");
}

static void
check_route_tls(
    struct config_reader *r, const struct config_route *route, size_t i)
{
	bool has_server = route->deliver == CONFIG_DELIVER_SMTP ||
			  route->deliver == CONFIG_DELIVER_LMTP;
	bool is_encrypted = has_server || route->deliver == CONFIG_DELIVER_MX;

	if (route->tls_verify && !has_server)
		config_mistake(r, route_node(r, i, "tls_verify"),
		    "only a server named in `to` can be verified; remove "
		    "tls_verify");
	if (route->tls_verify && route->tls == CONFIG_ROUTE_TLS_NONE)
		config_mistake(r, route_node(r, i, "tls_verify"),
		    "nothing can be verified with tls: none; write tls: "
		    "require");
	if (route->tls_ca && !has_server)
		config_mistake(r, route_node(r, i, "tls_ca"),
		    "only a server named in `to` can be verified; remove "
		    "tls_ca");
	if (route->tls == CONFIG_ROUTE_TLS_REQUIRE &&
	    (!is_encrypted || (has_server && route->to_path)))
		config_mistake(r, route_node(r, i, "tls"),
		    "this mail does not leave the machine, so there is no TLS; "
		    "remove the key");
}

static bool
is_loopback(const char *host)
{
	struct netaddr ip;

	if (span_eq(span_of(host), SPAN("localhost")))
		return true;
	if (!netaddr_parse_ip(span_of(host), &ip))
		return false;
	if (ip.family == NETADDR_IP4)
		return ip.ip[0] == 127;
	for (unsigned i = 0; i < 15; i++)
		if (ip.ip[i])
			return false;
	return ip.ip[15] == 1;
}

static void
check_route_login(
    struct config_reader *r, const struct config_route *route, size_t i)
{
	bool has_server = route->deliver == CONFIG_DELIVER_SMTP ||
			  route->deliver == CONFIG_DELIVER_LMTP;

	if (!route->username && !route->password_file)
		return;
	if (!has_server)
		config_mistake(r, route_node(r, i, "username"),
		    "there is no server to log in to; remove username and "
		    "password_file, or use deliver: smtp");
	else if (!route->password_file)
		config_mistake(r, route_node(r, i, "username"),
		    "`username` needs a password; add password_file");
	else if (!route->username)
		config_mistake(r, route_node(r, i, "password_file"),
		    "`password_file` needs a name to log in with; add "
		    "username");
	else if (route->tls == CONFIG_ROUTE_TLS_NONE && route->to_host &&
		 !is_loopback(route->to_host))
		config_mistake(r, route_node(r, i, "tls"),
		    "the password would cross the network in the clear; write "
		    "tls: require");
}

/* A pattern that an earlier route has already is never reached. */
static void
check_route_order(struct config_reader *r)
{
	struct map *seen = map_new();
	const struct config_route *catch_all = NULL;

	for (size_t i = 0; i < r->config->route_count; i++) {
		struct config_route *route = &r->config->routes[i];
		if (catch_all)
			config_mistake(r, route_node(r, i, NULL),
			    "this route is never reached: the one before has "
			    "\"*\"; let \"*\" be in the last route");
		if (!catch_all && config_route_is_for_all(route))
			catch_all = route;
		for (size_t j = 0; j < route->domain_count; j++) {
			struct span domain = span_of(route->domains[j]);
			void *other =
			    domain.len ? map_put(seen, domain, route) : NULL;
			if (other && !span_eq(domain, SPAN("*")))
				config_mistake(r, route_node(r, i, "domains"),
				    "`%s` is named before; remove one",
				    route->domains[j]);
		}
	}
	map_free(&seen, NULL);
}

static void
check_routes(struct config_reader *r)
{
	for (size_t i = 0; i < r->config->route_count; i++) {
		struct config_route *route = &r->config->routes[i];
		if (config_has_mistake(r, route_node(r, i, NULL)))
			continue;
		check_route_to(r, route, i);
		check_route_tls(r, route, i);
		check_route_login(r, route, i);
	}
	check_route_order(r);
}

/* ---- sources and pools ------------------------------------------------- */

static bool
is_address_of_a_host(const struct netaddr *a)
{
	static const struct netaddr any4 = { .family = NETADDR_IP4 };
	static const struct netaddr any6 = { .family = NETADDR_IP6 };

	return !netaddr_eq_ip(a, &any4) && !netaddr_eq_ip(a, &any6);
}

static void
check_name(struct config_reader *r, struct map *seen, const char *list,
    size_t i, const char *name)
{
	static char present;

	if (name && map_put(seen, span_of(name), &present))
		config_mistake(r, config_node(r, list, i, "name"),
		    "the name `%s` is taken in %s; choose another", name, list);
}

static void
check_sources(struct config_reader *r)
{
	const struct config *c = r->config;
	struct map *sources = map_new();
	struct map *pools = map_new();

	for (size_t i = 0; i < c->source_count; i++) {
		check_name(r, sources, "sources", i, c->sources[i].name);
		if (!is_address_of_a_host(&c->sources[i].address))
			config_mistake(r,
			    config_node(r, "sources", i, "address"),
			    "this stands for any address; write one of this "
			    "machine's");
	}
	for (size_t i = 0; i < c->pool_count; i++)
		check_name(r, pools, "pools", i, c->pools[i].name);
	map_free(&sources, NULL);
	map_free(&pools, NULL);
}

static void
check_pool_members(struct config_reader *r)
{
	const struct config *c = r->config;

	for (size_t i = 0; i < c->pool_count; i++) {
		struct map *seen = map_new();
		for (size_t j = 0; j < c->pools[i].member_count; j++) {
			const struct config_source *source =
			    c->pools[i].members[j].source;
			if (source &&
			    map_put(seen, span_of(source->name), seen))
				config_mistake(r,
				    config_node(r, "pools", i, "sources"),
				    "the source `%s` is in this pool twice; "
				    "give it one weight",
				    source->name);
		}
		map_free(&seen, NULL);
	}
}

static void
check_pool_names(struct config_reader *r)
{
	const struct config *c = r->config;

	for (size_t i = 0; i < c->route_count; i++) {
		const char *pool = c->routes[i].pool;
		if (pool && !config_pool_find(c, span_of(pool)))
			config_mistake(r, route_node(r, i, "pool"),
			    "there is no pool `%s` in pools; add it, or name "
			    "another",
			    pool);
	}
	if (c->delivery.pool && !config_pool_default(c))
		config_mistake(r,
		    config_node(r, "delivery", CONFIG_NO_INDEX, "pool"),
		    "there is no pool `%s` in pools; add it, or name another",
		    c->delivery.pool);
}

/* ---- numbers ----------------------------------------------------------- */

static yaml_node_t *
section_node(struct config_reader *r, const char *section, const char *key)
{
	return config_node(r, section, CONFIG_NO_INDEX, key);
}

/* RFC 5322 §2.1.1: what every system must take. */
enum { LINE_LENGTH_LEAST = 998, MEMORY_LEAST = 2 << 20 };

static void
check_numbers(struct config_reader *r)
{
	const struct config *c = r->config;
	bool is_retry_known =
	    !config_has_mistake(r, section_node(r, "retry", NULL)) ||
	    !config_is_given(r, "retry", CONFIG_NO_INDEX, NULL);

	if (is_retry_known && c->retry.schedule_count &&
	    c->retry.expire_us < c->retry.schedule_us[0])
		config_mistake(r, section_node(r, "retry", "expire"),
		    "mail would expire before its first retry; let "
		    "retry.expire be at least the first of retry.schedule");
	if (c->limits.line_length && c->limits.line_length < LINE_LENGTH_LEAST)
		config_mistake(r, section_node(r, "limits", "line_length"),
		    "lines of 998 octets must be taken (RFC 5322 §2.1.1); "
		    "write 0 or at least 998");
	if (c->limits.memory && c->limits.memory < MEMORY_LEAST)
		config_mistake(r, section_node(r, "limits", "memory"),
		    "one message may need 2M while it arrives; write 0 or "
		    "much more than that");
	if (!c->tls.certificate != !c->tls.private_key &&
	    !config_has_mistake(r, section_node(r, "tls", NULL)))
		config_mistake(r, section_node(r, "tls", NULL),
		    "tls.certificate and tls.private_key belong together; "
		    "give both or none");
}

void
config_check(struct config_reader *r)
{
	BUG_UNLESS(r->document != NULL);
	if (!yaml_document_get_root_node(r->document))
		return;
	check_numbers(r);
	check_listeners(r);
	check_networks(r);
	check_routes(r);
	check_sources(r);
	check_pool_members(r);
	check_pool_names(r);
}
