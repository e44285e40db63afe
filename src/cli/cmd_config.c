/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/internal.h"
#include "config/shaping.h"

static void
add_mistake(void *arg, const char *file, unsigned line, unsigned column,
    const char *text)
{
	json_t *one = json_object();

	json_object_set_new(one, "file", json_string(file));
	json_object_set_new(one, "line", json_integer(line));
	json_object_set_new(one, "column", json_integer(column));
	json_object_set_new(one, "message", json_string(text));
	json_array_append_new(arg, one);
}

static int
check_json(const char *path)
{
	json_t *mistakes = json_array();
	struct config *config = NULL;
	int result = config_load(path, true, add_mistake, mistakes, &config);

	config_unref(&config);
	(void)print_json(json_pack("{s:s, s:b, s:o}", "file", path, "ok",
	    result == 0, "mistakes", mistakes));
	return result < 0;
}

int
cmd_config_check(struct invocation *inv)
{
	if (inv->json)
		return check_json(inv->config_path);
	struct config *config = config_load_for(inv->config_path, true, stdout);
	if (config == NULL)
		return 1;
	config_unref(&config);
	puts("ok");
	return 0;
}

int
cmd_config_show(struct invocation *inv)
{
	struct buf yaml = BUF_EMPTY;
	struct config *config =
	    config_load_for(inv->config_path, false, stderr);

	if (config == NULL)
		return 1;
	if (option_value(inv, "shaping") != NULL)
		shaping_show(
		    config, option_value(inv, "explain") != NULL, &yaml);
	else
		config_show(
		    config, option_value(inv, "explain") != NULL, &yaml);
	config_unref(&config);
	if (inv->json)
		(void)print_json(json_pack("{s:s, s:s}", "file",
		    inv->config_path, "yaml", buf_cstring(&yaml)));
	else
		fputs(buf_cstring(&yaml), stdout);
	buf_done(&yaml);
	return 0;
}
