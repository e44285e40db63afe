# SPDX-License-Identifier: Apache-2.0
"""Killed at a system call of one message's life, from the client's first byte to
the outcome on the disk, also of one that bounces: each restart delivers what was
acknowledged, or the report, and nothing is ever delivered that nobody sent.

    SYSCALL_POINTS=n      that many points, spread over the life (default 12)
    SYSCALL_POINTS=all    each one
"""
import os
import pathlib
import random
import re
import signal
import smtplib
import time

import pytest

from support.counts import record
from support.relay import BINARY
from support.waiting import wait_for

POINTS = os.environ.get("SYSCALL_POINTS", "12")
KILLAT = pathlib.Path(BINARY).parent / "tests/crash/killat"
NAMES = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"


def name_of(number):
    try:
        text = pathlib.Path(NAMES).read_text()
    except FileNotFoundError:
        return f"call {number}"
    found = re.search(rf"__NR_(\w+) {number}$", text, re.M)
    return found.group(1) if found else f"call {number}"


class Life:
    """One message's life under the eyes of killat."""

    def __init__(self, relay, sink, place, fate):
        self.relay, self.sink, self.report = relay, sink, place / "killed"
        self.fate = fate

    def live(self, token, kill_at):
        """True when the message was acknowledged."""
        self.relay.start(wrapper=(str(KILLAT), str(kill_at), str(self.report)))
        self.relay.process.send_signal(signal.SIGUSR1)
        acknowledged = self.submit(token)
        wait_for(lambda: self.relay.process.poll() is not None or token in self.arrived(), 20,
                 "the end of a life")
        self.settle()
        return acknowledged

    def settle(self):
        """The outcome follows what has arrived, in a batch of its own."""
        end = time.monotonic() + 0.3
        while self.relay.process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)

    def submit(self, token):
        acknowledged = False
        try:
            with smtplib.SMTP("127.0.0.1", self.relay.port, timeout=10) as client:
                client.sendmail("a@sender.test", [f"{token}@{self.fate}.test"],
                                f"Subject: {token}\r\n\r\n" + "x" * 3000)
                acknowledged = True
        except (OSError, smtplib.SMTPException):
            pass  # the 250 may have come before
        return acknowledged

    def arrived(self):
        """Whose mail, or whose report."""
        if self.fate == "delivered":
            return [m.recipients[0].split("@")[0] for m in self.sink.messages]
        return [name.decode() for m in self.sink.messages
                for name in re.findall(rb"Final-Recipient: rfc822; (\w+)@bounced", m.data)]

    def calls(self):
        """How many there were until now, the last one's name, its thread."""
        count, number, thread = self.report.read_text().split(None, 2)
        return int(count), name_of(int(number)), thread.strip()


@pytest.fixture(params=["delivered", "bounced"])
def life(relays, receivers, place, request):
    if not KILLAT.exists():
        pytest.skip(f"{KILLAT} is not built: meson configure -Dtests=true")
    sink = receivers(backlog=1000, script={"RCPT": lambda receiver, session, recipient:
                                           "550 5.1.1 nobody" if "@bounced." in recipient
                                           else "250 2.1.5 ok"})
    relay = relays(trusted_networks=["127.0.0.0/8"],
                   delivery={"private_networks": "allow", "threads": 1},
                   routes=[{"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{sink.port}"}], retry={"schedule": ["1s"]})
    return Life(relay, sink, place, request.param)


def count_calls(life):
    """Of a whole life, until its outcome is on the disk."""
    assert life.live("whole", 0)
    life.relay.process.send_signal(signal.SIGUSR2)
    count = wait_for(lambda: life.report.exists() and life.calls()[0], 5, "a count")
    assert count > 30
    life.relay.kill()
    return count


def points_of(count):
    if POINTS == "all":
        return range(1, count + 1)
    wanted = min(int(POINTS), count)
    step = count / wanted
    return [1 + int(step * (i + random.random())) for i in range(wanted)]


def test_killed_at_each_system_call_of_a_message(life):
    relay = life.relay
    points = points_of(count_calls(life))
    acknowledged, submitted, killed = {"whole"}, {"whole"}, 0
    for at in points:
        token = f"p{at}"
        submitted.add(token)
        if life.live(token, at):
            acknowledged.add(token)
        if relay.process.poll() is not None:
            killed += 1
            print(f"  {at:4} before {life.calls()[1]:16} in {life.calls()[2]:16} "
                  f"{'acknowledged' if token in acknowledged else '-'}")
            relay.process = None
        else:
            relay.kill()
        relay.start()
        wait_for(lambda: acknowledged <= set(life.arrived()), 20, "what was acknowledged")
        wait_for(lambda: relay.cli("status")["queue"]["recipients"] == 0, 20, "an empty queue")
        relay.kill()
    seen = life.arrived()
    assert acknowledged <= set(seen) <= submitted
    record(f"kill at a system call, {life.fate}", cycles=killed, acked=len(acknowledged),
           lost=len(acknowledged - set(seen)), duplicates=len(seen) - len(set(seen)))
    assert killed >= 0.8 * len(points), "the life was shorter than it was counted"
    assert relay.run("queue", "verify").returncode == 0
