/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The Received field that every accepted message gets (RFC 5321 §4.4). */

#include "base/buf.h"
#include "base/netaddr.h"

struct trace {
	struct span helo; /* as the client said it, escaped here */
	struct netaddr client; /* family NETADDR_NONE: local submission */
	struct span by; /* our host name */
	struct span protocol; /* "ESMTPSA", "UTF8SMTPS", "HTTP", "local" */
	struct span tls; /* "TLSv1.3 TLS_AES_256_GCM_SHA384" or empty */
	struct span user; /* authenticated user, or empty */
	struct span message_id; /* ours, in text */
	struct span
	    only_recipient; /* "for <…>" when there is exactly one, or empty */
	int64_t wall_us;
};

/* Appends the whole folded field with its CRLF; no line over 78 octets unless
 * a single token is longer. */
void trace_append_received(const struct trace *t, struct buf *out);
