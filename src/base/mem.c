/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include "base/bug.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *
must_have(void *p)
{
	if (!p)
		bug("out of memory", __FILE__, __LINE__);
	return p;
}

void *
mem_alloc(size_t size)
{
	return must_have(malloc(size ? size : 1));
}

void *
mem_zalloc(size_t size)
{
	return must_have(calloc(1, size ? size : 1));
}

void *
mem_resize(void *p, size_t count, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(count, size, &total))
		bug("memory size overflows", __FILE__, __LINE__);
	return must_have(realloc(p, total ? total : 1));
}

void *
mem_dup(const void *p, size_t size)
{
	void *copy = mem_alloc(size);

	if (size)
		memcpy(copy, p, size);
	return copy;
}

char *
mem_strdup(const char *s)
{
	return mem_dup(s, strlen(s) + 1);
}

char *
mem_printf(const char *format, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, format);
	int len = vasprintf(&text, format, args);
	va_end(args);
	return must_have(len < 0 ? NULL : text);
}

void
mem_free(void *p)
{
	free(p);
}

void
mem_wipe(void *p, size_t size)
{
	if (size)
		explicit_bzero(p, size);
}

bool
mem_equal_secret(const void *a, const void *b, size_t size)
{
	/* volatile: the compiler must not find a shortcut */
	const volatile unsigned char *x = a, *y = b;
	unsigned char difference = 0;

	for (size_t i = 0; i < size; i++)
		difference |= (unsigned char)(x[i] ^ y[i]);
	return difference == 0;
}
