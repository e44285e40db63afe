/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "base/mem.h"
#include "smtp/reply.h"

/*
 * Replies from a stranger. The first octet chooses the size of the pieces.
 * However they are cut the result is the same; what is accepted is within its
 * bounds, and composed and parsed again it is the same reply.
 */

static void
check_reply(const struct reply *r)
{
	BUG_UNLESS(r->code >= 200 && r->code <= 599);
	BUG_UNLESS(r->text.len <= 8192);
	BUG_UNLESS(
	    r->enhanced.class == 0 ||
	    (r->enhanced.class == r->code / 100 && r->enhanced.class != 3));
	BUG_UNLESS(r->enhanced.subject <= 999 && r->enhanced.detail <= 999);
	for (size_t i = 0; i < r->text.len; i++) {
		unsigned char c = (unsigned char)r->text.ptr[i];
		BUG_UNLESS((c >= ' ' && c != 0x7f) || c == '\n');
	}
}

static void
check_again(const struct reply *r)
{
	struct buf wire = BUF_EMPTY;
	reply_append(r, &wire);
	struct span rest = buf_span(&wire);
	while (rest.len > 0) {
		struct span line = span_cut(&rest, '\n');
		BUG_UNLESS(line.len >= 5 && line.len <= 511);
		BUG_UNLESS(line.ptr[line.len - 1] == '\r');
	}
	struct reply_parser *p = reply_parser_new();
	struct reply again;
	rest = buf_span(&wire);
	if (reply_parser_feed(p, &rest, &again) == 1) {
		BUG_UNLESS(again.code == r->code && rest.len == 0);
		check_reply(&again);
	}
	reply_parser_free(&p);
	buf_done(&wire);
	struct arena *arena = arena_new();
	BUG_UNLESS(span_find(reply_format(r, arena), '\n') == SIZE_MAX);
	BUG_UNLESS(reply_status(r, arena).len >= 5);
	arena_free(&arena);
}

/* All replies of the input, each as text, and the error at the end. */
static void
parse_all(struct span in, size_t piece, struct buf *out)
{
	struct reply_parser *p = reply_parser_new();
	int result = 0;
	while (in.len > 0 && result >= 0) {
		char *copy = mem_dup(in.ptr, in.len < piece ? in.len : piece);
		struct span part =
		    span_from(copy, in.len < piece ? in.len : piece);
		in = span_skip(in, part.len);
		do {
			struct reply r;
			result = reply_parser_feed(p, &part, &r);
			if (result == 1) {
				check_reply(&r);
				check_again(&r);
				buf_printf(out, "%u %u.%u.%u ", r.code,
				    r.enhanced.class, r.enhanced.subject,
				    r.enhanced.detail);
				buf_append(out, r.text);
			}
		} while (result == 1);
		BUG_UNLESS(result < 0 || part.len == 0);
		mem_free(copy);
	}
	buf_printf(out, " %d %s", result, reply_parser_error(p));
	reply_parser_free(&p);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	if (size < 2)
		return 0;
	struct span in = span_from(bytes + 1, size - 1);
	struct buf whole = BUF_EMPTY, cut = BUF_EMPTY;
	parse_all(in, in.len, &whole);
	parse_all(in, 1 + bytes[0] % 64, &cut);
	BUG_UNLESS(span_eq(buf_span(&whole), buf_span(&cut)));
	buf_done(&whole);
	buf_done(&cut);
	return 0;
}
