/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What MAIL and RCPT may carry beside the path: SIZE (RFC 1870), BODY
 * (RFC 6152, 3030), SMTPUTF8 (RFC 6531), AUTH (RFC 4954), and RET, ENVID,
 * NOTIFY, ORCPT (RFC 3461). Shared by both sides: the server parses these from
 * commands, the client writes them.
 */

#include "mail/address.h"

#include <stdbool.h>
#include <stdint.h>

enum smtp_body { SMTP_BODY_7BIT, SMTP_BODY_8BITMIME, SMTP_BODY_BINARYMIME };

enum smtp_ret { SMTP_RET_UNSET, SMTP_RET_FULL, SMTP_RET_HDRS };

enum smtp_notify {
	SMTP_NOTIFY_UNSET = 0, /* treated as FAILURE and DELAY */
	SMTP_NOTIFY_NEVER = 1,
	SMTP_NOTIFY_SUCCESS = 2,
	SMTP_NOTIFY_FAILURE = 4,
	SMTP_NOTIFY_DELAY = 8,
};

struct smtp_mail {
	struct address sender;
	uint64_t size; /* declared; 0: not */
	enum smtp_body body;
	bool utf8;
	bool requiretls; /* RFC 8689 */
	enum smtp_ret ret;
	struct span envid; /* still xtext, checked */
};

struct smtp_rcpt {
	struct address recipient;
	uint8_t notify; /* enum smtp_notify bits */
	struct span orcpt; /* "rfc822;xtext", checked */
};
