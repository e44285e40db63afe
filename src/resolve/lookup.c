/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "resolve/internal.h"

#include <stdio.h>
#include <string.h>

static void lookup_finish(
    struct lookup *l, enum resolve_result result, const char *problem);
static void lookup_finish_hosts(struct lookup *l);

/* ---- life ---- */

static void
on_timeout(struct loop_timer *timer)
{
	struct lookup *l = LIST_ENTRY(timer, struct lookup, timer);
	char problem[128];

	(void)snprintf(problem, sizeof problem,
	    "the DNS did not answer within %lld s",
	    (long long)(l->r->timeout_us / US_PER_S));
	question_drop(&l->mx);
	for (size_t i = 0; i < 2 * l->host_count; i++) {
		struct question *q = &l->addresses[i];
		if (q->state == QUESTION_NONE)
			continue;
		question_drop(q);
		l->is_partial = true;
		q->host->problem = HOST_TROUBLE;
		if (!q->host->trouble)
			q->host->trouble = mem_strdup(problem);
	}
	struct resolver *r = l->r;
	if (l->host_count)
		lookup_finish_hosts(l);
	else
		lookup_finish(l, RESOLVE_TEMPORARY, problem);
	questions_start(r);
}

struct lookup *
lookup_new(struct resolver *r, const char *key)
{
	struct lookup *l = MEM_NEW(struct lookup);

	l->r = r;
	l->key = mem_strdup(key);
	l->name = l->key + 1;
	l->is_mx = key[0] == 'm';
	l->type = l->is_mx ? RR_MX : records_type(key[0]);
	l->ttl_us = POSITIVE_TTL_MAX_US;
	list_init(&l->queries);
	list_init(&l->mx.link);
	l->timer.on_time = on_timeout;
	list_append(&r->lookups, &l->all_link);
	(void)map_put(r->lookups_by_key, span_of(l->key), l);
	return l;
}

static void
lookup_unlist(struct lookup *l)
{
	if (!l->all_link.next || list_is_empty(&l->all_link))
		return;
	list_remove(&l->all_link);
	(void)map_remove(l->r->lookups_by_key, span_of(l->key));
	loop_timer_clear(&l->timer);
}

void
lookup_free(struct lookup *l)
{
	lookup_unlist(l);
	question_drop(&l->mx);
	for (size_t i = 0; i < 2 * l->host_count; i++)
		question_drop(&l->addresses[i]);
	for (size_t i = 0; i < l->host_count; i++)
		mem_free(l->hosts[i].trouble);
	LIST_FOR_EACH_SAFE(link, &l->queries)
		mem_free(LIST_ENTRY(link, struct resolve_query, link));
	mem_free(l->hosts);
	mem_free(l->addresses);
	if (l->records)
		entry_free(l->records);
	mem_free(l->key);
	mem_free(l);
}

/* ---- the end ---- */

static const char *
host_problem_text(const struct host *h)
{
	switch (h->problem) {
	case HOST_TROUBLE:
		return h->trouble ? h->trouble : "its address is not known now";
	case HOST_PRIVATE:
		return "it has only private addresses";
	case HOST_NO_ADDRESS:
		return "it has no address";
	case HOST_FINE:
		break;
	}
	UNREACHABLE("a host without a problem");
}

static void
entry_add_hosts(struct entry *e, const struct lookup *l)
{
	e->hosts = mem_zalloc(l->host_count * sizeof *e->hosts);
	e->host_count = (uint8_t)l->host_count;
	for (size_t i = 0; i < l->host_count; i++) {
		const struct host *h = &l->hosts[i];
		struct entry_host *out = &e->hosts[i];
		out->name = mem_strdup(h->name);
		out->preference = h->preference;
		out->ip_count = h->ip_count;
		out->is_secure = h->is_secure && h->ip_count;
		if (*h->canonical)
			out->canonical = mem_strdup(h->canonical);
		if (h->ip_count)
			out->ips =
			    mem_dup(h->ips, h->ip_count * sizeof *h->ips);
		else
			out->problem = mem_strdup(host_problem_text(h));
	}
}

