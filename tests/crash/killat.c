/* SPDX-License-Identifier: Apache-2.0 */

/*
 *	killat N REPORT PROGRAM [ARGUMENT…]
 *
 * Runs a program and kills it (SIGKILL, all threads) at the N-th system call
 * that any of its threads begins after this process got SIGUSR1; the call does
 * not happen. N 0: never. REPORT gets a line "count NUMBER THREAD": how many
 * calls were begun, and the last one's number and thread. SIGUSR2 writes it,
 * too.
 */

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

struct watch {
	const char *report;
	pid_t pid;
	uint64_t kill_at, count;
	uint64_t number; /* of the last system call */
	char thread[32];
};

static volatile sig_atomic_t is_armed, is_asked;

static void
on_signal(int signo)
{
	if (signo == SIGUSR1)
		is_armed = 1;
	else
		is_asked = 1;
}

static void
write_report(const struct watch *w)
{
	FILE *out = fopen(w->report, "w");

	if (out == NULL)
		return;
	fprintf(out, "%" PRIu64 " %" PRIu64 " %s\n", w->count, w->number,
	    w->thread[0] != '\0' ? w->thread : "-");
	(void)fclose(out);
}

static void
name_thread(struct watch *w, pid_t tid)
{
	char path[64];

	(void)snprintf(
	    path, sizeof path, "/proc/%d/task/%d/comm", (int)w->pid, (int)tid);
	FILE *in = fopen(path, "r");
	if (in == NULL)
		return;
	if (fgets(w->thread, sizeof w->thread, in) != NULL)
		w->thread[strcspn(w->thread, "\n")] = '\0';
	(void)fclose(in);
}

/* True: its time has come. */
static bool
count_call(struct watch *w, pid_t tid)
{
	struct __ptrace_syscall_info info;

	if (!is_armed || ptrace(PTRACE_GET_SYSCALL_INFO, tid,
			     (void *)sizeof info, &info) < 0)
		return false;
	if (info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return false;
	w->count++;
	w->number = info.entry.nr;
	if (w->count != w->kill_at)
		return false;
	name_thread(w, tid);
	return true;
}

/* What the thread is to get of the signal that stopped it. */
static int
signal_of(int status)
{
	int signo = WSTOPSIG(status);

	if (signo == (SIGTRAP | 0x80) || status >> 16 != 0)
		return 0;
	/* A new thread's first stop, or one that nobody continues. */
	return signo == SIGSTOP || signo == SIGTRAP ? 0 : signo;
}

/* Until the program ends. Returns how it did. */
static int
follow(struct watch *w)
{
	for (;;) {
		int status;
		pid_t tid = waitpid(-1, &status, __WALL);

		if (is_asked) {
			is_asked = 0;
			write_report(w);
		}
		if (tid < 0 && errno == EINTR)
			continue;
		if (tid < 0)
			return 1;
		if (!WIFSTOPPED(status)) {
			if (tid != w->pid)
				continue;
			return WIFEXITED(status) ? WEXITSTATUS(status)
						 : 128 + WTERMSIG(status);
		}
		bool is_call = WSTOPSIG(status) == (SIGTRAP | 0x80);
		if (is_call && count_call(w, tid)) {
			(void)kill(w->pid, SIGKILL);
			continue;
		}
		(void)ptrace(PTRACE_SYSCALL, tid, NULL,
		    (void *)(intptr_t)signal_of(status));
	}
}

static pid_t
start(char **argv)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 &&
		    raise(SIGSTOP) == 0)
			(void)execvp(argv[0], argv);
		perror(argv[0]);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return -1;
	long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE |
		       PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
		       PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
	if (ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)options) < 0 ||
	    ptrace(PTRACE_SYSCALL, pid, NULL, NULL) < 0)
		return -1;
	return pid;
}

int
main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal };

	if (argc < 4) {
		fputs("usage: killat N REPORT PROGRAM [ARGUMENT...]\n", stderr);
		return 2;
	}
	struct watch w = { .report = argv[2],
		.kill_at = strtoull(argv[1], NULL, 10) };
	(void)sigaction(SIGUSR1, &action, NULL);
	(void)sigaction(SIGUSR2, &action, NULL);
	w.pid = start(&argv[3]);
	if (w.pid < 0) {
		perror("killat");
		return 1;
	}
	int result = follow(&w);
	write_report(&w);
	return result;
}
