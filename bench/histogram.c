/* SPDX-License-Identifier: Apache-2.0 */
#include "histogram.h"

#include <stddef.h>

static size_t
bucket_of(uint64_t us)
{
	if (us < HISTOGRAM_EXACT)
		return us;
	/* 7 for 128..255: the power of two below, in steps of 1/64 of it. */
	unsigned power = 63 - (unsigned)__builtin_clzll(us);
	size_t bucket = HISTOGRAM_EXACT + (power - 7) * HISTOGRAM_STEPS +
			(us >> (power - 6)) - HISTOGRAM_STEPS;
	return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static int64_t
bucket_end(size_t bucket)
{
	if (bucket < HISTOGRAM_EXACT)
		return (int64_t)bucket;
	size_t power = (bucket - HISTOGRAM_EXACT) / HISTOGRAM_STEPS + 7;
	size_t step = (bucket - HISTOGRAM_EXACT) % HISTOGRAM_STEPS;
	return (int64_t)(((uint64_t)HISTOGRAM_STEPS + step + 1)
			 << (power - 6)) -
	       1;
}

void
histogram_add(struct histogram *h, int64_t us)
{
	if (us < 0)
		us = 0;
	h->counts[bucket_of((uint64_t)us)]++;
	h->count++;
	h->sum_us += us;
	if (us > h->max_us)
		h->max_us = us;
}

int64_t
histogram_percentile(const struct histogram *h, double share)
{
	uint64_t wanted = (uint64_t)(share * (double)h->count + 0.999999);
	uint64_t seen = 0;

	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->counts[i];
		if (seen < wanted || seen == 0)
			continue;
		return bucket_end(i) < h->max_us ? bucket_end(i) : h->max_us;
	}
	return 0;
}

double
histogram_mean(const struct histogram *h)
{
	return h->count ? (double)h->sum_us / (double)h->count : 0;
}
