/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "directory/internal.h"
#include "os/clock.h"

#include <stdio.h>
#include <string.h>

enum {
	USERNAME_RANDOM = 6, /* characters after the tenant's name */
	PASSWORD_LENGTH = 32, /* of five bits: 160 */
	USERNAME_TRIES = 16,
};

/* A credential on its way into the database. */
struct draft {
	const struct directory_new_credential *wanted;
	uint32_t tenant, stream;
	struct netmask networks[DIRECTORY_NETWORKS_MAX];
	size_t network_count;
	struct directory_secret secret;
	struct directory_made_credential made;
};

/* ---- what is asked for ------------------------------------------------- */

static int
parse_networks(struct draft *draft, struct failure *ret_failure)
{
	const char *const *text = draft->wanted->networks;

	for (; text && *text; text++) {
		if (draft->network_count == DIRECTORY_NETWORKS_MAX)
			return failure_set(ret_failure, ERR_LIMIT,
			    "a credential may have at most %d networks; "
			    "combine some",
			    DIRECTORY_NETWORKS_MAX);
		if (!netmask_parse(span_of(*text),
			&draft->networks[draft->network_count++]))
			return failure_set(ret_failure, ERR_SYNTAX,
			    "`%.64s` is not a network; write one such as "
			    "192.0.2.0/24 or 2001:db8::/32, with no address "
			    "bits beyond the prefix",
			    *text);
	}
	return 0;
}

static int
check_label(const char *label, struct failure *ret_failure)
{
	struct span text = span_of(label);
	bool is_good = text.len <= DIRECTORY_LABEL_MAX && span_is_utf8(text);

	for (size_t i = 0; i < text.len; i++)
		is_good = is_good && (unsigned char)text.ptr[i] >= ' ' &&
			  text.ptr[i] != 127;
	if (is_good)
		return 0;
	return failure_set(ret_failure, ERR_SYNTAX,
	    "the credential's name must be UTF-8 of at most %d octets without "
	    "control characters",
	    DIRECTORY_LABEL_MAX);
}

/* ---- into the database ------------------------------------------------- */

/* Room is left for the random part; "a-very-long-tenant-name…" is cut. */
static void
make_username(struct draft *draft, const char *tenant)
{
	char random[USERNAME_RANDOM + 1];
	int room = (int)sizeof draft->made.username - USERNAME_RANDOM - 2;

	directory_secret_text(random, USERNAME_RANDOM);
	(void)snprintf(draft->made.username, sizeof draft->made.username,
	    "%.*s-%s", room, tenant, random);
}

static int
insert(struct directory *d, struct draft *draft)
{
	const struct directory_secret *s = &draft->secret;
	const char *name = draft->wanted->name;
	sqlite3_stmt *add = directory_sql(d, SQL_ADD_CREDENTIAL);

	(void)sqlite3_bind_int64(add, 1, draft->tenant);
	(void)sqlite3_bind_int64(add, 2, draft->stream);
	(void)sqlite3_bind_text(
	    add, 3, draft->made.username, -1, SQLITE_STATIC);
	(void)sqlite3_bind_text(add, 4, name ? name : "", -1, SQLITE_STATIC);
	(void)sqlite3_bind_blob(
	    add, 5, s->sha256, sizeof s->sha256, SQLITE_STATIC);
	(void)sqlite3_bind_blob(add, 6, s->salt, sizeof s->salt, SQLITE_STATIC);
	(void)sqlite3_bind_int(add, 7, DIRECTORY_SCRAM_ITERATIONS);
	(void)sqlite3_bind_blob(
	    add, 8, s->stored_key, sizeof s->stored_key, SQLITE_STATIC);
	(void)sqlite3_bind_blob(
	    add, 9, s->server_key, sizeof s->server_key, SQLITE_STATIC);
	(void)sqlite3_bind_int64(add, 10, clock_wall_us());
	return directory_sql_run(d, SQL_ADD_CREDENTIAL);
}

