# SPDX-License-Identifier: Apache-2.0
"""Rows that compare rates: posthouse, Postfix and the tools straight into each
other, in rounds that take turns."""
import statistics
import time

from . import relays
from .figures import Figure, columns, number_text, ratio
from .host import Trouble, say
from .tools import load

SETTLE_S = 0.5  # for a relay's work after the last delivery

MAIN = {"connections": 32, "size": 4096}
LONE = {"connections": 1, "size": 4096, "mode": "lockstep"}
LARGE = {"connections": 32, "size": 102400}
TLS = MAIN | {"starttls": True}

# key, label, unit, what it measures, how to get it from a round
MEASURES = [
    ("acknowledged", "acknowledged", "/s",
     "messages answered 250, per second from the first MAIL to the last 250,"
     " while the relay also delivers",
     lambda r: r["messages"] / r["acknowledged_s"]),
    ("end_to_end", "end to end", "/s",
     "messages at the sink, per second from the first MAIL to the last message"
     " there",
     lambda r: r["messages"] / r["end_to_end_s"]),
    ("cpu", "CPU of the relay", "us/msg",
     "user and system time of all the relay's processes, received and delivered",
     lambda r: r["cpu_s"] * 1e6 / r["messages"] if r["cpu_s"] else None),
    ("p50", "time to 250, p50", "ms",
     "from the final dot written to its 250 read, half of the messages",
     lambda r: r["time_to_250_us"]["p50"] / 1000),
    ("p99", "time to 250, p99", "ms",
     "the same, 99 of 100 messages",
     lambda r: r["time_to_250_us"]["p99"] / 1000),
]


def measure(bench, contestant, messages, options):
    """One round."""
    before = contestant.sink.counts()["messages"]
    cpu_before = contestant.cpu_seconds()
    try:
        result = load(bench.build, contestant.port, messages=messages, **options)
    except Trouble as trouble:
        raise Trouble(f"{contestant.title}: {trouble}") from trouble
    counts = contestant.sink.wait_for(before + messages)
    if not isinstance(contestant, relays.Straight):
        time.sleep(SETTLE_S)
    came = contestant.sink.counts()["messages"] - before
    if came != messages:
        raise Trouble(f"{contestant.title}: {messages} messages acknowledged,"
                      f" {came} came to the sink")
    return {
        "messages": messages,
        "acknowledged_s": result["wall_s"],
        "end_to_end_s": (counts["last_us"] - result["start_us"]) / 1e6,
        "cpu_s": contestant.cpu_seconds() - cpu_before,
        "generator_cpu_s": sum(result["cpu_s"].values()),
        "time_to_250_us": result["time_to_250_us"],
    }


