/* SPDX-License-Identifier: Apache-2.0 */

/* Whatever parses is shown as what parses to the same, and mistakes are always
 * told: at least one, and each as one line of printable text. */

#include "base/buf.h"
#include "base/bug.h"
#include "config/config.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_mistake(void *arg, const char *file, unsigned line, unsigned column,
    const char *text)
{
	BUG_UNLESS(file && (line == 0) == (column == 0));
	BUG_UNLESS(*text && !strpbrk(text, "\n\r\033\t"));
	++*(unsigned *)arg;
}

static void
must_parse(struct span text, struct config **ret_config)
{
	unsigned mistakes = 0;

	BUG_UNLESS(config_parse(text, "shown.yaml", false, check_mistake,
		       &mistakes, ret_config) == 0);
	BUG_UNLESS(mistakes == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *config = NULL;
	struct buf once = BUF_EMPTY, twice = BUF_EMPTY;
	unsigned mistakes = 0;

	if (config_parse(span_from(data, size), "fuzz.yaml", false,
		check_mistake, &mistakes, &config) < 0) {
		BUG_UNLESS(mistakes > 0 && !config);
		return 0;
	}
	BUG_UNLESS(mistakes == 0);
	BUG_UNLESS(config_route_for(config, span_from(data, size)) != NULL);
	config_show(config, size % 2, &once);
	config_unref(&config);
	must_parse(buf_span(&once), &config);
	config_show(config, size % 2, &twice);
	BUG_UNLESS(span_eq(buf_span(&once), buf_span(&twice)));
	config_unref(&config);
	buf_done(&once);
	buf_done(&twice);
	return 0;
}
