# SPDX-License-Identifier: Apache-2.0
"""`250` means on stable storage: killed under load, nothing that was
acknowledged is lost. Ledgers are kept outside of the relay."""
import os
import random
import smtplib
import threading
import time

from support.counts import record
from support.waiting import wait_for

CYCLES = int(os.environ.get("KILL_CYCLES", "20"))
SUBMITTERS = 6


class Submitter(threading.Thread):
    """Sends until told to stop; remembers what was acknowledged."""

    def __init__(self, relay, number):
        super().__init__(daemon=True)
        self.relay, self.number = relay, number
        self.stopping = False
        self.ledger, self.attempts = [], 0

    def run(self):
        while not self.stopping:
            try:
                with smtplib.SMTP("127.0.0.1", self.relay.port, timeout=5) as client:
                    self.submit_on(client)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.02)

    def submit_on(self, client):
        for _ in range(50):
            if self.stopping:
                return
            self.attempts += 1
            token = f"t{self.number}-{self.attempts}"
            client.sendmail("a@sender.test", [f"{token}@example.test"],
                            f"Subject: {token}\r\nX-Token: {token}\r\n\r\n"
                            + "x" * random.randrange(4000) + "\r\n")
            self.ledger.append((token, time.monotonic()))

    @property
    def acknowledged(self):
        return [token for token, _ in self.ledger]


def tokens(messages):
    return [m.recipients[0].split("@")[0] for m in messages]


def test_kill_under_load_loses_nothing(relays, receivers):
    sink = receivers(backlog=1000)
    relay = relays(trusted_networks=["127.0.0.0/8"], log={"level": "warning"},
                   routes=[{"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{sink.port}"}],
                   retry={"schedule": ["1s"]}).start()
    submitters = [Submitter(relay, n) for n in range(SUBMITTERS)]
    for submitter in submitters:
        submitter.start()
    for _ in range(CYCLES):
        time.sleep(random.uniform(0.15, 0.6))
        relay.kill()
        relay.start()
    for submitter in submitters:
        submitter.stopping = True
    for submitter in submitters:
        submitter.join(20)
    acknowledged = {t for s in submitters for t in s.acknowledged}
    assert len(acknowledged) > CYCLES * 5, "the load was too thin to prove anything"
    try:
        wait_for(lambda: acknowledged <= set(tokens(sink.messages)), 60,
                 "all acknowledged messages delivered", pause=0.2)
    except AssertionError:
        missing = acknowledged - set(tokens(sink.messages))
        raise AssertionError(f"{len(missing)} of {len(acknowledged)} acknowledged "
                             f"messages are lost: {sorted(missing)[:10]}")
    arrived = tokens(sink.messages)
    duplicates = len(arrived) - len(set(arrived))
    record("kill under load", cycles=CYCLES, acked=len(acknowledged), lost=0,
           duplicates=duplicates)
    # At most what was in flight at each kill: 100 ms of outcomes not yet synced.
    assert duplicates <= len(arrived) * 0.5
    assert relay.stop() == 0


def test_orderly_stop_loses_and_repeats_nothing(relays, receivers):
    sink = receivers(backlog=1000)
    relay = relays(trusted_networks=["127.0.0.0/8"], log={"level": "warning"},
                   routes=[{"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{sink.port}"}],
                   retry={"schedule": ["1s"]}).start()
    submitters = [Submitter(relay, n) for n in range(SUBMITTERS)]
    for submitter in submitters:
        submitter.start()
    for _ in range(3):
        time.sleep(0.7)
        assert relay.stop() == 0
        relay.start()
    for submitter in submitters:
        submitter.stopping = True
        submitter.join(20)
    acknowledged = {t for s in submitters for t in s.acknowledged}
    wait_for(lambda: acknowledged <= set(tokens(sink.messages)), 30, "all delivered")
    arrived = tokens(sink.messages)
    assert len(arrived) == len(set(arrived)), "something was delivered twice"


def test_what_waits_survives_a_restart(relays, receivers):
    sink = receivers(script={"RCPT": "450 4.2.0 later"})
    relay = relays(routes=[{"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{sink.port}"}],
                   retry={"schedule": ["1s", "2s"]}).start()
    message_id = relay.submit("a@sender.test", "b@example.test")
    relay.wait_event(type="deferred", message_id=message_id)
    relay.kill()
    relay.start()
    sink.script.clear()
    event = relay.wait_event(type="delivered", message_id=message_id, seconds=20)
    assert event["attempt"] >= 2
    assert len(sink.messages) == 1


def test_a_hold_survives_a_restart(relays, receivers):
    sink = receivers()
    relay = relays(routes=[{"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{sink.port}"}]).start()
    relay.cli("queue", "hold", "--domain", "example.test", "--reason", "maintenance")
    relay.submit("a@sender.test", "b@example.test")
    relay.submit("a@sender.test", "b@other.test")
    relay.wait_event(type="delivered", recipient="b@other.test")
    relay.kill()
    relay.start()
    time.sleep(1)
    assert len(sink.messages) == 1
    relay.cli("queue", "release", "--domain", "example.test")
    wait_for(lambda: len(sink.messages) == 2, what="the released mail")
