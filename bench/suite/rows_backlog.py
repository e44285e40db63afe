# SPDX-License-Identifier: Apache-2.0
"""Rows of a long queue, filled through the real intake: each message was
tried once, refused for a time by its site, and waits for its retry."""
import shutil
import socket
import time

from . import relays
from .figures import Figure, ratio
from .host import Trouble, bytes_written, free_port, say, status_kib
from .rows_alone import wait_quiet
from .rows_rates import MAIN, beside_text, medians, rounds_of
from .tools import Load, Sink, load

COUNT, COUNT_FULL = 1_000_000, 10_000_000
DOMAINS = 100  # of the deferred messages
SIZE = 600
SAMPLE_S = 5
DISK_PER_MESSAGE = 4096  # log and event files, with room to spare
OLD = 100  # messages that a restart delivers
PARKED_S = 30
CHECKPOINT_S = 70  # traffic is followed by one within a minute
RESTART_S = 600  # the longest to wait for one
REFUSAL = "rcpt:1:450 4.2.0 later"
RETRY = {"retry": {"schedule": ["4h"]}}


class Backlog:
    """A relay, its refusing site, and a place where nobody listens yet."""

    def __init__(self, bench):
        self.bench = bench
        self.count = COUNT_FULL if bench.full else COUNT
        place = bench.place()
        self.refusing = Sink(bench.build, place.with_suffix(".refusing"),
                             "--answer", REFUSAL)
        self.old_port = free_port()
        try:
            self.relay = relays.Posthouse(bench.build, place, extra=RETRY | {
                "routes": [self.route("*.deferred.invalid", self.refusing.port),
                           self.route("*.old.invalid", self.old_port)]})
        except BaseException:
            self.refusing.stop()
            raise

    @staticmethod
    def route(domain, port):
        return {"domains": [domain], "deliver": "smtp",
                "to": f"127.0.0.1:{port}", "tls": "none"}

    def stop(self):
        self.relay.stop()
        self.refusing.stop()

    def submit_old(self, restart):
        load(self.bench.build, self.relay.port, messages=OLD, connections=4,
             size=SIZE, recipient=f"user{{n}}@d{restart}.old.invalid")


def check_room(bench, count):
    free = shutil.disk_usage(bench.directory).free
    if free < count * DISK_PER_MESSAGE:
        raise Trouble(f"{count:,} messages want {count * DISK_PER_MESSAGE:,} bytes"
                      f" of disk, {free:,} are free: see --dir")


# ---- filling, and the memory it takes

def is_tried(numbers, count):
    return numbers["recipients_deferred_total"] >= count and \
        numbers["queue_in_flight"] == 0


def watch_fill(relay, count):
    """Until each message was tried once and waits: (seconds, how many) as it
    went."""
    samples, since = [(0.0, 0)], time.monotonic()
    start = since
    while not is_tried(numbers := relay.metrics(), count):
        done, now = int(numbers["recipients_deferred_total"]), time.monotonic()
        say(f"  {numbers['messages_accepted_total']:,.0f} accepted,"
            f" {done:,} of {count:,} deferred")
        if done > samples[-1][1]:
            since = now
        samples.append((round(now - start, 2), done))
        if now - since > 120:
            raise Trouble("the queue does not fill any more")
        time.sleep(SAMPLE_S)
    return samples


def fill(backlog):
    relay, count = backlog.relay, backlog.count
    generator = Load(
        backlog.bench.build, relay.port, messages=count, connections=32,
        size=SIZE, domains=DOMAINS, recipient="user{n}@d{d}.deferred.invalid")
    try:
        backlog.bench.detail(fill=watch_fill(relay, count))
    except BaseException:
        generator.stop()
        raise
    return generator.wait()["wall_s"]


def index_bytes(backlog):
    """Growth of resident memory for each message, and what the relay accounts
    for; fills the queue."""
    relay, bench = backlog.relay, backlog.bench
    load(bench.build, relay.port, messages=20000, connections=32, size=SIZE)
    relay.sink.wait_for(20000)
    wait_quiet(relay)
    # These are the first of the log; they wait until a restart.
    for restart in (1, 2):
        relay.cli("queue", "hold", "--domain", f"d{restart}.old.invalid")
        backlog.submit_old(restart)
    before = status_kib(relay.pid, "VmRSS")
    took_s = fill(backlog)
    wait_quiet(relay, 300)
    grown = (status_kib(relay.pid, "VmRSS") - before) * 1024
    numbers = relay.metrics()
    index, schedule = numbers["spool_index_bytes"], numbers["schedule_bytes"]
    bench.detail(fill_s=took_s, resident_growth=grown, spool_index_bytes=index,
                 schedule_bytes=schedule)
    return grown / backlog.count, (index + schedule) / backlog.count


# ---- rates beside it

def rate_beside(backlog):
    """End to end, of a relay with the queue to one without."""
    bench = backlog.bench
    empty = relays.Posthouse(bench.build, bench.place(), extra=RETRY)
    try:
        rounds = rounds_of(bench, {"empty": (empty, MAIN),
                                   "long queue": (backlog.relay, MAIN)}, True)
    finally:
        empty.stop()
    m = medians(rounds)
    bench.detail(rounds=rounds, medians=m, text=beside_text(rounds, m))
    rate = m["end_to_end"]
    return ratio(rate["long queue"], rate["empty"])


# ---- parked at a site that is gone

