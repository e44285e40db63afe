# SPDX-License-Identifier: Apache-2.0
import time


def wait_for(condition, seconds=15, what="condition", pause=0.02):
    """Polls until condition() is true; returns its value. Fails loudly."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(pause)
