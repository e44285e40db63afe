/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"
#include "doctor/internal.h"
#include "os/clock.h"
#include "tls/stream.h"

#include <stdio.h>

/* Renewal is usually tried from 30 days before the end. */
#define ENDS_SOON_US (14 * US_PER_DAY)

static bool
is_wanted(const struct config *config)
{
	for (size_t i = 0; i < config->listener_count; i++) {
		if (config->listeners[i].tls != CONFIG_TLS_NONE)
			return true;
	}
	return false;
}

static void
check_end(struct examination *x, const struct tls_context *context)
{
	int64_t end_us = tls_context_certificate_end_us(context);
	int64_t left_us = end_us - clock_wall_us();
	const char *path = x->config->tls.certificate;
	char text[TIME_RFC3339_SIZE];

	if (end_us == 0)
		return;
	(void)time_format_rfc3339(end_us, text);
	if (left_us > ENDS_SOON_US) {
		find(x, DOCTOR_OK, "certificate", path, "is good until %s",
		    text);
		return;
	}
	find(x, left_us > 0 ? DOCTOR_WARNING : DOCTOR_PROBLEM, "certificate",
	    path, left_us > 0 ? "ends soon: %s" : "has ended: %s", text);
	remedy(x, "renew it, then: posthouse reload");
}

static void
check_name(struct examination *x, const struct tls_context *context)
{
	const char *name = x->config->hostname;
	const char *path = x->config->tls.certificate;

	if (tls_context_is_for(context, name)) {
		find(x, DOCTOR_OK, "certificate", path, "is for %s", name);
		return;
	}
	find(x, DOCTOR_WARNING, "certificate", path,
	    "is not for %s, so clients that verify it do not log in", name);
	remedy(x, "have %s certified, too", name);
}

static void
check_issuer(struct examination *x, const struct tls_context *context)
{
	if (!tls_context_is_self_signed(context))
		return;
	find(x, DOCTOR_WARNING, "certificate", x->config->tls.certificate,
	    "is signed by itself: clients that verify it do not log in");
	remedy(x, "get one from a certificate authority");
}

void
examine_certificate(struct examination *x)
{
	const struct config *c = x->config;
	struct tls_context *context = NULL;
	struct failure failure = { 0 };

	if (!is_wanted(c))
		return;
	if (c->tls.certificate == NULL) {
		find(x, DOCTOR_PROBLEM, "certificate", "tls",
		    "there is none, so clients cannot log in");
		remedy(x, "tls: {certificate: FILE, private_key: FILE}");
		return;
	}
	if (tls_context_new_server(c->tls.certificate, c->tls.private_key,
		&context, &failure) < 0) {
		find(x, DOCTOR_PROBLEM, "certificate", c->tls.certificate, "%s",
		    failure.text);
		return;
	}
	check_end(x, context);
	check_name(x, context);
	check_issuer(x, context);
	tls_context_unref(&context);
}
