/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* TLSA records (RFC 6698 §2.1), from the octets of strangers. Pure. */

#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

struct tls_dane_record {
	uint8_t usage, selector, matching;
	struct span data; /* borrowed */
};

/* False: too short to be one. The data may well be empty. */
bool tls_dane_parse(struct span rdata, struct tls_dane_record *ret_record);
/* Can it authenticate a mail server? RFC 7672 §3.1: only DANE-TA(2) and
 * DANE-EE(3), with a selector, a matching type and data that are known and fit
 * each other. */
bool tls_dane_is_usable(const struct tls_dane_record *record);
