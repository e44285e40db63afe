# SPDX-License-Identifier: Apache-2.0
"""A campaign of one body: stored once, delivered to everybody as it came."""
import smtplib
import socket

from support.ports import free_port
from support.waiting import wait_for

COUNT = 60
BODY = b"".join(b"line %06d of a body that all have: %s\r\n" % (i, b"x" * 60)
                for i in range(1000))


def metric(relay, name):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect(str(relay.data_dir / "control.sock"))
        s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
    return int(float(next(line.split()[1] for line in text.splitlines()
                          if line.startswith(f"posthouse_{name} "))))


def route(port):
    return [{"domains": ["*"], "deliver": "smtp", "to": f"127.0.0.1:{port}"}]


def test_one_body_many_messages(relays, receivers):
    relay = relays(trusted_networks=["127.0.0.0/8"], retry={"schedule": ["1s"]},
                   routes=route(free_port())).start()
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as client:
        for i in range(COUNT):
            client.sendmail(
                "a@sender.test", [f"r{i}@example.test"],
                b"Subject: for r%d alone\r\nMessage-ID: <%d@sender.test>\r\n\r\n"
                % (i, i) + BODY)
    written = metric(relay, "spool_written_bytes_total")
    assert len(BODY) > 90_000
    # Two bodies, and for each message a page or some: its header, its events
    # and those of attempts that failed.
    assert written < 2 * len(BODY) + COUNT * 16_000, written
    assert metric(relay, "spool_bodies_shared") == 1
    assert metric(relay, "spool_messages_sharing") == COUNT - 1
    shown = relay.cli("queue", "list")
    assert shown
    relay.kill()
    problems = relay.run("queue", "verify")
    assert problems.returncode == 0, problems
    sink = receivers()
    relay.config["routes"] = route(sink.port)
    relay.start()
    wait_for(lambda: len(sink.messages) >= COUNT, 30, "all are delivered")
    for message in sink.messages:
        name = message.recipients[0].split("@")[0].encode()
        header, _, body = message.data.partition(b"\r\n\r\n")
        assert body == BODY
        assert b"Subject: for %s alone" % name in header
    assert {m.recipients[0] for m in sink.messages} == {
        f"r{i}@example.test" for i in range(COUNT)}
    wait_for(lambda: metric(relay, "spool_bodies_shared") == 0, 10,
             "the body is gone")
    assert metric(relay, "spool_quarantined_total") == 0
