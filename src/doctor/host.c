/* SPDX-License-Identifier: Apache-2.0 */

/* This machine: its name, its clock, how many files we may open, and the disk
 * that a 250 waits for. */

#include "base/mem.h"
#include "base/time.h"
#include "doctor/internal.h"
#include "os/clock.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/timex.h>
#include <unistd.h>

#define SYNCS 25
#define SYNC_OCTETS 4096
/* A batch of messages waits for one sync: from here on it is felt. */
#define SYNC_SLOW_US (20 * US_PER_MS)
/* No disk that keeps what it was given is so fast. */
#define SYNC_SUSPICIOUS_US 15
#define DISK_LEAST (UINT64_C(2) << 30)
/* Segments, event files, the directory, the resolver, the log. */
#define OTHER_FILES 512

static void
examine_name(struct examination *x)
{
	const char *name = x->config->hostname;

	if (strchr(name, '.') != NULL) {
		find(x, DOCTOR_OK, "hostname", name, "is a full name");
		return;
	}
	find(x, DOCTOR_PROBLEM, "hostname", name,
	    "is not a full name, so many servers refuse its EHLO");
	remedy(x, "hostname: %s.example.com", name);
}

static void
examine_clock(struct examination *x)
{
	struct timex clock = { .modes = 0 };
	int state = adjtimex(&clock);

	if (state < 0) {
		find(x, DOCTOR_NOTE, "clock", "synchronised",
		    "cannot be found out here: %s", error_text(-errno));
	} else if (state == TIME_ERROR || (clock.status & STA_UNSYNC) != 0) {
		find(x, DOCTOR_WARNING, "clock", "synchronised",
		    "nothing keeps the clock right; signatures, expiry and "
		    "logs depend on it");
		remedy(x, "apt-get install systemd-timesyncd (or chrony)");
	} else {
		find(x, DOCTOR_OK, "clock", "synchronised", "is kept right");
	}
}

static void
examine_files(struct examination *x)
{
	const struct config *c = x->config;
	uint64_t wanted = (uint64_t)c->limits.connections +
			  c->delivery.connections + OTHER_FILES;
	struct rlimit limit;

	/* The service raises the soft limit itself. */
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	if (limit.rlim_max == RLIM_INFINITY || limit.rlim_max >= wanted) {
		find(x, DOCTOR_OK, "limits", "open files",
		    "%llu are wanted, and may be opened",
		    (unsigned long long)wanted);
		return;
	}
	find(x, DOCTOR_WARNING, "limits", "open files",
	    "only %llu may be opened; limits.connections and "
	    "delivery.connections want %llu",
	    (unsigned long long)limit.rlim_max, (unsigned long long)wanted);
	remedy(x, "LimitNOFILE=%llu in the service's unit, or ulimit -Hn",
	    (unsigned long long)wanted);
}

/* ---- the disk ------------------------------------------------------------ */

static void
examine_room(struct examination *x)
{
	const char *dir = x->config->data_dir;
	struct statfs fs;

	if (statfs(dir, &fs) < 0) {
		find(x, DOCTOR_PROBLEM, "disk", dir, "cannot be looked at: %s",
		    error_text(-errno));
		remedy(x, "start the service once as root: it makes data_dir");
		return;
	}
	uint64_t room = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
	uint64_t size = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
	if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC) {
		find(x, DOCTOR_PROBLEM, "disk", dir,
		    "is in memory: accepted mail is gone when the machine "
		    "stops");
		remedy(x, "data_dir: a directory on a disk");
	}
	if (room < DISK_LEAST || room < size / 10) {
		find(x, DOCTOR_WARNING, "disk", dir,
		    "has %llu MiB left of %llu MiB; when it is full no mail "
		    "is taken",
		    (unsigned long long)(room >> 20),
		    (unsigned long long)(size >> 20));
		remedy(x, "make room, or lower limits.events_size");
	} else {
		find(x, DOCTOR_OK, "disk", dir, "has %llu MiB left",
		    (unsigned long long)(room >> 20));
	}
}

static int
compare_times(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* As the spool syncs: within a file whose space is there already. */
static int
time_syncs(int fd, int64_t times_us[static SYNCS])
{
	static const char zeros[SYNC_OCTETS];

	for (int i = 0; i < SYNCS; i++) {
		TRY(file_write_all(fd, span_from(zeros, sizeof(zeros))));
	}
	TRY(fsync(fd) < 0 ? -errno : 0);
	for (int i = 0; i < SYNCS; i++) {
		int64_t begun_us = clock_monotonic_us();

		if (pwrite(fd, zeros, sizeof(zeros), (off_t)i * SYNC_OCTETS) <
			0 ||
		    fdatasync(fd) < 0)
			return -errno;
		times_us[i] = clock_monotonic_us() - begun_us;
	}
	qsort(times_us, SYNCS, sizeof(*times_us), compare_times);
	return 0;
}

static void
find_speed(struct examination *x, const int64_t times_us[static SYNCS])
{
	int64_t middle_us = times_us[SYNCS / 2];
	double middle_ms = (double)middle_us / (double)US_PER_MS;
	double worst_ms = (double)times_us[SYNCS - 1] / (double)US_PER_MS;

	if (middle_us > SYNC_SLOW_US) {
		find(x, DOCTOR_WARNING, "disk", "sync",
		    "takes %.2f ms (the slowest of %d: %.2f ms): each lone "
		    "client waits so long for its 250",
		    middle_ms, SYNCS, worst_ms);
		remedy(x,
		    "a disk that keeps its cache in a power cut, or fewer "
		    "others on this one");
	} else if (middle_us < SYNC_SUSPICIOUS_US) {
		find(x, DOCTOR_NOTE, "disk", "sync",
		    "takes %.3f ms: so fast that it may not reach the disk",
		    middle_ms);
	} else {
		find(x, DOCTOR_OK, "disk", "sync",
		    "takes %.2f ms (the slowest of %d: %.2f ms)", middle_ms,
		    SYNCS, worst_ms);
	}
}

static void
examine_syncs(struct examination *x)
{
	AUTO_FREE char *path =
	    mem_printf("%s/.doctor-XXXXXX", x->config->data_dir);
	int64_t times_us[SYNCS];
	int AUTO_CLOSE fd = mkostemp(path, O_CLOEXEC);

	if (fd < 0) {
		find(x, DOCTOR_PROBLEM, "disk", x->config->data_dir,
		    "cannot be written: %s", error_text(-errno));
		remedy(
		    x, "chown -R %s %s", x->config->user, x->config->data_dir);
		return;
	}
	(void)unlink(path);
	int result = time_syncs(fd, times_us);
	if (result < 0)
		find(x, DOCTOR_PROBLEM, "disk", "sync", "fails: %s",
		    error_text(result));
	else
		find_speed(x, times_us);
}

void
examine_host(struct examination *x)
{
	examine_name(x);
	examine_clock(x);
	examine_files(x);
	examine_room(x);
	if (access(x->config->data_dir, F_OK) == 0)
		examine_syncs(x);
}
