/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/mem.h"
#include "os/file.h"
#include "os/random.h"
#include "returns/token.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { KEY_SIZE = 48 };

static int
write_key(const char *path, const unsigned char *bytes)
{
	char *AUTO_FREE part = mem_printf("%s.part", path);
	int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int code =
	    fd < 0 ? -errno : file_write_all(fd, span_from(bytes, KEY_SIZE));

	if (code == 0 && fsync(fd) < 0)
		code = -errno;
	if (fd >= 0)
		(void)close(fd);
	if (code == 0 && rename(part, path) < 0)
		code = -errno;
	return code;
}

/* 0; -ENOENT; ERR_CORRUPT when it has another size. */
static int
read_key(const char *path, unsigned char *bytes)
{
	unsigned char more[KEY_SIZE + 1];
	int AUTO_CLOSE fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, more, sizeof more);
	if (n == KEY_SIZE)
		memcpy(bytes, more, KEY_SIZE);
	mem_wipe(more, sizeof more);
	if (n < 0)
		return -errno;
	return n == KEY_SIZE ? 0 : ERR_CORRUPT;
}

int
return_key_open(
    const char *path, struct return_key *ret_key, struct failure *ret_failure)
{
	unsigned char bytes[KEY_SIZE];
	int code = read_key(path, bytes);

	if (code == -ENOENT) {
		random_bytes(bytes, sizeof bytes);
		code = write_key(path, bytes);
	}
	if (code < 0)
		return failure_set(ret_failure, code,
		    "%s, the key of return paths, cannot be used: %s; let the "
		    "service's user read and write it, or remove it: reports "
		    "on mail that is under way are then not understood",
		    path, error_text(code));
	memcpy(ret_key->mac, bytes, sizeof ret_key->mac);
	memcpy(
	    ret_key->hash, bytes + sizeof ret_key->mac, sizeof ret_key->hash);
	mem_wipe(bytes, sizeof bytes);
	return 0;
}
