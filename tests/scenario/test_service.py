# SPDX-License-Identifier: Apache-2.0
"""The service as a process: reload, shutdown, the service manager's protocols,
what it may no longer do once it runs, and the limits that clients meet."""
import datetime
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import threading
import time

import pytest

from support.client import Client
from support.ports import free_port
from support.relay import BINARY
from support.waiting import wait_for

DISCARD = [{"domains": ["*"], "deliver": "discard"}]
TRUSTED = ["127.0.0.0/8"]


@pytest.fixture
def service(relays):
    return relays(trusted_networks=TRUSTED, routes=DISCARD).start()


def limited(relays, **limits):
    return relays(trusted_networks=TRUSTED, routes=DISCARD, limits=limits).start()


def greeted(relay):
    client = Client(relay.port)
    client.ehlo()
    return client


def await_log(relay, text, count=1, seconds=5):
    wait_for(lambda: relay.log_text().count(text) >= count, seconds, f"{text!r} in the log")


# ---- reload


def own_certificate(relay, place, name, days=30):
    """Files of a certificate that the service's user may read again."""
    certificate, key = relay.authority.issue(name, "localhost", days=days)
    ours = place / "tls.pem", place / "tls.key"
    for source, copy in zip((certificate, key), ours):
        fresh = copy.with_suffix(".new")
        shutil.copy(source, fresh)
        fresh.chmod(0o600)
        shutil.chown(fresh, "nobody")
        fresh.rename(copy)
    relay.config["tls"] = {"certificate": str(ours[0]), "private_key": str(ours[1])}


def names_of(client):
    return {value for kind, value in client.socket.getpeercert()["subjectAltName"]
            if kind == "DNS"}


def test_reload_drops_no_session(relays, place):
    relay = relays(trusted_networks=TRUSTED, routes=DISCARD)
    own_certificate(relay, place, "relay.test")
    relay.start()
    open_session = Client(relay.port_tls, context=relay.tls_context())
    open_session.ehlo()
    open_session.envelope()
    assert "relay.test" in names_of(open_session)
    own_certificate(relay, place, "renewed.test")
    relay.config["hostname"] = "renewed.test"
    relay.config["limits"] = {"recipients": 7}
    relay.reload()
    await_log(relay, "main: reloaded")
    fresh = wait_for(lambda: Client(relay.port_tls, context=relay.tls_context()))
    assert "renewed.test" in names_of(fresh)
    assert fresh.greeting.lines[0].startswith("renewed.test ")
    assert fresh.ehlo()["LIMITS"] == "RCPTMAX=7"
    assert open_session.code("RCPT TO:<c@example.test>") == 250
    assert open_session.message().code == 250
    assert open_session.ehlo()["LIMITS"] == "RCPTMAX=1000"
    assert relay.cli("status")["hostname"] == "renewed.test"


def test_the_end_of_a_certificate_is_told(relays, place):
    """Two weeks before; and when it has come, `status` fails."""
    relay = relays(routes=DISCARD)
    own_certificate(relay, place, "relay.test", days=13)
    relay.start()
    await_log(relay, "the certificate ends soon")
    status = relay.cli("status")
    assert "renew it" in status["warnings"][0] and not status["problems"]
    own_certificate(relay, place, "relay.test", days=-1)
    relay.reload()
    await_log(relay, "the certificate has ended")
    answer = relay.run("status")
    assert answer.returncode == 1 and b"the certificate ended on" in answer.stdout
    own_certificate(relay, place, "relay.test")
    relay.reload()
    wait_for(lambda: relay.run("status").returncode == 0)
    status = relay.cli("status")
    ends = datetime.datetime.fromisoformat(status["certificate_ends"])
    left = ends - datetime.datetime.now(datetime.timezone.utc)
    assert status["warnings"] == [] and left.days == 29


def test_reload_moves_queued_mail_to_its_new_route(relays, receivers):
    first, second = receivers(script={"RCPT": "450 4.2.0 later"}), receivers()
    route = lambda to: [{"domains": ["*"], "deliver": "smtp", "to": f"127.0.0.1:{to.port}"}]
    relay = relays(trusted_networks=TRUSTED, routes=route(first),
                   retry={"schedule": ["1s"]}).start()
    relay.submit("a@sender.test", "b@x.test")
    relay.wait_event(type="deferred")
    relay.config["routes"] = route(second)
    relay.reload()
    wait_for(lambda: second.messages, what="delivery by the new route")


