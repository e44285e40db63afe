/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "directory/internal.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* ---- from the database ------------------------------------------------- */

/* Room for one more in an array that grows by doubling. */
static void *
grow(void *items, size_t count, size_t size)
{
	bool is_full = count == 0 || (count >= 16 && !(count & (count - 1)));

	if (!is_full)
		return items;
	return mem_resize(items, count < 16 ? 16 : 2 * count, size);
}

static struct span
column_span(sqlite3_stmt *row, int column)
{
	const void *bytes = sqlite3_column_blob(row, column);

	return span_from(bytes, (size_t)sqlite3_column_bytes(row, column));
}

static char *
column_text(struct arena *arena, sqlite3_stmt *row, int column)
{
	return arena_strdup(arena, column_span(row, column));
}

static bool
column_id(sqlite3_stmt *row, int column, uint32_t *ret_id)
{
	int64_t id = sqlite3_column_int64(row, column);

	if (id < 1 || id > UINT32_MAX)
		return false;
	*ret_id = (uint32_t)id;
	return true;
}

static bool
column_bytes(sqlite3_stmt *row, int column, void *ret_bytes, size_t size)
{
	struct span bytes = column_span(row, column);

	if (bytes.len != size)
		return false;
	memcpy(ret_bytes, bytes.ptr, size);
	return true;
}

static int
take_tenant(struct directory_snapshot *s, sqlite3_stmt *row)
{
	struct directory_tenant t = {
		.name = column_text(s->arena, row, 1),
		.enabled = sqlite3_column_int(row, 2) != 0,
		.created_us = sqlite3_column_int64(row, 3),
		.sender_policy =
		    (enum directory_sender_policy)sqlite3_column_int(row, 4),
	};

	if (!column_id(row, 0, &t.id))
		return ERR_CORRUPT;
	if (s->tenant_count == DIRECTORY_TENANTS_MAX)
		return ERR_LIMIT;
	s->tenants = grow(s->tenants, s->tenant_count, sizeof t);
	s->tenants[s->tenant_count++] = t;
	return 0;
}

static int
take_stream(struct directory_snapshot *s, sqlite3_stmt *row)
{
	size_t count = s->stream_count + s->removed_stream_count;
	struct directory_stream stream = {
		.name = column_text(s->arena, row, 2),
		.class = sqlite3_column_int(row, 3) ? DIRECTORY_BULK
						    : DIRECTORY_TRANSACTIONAL,
		.expire_us = sqlite3_column_int64(row, 4),
		.created_us = sqlite3_column_int64(row, 5),
		.pool = column_text(s->arena, row, 7),
	};

	if (!column_id(row, 0, &stream.id) ||
	    !column_id(row, 1, &stream.tenant))
		return ERR_CORRUPT;
	if (count == DIRECTORY_STREAMS_MAX)
		return ERR_LIMIT;
	s->streams = grow(s->streams, count, sizeof stream);
	s->streams[count] = stream;
	if (sqlite3_column_int(row, 6))
		s->removed_stream_count++;
	else
		s->stream_count++;
	return 0;
}

static int
take_credential(struct directory_snapshot *s, sqlite3_stmt *row)
{
	struct directory_credential c = {
		.username = column_text(s->arena, row, 3),
		.name = column_text(s->arena, row, 4),
		.scram_iterations = (uint32_t)sqlite3_column_int64(row, 7),
		.revoked = sqlite3_column_int(row, 10) != 0,
		.created_us = sqlite3_column_int64(row, 11),
	};

	if (!column_id(row, 0, &c.id) || !column_id(row, 1, &c.tenant) ||
	    !column_id(row, 2, &c.stream) ||
	    !column_bytes(row, 5, c.secret_sha256, sizeof c.secret_sha256) ||
	    !column_bytes(row, 6, c.scram_salt, sizeof c.scram_salt) ||
	    !column_bytes(
		row, 8, c.scram_stored_key, sizeof c.scram_stored_key) ||
	    !column_bytes(
		row, 9, c.scram_server_key, sizeof c.scram_server_key))
		return ERR_CORRUPT;
	if (s->credential_count == DIRECTORY_CREDENTIALS_MAX)
		return ERR_LIMIT;
	s->credentials = grow(s->credentials, s->credential_count, sizeof c);
	s->credentials[s->credential_count++] = c;
	return 0;
}

