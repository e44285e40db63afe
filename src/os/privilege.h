/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Giving up what is no longer needed. Order at start: bind sockets and read
 * private keys as root, then privilege_drop, then privilege_confine.
 */

#include "base/error.h"

#include <stdbool.h>

/* Becomes `user` with its groups, for good; checks that root cannot come
 * back. No-op when not root. */
MUST_CHECK int privilege_drop(const char *user, struct failure *ret_failure);

/* No new privileges, no exec, and a seccomp filter that refuses the system
 * calls a mail relay never makes (ptrace, mount, module loading, …). Landlock
 * then limits writes to `data_dir` and `writable[]` where the kernel has it.
 * *ret_landlock says whether it had. */
struct privilege_paths {
	const char *data_dir;
	const char *const *writable; /* NULL-terminated; Maildirs, logs */
};

MUST_CHECK int privilege_confine(const struct privilege_paths *paths,
    bool *ret_landlock, struct failure *ret_failure);

/* Raises RLIMIT_NOFILE to its hard limit; returns the limit in force. */
long privilege_raise_file_limit(void);