static int64_t
ttl_of(const struct lookup *l, enum resolve_result result)
{
	int64_t min_us = POSITIVE_TTL_MIN_US, max_us = POSITIVE_TTL_MAX_US;

	if (result == RESOLVE_TEMPORARY)
		return TROUBLE_TTL_US;
	if (l->is_partial)
		max_us = POSITIVE_TTL_MIN_US;
	else if (result != RESOLVE_OK && result != RESOLVE_NULL_MX) {
		min_us = NEGATIVE_TTL_MIN_US;
		max_us = NEGATIVE_TTL_MAX_US;
	}
	if (l->ttl_us < min_us)
		return min_us;
	return l->ttl_us > max_us ? max_us : l->ttl_us;
}

static void
entry_take_records(struct entry *e, struct entry *from)
{
	e->records = from->records;
	e->record_count = from->record_count;
	e->is_secure = from->is_secure;
	from->records = NULL;
	from->record_count = 0;
}

static struct entry *
entry_new(
    const struct lookup *l, enum resolve_result result, const char *problem)
{
	struct entry *e = MEM_NEW(struct entry);

	list_init(&e->lru_link);
	e->key = mem_strdup(l->key);
	e->result = (uint8_t)result;
	e->is_implicit_mx = l->is_implicit_mx;
	e->is_mx_secure = l->is_mx_secure;
	e->valid_until_us = loop_now_us(l->r->loop) + ttl_of(l, result);
	e->stale_until_us = e->valid_until_us + STALE_US;
	e->problem = problem ? mem_strdup(problem) : NULL;
	e->is_bogus = l->is_bogus;
	if (l->records)
		entry_take_records(e, l->records);
	if (l->host_count)
		entry_add_hosts(e, l);
	if (result == RESOLVE_OK)
		e->site = mem_strdup(l->site);
	return e;
}

/* When the DNS is in trouble, what it last said still serves for a while: where
 * mail goes, not that it bounces, which needs a word of now. Never instead of a
 * failed validation: that may be an attack. */
static struct entry *
stale_entry(struct lookup *l)
{
	int64_t now_us = loop_now_us(l->r->loop);
	struct entry *e = cache_find(l->r, l->key);

	if (!e || e->result != RESOLVE_OK || l->is_bogus || !e->hosts ||
	    now_us >= e->stale_until_us)
		return NULL;
	e->valid_until_us = now_us + POSITIVE_TTL_MIN_US;
	if (e->valid_until_us > e->stale_until_us)
		e->valid_until_us = e->stale_until_us;
	return e;
}

static void
lookup_serve(struct lookup *l, const struct entry *e)
{
	while (!list_is_empty(&l->queries)) {
		struct resolve_query *query =
		    LIST_ENTRY(l->queries.next, struct resolve_query, link);
		struct asker asker = query->asker;
		list_remove(&query->link);
		if (query->is_gone)
			*query->is_gone = true;
		mem_free(query);
		entry_serve(l->r, e, &asker);
	}
}

static void
lookup_finish(struct lookup *l, enum resolve_result result, const char *problem)
{
	struct entry *e = entry_new(l, result, problem);

	lookup_unlist(l);
	if (result == RESOLVE_TEMPORARY) {
		struct entry *stale = stale_entry(l);
		l->r->failures++;
		if (stale) {
			entry_free(e);
			/* Out of the cache, lest a callback evict it. */
			e = cache_take(l->r, stale);
			result = (enum resolve_result)e->result;
		}
	}
	lookup_serve(l, e);
	if (result == RESOLVE_TEMPORARY)
		entry_free(e);
	else
		cache_put(l->r, e);
	lookup_free(l);
}

