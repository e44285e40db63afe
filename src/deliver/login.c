/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "deliver/internal.h"

#include <errno.h>
#include <gsasl.h>
#include <string.h>

/*
 * The client's side of SASL (RFC 4422) towards smarthosts, by libgsasl. What
 * it computes are secrets: they are wiped as soon as they are handed on, and
 * whoever traces the session is not shown them.
 */

enum { CHALLENGE_MAX = 12288 }; /* RFC 4954 §4 */

struct login {
	Gsasl *sasl;
	Gsasl_session *session;
	char *response; /* gsasl's; wiped */
	bool is_login; /* the server speaks first */
	bool begun, complete;
};

struct span
login_mechanisms(bool bound)
{
	return bound ? SPAN("SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN")
		     : SPAN("SCRAM-SHA-256 PLAIN LOGIN");
}

static void
wipe_response(struct login *a)
{
	if (a->response == NULL)
		return;
	mem_wipe(a->response, strlen(a->response));
	gsasl_free(a->response);
	a->response = NULL;
}

static int
set_binding(Gsasl_session *session, const unsigned char binding[static 32])
{
	char *base64 = NULL;
	size_t len = 0;
	if (gsasl_base64_to((const char *)binding, 32, &base64, &len) !=
	    GSASL_OK)
		return -ENOMEM;
	int r =
	    gsasl_property_set_raw(session, GSASL_CB_TLS_EXPORTER, base64, len);
	gsasl_free(base64);
	return r == GSASL_OK ? 0 : -ENOMEM;
}

static int
set_properties(struct login *a, const struct login_options *options)
{
	const struct {
		Gsasl_property property;
		const char *value;
	} table[] = {
		{ GSASL_AUTHID, options->username },
		{ GSASL_PASSWORD, options->password },
		{ GSASL_SERVICE, "smtp" },
		{ GSASL_HOSTNAME, options->hostname },
	};

	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		if (gsasl_property_set(a->session, table[i].property,
			table[i].value) != GSASL_OK)
			return -ENOMEM;
	}
	bool plus = span_ends_nocase(options->mechanism, SPAN("-PLUS"));
	return plus ? set_binding(a->session, options->binding) : 0;
}

int
login_new(const struct login_options *options, struct login **ret_login,
    struct failure *ret_failure)
{
	char mechanism[64];
	if (!span_to_cstring(options->mechanism, mechanism, sizeof mechanism))
		return failure_set(ret_failure, ERR_LIMIT,
		    "the AUTH mechanism's name is too long");
	struct login *a = MEM_NEW(struct login);
	a->is_login = strcmp(mechanism, "LOGIN") == 0;
	int r = gsasl_init(&a->sasl);
	if (r == GSASL_OK)
		r = gsasl_client_start(a->sasl, mechanism, &a->session);
	if (r != GSASL_OK) {
		login_free(&a);
		return failure_set(ret_failure, ERR_REFUSED,
		    "cannot start AUTH %s: %s", mechanism, gsasl_strerror(r));
	}
	int err = set_properties(a, options);
	if (err < 0) {
		login_free(&a);
		return failure_set(ret_failure, err,
		    "cannot start AUTH %s: out of memory", mechanism);
	}
	*ret_login = a;
	return 0;
}

void
login_free(struct login **login)
{
	struct login *a = *login;
	*login = NULL;
	if (a == NULL)
		return;
	wipe_response(a);
	if (a->session != NULL)
		gsasl_finish(a->session);
	if (a->sasl != NULL)
		gsasl_done(a->sasl);
	mem_free(a);
}

int
login_step(struct login *a, struct span challenge, struct span *ret_response)
{
	wipe_response(a);
	if (!a->begun && a->is_login) {
		a->begun = true;
		*ret_response = SPAN_EMPTY;
		return 0;
	}
	a->begun = true;
	if (a->complete && challenge.len > 0)
		return ERR_SYNTAX; /* the server goes on after the end */
	char *AUTO_FREE text = mem_alloc(CHALLENGE_MAX + 1);
	if (!span_to_cstring(challenge, text, CHALLENGE_MAX + 1))
		return ERR_LIMIT;
	int r = gsasl_step64(a->session, text, &a->response);
	if (r != GSASL_OK && r != GSASL_NEEDS_MORE)
		return ERR_REFUSED;
	a->complete = r == GSASL_OK;
	*ret_response = span_of(a->response);
	return 0;
}

bool
login_is_complete(const struct login *a)
{
	return a->complete;
}
