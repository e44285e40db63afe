/* SPDX-License-Identifier: Apache-2.0 */

/* Private keys of DKIM as files beside the database. */

#include "base/mem.h"
#include "directory/internal.h"
#include "os/file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

char *
keyfile_path(
    const struct directory *d, const char *domain, const char *selector)
{
	const char *slash = strrchr(d->path, '/');
	int len = slash != NULL ? (int)(slash - d->path) : 1;
	const char *parent = slash != NULL ? d->path : ".";

	if (selector == NULL)
		return mem_printf("%.*s/keys/%s", len, parent, domain);
	return mem_printf("%.*s/keys/%s/%s.pem", len, parent, domain, selector);
}

int
keyfile_write(const struct directory *d, const char *domain,
    const char *selector, const struct sign_key *key,
    struct failure *ret_failure)
{
	AUTO_FREE char *directory = keyfile_path(d, domain, NULL);
	AUTO_FREE char *keys = keyfile_path(d, "", NULL);
	AUTO_FREE char *path = keyfile_path(d, domain, selector);
	struct buf pem = BUF_EMPTY;
	int code = file_make_directory(keys, 0700);

	if (code == 0)
		code = file_make_directory(directory, 0700);
	if (code == 0)
		code = sign_key_write(key, &pem);
	if (code == 0)
		code = file_replace(path, buf_span(&pem), 0600);
	if (pem.ptr != NULL)
		mem_wipe(pem.ptr, pem.capacity);
	buf_done(&pem);
	if (code == 0)
		return 0;
	return failure_set(ret_failure, code,
	    "%s cannot be written: %s; let this user write there", path,
	    error_text(code));
}

void
keyfile_remove(
    const struct directory *d, const char *domain, const char *selector)
{
	AUTO_FREE char *path = keyfile_path(d, domain, selector);

	(void)unlink(path);
}

void
keyfile_remove_domain(const struct directory *d, const char *domain)
{
	AUTO_FREE char *path = keyfile_path(d, domain, NULL);

	(void)rmdir(path);
}

/* The reason, without anything of the file's content. */
int
directory_read_key(const struct directory *d, const char *domain,
    const char *selector, struct sign_key **ret_key,
    struct failure *ret_failure)
{
	AUTO_FREE char *path = keyfile_path(d, domain, selector);
	struct buf pem = BUF_EMPTY;
	struct failure why;
	int code = file_read(path, SIGN_PEM_MAX, &pem);

	if (code < 0)
		(void)failure_set(&why, code, "%s", error_text(code));
	else
		code = sign_key_read(buf_span(&pem), ret_key, &why);
	if (pem.ptr != NULL)
		mem_wipe(pem.ptr, pem.capacity);
	buf_done(&pem);
	if (code == 0)
		return 0;
	return failure_set(ret_failure, code,
	    "the key %s cannot be used: %s; put it back from a copy, or make "
	    "new ones with `posthouse domain rotate`",
	    path, why.text);
}
