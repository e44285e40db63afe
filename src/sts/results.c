/* SPDX-License-Identifier: Apache-2.0 */
#include "sts/results.h"

#include "base/map.h"
#include "base/mem.h"
#include "base/time.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { ROWS_MAX = 10000, DETAILS_MAX = 20, POLICY_MAX = 4096 };

struct detail {
	char *failure, *mx, *address, *source;
	uint64_t count;
};

struct counts {
	char *policy; /* lines joined by '|'; NULL: nothing happened */
	uint64_t good, bad;
	struct detail details[DETAILS_MAX];
	size_t detail_count;
};

struct row {
	int64_t day;
	char *domain;
	struct counts kinds[STS_KINDS];
};

struct sts_results {
	pthread_mutex_t lock;
	struct map *rows; /* by "day domain" */
	bool is_changed;
};

static const char *const kind_names[STS_KINDS] = {
	[STS_KIND_TLSA] = "tlsa",
	[STS_KIND_STS] = "sts",
};

int64_t
sts_day(int64_t wall_us)
{
	return wall_us / US_PER_DAY;
}

/* ---- rows, under the lock ----------------------------------------------- */

static void
row_free(void *value)
{
	struct row *r = value;

	for (size_t k = 0; k < STS_KINDS; k++) {
		struct counts *c = &r->kinds[k];
		for (size_t i = 0; i < c->detail_count; i++) {
			mem_free(c->details[i].failure);
			mem_free(c->details[i].mx);
			mem_free(c->details[i].address);
			mem_free(c->details[i].source);
		}
		mem_free(c->policy);
	}
	mem_free(r->domain);
	mem_free(r);
}

static struct row *
row_of(struct sts_results *s, int64_t day, struct span domain, bool make)
{
	AUTO_FREE char *key =
	    mem_printf("%lld %.*s", (long long)day, SPAN_ARG(domain));
	struct row *r = map_get(s->rows, span_of(key));

	if (r != NULL || !make || map_count(s->rows) >= ROWS_MAX)
		return r;
	r = MEM_NEW(struct row);
	r->day = day;
	r->domain = span_dup(domain);
	(void)map_put(s->rows, span_of(key), r);
	return r;
}

static bool
is_same(const struct detail *d, const struct sts_result *r)
{
	return span_eq(span_of(d->failure), span_of(r->failure)) &&
	       span_eq(span_of(d->mx), r->mx) &&
	       span_eq(span_of(d->address), r->address) &&
	       span_eq(span_of(d->source), r->source);
}

static void
add_failure(struct counts *c, const struct sts_result *r, uint64_t count)
{
	c->bad += count;
	for (size_t i = 0; i < c->detail_count; i++) {
		if (is_same(&c->details[i], r)) {
			c->details[i].count += count;
			return;
		}
	}
	if (c->detail_count == DETAILS_MAX)
		return;
	c->details[c->detail_count++] = (struct detail){
		.failure = mem_strdup(r->failure),
		.mx = span_dup(r->mx),
		.address = span_dup(r->address),
		.source = span_dup(r->source),
		.count = count,
	};
}

/* What would break the lines of the file cannot be part of a policy. */
static char *
policy_dup(struct span policy)
{
	char *copy = span_dup(span_slice(policy, 0, POLICY_MAX));

	for (char *p = copy; *p != '\0'; p++) {
		if (*p == '\n')
			*p = '|';
		else if ((unsigned char)*p < ' ')
			*p = ' ';
	}
	return copy;
}

static void
add_counts(struct sts_results *s, int64_t day, const struct sts_result *r,
    uint64_t count)
{
	struct row *row = row_of(s, day, r->domain, true);

	if (row == NULL)
		return;
	struct counts *c = &row->kinds[r->kind];
	if (c->policy == NULL)
		c->policy = policy_dup(r->policy);
	if (r->failure != NULL)
		add_failure(c, r, count);
	else
		c->good += count;
	s->is_changed = true;
}

void
sts_results_add(struct sts_results *s, const struct sts_result *r)
{
	pthread_mutex_lock(&s->lock);
	add_counts(s, sts_day(r->wall_us), r, 1);
	pthread_mutex_unlock(&s->lock);
}

