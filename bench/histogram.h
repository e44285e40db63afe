/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Times in microseconds, counted in buckets that are exact up to 127 and 1.6 %
 * wide above: percentiles of any number of samples in 18 KiB. One thread.
 */

#include <stdint.h>

enum {
	HISTOGRAM_EXACT = 128,
	HISTOGRAM_STEPS = 64, /* buckets per power of two above */
	HISTOGRAM_BUCKETS = HISTOGRAM_EXACT + 34 * HISTOGRAM_STEPS,
};

struct histogram {
	uint64_t counts[HISTOGRAM_BUCKETS];
	uint64_t count;
	int64_t sum_us, max_us;
};

/* Negative times count as 0, those beyond the last bucket (36 hours) in it. */
void histogram_add(struct histogram *h, int64_t us);
/* The time that `share` (0..1) of the samples do not exceed; 0 when empty. */
int64_t histogram_percentile(const struct histogram *h, double share);
double histogram_mean(const struct histogram *h);
