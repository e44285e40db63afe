# SPDX-License-Identifier: Apache-2.0
"""Rows of mail that must not wait behind other mail."""
import statistics
import time

from . import relays
from .figures import Figure, ratio
from .host import Trouble, say
from .tools import Load, load

BULK, BULK_FULL = 300_000, 1_000_000
BIG, BIG_FULL = 100_000, 1_000_000
SMALL = 100
TRANSACTIONAL_RATE = 100  # per second
SITE_DELAY_MS = 20  # before each 250 of the site: it is what is slow


def login(relay, *words):
    """Options of a load that logs in with a credential of its own."""
    made = relay.cli("credential", "add", *words)
    return {"starttls": True, "username": made["username"],
            "password": made["password"]}


def ledger_times(path, begin=0):
    """Id -> wall time in microseconds, the last field, of whole lines from
    this byte on."""
    with open(path) as ledger:
        ledger.seek(begin)
        text = ledger.read().rpartition("\n")[0]
    times = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 2:
            times[fields[0]] = int(fields[-1])
    return times


def fill(bench, relay, count, **options):
    say(f"  {count:,} messages are queued")
    result = load(bench.build, relay.tls_port, messages=count, connections=32,
                  size=4096, **options)
    say(f"  … at {result['per_second']:,.0f}/s")


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


# ---- transactional mail while bulk flows

def latencies_ms(place, acknowledged):
    """From 250 to the sink, of those whose tag is txn."""
    end = time.monotonic() + 30
    while True:
        came = ledger_times(place / "arrived")
        if all(name in came for name in acknowledged):
            break
        if time.monotonic() > end:
            raise Trouble("transactional mail did not come to the sink")
        time.sleep(0.2)
    return [max(0, came[name] - at) / 1000 for name, at in acknowledged.items()]


def flow(bench, relay, bulk):
    """Transactional mail beside the bulk that is queued and more of it."""
    seconds = 40 if bench.full else 12
    transactional = login(relay, "--stream", "transactional")
    before = relay.metrics()
    relay.cli("queue", "release", "--stream", "bulk")
    more = Load(bench.build, relay.tls_port, connections=32, size=4096,
                messages=10_000_000, tag="more", **bulk)
    try:
        load(bench.build, relay.tls_port, connections=4, size=4096, tag="txn",
             rate=TRANSACTIONAL_RATE, messages=TRANSACTIONAL_RATE * seconds,
             ledger=relay.directory / "acknowledged", **transactional)
        after = relay.metrics()
    finally:
        counted = more.stop()
    if after["queue_messages"] < 1000:
        raise Trouble("the bulk mail was gone before the measurement ended")
    bench.detail(
        seconds=seconds, bulk_queued_before=before["queue_messages"],
        queued_after=after["queue_messages"],
        bulk_came_in=counted and counted["acknowledged"],
        delivered=after["recipients_delivered_total"]
        - before["recipients_delivered_total"])
    return latencies_ms(relay.directory,
                        ledger_times(relay.directory / "acknowledged"))


def row_transactional(bench):
    place = bench.place()
    relay = relays.Posthouse(bench.build, place, logins=True,
                             sink=("--ledger", place / "arrived"))
    count = BULK_FULL if bench.full else BULK
    try:
        bulk = login(relay, "--stream", "bulk")
        relay.cli("queue", "hold", "--stream", "bulk")
        fill(bench, relay, count, tag="bulk", **bulk)
        times = flow(bench, relay, bulk)
    finally:
        relay.stop()
    bench.detail(count=len(times), p50_ms=percentile(times, 0.5),
                 p99_ms=percentile(times, 0.99), max_ms=max(times))
    return [Figure("transactional p99 beside bulk", percentile(times, 0.99), "ms",
                   f"from 250 to the sink, {len(times):,} messages at"
                   f" {TRANSACTIONAL_RATE} per second, while {count:,} bulk"
                   " messages that were queued flow to the same domain and 32"
                   " connections bring more", 500, 200, False)]


# ---- a small tenant beside a large one

def small_ms(bench, relay, bulk, tag):
    """From the small tenant's first MAIL to its last message at the sink."""
    ledger = relay.directory / "arrived"
    begin = ledger.stat().st_size
    to_wall_us = time.time_ns() // 1000 - time.monotonic_ns() // 1000
    result = load(bench.build, relay.tls_port, messages=SMALL, connections=4,
                  size=4096, tag=tag, **bulk)
    end = time.monotonic() + 120
    while time.monotonic() < end:
        times = ledger_times(ledger, begin)
        mine = [at for name, at in times.items() if name.startswith(tag + "-")]
        if len(mine) == SMALL:
            return (max(mine) - to_wall_us - result["start_us"]) / 1000
        time.sleep(0.1)
    raise Trouble(f"the small tenant's {SMALL} messages did not come")


def wait_flight(relay, seconds=30):
    end = time.monotonic() + seconds
    while relay.metrics()["queue_in_flight"]:
        if time.monotonic() > end:
            raise Trouble("deliveries of a held queue do not end")
        time.sleep(0.05)


def row_tenants(bench):
    place = bench.place()
    relay = relays.Posthouse(
        bench.build, place, logins=True,
        sink=("--ledger", place / "arrived", "--delay", str(SITE_DELAY_MS)))
    count = BIG_FULL if bench.full else BIG
    alone, beside = [], []
    try:
        for name in ("large", "small"):
            relay.cli("tenant", "add", name)
        large = login(relay, "--tenant", "large", "--stream", "bulk")
        small = login(relay, "--tenant", "small", "--stream", "bulk")
        relay.cli("queue", "hold", "--tenant", "large")
        fill(bench, relay, count, tag="large", **large)
        small_ms(bench, relay, small, "warm")
        for number in range(max(5, bench.rounds)):
            alone.append(small_ms(bench, relay, small, f"alone{number}"))
            relay.cli("queue", "release", "--tenant", "large")
            time.sleep(1)
            beside.append(small_ms(bench, relay, small, f"beside{number}"))
            relay.cli("queue", "hold", "--tenant", "large")
            wait_flight(relay)
    finally:
        relay.stop()
    bench.detail(alone_ms=alone, beside_ms=beside)
    return [Figure("small tenant beside a large one, to alone",
                   ratio(statistics.median(beside), statistics.median(alone)),
                   "times", f"{SMALL} messages of one tenant, from the first MAIL"
                   f" to the last at a site that takes {SITE_DELAY_MS} ms for"
                   f" each, beside {count:,} queued of another", 2, 1.3, False)]
