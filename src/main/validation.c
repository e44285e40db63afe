/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whether DNSSEC works is not taken for granted: see resolve/proof.h. Until
 * the first verdict, mail that needs DNS waits; without validation mail goes
 * as it did before DANE was invented, which the log and `status` say.
 */

#include "base/list.h"
#include "base/mem.h"
#include "log/log.h"
#include "main/internal.h"

#include <string.h>

struct verdict_item {
	struct loop_item item;
	struct dispatch *dispatch;
	bool works;
};

static void
set_validation(struct loop_item *item)
{
	struct verdict_item *v = LIST_ENTRY(item, struct verdict_item, item);

	dispatch_set_validation(v->dispatch, v->works);
	mem_free(v);
}

static void
set_facts(struct engine *e, const char *dnssec, const char *problem)
{
	pthread_mutex_lock(&e->facts_lock);
	e->facts.dnssec = dnssec;
	(void)span_to_cstring(span_of(problem), e->facts.dnssec_problem,
	    sizeof(e->facts.dnssec_problem));
	pthread_mutex_unlock(&e->facts_lock);
}

/* On the proof's thread. */
static void
on_verdict(void *arg, const struct resolve_verdict *verdict)
{
	struct engine *e = arg;

	if (verdict->validates)
		LOG(LOG_INFO, "main", "DNSSEC validates: DANE is on");
	else
		LOG(LOG_WARNING, "main",
		    "DNSSEC does not work: DANE is off, and DNS answers are "
		    "believed without validation, until it does; tried again "
		    "every minute",
		    LOG_C("reason", verdict->problem));
	set_facts(e, verdict->validates ? "validates" : "fails",
	    verdict->validates ? "" : verdict->problem);
	sts_store_validates(e->sts, verdict->validates);
	for (uint32_t i = 0; i < e->reactor_count; i++) {
		struct verdict_item *v = MEM_NEW(struct verdict_item);

		v->item.run = set_validation;
		v->dispatch = e->reactors[i].dispatch;
		v->works = verdict->validates;
		loop_post(e->reactors[i].loop, &v->item);
	}
}

bool
validation_is_needed(const struct config *c)
{
	struct netaddr address;

	for (size_t i = 0; c->resolver.dnssec && i < c->route_count; i++) {
		const struct config_route *r = &c->routes[i];

		if (r->deliver == CONFIG_DELIVER_MX ||
		    (r->to_host != NULL &&
			!netaddr_parse_ip(span_of(r->to_host), &address)))
			return true;
		for (size_t k = 0; k < r->domain_count; k++) {
			if (strcmp(r->domains[k], "*") == 0)
				return false;
		}
	}
	return false;
}

int
validation_start(struct engine *e)
{
	const struct config *c = e->config;
	struct resolver_options options = resolver_options_of(c);

	options.dnssec = true;
	options.timeout_us = 0; /* the proof's own */
	if (!validation_is_needed(c)) {
		set_facts(e, "off", "");
		return 0;
	}
	set_facts(e, "checking", "");
	return resolve_proof_start(&options, on_verdict, e, &e->proof);
}

/* Dispatchers that got a new config while an old verdict was on its way to
 * them hear the new one afterwards. */
void
validation_reload(struct engine *e)
{
	validation_stop(e);
	sts_store_set_config(e->sts, e->config);
	tls_reports_reload(e->tls_reports);
	int result = validation_start(e);
	if (result < 0)
		LOG(LOG_ERROR, "main",
		    "cannot find out whether DNSSEC works; what was known "
		    "stays",
		    LOG_C("error", error_text(result)));
}

void
validation_stop(struct engine *e)
{
	resolve_proof_stop(&e->proof);
}
