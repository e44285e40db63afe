/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Private to bounce: how rules are kept. */

#include "base/arena.h"
#include "base/pattern.h"
#include "bounce/judge.h"

/* ---- replies.rules ------------------------------------------------------ */

#define RULE_WHEN_MAX 40 /* codes and statuses in one rule */

enum verdict {
	VERDICT_REPLY,
	VERDICT_TEMPORARY,
	VERDICT_KEEP,
};

struct judge_rule {
	enum reply_class class;
	enum verdict verdict;
	uint16_t line;
	uint8_t when_count;
	struct span *when; /* views into the arena; each a prefix */
	struct pattern *pattern; /* NULL: any text */
};

struct judge {
	struct arena *arena;
	struct judge_rule *rules;
	size_t count, capacity;
};

/* Takes the next line off *rest, without comment lines and empty ones and with
 * its spaces trimmed; counts *line. False at the end. */
bool rule_line_next(struct span *rest, unsigned *line, struct span *ret_line);
/* The next word of a line. */
struct span rule_word(struct span *line);