static int
take_domain(struct directory_snapshot *s, sqlite3_stmt *row)
{
	struct directory_domain domain = {
		.name = column_text(s->arena, row, 2),
		.return_path = column_text(s->arena, row, 3),
		.created_us = sqlite3_column_int64(row, 4),
		.checked_us = sqlite3_column_int64(row, 5),
		.verified_us = sqlite3_column_int64(row, 6),
		.problem = column_text(s->arena, row, 7),
	};

	if (!column_id(row, 0, &domain.id) ||
	    !column_id(row, 1, &domain.tenant))
		return ERR_CORRUPT;
	if (s->domain_count == DIRECTORY_DOMAINS_MAX)
		return ERR_LIMIT;
	s->domains = grow(s->domains, s->domain_count, sizeof domain);
	s->domains[s->domain_count++] = domain;
	return 0;
}

static int
compare_id(const void *id, const void *item)
{
	uint32_t a = *(const uint32_t *)id, b = *(const uint32_t *)item;

	return a < b ? -1 : a > b;
}

/* In an array of structures that begin with their id, in its order. */
static void *
find_by_id(const void *items, size_t count, size_t size, uint32_t id)
{
	_Static_assert(offsetof(struct directory_tenant, id) == 0 &&
			   offsetof(struct directory_stream, id) == 0 &&
			   offsetof(struct directory_credential, id) == 0 &&
			   offsetof(struct directory_domain, id) == 0,
	    "ids come first");
	return count ? bsearch(&id, items, count, size, compare_id) : NULL;
}

/* Rows come in order of credential, as the credentials stand. */
static int
take_network(struct directory_snapshot *s, sqlite3_stmt *row)
{
	struct directory_credential *c;
	struct netmask mask;
	uint32_t id;

	if (!column_id(row, 0, &id) ||
	    !netmask_parse(column_span(row, 1), &mask))
		return ERR_CORRUPT;
	c = find_by_id(s->credentials, s->credential_count, sizeof *c, id);
	if (!c)
		return ERR_CORRUPT;
	if (c->network_count++ == DIRECTORY_NETWORKS_MAX)
		return ERR_LIMIT;
	s->networks = grow(s->networks, s->network_count, sizeof mask);
	s->networks[s->network_count++] = mask;
	return 0;
}

/* Rows come in order of domain, as the domains stand. */
static int
take_key(struct directory_snapshot *s, sqlite3_stmt *row)
{
	struct directory_key key = {
		.selector = column_text(s->arena, row, 2),
		.algorithm = sqlite3_column_int(row, 3) ? SIGN_ED25519_SHA256
							: SIGN_RSA_SHA256,
		.state = (enum directory_key_state)sqlite3_column_int(row, 4),
		.bits = (unsigned)sqlite3_column_int(row, 5),
		.public_key = column_text(s->arena, row, 6),
		.changed_us = sqlite3_column_int64(row, 7),
		.seen_us = sqlite3_column_int64(row, 8),
	};

	if (!column_id(row, 0, &key.id) || !column_id(row, 1, &key.domain))
		return ERR_CORRUPT;
	struct directory_domain *domain =
	    find_by_id(s->domains, s->domain_count, sizeof *domain, key.domain);
	if (!domain)
		return ERR_CORRUPT;
	if (s->key_count == DIRECTORY_KEYS_MAX)
		return ERR_LIMIT;
	domain->key_count++;
	s->keys = grow(s->keys, s->key_count, sizeof key);
	s->keys[s->key_count++] = key;
	return 0;
}

static int
load(struct directory *d, enum directory_sql sql,
    int (*take)(struct directory_snapshot *s, sqlite3_stmt *row),
    struct directory_snapshot *s)
{
	sqlite3_stmt *statement = directory_sql(d, sql);
	int code;

	while ((code = directory_sql_step(statement)) == 1) {
		code = take(s, statement);
		if (code < 0)
			break;
	}
	(void)sqlite3_reset(statement); /* the step has told */
	return code;
}

/* ---- for quick use ----------------------------------------------------- */

#define STREAM_KEY_SIZE (DIRECTORY_NAME_MAX + sizeof(uint32_t))

