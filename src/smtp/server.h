/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The server's half of an SMTP session, without a socket, a clock or a policy:
 * bytes go in, bytes to write and events come out. The driver (receive) owns
 * the connection, decides what the events ask, and gives time its meaning.
 *
 * How a driver turns it:
 *
 *	n = smtp_server_feed(s, input, &event);   consume n bytes of input
 *	switch (event.type) …                     maybe smtp_server_answer()
 *	again while n > 0 or an event came
 *	write smtp_server_output(), then smtp_server_sent()
 *
 * Output may be written at any time; writing when input is used up or the
 * session waits gathers the replies to a pipelined burst into one write.
 * While an answer is due, feed consumes nothing. Spans in events live until
 * the next call of feed or answer; addresses until the transaction ends.
 *
 * Framing: only CRLF ends a line and only CRLF.CRLF ends a message. A bare CR
 * or LF in a command or a message is refused; with `normalise_newlines` it
 * becomes CRLF before anything looks at it. NUL bytes are refused.
 *
 * Protocol: RFC 5321, 1870 SIZE, 2920 PIPELINING, 6152 8BITMIME, 6531
 * SMTPUTF8, 2034 ENHANCEDSTATUSCODES, 3030 CHUNKING and BINARYMIME, 3461 DSN,
 * 3207 STARTTLS, 4954 AUTH, 9422 LIMITS, 2033 LMTP. The session never holds
 * more than a command line; message bytes pass through as views of the input.
 */

#include "smtp/parameters.h"
#include "smtp/reply.h"

struct smtp_server;

/* Spans are copied by smtp_server_new. */
struct smtp_server_options {
	struct span hostname;
	struct span banner; /* after the host name; may be empty */
	bool lmtp;
	bool starttls; /* offer it while the session is plain */
	bool auth; /* AUTH is possible once secured */
	bool auth_required; /* MAIL without AUTH: 530 5.7.0 */
	/* "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN" */
	struct span auth_mechanisms;
	bool requiretls; /* offer REQUIRETLS (RFC 8689) once secured */
	bool secured; /* implicit TLS: secured from the first byte */
	bool allow_literals; /* user@[192.0.2.1] as a recipient */
	bool normalise_newlines;
	uint64_t size_max; /* octets of a message; 0: any */
	uint32_t recipients_max; /* per transaction; then 452 4.5.3. 0: 1000 */
	uint32_t errors_max; /* bad commands before 421 4.7.0; 0: any */
	/* NOOP, RSET, VRFY, HELP, MAIL… without a message between; 0: any */
	uint32_t idle_commands_max;
	uint32_t header_line_max; /* octets of a message's line; 0: any */
};

enum smtp_server_event_type {
	/* needs more input, or an answer is due */
	SMTP_SERVER_NONE,
	/* .text is the name; nothing to answer */
	SMTP_SERVER_HELO,
	/* write the output, DROP all unread input, do the handshake, then
	 * smtp_server_secured */
	SMTP_SERVER_STARTTLS,
	/* answer: .mechanism, .text (initial response, still base64;
	 * .has_initial tells "" from none) */
	SMTP_SERVER_AUTH,
	/* answer: .text, base64. "*" is handled inside */
	SMTP_SERVER_AUTH_DATA,
	/* answer: .mail */
	SMTP_SERVER_MAIL,
	/* answer: .rcpt */
	SMTP_SERVER_RCPT,
	/* .text is the next piece: CRLF lines, dots unstuffed; nothing to
	 * answer */
	SMTP_SERVER_BODY,
	/* answer: the message is complete, .size octets */
	SMTP_SERVER_END,
	/* the transaction is over without END: drop it */
	SMTP_SERVER_RESET,
	/* write the output, then close (shut down sending, read on for a
	 * moment: a client amid its message must see the reply); .text says
	 * why */
	SMTP_SERVER_CLOSE,
	/* the exchange is over without an answer: drop its state. Already
	 * replied to and counted */
	SMTP_SERVER_AUTH_CANCEL,
};

struct smtp_server_event {
	enum smtp_server_event_type type;
	struct span text;
	struct span mechanism; /* upper case */
	bool has_initial;
	const struct smtp_mail *mail;
	const struct smtp_rcpt *rcpt;
	uint64_t size;
};

struct smtp_server *smtp_server_new(const struct smtp_server_options *options);
void smtp_server_free(struct smtp_server **s);

/* Puts the greeting into the output; or, with a refusal (421, 554), that, and
 * the session is over. Call once. */
void smtp_server_greet(struct smtp_server *s, const struct reply *refusal);

size_t smtp_server_feed(
    struct smtp_server *s, struct span in, struct smtp_server_event *ret_event);

/* Answers MAIL, RCPT or END; a 421 or 521 also ends the session. With LMTP the
 * answer to END is repeated for each accepted recipient: a message is kept for
 * all of them or none. After terminate a late answer is ignored. */
void smtp_server_answer(struct smtp_server *s, const struct reply *reply);
/* Answers AUTH and AUTH_DATA: another challenge (base64), success, failure. */
void smtp_server_auth_challenge(struct smtp_server *s, struct span base64);
void smtp_server_auth_done(struct smtp_server *s);
/* RFC 4954 §6; the session counts it as an error. */
void smtp_server_auth_failed(struct smtp_server *s, const struct reply *reply);

/* The TLS handshake is done: all earlier knowledge is forgotten
 * (RFC 3207 §4.2), EHLO starts again. */
void smtp_server_secured(struct smtp_server *s);
/* What is offered from the next EHLO on: "-PLUS" depends on the handshake. */
void smtp_server_use_mechanisms(
    struct smtp_server *s, struct span auth_mechanisms);
/* Ends the session from outside (shutdown, deadline, resource limits): the
 * reply goes out at once, and RESET (in a transaction) and CLOSE come from the
 * next feed. While END waits for its answer, that answer goes out first. */
void smtp_server_terminate(struct smtp_server *s, const struct reply *reply);

struct span smtp_server_output(const struct smtp_server *s);
void smtp_server_sent(struct smtp_server *s, size_t n);

/* True while MAIL…END is open: shutdown lets it finish. */
bool smtp_server_in_transaction(const struct smtp_server *s);
bool smtp_server_waits_for_answer(const struct smtp_server *s);
/* Name of the present step, for logs. */
const char *smtp_server_step(const struct smtp_server *s);
/* "ESMTPSA" and its kin for the trace field (RFC 3848, RFC 6531 §4.3). */
struct span smtp_server_protocol(const struct smtp_server *s);