static int
insert_networks(struct directory *d, const struct draft *draft)
{
	for (size_t i = 0; i < draft->network_count; i++) {
		const struct netmask *mask = &draft->networks[i];
		sqlite3_stmt *add = directory_sql(d, SQL_ADD_NETWORK);
		char ip[NETADDR_TEXT_SIZE], text[NETADDR_TEXT_SIZE + 4];
		(void)snprintf(text, sizeof text, "%s/%u",
		    netaddr_format_ip(&mask->network, ip), mask->bits);
		(void)sqlite3_bind_int64(add, 1, draft->made.id);
		(void)sqlite3_bind_text(add, 2, text, -1, SQLITE_TRANSIENT);
		TRY(directory_sql_run(d, SQL_ADD_NETWORK));
	}
	return 0;
}

static int
add(struct directory *d, struct draft *draft, struct failure *ret_failure)
{
	const char *tenant =
	    draft->wanted->tenant ? draft->wanted->tenant : "default";
	const char *stream =
	    draft->wanted->stream ? draft->wanted->stream : "transactional";
	int code = ERR_EXISTS;

	TRY(directory_require_tenant(d, tenant, &draft->tenant, ret_failure));
	TRY(directory_require_stream(
	    d, draft->tenant, stream, &draft->stream, ret_failure));
	TRY(directory_check_room(
	    d, SQL_COUNT_CREDENTIALS, DIRECTORY_CREDENTIALS_MAX, ret_failure));
	for (unsigned i = 0; i < USERNAME_TRIES && code == ERR_EXISTS; i++) {
		make_username(draft, tenant);
		code = insert(d, draft);
	}
	if (code == ERR_EXISTS)
		return failure_set(ret_failure, code,
		    "no free user name was found for `%s`; try again", tenant);
	if (code == 0) {
		draft->made.id = directory_last_id(d);
		code = insert_networks(d, draft);
	}
	return code < 0 ? directory_sql_failure(d, code, ret_failure) : 0;
}

int
directory_add_credential(struct directory *d,
    const struct directory_new_credential *credential,
    struct directory_made_credential *ret_made, struct failure *ret_failure)
{
	struct draft draft = { .wanted = credential };

	TRY(parse_networks(&draft, ret_failure));
	if (credential->name)
		TRY(check_label(credential->name, ret_failure));
	_Static_assert(sizeof draft.made.password > PASSWORD_LENGTH,
	    "the password fits with its NUL");
	directory_secret_text(draft.made.password, PASSWORD_LENGTH);
	int code = directory_secret_derive(
	    span_of(draft.made.password), &draft.secret);
	if (code < 0)
		(void)failure_set(ret_failure, code,
		    "OpenSSL could not derive the keys of the password");
	if (code == 0)
		code = directory_change_begin(d, ret_failure);
	if (code == 0) {
		code = add(d, &draft, ret_failure);
		code = directory_change_end(d, code, ret_failure);
	}
	if (code == 0)
		*ret_made = draft.made;
	mem_wipe(&draft, sizeof draft);
	return code;
}

static int
revoke(struct directory *d, const char *username, struct failure *ret_failure)
{
	sqlite3_stmt *find = directory_sql(d, SQL_FIND_CREDENTIAL);

	(void)sqlite3_bind_text(find, 1, username, -1, SQLITE_STATIC);
	int code = directory_sql_step(find);
	int64_t id = sqlite3_column_int64(find, 0);
	bool is_revoked = sqlite3_column_int(find, 1) != 0;
	(void)sqlite3_reset(find); /* the step has told */
	if (code < 0)
		return directory_sql_failure(d, code, ret_failure);
	if (code == 0)
		return failure_set(ret_failure, ERR_NOT_FOUND,
		    "there is no credential `%.64s`; `posthouse credential "
		    "list` shows them",
		    username);
	if (is_revoked)
		return 0;
	(void)sqlite3_bind_int64(
	    directory_sql(d, SQL_REVOKE_CREDENTIAL), 1, id);
	code = directory_sql_run(d, SQL_REVOKE_CREDENTIAL);
	return code < 0 ? directory_sql_failure(d, code, ret_failure) : 0;
}

int
directory_revoke_credential(
    struct directory *d, const char *username, struct failure *ret_failure)
{
	TRY(directory_change_begin(d, ret_failure));
	int code = revoke(d, username, ret_failure);
	return directory_change_end(d, code, ret_failure);
}