def fitting_count(bench, contestant, options):
    """Warms the relay up and says how many messages fill a round."""
    lone = options["connections"] == 1
    count = 20 if lone else 200
    while True:
        took = measure(bench, contestant, count, options)["end_to_end_s"]
        if took >= min(0.5, bench.seconds / 4):
            least = 100 if lone else 500
            return max(least, int(count / took * bench.seconds) // 100 * 100)
        count *= 4


def rounds_of(bench, parties, alike=False):
    """`parties`: name -> (contestant, options of its load). `alike`: the same
    number of messages for all."""
    counts = {name: fitting_count(bench, *p) for name, p in parties.items()}
    if alike:
        counts = dict.fromkeys(counts, max(counts.values()))
    rounds = {name: [] for name in parties}
    order = list(parties.items())
    for number in range(bench.rounds):
        for name, (contestant, options) in order:
            r = measure(bench, contestant, counts[name], options)
            rounds[name].append(r)
            say(f"  round {number + 1}, {name}: {r['messages']} messages,"
                f" {r['messages'] / r['end_to_end_s']:,.0f}/s end to end")
        # Who goes after whom must not matter.
        order.reverse()
    return rounds


def medians(rounds):
    """measure -> party -> median."""
    result = {}
    for key, _, _, _, get in MEASURES:
        values = {name: [get(r) for r in those]
                  for name, those in rounds.items()}
        result[key] = {name: statistics.median(v) if None not in v else None
                       for name, v in values.items()}
    return result


def beside_text(rounds, middle):
    """Every measure of every party, for people."""
    names = list(rounds)
    lines = [["", ""] + names + ["  measured"]]
    for key, label, unit, measured, _ in MEASURES:
        lines.append([label, unit]
                     + [number_text(middle[key][n]) for n in names]
                     + ["  " + measured])
    counts = ", ".join(f"{those[0]['messages']:,} {name}"
                       for name, those in rounds.items())
    return (f"a round: {counts} messages\n"
            + columns(lines, left=(0, 1, len(names) + 2)))


def compare(bench, kinds, options):
    """Rounds of these kinds of contestant with the same load."""
    contestants = {}
    try:
        for name, kind in kinds.items():
            contestants[name] = kind(bench.build, bench.place())
        rounds = rounds_of(
            bench, {name: (c, options) for name, c in contestants.items()})
    finally:
        for c in reversed(contestants.values()):
            c.stop()
    middle = medians(rounds)
    bench.detail(rounds=rounds, medians=middle, text=beside_text(rounds, middle))
    return middle


def with_postfix(bench, kinds):
    return kinds | ({"Postfix": relays.Postfix} if bench.postfix else {})


def row_main(bench):
    m = compare(bench, with_postfix(bench, {
        "straight": relays.Straight, "posthouse": relays.Posthouse}), MAIN)
    end, acknowledged = m["end_to_end"], m["acknowledged"]
    return [
        Figure("end to end, to Postfix",
               ratio(end["posthouse"], end.get("Postfix")), "times",
               "messages per second from the first MAIL to the last at the sink",
               15, 20),
        Figure("end to end, to straight",
               ratio(end["posthouse"], end["straight"]), "times",
               "the same, against the generator into the sink", 0.35, 0.45),
        Figure("acknowledged, to Postfix",
               ratio(acknowledged["posthouse"], acknowledged.get("Postfix")),
               "times", "messages per second from the first MAIL to the last 250",
               10, 15),
        Figure("CPU of the relay", m["cpu"]["posthouse"], "us/message",
               "user and system time, received and delivered", 110, 80, False),
        Figure("straight", end["straight"], "/s",
               "what the tools can carry", 25000),
    ]


def row_lone(bench):
    m = compare(bench, with_postfix(bench, {"posthouse": relays.Posthouse}), LONE)
    rate = m["acknowledged"]
    return [Figure("lone connection, to Postfix",
                   ratio(rate["posthouse"], rate.get("Postfix")), "times",
                   "one connection, not pipelined, acknowledged per second", 2, 4)]


def row_large(bench):
    m = compare(bench, with_postfix(bench, {
        "straight": relays.Straight, "posthouse": relays.Posthouse}), LARGE)
    rate = m["end_to_end"]
    return [Figure("100 KB, to Postfix",
                   ratio(rate["posthouse"], rate.get("Postfix")), "times",
                   "100 KB messages, end to end per second", 5, 10)]


def row_tls(bench):
    contestants = {}
    try:
        contestants["plain"] = relays.Posthouse(bench.build, bench.place())
        contestants["STARTTLS"] = relays.Posthouse(
            bench.build, bench.place(), tls=True)
        rounds = rounds_of(bench, {
            "plain": (contestants["plain"], MAIN),
            "STARTTLS": (contestants["STARTTLS"], TLS)})
    finally:
        for c in contestants.values():
            c.stop()
    m = medians(rounds)
    bench.detail(rounds=rounds, medians=m, text=beside_text(rounds, m))
    rate = m["end_to_end"]
    return [Figure("STARTTLS on both sides, to plain",
                   ratio(rate["STARTTLS"], rate["plain"]), "times",
                   "4 KB, 32 connections that stay open, end to end per second",
                   0.6, 0.8)]


def row_syncs(bench):
    options = MAIN | {"connections": 64}
    relay = relays.Posthouse(bench.build, bench.place())
    try:
        count = fitting_count(bench, relay, options)
        per_message = []
        for _ in range(bench.rounds):
            before = relay.metrics()
            measure(bench, relay, count, options)
            after = relay.metrics()
            spent = {k: after[f"spool_{k}_total"] - before[f"spool_{k}_total"]
                     for k in ("syncs", "batches", "transactions")}
            per_message.append(spent["syncs"] / count)
            bench.detail(messages=count, **spent)
    finally:
        relay.stop()
    return [Figure("syncs per message, 64 submitters",
                   statistics.median(per_message), "",
                   "syncs of the spool, outcomes included, while it receives and"
                   " delivers 4 KB messages", 0.2, 0.05, False)]
