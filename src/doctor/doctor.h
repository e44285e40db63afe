/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What an administrator should mend before others notice: the names of the
 * addresses that mail leaves from, blocklists, port 25, the certificate, the
 * resolver, the clock, limits and the disk. A finding says what was looked at,
 * what is so, and the line that mends it.
 *
 * Looks and asks, and changes nothing: the file by which it measures the disk
 * is gone when it returns. Knows the config only, so that it works with and
 * without a running service.
 */

#include "base/arena.h"
#include "config/config.h"

#include <stddef.h>

enum doctor_level {
	DOCTOR_OK,
	DOCTOR_NOTE, /* worth knowing */
	DOCTOR_WARNING, /* costs deliverability or time */
	DOCTOR_PROBLEM, /* mail is lost, refused or late by it */
	DOCTOR_LEVELS
};

struct doctor_finding {
	enum doctor_level level;
	const char *area; /* static: "source", "clock" */
	const char *subject; /* "192.0.2.10" */
	const char *text; /* one sentence */
	const char *remedy; /* what to do or to publish; NULL: nothing */
};

struct doctor_report {
	struct doctor_finding *findings; /* in the order of looking */
	size_t count;
	struct arena *arena; /* of their texts */
};

/* Blocks for at most a minute and a half, most of it on the DNS. Any thread. */
void doctor_examine(
    const struct config *config, struct doctor_report *ret_report);
/* Adds what somebody else looked at. The area is static, the rest is copied;
 * remedy may be NULL. */
void doctor_add(
    struct doctor_report *report, const struct doctor_finding *finding);
void doctor_report_done(struct doctor_report *report);
/* The worst level; DOCTOR_OK of an empty report. */
enum doctor_level doctor_verdict(const struct doctor_report *report);

const char *doctor_level_name(enum doctor_level level); /* "warning" */
