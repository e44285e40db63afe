/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/io.h"

#include "base/bug.h"
#include "spool/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* ---- the real disk ----------------------------------------------------- */

static int
disk_open(void *owner, const char *path, int flags)
{
	(void)owner;
	int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

static int
disk_close(void *owner, int file)
{
	(void)owner;
	return close(file) < 0 ? -errno : 0;
}

static int64_t
disk_pread(void *owner, int file, void *p, size_t len, uint64_t offset)
{
	(void)owner;
	ssize_t n = pread(file, p, len, (off_t)offset);
	return n < 0 ? -errno : n;
}

static int64_t
disk_pwritev(
    void *owner, int file, const struct iovec *iov, int count, uint64_t offset)
{
	(void)owner;
	ssize_t n = pwritev(file, iov, count, (off_t)offset);
	return n < 0 ? -errno : n;
}

static int
disk_datasync(void *owner, int file)
{
	(void)owner;
	return fdatasync(file) < 0 ? -errno : 0;
}

static int64_t
disk_size(void *owner, int file)
{
	struct stat st;

	(void)owner;
	return fstat(file, &st) < 0 ? -errno : st.st_size;
}

static int
disk_rename(void *owner, const char *from, const char *to)
{
	(void)owner;
	return rename(from, to) < 0 ? -errno : 0;
}

static int
disk_unlink(void *owner, const char *path)
{
	(void)owner;
	return unlink(path) < 0 ? -errno : 0;
}

static int
disk_mkdir(void *owner, const char *path)
{
	(void)owner;
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

static int
disk_sync_directory(void *owner, const char *path)
{
	(void)owner;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int result = fsync(fd) < 0 ? -errno : 0;
	(void)close(fd);
	return result;
}

static int
disk_list(void *owner, const char *path,
    void (*fn)(void *arg, const char *name), void *arg)
{
	struct dirent *entry;

	(void)owner;
	DIR *directory = opendir(path);
	if (!directory)
		return -errno;
	errno = 0;
	/* The stream is ours alone. */
	/* cppcheck-suppress readdirCalled */
	while ((entry = readdir(directory))) {
		if (entry->d_name[0] != '.')
			fn(arg, entry->d_name);
		errno = 0;
	}
	int result = -errno;
	(void)closedir(directory);
	return result;
}

static int64_t
disk_free_bytes(void *owner, const char *path)
{
	struct statvfs st;

	(void)owner;
	if (statvfs(path, &st) < 0)
		return -errno;
	return (int64_t)((uint64_t)st.f_bavail * st.f_frsize);
}

static int64_t
disk_total_bytes(void *owner, const char *path)
{
	struct statvfs st;

	(void)owner;
	if (statvfs(path, &st) < 0)
		return -errno;
	return (int64_t)((uint64_t)st.f_blocks * st.f_frsize);
}

static int
disk_lock(void *owner, const char *path)
{
	int fd = disk_open(owner, path, O_RDWR | O_CREAT);

	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int code = -errno;
		(void)close(fd);
		return code;
	}
	return fd;
}

const struct spool_io spool_io_disk = {
	.open = disk_open,
	.close = disk_close,
	.pread = disk_pread,
	.pwritev = disk_pwritev,
	.datasync = disk_datasync,
	.size = disk_size,
	.rename = disk_rename,
	.unlink = disk_unlink,
	.mkdir = disk_mkdir,
	.sync_directory = disk_sync_directory,
	.list = disk_list,
	.free_bytes = disk_free_bytes,
	.total_bytes = disk_total_bytes,
	.lock = disk_lock,
};

/* ---- whole reads and writes on any disk -------------------------------- */

/* Drops `done` bytes from the front of *iov. */
static void
advance(struct iovec **iov, size_t *count, size_t done)
{
	while (*count > 0 && done >= (*iov)->iov_len) {
		done -= (*iov)->iov_len;
		(*iov)++;
		(*count)--;
	}
	if (*count > 0) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + done;
		(*iov)->iov_len -= done;
	}
}

int
io_write(const struct spool_io *io, int file, struct iovec *iov, size_t count,
    uint64_t offset)
{
	advance(&iov, &count, 0);
	while (count > 0) {
		int part =
		    count > BATCH_PIECES_MAX ? BATCH_PIECES_MAX : (int)count;
		int64_t n = io->pwritev(io->owner, file, iov, part, offset);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return (int)n;
		if (n == 0)
			return -EIO;
		offset += (uint64_t)n;
		advance(&iov, &count, (size_t)n);
	}
	return 0;
}

int64_t
io_read(
    const struct spool_io *io, int file, void *p, size_t len, uint64_t offset)
{
	size_t done = 0;

	while (done < len) {
		int64_t n = io->pread(io->owner, file, (char *)p + done,
		    len - done, offset + done);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return n;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (int64_t)done;
}

int
io_put(
    const struct spool_io *io, const char *path, int flags, struct span content)
{
	struct iovec iov = { .iov_len = content.len };
	int file = io->open(io->owner, path, O_RDWR | O_CREAT | flags);

	if (file < 0)
		return file;
	memcpy(&iov.iov_base, &content.ptr, sizeof iov.iov_base);
	int result = io_write(io, file, &iov, 1, 0);
	if (result == 0)
		result = io->datasync(io->owner, file);
	(void)io->close(io->owner, file);
	return result;
}