/* All hosts of the lookup are known, for better or worse. */
static void
lookup_finish_hosts(struct lookup *l)
{
	const struct host *worst = &l->hosts[0];
	char problem[512];

	for (size_t i = 0; i < l->host_count; i++) {
		const struct host *h = &l->hosts[i];
		if (h->ip_count) {
			lookup_finish(l, RESOLVE_OK, NULL);
			return;
		}
		if (h->problem > worst->problem)
			worst = h;
	}
	(void)snprintf(problem, sizeof problem, "%s: %s", worst->name,
	    host_problem_text(worst));
	enum resolve_result result = RESOLVE_NO_ADDRESS;
	if (worst->problem == HOST_TROUBLE)
		result = RESOLVE_TEMPORARY;
	else if (worst->problem == HOST_PRIVATE)
		result = RESOLVE_PRIVATE;
	else if (!l->is_mx && l->is_missing)
		result = RESOLVE_NO_DOMAIN;
	lookup_finish(l, result, problem);
}

static void
lookup_release(struct lookup *l)
{
	BUG_UNLESS(l->outstanding > 0);
	if (--l->outstanding == 0 && l->host_count)
		lookup_finish_hosts(l);
}

/* ---- answers ---- */

/* The sentence for what is no answer, or NULL: it is one. */
static char *
trouble_of(int err, const struct ub_result *result)
{
	if (err || !result)
		return mem_printf("the resolver failed: %s", ub_strerror(err));
	if (result->bogus)
		return mem_printf("DNSSEC validation failed: %s",
		    result->why_bogus ? result->why_bogus : "no reason given");
	if (result->rcode == 0 || result->rcode == RCODE_NXDOMAIN)
		return NULL;
	if (result->rcode == 2)
		return mem_strdup("the DNS servers fail (SERVFAIL)");
	if (result->rcode == 5)
		return mem_strdup("the DNS servers refuse to answer (REFUSED)");
	return mem_printf("the DNS servers fail (rcode %d)", result->rcode);
}

static void
lookup_note_ttl(struct lookup *l, const struct ub_result *result)
{
	int64_t ttl_us = result->ttl > 0 ? result->ttl * US_PER_S : 0;

	if (ttl_us < l->ttl_us)
		l->ttl_us = ttl_us;
}

static void
ask_addresses(struct lookup *l, const struct mx_record *records, size_t count)
{
	struct resolver *r = l->r;

	l->hosts = mem_zalloc(count * sizeof *l->hosts);
	l->addresses = mem_zalloc(2 * count * sizeof *l->addresses);
	l->host_count = count;
	site_name(records, count, l->site);
	/* Held, or a question that fails at once might finish us too early. */
	l->outstanding++;
	for (size_t i = 0; i < count; i++) {
		struct host *h = &l->hosts[i];
		memcpy(h->name, records[i].name, sizeof h->name);
		h->preference = records[i].preference;
		h->is_secure = !l->is_mx || l->is_mx_secure;
		h->problem = HOST_NO_ADDRESS;
		for (size_t n = 2 * i; n < 2 * i + 2; n++) {
			list_init(&l->addresses[n].link);
			l->addresses[n].host = h;
			question_ask(
			    &l->addresses[n], l, n % 2 ? RR_A : RR_AAAA);
		}
	}
	questions_start(r);
	lookup_release(l);
}

static void
on_no_mx(struct lookup *l)
{
	struct mx_record self = { .preference = 0 };

	l->is_implicit_mx = true;
	if (strcmp(l->name, l->r->our_name) == 0) {
		lookup_finish(l, RESOLVE_LOOP,
		    "it has no MX record, and its name is this host's");
		return;
	}
	(void)snprintf(self.name, sizeof self.name, "%s", l->name);
	ask_addresses(l, &self, 1);
}

static void
on_mx_records(struct lookup *l, const struct ub_result *result)
{
	struct mx_choice choice = { .count = 0 };

	for (size_t i = 0; result->data[i]; i++) {
		size_t len = result->len[i] > 0 ? (size_t)result->len[i] : 0;
		mx_choice_add(
		    &choice, span_from(result->data[i], len), l->r->our_name);
	}
	mx_choice_end(&choice);
	if (choice.count)
		ask_addresses(l, choice.best, choice.count);
	else if (choice.is_ours)
		lookup_finish(l, RESOLVE_LOOP,
		    "this host is its best MX host: mail would loop");
	else if (choice.malformed)
		lookup_finish(
		    l, RESOLVE_TEMPORARY, "its MX records are malformed");
	else
		lookup_finish(l, RESOLVE_NULL_MX,
		    "it accepts no mail (null MX, RFC 7505)");
}

