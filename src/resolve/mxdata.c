/* SPDX-License-Identifier: Apache-2.0 */
#include "resolve/mxdata.h"

#include <string.h>

#define LABEL_MAX 63 /* what is above would be a compression pointer */

/* Lower case, or NUL for what does not belong into a host's name. */
static char
name_character(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (char)(c - 'A' + 'a');
	if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
	    c == '_')
		return c;
	return '\0';
}

struct name {
	char text[DNS_NAME_SIZE];
	size_t len;
};

static bool
name_add_label(struct name *name, struct span label)
{
	size_t dot = name->len ? 1 : 0;

	if (!label.len || label.len > LABEL_MAX ||
	    name->len + dot + label.len >= sizeof name->text)
		return false;
	if (dot)
		name->text[name->len++] = '.';
	for (size_t i = 0; i < label.len; i++) {
		char c = name_character(label.ptr[i]);
		if (!c)
			return false;
		name->text[name->len++] = c;
	}
	return true;
}

bool
name_rdata_parse(struct span rdata, char ret_name[static DNS_NAME_SIZE])
{
	struct name name = { .len = 0 };

	for (;;) {
		if (!rdata.len)
			return false; /* the root label is missing */
		size_t len = (unsigned char)rdata.ptr[0];
		rdata = span_skip(rdata, 1);
		if (!len)
			break;
		if (len > rdata.len ||
		    !name_add_label(&name, span_slice(rdata, 0, len)))
			return false;
		rdata = span_skip(rdata, len);
	}
	if (rdata.len)
		return false;
	memcpy(ret_name, name.text, name.len);
	ret_name[name.len] = '\0';
	return true;
}

bool
mx_rdata_parse(struct span rdata, struct mx_record *ret_record)
{
	if (rdata.len < 3 ||
	    !name_rdata_parse(span_skip(rdata, 2), ret_record->name))
		return false;
	const unsigned char *octets = (const unsigned char *)rdata.ptr;
	ret_record->preference = (uint16_t)(octets[0] << 8 | octets[1]);
	return true;
}

bool
dns_name_normalise(struct span text, char ret_name[static DNS_NAME_SIZE])
{
	struct name name = { .len = 0 };

	if (text.len && text.ptr[text.len - 1] == '.')
		text.len--;
	if (!text.len || text.len >= DNS_NAME_SIZE)
		return false;
	/* Not span_cut: it cannot tell "a" from "a.". */
	for (;;) {
		size_t dot = span_find(text, '.');
		if (!name_add_label(&name, span_slice(text, 0, dot)))
			return false;
		if (dot == SIZE_MAX)
			break;
		text = span_skip(text, dot + 1);
	}
	memcpy(ret_name, name.text, name.len);
	ret_name[name.len] = '\0';
	return true;
}
