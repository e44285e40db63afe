# SPDX-License-Identifier: Apache-2.0
"""Rows of many clients that bring no mail."""
import pathlib
import resource
import select
import statistics
import subprocess
import time

from . import relays
from .figures import Figure, ratio
from .host import Trouble, status_kib
from .tools import load

CROWD = pathlib.Path(__file__).resolve().parents[1] / "crowd"
IDLE, IDLE_TLS, DRIBBLING = 10_000, 2_000, 1_000
RATE = 1000  # of good clients, messages per second: far from what is possible
GOOD = 100  # sessions kept free for them and for looking
LIMITS = {"limits": {"connections": 20000, "connections_per_client": 20000,
                     "shared_bodies": 0}}


def idle_count():
    """posthouse gives sessions half of the files that may be open; where that
    is too little, fewer are idle."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    count = min(IDLE, files // 2 - DRIBBLING - GOOD)
    if count < 1000:
        raise Trouble(f"only {files} files may be open (ulimit -n)")
    return count


class Crowd:
    def __init__(self, port, *options):
        self.process = subprocess.Popen(
            [CROWD, "--port", str(port), *map(str, options)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)
        if not select.select([self.process.stdout], [], [], 120)[0] or \
                self.process.stdout.readline() != "ready\n":
            self.process.kill()
            raise Trouble("the crowd does not come in: "
                          + self.process.communicate()[1].strip())

    def leave(self):
        """It must have stayed until now."""
        if self.process.poll() is not None:
            raise Trouble("the crowd went: "
                          + self.process.communicate()[1].strip())
        self.process.communicate()


def wait_sessions(relay, count, seconds=60):
    end = time.monotonic() + seconds
    while relay.metrics()["sessions_open"] != count:
        if time.monotonic() > end:
            raise Trouble(f"there are not {count} sessions open")
        time.sleep(0.1)


def good_clients_ms(bench, relay):
    """Their p99 of the time to 250."""
    result = load(bench.build, relay.port, connections=32, size=4096, rate=RATE,
                  messages=int(RATE * bench.seconds))
    return result["time_to_250_us"]["p99"] / 1000


def warm(bench, relay):
    load(bench.build, relay.port, messages=2000, connections=32, size=4096)
    relay.sink.wait_for(2000)
    wait_sessions(relay, 0)
    time.sleep(1)


def idle_kib(relay, count, *options):
    """Memory per session of an idle crowd, which stays."""
    before = status_kib(relay.pid, "VmRSS")
    crowd = Crowd(relay.port, "--idle", count, *options)
    wait_sessions(relay, count)
    return crowd, (status_kib(relay.pid, "VmRSS") - before) / count


def rounds_beside(bench, relay):
    """Good clients without and with the crowd in turns; KiB of the first
    crowd's idle sessions."""
    alone, beside, kib = [], [], None
    for _ in range(bench.rounds):
        alone.append(good_clients_ms(bench, relay))
        wait_sessions(relay, 0)
        idle, memory = idle_kib(relay, idle_count())
        kib = kib or memory
        slow = Crowd(relay.port, "--dribble", DRIBBLING)
        beside.append(good_clients_ms(bench, relay))
        slow.leave()
        idle.leave()
        wait_sessions(relay, 0)
    bench.detail(alone_p99_ms=alone, beside_p99_ms=beside)
    return alone, beside, kib


def row_crowd(bench):
    relay = relays.Posthouse(bench.build, bench.place(), extra=LIMITS)
    try:
        warm(bench, relay)
        alone, beside, plain_kib = rounds_beside(bench, relay)
    finally:
        relay.stop()
    relay = relays.Posthouse(bench.build, bench.place(), tls=True, extra=LIMITS)
    try:
        load(bench.build, relay.port, messages=500, connections=32, size=4096,
             starttls=True)
        wait_sessions(relay, 0)
        time.sleep(1)
        crowd, tls_kib = idle_kib(relay, IDLE_TLS, "--starttls")
        crowd.leave()
    finally:
        relay.stop()
    return [
        Figure("idle session, plain", plain_kib, "KiB",
               f"growth of resident memory by {idle_count():,} sessions after EHLO",
               32, more=False),
        Figure("idle session, TLS", tls_kib, "KiB",
               f"the same by {IDLE_TLS:,} sessions after STARTTLS and EHLO",
               64, more=False),
        Figure("p99 beside a crowd, to alone",
               ratio(statistics.median(beside), statistics.median(alone)),
               "times", f"time to 250 of good clients ({RATE:,} messages per"
               f" second) beside {idle_count():,} idle clients and {DRIBBLING:,} that"
               " send a byte a second", 2, more=False),
    ]
