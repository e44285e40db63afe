/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/hash.h"
#include "base/mem.h"
#include "receive/internal.h"
#include "tls/stream.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a decoy of an unknown user claims; that of our own credentials. */
#define SCRAM_ITERATIONS "4096"
/* A response line can be 12,288 octets (RFC 4954 §4); none of our mechanisms
 * needs half of it. */
#define RESPONSE_MAX 4096
/* The longest exchange is SCRAM's: none, first, final, the last empty line. */
#define STEPS_MAX 4

struct auth {
	Gsasl_session *session;
	struct directory_snapshot *snapshot;
	struct netaddr client;
	const struct stream *stream;
	bool login; /* LOGIN: the server asks before the client speaks */
	bool asked; /* LOGIN: and has */
	unsigned prompts; /* LOGIN: given so far */
	unsigned steps;
	bool finishing; /* only the client's empty line is left */
	char *challenge; /* libgsasl's */
	char tried[64];
	struct auth_identity identity;
};

/* ---- what libgsasl asks ------------------------------------------ */

static const struct directory_credential *
usable_credential(const struct auth *a, const char *username)
{
	const struct directory_credential *c =
	    directory_find_credential(a->snapshot, span_of(username));
	const struct directory_tenant *tenant =
	    c != NULL ? directory_tenant(a->snapshot, c->tenant) : NULL;

	if (c == NULL || c->revoked || tenant == NULL || !tenant->enabled ||
	    !directory_credential_allows(c, &a->client))
		return NULL;
	return c;
}

static void
remember_name(struct auth *a, const char *name)
{
	(void)span_to_cstring(
	    span_slice(span_of(name), 0, sizeof(a->tried) - 1), a->tried,
	    sizeof(a->tried));
}

static void
remember_identity(struct auth *a, const struct directory_credential *c)
{
	a->identity.credential = c->id;
	(void)span_to_cstring(span_of(c->username), a->identity.username,
	    sizeof(a->identity.username));
}

/* PLAIN and LOGIN: one comparison, which costs the same for unknown names. */
static int
validate_simple(struct auth *a, Gsasl_session *session)
{
	const char *name = gsasl_property_get(session, GSASL_AUTHID);
	const char *other = gsasl_property_get(session, GSASL_AUTHZID);
	const char *password = gsasl_property_get(session, GSASL_PASSWORD);

	if (name == NULL || password == NULL)
		return GSASL_AUTHENTICATION_ERROR;
	remember_name(a, name);
	const struct directory_credential *c = usable_credential(a, name);
	bool good = directory_check_secret(c, span_of(password));
	if (other != NULL && other[0] != '\0' && strcmp(other, name) != 0)
		good = false;
	if (!good)
		return GSASL_AUTHENTICATION_ERROR;
	remember_identity(a, c);
	return GSASL_OK;
}

static void
set_base64(Gsasl_session *session, Gsasl_property property,
    const unsigned char *bytes, int len)
{
	unsigned char text[128];

	BUG_UNLESS(len <= 64);
	EVP_EncodeBlock(text, bytes, len);
	(void)gsasl_property_set(session, property, (const char *)text);
}

/* A name nobody has gets keys that depend on it alone, so that asking twice
 * does not tell; no password fits them. */
static void
set_decoy(Gsasl_session *session, const char *name)
{
	unsigned char bytes[32];

	for (size_t i = 0; i < sizeof(bytes) / 8; i++) {
		uint64_t word =
		    hash_mix(hash_keyed(span_of(name)) + (uint64_t)i);

		memcpy(bytes + i * 8, &word, 8);
	}
	set_base64(session, GSASL_SCRAM_SALT, bytes, 16);
	set_base64(session, GSASL_SCRAM_STOREDKEY, bytes, 32);
	set_base64(session, GSASL_SCRAM_SERVERKEY, bytes, 32);
	(void)gsasl_property_set(session, GSASL_SCRAM_ITER, SCRAM_ITERATIONS);
}

static int
provide_scram(struct auth *a, Gsasl_session *session)
{
	const char *name = gsasl_property_fast(session, GSASL_AUTHID);
	char iterations[16];

	if (name == NULL)
		return GSASL_NO_CALLBACK;
	remember_name(a, name);
	const struct directory_credential *c = usable_credential(a, name);
	if (c == NULL) {
		set_decoy(session, name);
		return GSASL_OK;
	}
	snprintf(iterations, sizeof(iterations), "%u", c->scram_iterations);
	set_base64(
	    session, GSASL_SCRAM_SALT, c->scram_salt, sizeof(c->scram_salt));
	set_base64(session, GSASL_SCRAM_STOREDKEY, c->scram_stored_key,
	    sizeof(c->scram_stored_key));
	set_base64(session, GSASL_SCRAM_SERVERKEY, c->scram_server_key,
	    sizeof(c->scram_server_key));
	(void)gsasl_property_set(session, GSASL_SCRAM_ITER, iterations);
	return GSASL_OK;
}

/* RFC 9266: SCRAM-SHA-256-PLUS binds to the TLS connection. */
static int
provide_binding(struct auth *a, Gsasl_session *session)
{
	unsigned char binding[32];

	if (stream_channel_binding(a->stream, binding) < 0)
		return GSASL_NO_CALLBACK;
	set_base64(session, GSASL_CB_TLS_EXPORTER, binding, sizeof(binding));
	return GSASL_OK;
}

