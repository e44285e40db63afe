/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/sendmail.h"

#include <string.h>

/* Letters that take a value, attached or as the next word. */
static const char with_value[] = "ABCFLNORVXbefhopr";
/* Letters whose value, if any, is attached. */
static const char with_rest[] = "dq";
/* Letters that mean nothing to us. */
static const char ignored[] = "GUcmnsx";

static int
set_mode(struct sendmail_options *o, const char *value, struct failure *f)
{
	switch (value[0]) {
	case 'm':
		o->mode = SENDMAIL_SUBMIT;
		return 0;
	case 'p':
		o->mode = SENDMAIL_LIST;
		return 0;
	case 'i':
		o->mode = SENDMAIL_ALIASES;
		return 0;
	case 's':
		return failure_set(f, ERR_SYNTAX,
		    "-bs (SMTP on standard input) is not supported: pipe the "
		    "message in, or speak SMTP to the submission port");
	case 'd':
	case 'D':
		return failure_set(f, ERR_SYNTAX,
		    "-b%c (daemon) is not supported here: the service is "
		    "`posthouse serve`",
		    value[0]);
	default:
		return failure_set(f, ERR_SYNTAX,
		    "the mode -b%.1s is not supported: -bm, -bp and -bi are",
		    value);
	}
}

static int
take_value(struct sendmail_options *o, char letter, const char *value,
    struct failure *f)
{
	switch (letter) {
	case 'b':
		return set_mode(o, value, f);
	case 'f':
	case 'r':
		o->sender = value;
		break;
	case 'F':
		o->full_name = value;
		break;
	case 'N':
		o->notify = value;
		break;
	case 'R':
		o->ret = value;
		break;
	case 'V':
		o->envid = value;
		break;
	case 'o':
		o->ignores_dots |= strcmp(value, "i") == 0;
		break;
	default: /* of no meaning here */
		break;
	}
	return 0;
}

static int
take_flag(struct sendmail_options *o, char letter, struct failure *f)
{
	switch (letter) {
	case 't':
		o->reads_recipients = true;
		return 0;
	case 'i':
		o->ignores_dots = true;
		return 0;
	case 'v':
		o->is_verbose = true;
		return 0;
	case 'I': /* of old: -bi */
		o->mode = SENDMAIL_ALIASES;
		return 0;
	default:
		if (strchr(ignored, letter) != NULL)
			return 0;
		return failure_set(
		    f, ERR_SYNTAX, "the option -%c is not known", letter);
	}
}

/* One word of letters, "-ti" or "-fann@example.com". Returns how many words
 * were used. */
static int
take_word(
    struct sendmail_options *o, char **words, int count, struct failure *f)
{
	for (const char *p = words[0] + 1; *p != '\0'; p++) {
		if (strchr(with_rest, *p) != NULL) {
			if (*p == 'q')
				o->mode = SENDMAIL_FLUSH;
			return 1;
		}
		if (strchr(with_value, *p) == NULL) {
			TRY(take_flag(o, *p, f));
			continue;
		}
		if (p[1] == '\0' && count < 2)
			return failure_set(
			    f, ERR_SYNTAX, "the option -%c needs a value", *p);
		bool attached = p[1] != '\0';
		TRY(take_value(o, *p, attached ? p + 1 : words[1], f));
		return attached ? 1 : 2;
	}
	return 1;
}

static int
take_long(
    struct sendmail_options *o, char **words, int count, struct failure *f)
{
	const struct {
		const char *name;
		const char **value;
	} known[] = {
		{ "--config", &o->config },
		{ "--control", &o->control },
	};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		size_t len = strlen(known[i].name);

		if (strncmp(words[0], known[i].name, len) != 0)
			continue;
		if (words[0][len] == '=') {
			*known[i].value = words[0] + len + 1;
			return 1;
		}
		if (words[0][len] == '\0' && count > 1) {
			*known[i].value = words[1];
			return 2;
		}
	}
	return failure_set(f, ERR_SYNTAX,
	    "the option %.64s is not known, or lacks its value", words[0]);
}

/* Options end at the first word that is none: an address that a program was
 * talked into passing must not be taken for an option later on. */
int
sendmail_options_parse(int argc, char **argv,
    struct sendmail_options *ret_options, struct failure *ret_failure)
{
	struct sendmail_options o = { .mode = SENDMAIL_SUBMIT };
	int i = 1, used;

	while (i < argc && argv[i][0] == '-' && argv[i][1] != '\0') {
		if (strcmp(argv[i], "--") == 0) {
			i++;
			break;
		}
		used = argv[i][1] == '-'
			   ? take_long(&o, argv + i, argc - i, ret_failure)
			   : take_word(&o, argv + i, argc - i, ret_failure);
		TRY(used);
		i += used;
	}
	o.recipients = argv + i;
	o.recipient_count = (size_t)(argc > i ? argc - i : 0);
	*ret_options = o;
	return 0;
}
