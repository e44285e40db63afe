/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * `posthouse sandbox`: the first minute. The relay with everything on one
 * machine and nothing leaving it: no config, no DNS, no root, no network. All
 * mail is relayed by real SMTP to a catch-all receiving server, which is this
 * same program in a second process with a Maildir; each arrival is shown.
 * Data stay in ./posthouse-sandbox/ and are used again by the next start, the
 * printed credential included.
 */

/* argv[0] is the program, argv[1] "sandbox". Returns the exit status. */
int sandbox_run(int argc, char **argv);
