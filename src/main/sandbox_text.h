/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the sandbox writes: its two configs, and its lines for people. */

#include "base/buf.h"
#include "directory/directory.h"

struct sandbox_places {
	char *dir; /* as given; after preparation absolute */
	uint16_t port;
	char *certificate, *key;
	char *relay_data, *receiver_data, *receiver_events, *maildir;
	char *credential;
};

/* Fills all paths from dir. They live as long as the process. */
void sandbox_fill_places(struct sandbox_places *p);
void sandbox_relay_config(const struct sandbox_places *p, struct buf *out);
void sandbox_receiver_config(const struct sandbox_places *p, struct buf *out);

struct sandbox_credential {
	char username[64];
	char password[64];
};

/* The one kept from a former run if it is still good, else a new one, kept. */
MUST_CHECK int sandbox_credential(const struct sandbox_places *p,
    struct directory *directory, struct sandbox_credential *ret_credential,
    struct failure *ret_failure);

void sandbox_print_welcome(const struct sandbox_places *p,
    const struct sandbox_credential *c, bool json);
/* One line per `accepted` event of the receiving server. */
void sandbox_print_arrivals(struct span events, bool json);
