/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The receiving server's inside: one thread, many clients. smtp_sink.c owns
 * the sink: listeners, counts, ledger, scripted answers. sink_client.c speaks
 * SMTP with one client.
 */

#include "base/buf.h"
#include "base/netaddr.h"
#include "loop/loop.h"
#include "tls/stream.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { SINK_SCRIPTS_MAX = 16, SINK_CLIENTS_MAX = 100000 };

enum sink_moment {
	SINK_CONNECT,
	SINK_MAIL,
	SINK_RCPT,
	SINK_DATA,
	SINK_END,
	SINK_MOMENTS,
};

/* Another reply than yes, for a share of the occasions, evenly spread. */
struct sink_script {
	enum sink_moment moment;
	double share, due;
	const char *reply;
};

struct sink {
	struct loop *loop;
	struct tls_context *tls; /* NULL: no STARTTLS */
	FILE *ledger; /* NULL: none */
	int64_t delay_us; /* before each reply to a message */
	bool chunking;
	struct sink_script scripts[SINK_SCRIPTS_MAX];
	size_t script_count;
	struct loop_watch listener, statistics;
	struct loop_timer flush_timer;
	const char *statistics_path;

	uint64_t messages, recipients, bytes, refused;
	uint64_t connections, tls_connections, open, open_max;
	int64_t first_us, last_us; /* monotonic, of accepted messages */
};

/* The scripted reply of this occasion, or NULL for yes. */
const char *sink_answer(struct sink *sink, enum sink_moment moment);
/* `head`: the first bytes of the message, when there is a ledger. */
void sink_accepted(
    struct sink *sink, uint32_t recipients, uint64_t bytes, struct span head);

/* Takes fd; the client frees itself when its connection ends. */
void sink_client_start(struct sink *sink, int fd);
