# SPDX-License-Identifier: Apache-2.0
"""Starting, stopping and reloading, also at awkward moments."""
import pathlib
import shutil
import signal
import smtplib
import socket
import threading
import time

import pytest

from support.waiting import wait_for

TRUSTED = {"trusted_networks": ["127.0.0.0/8"]}


def through(receiver):
    return [{"domains": ["*"], "deliver": "smtp",
             "to": f"127.0.0.1:{receiver.port}"}]


def begin_data(relay, octets):
    """A client in the middle of a message."""
    client = smtplib.SMTP("127.0.0.1", relay.port, timeout=30)
    client.ehlo("client.test")
    client.mail("a@sender.test")
    client.rcpt("b@example.test")
    assert client.docmd("DATA")[0] == 354
    client.send(b"Subject: x\r\n\r\n" + (b"y" * 998 + b"\r\n") * (octets // 1000))
    return client


def test_stop_while_sessions_are_stuck(relays, receivers):
    """Neither a client that never ends its message nor a server that never
    answers holds up the end beyond shutdown_time."""
    slow = receivers(script={"END": lambda *_: time.sleep(60)})
    relay = relays(**TRUSTED, routes=through(slow),
                   limits={"shutdown_time": "1s"}).start()
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as client:
        client.sendmail("a@sender.test", ["b@example.test"],
                        "Subject: x\r\n\r\n" + "z" * 3_000_000)
        client.sendmail("a@sender.test", ["b@example.test"], "Subject: s\r\n\r\n")
    small, large = begin_data(relay, 10_000), begin_data(relay, 3_000_000)
    wait_for(lambda: slow.sessions, 10, "a delivery began")
    time.sleep(0.5)
    begun = time.monotonic()
    assert relay.stop() == 0, relay.log_text()[-3000:]
    assert time.monotonic() - begun < 5
    small.close()
    large.close()
    # What was acknowledged is there, what was not has left nothing.
    assert len(list((relay.data_dir / "spool/big").iterdir())) == 1
    sink = receivers()
    relay.config["routes"] = through(sink)
    relay.start()
    wait_for(lambda: len(sink.messages) == 2, 10, "both messages")


def ask_for_ever(path, request, stopping):
    while not stopping.is_set():
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(20)
                s.connect(str(path))
                s.sendall(request)
                while s.recv(65536):
                    pass
        except OSError:
            pass


def test_stop_while_the_control_socket_is_busy(relays):
    """A command that asks the reactors, or for a reload, just when these end
    is answered or cut off, but holds up nothing."""
    relay = relays(**TRUSTED)
    requests = (b"GET /api/v1/queues HTTP/1.0\r\n\r\n",
                b"GET /api/v1/status HTTP/1.0\r\n\r\n",
                b"POST /api/v1/reload HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
    for _ in range(8):
        relay.start()
        stopping = threading.Event()
        threads = [threading.Thread(target=ask_for_ever, daemon=True, args=(
            relay.data_dir / "control.sock", r, stopping)) for r in requests * 4]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        assert relay.stop(10) == 0
        stopping.set()
        for thread in threads:
            thread.join(30)


def test_a_second_one_is_refused_and_harms_nothing(relays):
    relay = relays(**TRUSTED).start()
    # A twin with ports of its own and the same data.
    twin = relays(**TRUSTED)
    twin.config["data_dir"] = str(relay.data_dir)
    twin.data_dir = relay.data_dir
    twin.start(expect_ready=False)
    assert twin.process.wait(10) == 1
    twin.process = None
    assert "another process uses the spool" in twin.log_text()
    assert relay.api_ok()
    assert relay.cli("status")
    with smtplib.SMTP("127.0.0.1", relay.port) as client:
        client.sendmail("a@sender.test", ["b@example.test"], "Subject: x\r\n\r\n")


def test_closed_standard_streams_are_given_to_nobody(relays, tmp_path):
    """Else a file or a socket of the service would be descriptor 2, and the
    log be written into it."""
    script = tmp_path / "closed"
    script.write_text('#!/bin/sh\nexec "$@" <&- >&- 2>&-\n')
    script.chmod(0o755)
    relay = relays(**TRUSTED).start(wrapper=[str(script)])
    process = pathlib.Path(f"/proc/{relay.process.pid}/fd")
    assert {str((process / fd).readlink()) for fd in "012"} == {"/dev/null"}
    assert relay.cli("status")["status"] == "ok"


def test_a_deep_data_dir_is_made(relays):
    """By root with a strict umask, for a user who is not."""
    relay = relays(**TRUSTED)
    relay.data_dir = relay.directory / "a" / "b" / "data"
    relay.config["data_dir"] = str(relay.data_dir)
    relay.start(wrapper=("sh", "-c", 'umask 077; exec "$@"', "sh"))


def test_sigterm_at_any_time_of_the_start(relays):
    relay = relays(**TRUSTED)
    for pause in (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08):
        relay.start(expect_ready=False)
        time.sleep(pause)
        relay.process.send_signal(signal.SIGTERM)
        # Before it has a say the signal simply ends it.
        assert relay.process.wait(10) in (0, -signal.SIGTERM)
        relay.process = None
    relay.start()


def test_no_wait_beyond_the_schedule(relays, receivers):
    """A due time from a wrong clock, or of a former schedule, is cut down."""
    busy = receivers(script={"RCPT": "451 4.2.0 later"})
    relay = relays(**TRUSTED, routes=through(busy),
                   retry={"schedule": ["4h"]}).start()
    with smtplib.SMTP("127.0.0.1", relay.port) as client:
        client.sendmail("a@sender.test", ["b@example.test"], "Subject: x\r\n\r\n")
    relay.wait_event(type="deferred")
    assert relay.stop() == 0
    sink = receivers()
    relay.config.update(routes=through(sink), retry={"schedule": ["1s"]})
    relay.start()
    wait_for(lambda: sink.messages, 10, "the message")


def test_a_second_sigterm_ends_at_once(relays, receivers):
    slow = receivers(script={"END": lambda *_: time.sleep(60)})
    relay = relays(**TRUSTED, routes=through(slow),
                   limits={"shutdown_time": "60s"}).start()
    with smtplib.SMTP("127.0.0.1", relay.port) as client:
        client.sendmail("a@sender.test", ["b@example.test"], "Subject: x\r\n\r\n")
    wait_for(lambda: slow.sessions, 10, "a delivery began")
    time.sleep(0.3)
    relay.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert relay.process.poll() is None
    relay.process.send_signal(signal.SIGTERM)
    assert relay.process.wait(2) == 1
    relay.process = None
    relay.config["routes"] = through(receivers())
    relay.start()
    relay.wait_event(type="delivered")


def test_a_failing_disk_is_told(relays, receivers, monkeypatch):
    """What is not on the disk is refused; the log says why nothing goes on."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing")
    # It cannot look for leaks in a process that is traced.
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0:abort_on_error=1")
    relay = relays(**TRUSTED, routes=through(receivers()),
                   delivery={"private_networks": "allow", "threads": 1})
    segments = [relay.data_dir / f"spool/{number:016x}.seg" for number in range(1, 9)]
    relay.start(wrapper=(
        "strace", "-D", "-f", "-o", "/dev/null", *(f"-P{path}" for path in segments),
        "-e", "inject=fdatasync:error=EIO:when=3+"))

    def send():
        with smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as client:
            try:
                client.sendmail("a@sender.test", ["b@example.test"],
                                "Subject: x\r\n\r\n")
                return 250
            except smtplib.SMTPResponseException as refusal:
                return refusal.smtp_code

    # An outcome's record may take the second sync, and fail by itself.
    assert send() == 250
    assert wait_for(lambda: send() == 451 and
                    "the spool cannot be written" in relay.log_text(), 20, "a word")
    assert send() == 451
    assert relay.run("status").returncode == 1
    assert relay.stop() == 0


def test_damage_to_a_queued_message_is_told(relays, receivers):
    """Its sender is lost with its record: the event log and the postmaster hear
    of it, and nothing wrong is delivered."""
    rest, desk = receivers(script={"RCPT": "450 4.2.0 later"}), receivers()
    relay = relays(**TRUSTED, retry={"schedule": ["1s"], "expire": "3s"},
                   reports={"postmaster_copies": True, "postmaster": "desk@own.test"},
                   routes=[{"domains": ["own.test"], "deliver": "smtp",
                            "to": f"127.0.0.1:{desk.port}"}, *through(rest)]).start()
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as client:
        client.sendmail("doomed@sender.test", ["b@example.test", "c@example.test"],
                        "Subject: x\r\n\r\n")
    relay.wait_event(type="deferred")
    damage(relay, b"doomed@sender.test")
    event = relay.wait_event(type="expired")
    assert event["mno"] and event["recipients"] == 2 and event["tenant"] == "default"
    assert "damaged" in event["reply"] and "message_id" not in event
    wait_for(lambda: desk.messages, what="a letter to the postmaster")
    letter = desk.messages[0]
    assert letter.sender == "" and f"message number {event['mno']}".encode() in letter.data
    assert not rest.messages and len(relay.events(type="expired")) == 1
    status = relay.run("status")
    assert status.returncode == 1 and b"damaged" in status.stdout
    told = relay.run("events", "--type", "expired")
    assert told.returncode == 0 and b"damaged" in told.stdout


def damage(relay, text):
    """Flips a bit of the one segment that has it."""
    for path in (relay.data_dir / "spool").glob("*.seg"):
        at = path.read_bytes().find(text)
        if at >= 0:
            with open(path, "r+b") as segment:
                segment.seek(at)
                segment.write(bytes([text[0] ^ 1]))
            return
    raise AssertionError(f"{text!r} is in no segment")


def test_old_events_leave(relays):
    relay = relays(**TRUSTED).start()
    relay.stop()
    events = relay.data_dir / "events"  # the service's own by now
    old, young = events / "2000-01-01.jsonl", events / time.strftime("%Y-%m-%d.jsonl")
    old.write_text("{}\n")
    young.write_text("{}\n")
    relay.start()
    wait_for(lambda: not old.exists(), 10, "the old file went")
    assert young.read_text() == "{}\n"
