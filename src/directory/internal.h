/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One database handle, used under one lock; and one current snapshot, swapped
 * under another that is never held while anything is done. A change runs in an
 * immediate transaction: write, read the fresh snapshot from within, commit,
 * swap. So a change that cannot be read back is not made, and no other
 * process's write comes between the two.
 */

#include "base/arena.h"
#include "base/map.h"
#include "directory/directory.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

/* Bounds of the whole; more than that wants the cluster's database. */
#define DIRECTORY_TENANTS_MAX 100000
#define DIRECTORY_STREAMS_MAX 400000
#define DIRECTORY_CREDENTIALS_MAX 1000000
#define DIRECTORY_DOMAINS_MAX 100000
#define DIRECTORY_KEYS_MAX 1000000
#define DIRECTORY_NETWORKS_MAX 64 /* of one credential */
#define DIRECTORY_NAME_MAX 64
#define DIRECTORY_LABEL_MAX 128 /* a credential's name for people, octets */

/* Every statement there is, in sql.c; text is never put together. */
enum directory_sql {
	SQL_BEGIN, /* for reading */
	SQL_BEGIN_CHANGE,
	SQL_COMMIT,
	SQL_ROLLBACK,
	SQL_SCHEMA_VERSION,
	SQL_DATA_VERSION,
	SQL_LOAD_TENANTS,
	SQL_LOAD_STREAMS,
	SQL_LOAD_CREDENTIALS,
	SQL_LOAD_NETWORKS,
	SQL_LOAD_DOMAINS,
	SQL_LOAD_KEYS,
	SQL_FIND_TENANT,
	SQL_FIND_STREAM,
	SQL_FIND_CREDENTIAL,
	SQL_ADD_TENANT,
	SQL_DISABLE_TENANT,
	SQL_REVOKE_TENANT,
	SQL_SET_SENDER_POLICY,
	SQL_ADD_STREAM,
	SQL_REMOVE_STREAM,
	SQL_SET_STREAM_POOL,
	SQL_COUNT_STREAM_USERS,
	SQL_ADD_CREDENTIAL,
	SQL_ADD_NETWORK,
	SQL_REVOKE_CREDENTIAL,
	SQL_FIND_DOMAIN,
	SQL_ADD_DOMAIN,
	SQL_REMOVE_DOMAIN,
	SQL_NOTE_CHECK,
	SQL_ADD_KEY,
	SQL_REMOVE_KEYS,
	SQL_REMOVE_OLD_KEYS,
	SQL_COUNT_KEYS_IN_STATE,
	SQL_MOVE_KEYS,
	SQL_NOTE_KEY_SEEN,
	SQL_COUNT_TENANTS,
	SQL_COUNT_STREAMS,
	SQL_COUNT_CREDENTIALS,
	SQL_LOAD_SUPPRESSIONS,
	SQL_COUNT_SUPPRESSIONS,
	SQL_SUPPRESSION_CHANGE,
	SQL_NOTE_SUPPRESSION_CHANGE,
	SQL_ADD_SUPPRESSION,
	SQL_REMOVE_SUPPRESSION,
	SQL_EXPIRED_SUPPRESSIONS,
	SQL_LIST_SUPPRESSIONS,
	SQL_LIST_SUPPRESSIONS_OF_TENANT,
	SQL_LIST_SUPPRESSIONS_OF_ADDRESS,
	SQL_COUNT_DOMAINS,
	SQL_FORGET_RETURNS,
	SQL_ADD_RETURN,
	SQL_FIND_RETURN,
	SQL_COUNT
};

struct directory {
	char *path;
	pthread_mutex_t lock; /* of the handle and all below it */
	sqlite3 *db;
	sqlite3_stmt *statements[SQL_COUNT];
	int64_t data_version; /* of the snapshot; -1: must be read again */
	pthread_mutex_t swap_lock; /* of the pointer `current` */
	struct directory_snapshot *current;
	struct suppression_index *suppressions; /* has a lock of its own */
	bool suppressions_loaded;
	int64_t suppression_change; /* of what is loaded */
	atomic_bool has_domains; /* of current */
};

struct directory_snapshot {
	unsigned references;
	struct arena *arena; /* all texts */
	struct directory_tenant *tenants;
	size_t tenant_count;
	/* Those in use first, then removed ones, which queued mail may still
	 * name; each part in order of id. */
	struct directory_stream *streams;
	size_t stream_count, removed_stream_count;
	struct directory_credential *credentials;
	size_t credential_count;
	struct netmask *networks; /* of all credentials, theirs together */
	size_t network_count;
	struct directory_domain *domains;
	size_t domain_count;
	struct directory_key *keys; /* of all domains, theirs together */
	size_t key_count;
	struct map *tenants_by_name;
	struct map *streams_by_name; /* key: see snapshot.c */
	struct map *domains_by_name;
	struct map *credentials_by_username; /* only those that may log in */
};

