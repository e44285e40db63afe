/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What TLS with the servers of other domains came to, for TLS reports (RFC
 * 8460): counts per UTC day, recipient domain and kind of policy. Any thread;
 * a short lock. At most 10,000 of (day, domain) and 20 different failures of
 * each are told apart, what comes beyond is counted without details or not at
 * all. Kept as a text file by save and load.
 */

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct sts_results;

enum sts_kind { STS_KIND_TLSA, STS_KIND_STS, STS_KINDS };

struct sts_result {
	int64_t wall_us;
	struct span domain;
	enum sts_kind kind;
	struct span policy; /* lines, as published */
	const char *failure; /* of RFC 8460 §4.3; NULL: a success */
	struct span mx, address, source;
};

struct sts_results *sts_results_new(void);
void sts_results_free(struct sts_results **results);
void sts_results_add(
    struct sts_results *results, const struct sts_result *result);

/* Days since 1970, UTC. */
int64_t sts_day(int64_t wall_us);
/* Some domain with results of a day before `day`. False: there is none. */
bool sts_results_due(struct sts_results *results, int64_t day,
    char ret_domain[static 256], int64_t *ret_day);

struct sts_reporter {
	const char *organization, *contact;
};

/* The report as JSON (RFC 8460 §4.4). False: there is nothing. */
bool sts_results_compose(struct sts_results *results, int64_t day,
    const char *domain, const struct sts_reporter *reporter, struct buf *out);
void sts_results_drop(
    struct sts_results *results, int64_t day, const char *domain);

/* True when there was something to write since the last time. */
bool sts_results_save(struct sts_results *results, struct buf *out);
void sts_results_load(struct sts_results *results, struct span text);
