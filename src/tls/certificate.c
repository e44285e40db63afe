/* SPDX-License-Identifier: Apache-2.0 */
#include "base/netaddr.h"
#include "tls/internal.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

enum {
	VALID_DAYS = 3650,
	SERIAL_BITS = 127, /* positive in 16 bytes, RFC 5280 §4.1.2.2 */
	COMMON_NAME_MAX = 64, /* ub-common-name */
};

static bool
add_name(GENERAL_NAMES *names, int type, const void *bytes, size_t len)
{
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_STRING *value =
	    type == GEN_IPADD ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();

	if (!name || !value || ASN1_STRING_set(value, bytes, (int)len) != 1) {
		ASN1_STRING_free(value);
		GENERAL_NAME_free(name);
		return false;
	}
	GENERAL_NAME_set0_value(name, type, value);
	if (sk_GENERAL_NAME_push(names, name) > 0)
		return true;
	GENERAL_NAME_free(name);
	return false;
}

static bool
add_text_name(GENERAL_NAMES *names, const char *text)
{
	struct netaddr addr;

	if (!netaddr_parse_ip(span_of(text), &addr))
		return add_name(names, GEN_DNS, text, strlen(text));
	return add_name(
	    names, GEN_IPADD, addr.ip, addr.family == NETADDR_IP4 ? 4 : 16);
}

static bool
set_alternative_names(X509 *x, const char *text)
{
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();

	if (!names)
		return false;
	bool is_ok = add_text_name(names, text);
	/* A client on this machine may well say its number. */
	if (strcmp(text, "localhost") == 0)
		is_ok = is_ok && add_text_name(names, "127.0.0.1") &&
			add_text_name(names, "::1");
	is_ok = is_ok &&
		X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, 0) == 1;
	sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
	return is_ok;
}

static bool
set_extension(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	bool is_ok = extension && X509_add_ext(x, extension, -1) == 1;

	X509_EXTENSION_free(extension);
	return is_ok;
}

static bool
set_serial(X509 *x)
{
	BIGNUM *number = BN_new();
	bool is_ok =
	    number &&
	    BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) ==
		1 &&
	    BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x)) != NULL;

	BN_free(number);
	return is_ok;
}

static bool
set_subject(X509 *x, const char *text)
{
	X509_NAME *name = X509_get_subject_name(x);
	/* What counts is the alternative name; this one is for people. */
	const char *shown =
	    strlen(text) <= COMMON_NAME_MAX ? text : "posthouse";

	return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
		   (const unsigned char *)shown, -1, -1, 0) == 1 &&
	       X509_set_issuer_name(x, name) == 1;
}

static bool
fill_certificate(X509 *x, EVP_PKEY *key, const char *name)
{
	return X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) &&
	       X509_gmtime_adj(X509_getm_notBefore(x), -24L * 3600) != NULL &&
	       X509_gmtime_adj(
		   X509_getm_notAfter(x), VALID_DAYS * 24L * 3600) != NULL &&
	       set_subject(x, name) && X509_set_pubkey(x, key) == 1 &&
	       set_extension(x, NID_basic_constraints, "critical,CA:FALSE") &&
	       set_extension(x, NID_key_usage, "critical,digitalSignature") &&
	       set_extension(x, NID_ext_key_usage, "serverAuth") &&
	       set_alternative_names(x, name) &&
	       X509_sign(x, key, EVP_sha256()) > 0;
}

static void
append_bio(struct buf *b, BIO *bio)
{
	char *bytes = NULL;
	long len = BIO_get_mem_data(bio, &bytes);

	if (len > 0)
		buf_append(b, span_from(bytes, (size_t)len));
}

static bool
write_pem(
    X509 *x, EVP_PKEY *key, struct buf *ret_certificate, struct buf *ret_key)
{
	BIO *public = BIO_new(BIO_s_mem());
	BIO *secret = BIO_new(BIO_s_secmem());
	bool is_ok = public && secret && PEM_write_bio_X509(public, x) == 1 &&
		     PEM_write_bio_PKCS8PrivateKey(
			 secret, key, NULL, NULL, 0, NULL, NULL) == 1;

	if (is_ok) {
		append_bio(ret_certificate, public);
		append_bio(ret_key, secret);
	}
	BIO_free(public);
	BIO_free(secret);
	return is_ok;
}

int
tls_make_self_signed(
    const char *name, struct buf *ret_certificate, struct buf *ret_key)
{
	ERR_clear_error();
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	bool is_ok = key && x && fill_certificate(x, key, name) &&
		     write_pem(x, key, ret_certificate, ret_key);

	X509_free(x);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return is_ok ? 0 : ERR_TLS;
}
