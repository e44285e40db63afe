/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A set of addresses with scopes, as keyed fingerprints in memory: eight octets
 * an entry. Sixteen bits of a fingerprint choose one of 65536 sorted arrays,
 * sixty stand in it beside the cause. So 76 bits tell two addresses apart: with
 * 100 million entries a lookup of an address that is not there says otherwise
 * once in 7.5 × 10^14. The key is drawn anew in each process: nobody can make
 * addresses that collide, nor aim at one array.
 *
 * Any thread; a lookup waits at most for one array to be moved.
 */

#include "directory/suppression.h"

struct suppression_index;

struct suppression_index *suppression_index_new(void);
void suppression_index_free(struct suppression_index **index);
/* Room for so many in all, so that arrays need not grow one by one. */
void suppression_index_reserve(
    struct suppression_index *index, uint64_t entries);
/* Takes the contents of `from`, which is then empty. */
void suppression_index_replace(
    struct suppression_index *index, struct suppression_index *from);

/* What an entry is found by; the address in its normal form. */
struct suppression_key {
	uint32_t tenant, stream;
	struct span address;
};

void suppression_index_put(struct suppression_index *index,
    const struct suppression_key *key, enum suppression_cause cause);
void suppression_index_remove(
    struct suppression_index *index, const struct suppression_key *key);
bool suppression_index_is_empty(const struct suppression_index *index);
/* Looks for the relay's, the tenant's and the stream's entry. */
bool suppression_index_find(struct suppression_index *index,
    const struct suppression_key *key, enum suppression_cause *ret_cause);
struct suppression_memory suppression_index_memory(
    struct suppression_index *index);
