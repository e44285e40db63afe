/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The pure half of the sendmail shim: what the options mean, and what becomes
 * of the text on standard input. Programs have handed mail over in this way
 * since 1983, so forgiving what they do is the point: any newlines, no header,
 * bare user names.
 */

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>

enum sendmail_mode {
	SENDMAIL_SUBMIT,
	SENDMAIL_LIST, /* -bp */
	SENDMAIL_ALIASES, /* -bi */
	SENDMAIL_FLUSH, /* -q */
};

struct sendmail_options {
	enum sendmail_mode mode;
	bool reads_recipients; /* -t */
	bool ignores_dots; /* -i, -oi: a lone dot is text */
	bool is_verbose;
	const char *sender; /* -f; NULL: not given */
	const char *full_name; /* -F */
	const char *notify, *ret, *envid; /* -N, -R, -V */
	const char *config, *control;
	char **recipients; /* what is left of argv */
	size_t recipient_count;
};

/* ERR_SYNTAX with a sentence for what cannot be. */
MUST_CHECK int sendmail_options_parse(int argc, char **argv,
    struct sendmail_options *ret_options, struct failure *ret_failure);

/* Mail addresses, as text. */
struct address_list {
	char **list;
	size_t count;
};

void address_list_done(struct address_list *list);
/* The addresses of "Ann <a@x>, b (Bob), friends: c@y;". A name without a
 * domain gets @host. */
void address_list_add(
    struct address_list *list, struct span text, struct span host);

/* Lines of any kind become CRLF lines; a leading line of a mailbox file
 * ("From a Mon …") is dropped; a line with only a dot ends the message unless
 * dots are ignored. */
void sendmail_normalise(struct span text, bool ignores_dots, struct buf *out);

struct sendmail_identity {
	struct span address; /* for a From field */
	struct span full_name; /* or empty */
	struct span host; /* for names without a domain */
};

/* Makes a message of CRLF lines: From and To are added when missing, an empty
 * line is put where the header ends without one. With `found` the recipients
 * of To, Cc and Bcc (or of their Resent- forms, if there are any) are added to
 * it and Bcc is left out. */
void sendmail_compose(struct span text, const struct sendmail_identity *self,
    struct address_list *found, struct buf *out);
