# SPDX-License-Identifier: Apache-2.0
"""The first minute: `posthouse sandbox` prints lines that work when pasted,
shows what arrives, keeps it in a Maildir, and lets nothing leave."""
import email
import json
import pathlib
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import threading

import pytest

from support.ports import free_port
from support.relay import BINARY
from support.waiting import wait_for


def three_ports():
    """PORT, PORT+1 and PORT+2 are taken by the sandbox."""
    while True:
        port = free_port()
        if port > 65000:
            continue
        try:
            for more in (1, 2):
                with socket.socket() as s:
                    s.bind(("127.0.0.1", port + more))
            return port
        except OSError:
            continue


class Sandbox:
    def __init__(self, place, *args):
        self.dir, self.port = place / "box", three_ports()
        self.args = args
        self.start()

    def start(self):
        self.lines = []
        self.process = subprocess.Popen(
            [BINARY, "sandbox", "--dir", str(self.dir), "--port", str(self.port), *self.args],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        last = '{"username"' if "--json" in self.args else "Arrivals"
        wait_for(lambda: self.process.poll() is not None or
                 any(l.startswith(last) for l in self.lines), 15, "the welcome")
        assert self.process.poll() is None, self.process.stderr.read()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def example(self, title):
        """The line below `swaks:`, `curl:` or `Python:`, as one would paste it."""
        return self.lines[self.lines.index(title + ":") + 1].strip()

    def fact(self, name):
        return next(l.split(None, 1)[1] for l in self.lines if l.split()[:1] == [name])

    def arrivals(self):
        head = next(i for i, l in enumerate(self.lines) if l.startswith("Arrivals"))
        return self.lines[head + 1:]

    def mails(self):
        return sorted((self.dir / "Maildir" / "new").glob("*"))

    def stop(self, sign=signal.SIGTERM):
        self.process.send_signal(sign)
        status = self.process.wait(15)
        self.reader.join()
        self.errors = self.process.stderr.read()
        return status

    def children(self):
        path = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]


@pytest.fixture
def sandboxes(place):
    made = []

    def make(*args):
        made.append(Sandbox(place, *args))
        return made[-1]
    yield make
    for sandbox in made:
        if sandbox.process.poll() is None:
            sandbox.stop()


@pytest.fixture
def sandbox(sandboxes):
    return sandboxes()


def paste(line):
    return subprocess.run(line, shell=True, capture_output=True, text=True, timeout=30, cwd="/")


@pytest.mark.parametrize("title, program", [("swaks", "swaks"), ("curl", "curl"),
                                            ("Python", "python3")])
def test_printed_lines_work_when_pasted(sandbox, title, program):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    result = paste(sandbox.example(title))
    assert result.returncode == 0, result.stdout + result.stderr
    path = wait_for(sandbox.mails, what="a file in the Maildir")[0]
    message = email.message_from_bytes(path.read_bytes())
    assert message["Subject"] == "hello"
    assert message["Return-Path"] == "<you@example.com>"
    received = message.get_all("Received")
    assert len(received) == 2 and "ESMTPSA" in received[1]
    line = wait_for(sandbox.arrivals, what="the arrival shown")[0]
    assert 'you@example.com -> friend@example.net  "hello"' in line


def test_printed_commands_tell_of_the_mail(sandbox):
    at = sandbox.lines.index("What became of it:")
    export, status = (line.strip() for line in sandbox.lines[at + 1:at + 3])
    result = paste(f"{export}\n{status}")
    assert result.returncode == 0, result.stderr
    assert re.search(r"^queue +0 messages", result.stdout, re.MULTILINE), result.stdout


def test_mail_of_many_kinds_arrives(sandbox):
    user, password = sandbox.fact("user"), sandbox.fact("password")
    context = ssl.create_default_context(cafile=sandbox.fact("certificate"))
    with smtplib.SMTP_SSL("localhost", sandbox.port + 1, context=context, timeout=10) as client:
        client.login(user, password)
        client.sendmail("a@x.test", ["b@gmail.com", "c@nowhere.invalid"],
                        "Subject: two\r\n\r\n.dot\r\n")
        client.sendmail("", ["b@x.test"], "Subject: \x1b[31mnull sender\r\n\r\nx\r\n")
    wait_for(lambda: len(sandbox.mails()) == 3, what="three files")
    arrivals = wait_for(lambda: len(sandbox.arrivals()) == 3 and sandbox.arrivals(), what="shown")
    assert not any("\x1b" in line for line in arrivals)
    assert any("<> -> b@x.test" in line for line in arrivals)


def test_a_login_is_wanted(sandbox):
    with smtplib.SMTP("127.0.0.1", sandbox.port, timeout=10) as client:
        client.ehlo("x.test")
        assert client.docmd("MAIL FROM:<a@x.test>")[0] == 530


