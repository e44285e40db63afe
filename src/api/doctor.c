/* SPDX-License-Identifier: Apache-2.0 */
#include "doctor/doctor.h"

#include "api/dns.h"
#include "api/internal.h"
#include "base/time.h"
#include "os/clock.h"

#include <string.h>

/* Each domain may take 20 seconds where the DNS is silent. */
#define DOMAINS_US US_PER_MIN

/* ---- sender domains ---------------------------------------------------- */

struct ward {
	const struct config *config;
	struct doctor_report *report;
	struct arena *arena;
};

static void
add(const struct ward *w, enum doctor_level level, const char *subject,
    struct span text, struct span how)
{
	const struct doctor_finding finding = {
		.level = level,
		.area = "domain",
		.subject = subject,
		.text = arena_strdup(w->arena, text),
		.remedy = how.len > 0 ? arena_strdup(w->arena, how) : NULL,
	};

	doctor_add(w->report, &finding);
}

/* Without a signature or SPF mail is refused; the rest costs reputation. */
static enum doctor_level
level_of(const struct dns_record *r, const struct dns_finding *f)
{
	bool is_early = r->key != NULL && r->key->state != DIRECTORY_KEY_ACTIVE;

	if (f->state == DNS_UNKNOWN || is_early)
		return DOCTOR_NOTE;
	if (strcmp(r->purpose, "dkim") == 0 || strcmp(r->purpose, "spf") == 0)
		return DOCTOR_PROBLEM;
	return DOCTOR_WARNING;
}

static void
examine_domain(const struct ward *w, const struct directory_domain *domain)
{
	struct dns_finding findings[DNS_RECORDS_MAX];
	struct failure failure;
	struct dns_plan plan;
	bool is_fine = true;

	dns_plan_make(domain, w->config, w->arena, &plan);
	if (dns_look(&plan, w->config, w->arena, findings, &failure) < 0) {
		add(w, DOCTOR_WARNING, domain->name, span_of(failure.text),
		    SPAN_EMPTY);
		return;
	}
	for (size_t i = 0; i < plan.count; i++) {
		const struct dns_record *r = &plan.records[i];
		const struct dns_finding *f = &findings[i];

		if (f->state == DNS_FINE)
			continue;
		is_fine = false;
		add(w, level_of(r, f), domain->name,
		    arena_printf(
			w->arena, "%s: %.*s", r->purpose, SPAN_ARG(f->problem)),
		    f->state == DNS_UNKNOWN ? SPAN_EMPTY
					    : dns_zone_line(r, w->arena));
	}
	if (is_fine)
		add(w, DOCTOR_OK, domain->name,
		    SPAN("what it must publish is published"), SPAN_EMPTY);
}

static void
examine_domains(const struct ward *w, const struct directory_snapshot *s)
{
	int64_t end_us = clock_monotonic_us() + DOMAINS_US;
	size_t count, i = 0;
	const struct directory_domain *all = directory_domains(s, &count);

	for (; i < count && clock_monotonic_us() < end_us; i++)
		examine_domain(w, &all[i]);
	if (i < count)
		add(w, DOCTOR_NOTE, all[i].name,
		    arena_printf(w->arena,
			"this and %zu more were not looked at: the time was "
			"over",
			count - i - 1),
		    SPAN("posthouse domain verify DOMAIN"));
}

/* ---- the answer -------------------------------------------------------- */

static json_t *
finding_json(const struct doctor_finding *f)
{
	json_t *one = json_object();

	json_object_set_new(
	    one, "level", json_string(doctor_level_name(f->level)));
	json_object_set_new(one, "area", json_string(f->area));
	json_object_set_new(one, "subject", json_text(span_of(f->subject)));
	json_object_set_new(one, "text", json_text(span_of(f->text)));
	json_object_set_new(one, "remedy",
	    f->remedy != NULL ? json_text(span_of(f->remedy)) : json_null());
	return one;
}

static json_t *
report_json(const struct doctor_report *report)
{
	json_t *findings = json_array();

	for (size_t i = 0; i < report->count; i++)
		json_array_append_new(
		    findings, finding_json(&report->findings[i]));
	return json_pack("{s:s, s:o}", "verdict",
	    doctor_level_name(doctor_verdict(report)), "findings", findings);
}

void
doctor_show(struct call *call)
{
	struct config *config = call->api->config(call->api->owner);
	struct directory_snapshot *s = directory_snapshot(call->api->directory);
	struct doctor_report report;
	struct ward w = {
		.config = config, .report = &report, .arena = arena_new()
	};

	doctor_examine(config, &report);
	examine_domains(&w, s);
	respond_json(call, 200, report_json(&report));
	doctor_report_done(&report);
	arena_free(&w.arena);
	directory_snapshot_unref(&s);
	config_unref(&config);
}
