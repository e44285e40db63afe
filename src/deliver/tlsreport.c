/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "deliver/internal.h"

/*
 * What TLS came to, for reports to domains that ask for them (RFC 8460): only
 * of hosts that a TLSA record or a policy of MTA-STS has a word on. A session
 * counts once for each domain whose mail it takes; one that fails, for the
 * domain whose lookup led to it.
 */

static bool
contains(struct span text, const char *word)
{
	return span_search(text, span_of(word)) != SIZE_MAX;
}

/* RFC 8460 §4.3 */
static const char *
failure_of(const struct plan_host *host, struct span text)
{
	if (host->security == SECURITY_BARRED)
		return "dnssec-invalid";
	if (host->security == SECURITY_STS_BARRED)
		return "validation-failure";
	if (contains(text, "STARTTLS"))
		return "starttls-not-supported";
	if (contains(text, "mismatch"))
		return "certificate-host-mismatch";
	if (contains(text, "expired"))
		return "certificate-expired";
	if (host->security != SECURITY_DANE &&
	    contains(text, "certificate verify failed"))
		return "certificate-not-trusted";
	return "validation-failure";
}

/* In the mode `testing` what would have failed goes on, and is told. */
static const char *
failure_in_testing(const struct connection *c)
{
	struct tls_facts facts;
	if (!sts_policy_allows(c->plan->policy, span_of(connection_host(c))))
		return "validation-failure";
	if (!stream_tls_facts(c->stream, &facts))
		return "starttls-not-supported";
	if (facts.verified)
		return NULL;
	struct buf why = BUF_EMPTY;
	buf_printf(&why, "certificate verify failed: %s", facts.verify_error);
	const char *failure =
	    failure_of(connection_plan_host(c), buf_span(&why));
	buf_done(&why);
	return failure;
}

static void
append_records(const struct plan_host *host, struct buf *out)
{
	for (size_t i = 0; i < host->dane_count; i++) {
		const struct tls_dane_record *r = &host->dane[i];
		buf_printf(
		    out, "%u %u %u ", r->usage, r->selector, r->matching);
		for (size_t k = 0; k < r->data.len; k++)
			buf_printf(out, "%02x", (unsigned char)r->data.ptr[k]);
		buf_append_char(out, '\n');
	}
}

static bool
has_records(const struct plan_host *host)
{
	return host->security == SECURITY_DANE ||
	       host->security == SECURITY_ENCRYPTED ||
	       host->security == SECURITY_BARRED;
}

static void
add(struct connection *c, struct span domain, const char *failure)
{
	struct dispatch *d = c->dispatch;
	const struct plan_host *host = connection_plan_host(c);
	char ip[NETADDR_TEXT_SIZE];
	struct buf policy = BUF_EMPTY;
	struct sts_result result = {
		.wall_us = loop_wall_us(d->loop),
		.domain = domain,
		.kind = has_records(host) ? STS_KIND_TLSA : STS_KIND_STS,
		.failure = failure,
		.mx = span_of(host->name),
		.address =
		    span_of(netaddr_format_ip(connection_address(c), ip)),
		.source = span_of(c->source),
	};
	if (has_records(host))
		append_records(host, &policy);
	else
		sts_policy_format(c->plan->policy, &policy);
	result.policy = buf_span(&policy);
	sts_results_add(d->results, &result);
	buf_done(&policy);
}

static bool
is_told_of(const struct connection *c)
{
	return c->dispatch->results != NULL &&
	       c->dispatch->config->tls_reports.enabled &&
	       (has_records(connection_plan_host(c)) ||
		   (c->plan->policy != NULL &&
		       c->plan->policy->mode != STS_NONE));
}

void
tls_report_session(struct connection *c, struct span domain)
{
	if (!is_told_of(c) || span_eq(domain, span_of(c->told_domain)))
		return;
	mem_free(c->told_domain);
	c->told_domain = span_dup(domain);
	bool tests = !has_records(connection_plan_host(c)) &&
		     c->plan->policy->mode == STS_TESTING;
	add(c, domain, tests ? failure_in_testing(c) : NULL);
}

void
tls_report_failure(struct connection *c, const char *step, struct span text)
{
	bool is_tls =
	    span_eq(span_of(step), SPAN("tls")) || contains(text, "STARTTLS");
	const struct plan_host *host = connection_plan_host(c);
	if (!is_tls || !is_told_of(c) || c->plan->report_domain == NULL ||
	    (!has_records(host) && c->plan->policy->mode != STS_ENFORCE))
		return;
	add(c, span_of(c->plan->report_domain), failure_of(host, text));
}
