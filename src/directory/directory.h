/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Tenants, streams, credentials and sender domains: what changes at run time.
 * Kept in SQLite (DATA_DIR/directory.db); read from an immutable snapshot in
 * memory, so that no session ever waits for a database. A change is written,
 * then a fresh snapshot replaces the old one; another process's change is seen
 * by directory_refresh (cheap when nothing changed).
 *
 * Secrets are generated here, shown once, and stored as SHA-256 (they have 160
 * random bits, so a slow hash would only slow us) and as SCRAM-SHA-256 keys
 * (RFC 5802 §3: StoredKey, ServerKey). Private keys of DKIM are files
 * (DATA_DIR/keys/<domain>/<selector>.pem, mode 0600): the database only knows
 * their public halves, so that a copy of it gives nothing away.
 *
 * Threads: snapshots may be taken and used by any thread. Changes may block on
 * the disk: not for reactors.
 */

#include "base/buf.h"
#include "base/error.h"
#include "base/netaddr.h"
#include "sign/key.h"

#include <stdbool.h>
#include <stdint.h>

struct directory;
struct directory_snapshot;

enum directory_class { DIRECTORY_TRANSACTIONAL, DIRECTORY_BULK };

#define DIRECTORY_DEFAULT_TENANT 1 /* its id; it always exists */

/* What happens to mail whose envelope's or header's sender is not in one of the
 * tenant's verified domains. */
enum directory_sender_policy {
	DIRECTORY_SENDER_WARN, /* it is taken, and its event says so */
	DIRECTORY_SENDER_REWRITE, /* as ENFORCE, but the envelope's sender
				     becomes the header's */
	DIRECTORY_SENDER_ENFORCE, /* it is refused */
};

struct directory_tenant {
	uint32_t id;
	char *name;
	bool enabled;
	enum directory_sender_policy sender_policy;
	int64_t created_us;
};

struct directory_stream {
	uint32_t id;
	uint32_t tenant;
	char *name; /* "transactional" and "bulk" exist in each tenant */
	char *pool; /* of sources, by name; "": the config's default */
	enum directory_class class;
	int64_t expire_us; /* 0: the config's */
	int64_t created_us;
};

struct directory_credential {
	uint32_t id;
	uint32_t tenant, stream;
	char *username;
	char *name; /* for people; may be "" */
	unsigned char secret_sha256[32];
	unsigned char scram_salt[16];
	uint32_t scram_iterations;
	unsigned char scram_stored_key[32], scram_server_key[32];
	struct netmask *networks; /* none: from anywhere */
	size_t network_count;
	bool revoked;
	int64_t created_us;
};

/* The life of a key (RFC 6376 §3.1: rotation by selectors). */
enum directory_key_state {
	DIRECTORY_KEY_NEXT, /* to be published, not used yet */
	DIRECTORY_KEY_ACTIVE, /* signs */
	DIRECTORY_KEY_OLD, /* signs no more; mail on its way still needs it */
};

struct directory_key {
	uint32_t id;
	uint32_t domain;
	char *selector;
	enum sign_algorithm algorithm;
	enum directory_key_state state;
	unsigned bits;
	char *public_key; /* base64, for the record's p= */
	int64_t changed_us; /* when it came to its state */
	int64_t seen_us; /* when its record was last seen; 0: never */
};

/* Lower-case A-labels. A name belongs to one tenant of the relay. */
struct directory_domain {
	uint32_t id;
	uint32_t tenant;
	char *name;
	char *return_path; /* host name for envelope senders */
	int64_t created_us;
	int64_t checked_us; /* last look at the DNS; 0: never */
	int64_t verified_us; /* when one of its keys was first seen; 0: never */
	char *problem; /* of the last look; "": none */
	const struct directory_key *keys; /* in the order they were made */
	size_t key_count;
};

/* Opens or makes the database, applies schema migrations, makes the default
 * tenant. ERR_VERSION when a newer program wrote it. */
MUST_CHECK int directory_open(const char *path,
    struct directory **ret_directory, struct failure *ret_failure);
void directory_close(struct directory **directory);
/* Takes in what other processes changed. 1: there was something. */
MUST_CHECK int directory_refresh(struct directory *directory);

/* ---- reading ----------------------------------------------------------- */

/* The present state; unref when done. Cheap: a counter. */
struct directory_snapshot *directory_snapshot(struct directory *directory);
void directory_snapshot_unref(struct directory_snapshot **snapshot);

/* NULL when there is none. Valid as long as the snapshot. A credential that is
 * revoked or whose tenant is disabled is not found, only listed; a disabled
 * tenant is found, for its mail may still be queued; a removed stream is found
 * by its id only, which queued mail may still name. */
const struct directory_credential *directory_find_credential(
    const struct directory_snapshot *s, struct span username);
const struct directory_tenant *directory_find_tenant(
    const struct directory_snapshot *s, struct span name);
const struct directory_tenant *directory_tenant(
    const struct directory_snapshot *s, uint32_t id);
const struct directory_stream *directory_find_stream(
    const struct directory_snapshot *s, uint32_t tenant, struct span name);
const struct directory_stream *directory_stream(
    const struct directory_snapshot *s, uint32_t id);