/* The tenant's number, then the name. False for a name that none has. */
static bool
stream_key(uint32_t tenant, struct span name,
    char buffer[static STREAM_KEY_SIZE], struct span *ret_key)
{
	if (name.len > DIRECTORY_NAME_MAX)
		return false;
	memcpy(buffer, &tenant, sizeof tenant);
	if (name.len)
		memcpy(buffer + sizeof tenant, name.ptr, name.len);
	*ret_key = span_from(buffer, sizeof tenant + name.len);
	return true;
}

/* Nobody of a disabled tenant may log in. */
static int
index_credentials(struct directory_snapshot *s)
{
	size_t next_network = 0;

	for (size_t i = 0; i < s->credential_count; i++) {
		struct directory_credential *c = &s->credentials[i];
		const struct directory_tenant *tenant =
		    directory_tenant(s, c->tenant);
		if (!tenant || !directory_stream(s, c->stream))
			return ERR_CORRUPT;
		c->revoked = c->revoked || !tenant->enabled;
		if (c->network_count)
			c->networks = s->networks + next_network;
		next_network += c->network_count;
		if (!c->revoked)
			map_put(s->credentials_by_username,
			    span_of(c->username), c);
	}
	BUG_UNLESS(next_network == s->network_count);
	return 0;
}

static void
index_domains(struct directory_snapshot *s)
{
	size_t next_key = 0;

	for (size_t i = 0; i < s->domain_count; i++) {
		struct directory_domain *domain = &s->domains[i];

		if (domain->key_count)
			domain->keys = s->keys + next_key;
		next_key += domain->key_count;
		map_put(s->domains_by_name, span_of(domain->name), domain);
	}
	BUG_UNLESS(next_key == s->key_count);
}

static int
build_index(struct directory_snapshot *s)
{
	for (size_t i = 0; i < s->tenant_count; i++)
		map_put(s->tenants_by_name, span_of(s->tenants[i].name),
		    &s->tenants[i]);
	for (size_t i = 0; i < s->stream_count; i++) {
		struct directory_stream *stream = &s->streams[i];
		char buffer[STREAM_KEY_SIZE];
		struct span key;
		if (!stream_key(
			stream->tenant, span_of(stream->name), buffer, &key))
			return ERR_CORRUPT;
		map_put(s->streams_by_name, key, stream);
	}
	index_domains(s);
	return index_credentials(s);
}

static struct directory_snapshot *
snapshot_new(void)
{
	struct directory_snapshot *s = MEM_NEW(struct directory_snapshot);

	s->references = 1;
	s->arena = arena_new();
	s->tenants_by_name = map_new();
	s->streams_by_name = map_new();
	s->domains_by_name = map_new();
	s->credentials_by_username = map_new();
	return s;
}

static void
snapshot_free(struct directory_snapshot *s)
{
	map_free(&s->tenants_by_name, NULL);
	map_free(&s->streams_by_name, NULL);
	map_free(&s->domains_by_name, NULL);
	map_free(&s->credentials_by_username, NULL);
	mem_free(s->tenants);
	mem_free(s->streams);
	mem_free(s->credentials);
	mem_free(s->networks);
	mem_free(s->domains);
	mem_free(s->keys);
	arena_free(&s->arena);
	mem_free(s);
}

int
directory_snapshot_load(
    struct directory *d, struct directory_snapshot **ret_snapshot)
{
	struct directory_snapshot *s = snapshot_new();
	int64_t schema = 0;
	int code = directory_sql_number(d, SQL_SCHEMA_VERSION, &schema);

	if (code == 0 && schema > DIRECTORY_SCHEMA_VERSION)
		code = ERR_VERSION;
	if (code == 0)
		code = load(d, SQL_LOAD_TENANTS, take_tenant, s);
	if (code == 0)
		code = load(d, SQL_LOAD_STREAMS, take_stream, s);
	if (code == 0)
		code = load(d, SQL_LOAD_CREDENTIALS, take_credential, s);
	if (code == 0)
		code = load(d, SQL_LOAD_NETWORKS, take_network, s);
	if (code == 0)
		code = load(d, SQL_LOAD_DOMAINS, take_domain, s);
	if (code == 0)
		code = load(d, SQL_LOAD_KEYS, take_key, s);
	if (code == 0)
		code = build_index(s);
	if (code == 0)
		*ret_snapshot = s;
	else
		snapshot_free(s);
	return code;
}

/* ---- taking and giving back -------------------------------------------- */

