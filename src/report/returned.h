/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What comes back to return paths and to the complaints mailbox: reports on
 * our mail. Such mail is in the spool like any other before it is looked at
 * here, so nothing is lost; what cannot be recorded now is tried again.
 *
 * A report is believed as far as its token reaches: one delivery. It must name
 * that delivery's recipient (a complaint need not, for many hide him); what it
 * says of anybody else changes nothing, nor does an automatic reply. Then
 *   - a failure is an event `bounced`, and suppresses the recipient for the
 *     tenant where its cause does (bounce/judge.h);
 *   - a complaint is an event `complained`, and suppresses the recipient for
 *     the tenant's stream;
 *   - the message's sender gets a delivery report of ours, where he wants one
 *     of this kind.
 * Each once for a delivery, however many reports come; after a crash at the
 * wrong moment a sender may be told again.
 *
 * Blocks on the disk. returned_take may be called by several threads.
 */

#include "bounce/report.h"
#include "directory/directory.h"
#include "intake/intake.h"
#include "returns/token.h"
#include "spool/spool.h"

struct returned;

struct returned_options {
	struct directory *directory;
	struct spool *spool;
	struct intake *intake;
	struct config *config; /* counted */
	const struct return_key *key;
	const struct bounce_reader *reader;
	const char *events; /* the directory of event files */
};

struct returned *returned_new(const struct returned_options *options);
void returned_free(struct returned **returned);
void returned_set_config(struct returned *returned, struct config *config);

/* Takes in the report that came to this recipient of the message. 0 also when
 * it is none, or none of ours; negative: try again later. */
MUST_CHECK int returned_take(
    struct returned *returned, struct spool_message *message, uint32_t rcpt);
