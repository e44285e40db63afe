/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The load generator's inside: one thread, many sessions. The `load` hands out
 * message numbers and counts what became of them; a session turns one
 * connection after the other. smtp_load.c owns the load, load_session.c the
 * sessions, load_message.c what a message looks like.
 */

#include "base/buf.h"
#include "base/netaddr.h"
#include "histogram.h"
#include "loop/loop.h"
#include "tls/stream.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum load_mode {
	LOAD_PIPELINED, /* MAIL RCPT DATA in one piece, then the message */
	LOAD_AHEAD, /* as above, and the next ones behind the final dot */
	LOAD_LOCKSTEP, /* each command waits for its reply */
};

struct load_options {
	struct netaddr to;
	uint64_t messages;
	uint64_t per_connection; /* messages; 0: any number */
	uint64_t rate; /* messages per second; 0: as fast as it goes */
	uint32_t connections, size, recipients, domains;
	enum load_mode mode;
	bool starttls, implicit_tls;
	const char *username, *password; /* NULL: no AUTH */
	const char *sender, *recipient; /* {n} message, {r} recipient, {d} */
	const char *tag; /* ids are TAG-NUMBER */
	/* File for the ids of acknowledged messages and when they were. */
	const char *ledger;
	int64_t stall_us; /* give up when nothing happens for so long */
};

struct load {
	struct load_options options;
	struct loop *loop;
	struct tls_context *tls;
	FILE *ledger;
	struct buf body; /* the text that all messages end with */
	char date[40];

	uint64_t next_number; /* the first one not handed out */
	uint64_t *returned; /* handed out, but not sent: one per session */
	uint64_t returned_count;
	uint32_t open_sessions; /* that still have work */

	uint64_t acknowledged, refused, unknown, recipients_refused, bytes;
	uint64_t connects, failures_in_row, failures;
	int64_t start_us, end_us, last_progress_us; /* monotonic */
	struct histogram time_to_reply;
	char first_refusal[256], failure[256];
};

/* The next number to send; false when there are no more. */
bool load_take(struct load *load, uint64_t *ret_number);
/* When the message of this number may be begun; monotonic. */
int64_t load_due_us(const struct load *load, uint64_t number);
/* A number whose message was not sent: another session takes it. */
void load_give_back(struct load *load, uint64_t number);
void load_acknowledged(struct load *load, uint64_t number, int64_t time_us);
void load_refused(struct load *load, struct span reply);
/* The first one is kept, to say why. */
void load_note_refusal(struct load *load, struct span reply);
/* Sent as a whole, but the connection broke before the reply. */
void load_unknown(struct load *load);
/* A connection ended before its time; the first reason is kept. */
void load_failed(struct load *load, struct span why);
/* Ends the run: what is wrong will not mend itself. */
void load_give_up(struct load *load, struct span why);
void load_session_over(struct load *load);

struct session;

/* Connects at once. The load outlives its sessions. */
struct session *session_new(struct load *load);
void session_free(struct session **session);

void message_prepare(struct load *load); /* load->body, load->date */
void message_append_mail(const struct load *load, uint64_t n, struct buf *out);
void message_append_rcpt(
    const struct load *load, uint64_t n, uint32_t recipient, struct buf *out);
/* The header goes to `out`; returns what must follow it, without the dot. */
struct span message_append_header(
    const struct load *load, uint64_t n, struct buf *out);
