/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * New keys for sender domains, stage by stage: made and to be published; seen
 * by the resolver and switched to; the old ones kept for mail that is still on
 * its way, and at last deleted. A command takes the next stage that is due; a
 * thread does so for all domains.
 *
 * Steps block on the DNS and the disk.
 */

#include "config/config.h"
#include "directory/directory.h"

#include <stdatomic.h>

enum rotation_stage {
	ROTATION_NONE, /* nothing is under way */
	ROTATION_BEGUN, /* new keys, to be published */
	ROTATION_WAITING, /* they are not seen yet */
	ROTATION_SWITCHED, /* they sign */
	ROTATION_KEEPING, /* the old ones are kept for a while */
	ROTATION_REVOKED, /* they are deleted */
};

struct rotation_step {
	const char *domain;
	bool may_begin; /* with new keys, if nothing is under way */
	const atomic_bool *cancelled; /* set to end it soon; or NULL */
	bool is_forced; /* unseen keys are switched to, old ones not kept */
};

struct rotation_outcome {
	enum rotation_stage stage;
	char text[512]; /* a sentence for people */
};

/* Takes the next stage. */
MUST_CHECK int rotation_go_on(struct directory *directory,
    const struct config *config, const struct rotation_step *step,
    struct rotation_outcome *ret_outcome, struct failure *ret_failure);
const char *rotation_stage_name(enum rotation_stage stage);

struct rotation;

struct rotation_options {
	struct directory *directory;
	/* The config of now, counted. */
	struct config *(*config)(void *owner);
	void *owner;
};

MUST_CHECK int rotation_start(
    const struct rotation_options *options, struct rotation **ret_rotation);
/* A step under way ends within a tenth of a second, or on the disk. */
void rotation_stop(struct rotation **rotation);
