/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

_Noreturn void
bug(const char *what, const char *file, int line)
{
	char text[512];
	int len = snprintf(text, sizeof text, "posthouse: bug at %s:%d: %s\n",
	    file, line, what);

	if (len >= (int)sizeof text) {
		len = (int)sizeof text - 1;
		text[len - 1] = '\n';
	}
	if (len > 0 && write(STDERR_FILENO, text, (size_t)len) < 0)
		abort(); /* nowhere left to say it */
	abort();
}
