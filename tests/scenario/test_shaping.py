# SPDX-License-Identifier: Apache-2.0
"""What shaping.yaml lets a receiving system get."""
import json
import threading
import time

import pytest

from support.waiting import wait_for


class Slow:
    """Takes its time for each message, and counts those at once."""

    def __init__(self, seconds):
        self.seconds, self.now, self.most = seconds, 0, 0
        self.lock = threading.Lock()

    def __call__(self, receiver, session, message):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        with self.lock:
            self.now -= 1
        return "250 2.0.0 taken"


@pytest.fixture
def mx(receivers):
    return receivers(host="127.0.0.2", port=None)


def start(relays, dns, mx, shaping, **config):
    for domain, host in (("one.test", "mx1.big.test"), ("two.test", "mx2.big.test"),
                         ("else.test", "mx.else.test")):
        dns.mail_domain(domain, host, mx.host)
    options = {"resolver": {"servers": [dns.address], "dnssec": False},
               "routes": [{"domains": ["*"], "deliver": "mx", "port": mx.port}],
               "retry": {"schedule": ["1s", "2s"], "expire": "1m"}}
    relay = relays(**(options | config))
    write(relay, shaping)
    return relay.start()


def write(relay, shaping):
    (relay.directory / "shaping.yaml").write_text(json.dumps(shaping))


def send(relay, count, domain):
    client = relay.client()
    for n in range(count):
        client.sendmail("a@sender.test", [f"b{n}@{domain}"], "Subject: x\r\n\r\nx\r\n")
    client.quit()


BIG = {"name": "big", "mx": ["*.big.test"]}


def test_domains_of_a_provider_share_its_connections(relays, dns, mx):
    slow = mx.script["END"] = Slow(0.1)
    relay = start(relays, dns, mx, {"providers": [BIG | {"max_connections": 2}]})
    send(relay, 10, "one.test")
    send(relay, 10, "two.test")
    wait_for(lambda: len(mx.messages) == 20, what="all messages")
    assert slow.most == 2


def test_messages_per_connection_of_a_provider(relays, dns, mx):
    relay = start(relays, dns, mx,
                  {"providers": [BIG | {"max_connections": 1,
                                        "max_messages_per_connection": 4}]})
    send(relay, 12, "one.test")
    wait_for(lambda: len(mx.messages) == 12, what="all messages")
    counts = [sum(c.startswith("MAIL ") for c in s.commands) for s in mx.sessions]
    assert max(counts) == 4, counts


def test_a_rate_holds_for_a_domain_alone_and_a_reload_changes_it(relays, dns, mx):
    rules = [{"domains": ["two.test"], "max_message_rate": "2/s"}]
    relay = start(relays, dns, mx, {"providers": [BIG], "domains": rules})
    send(relay, 8, "one.test")
    wait_for(lambda: len(mx.messages) == 8, 3, what="mail without a limit")
    send(relay, 40, "two.test")
    time.sleep(1.5)
    limited = len(mx.messages) - 8
    assert 2 <= limited <= 7, limited
    queue = relay.cli("queue", "show", "two.test")
    assert "site_rate" in json.dumps(queue) and "domain=two.test" in json.dumps(queue)
    write(relay, {"providers": [BIG]})
    relay.reload()
    wait_for(lambda: len(mx.messages) == 48, 5, what="the rest at any rate")


def test_a_source_has_limits_of_its_own(relays, dns, mx):
    slow = mx.script["END"] = Slow(0.1)
    sources = [{"name": "out1", "address": "127.7.0.1"}]
    pools = [{"name": "shared", "sources": [{"name": "out1"}]}]
    relay = start(relays, dns, mx,
                  {"providers": [BIG | {"max_connections": 5}],
                   "sources": [{"sources": ["out1"], "providers": ["big"],
                                "max_connections": 1}]},
                  sources=sources, pools=pools)
    send(relay, 6, "one.test")
    wait_for(lambda: len(mx.messages) == 6, what="all messages")
    assert slow.most == 1
    assert {s.peer[0] for s in mx.sessions} == {"127.7.0.1"}


def test_mistakes_are_told_with_their_place(relays, dns, mx):
    relay = relays()
    relay.write_config()
    write(relay, {"default": {"max_conections": 3}})
    result = relay.run("config", "check")
    assert result.returncode == 1
    assert b"shaping.yaml:1:14: unknown key `max_conections`" in result.stdout
    write(relay, {"default": {"max_connections": 3}})
    shown = relay.run("config", "show", "--shaping")
    assert b"max_connections: 3" in shown.stdout
