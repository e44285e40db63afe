/* SPDX-License-Identifier: Apache-2.0 */

/* Counts and lockouts that reactors have in common. */

#include "../intake/door.h"
#include "base/time.h"
#include "receive/internal.h"

#include <pthread.h>

static struct config *config;
static struct receive_shared *shared;

static int
setup(void **state)
{
	(void)state;
	config = door_config(
	    DOOR_CONFIG "limits: {connections: 5, connections_per_client: 2, "
			"auth_failures_per_client: 3, auth_lockout: 10m}\n");
	shared = receive_shared_new();
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	receive_shared_free(&shared);
	assert_null(shared);
	receive_shared_free(&shared);
	config_unref(&config);
	return 0;
}

static struct netaddr
addr(const char *text)
{
	struct netaddr a;

	assert_true(netaddr_parse_ip(span_of(text), &a));
	return a;
}

static void
test_limits(void **state)
{
	static const struct {
		const char *client;
		bool leaves;
		enum admission want;
	} steps[] = {
		{ "192.0.2.1", false, ADMIT_OK },
		{ "192.0.2.1", false, ADMIT_OK },
		{ "192.0.2.1", false, ADMIT_CLIENT_FULL },
		{ "192.0.2.1", true, ADMIT_OK }, /* the refused one goes */
		{ "192.0.2.2", false, ADMIT_OK },
		/* one /64 is one client */
		{ "2001:db8::1", false, ADMIT_OK },
		{ "2001:db8::2", false, ADMIT_OK },
		{ "2001:db8:0:1::1", false, ADMIT_FULL },
		{ "2001:db8:0:1::1", true, ADMIT_OK },
		{ "2001:db8::1", true, ADMIT_OK },
		{ "2001:db8:0:1::1", false, ADMIT_OK },
		{ "2001:db8:0:1::2", false, ADMIT_FULL },
		{ "2001:db8:0:1::2", true, ADMIT_OK },
	};

	(void)state;
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		struct netaddr a = addr(steps[i].client);

		if (steps[i].leaves)
			shared_leave(shared, &a);
		else if (shared_admit(shared, &a, config) != steps[i].want)
			fail_msg("step %zu", i);
	}
}

/* What the process can bear counts beside the config. */
static void
test_cap(void **state)
{
	struct netaddr a = addr("192.0.2.1"), b = addr("192.0.2.2");

	(void)state;
	receive_shared_cap(shared, 1);
	assert_int_equal(ADMIT_OK, shared_admit(shared, &a, config));
	assert_int_equal(ADMIT_FULL, shared_admit(shared, &b, config));
	shared_leave(shared, &a);
	shared_leave(shared, &b);
	assert_int_equal(ADMIT_OK, shared_admit(shared, &b, config));
	shared_leave(shared, &b);
}

static void
test_lockout(void **state)
{
	struct netaddr a = addr("192.0.2.1"), b = addr("192.0.2.2");
	int64_t now = 1000 * US_PER_S;

	(void)state;
	assert_int_equal(1, shared_auth_failed(shared, &a, config, now));
	assert_int_equal(2, shared_auth_failed(shared, &a, config, now));
	assert_int_equal(0, shared_locked_until(shared, &a, now));
	assert_int_equal(3, shared_auth_failed(shared, &a, config, now));
	assert_int_equal(
	    now + 10 * US_PER_MIN, shared_locked_until(shared, &a, now));
	assert_int_equal(0, shared_locked_until(shared, &b, now));
	now += 10 * US_PER_MIN;
	assert_int_equal(0, shared_locked_until(shared, &a, now));
	/* the old failures still count until they are older than the lockout */
	assert_int_equal(4, shared_auth_failed(shared, &a, config, now));
	now += 10 * US_PER_MIN + 1;
	assert_int_equal(1, shared_auth_failed(shared, &a, config, now));
	shared_auth_succeeded(shared, &a);
	assert_int_equal(1, shared_auth_failed(shared, &a, config, now));
	shared_auth_succeeded(shared, &b); /* unknown: harmless */
}

/* A flood of networks is forgotten, those with connections are not. */
static void
test_flood(void **state)
{
	struct netaddr here = addr("198.51.100.1"), other = addr("10.0.0.0");

	(void)state;
	assert_int_equal(ADMIT_OK, shared_admit(shared, &here, config));
	for (int i = 0; i < 3; i++)
		(void)shared_auth_failed(shared, &here, config, US_PER_MIN);
	for (uint32_t i = 0; i < 110000; i++) {
		other.ip[1] = (uint8_t)(i >> 16);
		other.ip[2] = (uint8_t)(i >> 8);
		other.ip[3] = (uint8_t)i;
		assert_int_equal(
		    1, shared_auth_failed(shared, &other, config, US_PER_MIN));
	}
	assert_true(shared_locked_until(shared, &here, US_PER_MIN) > 0);
	shared_leave(shared, &here);
}

static void *
come_and_go(void *arg)
{
	struct netaddr a = addr(arg);

	for (int i = 0; i < 5000; i++) {
		if (shared_admit(shared, &a, config) == ADMIT_OK)
			atomic_fetch_add(
			    &shared_counters(shared)->connections, 1);
		(void)shared_locked_until(shared, &a, 1);
		if (i % 100 == 0)
			(void)shared_auth_failed(shared, &a, config, 1);
		shared_auth_succeeded(shared, &a);
		shared_leave(shared, &a);
	}
	return NULL;
}

static void
test_threads(void **state)
{
	static char *const clients[] = { "192.0.2.1", "192.0.2.1",
		"2001:db8::1" };
	pthread_t threads[3];
	struct receive_stats stats;

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(0,
		    pthread_create(&threads[i], NULL, come_and_go, clients[i]));
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	receive_stats(shared, &stats);
	assert_int_equal(15000, stats.connections);
	/* all have left: as many as the limit come in again */
	struct netaddr a = addr("192.0.2.1");
	assert_int_equal(ADMIT_OK, shared_admit(shared, &a, config));
	assert_int_equal(ADMIT_OK, shared_admit(shared, &a, config));
	assert_int_equal(ADMIT_CLIENT_FULL, shared_admit(shared, &a, config));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lockout, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flood, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
