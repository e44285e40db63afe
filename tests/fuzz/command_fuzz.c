/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "mail/xtext.h"
#include "smtp/command.h"

/*
 * Command lines. The first octet chooses the flags. What is accepted must be
 * within its limits and free of anything that could end a line further on.
 */

static void
check_graphic_ascii(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		BUG_UNLESS(s.ptr[i] > ' ' && s.ptr[i] <= '~');
}

static void
check_fault(int result, const struct reply *fault)
{
	BUG_UNLESS(result == 0 || result == ERR_SYNTAX);
	if (result == 0)
		return;
	BUG_UNLESS(reply_is_permanent(fault) && fault->enhanced.class == 5);
	BUG_UNLESS(fault->text.len > 0 && fault->text.len < 200);
}

/* xtext's decoded form, which is what a report will show. */
static void
check_xtext(struct span s, size_t max)
{
	struct buf decoded = BUF_EMPTY;
	check_graphic_ascii(s);
	BUG_UNLESS(xtext_decode(s, &decoded) == 0);
	struct span text = buf_span(&decoded);
	BUG_UNLESS(text.len <= max);
	for (size_t i = 0; i < text.len; i++)
		BUG_UNLESS(text.ptr[i] >= ' ' && text.ptr[i] <= '~');
	buf_done(&decoded);
}

static void
try_mail(struct span argument, int flags, struct arena *arena)
{
	struct smtp_mail m;
	struct reply fault = { 0 };
	int r = command_parse_mail(
	    argument, flags & ADDRESS_ALLOW_LITERAL, arena, &m, &fault);
	check_fault(r, &fault);
	if (r < 0)
		return;
	BUG_UNLESS(m.utf8 || !m.sender.needs_utf8);
	BUG_UNLESS(m.body <= SMTP_BODY_BINARYMIME && m.ret <= SMTP_RET_HDRS);
	check_xtext(m.envid, 100);
}

static void
try_rcpt(struct span argument, int flags, struct arena *arena)
{
	struct smtp_rcpt c;
	struct reply fault = { 0 };
	int r = command_parse_rcpt(argument, flags, arena, &c, &fault);
	check_fault(r, &fault);
	if (r < 0)
		return;
	BUG_UNLESS(c.recipient.text.len > 0);
	BUG_UNLESS(
	    (flags & ADDRESS_ALLOW_UTF8) != 0 || !c.recipient.needs_utf8);
	BUG_UNLESS(c.notify <= 14 && ((c.notify & SMTP_NOTIFY_NEVER) == 0 ||
					 c.notify == SMTP_NOTIFY_NEVER));
	struct span address = c.orcpt;
	struct span type = span_cut(&address, ';');
	BUG_UNLESS((type.len == 0) == (address.len == 0));
	check_graphic_ascii(type);
	check_xtext(address, 4 * 500);
}

static void
try_others(struct span argument)
{
	uint64_t size;
	bool last;
	if (command_parse_bdat(argument, &size, &last) == 0)
		BUG_UNLESS(size <= INT64_MAX);
	struct command_auth auth;
	struct reply fault = { 0 };
	int r = command_parse_auth(argument, &auth, &fault);
	check_fault(r, &fault);
	if (r == 0) {
		BUG_UNLESS(auth.mechanism.len > 0);
		BUG_UNLESS(auth.initial.len % 4 == 0);
		BUG_UNLESS(auth.has_initial || auth.initial.len == 0);
	}
	if (command_is_client_name(argument))
		BUG_UNLESS(argument.len > 0 && argument.len <= 255 &&
			   span_is_utf8(argument));
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	if (size == 0 || size > 4096)
		return 0;
	/* A copy of its own lets the sanitizer see each step outside. */
	char *copy = mem_dup(bytes + 1, size - 1);
	struct command c = command_split(span_from(copy, size - 1));
	BUG_UNLESS(c.verb.len + c.argument.len < size);
	int flags = bytes[0] & (ADDRESS_ALLOW_UTF8 | ADDRESS_ALLOW_LITERAL);
	struct arena *arena = arena_new();
	try_mail(c.argument, flags, arena);
	try_rcpt(c.argument, flags, arena);
	try_others(c.argument);
	arena_free(&arena);
	mem_free(copy);
	return 0;
}
