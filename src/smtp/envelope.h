/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * MAIL and RCPT as a client writes them. What goes into a command comes from
 * stored envelopes, that is from strangers in the end: nothing that could end
 * a command or begin another one leaves here (CVE-2020-28021 and its kin), it
 * is refused instead.
 */

#include "base/buf.h"
#include "smtp/client.h"
#include "smtp/offers.h"

/* Something without spaces and control characters: host names, mechanisms,
 * base64. Not empty, not beyond 12,288 octets (RFC 4954 §4). */
bool envelope_is_word(struct span s);

/* False when the server's offers or the envelope forbid the transaction, or
 * the one recipient, with the reason. */
bool envelope_allows(const struct smtp_client_transaction *t,
    const struct offers *offers, struct reply *ret_reply);
bool envelope_allows_rcpt(const struct smtp_client_rcpt *r,
    const struct offers *offers, struct reply *ret_reply);

void envelope_append_mail(const struct smtp_client_transaction *t,
    const struct offers *offers, struct buf *out);
void envelope_append_rcpt(const struct smtp_client_rcpt *r,
    const struct offers *offers, struct buf *out);
