/* SPDX-License-Identifier: Apache-2.0 */
#include "returns/token.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/time.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

/*
 * octet 0         version 1 in the upper half, wishes in the lower
 * octets 1 … 6    accepted, milliseconds since 1970
 * numbers         seconds from accepted to sent, mno, rcpt, tenant, stream:
 *                 seven bits an octet, least first, the eighth: more follow
 * four octets     the address's hash
 * ten octets      the checksum of all before
 */
enum {
	VERSION = 1,
	HASH_SIZE = 4,
	MAC_SIZE = 10,
	TOKEN_MAX = (RETURN_LOCAL_SIZE - 3) * 5 / 8, /* after "b+" */
	NUMBERS = 5,
};

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

struct writer {
	unsigned char bytes[TOKEN_MAX];
	size_t len;
	bool is_full;
};

/* ---- octets ------------------------------------------------------------ */

static void
put(struct writer *w, unsigned char byte)
{
	if (w->len == TOKEN_MAX)
		w->is_full = true;
	else
		w->bytes[w->len++] = byte;
}

static void
put_number(struct writer *w, uint64_t number)
{
	for (; number > 127; number >>= 7)
		put(w, (unsigned char)((number & 127) | 128));
	put(w, (unsigned char)number);
}

static void
put_fixed(struct writer *w, uint64_t number, unsigned octets)
{
	while (octets-- > 0)
		put(w, (unsigned char)(number >> (8 * octets)));
}

static uint64_t
get_fixed(const unsigned char *bytes, unsigned octets)
{
	uint64_t number = 0;

	for (unsigned i = 0; i < octets; i++)
		number = number << 8 | bytes[i];
	return number;
}

static bool
get_number(struct span *rest, uint64_t *ret_number)
{
	uint64_t number = 0;

	for (unsigned shift = 0; shift < 63 && rest->len > 0; shift += 7) {
		unsigned char byte = (unsigned char)rest->ptr[0];
		*rest = span_skip(*rest, 1);
		number |= (uint64_t)(byte & 127) << shift;
		if (byte < 128) {
			*ret_number = number;
			return true;
		}
	}
	return false;
}

static bool
checksum(const struct return_key *key, const unsigned char *bytes, size_t len,
    unsigned char ret_mac[static MAC_SIZE])
{
	unsigned char full[EVP_MAX_MD_SIZE];
	unsigned size = 0;

	if (HMAC(EVP_sha256(), key->mac, sizeof key->mac, bytes, len, full,
		&size) == NULL)
		return false;
	memcpy(ret_mac, full, MAC_SIZE);
	return true;
}

/* ---- base32 ------------------------------------------------------------ */

static void
encode(const unsigned char *bytes, size_t len, char *out)
{
	uint64_t bits = 0;
	unsigned count = 0;

	for (size_t i = 0; i < len; i++) {
		bits = bits << 8 | bytes[i];
		for (count += 8; count >= 5; count -= 5)
			*out++ = alphabet[bits >> (count - 5) & 31];
	}
	if (count > 0)
		*out++ = alphabet[bits << (5 - count) & 31];
	*out = '\0';
}

static int
value_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a';
	return c >= '2' && c <= '7' ? c - '2' + 26 : -1;
}

static bool
decode(struct span text, struct writer *w)
{
	uint64_t bits = 0;
	unsigned count = 0;

	for (size_t i = 0; i < text.len; i++) {
		int value = value_of(text.ptr[i]);
		if (value < 0)
			return false;
		bits = bits << 5 | (uint64_t)value;
		count += 5;
		if (count >= 8) {
			count -= 8;
			put(w, (unsigned char)(bits >> count));
		}
	}
	return !w->is_full;
}

/* ---- tokens ------------------------------------------------------------ */

uint32_t
return_address_hash(const struct return_key *key, struct span canonical)
{
	char lower[320];
	size_t len =
	    canonical.len < sizeof lower ? canonical.len : sizeof lower;

	for (size_t i = 0; i < len; i++) {
		char c = canonical.ptr[i];
		if (c >= 'A' && c <= 'Z')
			c = (char)(c | 0x20);
		lower[i] = c;
	}
	return (uint32_t)hash_siphash(key->hash, span_from(lower, len));
}

bool
return_token_format(const struct return_key *key,
    const struct return_token *token, char ret_local[static RETURN_LOCAL_SIZE])
{
	struct writer w = { .len = 0 };
	unsigned char mac[MAC_SIZE];
	int64_t later_us = token->sent_us - token->accepted_us;

	put(&w, (unsigned char)(VERSION << 4 | (token->wishes & 15)));
	put_fixed(&w, (uint64_t)(token->accepted_us / US_PER_MS), 6);
	put_number(&w, later_us > 0 ? (uint64_t)(later_us / US_PER_S) : 0);
	put_number(&w, token->mno);
	put_number(&w, token->rcpt);
	put_number(&w, token->tenant);
	put_number(&w, token->stream);
	put_fixed(&w, token->address_hash, HASH_SIZE);
	if (w.is_full || w.len + MAC_SIZE > TOKEN_MAX ||
	    !checksum(key, w.bytes, w.len, mac))
		return false;
	for (unsigned i = 0; i < MAC_SIZE; i++)
		put(&w, mac[i]);
	ret_local[0] = 'b';
	ret_local[1] = '+';
	encode(w.bytes, w.len, ret_local + 2);
	return true;
}

/* What stands between the time and the hash. */
static bool
read_numbers(struct span rest, struct return_token *t)
{
	uint64_t n[NUMBERS];

	for (unsigned i = 0; i < NUMBERS; i++) {
		if (!get_number(&rest, &n[i]))
			return false;
	}
	if (rest.len != 0 || n[0] > UINT32_MAX || n[2] > UINT32_MAX ||
	    n[3] > UINT32_MAX || n[4] > UINT32_MAX)
		return false;
	t->sent_us = t->accepted_us + (int64_t)n[0] * US_PER_S;
	t->mno = n[1];
	t->rcpt = (uint32_t)n[2];
	t->tenant = (uint32_t)n[3];
	t->stream = (uint32_t)n[4];
	return true;
}

static bool
read_token(const unsigned char *bytes, size_t len, struct return_token *t)
{
	if (len < 1 + 6 + HASH_SIZE || bytes[0] >> 4 != VERSION)
		return false;
	t->wishes = bytes[0] & 15;
	t->accepted_us = (int64_t)get_fixed(bytes + 1, 6) * US_PER_MS;
	t->address_hash =
	    (uint32_t)get_fixed(bytes + len - HASH_SIZE, HASH_SIZE);
	return read_numbers(span_from(bytes + 7, len - 7 - HASH_SIZE), t);
}

enum return_check
return_token_check(const struct return_key *key, struct span local,
    int64_t now_us, int64_t expire_us, struct return_token *ret_token)
{
	struct writer w = { .len = 0 };
	struct return_token token = { 0 };
	unsigned char mac[MAC_SIZE];

	if (!span_starts_nocase(local, SPAN("b+")) ||
	    local.len >= RETURN_LOCAL_SIZE ||
	    !decode(span_skip(local, 2), &w) || w.len <= MAC_SIZE)
		return RETURN_FORGED;
	size_t len = w.len - MAC_SIZE;
	if (!checksum(key, w.bytes, len, mac) ||
	    !mem_equal_secret(mac, w.bytes + len, MAC_SIZE) ||
	    !read_token(w.bytes, len, &token))
		return RETURN_FORGED;
	*ret_token = token;
	return now_us - token.sent_us > expire_us ? RETURN_EXPIRED
						  : RETURN_GOOD;
}
