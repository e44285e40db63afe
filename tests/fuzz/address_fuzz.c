/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "mail/address.h"

/*
 * Addresses and paths from the wire. What is accepted must be within its
 * limits, hold nothing that ends a line, and be its own canonical form. The
 * first octet chooses the flags.
 */

static void
check_accepted(const struct address *a, int flags, struct arena *arena)
{
	struct address again;
	const char *reason = NULL;

	BUG_UNLESS(a->text.len <= ADDRESS_MAX);
	BUG_UNLESS(a->local.len <= ADDRESS_LOCAL_MAX);
	BUG_UNLESS(a->domain.len <= ADDRESS_DOMAIN_MAX);
	BUG_UNLESS(span_is_ascii(a->domain));
	BUG_UNLESS(span_is_utf8(a->text));
	BUG_UNLESS(a->needs_utf8 == !span_is_ascii(a->text));
	BUG_UNLESS(!a->needs_utf8 || (flags & ADDRESS_ALLOW_UTF8) != 0);
	BUG_UNLESS(!a->is_literal || (flags & ADDRESS_ALLOW_LITERAL) != 0);
	BUG_UNLESS(span_find(a->local, '@') == SIZE_MAX);
	for (size_t i = 0; i < a->text.len; i++)
		BUG_UNLESS((unsigned char)a->text.ptr[i] >= ' ');
	for (size_t i = 0; i < a->domain.len && !a->is_literal; i++)
		BUG_UNLESS(a->domain.ptr[i] < 'A' || a->domain.ptr[i] > 'Z');
	BUG_UNLESS(span_eq(address_domain_of(a->text), a->domain));
	BUG_UNLESS(address_parse(a->text, flags, arena, &again, &reason) == 0);
	BUG_UNLESS(span_eq(again.text, a->text));
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct address a;
	const char *reason = NULL;

	if (size == 0)
		return 0;
	struct arena *arena = arena_new();
	struct span s = span_from(bytes + 1, size - 1);
	int flags = bytes[0] & 15;
	if (address_parse(s, flags, arena, &a, &reason) == 0)
		check_accepted(&a, flags, arena);
	else
		BUG_UNLESS(reason != NULL);
	struct span rest = s;
	if (address_parse_path(&rest, flags, arena, &a, &reason) == 0) {
		BUG_UNLESS(rest.len + 2 <= s.len);
		check_accepted(&a, flags, arena);
	}
	struct span domain;
	if (address_normalise_domain(s, arena, &domain) == 0)
		BUG_UNLESS(address_is_helo_name(domain));
	(void)address_is_helo_name(s);
	arena_free(&arena);
	return 0;
}