@pytest.mark.parametrize("spoil, said", [
    (lambda c: c.update(nonsense=1), "unknown key"),
    (lambda c: c["limits"].update(recipients="many"), "recipients"),
    (lambda c: c["tls"].update(certificate="/nonexistent"), "nonexistent"),
    (lambda c: c["listeners"].pop(), "restart"),
    (lambda c: c.update(data_dir="/tmp/elsewhere"), "restart")])
def test_a_bad_config_is_refused_and_the_old_one_stays(relays, spoil, said):
    relay = relays(trusted_networks=TRUSTED, routes=DISCARD, limits={"recipients": 5}).start()
    relay.config["limits"]["recipients"] = 9
    spoil(relay.config)
    relay.reload()
    await_log(relay, "reload failed")
    assert said in relay.log_text()
    client = Client(relay.port)
    assert client.ehlo()["LIMITS"] == "RCPTMAX=5"
    assert relay.process.poll() is None


def test_reload_by_command_tells_the_result(service):
    assert service.cli("reload") == {"reloaded": True}
    service.config["nonsense"] = 1
    service.write_config()
    # The command itself reads the config for the socket's place.
    answer = service.run("reload", "--control", service.data_dir / "control.sock")
    assert answer.returncode == 1 and b"nonsense" in answer.stderr


def test_what_a_reload_cannot_read_is_said_at_the_start(relays, place):
    """Started as root, the service reads files that its user may not."""
    if os.geteuid() != 0:
        pytest.skip("only root can give something up")
    relay = relays(routes=DISCARD)
    own_certificate(relay, place, "relay.test")
    os.chown(place / "tls.key", 0, 0)
    relay.start()
    await_log(relay, "cannot be read again")
    assert str(place / "tls.key") in relay.log_text()


def test_sources_without_a_pool_are_not_thought_to_be_used(relays):
    source = {"name": "out1", "address": "192.0.2.9", "hostname": "out1.test"}
    relay = relays(sources=[source]).start()
    assert relay.log_text().count("sources without pools are not used") == 1
    assert relay.run("reload").returncode == 0
    wait_for(lambda: relay.log_text().count("sources without pools are not used") == 2,
             what="the warning again")


def test_a_tls_ca_that_is_none_is_said(relays, place):
    junk = place / "ca.pem"
    junk.write_text("no certificate\n")
    junk.chmod(0o644)
    route = {"domains": ["*"], "deliver": "smtp", "to": "127.0.0.1:9", "tls": "require"}
    relay = relays(routes=[route]).start()
    relay.config["routes"] = [{**route, "tls_ca": str(junk)}]
    relay.write_config()
    refused = relay.run("reload")
    assert refused.returncode == 1 and str(junk).encode() in refused.stderr
    relay.stop()
    relay.start(expect_ready=False)
    assert relay.process.wait(10) == 1
    relay.process = None
    assert str(junk) in relay.log_text()


def test_config_check_tells_where(relays):
    relay = relays(routes=DISCARD)
    relay.config_path.write_text(
        "hostname: relay.test\nlisteners:\n  - {address: \"127.0.0.1:2525\", service: mail}\n"
        "limits:\n  recipients: lots\n  nonsense: 1\nretry: {expire: 4 days}\n")
    result = relay.run("config", "check")
    assert result.returncode == 1
    found = [re.match(rf"{re.escape(str(relay.config_path))}:(\d+):(\d+): (.+)", line)
             for line in result.stdout.decode().splitlines()]
    assert all(found), result.stdout
    places = {(int(m[1]), int(m[2])) for m in found}
    assert {(3, 42), (5, 15), (6, 3), (7, 17)} <= places, places
    answer = relay.run("config", "check", "--json")
    mistakes = json.loads(answer.stdout)
    assert answer.returncode == 1 and mistakes["ok"] is False
    assert {(m["line"], m["column"]) for m in mistakes["mistakes"]} == places
    served = subprocess.run([BINARY, "serve", "--config", str(relay.config_path)],
                            capture_output=True, timeout=10)
    assert served.returncode == 1 and b":3:42: " in served.stderr


