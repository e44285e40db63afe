/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a domain says of TLS by MTA-STS (RFC 8461): its TXT record and the
 * policy it publishes by HTTPS, from the octets of strangers. Pure. A policy is
 * counted and never changes; any thread.
 */

#include "base/buf.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum sts_mode { STS_NONE, STS_TESTING, STS_ENFORCE };

#define STS_ID_SIZE 33
#define STS_POLICY_MAX ((size_t)64 * 1024) /* octets that are looked at */

enum { STS_MX_MAX = 100 }; /* patterns; more make a policy unusable */

struct sts_policy {
	atomic_uint references;
	enum sts_mode mode;
	uint32_t max_age_s;
	char **mx; /* "mx.example", "*.example"; lower case */
	size_t mx_count;
	uint64_t mark; /* equal for policies that ask for the same */
};

/* RFC 8461 §3.1: "v=STSv1; id=…;". False: it is no such record. */
bool sts_record_parse(struct span text, char ret_id[static STS_ID_SIZE]);
/* RFC 8461 §3.2. NULL: unusable; *ret_problem, static, says why. */
struct sts_policy *sts_policy_parse(struct span text, const char **ret_problem);
void sts_policy_format(const struct sts_policy *policy, struct buf *out);
struct sts_policy *sts_policy_ref(struct sts_policy *policy);
void sts_policy_unref(struct sts_policy **policy);
/* §4.1: may mail go to this MX host? "*." stands for one label. */
bool sts_policy_allows(const struct sts_policy *policy, struct span host);
