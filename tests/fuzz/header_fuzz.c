/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "mail/address.h"
#include "mail/header.h"

/*
 * A message's header: fields tile the section without gap or overlap, a copy
 * without nothing is a copy, and a From that is understood has a domain that
 * an envelope could have.
 */

static void
check_from(struct span value)
{
	struct arena *arena = arena_new();
	struct span first, domain;
	size_t count = 0;

	if (header_from_address(value, arena, &count, &first) == 0) {
		BUG_UNLESS((count == 0) == (first.len == 0));
		BUG_UNLESS(count <= value.len);
		domain = address_domain_of(first);
		BUG_UNLESS(span_is_ascii(domain));
		BUG_UNLESS(count == 0 || domain.len > 0);
		BUG_UNLESS(span_find(first, '\n') == SIZE_MAX);
		BUG_UNLESS(span_find(first, '\r') == SIZE_MAX);
	}
	arena_free(&arena);
}

static size_t
check_fields(struct span section)
{
	struct span rest = section;
	struct header_field field;
	size_t count = 0;
	int code;

	for (;;) {
		const char *start = rest.ptr;
		code = header_next(&rest, &field);
		if (code == 0)
			return count;
		BUG_UNLESS(field.raw.ptr == start && field.raw.len > 0);
		BUG_UNLESS(field.raw.ptr + field.raw.len == rest.ptr);
		if (code < 0)
			continue;
		count++;
		BUG_UNLESS(field.name.len > 0);
		BUG_UNLESS(field.name.ptr == field.raw.ptr);
		check_from(field.value);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static const char *const none[] = { NULL };
	static const char *const some[] = { "Bcc", "From", NULL };
	struct span section = span_from(bytes, size);
	struct header_facts facts;
	struct buf copy = BUF_EMPTY;

	size_t length = header_section_length(section);
	BUG_UNLESS(length <= size);
	if (length > 0)
		section.len = length;
	header_inspect(section, &facts);
	BUG_UNLESS(facts.field_count == check_fields(section));
	header_copy_without(section, none, &copy);
	BUG_UNLESS(span_eq(buf_span(&copy), section));
	buf_clear(&copy);
	header_copy_without(section, some, &copy);
	BUG_UNLESS(buf_size(&copy) <= section.len);
	header_inspect(buf_span(&copy), &facts);
	BUG_UNLESS(facts.bcc_count == 0 && facts.from_count == 0);
	buf_done(&copy);
	check_from(span_from(bytes, size));
	return 0;
}
