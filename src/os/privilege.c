/* SPDX-License-Identifier: Apache-2.0 */
#include "os/privilege.h"

#include "base/bug.h"
#include "base/mem.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/sched.h>
#include <pwd.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if __has_include(<linux/landlock.h>)
#include <linux/landlock.h>
#endif

enum { PASSWD_BUFFER = 16 * 1024 };

static int
find_user(const char *user, char *buffer, struct passwd *ret_passwd,
    struct failure *f)
{
	struct passwd *found = NULL;
	int error = getpwnam_r(user, ret_passwd, buffer, PASSWD_BUFFER, &found);

	if (error)
		return failure_set(f, -error, "cannot look up user %s: %s",
		    user, error_text(-error));
	if (!found)
		return failure_set(f, ERR_NOT_FOUND,
		    "user %s does not exist: create it, or set `user`", user);
	if (ret_passwd->pw_uid == 0)
		return failure_set(f, ERR_REFUSED,
		    "user %s is root: name an unprivileged one in `user`",
		    user);
	return 0;
}

static int
become(const struct passwd *passwd, struct failure *f)
{
	uid_t uid = passwd->pw_uid;
	gid_t gid = passwd->pw_gid;

	if (initgroups(passwd->pw_name, gid) < 0 ||
	    setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return failure_set(f, -errno, "cannot become user %s: %s",
		    passwd->pw_name, error_text(-errno));
	if (geteuid() != uid || setuid(0) == 0 || seteuid(0) == 0)
		return failure_set(f, ERR_REFUSED,
		    "root came back after becoming user %s", passwd->pw_name);
	return 0;
}

int
privilege_drop(const char *user, struct failure *ret_failure)
{
	struct passwd passwd;

	if (geteuid() != 0)
		return 0;
	char *AUTO_FREE buffer = mem_alloc(PASSWD_BUFFER);
	TRY(find_user(user, buffer, &passwd, ret_failure));
	return become(&passwd, ret_failure);
}

/* The leak checker of a sanitized build looks at its own process by ptrace. */
#if defined __has_feature
#if __has_feature(address_sanitizer)
#define NEEDS_PTRACE 1
#endif
#endif
#if defined __SANITIZE_ADDRESS__
#define NEEDS_PTRACE 1
#endif

/* clang-format off */
static const int refused_calls[] = {
#ifndef NEEDS_PTRACE
	SCMP_SYS(ptrace),
#endif
	/* other processes */
	SCMP_SYS(kcmp), SCMP_SYS(pidfd_getfd), SCMP_SYS(process_madvise),
	SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev),
	/* other programs */
	SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(uselib),
	SCMP_SYS(personality),
	/* namespaces and mounts */
	SCMP_SYS(chroot), SCMP_SYS(fsconfig), SCMP_SYS(fsmount),
	SCMP_SYS(fsopen), SCMP_SYS(fspick), SCMP_SYS(mount),
	SCMP_SYS(mount_setattr), SCMP_SYS(move_mount),
	SCMP_SYS(open_by_handle_at), SCMP_SYS(open_tree),
	SCMP_SYS(pivot_root), SCMP_SYS(setns), SCMP_SYS(umount),
	SCMP_SYS(umount2), SCMP_SYS(unshare),
	/* the machine (adjtimex also reads, which the doctor does; setting
	 * takes a capability that is gone) */
	SCMP_SYS(acct), SCMP_SYS(clock_settime), SCMP_SYS(ioperm), SCMP_SYS(iopl),
	SCMP_SYS(quotactl), SCMP_SYS(quotactl_fd), SCMP_SYS(reboot),
	SCMP_SYS(setdomainname), SCMP_SYS(sethostname),
	SCMP_SYS(settimeofday), SCMP_SYS(swapoff), SCMP_SYS(swapon),
	SCMP_SYS(syslog), SCMP_SYS(vhangup),
	/* the kernel */
	SCMP_SYS(bpf), SCMP_SYS(delete_module), SCMP_SYS(finit_module),
	SCMP_SYS(init_module), SCMP_SYS(kexec_file_load),
	SCMP_SYS(kexec_load), SCMP_SYS(lookup_dcookie),
	SCMP_SYS(modify_ldt), SCMP_SYS(perf_event_open),
	SCMP_SYS(userfaultfd), SCMP_SYS(io_uring_setup),
	SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register),
	SCMP_SYS(fanotify_init),
	/* keys */
	SCMP_SYS(add_key), SCMP_SYS(keyctl), SCMP_SYS(request_key),
};
/* clang-format on */

