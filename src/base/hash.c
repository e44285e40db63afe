/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include "base/bug.h"

#include <errno.h>
#include <isa-l/crc.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

uint32_t
hash_crc32c(uint32_t crc, const void *p, size_t len)
{
	/* The library takes an unqualified pointer and an int, and leaves the
	 * inversions before and after to us. */
	unsigned char *at = (unsigned char *)(uintptr_t)p;

	crc = ~crc;
	while (len > 0) {
		int part = len > INT_MAX ? INT_MAX : (int)len;
		crc = crc32_iscsi(at, part, crc);
		at += part;
		len -= (size_t)part;
	}
	return ~crc;
}

static uint64_t key[2];
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

static void
draw_key(void)
{
	ssize_t n;

	do
		n = getrandom(key, sizeof key, 0);
	while (n < 0 && errno == EINTR);
	BUG_UNLESS(n == (ssize_t)sizeof key);
}

static uint64_t
rotate(uint64_t value, int by)
{
	return value << by | value >> (64 - by);
}

static void
sip_round(uint64_t v[static 4])
{
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

static uint64_t
load_le64(const char *p, size_t len)
{
	uint64_t value = 0;

	for (size_t i = 0; i < len; i++)
		value |= (uint64_t)(unsigned char)p[i] << (8 * i);
	return value;
}

/* SipHash-1-3 (Aumasson, Bernstein: one round per word, three at the end):
 * enough against chosen keys in tables, where no output is ever shown. */
uint64_t
hash_siphash(const uint64_t k[static 2], struct span s)
{
	uint64_t v[4] = {
		k[0] ^ UINT64_C(0x736f6d6570736575),
		k[1] ^ UINT64_C(0x646f72616e646f6d),
		k[0] ^ UINT64_C(0x6c7967656e657261),
		k[1] ^ UINT64_C(0x7465646279746573),
	};
	uint64_t last = (uint64_t)s.len << 56;

	while (s.len >= 8) {
		uint64_t word = load_le64(s.ptr, 8);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
		s.ptr += 8;
		s.len -= 8;
	}
	last |= load_le64(s.ptr, s.len);
	v[3] ^= last;
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t
hash_keyed(struct span s)
{
	(void)pthread_once(&key_once, draw_key);
	return hash_siphash(key, s);
}

uint64_t
hash_keyed_u64(uint64_t value)
{
	char bytes[sizeof value];

	memcpy(bytes, &value, sizeof value);
	return hash_keyed(span_from(bytes, sizeof bytes));
}

/* The finaliser of MurmurHash3: every input bit reaches every output bit. */
uint64_t
hash_mix(uint64_t value)
{
	value ^= value >> 33;
	value *= UINT64_C(0xff51afd7ed558ccd);
	value ^= value >> 33;
	value *= UINT64_C(0xc4ceb9fe1a85ec53);
	value ^= value >> 33;
	return value;
}

/* FNV-1a, mixed so that the low bits are as good as the high ones. */
uint64_t
hash_stable(struct span s)
{
	uint64_t value = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < s.len; i++) {
		value ^= (unsigned char)s.ptr[i];
		value *= UINT64_C(0x100000001b3);
	}
	return hash_mix(value);
}
