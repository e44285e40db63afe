/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The commands, each in a file of its own (cmd_<name>.c) and a row in the table
 * of commands.c: name, usage, one sentence, function. A command asks the admin
 * API, through the control socket when the service runs, else inside this
 * process (api_handle with the directory and the event files only), so there is
 * one way of answering. People get aligned tables and sentences, `--json` gives
 * the API's JSON.
 *
 * Exit status: 0 done, 1 the thing failed, 2 usage; sendmail: sysexits.
 */

/* `posthouse --json status` becomes `posthouse status --json`. */
void cli_put_command_first(int argc, char **argv);
/* Every command but `serve` and `sandbox`, which main runs itself; argv[0] is
 * the program, argv[1] the command. */
int cli_run(int argc, char **argv);
/* The program under its traditional names. */
int cli_sendmail(int argc, char **argv); /* also -bp: mailq, -bi: newaliases */
int cli_mailq(int argc, char **argv);
/* Prints the help text; with a command's name, that of the command. */
void cli_help(const char *command);

/* $POSTHOUSE_CONFIG or the default path. */
const char *cli_default_config(void);
/* Loads the config and prints each mistake to stderr as file:line:column; NULL
 * on mistakes. */
struct config;
struct config *cli_load_config(const char *path);
