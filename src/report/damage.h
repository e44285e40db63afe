/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A message that was accepted and cannot be read any more: its sender cannot
 * be told, for who that was is lost with it. The postmaster is, where the
 * config sends him copies of reports.
 */

#include "intake/intake.h"

struct damage {
	struct intake *intake;
	const struct config *config;
	uint64_t mno;
	uint32_t recipients; /* that end */
	uint32_t tenant, stream;
	struct span tenant_name, stream_name;
	int64_t now_us; /* wall */
};

/* Adds the letter to txn, for intake_submit: *ret_letter, or NULL when the
 * config wants none. */
MUST_CHECK int damage_add(const struct damage *damage, struct spool_txn *txn,
    struct intake_message **ret_letter);
