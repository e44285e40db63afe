/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the files of this room share. Server side: line.c and framer.c cut
 * input into commands and message pieces, verbs.c and auth.c act on commands,
 * body.c on message bytes, server.c holds the steps together.
 */

#include "smtp/command.h"
#include "smtp/server.h"

/* --- parameters.c: the words behind the path --- */

struct path {
	struct address address;
	bool is_ascii; /* as sent */
	const char *reason;
};

MUST_CHECK int parameters_parse_mail(struct span list, struct arena *arena,
    struct smtp_mail *mail, struct reply *ret_fault);
MUST_CHECK int parameters_parse_rcpt(struct span list, bool utf8,
    struct arena *arena, struct smtp_rcpt *rcpt, struct reply *ret_fault);

/* --- line.c: command lines --- */

enum {
	LINE_MAX_COMMAND = 2048, /* RFC 5321 §4.5.3.1.4 and its extensions' */
	LINE_MAX_AUTH = 12288, /* RFC 4954 §4.3 */
};

enum line_outcome {
	LINE_MORE, /* all input is taken, no line yet */
	LINE_READY, /* .text is it, until the next take */
	LINE_TOO_LONG, /* was read to its end and dropped */
	LINE_BROKEN, /* bare CR or LF, or NUL: what follows means nothing */
};

struct line {
	struct buf buf;
	struct span text;
	bool normalise; /* bare CR and bare LF end a line too */
	bool whole; /* buf holds a line already handed out */
	bool held_cr; /* normalise: CR came last, LF may follow */
	bool draining; /* too long: only its end is looked for */
	bool after_cr; /* draining: CR came last */
};

enum line_outcome line_take(struct line *l, struct span *in, bool is_auth);
void line_reset(struct line *l);

/* --- framer.c: message bytes --- */

enum framer_outcome {
	FRAMER_MORE, /* the piece belongs to the message; go on */
	FRAMER_END, /* and CRLF.CRLF stood behind the piece */
	FRAMER_BARE_CR,
	FRAMER_BARE_LF,
	FRAMER_NUL,
};

enum framer_state {
	FRAMER_START, /* behind a true CRLF */
	FRAMER_TEXT,
	FRAMER_AFTER_CR,
	FRAMER_AFTER_DOT, /* a dot at the start: stuffing, or the end */
	FRAMER_AFTER_DOT_CR,
};

struct framer {
	enum framer_state state;
	bool dots; /* DATA: unstuff, and look for the end */
	bool normalise; /* bare CR and bare LF become CRLF */
	bool line_too_long; /* seen once */
	uint32_t line_max; /* 0: any */
	size_t line_len;
	struct buf scratch; /* normalise: the piece handed out last */
};

void framer_begin(struct framer *f, bool dots);
/* Takes bytes off *in. The piece is a view of *in or of scratch. */
enum framer_outcome framer_take(
    struct framer *f, struct span *in, struct span *ret_piece);
/* No more bytes will come (BDAT LAST): what was held back, if anything. */
enum framer_outcome framer_finish(struct framer *f, struct span *ret_piece);

/* --- server.c: the session --- */

enum step {
	STEP_GREETING,
	STEP_HELO,
	STEP_READY,
	STEP_TLS,
	STEP_AUTH,
	STEP_AUTH_ANSWER,
	STEP_MAIL_ANSWER,
	STEP_ENVELOPE,
	STEP_RCPT_ANSWER,
	STEP_DATA,
	STEP_CHUNK,
	STEP_CHUNKS,
	STEP_COMMIT,
	STEP_CLOSED,
	STEP_COUNT,
};

#define STEP_BIT(step) (1u << (step))

enum { EVENTS_MAX = 6 };

struct smtp_server {
	struct smtp_server_options options;
	char *names; /* what the options' spans view */
	enum step step;
	bool secured, authenticated, extended; /* extended: EHLO or LHLO */
	bool transaction; /* from MAIL's acceptance to END or RESET */
	uint32_t errors, idle_commands;
	uint32_t accepted, refused; /* recipients of this transaction */
	struct arena *arena; /* of this transaction; NULL before MAIL */
	struct smtp_mail mail;
	struct smtp_rcpt rcpt;
	struct line line;
	struct framer framer;
	uint64_t size; /* octets of the message passed on */
	uint64_t chunk_size, chunk_left;
	bool chunk_last;
	enum step chunk_return; /* where a refused chunk leads */
	uint32_t chunk_replies; /* and how often it is refused: LMTP */
	struct reply refusal; /* code 0: none. The message is read, not kept */
	char refusal_text[80];
	struct buf output;
	struct buf farewell; /* terminate: goes out behind END's answer */
	struct smtp_server_event events[EVENTS_MAX];
	unsigned event_first, event_count;
};

void server_enter(struct smtp_server *s, enum step step);
void server_emit(struct smtp_server *s, struct smtp_server_event event);
void server_say(struct smtp_server *s, const struct reply *reply);
/* The client's mistake: counts, and ends the session past errors_max. */
void server_fault(struct smtp_server *s, const struct reply *reply);
/* Counts a command that does nothing; false: past the limit, session over. */
bool server_count_idle(struct smtp_server *s);
/* Ends the transaction, if one is open, with RESET. */
void server_reset(struct smtp_server *s);
/* Reply (may be NULL), RESET if a transaction is open, CLOSE. */
void server_close(
    struct smtp_server *s, const struct reply *reply, struct span why);

/* A step's way of reading: false when it needs more input. */
typedef bool take_fn(struct smtp_server *s, struct span *in);
take_fn verbs_take_command, auth_take_line, body_take_data, body_take_chunk;

/* auth.c, body.c: the longer verbs' handlers */
typedef void verb_fn(struct smtp_server *s, struct span argument);
verb_fn auth_on_auth, body_on_data, body_on_bdat;
/* The line was broken or too long: says so; true when it was. */
bool verbs_refuse_line(struct smtp_server *s, enum line_outcome outcome);

/* The rows of the step table, for the test that walks them. */
const char *server_step_name(enum step step);
unsigned server_step_next(enum step step); /* STEP_BIT()s */
