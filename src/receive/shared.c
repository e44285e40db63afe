/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/map.h"
#include "base/mem.h"
#include "receive/internal.h"

#include <pthread.h>

/* Networks remembered at a time. Past it, those without connections are
 * forgotten: an attacker with so many networks is not held by counting. */
#define CLIENTS_MAX 100000

/* One client network: the IPv4 address or the IPv6 /64. */
struct client {
	uint32_t connections;
	uint32_t failures; /* of AUTH, since the last success */
	int64_t last_failure_us; /* monotonic */
	int64_t locked_until_us;
};

struct receive_shared {
	struct receive_counters counters;
	pthread_mutex_t lock; /* guards what follows */
	struct map *clients;
	uint64_t connections;
	uint64_t cap; /* of connections, beside the config's */
};

struct receive_shared *
receive_shared_new(void)
{
	struct receive_shared *shared = MEM_NEW(struct receive_shared);

	pthread_mutex_init(&shared->lock, NULL);
	shared->clients = map_new();
	shared->cap = UINT64_MAX;
	return shared;
}

void
receive_shared_cap(struct receive_shared *shared, uint64_t sessions)
{
	shared->cap = sessions;
}

void
receive_shared_free(struct receive_shared **shared)
{
	if (*shared == NULL)
		return;
	map_free(&(*shared)->clients, mem_free);
	pthread_mutex_destroy(&(*shared)->lock);
	mem_free(*shared);
	*shared = NULL;
}

struct receive_counters *
shared_counters(struct receive_shared *shared)
{
	return &shared->counters;
}

static struct span
key_of(struct netaddr *network)
{
	return span_from(network->ip, network->family == NETADDR_IP4 ? 4 : 16);
}

static void
forget_idle_clients(struct receive_shared *shared)
{
	struct map_cursor cursor = { 0 };

	while (map_next(shared->clients, &cursor)) {
		struct client *c = cursor.value;

		if (c->connections == 0) {
			(void)map_remove(shared->clients, cursor.key);
			mem_free(c);
		}
	}
}

/* With the lock held. `make` false: NULL when unknown. */
static struct client *
find_client(
    struct receive_shared *shared, const struct netaddr *addr, bool make)
{
	struct netaddr network = netaddr_client_network(addr);
	struct client *c = map_get(shared->clients, key_of(&network));

	if (c != NULL || !make)
		return c;
	if (map_count(shared->clients) >= CLIENTS_MAX)
		forget_idle_clients(shared);
	c = MEM_NEW(struct client);
	(void)map_put(shared->clients, key_of(&network), c);
	return c;
}

static void
forget_if_clean(
    struct receive_shared *shared, const struct netaddr *addr, struct client *c)
{
	struct netaddr network = netaddr_client_network(addr);

	if (c->connections > 0 || c->failures > 0)
		return;
	(void)map_remove(shared->clients, key_of(&network));
	mem_free(c);
}

enum admission
shared_admit(struct receive_shared *shared, const struct netaddr *addr,
    const struct config *config)
{
	enum admission result = ADMIT_OK;

	pthread_mutex_lock(&shared->lock);
	struct client *c = find_client(shared, addr, true);
	if (shared->connections >= config->limits.connections ||
	    shared->connections >= shared->cap)
		result = ADMIT_FULL;
	else if (c->connections >= config->limits.connections_per_client)
		result = ADMIT_CLIENT_FULL;
	/* A refused one is counted too while it is told so. */
	shared->connections++;
	c->connections++;
	pthread_mutex_unlock(&shared->lock);
	return result;
}

void
shared_leave(struct receive_shared *shared, const struct netaddr *addr)
{
	pthread_mutex_lock(&shared->lock);
	struct client *c = find_client(shared, addr, false);
	BUG_UNLESS(c != NULL && c->connections > 0 && shared->connections > 0);
	c->connections--;
	shared->connections--;
	forget_if_clean(shared, addr, c);
	pthread_mutex_unlock(&shared->lock);
}

int64_t
shared_locked_until(
    struct receive_shared *shared, const struct netaddr *addr, int64_t now_us)
{
	int64_t until = 0;

	pthread_mutex_lock(&shared->lock);
	struct client *c = find_client(shared, addr, false);
	if (c != NULL && c->locked_until_us > now_us)
		until = c->locked_until_us;
	pthread_mutex_unlock(&shared->lock);
	return until;
}

uint32_t
shared_auth_failed(struct receive_shared *shared, const struct netaddr *addr,
    const struct config *config, int64_t now_us)
{
	uint32_t failures;

	pthread_mutex_lock(&shared->lock);
	struct client *c = find_client(shared, addr, true);
	if (now_us - c->last_failure_us > config->limits.auth_lockout_us)
		c->failures = 0;
	c->last_failure_us = now_us;
	failures = ++c->failures;
	if (failures >= config->limits.auth_failures_per_client)
		c->locked_until_us = now_us + config->limits.auth_lockout_us;
	pthread_mutex_unlock(&shared->lock);
	return failures;
}

void
shared_auth_succeeded(struct receive_shared *shared, const struct netaddr *addr)
{
	pthread_mutex_lock(&shared->lock);
	struct client *c = find_client(shared, addr, false);
	if (c != NULL) {
		c->failures = 0;
		c->locked_until_us = 0;
	}
	pthread_mutex_unlock(&shared->lock);
}

void
receive_stats(struct receive_shared *shared, struct receive_stats *ret_stats)
{
	struct receive_counters *c = &shared->counters;

	*ret_stats = (struct receive_stats){
		.connections = atomic_load(&c->connections),
		.sessions_open = atomic_load(&c->sessions_open),
		.sessions_tls = atomic_load(&c->sessions_tls),
		.refused = atomic_load(&c->refused),
		.auth_failures = atomic_load(&c->auth_failures),
		.auth_successes = atomic_load(&c->auth_successes),
		.messages_accepted = atomic_load(&c->messages_accepted),
		.messages_refused = atomic_load(&c->messages_refused),
		.recipients_refused = atomic_load(&c->recipients_refused),
		.timeouts = atomic_load(&c->timeouts),
	};
}
