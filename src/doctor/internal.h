/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One examination, and its way of asking the DNS; private to doctor. */

#include "base/netaddr.h"
#include "doctor/doctor.h"
#include "resolve/mxdata.h"
#include "resolve/resolve.h"

struct interview;

struct examination {
	const struct config *config;
	struct doctor_report *report;
	bool can_validate; /* the resolver, as found out */
	struct interview *dns;
};

/* Adds a finding. */
void find(struct examination *x, enum doctor_level level, const char *area,
    const char *subject, const char *format, ...) PRINTF_LIKE(5, 6);
/* Says how to mend the last one. */
void remedy(struct examination *x, const char *format, ...) PRINTF_LIKE(2, 3);

/* ---- host.c, certificate.c, sources.c, outward.c: what is looked at ---- */

void examine_host(struct examination *x);
void examine_certificate(struct examination *x);
void examine_resolver(struct examination *x);
void examine_sources(struct examination *x);
/* Whether mail can leave from `source` (port 0) for the world's port 25. */
void examine_way_out(struct examination *x, const struct netaddr *source);

/* ---- interview.c: one question after the other ---- */

#define ANSWERS_MAX 16

struct interview_answer {
	enum resolve_result result;
	struct netaddr addresses[ANSWERS_MAX];
	size_t address_count;
	/* Of PTR records, names; of TXT records, their text. */
	char *texts[ANSWERS_MAX];
	size_t text_count;
	char problem[256];
};

/* `dnssec`: what cannot be validated is no answer. */
MUST_CHECK int interview_begin(const struct config *config, bool dnssec,
    struct interview **ret_interview, struct failure *ret_failure);
void interview_end(struct interview **interview);
/* Each waits for its answer, but not past the interview's time: then it is
 * RESOLVE_TEMPORARY at once. */
void interview_host(
    struct interview *i, const char *host, struct interview_answer *ret_answer);
void interview_mail_hosts(struct interview *i, const char *domain,
    struct interview_answer *ret_answer);
void interview_records(struct interview *i, enum resolve_type type,
    const char *name, struct interview_answer *ret_answer);
void interview_answer_done(struct interview_answer *answer);

/* ---- reverse.c: names of addresses, pure ---- */

#define REVERSE_SIZE 128

/* "10.2.0.192" + "." + zone; IPv6 by nibbles. Zone "" : in-addr.arpa or
 * ip6.arpa. Returns buffer. */
const char *reverse_name(const struct netaddr *address, const char *zone,
    char buffer[static REVERSE_SIZE + DNS_NAME_SIZE]);
