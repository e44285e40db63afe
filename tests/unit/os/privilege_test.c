/* SPDX-License-Identifier: Apache-2.0 */
#include "os/privilege.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
/* clang-format on */

#include "base/mem.h"
#include "os/file.h"

static void
run_in_child(int (*story)(void))
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0)
		_exit(story());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static char directory[] = "/tmp/posthouse-confine-XXXXXX";
static char *inside, *outside;
static bool has_landlock;

static bool
can_create(const char *where)
{
	char *AUTO_FREE path = mem_printf("%s/made", where);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return false;
	close(fd);
	return unlink(path) == 0;
}

static void *
do_nothing(void *argument)
{
	return argument;
}

static bool
is_refused(long result)
{
	return result < 0 && errno == EPERM;
}

static int
confine(void)
{
	struct failure f = { 0 };
	const char *const none[] = { NULL };
	struct privilege_paths paths = { .data_dir = inside, .writable = none };
	int result = privilege_confine(&paths, &has_landlock, &f);

	if (result < 0)
		fprintf(stderr, "%s\n", f.text);
	return result;
}

static int
refused_story(void)
{
	char *const words[] = { "true", NULL }, *const no_words[] = { NULL };
	pthread_t thread;
	char c = 'x';

	if (confine() < 0)
		return 1;
	if (!is_refused(unshare(CLONE_NEWUSER)))
		return 2;
	if (!is_refused(execve("/bin/true", words, no_words)) &&
	    errno != EACCES)
		return 3;
	if (!is_refused(mount("none", "/mnt", "tmpfs", 0, NULL)))
		return 4;
	if (!is_refused(ioctl(0, TIOCSTI, &c)))
		return 5;
	if (pthread_create(&thread, NULL, do_nothing, NULL) != 0 ||
	    pthread_join(thread, NULL) != 0)
		return 6;
	pid_t child = fork();
	if (child == 0)
		_exit(0);
	return child > 0 && waitpid(child, NULL, 0) == child ? 0 : 7;
}

static int
writes_story(void)
{
	char *AUTO_FREE a = mem_printf("%s/a", inside);
	char *AUTO_FREE b = mem_printf("%s/b", inside);
	char *AUTO_FREE from = mem_printf("%s/f", a);
	char *AUTO_FREE to = mem_printf("%s/f", b);

	if (!can_create(inside) || !can_create(outside))
		return 1;
	if (confine() < 0)
		return 2;
	if (!can_create(inside))
		return 3;
	if (has_landlock && (can_create(outside) || errno != EACCES))
		return 4;
	if (access("/etc/passwd", R_OK) < 0)
		return 5;
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (null < 0)
		return 6;
	/* As a Maildir does: from tmp/ to new/. */
	if (file_make_directory(a, 0700) < 0 ||
	    file_make_directory(b, 0700) < 0 ||
	    file_replace(from, SPAN("x"), 0600) < 0 || rename(from, to) < 0)
		return 7;
	return unlink(to) < 0 || rmdir(a) < 0 || rmdir(b) < 0 ? 8 : 0;
}

static int
missing_path_story(void)
{
	struct failure f = { 0 };
	const char *const writable[] = { "/nonexistent/maildir", NULL };
	struct privilege_paths paths = { .data_dir = inside,
		.writable = writable };
	int result = privilege_confine(&paths, &has_landlock, &f);

	if (result == 0)
		return has_landlock; /* nobody looked */
	return result == -ENOENT && strstr(f.text, "/nonexistent/maildir") ? 0
									   : 1;
}

static int
drop_story(void)
{
	struct failure f = { 0 };

	if (geteuid() != 0)
		return privilege_drop("no-such-user", &f) == 0 ? 0 : 1;
	if (privilege_drop("no-such-user", &f) != ERR_NOT_FOUND ||
	    !strstr(f.text, "no-such-user"))
		return 2;
	if (privilege_drop("root", &f) != ERR_REFUSED)
		return 3;
	if (privilege_drop("nobody", &f) < 0)
		return 4;
	return getuid() != 0 && getegid() != 0 && setuid(0) < 0 ? 0 : 5;
}

static void
test_refused_calls(void **state)
{
	(void)state;
	run_in_child(refused_story);
}

static void
test_writes(void **state)
{
	(void)state;
	run_in_child(writes_story);
}

static void
test_missing_path(void **state)
{
	(void)state;
	run_in_child(missing_path_story);
}

static void
test_drop(void **state)
{
	(void)state;
	run_in_child(drop_story);
}

static void
test_file_limit(void **state)
{
	(void)state;
	struct rlimit limit;
	long files = privilege_raise_file_limit();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_true(limit.rlim_cur == limit.rlim_max);
	assert_true((rlim_t)files == limit.rlim_cur);
}

static int
set_up(void **state)
{
	(void)state;
	if (!mkdtemp(directory))
		return -1;
	inside = mem_printf("%s/in", directory);
	outside = mem_printf("%s/out", directory);
	return file_make_directory(inside, 0700) |
	       file_make_directory(outside, 0700);
}

static int
tear_down(void **state)
{
	(void)state;
	int result = rmdir(inside) | rmdir(outside) | rmdir(directory);
	mem_free(inside);
	mem_free(outside);
	return result;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused_calls),
		cmocka_unit_test(test_writes),
		cmocka_unit_test(test_missing_path),
		cmocka_unit_test(test_drop),
		cmocka_unit_test(test_file_limit),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
