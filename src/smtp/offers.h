/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a server offered in its reply to EHLO or LHLO, read as a stranger's
 * words: unknown keywords are passed over, a number that is none counts as
 * absent, and what does not fit is dropped. The first line is the greeting and
 * offers nothing.
 */

#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

#define OFFERS_AUTH_SIZE 256

struct offers {
	int flags; /* enum smtp_client_offers */
	uint64_t size_max; /* octets; 0: no fixed limit */
	uint32_t rcpt_max; /* recipients per transaction; 0: not told */
	uint32_t mail_max; /* transactions per session; 0: not told */
	char auth[OFFERS_AUTH_SIZE]; /* mechanisms, a space after each */
	size_t auth_len;
};

/* `text` is the reply's text: lines joined by '\n', without codes. */
void offers_parse(struct span text, struct offers *ret_offers);
bool offers_has_mechanism(const struct offers *o, struct span mechanism);
