/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Inbound SMTP: listeners and sessions of one reactor, and what reactors share
 * (counts per client network, lockouts). A session drives an smtp_server over
 * a stream, authenticates by SASL, and hands messages to intake.
 *
 * Deadlines, all from the config: a whole session, silence, one command line,
 * one message, and a least rate for messages: a client that dribbles is cut as
 * surely as one that is silent.
 */

#include "config/config.h"
#include "directory/directory.h"
#include "intake/intake.h"
#include "loop/loop.h"
#include "tls/stream.h"

/* What all reactors' receivers share; thread-safe. */
struct receive_shared;
struct receive_shared *receive_shared_new(void);
/* No more sessions than these, whatever the config says: the process has other
 * uses for its descriptors. Call before there are receivers. */
void receive_shared_cap(struct receive_shared *shared, uint64_t sessions);
void receive_shared_free(struct receive_shared **shared);

struct receiver;

struct receiver_options {
	struct loop *loop;
	struct config *config; /* counted by the receiver */
	struct tls_context *tls; /* counted; NULL: none configured */
	struct intake *intake;
	struct directory *directory;
	struct receive_shared *shared;
	const int *listen_fds; /* one per config listener, -1 for those
					   not SMTP; taken on success */
};

MUST_CHECK int receiver_new(
    const struct receiver_options *options, struct receiver **ret_receiver);
/* Sessions must be over (receiver_count is 0) or are cut, after a 421 where
 * they can be told. */
void receiver_free(struct receiver **receiver);
/* New sessions use these; open ones keep theirs. Listeners stay as they are. */
void receiver_reload(
    struct receiver *receiver, struct config *config, struct tls_context *tls);
/* No new connections; idle sessions get 421 4.3.2, others when their
 * transaction is over. */
void receiver_drain(struct receiver *receiver);
size_t receiver_count(const struct receiver *receiver);

struct receive_stats {
	uint64_t connections, sessions_open, sessions_tls;
	uint64_t refused; /* at the door: limits, lockouts */
	uint64_t auth_failures, auth_successes;
	uint64_t messages_accepted, messages_refused, recipients_refused;
	uint64_t timeouts;
};

/* Sums over all receivers of `shared`. Any thread. */
void receive_stats(
    struct receive_shared *shared, struct receive_stats *ret_stats);
