/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/offers.h"

#include "smtp/client.h"

#include <string.h>

typedef void keyword_fn(struct offers *o, struct span parameters);

/* RFC 1870 §4: without a number, or with 0, no fixed limit is known. */
static void
parse_size(struct offers *o, struct span parameters)
{
	uint64_t size;
	if (span_to_u64(span_trim(parameters), UINT64_MAX, &size))
		o->size_max = size;
}

/* RFC 4954 §3. Both forms, "AUTH A B" and the old "AUTH=A B", may come in one
 * reply. */
static void
parse_auth(struct offers *o, struct span parameters)
{
	while (parameters.len > 0) {
		struct span word = span_trim(span_cut(&parameters, ' '));
		if (word.len == 0)
			continue;
		if (word.len + 1 > sizeof(o->auth) - o->auth_len)
			return;
		memcpy(o->auth + o->auth_len, word.ptr, word.len);
		o->auth_len += word.len;
		o->auth[o->auth_len++] = ' ';
	}
}

/* RFC 9422 §4: values have up to six digits and are never 0. */
static void
parse_limits(struct offers *o, struct span parameters)
{
	while (parameters.len > 0) {
		struct span value = span_trim(span_cut(&parameters, ' '));
		struct span name = span_cut(&value, '=');
		uint64_t number;
		if (!span_to_u64(value, 999999, &number) || number == 0)
			continue;
		if (span_eq_nocase(name, SPAN("RCPTMAX")))
			o->rcpt_max = (uint32_t)number;
		if (span_eq_nocase(name, SPAN("MAILMAX")))
			o->mail_max = (uint32_t)number;
	}
}

/* clang-format off */
static const struct keyword {
	struct span name;
	int flag;
	keyword_fn *parse;
} keywords[] = {
	{ { "PIPELINING", 10 },          SMTP_OFFER_PIPELINING, NULL },
	{ { "SIZE", 4 },                 SMTP_OFFER_SIZE,       parse_size },
	{ { "8BITMIME", 8 },             SMTP_OFFER_8BITMIME,   NULL },
	{ { "SMTPUTF8", 8 },             SMTP_OFFER_SMTPUTF8,   NULL },
	{ { "CHUNKING", 8 },             SMTP_OFFER_CHUNKING,   NULL },
	{ { "BINARYMIME", 10 },          SMTP_OFFER_BINARYMIME, NULL },
	{ { "DSN", 3 },                  SMTP_OFFER_DSN,        NULL },
	{ { "STARTTLS", 8 },             SMTP_OFFER_STARTTLS,   NULL },
	{ { "AUTH", 4 },                 SMTP_OFFER_AUTH,       parse_auth },
	{ { "ENHANCEDSTATUSCODES", 19 }, SMTP_OFFER_ENHANCED,   NULL },
	{ { "REQUIRETLS", 10 },          SMTP_OFFER_REQUIRETLS, NULL },
	{ { "LIMITS", 6 },               0,                     parse_limits },
};

/* clang-format on */

static void
parse_line(struct offers *o, struct span line)
{
	size_t end = 0;
	while (end < line.len && line.ptr[end] != ' ' && line.ptr[end] != '=')
		end++;
	struct span name = span_slice(line, 0, end);
	struct span parameters = span_skip(line, end + 1);
	for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++) {
		const struct keyword *k = &keywords[i];
		if (!span_eq_nocase(name, k->name))
			continue;
		o->flags |= k->flag;
		if (k->parse != NULL)
			k->parse(o, parameters);
	}
}

void
offers_parse(struct span text, struct offers *ret_offers)
{
	*ret_offers = (struct offers){ 0 };
	(void)span_cut(&text, '\n');
	while (text.len > 0)
		parse_line(ret_offers, span_trim(span_cut(&text, '\n')));
}

bool
offers_has_mechanism(const struct offers *o, struct span mechanism)
{
	struct span rest = { o->auth, o->auth_len };
	while (rest.len > 0) {
		if (span_eq_nocase(span_cut(&rest, ' '), mechanism))
			return true;
	}
	return false;
}
