/* SPDX-License-Identifier: Apache-2.0 */
#include "doctor/internal.h"
#include "resolve/proof.h"

void
examine_resolver(struct examination *x)
{
	struct resolver_options options = resolver_options_of(x->config);
	struct resolve_verdict verdict;

	if (!x->config->resolver.dnssec) {
		find(x, DOCTOR_NOTE, "resolver", "dnssec",
		    "is switched off: no server's key is known from the DNS");
		remedy(x, "resolver: {dnssec: true}");
		return;
	}
	options.timeout_us = 0; /* the proof's own */
	resolve_prove(&options, &verdict);
	x->can_validate = verdict.validates;
	if (verdict.validates) {
		find(x, DOCTOR_OK, "resolver", "dnssec",
		    "answers are validated");
		return;
	}
	find(x, DOCTOR_WARNING, "resolver", "dnssec",
	    "answers cannot be validated: %s", verdict.problem);
	remedy(x, "apt-get install unbound, and resolver: {servers: "
		  "[\"127.0.0.1:53\"]}");
}
