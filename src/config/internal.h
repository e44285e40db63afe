/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How the room works: table.c describes each key once; document.c turns YAML
 * into a bounded tree; read.c walks tree and tables side by side, and value.c
 * turns each scalar into a field; check.c looks at what only makes sense
 * together; complete.c computes the defaults that depend on other keys. Every
 * step only adds mistakes to one list, so that one reading finds them all.
 */

#include "config/config.h"

#include <yaml.h>

enum config_kind {
	VALUE_TEXT,
	VALUE_NAME, /* of a source, a pool, a system user */
	VALUE_PATH, /* absolute */
	VALUE_HOSTNAME, /* a domain name, kept as A-labels */
	VALUE_PATTERN, /* "*", "*.domain" or a domain */
	VALUE_MAILBOX,
	VALUE_BOOL,
	VALUE_CHOICE, /* an enum: the position in `choices` */
	VALUE_NUMBER, /* uint32_t */
	VALUE_PORT, /* uint16_t */
	VALUE_SIZE, /* uint64_t octets */
	VALUE_DURATION, /* int64_t microseconds */
	VALUE_RATE, /* struct config_rate */
	VALUE_LISTEN, /* struct netaddr with a port, or a Unix socket */
	VALUE_IP, /* struct netaddr without a port */
	VALUE_SERVER, /* struct netaddr, port 53 unless given */
	VALUE_NETWORK, /* struct netmask */
	VALUE_SOURCE, /* const struct config_source *, by its name */
	VALUE_MAP, /* a section, or with is_list a list of maps */
	VALUE_KIND_COUNT
};

/* One key of the file. */
struct config_key {
	const char *name;
	enum config_kind kind;
	bool is_list;
	bool is_computed; /* default_text is for people; complete.c knows */
	size_t offset; /* of the field, or of the list's pointer */
	size_t count_offset; /* of a list's size_t */
	const char *default_text; /* as in the file; NULL: must be given */
	uint64_t min, max; /* of a number, or of a text's length */
	unsigned least, most; /* entries of a list */
	const char *const *choices; /* NULL-terminated */
	const struct config_table *table; /* of VALUE_MAP */
	const char *explain; /* one sentence */
};

/* The keys of one map. */
struct config_table {
	const char *name; /* "limits"; NULL at the top */
	const struct config_key *keys;
	size_t count;
	size_t item_size; /* of one entry, for lists of maps */
};

#define CONFIG_TABLE_KEYS_MAX 32

extern const struct config_table config_root_table;
extern const struct config_table shaping_root_table;

/* ---- mistakes ---------------------------------------------------------- */

#define CONFIG_MISTAKES_MAX 100
#define CONFIG_MISTAKE_TEXT_MAX 400

struct config_mistake {
	unsigned line, column; /* from 1; 0 when the file itself is meant */
	unsigned number; /* order of discovery */
	char text[CONFIG_MISTAKE_TEXT_MAX];
};

struct config_mistakes {
	struct config_mistake *items;
	size_t count;
	bool is_full; /* more were found than are kept */
};

void config_mistakes_add(struct config_mistakes *m, yaml_mark_t mark,
    const char *format, ...) PRINTF_LIKE(3, 4);
void config_mistakes_add_file(
    struct config_mistakes *m, const char *format, ...) PRINTF_LIKE(2, 3);
/* Tells them in the order of the file. */
void config_mistakes_report(struct config_mistakes *m, const char *file,
    config_mistake_fn *fn, void *arg);
void config_mistakes_done(struct config_mistakes *m);

#define CONFIG_QUOTE_SIZE 72
/* The file's own words for a message: shortened, nothing unprintable. */
const char *config_quote(
    struct span text, char buffer[static CONFIG_QUOTE_SIZE]);
/* The nearest of the table's keys, or NULL when none is near. */
const char *config_suggest(const struct config_table *table, struct span name);

/* ---- reading ----------------------------------------------------------- */

struct config_reader {
	yaml_document_t *document;
	struct config *config;
	const struct config_table *root; /* of the file that is read */
	void *base; /* of the structure it describes */
	struct config_mistakes mistakes;
	size_t visited; /* nodes looked at; aliases make them more than written
	                 */
};

/* One YAML document within bounds, or false with mistakes. On true the caller
 * deletes it. */
bool config_document_load(struct span text, struct config_mistakes *mistakes,
    yaml_document_t *ret_document);

/* Reads the document into reader->base, with the plain defaults. */
void config_read(struct config_reader *r);
/* The node at a key of the root, at its entry `index` and at that entry's key
 * (NULL: stop there); as deep as there is one. NULL without a document. */
yaml_node_t *config_node(struct config_reader *r, const char *key, size_t index,
    const char *item_key);
#define CONFIG_NO_INDEX SIZE_MAX
bool config_is_given(struct config_reader *r, const char *key, size_t index,
    const char *item_key);
/* Whether a mistake lies within the node: what depends on it is then not
 * judged. */
bool config_has_mistake(struct config_reader *r, const yaml_node_t *node);
void config_mistake(struct config_reader *r, const yaml_node_t *node,
    const char *format, ...) PRINTF_LIKE(3, 4);

void config_check(struct config_reader *r);
void config_check_files(struct config_reader *r);
/* Only without mistakes; may find one itself. */
void config_complete(struct config_reader *r);
/* Reads a route's `to` into its parts, or says why not. */
bool config_parse_to(
    struct config_route *route, char *reason, size_t reason_size);
/* Whether one of its domains is "*". */
bool config_route_is_for_all(const struct config_route *route);

/* ---- shaping.c --------------------------------------------------------- */

/* Into config->shaping, if there is a file. Mistakes are told like others. */
MUST_CHECK int shaping_load(
    struct config *config, config_mistake_fn *fn, void *arg);
void shaping_free(struct shaping **shaping);

/* ---- values ------------------------------------------------------------ */

struct config_scalar {
	const struct config_key *key;
	struct span text;
	bool is_quoted;
	const struct config *config; /* the sources read so far */
};

#define CONFIG_REASON_SIZE 256

/* Sets the field, or leaves it and writes why not: "`30` has no unit; …". */
bool config_value_parse(const struct config_scalar *scalar, void *field,
    char reason[static CONFIG_REASON_SIZE]);
/* As it would stand in the file; nothing for an empty text. */
void config_value_format(
    const struct config_key *key, const void *field, struct buf *out);
/* Frees what the field owns. */
void config_value_done(enum config_kind kind, void *field);
size_t config_value_size(enum config_kind kind);
/* "a duration such as 30s, 5m or 4h" */
const char *config_value_noun(enum config_kind kind);

/* Frees all fields of the table at base. */
void config_table_done(const struct config_table *table, void *base);

/* "10M", "512K", "100": powers of 1024. */
bool config_parse_size(struct span text, uint64_t *ret_size);
void config_format_size(uint64_t size, struct buf *out);
