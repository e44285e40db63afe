# SPDX-License-Identifier: Apache-2.0
"""The rate follows what a provider bears. The long form is bench/pace."""
import json
import time

import pytest

from support.provider import Provider
from support.waiting import wait_for


@pytest.fixture
def mx(receivers):
    return receivers(host="127.0.0.2", port=None)


def start(relays, dns, mx):
    dns.mail_domain("example.test", "mx.example.test", mx.host)
    relay = relays(resolver={"servers": [dns.address], "dnssec": False},
                   routes=[{"domains": ["*"], "deliver": "mx", "port": mx.port}],
                   retry={"schedule": ["2s"], "expire": "5m"})
    return relay.start()


def send(relay, count):
    client = relay.client()
    for n in range(count):
        client.sendmail("a@sender.test", [f"b{n}@example.test"],
                        "Subject: x\r\n\r\nx\r\n")
    client.quit()


def test_a_provider_that_refuses_sets_the_pace(relays, dns, mx):
    provider = mx.script["MAIL"] = Provider(30)
    relay = start(relays, dns, mx)
    send(relay, 250)
    wait_for(lambda: provider.refused, what="a refusal")
    queue = wait_for(lambda: [q for q in relay.cli("queue", "show", "example.test")["queues"]
                              if q["waits_for"] == "pace"], what="the pace as what binds")[0]
    assert "421 4.7.28" in queue["waits_set_by"]
    assert queue["site_pace"] < 120 and "rises" in queue["waits_freed_by"]
    wait_for(lambda: len(mx.messages) == 250, 30, what="every message")
    assert len(provider.refused) < 100
    # What was learned is there after a restart.
    assert relay.stop() == 0
    paths = json.loads((relay.data_dir / "paths.json").read_text())["paths"]
    learned = [p for p in paths if "mx.example.test" in p["path"]]
    assert learned and learned[0]["pace"] > 0 and "421 4.7.28" in learned[0]["reply"]
    provider.set_rate(1000)
    relay.start()
    began = time.monotonic()
    send(relay, 80)
    wait_for(lambda: len(mx.messages) == 330, 20, what="mail at the old pace")
    assert time.monotonic() - began > 0.8, "nothing was remembered"


def test_pushing_back_once_slows_nobody(relays, dns, mx):
    mx.script["MAIL"] = ["421 4.7.0 try again later", "250 2.1.0 ok"]
    relay = start(relays, dns, mx)
    send(relay, 3)
    wait_for(lambda: len(mx.messages) == 3, 10, what="all messages")
    assert all(q["site_pace"] is None for q in
               relay.cli("queue", "summary")["queues"])