def test_config_show_is_a_config(service, place):
    shown = service.run("config", "show", "--explain")
    assert shown.returncode == 0
    copy = place / "copy.yaml"
    copy.write_bytes(shown.stdout)
    again = subprocess.run([BINARY, "config", "show", "--config", str(copy)], capture_output=True)
    assert again.returncode == 0, again.stderr
    assert again.stdout == service.run("config", "show").stdout
    assert b"recipients: 1000" in again.stdout
    assert service.run("config", "check").stdout == b"ok\n"


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"listeners: [", b"a: &x [*x]\n", b"- 1\n",
                                  b"listeners: {}\n", b"\t\n", b"{" * 10000])
def test_files_that_are_no_config(relays, text):
    relay = relays(routes=DISCARD)
    relay.config_path.write_bytes(text)
    result = relay.run("config", "check")
    assert result.returncode == 1 and result.stdout.startswith(str(relay.config_path).encode())


# ---- the end


def is_shut(port):
    try:
        Client(port, greeting=False).close()
    except ConnectionError:
        return True
    return False


def test_stop_lets_an_open_transaction_end(relays, receivers):
    relay = limited(relays, shutdown_time="5s")
    idle, busy = greeted(relay), greeted(relay)
    busy.envelope()
    assert busy.code("DATA") == 354
    relay.process.send_signal(signal.SIGTERM)
    assert idle.reply().code == 421 and idle.is_closed()
    wait_for(lambda: is_shut(relay.port), what="nobody is let in any more")
    busy.send(b"Subject: last\r\n\r\nx\r\n.\r\n")
    assert busy.reply().code == 250
    assert busy.reply().code == 421
    started = time.monotonic()
    assert relay.process.wait(10) == 0
    assert time.monotonic() - started < 4
    relay.process = None
    relay.start()
    relay.wait_event(type="accepted", subject="last")
    relay.wait_event(type="delivered")


def test_stop_waits_no_longer_than_it_may(relays):
    relay = limited(relays, shutdown_time="1s")
    client = greeted(relay)
    client.envelope()
    assert client.code("DATA") == 354
    started = time.monotonic()
    assert relay.stop() == 0
    assert 0.8 < time.monotonic() - started < 4
    farewell = client.reply()
    assert farewell.code == 421 and farewell.text.startswith("4.3.2")
    relay.start()
    assert not relay.events(type="accepted")


