/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "deliver/internal.h"

#include <stdio.h>
#include <string.h>

/*
 * What the hosts of an MX plan must show. DANE (RFC 7672 §2.2): TLSA records
 * count where every answer on the way to them was validated: the MX records,
 * the host's addresses or at least the alias that leads to them, the TLSA
 * records themselves.
 *
 *   addresses secure, alias ----> TLSA of what it leads to; none: of the name
 *   addresses secure -----------> TLSA of the name
 *   insecure, a secure alias ---> TLSA of the name
 *   insecure -------------------> none
 *
 * MTA-STS (RFC 8461) has a word on the hosts that DANE says nothing of: in the
 * mode `enforce` a host must stand in the domain's policy and show a
 * certificate for its name.
 *
 * A failed lookup bars the host: whoever can make it fail must not be able to
 * have the mail in the clear. Other hosts of the domain are not concerned.
 */

struct probe {
	struct secure *secure;
	struct plan_host *host;
	struct resolve_query *query;
	const char *base; /* whose TLSA records are asked for */
	bool at_canonical; /* the name's own may be asked for afterwards */
};

struct secure {
	struct dispatch *dispatch;
	struct plan *plan; /* counted */
	secure_fn *fn;
	void *arg;
	int64_t valid_until_us;
	struct probe probes[PLAN_HOSTS_MAX];
	struct sts_query *sts_query;
	struct sts_policy *policy; /* counted, or NULL */
	unsigned pending;
	bool *is_gone; /* told when it ends before it is returned */
};

const char *
secure_policy_name(const struct plan *plan, const struct plan_host *host)
{
	const struct config_route *route = plan->route;
	if (route->deliver == CONFIG_DELIVER_MAILDIR ||
	    route->deliver == CONFIG_DELIVER_DISCARD ||
	    route->deliver == CONFIG_DELIVER_RETURNS ||
	    (route->deliver == CONFIG_DELIVER_LMTP && route->to_path != NULL))
		return NULL;
	switch (host->security) {
	case SECURITY_DANE:
	case SECURITY_BARRED:
		return "dane";
	case SECURITY_ENCRYPTED:
		return "dane-unusable";
	case SECURITY_STS:
	case SECURITY_STS_BARRED:
		return "sts";
	case SECURITY_ROUTE:
		break;
	}
	if (route->tls == CONFIG_ROUTE_TLS_REQUIRE)
		return "require";
	return route->tls == CONFIG_ROUTE_TLS_NONE ? "none" : "opportunistic";
}

static void
secure_free(struct secure *s)
{
	for (size_t i = 0; i < s->plan->host_count; i++)
		resolve_cancel(&s->probes[i].query);
	sts_cancel(&s->sts_query);
	sts_policy_unref(&s->policy);
	plan_unref(&s->plan);
	mem_free(s);
}

void
secure_cancel(struct secure **secure)
{
	if (*secure == NULL)
		return;
	secure_free(*secure);
	*secure = NULL;
}

/* ---- the end ---- */

/* Where DANE has a word, the policy has none (RFC 8461 §2). */
static void
apply_policy(struct secure *s)
{
	for (size_t i = 0; i < s->plan->host_count; i++) {
		struct plan_host *host = &s->plan->hosts[i];
		if (host->security != SECURITY_ROUTE)
			continue;
		host->security = SECURITY_STS;
		if (sts_policy_allows(s->policy, span_of(host->name)))
			continue;
		host->security = SECURITY_STS_BARRED;
		host->problem = mem_strdup(
		    "it does not stand in the domain's MTA-STS policy");
	}
}

/* Domains with the same hosts are one site only if they ask for the same. */
static char *
terms_of(const struct secure *s)
{
	struct buf terms = BUF_EMPTY;
	bool has_dane = false;
	for (size_t i = 0; i < s->plan->host_count; i++)
		has_dane |= s->plan->hosts[i].security != SECURITY_ROUTE;
	if (has_dane)
		buf_append_str(&terms, " dane");
	if (s->policy != NULL && s->policy->mode != STS_NONE)
		buf_printf(&terms, " sts=%016llx",
		    (unsigned long long)s->policy->mark);
	char *text = span_dup(buf_span(&terms));
	buf_done(&terms);
	return text;
}

static void
finish(struct secure *s)
{
	secure_fn *fn = s->fn;
	void *arg = s->arg;
	int64_t valid_until_us = s->valid_until_us;
	mem_free(s->plan->terms);
	s->plan->terms = terms_of(s);
	if (s->policy != NULL && s->policy->mode == STS_ENFORCE)
		apply_policy(s);
	if (s->policy != NULL)
		s->plan->policy = sts_policy_ref(s->policy);
	if (s->is_gone != NULL)
		*s->is_gone = true;
	secure_free(s);
	fn(arg, valid_until_us);
}

static void
release(struct secure *s)
{
	BUG_UNLESS(s->pending > 0);
	if (--s->pending == 0)
		finish(s);
}

static void
note_validity(struct secure *s, const struct resolve_records *records)
{
	if (records->valid_until_us < s->valid_until_us)
		s->valid_until_us = records->valid_until_us;
}

