/* SPDX-License-Identifier: Apache-2.0 */
#include "doctor/doctor.h"

#include "api/internal.h"

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

void
doctor_show(struct call *call)
{
	struct config *config = call->api->config(call->api->owner);
	json_t *root = json_object(), *findings = json_array();
	struct doctor_report report;

	doctor_examine(config, &report);
	config_unref(&config);
	for (size_t i = 0; i < report.count; i++)
		json_array_append_new(
		    findings, finding_json(&report.findings[i]));
	json_object_set_new(root, "verdict",
	    json_string(doctor_level_name(doctor_verdict(&report))));
	json_object_set_new(root, "findings", findings);
	doctor_report_done(&report);
	respond_json(call, 200, root);
}
