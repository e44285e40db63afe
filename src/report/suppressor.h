/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What became of mail, where it also says that an address must not be mailed
 * again. Events must not say so before it is on the disk, and a reactor cannot
 * wait for the directory: so a thread writes the suppressions first, many at a
 * time, and then submits the transactions that tell of them. While the
 * directory cannot be written, they wait; a process that ends before has not
 * recorded those outcomes, and the deliveries are tried again.
 *
 * Threads: submit and has_room from any.
 */

#include "directory/suppression.h"
#include "intake/intake.h"

struct suppressor;

MUST_CHECK int suppressor_start(struct directory *directory,
    struct intake *intake, struct suppressor **ret_suppressor);
/* Works off what waits. Before the spool stops. */
void suppressor_stop(struct suppressor **suppressor);

/* May outcomes be handed over? With more than `most` waiting they go without
 * suppressing anybody: the next refusal will. */
bool suppressor_has_room(struct suppressor *suppressor, uint32_t most);

struct suppressor_job {
	const struct suppression *entries; /* copied */
	size_t entry_count;
	/* As for intake_submit. */
	struct spool_txn **txn;
	struct intake_message **reports;
	size_t report_count;
	spool_done_fn *done;
	void *arg;
};

/* Takes the transaction and the reports. */
void suppressor_submit(
    struct suppressor *suppressor, const struct suppressor_job *job);
