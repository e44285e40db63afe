/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Message ids: 26 characters of Crockford base32, ordered by time (a ULID).
 * Inside the 80 bits that a ULID leaves free stand the node and the message's
 * number in the spool, so that an id finds its message without an index. The
 * number is scrambled with the spool's key: an id tells a recipient nothing
 * about how many messages went before.
 */

#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

#define MSGID_TEXT_SIZE 27 /* with NUL */

struct msgid {
	uint8_t
	    bytes[16]; /* big-endian: 48 bits of ms, 16 of node, 64 of number */
};

struct msgid msgid_make(
    int64_t wall_us, uint16_t node, uint64_t mno, uint64_t key);
uint64_t msgid_mno(const struct msgid *id, uint64_t key);
uint16_t msgid_node(const struct msgid *id);
int64_t msgid_wall_us(const struct msgid *id); /* to the millisecond */
/* A random id of now: for events. */
struct msgid msgid_random(
    int64_t wall_us, uint64_t random_high, uint64_t random_low);
const char *msgid_format(
    const struct msgid *id, char buffer[static MSGID_TEXT_SIZE]);
/* Accepts lower case; false unless 26 characters of the alphabet in range. */
bool msgid_parse(struct span s, struct msgid *ret_id);
