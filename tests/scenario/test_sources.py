# SPDX-License-Identifier: Apache-2.0
"""Which of our addresses mail leaves from."""
import collections
import os
import shutil
import subprocess

import pytest

from support.waiting import wait_for

SOURCES = [{"name": name, "address": address, "hostname": f"{name}.relay.test"}
           for name, address in (("warm", "127.7.0.1"), ("cold", "127.7.0.2"),
                                 ("bulk1", "127.7.0.3"))]
POOLS = [{"name": "shared", "sources": [{"name": "warm", "weight": 3},
                                        {"name": "cold", "weight": 1}]},
         {"name": "bulk", "sources": [{"name": "bulk1"}]}]


@pytest.fixture
def mx(receivers):
    return receivers(host="127.0.0.2", port=None)


def start(relays, dns, mx, **config):
    dns.mail_domain("example.test", "mx.example.test", mx.host)
    options = {"sources": SOURCES, "pools": POOLS,
               "resolver": {"servers": [dns.address], "dnssec": False},
               "routes": [{"domains": ["*"], "deliver": "mx", "port": mx.port}],
               "retry": {"schedule": ["1s", "2s"], "expire": "1m"}}
    return relays(**(options | config)).start()


def mail_by_source(mx):
    """Address and EHLO name of each message's session."""
    counts = collections.Counter()
    for session in mx.sessions:
        counts[session.peer[0], session.helo] += sum(
            c.upper().startswith("MAIL ") for c in session.commands)
    return counts


def test_mail_leaves_by_the_sources_of_a_pool_in_proportion(relays, dns, mx):
    relay = start(relays, dns, mx)
    client = relay.client()
    for n in range(200):
        client.sendmail("a@sender.test", [f"b{n}@example.test"],
                        "Subject: x\r\n\r\nx\r\n")
    wait_for(lambda: len(mx.messages) == 200, what="all messages")
    counts = mail_by_source(mx)
    assert set(counts) == {("127.7.0.1", "warm.relay.test"),
                           ("127.7.0.2", "cold.relay.test")}
    assert 40 <= counts["127.7.0.2", "cold.relay.test"] <= 60, counts
    event = relay.wait_event(type="delivered")
    assert event["source_address"] in ("127.7.0.1", "127.7.0.2")


def test_streams_have_their_own_addresses(relays, dns, mx):
    relay = start(relays, dns, mx)
    shown = relay.cli("stream", "set", "bulk", "--pool", "bulk")
    assert shown["pool"] == "bulk"
    relay.submit("a@sender.test", "b@example.test")
    made = relay.credential(stream="bulk")
    client = relay.client(login=False)
    client.login(made["username"], made["password"])
    client.sendmail("a@sender.test", ["c@example.test"], "Subject: x\r\n\r\nx\r\n")
    wait_for(lambda: len(mx.messages) == 2, what="both messages")
    helo = {m.recipients[0]: m.helo for m in mx.messages}
    assert helo["c@example.test"] == "bulk1.relay.test"
    assert helo["b@example.test"] in ("warm.relay.test", "cold.relay.test")


def test_a_route_may_name_its_pool(relays, dns, mx):
    relay = start(relays, dns, mx,
                  routes=[{"domains": ["*"], "deliver": "mx", "port": mx.port,
                           "pool": "bulk"}])
    relay.submit("a@sender.test", "b@example.test")
    wait_for(lambda: mx.messages, what="the message")
    assert mx.messages[0].helo == "bulk1.relay.test"


def test_a_missing_source_is_taken_out_and_said(relays, dns, mx):
    sources = [SOURCES[0], dict(SOURCES[1], address="192.0.2.77")]
    relay = start(relays, dns, mx, sources=sources, pools=POOLS[:1])
    assert "a source is taken out" in relay.log_text()
    status = relay.cli("status")
    available = {s["name"]: s["available"] for s in status["sources"]}
    assert available == {"warm": True, "cold": False}
    assert "192.0.2.77" in status["warnings"][0]
    for n in range(8):
        relay.submit("a@sender.test", f"b{n}@example.test")
    wait_for(lambda: len(mx.messages) == 8, what="all messages")
    assert {s.peer[0] for s in mx.sessions} == {"127.7.0.1"}


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"),
                    reason="needs root and iproute2 to give an address")
def test_mail_waits_for_its_only_source_to_come_back(relays, dns, mx):
    address = "192.0.2.78"
    sources = [dict(SOURCES[0], address=address)]
    pools = [{"name": "shared", "sources": [{"name": "warm"}]}]
    relay = start(relays, dns, mx, sources=sources, pools=pools)
    message_id = relay.submit("a@sender.test", "b@example.test")

    def why():
        queues = relay.cli("message", "why", message_id)["queues"]
        return queues and queues[0]["waits_for"] == "no_source"
    wait_for(why, what="the answer that it waits for a source")
    added = subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"],
                           capture_output=True)
    if added.returncode:
        pytest.skip("addresses cannot be added here")
    try:
        wait_for(lambda: mx.messages, 15, what="the message")
        assert mx.sessions[-1].peer[0] == address
    finally:
        subprocess.run(["ip", "addr", "del", f"{address}/32", "dev", "lo"], check=True)


def test_only_ipv4_is_tried_where_the_config_says_so(relays, dns, receivers):
    mx = receivers(host="127.0.0.2", port=None)
    dns.add("mx.example.test", "AAAA", "::1")
    relay = start(relays, dns, mx, sources=[], pools=[], delivery={"ip": "4"})
    relay.submit("a@sender.test", "b@example.test")
    wait_for(lambda: mx.messages, what="the message")
    assert not [e for e in relay.events() if e.get("peer_address", "").startswith("[")]


def test_unknown_pools_are_mistakes(relays, dns, mx):
    relay = relays(pools=[], delivery={"pool": "nowhere"})
    relay.write_config()
    result = relay.run("config", "check")
    assert result.returncode == 1
    assert b"there is no pool `nowhere`" in result.stdout + result.stderr
