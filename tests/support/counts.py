# SPDX-License-Identifier: Apache-2.0
"""What crash suites count: printed, and with CRASH_COUNTS=FILE appended there as
a JSON line, of which tools/nightly makes its table."""
import json
import os


def record(suite, **counts):
    print(f"\n{suite}: " + ", ".join(f"{number} {name.replace('_', ' ')}"
                                     for name, number in counts.items()))
    if "CRASH_COUNTS" in os.environ:
        with open(os.environ["CRASH_COUNTS"], "a") as file:
            file.write(json.dumps({"suite": suite, **counts}) + "\n")
