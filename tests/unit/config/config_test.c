/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/time.h"
#include "config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void
no_mistake(void *arg, const char *file, unsigned line, unsigned column,
    const char *text)
{
	(void)arg;
	fail_msg("%s:%u:%u: %s", file, line, column, text);
}

static struct config *
parse(const char *text)
{
	struct config *config = NULL;

	assert_int_equal(config_parse(span_of(text), "test.yaml", false,
			     no_mistake, NULL, &config),
	    0);
	assert_non_null(config);
	return config;
}

#define MINIMAL                                                                \
	"hostname: relay.example.com\n"                                        \
	"listeners:\n"                                                         \
	"  - {address: \"127.0.0.1:8025\", service: http}\n"

static void
fills_in_defaults(void **state)
{
	struct config *c = parse(MINIMAL);

	(void)state;
	assert_string_equal(c->path, "test.yaml");
	assert_string_equal(c->data_dir, "/var/lib/posthouse");
	assert_string_equal(c->user, "posthouse");
	assert_null(c->tls.certificate);
	assert_int_equal(c->listeners[0].tls, CONFIG_TLS_NONE);
	assert_int_equal(c->retry.schedule_count, 7);
	assert_int_equal(c->retry.schedule_us[0], US_PER_MIN);
	assert_int_equal(c->retry.schedule_us[6], 4 * US_PER_HOUR);
	assert_int_equal(c->retry.expire_us, 4 * US_PER_DAY);
	assert_int_equal(c->retry.jitter_percent, 5);
	assert_int_equal(c->limits.message_size, 50 << 20);
	assert_int_equal(c->limits.header_size, 512 << 10);
	assert_int_equal(c->limits.auth_lockout_us, 10 * US_PER_MIN);
	assert_int_equal(c->limits.shutdown_us, 10 * US_PER_S);
	assert_int_equal(c->limits.shared_bodies, 16 << 20);
	assert_int_equal(c->limits.upkeep_rate, 64 << 20);
	assert_int_equal(c->limits.scrub_us, 7 * US_PER_DAY);
	assert_int_equal(c->limits.events_us, 90 * US_PER_DAY);
	assert_int_equal(c->limits.events_size, INT64_C(20) << 30);
	assert_false(c->delivery.allow_private);
	assert_int_equal(c->delivery.final_reply_us, 10 * US_PER_MIN);
	assert_true(c->delivery.chunking);
	assert_true(c->resolver.dnssec);
	assert_string_equal(
	    c->reports.postmaster, "postmaster@relay.example.com");
	assert_int_equal(c->reports.return_size, 100 << 10);
	assert_int_equal(c->route_count, 1);
	assert_int_equal(c->routes[0].deliver, CONFIG_DELIVER_MX);
	assert_int_equal(c->routes[0].port, 25);
	config_unref(&c);
	assert_null(c);
}

static const char full[] =
    "hostname: Relay.Example.COM\n"
    "data_dir: /srv/mail\n"
    "tls: {certificate: /c.pem, private_key: /k.pem}\n"
    "pools:\n" /* before the sources that it names */
    "  - {name: shared, sources: [{name: out1, weight: 3}, {name: out2}]}\n"
    "sources:\n"
    "  - {name: out1, address: 192.0.2.10, hostname: out1.example.com}\n"
    "  - {name: out2, address: \"2001:db8::2\"}\n"
    "listeners:\n"
    "  - {address: \"0.0.0.0:587\", service: submission}\n"
    "  - {address: \"[::]:465\", service: submission, tls: implicit}\n"
    "  - address: \"192.0.2.1:25\"\n"
    "    service: mx\n"
    "    tls: starttls\n"
    "    proxy_protocol: true\n"
    "    proxy_networks: [10.0.0.0/8]\n"
    "    newlines: normalise\n"
    "    trace_user: true\n"
    "  - {address: \"unix:/run/posthouse/lmtp\", service: lmtp}\n"
    "trusted_networks: [127.0.0.0/8, \"::1\"]\n"
    "routes:\n"
    "  - {domains: [example.com, B\xc3\xbc"
    "cher.example], deliver: lmtp,\n"
    "     to: \"unix:/run/dovecot/lmtp\"}\n"
    "  - {domains: [lists.example.com], deliver: maildir, to: /var/lists}\n"
    "  - {domains: [\"*.corp.example\"], deliver: smtp, tls: require,\n"
    "     to: \"smarthost.corp.example:587\", username: u,\n"
    "     password_file: /p}\n"
    "  - {domains: [v6.example], deliver: smtp, to: \"[2001:db8::1]:26\"}\n"
    "  - {domains: [short.example], deliver: lmtp, to: host.example}\n"
    "  - {domains: [sink.example], deliver: discard}\n"
    "resolver: {servers: [\"127.0.0.1:5302\", \"::1\"], dnssec: false}\n"
    "retry: {schedule: [500ms, 2s], expire: 1h30m}\n"
    "limits: {memory: 1G, line_length: 998}\n"
    "delivery: {private_networks: allow, threads: 2}\n"
    "log: {level: debug, format: json}\n";

