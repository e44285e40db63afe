# SPDX-License-Identifier: Apache-2.0
"""Where a message ends is agreed on by everybody (reliability A): whatever a
client sends, the receiver behind the relay sees one message or none."""
import ssl
import time

import pytest

from support.client import Client
from support.waiting import wait_for

ENDS = [b"\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n",
        b"\r\n.\r", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n",
        b"\n\n.\r\n", b"\r\n.\n\r\n"]
SECOND = (b"MAIL FROM:<evil@sender.test>\r\nRCPT TO:<victim@example.test>\r\nDATA\r\n"
          b"Subject: smuggled\r\n\r\nevil\r\n.\r\n")


@pytest.fixture
def routed(relays, receivers):
    sink = receivers()
    relay = relays(trusted_networks=["127.0.0.0/8"],
                   routes=[{"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{sink.port}"}]).start()
    relay.sink = sink
    return relay


class Raw(Client):
    def __init__(self, port):
        super().__init__(port, greeting=False)

    def open(self):
        self.read_until(b"220 ")
        self.send(b"EHLO client.test\r\n")
        self.read_until(b"250 ")
        return self

    def start_data(self):
        self.send(b"MAIL FROM:<a@sender.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n")
        self.read_until(b"354 ")
        return self


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_false_ends_of_data_smuggle_nothing(routed, end):
    client = Raw(routed.port).open().start_data()
    client.send(b"Subject: first\r\n\r\nbody" + end + SECOND)
    client.rest(0.4)
    time.sleep(0.2)
    assert not [m for m in routed.sink.messages if m.sender == "evil@sender.test"]
    assert len(routed.sink.messages) <= 1
    for message in routed.sink.messages:
        bare = message.data.replace(b"\r\n", b"")
        assert b"\r" not in bare and b"\n" not in bare and b"\0" not in message.data


@pytest.mark.parametrize("end", [e for e in ENDS if b"\0" not in e], ids=repr)
def test_normalising_smuggles_nothing_either(relays, receivers, end):
    sink = receivers()
    relay = relays(trusted_networks=["127.0.0.0/8"],
                   routes=[{"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{sink.port}"}])
    relay.config["listeners"][0]["newlines"] = "normalise"
    relay.start()
    client = Raw(relay.port).open().start_data()
    client.send(b"Subject: first\r\n\r\nbody" + end + SECOND + b"\r\n.\r\n")
    client.rest(0.4)
    wait_for(lambda: sink.messages, 5, "one message")
    time.sleep(0.2)
    assert [m.sender for m in sink.messages] == ["a@sender.test"]
    bare = sink.messages[0].data.replace(b"\r\n", b"")
    assert b"\r" not in bare and b"\n" not in bare


def test_dots_at_every_edge(routed):
    body = b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n...\r\n\r\n.end\r\n"
    stuffed = b"".join(b"." + l if l.startswith(b".") else l
                       for l in body.splitlines(keepends=True))
    client = Raw(routed.port).open().start_data()
    for byte in stuffed + b".\r\n":
        client.send(bytes([byte]))
    client.read_until(b"queued")
    message = wait_for(lambda: routed.sink.messages, what="delivery")[0]
    assert message.data.endswith(body.split(b"\r\n\r\n", 1)[1])


def test_chunks(routed):
    client = Raw(routed.port).open()
    client.send(b"MAIL FROM:<a@sender.test>\r\nRCPT TO:<b@example.test>\r\n"
                b"BDAT 16\r\nSubject: ch\r\n\r\n.BDAT 6 LAST\r\n\r\nend.")
    client.read_until(b"queued")
    message = wait_for(lambda: routed.sink.messages, what="delivery")[0]
    assert message.data.endswith(b"\r\n\r\n.\r\nend.\r\n")


@pytest.mark.parametrize("lines", [
    b"BDAT -1\r\n", b"BDAT\r\n", b"BDAT x LAST\r\n", b"BDAT 18446744073709551616 LAST\r\n",
    b"BDAT 1 FIRST\r\n", b"RCPT TO:<x@y.test>\r\n", b"DATA\r\n"])
def test_commands_out_of_order_are_refused(routed, lines):
    client = Raw(routed.port).open()
    client.data = b""
    client.send(lines)
    assert client.rest(0.5)[:1] == b"5"
    assert not routed.sink.messages


def test_plaintext_behind_starttls_is_dropped(relays):
    relay = relays(routes=[{"domains": ["*"], "deliver": "discard"}]).start()
    client = Raw(relay.port).open()
    client.data = b""
    client.send(b"STARTTLS\r\nNOOP injected\r\nMAIL FROM:<evil@sender.test>\r\n")
    assert client.read_until(b"\r\n").startswith(b"220 ")
    context = relay.tls_context()
    context.check_hostname = False
    secured = context.wrap_socket(client.socket, server_hostname="localhost")
    secured.sendall(b"QUIT\r\n")
    answer = b""
    try:
        while piece := secured.recv(4096):
            answer += piece
    except (ssl.SSLError, OSError):
        pass
    assert answer.startswith(b"221 "), answer


def test_http_is_hung_up_on(routed):
    client = Raw(routed.port)
    client.read_until(b"220 ")
    client.data = b""
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<a@b.test>\r\n")
    answer = client.rest()
    assert answer.startswith(b"5") and b"250" not in answer


def test_endless_lines_and_headers_are_bounded(routed):
    client = Raw(routed.port).open()
    client.data = b""
    try:
        for _ in range(200):
            client.send(b"A" * 65536)
        client.send(b"\r\n")
    except OSError:
        pass
    assert client.rest()[:1] in (b"5", b"4", b"")
    client = Raw(routed.port).open().start_data()
    client.data = b""
    try:
        for n in range(40000):
            client.send(b"X-Header-%d: value value value\r\n" % n)
        client.send(b"\r\nbody\r\n.\r\n")
    except OSError:
        pass
    assert client.rest()[:1] == b"5"
