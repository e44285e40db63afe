/* SPDX-License-Identifier: Apache-2.0 */
#include "api/dns.h"
#include "api/internal.h"
#include "api/rotation.h"
#include "base/bug.h"
#include "base/mem.h"

#include <string.h>

static const char *const state_names[] = {
	[DIRECTORY_KEY_NEXT] = "next",
	[DIRECTORY_KEY_ACTIVE] = "active",
	[DIRECTORY_KEY_OLD] = "old",
};

/* ---- showing ----------------------------------------------------------- */

static json_t *
key_json(const struct directory_key *key)
{
	return json_pack("{s:s, s:s, s:i, s:s, s:o, s:o}", "selector",
	    key->selector, "algorithm", sign_algorithm_name(key->algorithm),
	    "bits", (int)key->bits, "state", state_names[key->state], "changed",
	    json_time(key->changed_us), "seen", json_time(key->seen_us));
}

static json_t *
domain_json(
    const struct directory_snapshot *s, const struct directory_domain *d)
{
	json_t *keys = json_array();

	for (size_t i = 0; i < d->key_count; i++)
		json_array_append_new(keys, key_json(&d->keys[i]));
	return json_pack("{s:s, s:o, s:s, s:b, s:o, s:o, s:o, s:o, s:o}",
	    "name", d->name, "tenant", json_tenant_name(s, d->tenant),
	    "return_path", d->return_path, "verified", d->verified_us != 0,
	    "verified_since", json_time(d->verified_us), "checked",
	    json_time(d->checked_us), "problem",
	    json_text_or_null(span_of(d->problem)), "created",
	    json_time(d->created_us), "keys", keys);
}

static void
list_domains(
    struct call *call, const struct directory_snapshot *s, struct page page)
{
	json_t *list, *next = json_null();
	uint32_t tenant;
	size_t count;

	if (!wanted_tenant(call, s, &tenant))
		return;
	list = json_array();
	const struct directory_domain *all = directory_domains(s, &count);
	for (size_t i = 0; i < count; i++) {
		if (all[i].id <= page.after ||
		    (tenant != 0 && all[i].tenant != tenant))
			continue;
		if (json_array_size(list) == page.limit) {
			next = json_count(page.after);
			break;
		}
		json_array_append_new(list, domain_json(s, &all[i]));
		page.after = all[i].id;
	}
	respond_json(
	    call, 200, json_pack("{s:o, s:o}", "domains", list, "next", next));
}

void
domains_list(struct call *call)
{
	struct directory_snapshot *s;
	struct page page;

	if (!page_read(call, &page))
		return;
	s = directory_snapshot(call->api->directory);
	list_domains(call, s, page);
	directory_snapshot_unref(&s);
}

/* NULL: the answer is made. */
static const struct directory_domain *
find_domain(
    struct call *call, const struct directory_snapshot *s, const char *name)
{
	const struct directory_domain *d =
	    directory_find_domain(s, span_of(name));

	if (d == NULL)
		respond_error(call, 404, "not_found",
		    "there is no sender domain `%.100s`; `posthouse domain "
		    "list` shows them",
		    name);
	return d;
}

static void
show(struct call *call, int status, const char *name)
{
	struct directory_snapshot *s = directory_snapshot(call->api->directory);
	const struct directory_domain *d = find_domain(call, s, name);

	if (d != NULL)
		respond_json(call, status, domain_json(s, d));
	directory_snapshot_unref(&s);
}

void
domains_show(struct call *call)
{
	show(call, 200, call->arguments[0]);
}

/* ---- changing ---------------------------------------------------------- */

static void
show_by_id(struct call *call, uint32_t id)
{
	struct directory_snapshot *s = directory_snapshot(call->api->directory);
	size_t count;
	const struct directory_domain *all = directory_domains(s, &count);
	const struct directory_domain *d = NULL;

	for (size_t i = 0; i < count && d == NULL; i++)
		d = all[i].id == id ? &all[i] : NULL;
	if (d != NULL)
		respond_json(call, 201, domain_json(s, d));
	else
		respond_error(
		    call, 404, "not_found", "the domain was removed meanwhile");
	directory_snapshot_unref(&s);
}

void
domains_add(struct call *call)
{
	struct directory_new_domain domain = { .tenant = "default" };
	const struct body_field fields[] = {
		{ "tenant", BODY_STRING, false, &domain.tenant },
		{ "name", BODY_STRING, true, &domain.name },
		{ "return_path", BODY_STRING, false, &domain.return_path },
	};
	struct failure failure;
	json_t *root;
	uint32_t id;

	if (!body_read(call, fields, 3, &root))
		return;
	if (directory_add_domain(call->api->directory, &domain, &id, &failure) <
	    0)
		respond_failure(call, &failure);
	else
		show_by_id(call, id);
	json_decref(root);
}

void
domains_remove(struct call *call)
{
	const char *name = call->arguments[0];
	struct failure failure;

	if (directory_remove_domain(call->api->directory, name, &failure) < 0)
		respond_failure(call, &failure);
	else
		respond_json(call, 200, json_pack("{s:s}", "removed", name));
}

/* ---- the DNS ----------------------------------------------------------- */

/* What a question about a domain's records works with. */
struct survey {
	struct directory_snapshot *snapshot;
	const struct directory_domain *domain;
	struct config *config;
	struct arena *arena;
	struct dns_plan plan;
	struct dns_finding findings[DNS_RECORDS_MAX];
};

