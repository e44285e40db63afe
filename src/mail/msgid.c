/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/msgid.h"

#include "base/time.h"

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/*
 * Speck64/128, a block cipher as wide as the number it hides: 27 rounds of
 * add, rotate and xor cost some tens of nanoseconds, and unlike a keyed mixing
 * function it stands when somebody collects ids and guesses their numbers.
 * Half of its key is zero: 64 bits are what the spool has.
 */
#define ROUNDS 27

static uint32_t
rotate_right(uint32_t value, unsigned bits)
{
	return value >> bits | value << (32 - bits);
}

static uint32_t
rotate_left(uint32_t value, unsigned bits)
{
	return value << bits | value >> (32 - bits);
}

static void
round_forward(uint32_t *high, uint32_t *low, uint32_t key)
{
	*high = (rotate_right(*high, 8) + *low) ^ key;
	*low = rotate_left(*low, 3) ^ *high;
}

static void
round_back(uint32_t *high, uint32_t *low, uint32_t key)
{
	*low = rotate_right(*low ^ *high, 3);
	*high = rotate_left((*high ^ key) - *low, 8);
}

static void
expand_key(uint64_t key, uint32_t keys[static ROUNDS])
{
	uint32_t more[3] = { (uint32_t)(key >> 32), 0, 0 };
	uint32_t k = (uint32_t)key;

	for (uint32_t i = 0; i < ROUNDS; i++) {
		keys[i] = k;
		round_forward(&more[i % 3], &k, i);
	}
}

static uint64_t
scramble(uint64_t number, uint64_t key)
{
	uint32_t high = (uint32_t)(number >> 32), low = (uint32_t)number;
	uint32_t keys[ROUNDS];

	expand_key(key, keys);
	for (size_t i = 0; i < ROUNDS; i++)
		round_forward(&high, &low, keys[i]);
	return (uint64_t)high << 32 | low;
}

static uint64_t
unscramble(uint64_t number, uint64_t key)
{
	uint32_t high = (uint32_t)(number >> 32), low = (uint32_t)number;
	uint32_t keys[ROUNDS];

	expand_key(key, keys);
	for (size_t i = ROUNDS; i-- > 0;)
		round_back(&high, &low, keys[i]);
	return (uint64_t)high << 32 | low;
}

static void
put_bytes(uint8_t *p, uint64_t value, size_t len)
{
	for (size_t i = len; i-- > 0; value >>= 8)
		p[i] = (uint8_t)value;
}

static uint64_t
get_bytes(const uint8_t *p, size_t len)
{
	uint64_t value = 0;

	for (size_t i = 0; i < len; i++)
		value = value << 8 | p[i];
	return value;
}

static struct msgid
assemble(int64_t wall_us, uint16_t node, uint64_t number)
{
	struct msgid id = { 0 };
	/* A clock before 1970 must not make an id that sorts last. */
	uint64_t ms = wall_us < 0 ? 0 : (uint64_t)(wall_us / US_PER_MS);

	put_bytes(id.bytes, ms, 6);
	put_bytes(id.bytes + 6, node, 2);
	put_bytes(id.bytes + 8, number, 8);
	return id;
}

struct msgid
msgid_make(int64_t wall_us, uint16_t node, uint64_t mno, uint64_t key)
{
	return assemble(wall_us, node, scramble(mno, key));
}

uint64_t
msgid_mno(const struct msgid *id, uint64_t key)
{
	return unscramble(get_bytes(id->bytes + 8, 8), key);
}

uint16_t
msgid_node(const struct msgid *id)
{
	return (uint16_t)get_bytes(id->bytes + 6, 2);
}

int64_t
msgid_wall_us(const struct msgid *id)
{
	return (int64_t)get_bytes(id->bytes, 6) * US_PER_MS;
}

struct msgid
msgid_random(int64_t wall_us, uint64_t random_high, uint64_t random_low)
{
	return assemble(wall_us, (uint16_t)random_high, random_low);
}

const char *
msgid_format(const struct msgid *id, char buffer[static MSGID_TEXT_SIZE])
{
	uint64_t high = get_bytes(id->bytes, 8),
		 low = get_bytes(id->bytes + 8, 8);

	for (size_t i = MSGID_TEXT_SIZE - 1; i-- > 0;) {
		buffer[i] = alphabet[low & 31];
		low = low >> 5 | high << 59;
		high >>= 5;
	}
	buffer[MSGID_TEXT_SIZE - 1] = '\0';
	return buffer;
}

/* The value of a character, or 32. */
static unsigned
digit_value(char c)
{
	if (c >= 'a' && c <= 'z')
		c = (char)(c - 'a' + 'A');
	size_t value = span_find(SPAN(alphabet), c);
	return value == SIZE_MAX ? 32 : (unsigned)value;
}

bool
msgid_parse(struct span s, struct msgid *ret_id)
{
	uint64_t high = 0, low = 0;

	if (s.len != MSGID_TEXT_SIZE - 1)
		return false;
	/* 26 characters are 130 bits: the first may be 7 at most. */
	if (digit_value(s.ptr[0]) > 7)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		unsigned value = digit_value(s.ptr[i]);
		if (value > 31)
			return false;
		high = high << 5 | low >> 59;
		low = low << 5 | value;
	}
	put_bytes(ret_id->bytes, high, 8);
	put_bytes(ret_id->bytes + 8, low, 8);
	return true;
}
