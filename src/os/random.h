/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Unpredictable bytes from the kernel; never fails once the system is up. */
void random_bytes(void *p, size_t len);
uint64_t random_u64(void);