/* ---- sql.c ------------------------------------------------------------- */

/* The prepared statement, reset and without values. */
sqlite3_stmt *directory_sql(struct directory *d, enum directory_sql sql);
MUST_CHECK int directory_sql_prepare(struct directory *d);
void directory_sql_done(struct directory *d);
/* 1: there is a row; 0: no more; negative: our code for SQLite's. */
MUST_CHECK int directory_sql_step(sqlite3_stmt *statement);
/* Steps a statement that gives no rows, resets it and forgets its values. */
MUST_CHECK int directory_sql_run(struct directory *d, enum directory_sql sql);
void directory_sql_rollback(struct directory *d);
/* The first column of the first row. */
MUST_CHECK int directory_sql_number(
    struct directory *d, enum directory_sql sql, int64_t *ret_number);
/* Our code for an SQLite result code. */
int directory_sql_code(int sqlite_code);
/* The sentence for a code that came from the database. */
int directory_sql_failure(
    struct directory *d, int code, struct failure *ret_failure);

/* ---- schema.c ---------------------------------------------------------- */

#define DIRECTORY_SCHEMA_VERSION 6

/* Makes the file with its owner, opens it, sets it up, migrates. */
MUST_CHECK int directory_schema_open(
    struct directory *d, struct failure *ret_failure);

/* ---- snapshot.c -------------------------------------------------------- */

/* Reads everything; within a transaction of the caller's. */
MUST_CHECK int directory_snapshot_load(
    struct directory *d, struct directory_snapshot **ret_snapshot);
/* Makes it the current one; takes the reference. */
void directory_snapshot_swap(
    struct directory *d, struct directory_snapshot *snapshot);

/* ---- directory.c ------------------------------------------------------- */

/* A change: begin; then write, with `code` the outcome so far; then end, which
 * commits and swaps when code is 0 and else rolls back. Between the two the
 * lock is held. */
MUST_CHECK int directory_change_begin(
    struct directory *d, struct failure *ret_failure);
MUST_CHECK int directory_change_end(
    struct directory *d, int code, struct failure *ret_failure);
MUST_CHECK int directory_check_name(
    const char *what, const char *name, struct failure *ret_failure);
/* ERR_LIMIT when the count that `sql` gives is at max. */
MUST_CHECK int directory_check_room(struct directory *d, enum directory_sql sql,
    int64_t max, struct failure *ret_failure);
/* The id of an enabled tenant. */
MUST_CHECK int directory_require_tenant(struct directory *d, const char *name,
    uint32_t *ret_id, struct failure *ret_failure);
MUST_CHECK int directory_require_stream(struct directory *d, uint32_t tenant,
    const char *name, uint32_t *ret_id, struct failure *ret_failure);
/* The row just inserted. */
uint32_t directory_last_id(const struct directory *d);

/* ---- suppression.c ----------------------------------------------------- */

/* With the lock held: reads them again if another process changed them. */
MUST_CHECK int directory_suppressions_refresh(struct directory *d);

/* ---- secret.c ---------------------------------------------------------- */

#define DIRECTORY_SCRAM_ITERATIONS 4096

struct directory_secret {
	unsigned char sha256[32];
	unsigned char salt[16];
	unsigned char stored_key[32], server_key[32];
};

/* `count` random characters of five bits each, and a NUL. */
void directory_secret_text(char *text, size_t count);
/* What is stored of a password. */
MUST_CHECK int directory_secret_derive(
    struct span password, struct directory_secret *ret_secret);

/* ---- keyfile.c --------------------------------------------------------- */

/* DATA_DIR/keys/<domain>[/<selector>.pem]. mem_free it. */
char *keyfile_path(
    const struct directory *d, const char *domain, const char *selector);
/* Makes it with its directories; the file is new. */
MUST_CHECK int keyfile_write(const struct directory *d, const char *domain,
    const char *selector, const struct sign_key *key,
    struct failure *ret_failure);
/* What cannot be removed is nobody's any more. */
void keyfile_remove(
    const struct directory *d, const char *domain, const char *selector);
void keyfile_remove_domain(const struct directory *d, const char *domain);
