/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Inside receive: what a session is made of. */

#include "base/list.h"
#include "log/tap.h"
#include "receive/receive.h"
#include "smtp/server.h"

#include <gsasl.h>
#include <stdatomic.h>

/* ---- shared.c: what reactors know in common ---------------------- */

enum admission {
	ADMIT_OK,
	ADMIT_FULL, /* limits.connections */
	ADMIT_CLIENT_FULL /* limits.connections_per_client */
};

struct receive_counters {
	atomic_uint_fast64_t connections, sessions_open, sessions_tls, refused;
	atomic_uint_fast64_t auth_failures, auth_successes;
	atomic_uint_fast64_t messages_accepted, messages_refused;
	atomic_uint_fast64_t recipients_refused, timeouts;
};

struct receive_counters *shared_counters(struct receive_shared *shared);

/* Counts the connection in when ADMIT_OK; then shared_leave. */
enum admission shared_admit(struct receive_shared *shared,
    const struct netaddr *client, const struct config *config);
void shared_leave(struct receive_shared *shared, const struct netaddr *client);
/* Until when (monotonic) AUTH is locked for the client's network; 0: it is
 * not. */
int64_t shared_locked_until(struct receive_shared *shared,
    const struct netaddr *client, int64_t now_us);
/* One more failure; returns how many the network has had lately. */
uint32_t shared_auth_failed(struct receive_shared *shared,
    const struct netaddr *client, const struct config *config, int64_t now_us);
void shared_auth_succeeded(
    struct receive_shared *shared, const struct netaddr *client);

/* ---- auth.c: one AUTH exchange by libgsasl ----------------------- */

struct auth;

struct auth_identity {
	uint32_t credential;
	char username[64];
};

enum auth_result {
	AUTH_CHALLENGE, /* send the challenge, then auth_step with the answer */
	AUTH_DONE,
	AUTH_FAILED, /* wrong, unknown, revoked, not from this network */
	AUTH_MALFORMED, /* not base64, or not of the mechanism's form */
};

/* The mechanisms for the EHLO reply on this stream. */
struct span auth_mechanisms(const struct stream *stream);
/* One library context per receiver. */
Gsasl *auth_library_new(void);
/* NULL when the mechanism is not ours. */
struct auth *auth_new(Gsasl *library, struct span mechanism,
    struct directory *directory, const struct netaddr *client,
    const struct stream *stream);
void auth_free(struct auth **auth);
/* input: base64 as received; a NULL pointer when there was no initial
 * response. The challenge (base64) lives until the next step. */
enum auth_result auth_step(
    struct auth *auth, struct span input, struct span *ret_challenge);
/* After AUTH_DONE. */
const struct auth_identity *auth_identity(const struct auth *auth);
/* The name that was tried, for the log; "" when it never came to that. */
const char *auth_tried_name(const struct auth *auth);

/* ---- proxy.c: the PROXY protocol's header, v1 and v2 ------------- */

/* The longest header that is read. */
#define PROXY_HEADER_MAX 1024

/* Octets of the header; 0: more are needed; ERR_SYNTAX, ERR_LIMIT. *ret_client
 * has family NETADDR_NONE for LOCAL and UNKNOWN. */
MUST_CHECK int proxy_parse(struct span in, struct netaddr *ret_client);

/* ---- receiver.c -------------------------------------------------- */

struct listener {
	struct receiver *receiver;
	size_t number; /* in config->listeners */
	struct loop_watch watch;
	struct loop_timer pause; /* no descriptors: try again a little later */
	int64_t quiet_until_us; /* and do not say so again before */
};

struct receiver {
	struct loop *loop;
	struct config *config;
	struct tls_context *tls;
	struct intake *intake;
	struct directory *directory;
	struct receive_shared *shared;
	Gsasl *sasl;
	struct listener *listeners;
	size_t listener_count;
	struct list sessions;
	size_t session_count;
	bool draining;
	char *scratch; /* what one read brings; shared by all sessions */
};

#define SCRATCH_SIZE 65536

/* ---- session.c: the connection ----------------------------------- */

enum session_phase {
	SESSION_PROXY, /* the proxy's header comes first */
	SESSION_HANDSHAKE, /* implicit TLS, or after STARTTLS */
	SESSION_DIALOGUE,
	SESSION_STARTTLS, /* the 220 goes out, then the handshake */
	SESSION_CLOSING, /* the last output goes out, then the end */
	SESSION_LINGERING, /* it is out, but the client is still sending */
	SESSION_OVER,
};

struct session {
	struct list link;
	struct receiver *receiver;
	struct config *config; /* the one in force at the start */
	struct tls_context *tls;
	const struct config_listener *listener;
	struct netaddr connected; /* whom shared_admit counted */
	struct netaddr peer; /* the client, as a trusted proxy may say */
	char peer_text[NETADDR_TEXT_SIZE];
	struct tap_session tap;

	enum session_phase phase;
	struct stream *stream;
	struct loop_watch watch;
	struct loop_timer timer; /* the next deadline */
	struct loop_timer penalty; /* a failed AUTH is answered later */
	struct loop_item free_item;
	struct smtp_server *smtp;
	struct buf pending; /* read, but the dialogue waits for an answer */

	/* Monotonic times that deadlines count from. */
	int64_t started_us, heard_us, step_us, message_us;
	uint64_t rate_bytes; /* of the message, in the running minute */
	int64_t rate_us; /* when that began */

	/* dialogue.c */
	struct auth *auth;
	struct reply auth_reply; /* waits for the penalty */
	uint32_t auth_failures;
	struct auth_identity identity; /* credential 0: nobody */
	bool trusted;
	char helo[256];
	char tls_text[96];
	struct intake_message *message; /* between MAIL and END */
	bool committing; /* after END */
	bool draining;
	bool mid_line; /* the last command line taken in had no end yet */
	bool lingers; /* closing with input that nobody will read */
	uint32_t accepted, refused; /* messages */
};

/* Ends the session with 421 as soon as it may. */
void session_drain(struct session *s);
/* Cuts it at once and frees it. */
void session_cut(struct session *s);
/* An answer was given outside of on_ready: goes on with pending input. */
void session_resume(struct session *s);
/* Over now; freed at the end of the turn. */
void session_end(struct session *s);
/* Feeds all input there is to the dialogue and sends its replies together.
 * False when the session is over. */
bool session_converse(struct session *s, struct span in);
/* Asks the loop for what can move the session on, and in time. */
void session_watch(struct session *s);
void session_on_ready(struct loop_watch *watch, unsigned events);
void session_on_deadline(struct loop_timer *timer);

/* ---- opening.c: from a descriptor to a dialogue ------------------ */

/* Time for a proxy's header and for a handshake. */
#define OPENING_US (30 * US_PER_S)

/* Takes fd, which shared_admit has counted, whatever it said. */
void session_start(struct receiver *receiver, const struct listener *listener,
    int fd, const struct netaddr *peer, enum admission admission);
/* Reads of the proxy's header what is there. False: no more for now, or the
 * session is over. */
bool opening_read_proxy(struct session *s);
/* Begins TLS; the session may be over afterwards. */
void opening_start_tls(struct session *s);
/* Goes on with it. False: not done, or the session is over. */
bool opening_handshake(struct session *s);

/* ---- dialogue.c: what the client says, and what it is told ------- */

struct smtp_server *dialogue_new(const struct session *s, bool secured);
void dialogue_event(struct session *s, const struct smtp_server_event *event);
/* The connection is gone: what was open is dropped; a message that is being
 * committed is not. */
void dialogue_end(struct session *s);
