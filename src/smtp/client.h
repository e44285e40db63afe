/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The client's half of an SMTP or LMTP session, without a socket or a clock:
 * replies go in, commands and events come out. The driver (deliver) owns the
 * connection, the body's bytes and the timers.
 *
 * Two cursors make pipelining plain: the send side appends commands to the
 * output and pushes the step that each reply belongs to onto a bounded ring;
 * the receive side pops the ring as replies arrive.
 *
 * Turning it:
 *
 *	n = smtp_client_feed(c, input, &event)    consume n bytes
 *	switch (event.type) …
 *	write smtp_client_output(), then smtp_client_sent()
 *
 * A recipient's fate is his own: replies to RCPT stand per recipient, the
 * reply to the final dot applies to those accepted (LMTP: one reply each).
 * When the session breaks, each recipient without a fate gets the broken
 * session's reply and `unknown` says that the final dot may have been taken.
 *
 * Everything the server says is hostile until parsed (reliability D): bounds
 * of reply.h, codes in unexpected places end the session as temporary.
 */

#include "smtp/parameters.h"
#include "smtp/reply.h"

struct smtp_client;

enum smtp_client_tls {
	SMTP_CLIENT_TLS_NONE, /* never STARTTLS */
	SMTP_CLIENT_TLS_OPPORTUNISTIC, /* when offered; plain when refused */
	SMTP_CLIENT_TLS_REQUIRE, /* no TLS, no mail: 4.7.10 */
};

struct smtp_client_options {
	struct span hostname; /* EHLO name */
	bool lmtp;
	enum smtp_client_tls tls;
	bool secured; /* implicit TLS already done */
	bool auth; /* credentials exist: AUTH is required */
	struct span auth_mechanisms; /* those we can do, best first */
	/* Use BDAT from this body size; 0: whenever offered; UINT32_MAX: only
	 * when needed. */
	uint32_t chunk_min;
};

/* What the server offered in its last EHLO reply. */
enum smtp_client_offers {
	SMTP_OFFER_PIPELINING = 1,
	SMTP_OFFER_SIZE = 2,
	SMTP_OFFER_8BITMIME = 4,
	SMTP_OFFER_SMTPUTF8 = 8,
	SMTP_OFFER_CHUNKING = 16,
	SMTP_OFFER_BINARYMIME = 32,
	SMTP_OFFER_DSN = 64,
	SMTP_OFFER_STARTTLS = 128,
	SMTP_OFFER_AUTH = 256,
	SMTP_OFFER_ENHANCED = 512,
	SMTP_OFFER_REQUIRETLS = 1024,
};

enum smtp_client_fate_kind {
	SMTP_FATE_NONE, /* not known yet */
	SMTP_FATE_DELIVERED,
	SMTP_FATE_TEMPORARY,
	SMTP_FATE_PERMANENT,
};

/* The command whose reply decided. */
enum smtp_client_step {
	SMTP_CLIENT_STEP_BANNER,
	SMTP_CLIENT_STEP_EHLO,
	SMTP_CLIENT_STEP_HELO,
	SMTP_CLIENT_STEP_STARTTLS,
	SMTP_CLIENT_STEP_TLS, /* the handshake, driver's work */
	SMTP_CLIENT_STEP_AUTH,
	SMTP_CLIENT_STEP_IDLE,
	SMTP_CLIENT_STEP_MAIL,
	SMTP_CLIENT_STEP_RCPT,
	SMTP_CLIENT_STEP_DATA,
	SMTP_CLIENT_STEP_BODY, /* the driver is sending it */
	SMTP_CLIENT_STEP_END,
	SMTP_CLIENT_STEP_RSET,
	SMTP_CLIENT_STEP_QUIT,
	SMTP_CLIENT_STEP_CLOSED,
};

struct smtp_client_fate {
	enum smtp_client_fate_kind kind;
	enum smtp_client_step step;
	struct reply reply; /* text lives as long as the transaction */
	bool unknown; /* broken after the body went out: may be a duplicate */
	bool relayed_without_dsn; /* delivered, but the server has no DSN */
	bool local; /* decided here: the server never said .reply */
};

struct smtp_client_rcpt {
	struct span address;
	uint8_t notify; /* enum smtp_notify bits */
	struct span orcpt; /* "rfc822;" and xtext, or empty */
};

struct smtp_client_transaction {
	struct span sender; /* canonical mailbox, "" for <> */
	uint64_t size; /* octets as sent in 8-bit form, prefix included */
	enum smtp_body body; /* what the message needs */
	bool utf8; /* what the message needs (addresses or header) */
	/* RFC 8689: only to a server that offers REQUIRETLS and, by TLS, has
	 * proved its name (.proven); else 5.7.30. */
	bool requiretls, proven;
	enum smtp_ret ret;
	struct span envid; /* xtext */
	const struct smtp_client_rcpt *rcpts;
	size_t rcpt_count; /* 1..1000 */
};

