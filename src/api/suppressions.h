/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the handlers of suppressions have in common; private to api. */

#include "api/internal.h"
#include "base/arena.h"

#define SUPPRESSION_CAUSE_HELP                                                 \
	"a cause is manual, no_such_user, no_such_domain, moved, "             \
	"mailbox_disabled, bounce, complaint or unsubscribe, not `%.64s`"

struct suppression_scope {
	uint32_t tenant, stream;
};

struct suppression_scope_names {
	const char *tenant, *stream; /* NULL: default; all of the tenant's */
	bool relay;
};

/* False: the answer is made. */
bool suppression_scope_find(struct call *call,
    const struct suppression_scope_names *names,
    struct suppression_scope *ret_scope);
/* "relay", "tenant" or "stream" */
const char *suppression_scope_name(const struct suppression *s);
/* What a request asks to see. False: the answer is made. */
bool suppression_query_read(struct call *call, struct arena *arena,
    struct suppression_query *ret_query);
/* NULL, or why it is no address. */
const char *suppression_address_parse(
    struct span text, struct arena *arena, struct span *ret_address);
