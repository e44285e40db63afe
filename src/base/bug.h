/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Assertions that are always on. They guard against our own mistakes:
 * preconditions, state invariants, pairs of checks around the disk. Accepted
 * mail is durable before it is acknowledged, so the right answer to a broken
 * invariant is to stop at once, restart and resume. Never assert on bytes that
 * a peer sent: a reachable assertion is a denial of service.
 */

/* Writes one line to stderr and aborts. Safe in any thread. */
_Noreturn void bug(const char *what, const char *file, int line);

#define BUG_UNLESS(cond)                                                       \
	((cond) ? (void)0 : bug("not true: " #cond, __FILE__, __LINE__))
#define UNREACHABLE(why) bug("unreachable: " why, __FILE__, __LINE__)