static void
on_mx(struct lookup *l, int err, const struct ub_result *result)
{
	char *AUTO_FREE trouble = trouble_of(err, result);

	if (trouble) {
		l->is_bogus = result && result->bogus;
		lookup_finish(l, RESOLVE_TEMPORARY, trouble);
		return;
	}
	lookup_note_ttl(l, result);
	l->is_mx_secure = result->secure;
	if (result->havedata)
		on_mx_records(l, result);
	else if (result->nxdomain || result->rcode == RCODE_NXDOMAIN)
		lookup_finish(l, RESOLVE_NO_DOMAIN, "there is no such domain");
	else
		on_no_mx(l);
}

static void
note_canonical(struct host *h, const struct ub_result *result)
{
	char name[DNS_NAME_SIZE];

	if (result->canonname &&
	    dns_name_normalise(span_of(result->canonname), name) &&
	    strcmp(name, h->name) != 0)
		memcpy(h->canonical, name, sizeof h->canonical);
}

static void
on_address(struct lookup *l, struct question *q, int err,
    const struct ub_result *result)
{
	struct host *h = q->host;
	char *AUTO_FREE trouble = trouble_of(err, result);

	if (trouble) {
		l->is_bogus |= result && result->bogus;
		l->is_partial = true;
		h->problem = HOST_TROUBLE;
		if (!h->trouble) {
			h->trouble = trouble;
			trouble = NULL;
		}
		return;
	}
	lookup_note_ttl(l, result);
	h->is_secure = h->is_secure && result->secure;
	note_canonical(h, result);
	if (result->nxdomain || result->rcode == RCODE_NXDOMAIN)
		l->is_missing = true;
	/* A smarthost is the operator's word: it may be anywhere. */
	if (result->havedata)
		host_add_addresses(h, result->data, result->len,
		    q->type == RR_AAAA, !l->is_mx || l->r->allow_private);
}

static void
keep_records(struct lookup *l, const struct ub_result *result)
{
	struct entry *e = MEM_NEW(struct entry);
	size_t count = 0;

	list_init(&e->lru_link);
	l->records = e;
	e->is_secure = result->secure;
	while (result->havedata && count < RECORDS_MAX && result->data[count])
		count++;
	if (count)
		e->records = mem_zalloc(count * sizeof *e->records);
	e->record_count = (uint8_t)count;
	for (size_t i = 0; i < count; i++) {
		if (result->len[i] <= 0)
			continue;
		e->records[i].len = (uint32_t)result->len[i];
		e->records[i].octets =
		    mem_dup(result->data[i], e->records[i].len);
	}
}

static void
on_records(struct lookup *l, int err, const struct ub_result *result)
{
	char *AUTO_FREE trouble = trouble_of(err, result);

	if (trouble) {
		l->is_bogus = result && result->bogus;
		lookup_finish(l, RESOLVE_TEMPORARY, trouble);
		return;
	}
	lookup_note_ttl(l, result);
	keep_records(l, result);
	if (result->nxdomain || result->rcode == RCODE_NXDOMAIN)
		lookup_finish(l, RESOLVE_NO_DOMAIN, "there is no such name");
	else
		lookup_finish(l, RESOLVE_OK, NULL);
}

void
lookup_on_answer(struct question *q, int err, const struct ub_result *result)
{
	struct lookup *l = q->lookup;

	if (q == &l->mx) {
		l->outstanding--;
		if (l->is_mx)
			on_mx(l, err, result);
		else
			on_records(l, err, result);
		return;
	}
	on_address(l, q, err, result);
	lookup_release(l);
}

void
lookup_start(struct lookup *l)
{
	struct resolver *r = l->r;
	struct mx_record self = { .preference = 0 };

	loop_timer_set(
	    r->loop, &l->timer, loop_now_us(r->loop) + r->timeout_us);
	if (l->type) {
		question_ask(&l->mx, l, l->type);
		questions_start(r);
		return;
	}
	(void)snprintf(self.name, sizeof self.name, "%s", l->name);
	ask_addresses(l, &self, 1);
}
