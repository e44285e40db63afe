/* SPDX-License-Identifier: Apache-2.0 */
#include "config/internal.h"

/* Each unit is 1024 of the one before; the first is the octet. */
static const char units[] = "KMGT";

bool
config_parse_size(struct span text, uint64_t *ret_size)
{
	uint64_t number;
	unsigned shift = 0;

	if (!text.len)
		return false;
	char last = text.ptr[text.len - 1];
	for (unsigned i = 0; units[i]; i++)
		if (last == units[i])
			shift = 10 * (i + 1);
	text.len -= shift != 0;
	if (!span_to_u64(text, UINT64_MAX >> shift, &number))
		return false;
	*ret_size = number << shift;
	return true;
}

void
config_format_size(uint64_t size, struct buf *out)
{
	unsigned unit = 0;

	while (size && size % 1024 == 0 && units[unit]) {
		size /= 1024;
		unit++;
	}
	buf_printf(out, "%llu", (unsigned long long)size);
	if (unit)
		buf_append_char(out, units[unit - 1]);
}
