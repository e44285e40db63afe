/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"
#include "sign/dkim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char pem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
    "-----END PRIVATE KEY-----\n";

/* False: the header is larger than we take. */
static bool
sign_in_pieces(const struct sign_key *key, struct span message, size_t cut,
    struct buf *out)
{
	const struct dkim_options options = {
		.domain = SPAN("example.com"),
		.selector = SPAN("s"),
		.header = cut % 2 == 0 ? CANON_RELAXED : CANON_SIMPLE,
		.time_s = 1,
		.expire_s = 2,
	};
	enum canon body = cut % 4 < 2 ? CANON_RELAXED : CANON_SIMPLE;
	struct dkim_message *m = dkim_message_new(body, 8192);
	bool is_fed = dkim_message_feed(m, span_slice(message, 0, cut)) == 0 &&
		      dkim_message_feed(m, span_skip(message, cut)) == 0;

	if (is_fed) {
		BUG_UNLESS(dkim_message_end(m) == 0);
		BUG_UNLESS(dkim_sign(m, key, &options, out) == 0);
	}
	dkim_message_free(&m);
	return is_fed;
}

/* Where a message is cut changes nothing of its signature. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sign_key *key;
	struct buf one = BUF_EMPTY, two = BUF_EMPTY;

	if (key == NULL)
		BUG_UNLESS(sign_key_read(span_of(pem), &key, NULL) == 0);
	if (size == 0)
		return 0;
	struct span message = span_from(data + 1, size - 1);
	bool first = sign_in_pieces(key, message, data[0], &one);
	bool second = sign_in_pieces(key, message, data[0] % 4, &two);
	BUG_UNLESS(first == second);
	BUG_UNLESS(span_eq(buf_span(&one), buf_span(&two)));
	buf_done(&one);
	buf_done(&two);
	return 0;
}