bool
sts_results_due(struct sts_results *s, int64_t day, char ret_domain[static 256],
    int64_t *ret_day)
{
	struct map_cursor cursor = { 0 };
	bool is_found = false;

	pthread_mutex_lock(&s->lock);
	while (!is_found && map_next(s->rows, &cursor)) {
		const struct row *r = cursor.value;
		is_found = r->day < day &&
			   span_to_cstring(span_of(r->domain), ret_domain, 256);
		if (is_found)
			*ret_day = r->day;
	}
	pthread_mutex_unlock(&s->lock);
	return is_found;
}

void
sts_results_drop(struct sts_results *s, int64_t day, const char *domain)
{
	AUTO_FREE char *key = mem_printf("%lld %s", (long long)day, domain);

	pthread_mutex_lock(&s->lock);
	struct row *r = map_remove(s->rows, span_of(key));
	s->is_changed |= r != NULL;
	pthread_mutex_unlock(&s->lock);
	if (r != NULL)
		row_free(r);
}

/* ---- the report --------------------------------------------------------- */

static void
put_text(struct buf *out, const char *name, const char *value)
{
	buf_printf(out, "\"%s\":", name);
	buf_append_json(out, span_of(value));
}

static void
put_policy(struct buf *out, const struct row *r, enum sts_kind kind)
{
	struct span rest = span_of(r->kinds[kind].policy);
	const char *before = "";

	buf_printf(
	    out, "{\"policy\":{\"policy-type\":\"%s\",", kind_names[kind]);
	buf_append_str(out, "\"policy-string\":[");
	while (rest.len > 0) {
		struct span line = span_cut(&rest, '|');
		if (line.len == 0)
			continue;
		buf_append_str(out, before);
		buf_append_json(out, line);
		before = ",";
	}
	buf_append_str(out, "],");
	put_text(out, "policy-domain", r->domain);
	buf_append_char(out, '}');
}

static void
put_details(struct buf *out, const struct counts *c)
{
	buf_append_str(out, ",\"failure-details\":[");
	for (size_t i = 0; i < c->detail_count; i++) {
		const struct detail *d = &c->details[i];
		buf_append_str(out, i > 0 ? ",{" : "{");
		put_text(out, "result-type", d->failure);
		buf_append_char(out, ',');
		if (*d->source != '\0') {
			put_text(out, "sending-mta-ip", d->source);
			buf_append_char(out, ',');
		}
		put_text(out, "receiving-mx-hostname", d->mx);
		buf_append_char(out, ',');
		if (*d->address != '\0') {
			put_text(out, "receiving-ip", d->address);
			buf_append_char(out, ',');
		}
		buf_printf(out, "\"failed-session-count\":%llu}",
		    (unsigned long long)d->count);
	}
	buf_append_char(out, ']');
}

static void
put_head(
    struct buf *out, const struct row *r, const struct sts_reporter *reporter)
{
	char from[TIME_RFC3339_SIZE];

	(void)time_format_rfc3339(r->day * US_PER_DAY, from);
	buf_append_char(out, '{');
	put_text(out, "organization-name", reporter->organization);
	buf_printf(out,
	    ",\"date-range\":{\"start-datetime\":\"%.10sT00:00:00Z\","
	    "\"end-datetime\":\"%.10sT23:59:59Z\"},",
	    from, from);
	put_text(out, "contact-info", reporter->contact);
	buf_printf(out, ",\"report-id\":\"%.10s.", from);
	buf_printf(out, "%s\",\"policies\":[", r->domain);
}

bool
sts_results_compose(struct sts_results *s, int64_t day, const char *domain,
    const struct sts_reporter *reporter, struct buf *out)
{
	const char *before = "";

	pthread_mutex_lock(&s->lock);
	const struct row *r = row_of(s, day, span_of(domain), false);
	if (r != NULL)
		put_head(out, r, reporter);
	for (unsigned k = 0; r != NULL && k < STS_KINDS; k++) {
		const struct counts *c = &r->kinds[k];
		if (c->policy == NULL)
			continue;
		buf_append_str(out, before);
		before = ",";
		put_policy(out, r, (enum sts_kind)k);
		buf_printf(out,
		    ",\"summary\":{\"total-successful-session-count\":%llu,"
		    "\"total-failure-session-count\":%llu}",
		    (unsigned long long)c->good, (unsigned long long)c->bad);
		if (c->detail_count > 0)
			put_details(out, c);
		buf_append_char(out, '}');
	}
	if (r != NULL)
		buf_append_str(out, "]}");
	pthread_mutex_unlock(&s->lock);
	return r != NULL;
}

