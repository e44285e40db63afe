/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Suppressions: recipient addresses that must not be sent to, each for the
 * whole relay, for a tenant or for one of his streams, with its cause and the
 * evidence. Rows stand in the directory's database; what a session asks is
 * answered from fingerprints in memory (suppression_index.c), so that nobody
 * on mail's way waits for a disk.
 *
 * Addresses are compared in a normal form: the domain as canonical addresses
 * have it (lower-case A-labels), the ASCII letters of the local part in lower
 * case. RFC 5321 §2.4 lets hosts tell `A@` from `a@`; hardly one does, and
 * mail to a dead or complaining address is the worse mistake. Tags (`a+b@`)
 * and letters beyond ASCII are told apart.
 *
 * An entry past its expiry stays in force until suppressions_expire has taken
 * it out, which the service does every second.
 *
 * Threads: suppression_find may be called by any; all else blocks on the disk
 * and is not for reactors.
 */

#include "directory/directory.h"
#include "mail/address.h"

/* These numbers are stored: never change one. */
enum suppression_cause {
	SUPPRESSION_MANUAL = 1,
	SUPPRESSION_NO_SUCH_USER = 2,
	SUPPRESSION_NO_SUCH_DOMAIN = 3,
	SUPPRESSION_MOVED = 4,
	SUPPRESSION_MAILBOX_DISABLED = 5,
	SUPPRESSION_BOUNCE = 6, /* another permanent fault of the address */
	SUPPRESSION_COMPLAINT = 7,
	SUPPRESSION_UNSUBSCRIBE = 8,
	SUPPRESSION_CAUSES
};

const char *suppression_cause_name(enum suppression_cause cause);
bool suppression_cause_parse(
    struct span name, enum suppression_cause *ret_cause);

/* Octets of evidence that are kept. */
#define SUPPRESSION_EVIDENCE_MAX 1000

struct suppression {
	uint64_t id; /* given by the directory */
	uint32_t tenant; /* 0: the whole relay */
	uint32_t stream; /* 0: all of the tenant's */
	struct span address; /* canonical or normal */
	enum suppression_cause cause;
	struct span evidence; /* a reply, a report's words, a message id */
	int64_t created_us; /* wall; 0: now */
	int64_t expire_us; /* wall; 0: never */
};

/* The normal form of a canonical address. Longer ones are cut, which no
 * canonical address is. */
struct span suppression_normalise(
    struct span address, char buffer[static ADDRESS_MAX + 1]);

/* Reads all rows into memory; before it, nothing is found. */
MUST_CHECK int suppressions_load(
    struct directory *d, struct failure *ret_failure);

/* Entries in memory, and its octets. */
struct suppression_memory {
	uint64_t entries, bytes;
};
struct suppression_memory suppressions_memory(struct directory *d);

/* May mail of this tenant's stream not go to the canonical address? */
bool suppression_find(struct directory *d, uint32_t tenant, uint32_t stream,
    struct span address, enum suppression_cause *ret_cause);

/* Writes entries in one transaction, durable when it returns. One that is
 * there already gets the new cause, evidence and expiry when `replace`; else
 * only if it would expire. *ret_changed: how many are new or other now. */
MUST_CHECK int suppressions_add(struct directory *d,
    const struct suppression *entries, size_t count, bool replace,
    uint64_t *ret_changed, struct failure *ret_failure);
/* Exactly this scope and address; ERR_NOT_FOUND. */
MUST_CHECK int suppression_remove(struct directory *d, uint32_t tenant,
    uint32_t stream, struct span address, struct failure *ret_failure);
/* Takes out what has expired, at most `most`. Returns how many. */
MUST_CHECK int suppressions_expire(
    struct directory *d, int64_t now_us, uint32_t most);

struct suppression_query {
	bool has_tenant, has_stream; /* whether the next two count */
	uint32_t tenant, stream;
	struct span address; /* empty: any */
	enum suppression_cause cause; /* 0: any */
	uint64_t after; /* ids above this one */
	uint32_t limit;
};

/* Spans live until it returns. */
typedef void suppression_fn(void *arg, const struct suppression *entry);
/* In order of id. */
MUST_CHECK int suppressions_list(struct directory *d,
    const struct suppression_query *query, suppression_fn *fn, void *arg,
    struct failure *ret_failure);
