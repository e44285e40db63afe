/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Checksums and hashes that are no secrets' guard. */

#include "base/span.h"

#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli), continued from `crc`; start with 0. */
uint32_t hash_crc32c(uint32_t crc, const void *p, size_t len);

/* Keyed hash against chosen keys; the key is drawn once per process. */
uint64_t hash_keyed(struct span s);
uint64_t hash_keyed_u64(uint64_t value);
/* The function behind them, with the key given. */
uint64_t hash_siphash(const uint64_t k[static 2], struct span s);

/* The same on every machine and in every run: for placing work (a domain on a
 * reactor), never for tables fed by strangers. */
uint64_t hash_stable(struct span s);
uint64_t hash_mix(uint64_t value);