static int
on_ask(Gsasl *library, Gsasl_session *session, Gsasl_property property)
{
	struct auth *a = gsasl_session_hook_get(session);

	(void)library;
	switch ((int)property) {
	case GSASL_VALIDATE_SIMPLE:
		return validate_simple(a, session);
	case GSASL_SCRAM_ITER:
	case GSASL_SCRAM_SALT:
	case GSASL_SCRAM_STOREDKEY:
	case GSASL_SCRAM_SERVERKEY:
		return provide_scram(a, session);
	case GSASL_CB_TLS_EXPORTER:
		return provide_binding(a, session);
	default:
		return GSASL_NO_CALLBACK;
	}
}

Gsasl *
auth_library_new(void)
{
	Gsasl *library;

	BUG_UNLESS(gsasl_init(&library) == GSASL_OK);
	gsasl_callback_set(library, on_ask);
	return library;
}

/* ---- the exchange ------------------------------------------------ */

/* SCRAM-SHA-256-PLUS only where there is something to bind to: on TLS 1.2
 * without the extended master secret there is not (RFC 9266 §4.2). */
struct span
auth_mechanisms(const struct stream *stream)
{
	unsigned char binding[32];

	if (stream_channel_binding(stream, binding) < 0)
		return SPAN("SCRAM-SHA-256 PLAIN LOGIN");
	return SPAN("SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN");
}

static bool
is_ours(struct span mechanism, const struct stream *stream)
{
	struct span ours = auth_mechanisms(stream);

	while (ours.len > 0) {
		if (span_eq(span_cut(&ours, ' '), mechanism))
			return true;
	}
	return false;
}

struct auth *
auth_new(Gsasl *library, struct span mechanism, struct directory *directory,
    const struct netaddr *client, const struct stream *stream)
{
	char name[32];
	struct auth *a;

	if (!is_ours(mechanism, stream))
		return NULL;
	if (!span_to_cstring(mechanism, name, sizeof(name)))
		return NULL;
	a = MEM_NEW(struct auth);
	if (gsasl_server_start(library, name, &a->session) != GSASL_OK) {
		mem_free(a);
		return NULL;
	}
	gsasl_session_hook_set(a->session, a);
	a->snapshot = directory_snapshot(directory);
	a->client = *client;
	a->stream = stream;
	a->login = strcmp(name, "LOGIN") == 0;
	return a;
}

void
auth_free(struct auth **auth)
{
	struct auth *a = *auth;

	if (a == NULL)
		return;
	gsasl_finish(a->session);
	gsasl_free(a->challenge);
	directory_snapshot_unref(&a->snapshot);
	mem_free(a);
	*auth = NULL;
}

/* SCRAM proved the secret without asking us to compare. Nobody acts for
 * somebody else. */
static bool
take_scram_identity(struct auth *a)
{
	const char *other = gsasl_property_fast(a->session, GSASL_AUTHZID);
	const struct directory_credential *c = usable_credential(a, a->tried);

	if (c == NULL ||
	    (other != NULL && other[0] != '\0' && strcmp(other, a->tried) != 0))
		return false;
	remember_identity(a, c);
	return true;
}

/* LOGIN was never specified beyond a draft: clients compare the prompts with
 * what servers have always sent, "Username:" and "Password:", which are not
 * the library's. */
static struct span
login_prompt(struct auth *a)
{
	return a->prompts++ == 0 ? SPAN("VXNlcm5hbWU6") : SPAN("UGFzc3dvcmQ6");
}

static enum auth_result
take_result(struct auth *a, int code, struct span *ret_challenge)
{
	bool has_text = a->challenge != NULL && a->challenge[0] != '\0';

	*ret_challenge = span_of(a->challenge);
	switch (code) {
	case GSASL_NEEDS_MORE:
		if (a->login)
			*ret_challenge = login_prompt(a);
		return AUTH_CHALLENGE;
	case GSASL_OK:
		break;
	case GSASL_BASE64_ERROR:
	case GSASL_MECHANISM_PARSE_ERROR:
		return AUTH_MALFORMED;
	default:
		return AUTH_FAILED;
	}
	if (a->identity.credential == 0 && !take_scram_identity(a))
		return AUTH_FAILED;
	/* The server's last word is a challenge, too (RFC 4954 §4). */
	a->finishing = has_text;
	return has_text ? AUTH_CHALLENGE : AUTH_DONE;
}

static enum auth_result
step_once(struct auth *a, const char *input, struct span *ret_challenge)
{
	gsasl_free(a->challenge);
	a->challenge = NULL;
	int code = gsasl_step64(a->session, input, &a->challenge);
	return take_result(a, code, ret_challenge);
}

enum auth_result
auth_step(struct auth *a, struct span input, struct span *ret_challenge)
{
	*ret_challenge = SPAN_EMPTY;
	if (a->finishing)
		return input.len == 0 ? AUTH_DONE : AUTH_MALFORMED;
	if (input.len > RESPONSE_MAX || ++a->steps > STEPS_MAX)
		return AUTH_MALFORMED;
	if (input.ptr == NULL) {
		a->asked = a->login;
		return step_once(a, NULL, ret_challenge);
	}
	/* The library takes no octets for no response and would ask again. */
	if (input.len == 0 && !a->login)
		return AUTH_MALFORMED;
	/* With LOGIN the name may come as an initial response, before the
	 * library has asked for it. */
	if (a->login && !a->asked) {
		a->asked = true;
		if (step_once(a, NULL, ret_challenge) != AUTH_CHALLENGE)
			return AUTH_FAILED;
	}
	char *text = span_dup(input);
	enum auth_result result = step_once(a, text, ret_challenge);
	mem_wipe(text, input.len);
	mem_free(text);
	return result;
}

const struct auth_identity *
auth_identity(const struct auth *auth)
{
	return &auth->identity;
}

const char *
auth_tried_name(const struct auth *auth)
{
	return auth->tried;
}