enum smtp_client_event_type {
	SMTP_CLIENT_NONE, /* needs more input */
	/* Drop unread input, do the handshake; then smtp_client_secured. When
	 * it fails the session is over (RFC 3207): free the client. Whether
	 * plain is tried on a new connection is the driver's policy. */
	SMTP_CLIENT_STARTTLS,
	/* .mechanism is chosen: smtp_client_auth_response. */
	SMTP_CLIENT_AUTH,
	/* .text is base64: smtp_client_auth_response. */
	SMTP_CLIENT_AUTH_CHALLENGE,
	/* Idle: smtp_client_start, _quit, or keep. */
	SMTP_CLIENT_READY,
	/* Send the output, then the body, then smtp_client_body_sent.
	 * .dot_stuff: by DATA. */
	SMTP_CLIENT_BODY,
	/* The server refused in the middle of the body: stop sending it;
	 * .text is the reply. The session is over. */
	SMTP_CLIENT_BODY_ABORT,
	/* The transaction's fates are all known; READY or CLOSED follows. */
	SMTP_CLIENT_DONE,
	/* The session is over: close. .reply why, when not by our QUIT; .step
	 * where. A 5xx at auth is our configuration's fault: keep the mail.
	 * The output may hold a QUIT: write it if that costs no waiting. */
	SMTP_CLIENT_CLOSED,
};

struct smtp_client_event {
	enum smtp_client_event_type type;
	struct span text;
	struct span mechanism;
	/* BODY: lines that start with a dot need another, and the body must
	 * end in CRLF. Else: exactly .size octets of the transaction. */
	bool dot_stuff;
	/* Lives until the client is freed; NULL when our QUIT was the end. */
	const struct reply *reply;
	bool local; /* CLOSED: .reply is ours, the server never said it */
	enum smtp_client_step step;
};

struct smtp_client *smtp_client_new(const struct smtp_client_options *options);
void smtp_client_free(struct smtp_client **c);

size_t smtp_client_feed(
    struct smtp_client *c, struct span in, struct smtp_client_event *ret_event);
struct span smtp_client_output(const struct smtp_client *c);
void smtp_client_sent(struct smtp_client *c, size_t n);

/* Allowed after READY. The transaction and what it points to must live until
 * DONE. What the server's offers forbid is decided at once, without a byte
 * sent: too big for SIZE (5.3.4), SMTPUTF8 needed and absent (5.6.7), 8-bit
 * body and no 8BITMIME (5.6.3), REQUIRETLS and a server without (5.7.30). */
void smtp_client_start(
    struct smtp_client *c, const struct smtp_client_transaction *t);
/* After BODY: all octets are written (the terminating dot is added here). */
void smtp_client_body_sent(struct smtp_client *c);
/* The body cannot be read from the spool: with BDAT or DATA alike the only
 * safe way out is to break the session; all recipients become temporary. */
void smtp_client_body_failed(struct smtp_client *c);
void smtp_client_secured(struct smtp_client *c);
/* Those that the handshake has left us: "-PLUS" needs something to bind to. */
void smtp_client_use_mechanisms(
    struct smtp_client *c, struct span auth_mechanisms);
/* base64, or "*" to give up; `initial` may be empty after AUTH. */
void smtp_client_auth_response(struct smtp_client *c, struct span base64);
void smtp_client_auth_cancel(struct smtp_client *c);
void smtp_client_quit(struct smtp_client *c);
/* The connection broke or a deadline passed (feed first what had arrived: it
 * may hold the reason): fates are settled as temporary with this reason; next
 * event is DONE (in a transaction), then CLOSED. */
void smtp_client_broken(struct smtp_client *c, struct span why);

/* Valid from DONE until the next start. */
const struct smtp_client_fate *smtp_client_fate(
    const struct smtp_client *c, size_t rcpt_index);

int smtp_client_offers(const struct smtp_client *c);
/* LIMITS of RFC 9422; 0: not told. Recipients beyond RCPTMAX are temporary
 * (452 4.5.3) without being asked: give at most that many. */
uint32_t smtp_client_rcpt_max(const struct smtp_client *c);
uint32_t smtp_client_mail_max(const struct smtp_client *c);
/* BDAT was offered and then refused as an unknown or misplaced command: the
 * next session with this server does well to set chunk_min to UINT32_MAX. */
bool smtp_client_chunking_refused(const struct smtp_client *c);
enum smtp_client_step smtp_client_step(const struct smtp_client *c);
const char *smtp_client_step_name(enum smtp_client_step step);
/* RFC 5321 §4.5.3.2: greeting 300, MAIL 300, RCPT 300, DATA 120, body block
 * 180, final dot 600. */
int smtp_client_step_seconds(const struct smtp_client *c);
/* May the session go from one step to the other? What is asserted at each
 * move; here for the test that holds the diagram in client.c to it. */
bool smtp_client_step_follows(
    enum smtp_client_step to, enum smtp_client_step from);
