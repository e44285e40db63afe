/* SPDX-License-Identifier: Apache-2.0 */

/* Writes a fresh self-signed certificate: make_certificate NAME CERTIFICATE
 * KEY. For benchmarks whose relays must offer TLS. */

#include "os/file.h"
#include "tls/stream.h"

#include <stdio.h>

static int
fail(const char *path, int code)
{
	(void)fprintf(
	    stderr, "make_certificate: %s: %s\n", path, error_text(code));
	return 1;
}

int
main(int argc, char **argv)
{
	struct buf certificate = BUF_EMPTY, key = BUF_EMPTY;
	int result;

	if (argc != 4) {
		(void)fputs(
		    "usage: make_certificate NAME CERTIFICATE KEY\n", stderr);
		return 2;
	}
	result = tls_make_self_signed(argv[1], &certificate, &key);
	if (result < 0)
		return fail(argv[1], result);
	result = file_replace(argv[2], buf_span(&certificate), 0644);
	if (result < 0)
		return fail(argv[2], result);
	result = file_replace(argv[3], buf_span(&key), 0600);
	if (result < 0)
		return fail(argv[3], result);
	buf_done(&certificate);
	buf_done(&key);
	return 0;
}
