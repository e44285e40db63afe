/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Long-lived memory with an explicit end. Memory exhaustion aborts here, in
 * one place: every queue, line and list has a configured limit long before it
 * can matter, and accepted mail is already on disk.
 */

#include <stdbool.h>
#include <stddef.h>

void *mem_alloc(size_t size) __attribute__((malloc, returns_nonnull));
void *mem_zalloc(size_t size) __attribute__((malloc, returns_nonnull));
/* Resizes to count × size, checked against overflow. */
void *mem_resize(void *p, size_t count, size_t size)
    __attribute__((returns_nonnull));
void *mem_dup(const void *p, size_t size) __attribute__((returns_nonnull));
char *mem_strdup(const char *s) __attribute__((returns_nonnull));
char *mem_printf(const char *format, ...)
    __attribute__((format(printf, 1, 2), returns_nonnull));
void mem_free(void *p); /* accepts NULL */

/* Overwrites secrets before they are freed; not optimised away. */
void mem_wipe(void *p, size_t size);
/* Compares secrets in time that depends on size only. */
bool mem_equal_secret(const void *a, const void *b, size_t size);

#define MEM_NEW(type) ((type *)mem_zalloc(sizeof(type)))

/* A pointer that is freed when its scope ends: `char *AUTO_FREE path = …`. */
#define AUTO_FREE __attribute__((cleanup(mem_auto_free)))

static inline void
mem_auto_free(void *pointer_to_pointer)
{
	mem_free(*(void **)pointer_to_pointer);
}
