/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Where a domain wants TLS reports (RFC 8460 §3), from the octets of
 * strangers. Pure. */

#include "base/span.h"

#include <stdbool.h>

/* The next mailto: address of a record "v=TLSRPTv1; rua=mailto:…,https:…",
 * percent-encoding undone into `buffer`. *at is 0 first. False: no more, or it
 * is no such record. Addresses are not judged further. */
bool sts_rua_next(struct span text, size_t *at, char *buffer, size_t size);
