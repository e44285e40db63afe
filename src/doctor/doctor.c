/* SPDX-License-Identifier: Apache-2.0 */
#include "doctor/doctor.h"

#include "base/arena.h"
#include "base/bug.h"
#include "base/mem.h"
#include "doctor/internal.h"

#include <stdarg.h>
#include <stdio.h>

#define TEXT_MAX 1024

const char *
doctor_level_name(enum doctor_level level)
{
	static const char *const names[DOCTOR_LEVELS] = {
		[DOCTOR_OK] = "ok",
		[DOCTOR_NOTE] = "note",
		[DOCTOR_WARNING] = "warning",
		[DOCTOR_PROBLEM] = "problem",
	};

	BUG_UNLESS(level < DOCTOR_LEVELS);
	return names[level];
}

enum doctor_level
doctor_verdict(const struct doctor_report *report)
{
	enum doctor_level worst = DOCTOR_OK;

	for (size_t i = 0; i < report->count; i++) {
		if (report->findings[i].level > worst)
			worst = report->findings[i].level;
	}
	return worst;
}

void
doctor_add(struct doctor_report *report, const struct doctor_finding *finding)
{
	struct doctor_report *r = report;
	const char *how = finding->remedy;

	r->findings =
	    mem_resize(r->findings, r->count + 1, sizeof(*r->findings));
	r->findings[r->count++] = (struct doctor_finding){
		.level = finding->level,
		.area = finding->area,
		.subject = arena_strdup(r->arena, span_of(finding->subject)),
		.text = arena_strdup(r->arena, span_of(finding->text)),
		.remedy =
		    how != NULL ? arena_strdup(r->arena, span_of(how)) : NULL,
	};
}

void
find(struct examination *x, enum doctor_level level, const char *area,
    const char *subject, const char *format, ...)
{
	char text[TEXT_MAX];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	const struct doctor_finding finding = {
		.level = level,
		.area = area,
		.subject = subject,
		.text = text,
	};
	doctor_add(x->report, &finding);
}

void
remedy(struct examination *x, const char *format, ...)
{
	struct doctor_report *r = x->report;
	char text[TEXT_MAX];
	va_list arguments;

	BUG_UNLESS(r->count > 0 && r->findings[r->count - 1].remedy == NULL);
	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	r->findings[r->count - 1].remedy =
	    arena_strdup(r->arena, span_of(text));
}

void
doctor_report_done(struct doctor_report *report)
{
	arena_free(&report->arena);
	mem_free(report->findings);
	*report = (struct doctor_report){ 0 };
}

void
doctor_examine(const struct config *config, struct doctor_report *ret_report)
{
	struct doctor_report report = { .arena = arena_new() };
	struct examination x = { .config = config, .report = &report };
	struct failure failure = { 0 };

	examine_host(&x);
	examine_certificate(&x);
	examine_resolver(&x);
	if (interview_begin(config, x.can_validate, &x.dns, &failure) < 0) {
		find(&x, DOCTOR_PROBLEM, "resolver", "dns", "%s", failure.text);
	} else {
		examine_sources(&x);
		interview_end(&x.dns);
	}
	*ret_report = report;
}
