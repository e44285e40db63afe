/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Secrets are generated, never chosen: 160 random bits cannot be guessed, so
 * SHA-256 keeps them as well as a slow hash would, and 4096 iterations
 * (RFC 7677 §4) are enough for SCRAM. They are ASCII letters and digits, which
 * SASLprep (RFC 4013) leaves as they are; so it is not needed here.
 */

#include "base/bug.h"
#include "base/mem.h"
#include "directory/internal.h"
#include "os/random.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

/* Crockford's base32 in lower case: nothing that is taken for another. */
static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";

void
directory_secret_text(char *text, size_t count)
{
	_Static_assert(sizeof alphabet == 32 + 1, "five bits each");
	unsigned char bytes[64];

	BUG_UNLESS(count > 0 && count <= sizeof bytes);
	random_bytes(bytes, count);
	for (size_t i = 0; i < count; i++)
		text[i] = alphabet[bytes[i] & 31];
	text[count] = '\0';
	mem_wipe(bytes, sizeof bytes);
}

static bool
hmac(const unsigned char key[static 32], struct span text,
    unsigned char ret_mac[static 32])
{
	unsigned len = 0;

	return HMAC(EVP_sha256(), key, 32, (const unsigned char *)text.ptr,
		   text.len, ret_mac, &len) != NULL &&
	       len == 32;
}

/* RFC 5802 §3:
 *   SaltedPassword := Hi(Normalize(password), salt, i)
 *   StoredKey      := H(HMAC(SaltedPassword, "Client Key"))
 *   ServerKey      := HMAC(SaltedPassword, "Server Key") */
int
directory_secret_derive(
    struct span password, struct directory_secret *ret_secret)
{
	struct directory_secret s;
	unsigned char salted[32], client_key[32];

	random_bytes(s.salt, sizeof s.salt);
	bool is_done =
	    password.len < 1024 &&
	    PKCS5_PBKDF2_HMAC(password.ptr, (int)password.len, s.salt,
		sizeof s.salt, DIRECTORY_SCRAM_ITERATIONS, EVP_sha256(),
		sizeof salted, salted) == 1 &&
	    hmac(salted, SPAN("Client Key"), client_key) &&
	    SHA256(client_key, sizeof client_key, s.stored_key) != NULL &&
	    hmac(salted, SPAN("Server Key"), s.server_key) &&
	    SHA256((const unsigned char *)password.ptr, password.len,
		s.sha256) != NULL;
	mem_wipe(salted, sizeof salted);
	mem_wipe(client_key, sizeof client_key);
	if (is_done)
		*ret_secret = s;
	mem_wipe(&s, sizeof s);
	return is_done ? 0 : -EIO;
}

bool
directory_check_secret(
    const struct directory_credential *credential, struct span secret)
{
	/* For the unknown user: no known text has this hash. */
	static const struct directory_credential nobody = { .revoked = true };
	const struct directory_credential *c =
	    credential ? credential : &nobody;
	unsigned char hash[32];

	if (!SHA256((const unsigned char *)secret.ptr, secret.len, hash))
		return false;
	bool is_same = mem_equal_secret(hash, c->secret_sha256, sizeof hash);
	mem_wipe(hash, sizeof hash);
	return is_same & !c->revoked;
}

bool
directory_credential_allows(
    const struct directory_credential *credential, const struct netaddr *client)
{
	for (size_t i = 0; i < credential->network_count; i++)
		if (netmask_contains(&credential->networks[i], client))
			return true;
	return credential->network_count == 0;
}