def test_the_second_start_is_as_the_first(sandboxes):
    sandbox = sandboxes()
    first = (sandbox.fact("user"), sandbox.fact("password"))
    certificate = pathlib.Path(sandbox.fact("certificate")).read_bytes()
    paste(sandbox.example("Python"))
    wait_for(sandbox.mails, what="a mail")
    assert sandbox.stop(signal.SIGINT) == 0, sandbox.errors
    sandbox.start()
    assert (sandbox.fact("user"), sandbox.fact("password")) == first
    assert pathlib.Path(sandbox.fact("certificate")).read_bytes() == certificate
    assert paste(sandbox.example("Python")).returncode == 0
    wait_for(lambda: len(sandbox.mails()) == 2, what="the second mail")
    # What came in the former run is not shown again.
    assert len(wait_for(sandbox.arrivals, what="the arrival")) == 1


def test_as_json(sandboxes):
    sandbox = sandboxes("--json")
    made = json.loads(sandbox.lines[0])
    assert made["port"] == sandbox.port and made["port_tls"] == sandbox.port + 1
    context = ssl.create_default_context(cafile=made["certificate"])
    with smtplib.SMTP("localhost", made["port"], timeout=10) as client:
        client.starttls(context=context)
        client.login(made["username"], made["password"])
        client.sendmail("a@x.test", ["b@y.test"], "Subject: x\r\n\r\nx\r\n")
    arrival = json.loads(wait_for(lambda: sandbox.lines[1:], what="the arrival")[0])
    assert arrival["type"] == "accepted" and arrival["recipient"] == "b@y.test"
    assert list(pathlib.Path(made["maildir"], "new").iterdir())


def test_nothing_listens_off_loopback(sandbox):
    pids = [sandbox.process.pid, *sandbox.children()]
    assert len(pids) == 2
    inodes = set()
    for pid in pids:
        for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            try:
                match = re.match(r"socket:\[(\d+)\]", str(fd.readlink()))
            except OSError:
                continue
            if match:
                inodes.add(match[1])
    listening = []
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].rsplit(":", 1)
                listening.append((address, int(port, 16)))
    assert {port for _, port in listening} == {sandbox.port + n for n in range(3)}
    assert {address for address, _ in listening} == {"0100007F"}


def test_nothing_is_left_running(sandbox):
    child, = sandbox.children()
    sandbox.process.kill()
    sandbox.process.wait()
    wait_for(lambda: not pathlib.Path(f"/proc/{child}").exists() or
             pathlib.Path(f"/proc/{child}/stat").read_text().split()[2] == "Z", 12,
             "the receiving server ended, too")


def test_commands_reach_the_sandbox(sandbox):
    paste(sandbox.example("Python"))
    wait_for(sandbox.mails, what="a mail")
    control = sandbox.dir / "relay" / "control.sock"
    answer = subprocess.run([BINARY, "events", "--json", "--control", str(control)],
                            capture_output=True, timeout=10)
    types = [e["type"] for e in json.loads(answer.stdout)["events"]]
    assert answer.returncode == 0 and "accepted" in types


def test_a_taken_port_is_said(sandbox, place):
    result = subprocess.run(
        [BINARY, "sandbox", "--dir", str(place / "other"), "--port", str(sandbox.port)],
        capture_output=True, text=True, timeout=20)
    assert result.returncode == 1
    assert f"127.0.0.1:{sandbox.port}" in result.stderr and "--port" in result.stderr


def test_without_a_receiving_server_it_ends(place):
    """Else the mail would go to whoever has the third port."""
    port = three_ports()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port + 2))
        other.listen()
        result = subprocess.run(
            [BINARY, "sandbox", "--dir", str(place / "box"), "--port", str(port)],
            capture_output=True, text=True, timeout=20)
    assert result.returncode == 1 and "--port" in result.stderr


@pytest.mark.parametrize("args", [["--port", "0"], ["--port", "65534"], ["--port", "x"],
                                  ["--nonsense"], ["word"]])
def test_usage(place, args):
    result = subprocess.run([BINARY, "sandbox", "--dir", str(place / "box"), *args],
                            capture_output=True, timeout=10)
    assert result.returncode == 2 and result.stderr.startswith(b"posthouse") or \
        b"usage" in result.stderr
    assert not (place / "box").exists()


def test_its_secrets_are_for_nobody_else(sandbox):
    assert sandbox.dir.stat().st_mode & 0o077 == 0
    for name in ("relay/credential.json", "tls/key.pem"):
        assert (sandbox.dir / name).stat().st_mode & 0o077 == 0
