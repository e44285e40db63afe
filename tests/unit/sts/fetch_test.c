/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"
#include "os/clock.h"
#include "sts/fetch.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
/* clang-format on */

static struct loop *loop;

struct caught {
	unsigned count;
	char problem[256];
};

static void
on_fetched(void *arg, struct span body, const char *problem)
{
	struct caught *c = arg;

	(void)body;
	c->count++;
	(void)snprintf(c->problem, sizeof c->problem, "%s",
	    problem != NULL ? problem : "");
}

/* A listener on a port of 127.0.0.1 that says nothing. */
static int
listen_silently(uint16_t *ret_port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof sin;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof sin), 0);
	assert_int_equal(listen(fd, 5), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	*ret_port = ntohs(sin.sin_port);
	return fd;
}

static struct caught
fetch(uint16_t port, const char *ip, bool allow_private)
{
	struct fetcher *fetcher;
	struct netaddr address;
	struct caught c = { 0 };
	int64_t end_us = clock_monotonic_us() + 5 * US_PER_S;

	assert_true(netaddr_parse_ip(span_of(ip), &address));
	const struct fetch_options options = { .host = "mta-sts.x.example",
		.port = port,
		.addresses = &address,
		.address_count = 1,
		.allow_private = allow_private,
		.timeout_us = 300 * US_PER_MS };
	assert_int_equal(fetcher_new(loop, &fetcher), 0);
	fetch_start(fetcher, &options, on_fetched, &c);
	while (c.count == 0 && clock_monotonic_us() < end_us)
		assert_int_equal(loop_turn(loop, US_PER_S), 0);
	assert_int_equal(c.count, 1);
	fetcher_free(&fetcher);
	return c;
}

/* Reliability E19: not even a connection is made. */
static void
private_addresses_are_never_spoken_to(void **state)
{
	static const char *const addresses[] = { "127.0.0.1",
		"::ffff:127.0.0.1", "::1", "10.0.0.1", "169.254.169.254",
		"0.0.0.0" };
	uint16_t port;
	int fd = listen_silently(&port);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	(void)state;

	for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
		struct caught c = fetch(port, addresses[i], false);
		assert_string_not_equal(c.problem, "");
	}
	assert_int_equal(poll(&p, 1, 0), 0);
	(void)close(fd);
}

static void
silence_ends_in_time(void **state)
{
	uint16_t port;
	int fd = listen_silently(&port);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int64_t start_us = clock_monotonic_us();
	struct caught c = fetch(port, "127.0.0.1", true);
	(void)state;

	assert_string_not_equal(c.problem, "");
	assert_true(clock_monotonic_us() - start_us < 3 * US_PER_S);
	assert_int_equal(poll(&p, 1, 0), 1); /* this one was spoken to */
	(void)close(fd);
}

static int
set_up(void **state)
{
	(void)state;
	return loop_new(&loop);
}

static int
tear_down(void **state)
{
	(void)state;
	loop_free(&loop);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(private_addresses_are_never_spoken_to),
		cmocka_unit_test(silence_ends_in_time),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
