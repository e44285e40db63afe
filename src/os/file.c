/* SPDX-License-Identifier: Apache-2.0 */
#include "os/file.h"

#include "base/mem.h"
#include "os/random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	READ_PIECE = 64 * 1024,
	PARENT_MODE = 0755, /* less the umask; or nobody else comes through */
};

void
file_auto_close(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

static int
open_retry(const char *path, int flags, mode_t mode)
{
	int fd;

	do
		fd = open(path, flags | O_CLOEXEC, mode);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

static int
read_to_end(int fd, size_t max, struct buf *content)
{
	size_t total = 0;

	for (;;) {
		/* One byte more than allowed tells "full" from "too large". */
		size_t want =
		    max - total < READ_PIECE ? max - total + 1 : READ_PIECE;
		ssize_t n = read(fd, buf_reserve(content, want), want);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		total += (size_t)n;
		if (total > max)
			return ERR_LIMIT;
		buf_added(content, (size_t)n);
	}
}

int
file_read(const char *path, size_t max, struct buf *ret_content)
{
	int AUTO_CLOSE fd = open_retry(path, O_RDONLY, 0);
	struct buf content = BUF_EMPTY;

	TRY(fd);
	int result = read_to_end(fd, max, &content);
	if (result == 0)
		buf_append(ret_content, buf_span(&content));
	/* It may have been a key. */
	mem_wipe(content.ptr, content.len);
	buf_done(&content);
	return result;
}

int
file_write_all(int fd, struct span content)
{
	while (content.len) {
		ssize_t n = write(fd, content.ptr, content.len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		content = span_skip(content, (size_t)n);
	}
	return 0;
}

int
file_pread_all(int fd, void *p, size_t len, off_t offset)
{
	char *at = p;

	while (len > 0) {
		ssize_t n = pread(fd, at, len, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return ERR_TRUNCATED;
		at += n;
		len -= (size_t)n;
		offset += n;
	}
	return 0;
}

int
file_sync_directory(const char *path)
{
	int AUTO_CLOSE fd = open_retry(path, O_RDONLY | O_DIRECTORY, 0);

	TRY(fd);
	return fsync(fd) < 0 ? -errno : 0;
}

static char *
parent_of(const char *path)
{
	struct span s = span_of(path);
	size_t slash = span_find_last(s, '/');

	if (slash == SIZE_MAX)
		return mem_strdup(".");
	return span_dup(span_slice(s, 0, slash ? slash : 1));
}

static int
write_synced(int fd, struct span content, mode_t mode)
{
	/* The mode is meant as said, whatever the umask. */
	if (fchmod(fd, mode) < 0)
		return -errno;
	TRY(file_write_all(fd, content));
	return fsync(fd) < 0 ? -errno : 0;
}

int
file_replace(const char *path, struct span content, mode_t mode)
{
	char *AUTO_FREE directory = parent_of(path);
	char *AUTO_FREE temporary = mem_printf(
	    "%s.new-%016llx", path, (unsigned long long)random_u64());
	int AUTO_CLOSE fd =
	    open_retry(temporary, O_WRONLY | O_CREAT | O_EXCL, 0600);

	TRY(fd);
	int result = write_synced(fd, content, mode);
	if (result == 0 && rename(temporary, path) < 0)
		result = -errno;
	if (result < 0) {
		(void)unlink(temporary);
		return result;
	}
	return file_sync_directory(directory);
}

static int
make_one(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) == 0)
		return 0;
	int failed = -errno;
	/* Also EACCES or EROFS above a directory that is there. */
	if (stat(path, &st) < 0)
		return failed;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int
file_make_directory(const char *path, mode_t mode)
{
	char *AUTO_FREE partial = mem_strdup(path);

	if (!*path)
		return -ENOENT;
	for (size_t n = strlen(partial); n > 1 && partial[n - 1] == '/'; n--)
		partial[n - 1] = '\0';
	for (char *p = partial + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		TRY(make_one(partial, PARENT_MODE));
		*p = '/';
	}
	return make_one(partial, mode);
}
