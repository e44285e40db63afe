/* SPDX-License-Identifier: Apache-2.0 */
#include "sts/policy.h"

#include "base/bug.h"
#include "base/hash.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_AGE_MOST = 31557600 }; /* a year, RFC 8461 §3.2 */

/* ---- the record --------------------------------------------------------- */

static bool
is_alphanumeric(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
	       (c >= 'A' && c <= 'Z');
}

static bool
is_id(struct span id)
{
	for (size_t i = 0; i < id.len; i++) {
		if (!is_alphanumeric(id.ptr[i]))
			return false;
	}
	return id.len > 0 && id.len < STS_ID_SIZE;
}

bool
sts_record_parse(struct span text, char ret_id[static STS_ID_SIZE])
{
	if (!span_eq(span_trim(span_cut(&text, ';')), SPAN("v=STSv1")))
		return false;
	while (text.len > 0) {
		struct span value = span_trim(span_cut(&text, ';'));
		struct span name = span_trim(span_cut(&value, '='));
		value = span_trim(value);
		if (!span_eq(name, SPAN("id")))
			continue;
		return is_id(value) &&
		       span_to_cstring(value, ret_id, STS_ID_SIZE);
	}
	return false;
}

/* ---- the policy --------------------------------------------------------- */

static bool
is_host_character(char c)
{
	return is_alphanumeric(c) || c == '-' || c == '_' || c == '.';
}

/* A name, or one below "*.". */
static char *
pattern_dup(struct span value)
{
	struct span name =
	    span_starts(value, SPAN("*.")) ? span_skip(value, 2) : value;

	if (name.len == 0 || value.len > 255 || name.ptr[0] == '.')
		return NULL;
	for (size_t i = 0; i < name.len; i++) {
		if (!is_host_character(name.ptr[i]))
			return NULL;
	}
	char *copy = span_dup(value);
	for (char *p = copy; *p != '\0'; p++) {
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p - 'A' + 'a');
	}
	return copy;
}

struct draft {
	struct sts_policy *policy;
	bool has_version, has_mode, has_max_age;
	const char *problem;
};

static void
take_mode(struct draft *d, struct span value)
{
	d->has_mode = true;
	if (span_eq(value, SPAN("enforce")))
		d->policy->mode = STS_ENFORCE;
	else if (span_eq(value, SPAN("testing")))
		d->policy->mode = STS_TESTING;
	else if (!span_eq(value, SPAN("none")))
		d->problem = "its mode is unknown";
}

static void
take_max_age(struct draft *d, struct span value)
{
	uint64_t seconds;

	d->has_max_age = true;
	if (!span_to_u64(value, UINT32_MAX, &seconds)) {
		d->problem = "its max_age is not a number";
		return;
	}
	if (seconds > MAX_AGE_MOST)
		seconds = MAX_AGE_MOST;
	d->policy->max_age_s = (uint32_t)seconds;
}

static void
take_mx(struct draft *d, struct span value)
{
	struct sts_policy *p = d->policy;
	char *pattern = pattern_dup(value);

	if (pattern == NULL) {
		d->problem = "an mx is not the name of a host";
		return;
	}
	if (p->mx_count == STS_MX_MAX) {
		mem_free(pattern);
		d->problem = "it has too many mx";
		return;
	}
	p->mx = mem_resize(p->mx, p->mx_count + 1, sizeof *p->mx);
	p->mx[p->mx_count++] = pattern;
}

/* Of keys other than mx the first one counts; unknown ones are ignored. */
static void
take_line(struct draft *d, struct span line)
{
	struct span value = line;
	struct span name = span_trim(span_cut(&value, ':'));

	value = span_trim(value);
	if (!d->has_version) {
		d->has_version = true;
		if (!span_eq(name, SPAN("version")) ||
		    !span_eq(value, SPAN("STSv1")))
			d->problem = "it does not begin with version: STSv1";
	} else if (span_eq(name, SPAN("mode"))) {
		if (!d->has_mode)
			take_mode(d, value);
	} else if (span_eq(name, SPAN("max_age"))) {
		if (!d->has_max_age)
			take_max_age(d, value);
	} else if (span_eq(name, SPAN("mx"))) {
		take_mx(d, value);
	}
}

static int
text_compare(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

static uint64_t
mark_of(const struct sts_policy *p)
{
	uint64_t mark = hash_mix((uint64_t)p->mode + 1);

	for (size_t i = 0; i < p->mx_count; i++)
		mark = hash_mix(mark ^ hash_stable(span_of(p->mx[i])));
	return mark;
}

static const char *
judge(const struct draft *d)
{
	if (d->problem != NULL)
		return d->problem;
	if (!d->has_mode)
		return "it has no mode";
	if (!d->has_max_age)
		return "it has no max_age";
	if (d->policy->mx_count == 0 && d->policy->mode != STS_NONE)
		return "it has no mx";
	return NULL;
}

struct sts_policy *
sts_policy_parse(struct span text, const char **ret_problem)
{
	struct draft d = { .policy = MEM_NEW(struct sts_policy) };

	atomic_init(&d.policy->references, 1);
	if (text.len > STS_POLICY_MAX)
		d.problem = "it is longer than 64 KB";
	while (text.len > 0 && d.problem == NULL) {
		struct span line = span_trim(span_cut(&text, '\n'));
		if (line.len > 0)
			take_line(&d, line);
	}
	*ret_problem = judge(&d);
	if (*ret_problem != NULL) {
		sts_policy_unref(&d.policy);
		return NULL;
	}
	if (d.policy->mx_count > 1)
		qsort(d.policy->mx, d.policy->mx_count, sizeof *d.policy->mx,
		    text_compare);
	d.policy->mark = mark_of(d.policy);
	return d.policy;
}

void
sts_policy_format(const struct sts_policy *policy, struct buf *out)
{
	static const char *const modes[] = { "none", "testing", "enforce" };

	buf_printf(out, "version: STSv1\nmode: %s\nmax_age: %u\n",
	    modes[policy->mode], policy->max_age_s);
	for (size_t i = 0; i < policy->mx_count; i++)
		buf_printf(out, "mx: %s\n", policy->mx[i]);
}

struct sts_policy *
sts_policy_ref(struct sts_policy *policy)
{
	unsigned before = atomic_fetch_add_explicit(
	    &policy->references, 1, memory_order_relaxed);

	BUG_UNLESS(before > 0);
	return policy;
}

void
sts_policy_unref(struct sts_policy **policy)
{
	struct sts_policy *p = *policy;

	*policy = NULL;
	if (p == NULL || atomic_fetch_sub_explicit(
			     &p->references, 1, memory_order_acq_rel) > 1)
		return;
	for (size_t i = 0; i < p->mx_count; i++)
		mem_free(p->mx[i]);
	mem_free(p->mx);
	mem_free(p);
}

bool
sts_policy_allows(const struct sts_policy *policy, struct span host)
{
	size_t dot = span_find(host, '.');

	for (size_t i = 0; i < policy->mx_count; i++) {
		struct span pattern = span_of(policy->mx[i]);
		if (!span_starts(pattern, SPAN("*."))) {
			if (span_eq_nocase(pattern, host))
				return true;
		} else if (dot != SIZE_MAX && dot > 0 &&
			   span_eq_nocase(span_skip(pattern, 2),
			       span_skip(host, dot + 1))) {
			return true;
		}
	}
	return false;
}