/* ---- the file ----------------------------------------------------------- */

/* A line for each kind of policy, and behind it one for each failure; fields
 * stand between tabs. Failures without details are lost with a restart. */
static void
save_counts(const struct row *r, enum sts_kind kind, struct buf *out)
{
	const struct counts *c = &r->kinds[kind];

	buf_printf(out, "day\t%lld\t%s\t%s\t%llu\t%s\n", (long long)r->day,
	    r->domain, kind_names[kind], (unsigned long long)c->good,
	    c->policy);
	for (size_t i = 0; i < c->detail_count; i++) {
		const struct detail *d = &c->details[i];
		buf_printf(out, "failure\t%llu\t%s\t%s\t%s\t%s\n",
		    (unsigned long long)d->count, d->failure, d->mx, d->address,
		    d->source);
	}
}

bool
sts_results_save(struct sts_results *s, struct buf *out)
{
	struct map_cursor cursor = { 0 };

	pthread_mutex_lock(&s->lock);
	bool is_changed = s->is_changed;
	s->is_changed = false;
	while (is_changed && map_next(s->rows, &cursor)) {
		const struct row *r = cursor.value;
		for (unsigned k = 0; k < STS_KINDS; k++) {
			if (r->kinds[k].policy != NULL)
				save_counts(r, (enum sts_kind)k, out);
		}
	}
	pthread_mutex_unlock(&s->lock);
	return is_changed;
}

static bool
load_day(struct sts_results *s, struct span line, struct sts_result *ret,
    int64_t *ret_day)
{
	uint64_t day, good;

	if (!span_to_u64(span_cut(&line, '\t'), INT32_MAX, &day))
		return false;
	struct sts_result r = { .domain = span_cut(&line, '\t') };
	struct span kind = span_cut(&line, '\t');
	if (span_eq(kind, SPAN("sts")))
		r.kind = STS_KIND_STS;
	else if (!span_eq(kind, SPAN("tlsa")))
		return false;
	if (!span_to_u64(span_cut(&line, '\t'), UINT32_MAX, &good) ||
	    r.domain.len == 0)
		return false;
	r.policy = line;
	add_counts(s, (int64_t)day, &r, good);
	*ret_day = (int64_t)day;
	*ret = r;
	return true;
}

static void
load_failure(struct sts_results *s, struct span line,
    const struct sts_result *of, int64_t day)
{
	struct sts_result r = *of;
	uint64_t count;
	char failure[64];

	if (!span_to_u64(span_cut(&line, '\t'), UINT32_MAX, &count) ||
	    !span_to_cstring(span_cut(&line, '\t'), failure, sizeof failure))
		return;
	r.failure = failure;
	r.mx = span_cut(&line, '\t');
	r.address = span_cut(&line, '\t');
	r.source = line;
	add_counts(s, day, &r, count);
}

void
sts_results_load(struct sts_results *s, struct span text)
{
	struct sts_result last = { .domain = SPAN_EMPTY };
	bool has_last = false;
	int64_t day = 0;

	pthread_mutex_lock(&s->lock);
	while (text.len > 0) {
		struct span line = span_cut(&text, '\n');
		struct span word = span_cut(&line, '\t');
		if (span_eq(word, SPAN("day")))
			has_last = load_day(s, line, &last, &day);
		else if (span_eq(word, SPAN("failure")) && has_last)
			load_failure(s, line, &last, day);
	}
	s->is_changed = false;
	pthread_mutex_unlock(&s->lock);
}

struct sts_results *
sts_results_new(void)
{
	struct sts_results *s = MEM_NEW(struct sts_results);

	pthread_mutex_init(&s->lock, NULL);
	s->rows = map_new();
	return s;
}

void
sts_results_free(struct sts_results **results)
{
	struct sts_results *s = *results;

	*results = NULL;
	if (s == NULL)
		return;
	map_free(&s->rows, row_free);
	pthread_mutex_destroy(&s->lock);
	mem_free(s);
}
