/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/dane.h"

#include "tls/internal.h"

#include <openssl/err.h>
#include <openssl/x509.h>

enum { USAGE_TA = 2, USAGE_EE = 3 };

enum { MATCH_FULL, MATCH_SHA256, MATCH_SHA512 };

bool
tls_dane_parse(struct span rdata, struct tls_dane_record *ret_record)
{
	if (rdata.len < 3)
		return false;
	const unsigned char *octets = (const unsigned char *)rdata.ptr;
	*ret_record = (struct tls_dane_record){
		.usage = octets[0],
		.selector = octets[1],
		.matching = octets[2],
		.data = span_skip(rdata, 3),
	};
	return true;
}

/* A whole certificate or key must be one, and nothing behind it. */
static bool
is_object(const struct tls_dane_record *r)
{
	const unsigned char *at = (const unsigned char *)r->data.ptr;
	const unsigned char *end = at + r->data.len;
	bool is_good = false;

	if (!r->data.len || r->data.len > UINT16_MAX)
		return false;
	ERR_clear_error();
	if (r->selector == 0) {
		X509 *x = d2i_X509(NULL, &at, (long)r->data.len);
		is_good = x && X509_get0_pubkey(x);
		X509_free(x);
	} else {
		EVP_PKEY *key = d2i_PUBKEY(NULL, &at, (long)r->data.len);
		is_good = key != NULL;
		EVP_PKEY_free(key);
	}
	ERR_clear_error();
	return is_good && at == end;
}

bool
tls_dane_is_usable(const struct tls_dane_record *r)
{
	if ((r->usage != USAGE_TA && r->usage != USAGE_EE) || r->selector > 1)
		return false;
	switch (r->matching) {
	case MATCH_FULL:
		return is_object(r);
	case MATCH_SHA256:
		return r->data.len == 32;
	case MATCH_SHA512:
		return r->data.len == 64;
	default:
		return false;
	}
}