static void
bar(struct plan_host *host, const char *what,
    const struct resolve_records *records)
{
	host->security = SECURITY_BARRED;
	host->problem = mem_printf(
	    "DANE: its %s could not be looked up (%s), and without them it is "
	    "not known whether mail may go there",
	    what, records->problem);
}

/* ---- TLSA ---- */

/* All of them are kept, with their octets in one piece; the unusable ones
 * only count. */
static void
keep_records(struct probe *p, const struct resolve_records *records)
{
	struct plan_host *host = p->host;
	size_t len = 0;
	for (size_t i = 0; i < records->count; i++)
		len += records->rdata[i].len;
	host->octets = mem_alloc(len + 1);
	host->dane = mem_zalloc(records->count * sizeof *host->dane);
	host->security = SECURITY_ENCRYPTED;
	len = 0;
	for (size_t i = 0; i < records->count; i++) {
		struct span rdata = records->rdata[i];
		struct tls_dane_record record;
		if (rdata.len > 0)
			memcpy(host->octets + len, rdata.ptr, rdata.len);
		rdata = span_from(host->octets + len, rdata.len);
		len += rdata.len;
		if (!tls_dane_parse(rdata, &record) ||
		    !tls_dane_is_usable(&record))
			continue;
		host->dane[host->dane_count++] = record;
		host->security = SECURITY_DANE;
	}
	host->base = mem_strdup(p->base);
}

static void ask_tlsa(struct probe *p, const char *base);

static void
on_tlsa(void *arg, const struct resolve_records *records)
{
	struct probe *p = arg;
	p->query = NULL;
	note_validity(p->secure, records);
	if (records->result == RESOLVE_TEMPORARY)
		bar(p->host, "TLSA records", records);
	else if (records->secure && records->count > 0)
		keep_records(p, records);
	else if (p->at_canonical) {
		p->at_canonical = false;
		ask_tlsa(p, p->host->name);
	}
	release(p->secure);
}

/* Keeps a probe's handle, unless the answer came at once. */
static void
keep_query(struct probe *p, struct resolve_query *query)
{
	if (query != NULL)
		p->query = query;
}

static void
ask_tlsa(struct probe *p, const char *base)
{
	char *AUTO_FREE name =
	    mem_printf("_%u._tcp.%s", p->secure->plan->route->port, base);
	p->base = base;
	p->secure->pending++;
	keep_query(p, resolve_records(p->secure->dispatch->resolver,
			  RESOLVE_TLSA, span_of(name), on_tlsa, p));
}

/* ---- aliases that lead out of what is signed ---- */

static void
on_alias(void *arg, const struct resolve_records *records)
{
	struct probe *p = arg;
	p->query = NULL;
	note_validity(p->secure, records);
	if (records->result == RESOLVE_TEMPORARY)
		bar(p->host, "alias", records);
	else if (records->secure && records->count > 0)
		ask_tlsa(p, p->host->name);
	release(p->secure);
}

static void
probe_start(struct secure *s, struct probe *p, struct plan_host *host)
{
	p->secure = s;
	p->host = host;
	if (!s->plan->mx_secure)
		return;
	if (host->secure) {
		p->at_canonical = host->canonical != NULL;
		ask_tlsa(p, p->at_canonical ? host->canonical : host->name);
	} else if (host->canonical != NULL) {
		s->pending++;
		keep_query(
		    p, resolve_records(s->dispatch->resolver, RESOLVE_CNAME,
			   span_of(host->name), on_alias, p));
	}
}

/* ---- MTA-STS ---- */

static void
on_policy(void *arg, const struct sts_answer *answer)
{
	struct secure *s = arg;
	s->sts_query = NULL;
	if (answer->policy != NULL)
		s->policy = sts_policy_ref(answer->policy);
	if (answer->valid_until_us < s->valid_until_us)
		s->valid_until_us = answer->valid_until_us;
	release(s);
}

static void
ask_policy(struct secure *s, struct span domain)
{
	s->pending++;
	struct sts_query *query =
	    sts_ask(s->dispatch->sts, s->dispatch->loop, domain, on_policy, s);
	if (query != NULL)
		s->sts_query = query;
}

struct secure *
secure_find(struct dispatch *d, const struct secure_options *options)
{
	struct plan *plan = options->plan;
	const struct config_route *route = plan->route;
	bool has_sts = route->mta_sts && d->sts != NULL;
	if ((!route->dane && !has_sts) || route->tls == CONFIG_ROUTE_TLS_NONE) {
		options->fn(options->arg, options->valid_until_us);
		return NULL;
	}
	struct secure *s = MEM_NEW(struct secure);
	bool is_gone = false;
	s->dispatch = d;
	s->plan = plan_ref(plan);
	plan->report_domain = span_dup(options->domain);
	s->fn = options->fn;
	s->arg = options->arg;
	s->valid_until_us = options->valid_until_us;
	s->is_gone = &is_gone;
	s->pending = 1;
	for (size_t i = 0; route->dane && i < plan->host_count; i++)
		probe_start(s, &s->probes[i], &plan->hosts[i]);
	if (has_sts)
		ask_policy(s, options->domain);
	release(s);
	if (is_gone)
		return NULL;
	s->is_gone = NULL;
	return s;
}
