/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void
option_fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)fprintf(stderr, "%s: ", program_invocation_short_name);
	(void)vfprintf(stderr, format, args);
	(void)fputs("\n", stderr);
	va_end(args);
	exit(2);
}

uint64_t
option_number(const char *name, const char *value, uint64_t min, uint64_t max)
{
	uint64_t number;

	if (!span_to_u64(span_of(value), max, &number) || number < min)
		option_fail("%s wants a number from %" PRIu64 " to %" PRIu64
			    ", not \"%s\"",
		    name, min, max, value);
	return number;
}

double
option_share(const char *name, const char *value)
{
	char *end;
	double share = strtod(value, &end);

	if (end == value || *end || !(share >= 0 && share <= 1))
		option_fail(
		    "%s wants a share from 0 to 1, not \"%s\"", name, value);
	return share;
}

struct netaddr
option_address(const char *name, const char *value)
{
	struct netaddr addr;

	if (!netaddr_parse(span_of(value), &addr))
		option_fail("%s wants ADDRESS:PORT, not \"%s\"", name, value);
	return addr;
}