static void
reads_listeners(void **state)
{
	struct config *c = parse(full);
	const struct config_listener *mx = &c->listeners[2];

	(void)state;
	assert_int_equal(c->listener_count, 4);
	assert_int_equal(c->listeners[0].tls, CONFIG_TLS_STARTTLS);
	assert_int_equal(c->listeners[1].tls, CONFIG_TLS_IMPLICIT);
	assert_int_equal(c->listeners[1].address.family, NETADDR_IP6);
	assert_int_equal(mx->service, CONFIG_MX);
	assert_int_equal(mx->address.port, 25);
	assert_true(mx->proxy_protocol && mx->trace_user);
	assert_int_equal(mx->proxy_network_count, 1);
	assert_int_equal(mx->newlines, CONFIG_NEWLINES_NORMALISE);
	assert_int_equal(c->listeners[3].address.family, NETADDR_UNIX);
	config_unref(&c);
}

static void
reads_routes(void **state)
{
	struct config *c = parse(full);
	const struct config_route *r = c->routes;

	(void)state;
	assert_int_equal(c->route_count, 7);
	assert_string_equal(r[0].domains[1], "xn--bcher-kva.example");
	assert_string_equal(r[0].to_path, "/run/dovecot/lmtp");
	assert_string_equal(r[1].to_path, "/var/lists");
	assert_string_equal(r[2].to_host, "smarthost.corp.example");
	assert_int_equal(r[2].to_port, 587);
	assert_true(r[2].tls_verify);
	assert_string_equal(r[3].to_host, "2001:db8::1");
	assert_int_equal(r[3].to_port, 26);
	assert_false(r[3].tls_verify);
	assert_string_equal(r[4].to_host, "host.example");
	assert_int_equal(r[4].to_port, 24);
	assert_int_equal(r[6].deliver, CONFIG_DELIVER_MX);
	config_unref(&c);
}

static void
reads_the_rest(void **state)
{
	struct config *c = parse(full);

	(void)state;
	assert_string_equal(c->hostname, "relay.example.com");
	assert_int_equal(c->resolver.servers[0].port, 5302);
	assert_int_equal(c->resolver.servers[1].port, 53);
	assert_false(c->resolver.dnssec);
	assert_string_equal(c->sources[1].hostname, "relay.example.com");
	assert_ptr_equal(c->pools[0].members[0].source, &c->sources[0]);
	assert_int_equal(c->pools[0].members[0].weight, 3);
	assert_int_equal(c->pools[0].members[1].weight, 1);
	assert_int_equal(c->retry.schedule_us[0], US_PER_S / 2);
	assert_int_equal(c->retry.expire_us, 90 * US_PER_MIN);
	assert_int_equal(c->limits.memory, 1 << 30);
	assert_true(c->delivery.allow_private);
	assert_int_equal(c->delivery.threads, 2);
	config_unref(&c);
}

