/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/command.h"

#include "smtp/internal.h"

enum { CLIENT_NAME_MAX = 255 };

static bool
is_space(char c)
{
	return c == ' ' || c == '\t';
}

struct command
command_split(struct span line)
{
	while (line.len > 0 && is_space(line.ptr[line.len - 1]))
		line.len--;
	size_t n = 0;
	while (n < line.len && !is_space(line.ptr[n]))
		n++;
	struct command c = { .verb = span_slice(line, 0, n) };
	while (n < line.len && is_space(line.ptr[n]))
		n++;
	c.argument = span_skip(line, n);
	return c;
}

/* The path behind "FROM:" or "TO:", strict on its brackets, lenient on spaces
 * before them: too many programs write "FROM: <a@b>". */
static int
take_path(struct span *s, struct span label, int flags, struct arena *arena,
    struct path *ret_path)
{
	if (!span_starts_nocase(*s, label)) {
		ret_path->reason = "FROM:<address> or TO:<address> must follow";
		return ERR_SYNTAX;
	}
	*s = span_skip(*s, label.len);
	while (s->len > 0 && s->ptr[0] == ' ')
		*s = span_skip(*s, 1);
	if (s->len == 0 || s->ptr[0] != '<') {
		ret_path->reason = "the address must stand in <angle brackets>";
		return ERR_SYNTAX;
	}
	struct span raw = *s;
	TRY(address_parse_path(s, flags | ADDRESS_ALLOW_UTF8, arena,
	    &ret_path->address, &ret_path->reason));
	ret_path->is_ascii =
	    span_is_ascii(span_slice(raw, 0, raw.len - s->len));
	if (s->len > 0 && s->ptr[0] != ' ') {
		ret_path->reason = "a space must follow the closing bracket";
		return ERR_SYNTAX;
	}
	return 0;
}

static int
refuse_utf8(struct reply *ret_fault)
{
	/* RFC 6531 §3.5 */
	*ret_fault =
	    REPLY(553, 5, 6, 7, "the address needs the SMTPUTF8 parameter");
	return ERR_SYNTAX;
}

int
command_parse_mail(struct span argument, int flags, struct arena *arena,
    struct smtp_mail *ret_mail, struct reply *ret_fault)
{
	struct path path = { .reason = "the address is not valid" };
	if (take_path(&argument, SPAN("FROM:"), flags | ADDRESS_ALLOW_NULL,
		arena, &path) < 0) {
		*ret_fault = REPLY(501, 5, 1, 7, "");
		ret_fault->text = span_of(path.reason);
		return ERR_SYNTAX;
	}
	struct smtp_mail mail = { .sender = path.address };
	TRY(parameters_parse_mail(argument, arena, &mail, ret_fault));
	if (!path.is_ascii && !mail.utf8)
		return refuse_utf8(ret_fault);
	*ret_mail = mail;
	return 0;
}

int
command_parse_rcpt(struct span argument, int flags, struct arena *arena,
    struct smtp_rcpt *ret_rcpt, struct reply *ret_fault)
{
	struct path path = { .reason = "the address is not valid" };
	if (take_path(&argument, SPAN("TO:"), flags | ADDRESS_ALLOW_POSTMASTER,
		arena, &path) < 0) {
		*ret_fault = REPLY(501, 5, 1, 3, "");
		ret_fault->text = span_of(path.reason);
		return ERR_SYNTAX;
	}
	bool utf8 = (flags & ADDRESS_ALLOW_UTF8) != 0;
	if (!path.is_ascii && !utf8)
		return refuse_utf8(ret_fault);
	struct smtp_rcpt rcpt = { .recipient = path.address };
	TRY(parameters_parse_rcpt(argument, utf8, arena, &rcpt, ret_fault));
	*ret_rcpt = rcpt;
	return 0;
}

int
command_parse_bdat(struct span argument, uint64_t *ret_size, bool *ret_last)
{
	struct command c = command_split(argument);
	uint64_t size;
	if (!span_to_u64(c.verb, INT64_MAX, &size))
		return ERR_SYNTAX;
	bool last = span_eq_nocase(c.argument, SPAN("LAST"));
	if (c.argument.len > 0 && !last)
		return ERR_SYNTAX;
	*ret_size = size;
	*ret_last = last;
	return 0;
}

static bool
is_base64_char(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	       (c >= '0' && c <= '9') || c == '+' || c == '/';
}

bool
command_is_base64(struct span s)
{
	if (s.len % 4 != 0)
		return false;
	for (int padding = 0; padding < 2 && s.len > 0; padding++) {
		if (s.ptr[s.len - 1] == '=')
			s.len--;
	}
	for (size_t i = 0; i < s.len; i++) {
		if (!is_base64_char(s.ptr[i]))
			return false;
	}
	return true;
}

int
command_parse_auth(struct span argument, struct command_auth *ret_auth,
    struct reply *ret_fault)
{
	struct command c = command_split(argument);
	if (c.verb.len == 0) {
		*ret_fault = REPLY(501, 5, 5, 4, "a mechanism must follow");
		return ERR_SYNTAX;
	}
	struct command_auth auth = { .mechanism = c.verb };
	auth.has_initial = c.argument.len > 0;
	if (!span_eq(c.argument, SPAN("=")))
		auth.initial = c.argument;
	if (!command_is_base64(auth.initial)) {
		*ret_fault =
		    REPLY(501, 5, 5, 2, "the initial response is not base64");
		return ERR_SYNTAX;
	}
	*ret_auth = auth;
	return 0;
}

bool
command_is_client_name(struct span name)
{
	if (name.len == 0 || name.len > CLIENT_NAME_MAX || !span_is_utf8(name))
		return false;
	for (size_t i = 0; i < name.len; i++) {
		unsigned char c = (unsigned char)name.ptr[i];
		if (c <= ' ' || c == 0x7f)
			return false;
	}
	return true;
}