struct directory_snapshot *
directory_snapshot(struct directory *directory)
{
	BUG_UNLESS(pthread_mutex_lock(&directory->swap_lock) == 0);
	struct directory_snapshot *s = directory->current;
	__atomic_fetch_add(&s->references, 1, __ATOMIC_RELAXED);
	BUG_UNLESS(pthread_mutex_unlock(&directory->swap_lock) == 0);
	return s;
}

void
directory_snapshot_unref(struct directory_snapshot **snapshot)
{
	struct directory_snapshot *s = *snapshot;

	*snapshot = NULL;
	if (!s)
		return;
	unsigned before =
	    __atomic_fetch_sub(&s->references, 1, __ATOMIC_ACQ_REL);
	BUG_UNLESS(before > 0);
	if (before == 1)
		snapshot_free(s);
}

void
directory_snapshot_swap(
    struct directory *d, struct directory_snapshot *snapshot)
{
	BUG_UNLESS(pthread_mutex_lock(&d->swap_lock) == 0);
	struct directory_snapshot *old = d->current;
	d->current = snapshot;
	atomic_store(&d->has_domains, snapshot->domain_count > 0);
	BUG_UNLESS(pthread_mutex_unlock(&d->swap_lock) == 0);
	directory_snapshot_unref(&old);
}

/* ---- asking ------------------------------------------------------------ */

const struct directory_credential *
directory_find_credential(
    const struct directory_snapshot *s, struct span username)
{
	return map_get(s->credentials_by_username, username);
}

const struct directory_tenant *
directory_find_tenant(const struct directory_snapshot *s, struct span name)
{
	return map_get(s->tenants_by_name, name);
}

const struct directory_tenant *
directory_tenant(const struct directory_snapshot *s, uint32_t id)
{
	return find_by_id(s->tenants, s->tenant_count, sizeof *s->tenants, id);
}

const struct directory_stream *
directory_find_stream(
    const struct directory_snapshot *s, uint32_t tenant, struct span name)
{
	char buffer[STREAM_KEY_SIZE];
	struct span key;

	if (!stream_key(tenant, name, buffer, &key))
		return NULL;
	return map_get(s->streams_by_name, key);
}

const struct directory_stream *
directory_stream(const struct directory_snapshot *s, uint32_t id)
{
	const struct directory_stream *found =
	    find_by_id(s->streams, s->stream_count, sizeof *s->streams, id);

	if (found || !s->removed_stream_count)
		return found;
	return find_by_id(s->streams + s->stream_count, s->removed_stream_count,
	    sizeof *s->streams, id);
}

const struct directory_domain *
directory_find_domain(const struct directory_snapshot *s, struct span name)
{
	return map_get(s->domains_by_name, name);
}

static const struct directory_domain *
find_above(const struct directory_snapshot *s, uint32_t tenant,
    struct span name, bool only_verified)
{
	while (s->domain_count > 0 && name.len > 0) {
		const struct directory_domain *found =
		    map_get(s->domains_by_name, name);

		if (found && found->tenant == tenant &&
		    (found->verified_us != 0 || !only_verified))
			return found;
		(void)span_cut(&name, '.');
	}
	return NULL;
}

const struct directory_domain *
directory_sender_domain(
    const struct directory_snapshot *s, uint32_t tenant, struct span name)
{
	return find_above(s, tenant, name, false);
}

const struct directory_domain *
directory_verified_domain(
    const struct directory_snapshot *s, uint32_t tenant, struct span name)
{
	return find_above(s, tenant, name, true);
}

const struct directory_domain *
directory_domains(const struct directory_snapshot *s, size_t *ret_count)
{
	*ret_count = s->domain_count;
	return s->domains;
}

bool
directory_has_domains(const struct directory *directory)
{
	return atomic_load_explicit(
	    &directory->has_domains, memory_order_relaxed);
}

const struct directory_tenant *
directory_tenants(const struct directory_snapshot *s, size_t *ret_count)
{
	*ret_count = s->tenant_count;
	return s->tenants;
}

const struct directory_stream *
directory_streams(const struct directory_snapshot *s, size_t *ret_count)
{
	*ret_count = s->stream_count;
	return s->streams;
}

const struct directory_credential *
directory_credentials(const struct directory_snapshot *s, size_t *ret_count)
{
	*ret_count = s->credential_count;
	return s->credentials;
}