static int
add_refused_calls(scmp_filter_ctx filter)
{
	for (size_t i = 0; i < sizeof refused_calls / sizeof *refused_calls;
	     i++)
		TRY(seccomp_rule_add(
		    filter, SCMP_ACT_ERRNO(EPERM), refused_calls[i], 0));
	/* No seccomp filter can look behind clone3's pointer; without it the C
	 * library falls back to clone, whose flags are in a register. */
	TRY(seccomp_rule_add(
	    filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0));
	TRY(seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
	    SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER)));
	return seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl),
	    1, SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff, TIOCSTI));
}

static int
load_filter(scmp_filter_ctx filter)
{
	/* All threads, should there be others already. */
	TRY(seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1));
	TRY(seccomp_attr_set(
	    filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM)));
	TRY(add_refused_calls(filter));
	return seccomp_load(filter);
}

static int
confine_calls(struct failure *f)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

	if (!filter)
		return failure_set(f, -ENOMEM, "cannot make a seccomp filter");
	int result = load_filter(filter);
	seccomp_release(filter);
	if (result < 0)
		return failure_set(f, result,
		    "cannot install the seccomp filter: %s",
		    error_text(result));
	return 0;
}

#if defined LANDLOCK_ACCESS_FS_REFER && defined SYS_landlock_create_ruleset

#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (UINT64_C(1) << 14) /* ABI 3 */
#endif

static const uint64_t write_to_file =
    LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE;
static const uint64_t write_to_directory =
    LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
    LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
    LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
    LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER;
/* Given to nobody. */
static const uint64_t never = LANDLOCK_ACCESS_FS_EXECUTE |
			      LANDLOCK_ACCESS_FS_MAKE_CHAR |
			      LANDLOCK_ACCESS_FS_MAKE_BLOCK;

struct ruleset {
	int fd;
	uint64_t handled;
};

static int
allow_writes(const struct ruleset *rules, const char *path, struct failure *f)
{
	int AUTO_CLOSE fd = open(path, O_PATH | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return failure_set(
		    f, -errno, "cannot open %s: %s", path, error_text(-errno));
	uint64_t access = write_to_file;
	if (S_ISDIR(st.st_mode))
		access |= write_to_directory;
	struct landlock_path_beneath_attr rule = {
		.allowed_access = access & rules->handled,
		.parent_fd = fd,
	};
	if (syscall(SYS_landlock_add_rule, rules->fd,
		LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		return failure_set(f, -errno, "cannot allow writes to %s: %s",
		    path, error_text(-errno));
	return 0;
}

static int
confine_writes(
    const struct privilege_paths *paths, bool *ret_landlock, struct failure *f)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0,
	    LANDLOCK_CREATE_RULESET_VERSION);
	/* ABI 1 refuses every rename between directories: Maildirs need it. */
	if (abi < 2) {
		*ret_landlock = false;
		return 0;
	}
	struct ruleset rules = { .fd = -1,
		.handled = write_to_file | write_to_directory | never };
	if (abi < 3)
		rules.handled &= ~(uint64_t)LANDLOCK_ACCESS_FS_TRUNCATE;
	struct landlock_ruleset_attr attr = { .handled_access_fs =
						  rules.handled };
	int AUTO_CLOSE fd =
	    (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
	if (fd < 0)
		return failure_set(f, -errno, "cannot make Landlock rules: %s",
		    error_text(-errno));
	rules.fd = fd;
	TRY(allow_writes(&rules, "/dev/null", f));
	TRY(allow_writes(&rules, paths->data_dir, f));
	for (size_t i = 0; paths->writable && paths->writable[i]; i++)
		TRY(allow_writes(&rules, paths->writable[i], f));
	if (syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		return failure_set(
		    f, -errno, "cannot apply Landlock: %s", error_text(-errno));
	*ret_landlock = true;
	return 0;
}

#else

static int
confine_writes(
    const struct privilege_paths *paths, bool *ret_landlock, struct failure *f)
{
	(void)paths, (void)f;
	*ret_landlock = false;
	return 0;
}

#endif

int
privilege_confine(const struct privilege_paths *paths, bool *ret_landlock,
    struct failure *ret_failure)
{
	bool has_landlock = false;

	BUG_UNLESS(paths->data_dir);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return failure_set(ret_failure, -errno,
		    "cannot give up gaining privileges: %s",
		    error_text(-errno));
	TRY(confine_writes(paths, &has_landlock, ret_failure));
	TRY(confine_calls(ret_failure));
	*ret_landlock = has_landlock;
	return 0;
}

long
privilege_raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return sysconf(_SC_OPEN_MAX);
	rlim_t before = limit.rlim_cur;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		limit.rlim_cur = before;
	return limit.rlim_cur > LONG_MAX ? LONG_MAX : (long)limit.rlim_cur;
}