static void
survey_end(struct survey *s)
{
	directory_snapshot_unref(&s->snapshot);
	config_unref(&s->config);
	arena_free(&s->arena);
}

/* False: the answer is made. */
static bool
survey_begin(struct call *call, struct survey *s)
{
	*s = (struct survey){
		.snapshot = directory_snapshot(call->api->directory),
		.config = call->api->config(call->api->owner),
		.arena = arena_new(),
	};
	s->domain = find_domain(call, s->snapshot, call->arguments[0]);
	if (s->domain == NULL) {
		survey_end(s);
		return false;
	}
	dns_plan_make(s->domain, s->config, s->arena, &s->plan);
	return true;
}

static json_t *
record_json(const struct survey *s, const struct dns_record *r)
{
	return json_pack("{s:s, s:s?, s:o, s:s, s:o, s:o}", "purpose",
	    r->purpose, "state",
	    r->key != NULL ? state_names[r->key->state] : NULL, "name",
	    json_text(r->name), "type", r->type, "value", json_text(r->value),
	    "zone", json_text(dns_zone_line(r, s->arena)));
}

void
domains_dns(struct call *call)
{
	json_t *records = json_array();
	struct survey s;

	if (!survey_begin(call, &s)) {
		json_decref(records);
		return;
	}
	for (size_t i = 0; i < s.plan.count; i++)
		json_array_append_new(
		    records, record_json(&s, &s.plan.records[i]));
	respond_json(call, 200,
	    json_pack(
		"{s:s, s:o}", "domain", s.domain->name, "records", records));
	survey_end(&s);
}

static json_t *
finding_json(const struct survey *s, size_t i)
{
	static const char *const names[] = {
		[DNS_FINE] = "fine",
		[DNS_MISSING] = "missing",
		[DNS_WRONG] = "wrong",
		[DNS_UNKNOWN] = "unknown",
	};
	const struct dns_finding *f = &s->findings[i];
	json_t *record = record_json(s, &s->plan.records[i]);

	json_object_set_new(record, "result", json_string(names[f->state]));
	json_object_set_new(record, "dnssec", json_boolean(f->is_secure));
	json_object_set_new(record, "found", json_text_or_null(f->found));
	json_object_set_new(record, "problem", json_text_or_null(f->problem));
	return record;
}

/* Writes down what was found. The sentence is the first problem's; a key that
 * signs comes before all others. */
static int
note(struct call *call, struct survey *s, struct failure *ret_failure)
{
	uint32_t seen[DNS_RECORDS_MAX];
	struct directory_domain_check check = {
		.name = s->domain->name,
		.problem = "",
		.seen = seen,
	};

	for (size_t i = 0; i < s->plan.count; i++) {
		const struct directory_key *key = s->plan.records[i].key;
		const struct dns_finding *f = &s->findings[i];
		bool is_early = key != NULL && key->state == DIRECTORY_KEY_NEXT;

		if (f->state != DNS_FINE && check.problem[0] == '\0' &&
		    !is_early)
			check.problem = arena_printf(s->arena, "%s: %.*s",
			    s->plan.records[i].purpose, SPAN_ARG(f->problem))
					    .ptr;
		if (f->state != DNS_FINE || key == NULL)
			continue;
		seen[check.seen_count++] = key->id;
		check.is_verified |= key->state == DIRECTORY_KEY_ACTIVE;
	}
	return directory_note_check(call->api->directory, &check, ret_failure);
}

static bool
is_verified_now(struct call *call, const char *name)
{
	struct directory_snapshot *s = directory_snapshot(call->api->directory);
	const struct directory_domain *d =
	    directory_find_domain(s, span_of(name));
	bool is_verified = d != NULL && d->verified_us != 0;

	directory_snapshot_unref(&s);
	return is_verified;
}

void
domains_verify(struct call *call)
{
	struct failure failure;
	struct survey s;
	bool is_fine = true;

	if (!survey_begin(call, &s))
		return;
	int code = dns_look(&s.plan, s.config, s.arena, s.findings, &failure);
	if (code == 0)
		code = note(call, &s, &failure);
	if (code < 0) {
		respond_failure(call, &failure);
		survey_end(&s);
		return;
	}
	json_t *records = json_array();
	for (size_t i = 0; i < s.plan.count; i++) {
		is_fine = is_fine && s.findings[i].state == DNS_FINE;
		json_array_append_new(records, finding_json(&s, i));
	}
	respond_json(call, 200,
	    json_pack("{s:s, s:b, s:b, s:o}", "domain", s.domain->name,
		"verified", is_verified_now(call, s.domain->name), "fine",
		is_fine, "records", records));
	survey_end(&s);
}

/* ---- keys -------------------------------------------------------------- */

void
domains_rotate(struct call *call)
{
	struct rotation_step step = {
		.domain = call->arguments[0],
		.may_begin = true,
	};
	const struct body_field fields[] = {
		{ "force", BODY_BOOLEAN, false, &step.is_forced },
	};
	struct rotation_outcome outcome;
	struct failure failure;
	json_t *root;

	if (!body_read(call, fields, 1, &root))
		return;
	struct config *config = call->api->config(call->api->owner);
	if (rotation_go_on(
		call->api->directory, config, &step, &outcome, &failure) < 0)
		respond_failure(call, &failure);
	else
		respond_json(call, 200,
		    json_pack("{s:s, s:s, s:s}", "domain", step.domain, "stage",
			rotation_stage_name(outcome.stage), "message",
			outcome.text));
	config_unref(&config);
	json_decref(root);
}