static void
finds_the_route(void **state)
{
	static const struct {
		const char *domain;
		unsigned route;
	} rows[] = {
		{ "example.com", 0 },
		{ "sub.example.com", 6 },
		{ "lists.example.com", 1 },
		{ "corp.example", 6 },
		{ "a.corp.example", 2 },
		{ "b.a.corp.example", 2 },
		{ "[192.0.2.1]", 6 },
		{ "", 6 },
		{ ".", 6 },
		{ "..corp.example", 2 },
		{ "sink.example", 5 },
	};
	struct config *c = parse(full);

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		assert_ptr_equal(config_route_for(c, span_of(rows[i].domain)),
		    &c->routes[rows[i].route]);
	assert_true(config_route_is_local(&c->routes[0]));
	assert_true(config_route_is_local(&c->routes[1]));
	assert_false(config_route_is_local(&c->routes[2]));
	assert_true(config_route_is_local(&c->routes[5]));
	assert_false(config_route_is_local(&c->routes[6]));
	config_unref(&c);
}

/* First match wins, even over one that names the domain more exactly. */
static void
takes_the_first_match(void **state)
{
	struct config *c = parse(MINIMAL
	    "routes:\n"
	    "  - {domains: [\"*.example.org\"], deliver: discard}\n"
	    "  - {domains: [\"*.b.example.org\"], deliver: mx}\n"
	    "  - {domains: [a.example.org, example.org], deliver: mx}\n"
	    "  - {domains: [\"*\"], deliver: smtp, to: \"127.0.0.1:26\"}\n");

	(void)state;
	assert_int_equal(c->route_count, 4);
	assert_ptr_equal(
	    config_route_for(c, SPAN("a.example.org")), &c->routes[0]);
	assert_ptr_equal(
	    config_route_for(c, SPAN("x.b.example.org")), &c->routes[0]);
	assert_ptr_equal(
	    config_route_for(c, SPAN("example.org")), &c->routes[2]);
	assert_ptr_equal(config_route_for(c, SPAN("net")), &c->routes[3]);
	config_unref(&c);
}

static void
knows_trusted_clients(void **state)
{
	struct config *c = parse(full);
	struct netaddr a;

	(void)state;
	assert_true(netaddr_parse_ip(SPAN("127.9.9.9"), &a));
	assert_true(config_is_trusted(c, &a));
	assert_true(netaddr_parse_ip(SPAN("::1"), &a));
	assert_true(config_is_trusted(c, &a));
	assert_true(netaddr_parse_ip(SPAN("192.0.2.1"), &a));
	assert_false(config_is_trusted(c, &a));
	config_unref(&c);
}

static void
is_counted(void **state)
{
	struct config *c = parse(MINIMAL);
	struct config *other = config_ref(c);

	(void)state;
	config_unref(&c);
	assert_string_equal(other->hostname, "relay.example.com");
	config_unref(&other);
	config_unref(&other);
}

static void
follows_simple_aliases(void **state)
{
	struct config *c = parse("hostname: &name relay.example.com\n"
				 "listeners:\n"
				 "  - &one {address: \"127.0.0.1:1\", "
				 "service: http}\n"
				 "sources: [{name: a, address: 192.0.2.1, "
				 "hostname: *name}]\n");

	(void)state;
	assert_string_equal(c->sources[0].hostname, "relay.example.com");
	config_unref(&c);
}

static void
uses_this_hosts_name(void **state)
{
	struct config *c = NULL;
	int code = config_parse(
	    SPAN("listeners: [{address: \"127.0.0.1:1\", service: http}]"),
	    "test.yaml", false, NULL, NULL, &c);

	(void)state;
	/* A machine may be called what no domain may be called. */
	assert_true(code == 0 || code == ERR_SYNTAX);
	if (code == 0)
		assert_true(strlen(c->hostname) > 0);
	config_unref(&c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fills_in_defaults),
		cmocka_unit_test(reads_listeners),
		cmocka_unit_test(reads_routes),
		cmocka_unit_test(reads_the_rest),
		cmocka_unit_test(finds_the_route),
		cmocka_unit_test(takes_the_first_match),
		cmocka_unit_test(knows_trusted_clients),
		cmocka_unit_test(is_counted),
		cmocka_unit_test(follows_simple_aliases),
		cmocka_unit_test(uses_this_hosts_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
