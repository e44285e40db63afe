# SPDX-License-Identifier: Apache-2.0
"""Rows of one message: what it writes, what memory it takes."""
import statistics
import time

from . import relays
from .figures import Figure
from .host import Trouble, bytes_written, forget_peak, status_kib
from .tools import load

RECIPIENTS, DOMAINS = 1000, 50
BODY, LARGE_BODY = 102_400, 1_000_000
LARGE = 50_000_000
QUIET_S = 2.0  # without a byte written: nothing is under way any more


def wait_quiet(relay, seconds=60):
    """Until the relay writes nothing more, of whatever file."""
    end = time.monotonic() + seconds
    last, since = bytes_written(relay.pid), time.monotonic()
    while time.monotonic() - since < QUIET_S:
        if time.monotonic() > end:
            raise Trouble("the relay does not stop writing")
        time.sleep(0.05)
        now = bytes_written(relay.pid)
        if now != last:
            last, since = now, time.monotonic()


def wait_recipients(sink, count, seconds=60):
    end = time.monotonic() + seconds
    while sink.counts()["recipients"] < count:
        if time.monotonic() > end:
            raise Trouble(f"not all of {count} recipients came to the sink")
        time.sleep(0.02)


def events_size(relay):
    return sum(path.stat().st_size
               for path in (relay.data / "events").iterdir())


def send_to_many(bench, relay, size):
    """What one message to all recipients wrote."""
    before = relay.metrics()["spool_written_bytes_total"]
    events_before, all_before = events_size(relay), bytes_written(relay.pid)
    there = relay.sink.counts()["recipients"]
    sent = load(bench.build, relay.port, messages=1, connections=1, size=size,
                recipients=RECIPIENTS, domains=DOMAINS,
                recipient="u{r}@d{d}.bench.invalid")["bytes"]
    wait_recipients(relay.sink, there + RECIPIENTS)
    wait_quiet(relay)
    spool = relay.metrics()["spool_written_bytes_total"] - before
    events = events_size(relay) - events_before
    return {"body_bytes": sent, "spool_bytes": spool, "event_bytes": events,
            "spool_ratio": spool / sent, "both_ratio": (spool + events) / sent,
            "process_bytes": bytes_written(relay.pid) - all_before}


def row_recipients(bench):
    relay = relays.Posthouse(bench.build, bench.place())
    try:
        # Traffic enough for the spool to prepare segments beforehand.
        load(bench.build, relay.port, messages=2000, connections=32, size=4096)
        wait_quiet(relay)
        rounds = {size: [send_to_many(bench, relay, size)
                         for _ in range(bench.rounds)]
                  for size in (BODY, LARGE_BODY)}
    finally:
        relay.stop()
    bench.detail(rounds=rounds)

    def median(size, key):
        return statistics.median(r[key] for r in rounds[size])

    about = f" to {RECIPIENTS:,} recipients at {DOMAINS} domains, until the end: "
    return [
        Figure("bytes written per body byte, 100 KB",
               median(BODY, "both_ratio"), "times",
               "1 message of 100 KB" + about + "what log and event files grew by",
               1.5, 1.1, False),
        Figure("… by the log alone", median(BODY, "spool_ratio"), "times",
               "the same, without event files"),
        Figure("… 1 MB", median(LARGE_BODY, "both_ratio"), "times",
               "1 message of 1 MB" + about + "log and event files"),
    ]


def row_memory(bench):
    relay = relays.Posthouse(bench.build, bench.place())
    try:
        load(bench.build, relay.port, messages=2000, connections=32)
        relay.sink.wait_for(2000)
        wait_quiet(relay)
        growth = []
        for number in range(bench.rounds):
            forget_peak(relay.pid)
            before = status_kib(relay.pid, "VmRSS")
            load(bench.build, relay.port, messages=1, connections=1, size=LARGE)
            relay.sink.wait_for(2001 + number)
            growth.append((status_kib(relay.pid, "VmHWM") - before) / 1024)
            wait_quiet(relay)
        bench.detail(growth_mib=growth)
    finally:
        relay.stop()
    return [Figure("50 MB message, growth of memory", max(growth), "MiB",
                   "the peak of the relay's resident memory over that before,"
                   f" received and delivered; the worst of {bench.rounds}", 4,
                   more=False)]