const struct directory_domain *directory_find_domain(
    const struct directory_snapshot *s, struct span name);
/* The tenant's sender domain that a name is or is below; NULL: none. */
const struct directory_domain *directory_sender_domain(
    const struct directory_snapshot *s, uint32_t tenant, struct span name);

/* The same of those that are verified. */
const struct directory_domain *directory_verified_domain(
    const struct directory_snapshot *s, uint32_t tenant, struct span name);

/* Compares a secret in constant time. `credential` may be NULL (unknown user):
 * does the same work and says false. */
bool directory_check_secret(
    const struct directory_credential *credential, struct span secret);
bool directory_credential_allows(const struct directory_credential *credential,
    const struct netaddr *client);

/* All of a kind, in order of id: *count and the array. */
const struct directory_tenant *directory_tenants(
    const struct directory_snapshot *s, size_t *ret_count);
const struct directory_stream *directory_streams(
    const struct directory_snapshot *s, size_t *ret_count);
const struct directory_credential *directory_credentials(
    const struct directory_snapshot *s, size_t *ret_count);

const struct directory_domain *directory_domains(
    const struct directory_snapshot *s, size_t *ret_count);
/* Whether there is any: cheaper than a snapshot. */
bool directory_has_domains(const struct directory *directory);

/* Reads a private key; blocks on the disk. */
MUST_CHECK int directory_read_key(const struct directory *d, const char *domain,
    const char *selector, struct sign_key **ret_key,
    struct failure *ret_failure);

/* ---- changing: each is durable when it returns ------------------------- */

/* Names: 1..64 of [a-z0-9-._], beginning with a letter or digit. ERR_EXISTS,
 * ERR_NOT_FOUND, ERR_SYNTAX, ERR_REFUSED with a sentence. */
MUST_CHECK int directory_add_tenant(struct directory *d, const char *name,
    uint32_t *ret_id, struct failure *ret_failure);
/* Disables for good what belongs to it; refuses the default tenant. */
MUST_CHECK int directory_remove_tenant(
    struct directory *d, const char *name, struct failure *ret_failure);

MUST_CHECK int directory_set_sender_policy(struct directory *d,
    const char *tenant, enum directory_sender_policy policy,
    struct failure *ret_failure);

struct directory_new_stream {
	const char *tenant, *name;
	enum directory_class class;
	int64_t expire_us;
	const char *pool; /* NULL: "" */
};

MUST_CHECK int directory_add_stream(struct directory *d,
    const struct directory_new_stream *stream, uint32_t *ret_id,
    struct failure *ret_failure);
/* Which pool its mail leaves by, queued mail included; "": the default. Whether
 * the config has such a pool is not checked here: it may come with the next. */
MUST_CHECK int directory_set_stream_pool(struct directory *d,
    const char *tenant, const char *name, const char *pool,
    struct failure *ret_failure);
/* The two built-in streams cannot be removed. */
MUST_CHECK int directory_remove_stream(struct directory *d, const char *tenant,
    const char *name, struct failure *ret_failure);

struct directory_new_credential {
	const char *tenant; /* NULL: default */
	const char *stream; /* NULL: transactional */
	const char *name; /* NULL: "" */
	const char *const *networks; /* NULL-terminated CIDRs, or NULL */
};

struct directory_made_credential {
	uint32_t id;
	char username[64];
	char password[64]; /* wipe after showing */
};

MUST_CHECK int directory_add_credential(struct directory *d,
    const struct directory_new_credential *credential,
    struct directory_made_credential *ret_made, struct failure *ret_failure);
/* Immediate: new sessions and new messages of open sessions are refused. */
MUST_CHECK int directory_revoke_credential(
    struct directory *d, const char *username, struct failure *ret_failure);

struct directory_new_domain {
	const char *tenant; /* NULL: default */
	const char *name;
	const char *return_path; /* NULL: bounces.<name> */
};

/* With an RSA and an Ed25519 key, which sign at once. Takes up to a second. */
MUST_CHECK int directory_add_domain(struct directory *d,
    const struct directory_new_domain *domain, uint32_t *ret_id,
    struct failure *ret_failure);
/* Its keys go, too: mail that is still queued leaves unsigned. */
MUST_CHECK int directory_remove_domain(
    struct directory *d, const char *name, struct failure *ret_failure);

/* What a look at the DNS came to. */
struct directory_domain_check {
	const char *name;
	const char *problem; /* "": none */
	const uint32_t *seen; /* ids of the keys whose record is there */
	size_t seen_count;
	bool is_verified; /* one that signs is among them */
};

/* A domain that was verified once stays so: DNS trouble must not stop mail. */
MUST_CHECK int directory_note_check(struct directory *d,
    const struct directory_domain_check *check, struct failure *ret_failure);

/* The stages of a rotation, in this order. */
enum directory_rotation {
	DIRECTORY_ROTATE_BEGIN, /* new keys beside those that sign */
	DIRECTORY_ROTATE_SWITCH, /* they sign; those before become old */
	DIRECTORY_ROTATE_REVOKE, /* the old ones are deleted */
};

/* ERR_REFUSED where a stage has nothing to act on. */
MUST_CHECK int directory_rotate(struct directory *d, const char *name,
    enum directory_rotation stage, struct failure *ret_failure);
