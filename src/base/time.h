/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Times are signed 64-bit microseconds, named `_us`. Wall times count from
 * 1970-01-01 UTC and are what is stored and shown; monotonic times count from
 * an arbitrary start and are what timers use. No function here reads a clock:
 * os/clock.h does.
 */

#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define US_PER_MS INT64_C(1000)
#define US_PER_S INT64_C(1000000)
#define US_PER_MIN (60 * US_PER_S)
#define US_PER_HOUR (60 * US_PER_MIN)
#define US_PER_DAY (24 * US_PER_HOUR)
#define TIME_NEVER INT64_MAX

/* "250ms 30s 5m 4h 5d 2w", as in the config. False when not of that form. */
bool time_parse_duration(struct span s, int64_t *ret_us);
/* The shortest such form, "4h" or "1h30m"; at least 24 bytes. */
const char *time_format_duration(int64_t us, char *buffer, size_t size);
/* For people: "just now", "3 min", "2 h 5 min", "4 d"; at least 24 bytes. */
const char *time_format_age(int64_t us, char *buffer, size_t size);

#define TIME_RFC3339_SIZE 32
/* "2026-11-23T17:44:49.123Z" from a wall time. Returns buffer. */
const char *time_format_rfc3339(
    int64_t wall_us, char buffer[static TIME_RFC3339_SIZE]);
bool time_parse_rfc3339(struct span s, int64_t *ret_wall_us);

#define TIME_RFC5322_SIZE 40
/* "Mon, 23 Nov 2026 17:44:49 +0000": always UTC, RFC 5322 §3.3. */
const char *time_format_rfc5322(
    int64_t wall_us, char buffer[static TIME_RFC5322_SIZE]);