def test_stop_ends_streams_of_commands(service):
    follower = subprocess.Popen(
        [BINARY, "events", "--follow", "--config", str(service.config_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.3)
    started = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - started < 5
    follower.communicate(timeout=5)


def test_a_second_signal_ends_at_once(relays):
    relay = limited(relays, shutdown_time="1m")
    client = greeted(relay)
    client.envelope()
    assert client.code("DATA") == 354
    relay.process.send_signal(signal.SIGTERM)
    await_log(relay, "stopping")
    relay.process.send_signal(signal.SIGINT)
    assert relay.process.wait(5) == 1
    relay.process = None


def test_two_services_do_not_share_a_data_dir(service, relays):
    second = relays(routes=DISCARD, data_dir=str(service.data_dir))
    second.start(expect_ready=False)
    assert second.process.wait(10) == 1
    second.process = None
    assert "another" in second.log_text() or "in use" in second.log_text()
    assert service.cli("status")["status"] == "ok"


def test_a_taken_port_is_said(relays):
    second = relays(routes=DISCARD)
    port = second.port_mx
    with socket.socket() as blocker:
        blocker.bind(("127.0.0.1", port))
        blocker.listen()
        second.start(expect_ready=False)
        assert second.process.wait(10) == 1
    second.process = None
    assert f"cannot listen on 127.0.0.1:{port}" in second.log_text()


def test_a_port_of_another_service_is_not_shared(service, relays):
    """SO_REUSEPORT would let the same user take half of its clients."""
    second = relays(routes=DISCARD, listeners=[
        {"address": f"127.0.0.1:{service.port}", "service": "submission", "tls": "starttls"}])
    second.start(expect_ready=False)
    assert second.process.wait(10) == 1
    second.process = None
    assert f"cannot listen on 127.0.0.1:{service.port}" in second.log_text()


# ---- the service manager


EXEC = ("import os,sys;n=int(sys.argv[1]);"
        "[(os.dup2(int(f),3+i),os.set_inheritable(3+i,True)) "
        "for i,f in enumerate(sys.argv[2:2+n])];"
        "os.environ.update(LISTEN_FDS=str(n),LISTEN_PID=str(os.getpid()));"
        "os.execv(sys.argv[2+n],sys.argv[2+n:])")


def test_sockets_handed_over(relays, place):
    """The manager's sockets are taken by their address; one that is not in the
    config is left alone."""
    relay = relays(trusted_networks=TRUSTED, routes=DISCARD)
    sockets = []
    for port in (relay.port_mx, relay.port, free_port()):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", port))
        s.listen(10)
        sockets.append(s)
    # Connected before anybody serves: nobody is turned away by a restart.
    early = Client(relay.port, greeting=False)
    high = []
    for s in sockets:
        high.append(os.dup2(s.fileno(), 100 + len(high)))
    relay.write_config()
    relay.log = open(relay.log_path, "ab")
    relay.process = subprocess.Popen(
        [sys.executable, "-c", EXEC, str(len(high)), *map(str, high),
         BINARY, "serve", "--config", str(relay.config_path)],
        pass_fds=high, stdin=subprocess.DEVNULL, stdout=relay.log, stderr=relay.log)
    for fd in high:
        os.close(fd)
    for s in sockets:
        s.close()
    relay._await_ready(0)
    assert early.reply().code == 220
    early.ehlo()
    early.envelope()
    assert early.message().code == 250
    assert Client(relay.port_mx).greeting.code == 220
    Client(relay.port_tls, context=relay.tls_context())


def test_readiness_reload_watchdog_stop_are_told(relays, place, monkeypatch):
    path = place / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        path.chmod(0o777)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", "3000000")
        began = time.monotonic()
        relay = relays(routes=DISCARD).start()
        heard = []

        def hear(word, seconds=5):
            end = time.monotonic() + seconds
            while not any(word in h for h in heard):
                assert time.monotonic() < end, (word, heard)
                heard.append(manager.recv(4096).decode())
            heard.clear()
        hear("READY=1")
        hear("STATUS=0 sessions, 0 messages queued")
        signs = 0
        while time.monotonic() < began + 4:
            signs += "WATCHDOG=1" in manager.recv(4096).decode()
        assert 2 <= signs <= 4, "half of what the manager asked for"
        relay.reload()
        hear("RELOADING=1\nMONOTONIC_USEC=")
        hear("READY=1")
        relay.process.send_signal(signal.SIGTERM)
        hear("STOPPING=1")
        assert relay.process.wait(10) == 0
        relay.process = None


# ---- what it may do


def test_privileges_are_gone(service):
    if os.geteuid() != 0:
        pytest.skip("only root can give something up")
    nobody = pwd.getpwnam("nobody")
    seen = 0
    for task in pathlib.Path(f"/proc/{service.process.pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            text = (task / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # one that answered a request has ended
        seen += 1
        status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        assert set(status["Uid"].split()) == {str(nobody.pw_uid)}
        assert set(status["Gid"].split()) == {str(nobody.pw_gid)}
        assert "0" not in status["Groups"].split()
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert status["NoNewPrivs"].strip() == "1", name
        assert status["Seccomp"].strip() == "2", name
    assert seen >= 3


def test_nothing_is_readable_by_others(service):
    service.submit("a@sender.test", "b@x.test")
    for path in service.data_dir.rglob("*"):
        mode = path.lstat().st_mode
        assert mode & 0o007 == 0 or path.is_socket(), (path, oct(mode))
        assert path.lstat().st_uid == pwd.getpwnam("nobody").pw_uid, path


def test_a_user_that_does_not_exist(relays):
    relay = relays(routes=DISCARD, user="nobody-at-all")
    relay.start(expect_ready=False)
    assert relay.process.wait(10) == 1
    relay.process = None
    assert "nobody-at-all" in relay.log_text()


# ---- limits that clients meet


def test_connections_of_one_client(relays):
    relay = limited(relays, connections_per_client=3)
    clients = [greeted(relay) for _ in range(3)]
    refused = Client(relay.port, greeting=False).reply()
    assert refused.code == 421 and refused.text.startswith("4.7.0")
    clients[0].close()
    wait_for(lambda: Client(relay.port, greeting=False).reply().code == 220, 3, "room again")


def test_connections_of_all(relays):
    relay = limited(relays, connections=2)
    clients = [greeted(relay) for _ in range(2)]
    assert Client(relay.port, greeting=False).reply().code == 421
    assert clients[0].code("NOOP") == 250


@pytest.mark.parametrize("limits, said", [
    ({"idle_time": "300ms"}, "4.2.1 nothing arrived|4.4.2 nothing arrived|nothing arrived"),
    ({"command_time": "300ms"}, "no complete command"),
    ({"session_time": "1s"}, "lasted long enough")])
def test_time_is_up(relays, limits, said):
    relay = limited(relays, **limits)
    client = greeted(relay)
    started = time.monotonic()
    reply = client.reply()
    assert reply.code == 421 and re.search(said, reply.text), reply
    assert client.is_closed() and time.monotonic() - started < 3


def test_a_command_that_dribbles_is_cut(relays):
    """Each octet comes in time, the line does not."""
    relay = limited(relays, command_time="800ms", idle_time="500ms")
    client = greeted(relay)
    started = time.monotonic()
    try:
        for octet in b"NOOP " + b"x" * 100:
            client.send(bytes([octet]))
            time.sleep(0.05)
    except OSError:
        pass
    assert b"421 " in client.rest(0.5) and time.monotonic() - started < 6


def test_a_message_that_dribbles_is_cut(relays):
    relay = limited(relays, message_time="1s", idle_time="500ms")
    client = greeted(relay)
    client.envelope()
    assert client.code("DATA") == 354
    started = time.monotonic()
    cut = None
    try:
        for _ in range(100):
            client.send(b"x")
            time.sleep(0.05)
            cut = time.monotonic() - started
    except OSError:
        pass
    assert cut < 4
    assert not relay.events(type="accepted")


def test_many_idle_clients_slow_nobody_down(relays):
    relay = limited(relays, connections_per_client=2000)
    idle = [socket.create_connection(("127.0.0.1", relay.port)) for _ in range(500)]
    started = time.monotonic()
    for _ in range(50):
        with smtplib.SMTP("127.0.0.1", relay.port, timeout=5) as client:
            client.sendmail("a@sender.test", ["b@x.test"], "Subject: x\r\n\r\nx\r\n")
    assert time.monotonic() - started < 5
    for s in idle:
        s.close()
    wait_for(lambda: relay.cli("status")["inbound"]["sessions_open"] == 0, 5, "all gone")


def test_handshakes_that_never_end_hold_nobody_up(relays):
    relay = limited(relays, connections_per_client=2000)
    stuck = [socket.create_connection(("127.0.0.1", relay.port_tls)) for _ in range(100)]
    for s in stuck:
        s.sendall(b"\x16\x03\x01\x02\x00")
    client = Client(relay.port_tls, context=relay.tls_context())
    assert client.code("NOOP") == 250
    for s in stuck:
        s.close()


def test_sessions_leave_descriptors_to_others(relays):
    """Half of them at most: the rest are told to come later, deliveries go on,
    and the log says it once."""
    relay = relays(trusted_networks=TRUSTED, routes=DISCARD,
                   limits={"connections_per_client": 2000})
    relay.start(wrapper=["prlimit", "--nofile=120:120"])
    await_log(relay, "fewer sessions than limits.connections allows")
    clients = [Client(relay.port, greeting=False) for _ in range(100)]
    codes = [client.reply().code for client in clients]
    assert codes.count(220) == 60 and codes.count(421) == 40
    good = clients[codes.index(220)]
    good.ehlo()
    good.envelope()
    assert good.message().code == 250
    relay.wait_event(type="delivered")
    assert 1 <= relay.log_text().count("all sessions that there may be are open") <= 4
    for client in clients:
        client.close()
    wait_for(lambda: greeted(relay), 10, "a greeting")


def test_submitters_at_once(service):
    """Sixteen clients, each message counted once."""
    errors = []

    def submit(number):
        try:
            with smtplib.SMTP("127.0.0.1", service.port, timeout=10) as client:
                for n in range(20):
                    client.sendmail("a@sender.test", [f"u{number}-{n}@x.test"],
                                    f"Subject: {number}-{n}\r\n\r\nx\r\n")
        except Exception as error:
            errors.append(error)
    threads = [threading.Thread(target=submit, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    wait_for(lambda: len(service.events(type="delivered")) >= 320, 10, "all delivered")
    ids = [e["message_id"] for e in service.events(type="accepted")]
    assert len(ids) == len(set(ids)) == 320
