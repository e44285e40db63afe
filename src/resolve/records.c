/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "resolve/internal.h"

static const struct {
	char kind;
	enum resolve_type type;
} kinds[] = {
	{ 'c', RESOLVE_CNAME },
	{ 't', RESOLVE_TXT },
	{ 'd', RESOLVE_TLSA },
	{ 'p', RESOLVE_PTR },
};

char
records_kind(enum resolve_type type)
{
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (kinds[i].type == type)
			return kinds[i].kind;
	}
	UNREACHABLE("a type that is not looked up");
}

int
records_type(char kind)
{
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (kinds[i].kind == kind)
			return (int)kinds[i].type;
	}
	return 0;
}

/* RFC 1035 §3.3.14: one or more strings, each behind its length. */
static bool
is_strings(struct span rdata)
{
	while (rdata.len) {
		size_t len = (unsigned char)rdata.ptr[0];
		if (len >= rdata.len)
			return false;
		rdata = span_skip(rdata, len + 1);
	}
	return true;
}

bool
resolve_txt_join(struct span rdata, struct buf *out)
{
	if (!rdata.len || !is_strings(rdata))
		return false;
	while (rdata.len) {
		size_t len = (unsigned char)rdata.ptr[0];
		buf_append(out, span_slice(rdata, 1, len));
		rdata = span_skip(rdata, len + 1);
	}
	return true;
}