def failed_probes(relay):
    return relay.metrics()["outbound_connections_failed_total"]


def watch_parked(relay):
    """What it does meanwhile: nothing but, now and then, a probe."""
    probes, start = failed_probes(relay), time.monotonic()
    cpu, written = relay.cpu_seconds(), bytes_written(relay.pid)
    time.sleep(PARKED_S)
    seconds = time.monotonic() - start
    return {"cpu_s": relay.cpu_seconds() - cpu, "seconds": seconds,
            "written": bytes_written(relay.pid) - written,
            "probes": failed_probes(relay) - probes}


def parked(backlog):
    """Share of one core in percent, and bytes written, all files."""
    relay = backlog.relay
    backlog.refusing.stop()
    relay.cli("queue", "retry", "--domain", "*.deferred.invalid")
    say("  waiting for the site to be parked, and for the last checkpoint")
    end = time.monotonic() + 60
    while not relay.metrics()["sites_parked"]:
        if time.monotonic() > end:
            raise Trouble("the dead site is not parked")
        time.sleep(0.5)
    time.sleep(CHECKPOINT_S)
    for _ in range(8):
        seen = watch_parked(relay)
        numbers = relay.metrics()
        backlog.bench.detail(parked=seen, **{k: numbers[k] for k in (
            "queue_deliveries", "sites", "sites_parked")})
        if seen["probes"] == 0:
            return 100 * seen["cpu_s"] / seen["seconds"], seen["written"]
    raise Trouble("the dead site is probed without a pause")


# ---- restarts

def submit_once(port):
    """One message, by hand; raises OSError while nobody takes it."""
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.settimeout(RESTART_S)
        replies = s.makefile("rb")
        for line in (None, b"HELO bench.invalid", b"MAIL FROM:<a@bench.invalid>",
                     b"RCPT TO:<b@d0.bench.invalid>", b"DATA",
                     b"Subject: after a restart\r\n\r\nHere.\r\n."):
            if line:
                s.sendall(line + b"\r\n")
            if replies.readline()[:1] not in (b"2", b"3"):
                raise OSError("refused")
        s.sendall(b"QUIT\r\n")


def wait_accepted(relay, start):
    while True:
        try:
            submit_once(relay.port)
            return time.monotonic() - start
        except OSError:
            if relay.process.poll() is not None:
                raise Trouble("posthouse ended at its restart") from None
            if time.monotonic() - start > RESTART_S:
                raise Trouble("nothing is accepted after a restart") from None
            time.sleep(0.005)


def wait_old(sink, start):
    while not (first_us := sink.counts()["first_us"]):
        if time.monotonic() - start > RESTART_S:
            raise Trouble("no old message is delivered after a restart")
        time.sleep(0.02)
    return first_us / 1e6 - start


def restart(backlog, number, kill):
    """Seconds from exec to the first 250, and to the first old message at its
    site, which listens only now. Some old messages are the first of the log,
    some the last."""
    relay = backlog.relay
    relay.cli("queue", "release", "--domain", f"d{number}.old.invalid")
    backlog.submit_old(number)
    began = time.monotonic()
    if kill:
        relay.process.kill()
        relay.process.wait()
    else:
        relay.stop_service(300)
    stop_s = time.monotonic() - began
    say(f"  restart {number}, stopped in {stop_s:.1f} s")
    site = Sink(backlog.bench.build, relay.directory / f"site{number}",
                "--listen", f"127.0.0.1:{backlog.old_port}")
    try:
        start = time.monotonic()
        relay.start(wait=False)
        accepted_s = wait_accepted(relay, start)
        delivered_s = wait_old(site, start)
    finally:
        site.stop()
    backlog.bench.detail(restart="kill" if kill else "stop", stop_s=stop_s,
                         accepted_s=accepted_s, delivered_s=delivered_s)
    return accepted_s, delivered_s


def row_backlog(bench):
    check_room(bench, COUNT_FULL if bench.full else COUNT)
    backlog = Backlog(bench)
    try:
        memory, accounted = index_bytes(backlog)
        rate = rate_beside(backlog)
        cpu, written = parked(backlog)
        accepted, delivered = restart(backlog, 1, kill=False)
        accepted_killed, delivered_killed = restart(backlog, 2, kill=True)
    finally:
        backlog.stop()
    n = f"{backlog.count / 1e6:.3g} million"
    killed = f"the same after kill -9, {n} queued"
    return [
        Figure("index memory per message", memory, "bytes",
               f"growth of resident memory by {n} queued messages of one recipient,"
               " each tried once", 120, 80, False),
        Figure("… accounted", accounted, "bytes",
               "the spool's index and the schedule, by the relay's own count"),
        Figure("rate with a long queue, to an empty one", rate, "times",
               f"accepted and delivered per second with {n} deferred messages"
               " queued", 0.9, 0.97),
        Figure("parked, CPU", cpu, "% of a core",
               f"{n} messages at a dead site, over {PARKED_S} s between two probes",
               1, more=False),
        Figure("parked, written", written, "bytes", "the same, all files", 0,
               more=False),
        Figure("restart, accepting", accepted, "s",
               f"from exec to the first 250 with {n} queued", 2, 0.1, False),
        Figure("restart, first delivery", delivered, "s",
               f"from exec to the first old message at its site, {n} queued",
               15, 5, False),
        Figure("… accepting after a kill", accepted_killed, "s", killed),
        Figure("… first delivery after a kill", delivered_killed, "s", killed),
    ]
