/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The live SMTP dialogue of sessions, for `posthouse trace`. Costs one atomic
 * load per session step while nobody listens. Lines go into a bounded ring; a
 * slow listener loses lines and is told how many. Secrets of AUTH and message
 * bodies are never given to a tap.
 */

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

enum tap_direction { TAP_IN, TAP_OUT, TAP_NOTE }; /* to us, from us, a remark */

struct tap_session {
	uint64_t id; /* unique in this process */
	bool inbound; /* a client of ours; else we are the client */
	const char *peer; /* address in text */
};

uint64_t tap_new_session_id(void);
bool tap_is_on(void); /* somebody listens */
/* One or more protocol lines; each becomes a trace line. Any thread. */
void tap_lines(const struct tap_session *session, enum tap_direction direction,
    struct span lines);

/* A listener, one thread at a time. filter: only sessions whose peer address
 * begins with it; empty: all. */
struct tap_listener;
struct tap_listener *tap_listen(struct span peer_prefix);
void tap_listener_free(struct tap_listener **listener);
/* Appends JSON lines {"time","session","direction","peer","side","line"};
 * waits up to timeout for the first. Returns the number appended. */
size_t tap_read(
    struct tap_listener *listener, int64_t timeout_us, struct buf *out);
