/* SPDX-License-Identifier: Apache-2.0 */
#include "api/internal.h"
#include "base/arena.h"
#include "base/bug.h"
#include "base/mem.h"
#include "mail/address.h"

#include <string.h>

/* Each selector is a walk over all queues: more want to be named one by one. */
#define SELECTORS_MAX 100

json_t *
json_tenant_name(const struct directory_snapshot *s, uint32_t id)
{
	const struct directory_tenant *t = directory_tenant(s, id);

	return t == NULL ? json_null() : json_text(span_of(t->name));
}

json_t *
json_stream_name(const struct directory_snapshot *s, uint32_t id)
{
	const struct directory_stream *t = directory_stream(s, id);

	return t == NULL ? json_null() : json_text(span_of(t->name));
}

/* ---- selections -------------------------------------------------------- */

/* "*" stands for anything: "*.example.com" is what lies below. Literals and
 * other globs stay as they are. */
static bool
find_domain(struct call *call, const char *name, struct selection *selection)
{
	struct span all = span_of(name), domain = all, normal;
	bool is_below = span_starts(all, SPAN("*."));
	struct arena *arena;

	if (name == NULL || strcmp(name, "*") == 0)
		return true;
	if (is_below)
		domain = span_skip(all, 2);
	if (span_starts(domain, SPAN("[")) ||
	    span_find(domain, '*') != SIZE_MAX) {
		selection->domain = span_dup(all);
		return true;
	}
	arena = arena_new();
	int result = address_normalise_domain(domain, arena, &normal);
	if (result == 0)
		selection->domain = mem_printf(
		    "%s%.*s", is_below ? "*." : "", SPAN_ARG(normal));
	else
		respond_error(call, 400, "bad_domain",
		    "`%.255s` is not a domain: write one such as example.com, "
		    "or *.example.com for all below it",
		    name);
	arena_free(&arena);
	return result == 0;
}

const char *class_name(enum schedule_class class)
{
	static const char *const names[SCHEDULE_CLASSES] = {
		[SCHEDULE_TRANSACTIONAL] = "transactional",
		[SCHEDULE_REPORT] = "report",
		[SCHEDULE_BULK] = "bulk",
	};

	BUG_UNLESS(class < SCHEDULE_CLASSES);
	return names[class];
}

static bool
find_class(struct call *call, const char *name, struct selection *selection)
{
	if (name == NULL)
		return true;
	for (unsigned i = 0; i < SCHEDULE_CLASSES; i++) {
		if (strcmp(name, class_name((enum schedule_class)i)) != 0)
			continue;
		selection->classes = (uint8_t)(1U << i);
		return true;
	}
	respond_error(call, 400, "bad_class",
	    "`%.64s` is not a class: there are transactional, report and bulk",
	    name);
	return false;
}

static bool
add_selector(struct call *call, struct selection *selection, uint32_t tenant,
    uint32_t stream)
{
	if (selection->count == SELECTORS_MAX) {
		respond_error(call, 400, "too_many_streams",
		    "more than %d tenants have a stream of this name: name the "
		    "tenant, too",
		    SELECTORS_MAX);
		return false;
	}
	selection->selectors = mem_resize(selection->selectors,
	    selection->count + 1, sizeof(*selection->selectors));
	selection->selectors[selection->count++] = (struct schedule_selector){
		.tenant = tenant,
		.stream = stream,
		.domain = span_of(selection->domain),
		.site = span_of(selection->site),
		.classes = selection->classes,
	};
	return true;
}

static bool
add_streams(struct call *call, const struct directory_snapshot *s,
    uint32_t tenant, const char *name, struct selection *selection)
{
	size_t count;
	const struct directory_stream *all = directory_streams(s, &count);

	for (size_t i = 0; i < count; i++) {
		if ((tenant != 0 && all[i].tenant != tenant) ||
		    strcmp(all[i].name, name) != 0)
			continue;
		if (!add_selector(call, selection, all[i].tenant, all[i].id))
			return false;
	}
	if (selection->count > 0)
		return true;
	respond_error(call, 404, "not_found",
	    "there is no stream `%.64s`; `posthouse stream list` shows them",
	    name);
	return false;
}

static bool
find_selectors(struct call *call, const struct directory_snapshot *s,
    const struct selection_names *names, struct selection *selection)
{
	uint32_t tenant = 0;

	if (names->tenant != NULL) {
		const struct directory_tenant *t =
		    directory_find_tenant(s, span_of(names->tenant));

		if (t == NULL) {
			respond_error(call, 404, "not_found",
			    "there is no tenant `%.64s`; `posthouse tenant "
			    "list` shows them",
			    names->tenant);
			return false;
		}
		tenant = t->id;
	}
	if (!find_domain(call, names->domain, selection) ||
	    !find_class(call, names->class, selection))
		return false;
	if (names->site != NULL)
		selection->site = mem_strdup(names->site);
	if (names->stream != NULL)
		return add_streams(call, s, tenant, names->stream, selection);
	return add_selector(call, selection, tenant, 0);
}

bool
selection_find(struct call *call, const struct selection_names *names,
    struct selection *ret_selection)
{
	struct selection selection = { 0 };
	struct directory_snapshot *s = directory_snapshot(call->api->directory);
	bool found = find_selectors(call, s, names, &selection);

	directory_snapshot_unref(&s);
	if (found)
		*ret_selection = selection;
	else
		selection_done(&selection);
	return found;
}

void
selection_done(struct selection *selection)
{
	mem_free(selection->selectors);
	mem_free(selection->domain);
	mem_free(selection->site);
	*selection = (struct selection){ 0 };
}
