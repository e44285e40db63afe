# SPDX-License-Identifier: Apache-2.0
"""What an operator sees and does: every command, for people and as JSON, with
its exit status, with and without a running service."""
import base64
import email
import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from support.ports import free_port
from support.relay import BINARY
from support.waiting import wait_for

TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
ID = re.compile(r"^[0-9A-HJKMNP-TV-Z]{26}$")


@pytest.fixture
def sink(receivers):
    return receivers(script={"RCPT": lambda r, s, a: "450 4.2.0 mailbox busy"
                             if a.startswith("later") else "250 2.1.5 ok"})


@pytest.fixture
def routed(relays, sink):
    return relays(trusted_networks=["127.0.0.0/8"], retry={"schedule": ["1h"]},
                  routes=[{"domains": ["*"], "deliver": "smtp",
                           "to": f"127.0.0.1:{sink.port}"}]).start()


@pytest.fixture(scope="module")
def listening(module_relays):
    """Has no mail and gets none."""
    return module_relays(routes=[{"domains": ["*"], "deliver": "discard"}]).start()


@pytest.fixture
def waiting(routed):
    """One message waits for its second attempt at busy.test."""
    routed.message_id = routed.submit("a@sender.test", "later@busy.test")
    routed.wait_event(type="deferred", message_id=routed.message_id)
    wait_for(lambda: routed.cli("queue", "summary")["totals"]["in_flight"] == 0,
             what="the queue is at rest")
    return routed


def text(relay, *args, status=0):
    result = relay.run(*args)
    assert result.returncode == status, (args, result.stdout, result.stderr)
    return (result.stdout if status == 0 else result.stderr).decode()


# ---- looking at queues


def test_summary_of_an_empty_queue(routed):
    answer = routed.cli("queue", "summary")
    assert answer["totals"]["deliveries"] == 0
    assert "0 deliveries wait" in text(routed, "queue", "summary")
    assert routed.cli("queue", "list") == {"deliveries": [], "more": False}
    assert "nothing waits" in text(routed, "queue", "list")


def test_summary_and_list(waiting):
    answer = waiting.cli("queue", "summary")
    assert answer["totals"]["deliveries"] == 1 and answer["totals"]["held"] == 0
    queue, = answer["queues"]
    assert queue["domain"] == "busy.test" and queue["tenant"] == "default"
    assert queue["stream"] == queue["class"] == "transactional"
    assert (queue["fresh"], queue["retry"], queue["deliveries"]) == (0, 1, 1)
    assert queue["held"] is False and queue["hold_reason"] is None
    assert "mailbox busy" in queue["last_reply"]
    assert TIME.match(queue["next_attempt"]) and TIME.match(queue["oldest_expires"])
    delivery, = waiting.cli("queue", "list")["deliveries"]
    assert delivery["message_id"] == waiting.message_id
    assert delivery["recipients"] == ["later@busy.test"] and delivery["attempts"] == 1
    assert delivery["sender"] == "a@sender.test" and delivery["subject"] == "test"
    assert "busy.test" in text(waiting, "queue", "summary")
    line = text(waiting, "queue", "list")
    assert waiting.message_id in line and "later@busy.test" in line
    shown = text(waiting, "queue", "show", "busy.test")
    assert "mailbox busy" in shown and "the next attempt is not due, until 2" in shown
    assert queue["waits_for"] == "schedule" and TIME.match(queue["waits_until"])
    assert (queue["site_window"], queue["site_limit"]) == (5, 20)


@pytest.mark.parametrize("selector, found", [
    (["--class", "transactional"], 1), (["--class", "bulk"], 0), (["--site", "smtp*"], 1),
    (["--site", "mx*"], 0), (["--domain", "b*y.test"], 1),
    (["--domain", "busy.test"], 1), (["--domain", "*.test"], 1), (["--domain", "other.test"], 0),
    (["--tenant", "default"], 1), (["--stream", "transactional"], 1), (["--stream", "bulk"], 0),
    (["--tenant", "default", "--stream", "transactional", "--domain", "BUSY.test"], 1)])
def test_selecting_queues(waiting, selector, found):
    assert len(waiting.cli("queue", "summary", *selector)["queues"]) == found
    assert len(waiting.cli("queue", "list", *selector)["deliveries"]) == found


def test_queues_that_do_not_exist(waiting):
    assert "no queue" in text(waiting, "queue", "show", "nowhere.test", status=1)
    assert "no tenant" in text(waiting, "queue", "list", "--tenant", "nobody", status=1)
    answer = waiting.run("queue", "list", "--tenant", "nobody", "--json")
    assert answer.returncode == 1
    assert json.loads(answer.stdout)["error"]["code"] == "not_found"


# ---- operating on queues


def test_hold_and_release(routed, sink):
    assert routed.cli("queue", "hold", "--domain", "held.test", "--reason", "maintenance\x1b[0m")
    routed.submit("a@sender.test", "b@held.test")
    routed.submit("a@sender.test", "b@free.test")
    wait_for(lambda: sink.messages, what="the other domain's mail")
    time.sleep(0.3)
    assert [m.recipients for m in sink.messages] == [["b@free.test"]]
    queue, = routed.cli("queue", "summary", "--domain", "held.test")["queues"]
    assert queue["waits_for"] == "hold" and queue["waits_until"] is None
    assert queue["held"] is True and queue["hold_reason"].startswith("maintenance")
    shown = text(routed, "queue", "summary")
    assert "held" in shown and "maintenance" in shown and "\x1b" not in shown
    routed.cli("queue", "release", "--domain", "held.test")
    wait_for(lambda: len(sink.messages) == 2, what="the released mail")


def test_hold_of_everything(routed, sink):
    routed.cli("queue", "hold", "--all")
    routed.submit("a@sender.test", "b@x.test")
    time.sleep(0.5)
    assert not sink.messages
    routed.cli("queue", "release", "--all")
    wait_for(lambda: sink.messages, what="the released mail")


def test_retry_now(waiting, sink):
    sink.script.clear()
    assert waiting.cli("queue", "retry", "--domain", "busy.test")["deliveries"] == 1
    waiting.wait_event(type="delivered", message_id=waiting.message_id, attempt=2)


def test_retry_of_one_message(waiting, sink):
    sink.script.clear()
    assert waiting.cli("queue", "retry", "--message", waiting.message_id)["deliveries"] == 1
    waiting.wait_event(type="delivered", message_id=waiting.message_id)


def test_bounce_sends_a_report(waiting, sink):
    answer = waiting.cli("queue", "bounce", "--domain", "busy.test", "--reason", "domain is gone")
    assert answer["deliveries"] == 1
    event = waiting.wait_event(type="bounced", message_id=waiting.message_id)
    assert "domain is gone" in event["reply"]
    report = wait_for(lambda: sink.messages, what="the report")[0]
    assert report.recipients == ["a@sender.test"]
    status = email.message_from_bytes(report.data).get_payload()[1].get_payload()[1]
    assert status["Action"] == "failed" and status["Final-Recipient"].endswith("later@busy.test")
    wait_for(waiting.queue_empty, what="an empty queue")


@pytest.mark.parametrize("command, kind", [("expire", "expired"), ("cancel", "cancelled")])
def test_ending_a_site_s_mail(waiting, sink, command, kind):
    answer = waiting.cli("queue", command, "--site", "smtp 127.0.0.1*")
    assert answer["deliveries"] == 1
    waiting.wait_event(type=kind, message_id=waiting.message_id)
    wait_for(waiting.queue_empty, what="nothing waits")
    reports = [m for m in sink.messages if m.recipients == ["a@sender.test"]]
    if command == "expire":
        wait_for(lambda: [m for m in sink.messages if m.recipients == ["a@sender.test"]],
                 what="the report")
    else:
        assert not reports


def test_move_to_another_stream(waiting, sink):
    args = ("--tenant", "default", "--domain", "busy.test", "--to", "bulk")
    assert waiting.cli("queue", "move", *args)["deliveries"] == 1
    queue, = waiting.cli("queue", "summary")["queues"]
    assert queue["stream"] == "bulk" and queue["class"] == "bulk"
    waiting.kill()
    waiting.start()
    queue, = wait_for(lambda: waiting.cli("queue", "summary")["queues"], what="the queue")
    assert queue["stream"] == "bulk" and queue["class"] == "bulk"
    sink.script.clear()
    assert waiting.cli("queue", "retry", "--stream", "bulk")["deliveries"] == 1
    waiting.wait_event(type="delivered", message_id=waiting.message_id)


def test_a_great_bounce_outlives_a_crash(routed, sink):
    """Killed at the answer, long before the work is done."""
    routed.cli("queue", "hold", "--all")
    count = 40
    for i in range(count):
        routed.submit("a@sender.test", [f"r{n}@d{i}.test" for n in range(25)])
    answer = routed.cli("queue", "bounce", "--class", "transactional", "--reason", "too much")
    routed.kill()
    assert answer["deliveries"] == count
    routed.start()
    wait_for(lambda: len(routed.events(type="bounced")) >= count * 25, seconds=30,
             what="all are bounced")
    routed.cli("queue", "release", "--all")
    wait_for(routed.queue_empty, what="reports are delivered")
    recipients = [e["recipient"] for e in routed.events(type="bounced")]
    assert len(recipients) == len(set(recipients)) == count * 25
    assert {r for m in sink.messages for r in m.recipients} == {"a@sender.test"}


def test_cancel_sends_none(waiting, sink):
    answer = waiting.cli("message", "cancel", waiting.message_id)
    assert answer == {"message_id": waiting.message_id, "cancelled": 1}
    waiting.wait_event(type="cancelled", message_id=waiting.message_id)
    wait_for(waiting.queue_empty, what="an empty queue")
    time.sleep(0.3)
    assert not sink.messages
    assert waiting.run("message", "cancel", waiting.message_id).returncode == 1


@pytest.mark.parametrize("args, kind", [
    (["message", "cancel"], "cancelled"), (["queue", "bounce", "--message"], "bounced")])
def test_what_was_ended_stays_ended(waiting, args, kind):
    """The answer means: on stable storage."""
    waiting.cli(*args, waiting.message_id)
    waiting.kill()
    waiting.start()
    listed = waiting.cli("queue", "list")["deliveries"]
    assert waiting.message_id not in [d["message_id"] for d in listed]
    waiting.wait_event(type=kind, message_id=waiting.message_id)


@pytest.mark.parametrize("args, status", [
    (["queue", "hold"], 2), (["queue", "hold", "--reason", "x"], 2), (["queue", "retry"], 2),
    (["queue", "bounce", "--all", "--domain", "x.test"], 1),
    (["queue", "hold", "--message", "x"], 2), (["queue", "show"], 2),
    (["queue", "retry", "--message", "nonsense"], 1), (["queue", "burn"], 2), (["queue"], 2),
    (["message", "show"], 2), (["message", "show", "nonsense"], 1),
    (["message", "show", "0" * 26], 1), (["message", "show", "../../status"], 1),
    (["events", "--type", "nonsense"], 1), (["events", "--since", "yesterday"], 1),
    (["events", "--limit", "-1"], 1), (["events", "--nonsense"], 2), (["events", "word"], 2),
    (["queue", "list", "--limit", "x"], 1), (["nonsense"], 2), (["status", "word"], 2),
    (["tenant", "add", "bad name!"], 1), (["tenant", "show", "nobody"], 1),
    (["stream", "add", "x", "--class", "odd"], 1), (["credential", "add", "--networks", "odd"], 1),
    (["credential", "remove", "nobody"], 1), (["help", "nonsense"], 2)])
def test_mistakes_of_a_user(listening, args, status):
    result = listening.run(*args)
    assert result.returncode == status, (result.stdout, result.stderr)
    assert result.stderr.strip(), "nothing was said"


# ---- one message's story


def test_message_show(waiting):
    answer = waiting.cli("message", "show", waiting.message_id)
    assert answer["message_id"] == waiting.message_id and ID.match(answer["message_id"])
    assert answer["in_spool"] is True and answer["sender"] == "a@sender.test"
    assert TIME.match(answer["accepted"]) and TIME.match(answer["expires"])
    recipient, = answer["recipients"]
    assert recipient["recipient"] == "later@busy.test" and recipient["state"] == "deferred"
    assert recipient["code"] == 450 and recipient["attempt"] == 1
    assert [e["type"] for e in answer["events"]] == ["accepted", "deferred"]
    shown = text(waiting, "message", "show", waiting.message_id.lower())
    assert "deferred" in shown and "mailbox busy" in shown
    raw = waiting.run("message", "raw", waiting.message_id)
    assert raw.returncode == 0 and raw.stdout.endswith(b"\r\n\r\nHello.\r\n")


def test_message_why(waiting, sink):
    shown = text(waiting, "message", "why", waiting.message_id)
    assert "the next attempt is not due, until 2" in shown and "mailbox busy" in shown
    queue, = waiting.cli("message", "why", waiting.message_id)["queues"]
    assert queue["waits_for"] == "schedule"
    sink.script.clear()
    waiting.cli("queue", "retry", "--all")
    wait_for(waiting.queue_empty, what="it is delivered")
    assert "waits for nothing" in text(waiting, "message", "why", waiting.message_id)


def test_a_rate_binds(relays, sink):
    relay = relays(trusted_networks=["127.0.0.0/8"],
                   delivery={"message_rate_per_domain": "1/h", "message_rate_per_site": "5/s"},
                   routes=[{"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{sink.port}"}]).start()
    for i in range(3):
        relay.submit("a@sender.test", f"r{i}@slow.test")
    relay.submit("a@sender.test", "r@other.test")
    wait_for(lambda: len(sink.messages) == 2, what="one for each domain")
    time.sleep(0.5)
    assert len(sink.messages) == 2
    queue, = relay.cli("queue", "summary")["queues"]
    assert queue["domain"] == "slow.test" and queue["deliveries"] == 2
    assert queue["waits_for"] == "domain_rate" and TIME.match(queue["waits_until"])
    relay.config["delivery"]["message_rate_per_domain"] = "0"
    relay.write_config()
    relay.reload()
    wait_for(lambda: len(sink.messages) == 4, what="the rest, once the rate is lifted")


def test_message_show_when_it_is_over(waiting, sink):
    sink.script.clear()
    waiting.cli("queue", "retry", "--all")
    waiting.wait_event(type="delivered", message_id=waiting.message_id)
    answer = waiting.cli("message", "show", waiting.message_id)
    assert answer["recipients"][0]["state"] == "delivered" and answer["queues"] == []
    assert waiting.run("message", "cancel", waiting.message_id).returncode == 1
    waiting.stop()
    offline = waiting.cli("message", "show", waiting.message_id)
    assert offline["recipients"][0]["state"] == "delivered"


# ---- events and traces


def test_events(waiting):
    events = waiting.cli("events")["events"]
    assert {e["type"] for e in events} == {"accepted", "deferred"}
    for event in events:
        assert TIME.match(event["time"]) and ID.match(event["event_id"])
    for args, count in ((["--type", "deferred"], 1), (["--type", "bounced"], 0),
                        (["--recipient", "later@busy.test"], 2), (["--recipient", "x@y.test"], 0),
                        (["--message", waiting.message_id], 2), (["--limit", "1"], 1),
                        (["--since", "1h"], 2), (["--until", "1h"], 0),
                        (["--tenant", "default"], 2)):
        assert len(waiting.cli("events", *args)["events"]) == count, args
    shown = text(waiting, "events")
    assert waiting.message_id in shown and "mailbox busy" in shown


def follow(relay, *args):
    return subprocess.Popen([BINARY, *args, "--config", str(relay.config_path)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_events_followed(routed):
    process = follow(routed, "events", "--follow", "--json", "--type", "delivered")
    try:
        time.sleep(0.5)
        message_id = routed.submit("a@sender.test", "b@x.test")
        event = json.loads(process.stdout.readline())
        assert event["type"] == "delivered" and event["message_id"] == message_id
    finally:
        process.kill()
        process.communicate()


def test_trace_shows_both_sides_and_no_secret(routed):
    process = follow(routed, "trace", "--json")
    try:
        time.sleep(0.5)
        credential = routed.credential()
        routed.submit("a@sender.test", "b@x.test")
        lines = []
        while not any(l["line"].upper() == "QUIT" for l in lines) or \
                not any(l["side"] == "client" and l["line"].startswith("BDAT") for l in lines):
            lines.append(json.loads(process.stdout.readline()))
    finally:
        process.kill()
        process.communicate()
    said = "\n".join(l["line"] for l in lines)
    assert "mail FROM:<a@sender.test>" in said and "MAIL FROM:<a@sender.test>" in said
    assert credential["password"] not in said and "Hello." not in said
    user, password = credential["username"], credential["password"]
    for secret in (f"\0{user}\0{password}", password):
        assert base64.b64encode(secret.encode()).decode()[:20] not in said
    assert {l["side"] for l in lines} == {"client", "server"}
    assert all(TIME.match(l["time"]) for l in lines)


def test_trace_of_one_peer(routed):
    process = follow(routed, "trace", "--json", "--peer", "192.0.2.")
    try:
        time.sleep(0.5)
        routed.submit("a@sender.test", "b@x.test")
        routed.wait_event(type="delivered")
        time.sleep(0.3)
    finally:
        process.kill()
        out, _ = process.communicate()
    assert out == b""


# ---- the directory


def test_tenants_streams_credentials(routed):
    assert [t["name"] for t in routed.cli("tenant", "list")["tenants"]] == ["default"]
    made = routed.cli("tenant", "add", "acme")
    assert made["name"] == "acme" and made["enabled"] is True and TIME.match(made["created"])
    assert routed.run("tenant", "add", "acme").returncode == 1
    stream = routed.cli("stream", "add", "news", "--tenant", "acme", "--class", "bulk",
                        "--expire", "12h")
    assert (stream["name"], stream["class"], stream["expire"]) == ("news", "bulk", "12h")
    names = [s["name"] for s in routed.cli("stream", "list", "--tenant", "acme")["streams"]]
    assert sorted(names) == ["bulk", "news", "transactional"]
    made = routed.cli("credential", "add", "--tenant", "acme", "--stream", "news",
                      "--name", "newsletter", "--networks", "127.0.0.0/8,192.0.2.0/24")
    assert made["tenant"] == "acme" and made["stream"] == "news"
    assert made["networks"] == ["127.0.0.0/8", "192.0.2.0/24"] and made["revoked"] is False
    assert len(made["password"]) >= 20
    listed, = routed.cli("credential", "list", "--tenant", "acme")["credentials"]
    assert listed["username"] == made["username"] and "password" not in listed
    assert made["password"] not in text(routed, "credential", "show", made["username"])
    client = routed.client(login=False)
    client.login(made["username"], made["password"])
    client.sendmail("a@sender.test", ["b@x.test"], "Subject: x\r\n\r\nx\r\n")
    event = routed.wait_event(type="delivered")
    assert event["tenant"] == "acme" and event["stream"] == "news"
    assert made["password"].encode() not in (routed.data_dir / "directory.db").read_bytes()
    assert made["password"] not in routed.log_text()
    routed.cli("credential", "remove", made["username"])
    assert routed.cli("credential", "list", "--tenant", "acme")["credentials"] == []
    assert len(routed.cli("credential", "list", "--revoked")["credentials"]) == 1
    routed.cli("stream", "remove", "news", "--tenant", "acme")
    routed.cli("tenant", "remove", "acme")
    assert routed.run("stream", "remove", "transactional").returncode == 1
    assert routed.run("tenant", "remove", "default").returncode == 1


def test_credential_is_shown_once_for_people(routed):
    shown = text(routed, "credential", "add", "--name", "app")
    made, = routed.cli("credential", "list")["credentials"]
    assert made["username"] in shown and "password" in shown


# ---- status


def test_status(waiting):
    answer = waiting.cli("status")
    assert answer["status"] == "ok" and answer["problems"] == []
    assert answer["hostname"] == "relay.test" and TIME.match(answer["started"])
    assert answer["queue"]["messages"] == 1 and answer["queue"]["recipients"] == 1
    assert answer["inbound"]["messages_accepted"] == 1
    assert answer["outbound"]["deferred"] == 1 and answer["spool"]["state"] == "ok"
    shown = text(waiting, "status")
    assert "relay.test" in shown and "1 messages" in shown


def test_health_and_metrics_on_an_http_listener(relays):
    port = free_port()
    relay = relays(routes=[{"domains": ["*"], "deliver": "discard"}])
    relay.config["listeners"].append(
        {"address": f"127.0.0.1:{port}", "service": "http", "tls": "none"})
    relay.start()
    relay.submit("a@sender.test", "b@x.test")
    relay.wait_event(type="delivered")
    get = lambda path: urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5)
    assert json.load(get("/health"))["status"] == "ok"
    metrics = get("/metrics").read().decode()
    assert re.search(r"^posthouse_\w+.* 1(\.0)?$", metrics, re.M)
    for line in metrics.splitlines():
        assert line.startswith("#") or re.match(r'^[a-z_]+(\{[^}]*\})? \S+$', line), line
    with pytest.raises(urllib.error.HTTPError) as error:
        get("/api/v1/credentials")
    assert error.value.code in (403, 404)


def test_the_control_socket_is_for_owner_and_group(routed):
    mode = (routed.data_dir / "control.sock").stat().st_mode & 0o777
    assert mode == 0o660
    # Others may pass to the socket for handing in, and see nothing.
    assert (routed.data_dir.stat().st_mode & 0o006) == 0


def test_garbage_on_the_control_socket(routed):
    """CVE-2025-62875: it must not stop the service."""
    for data in (b"", b"\0" * 1000, b"GET /health HTTP/1.1\r\n", b"POST /api/v1/queues/hold "
                 b"HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n{",
                 b"POST /api/v1/queues/hold HTTP/1.1\r\nContent-Length: 5\r\n\r\n{",
                 b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n", os.urandom(5000)):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(routed.data_dir / "control.sock"))
            try:
                s.sendall(data)
            except OSError:
                pass
    assert routed.cli("status")["status"] == "ok"


# ---- without a service


def test_verify_wants_a_stopped_service(waiting):
    assert "stop the service" in text(waiting, "queue", "verify", status=1)
    waiting.stop()
    answer = waiting.cli("queue", "verify")
    assert answer["problems"] == 0 and answer["found"] == []
    assert answer["live_messages"] == answer["live_recipients"] == 1
    assert "ok" in text(waiting, "queue", "verify").splitlines()
    assert waiting.run("queue", "verify", waiting.data_dir / "spool").returncode == 0
    assert waiting.run("queue", "verify", waiting.directory / "nothing").returncode == 1


def test_verify_finds_damage(waiting):
    waiting.stop()
    segments = sorted(p for p in (waiting.data_dir / "spool").rglob("*")
                      if p.is_file() and p.stat().st_size > 4096)
    damaged = 0
    for path in segments:
        data = bytearray(path.read_bytes())
        at = data.find(b"Hello.")
        if at >= 0:
            data[at] ^= 1
            path.write_bytes(data)
            damaged += 1
    assert damaged == 1
    answer = waiting.run("queue", "verify", "--json")
    found = json.loads(answer.stdout)
    assert answer.returncode == 1 and found["problems"] >= 1
    assert found["found"][0]["file"] and found["found"][0]["problem"]


def test_commands_without_a_service(relays):
    relay = relays(routes=[{"domains": ["*"], "deliver": "discard"}])
    relay.write_config()
    made = relay.cli("credential", "add", "--name", "before the first start")
    relay.cli("tenant", "add", "early")
    for args in (["status"], ["queue", "list"], ["queue", "hold", "--all"], ["trace"],
                 ["queue", "retry", "--all"], ["reload"]):
        result = relay.run(*args)
        assert result.returncode == 1 and b"not running" in result.stderr, (args, result)
        assert result.stdout == b""
    answer = relay.run("status", "--json")
    assert json.loads(answer.stdout)["error"]["code"]
    assert relay.cli("events") == {"events": []}
    relay.start()
    client = relay.client(login=False)
    client.login(made["username"], made["password"])
    assert "early" in [t["name"] for t in relay.cli("tenant", "list")["tenants"]]


def test_config_by_environment(routed):
    result = subprocess.run([BINARY, "status", "--json"], capture_output=True, timeout=10,
                            env={**os.environ, "POSTHOUSE_CONFIG": str(routed.config_path)})
    assert json.loads(result.stdout)["status"] == "ok"


def test_help_and_version():
    run = lambda *a: subprocess.run([BINARY, *a], capture_output=True, text=True, timeout=10)
    assert run("help").returncode == 0 and "queue" in run("help").stdout
    assert run("--help").returncode == 0 and run("version").returncode == 0
    assert run("--version").stdout.startswith("posthouse ")
    assert run().returncode == 2
    for command in ("queue", "serve", "sandbox", "credential"):
        assert f"posthouse {command}" in run("help", command).stdout


# ---- the traditional names


def test_sendmail_and_mailq(waiting, sink, place):
    for name in ("sendmail", "mailq", "newaliases"):
        (place / name).symlink_to(BINARY)
    environment = {**os.environ, "POSTHOUSE_CONFIG": str(waiting.config_path)}
    run = lambda *a, **k: subprocess.run([str(place / a[0]), *a[1:]], env=environment,
                                         capture_output=True, timeout=20, **k)
    sent = run("sendmail", "-i", "-f", "cron@sender.test", "b@x.test",
               input=b"Subject: from cron\n\n.\nafter the dot\n")
    assert sent.returncode == 0, sent.stderr
    message = wait_for(lambda: sink.messages, what="delivery")[0]
    assert message.sender == "cron@sender.test" and message.recipients == ["b@x.test"]
    assert message.data.endswith(b"\r\n\r\n.\r\nafter the dot\r\n")
    sent = run("sendmail", "-t", input=b"To: c@x.test\nBcc: d@x.test\nSubject: t\n\nx\n")
    assert sent.returncode == 0, sent.stderr
    wait_for(lambda: len(sink.messages) >= 2, what="delivery")
    assert sorted(sink.messages[1].recipients) == ["c@x.test", "d@x.test"]
    assert b"Bcc" not in sink.messages[1].data
    listed = run("mailq")
    assert listed.returncode == 0 and waiting.message_id.encode() in listed.stdout
    assert run("mailq", "-v", "-Ac").stdout == listed.stdout
    assert run("newaliases").returncode == 0
    for option, value in (("-N", "perhaps"), ("-R", "some"), ("-V", "\u00e4")):
        refused = run("sendmail", option, value, "b@x.test", input=b"Subject: x\n\nx\n")
        assert refused.returncode == 64
        assert f"the value of {option}" in refused.stderr.decode()
    waiting.stop()
    assert run("sendmail", "b@x.test", input=b"Subject: x\n\nx\n").returncode == 75


def crowded(receivers):
    """A site that takes a while, and remembers how many came at once."""
    most = []

    def data(receiver, session, argument):
        with receiver.lock:
            most.append(len(receiver._connections))
        time.sleep(0.15)
        return "250 2.0.0 ok"

    return receivers(script={"END": data}), most


@pytest.mark.parametrize("domains", [["one.test"], [f"d{i}.test" for i in range(8)]])
def test_busy_domains_have_the_whole_limit(relays, receivers, domains):
    """However few threads their domains live on, and never one more."""
    site, most = crowded(receivers)
    relay = relays(trusted_networks=["127.0.0.0/8"],
                   delivery={"threads": 2, "connections_per_site": 8},
                   routes=[{"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{site.port}"}]).start()
    relay.cli("queue", "hold", "--all")
    for i in range(160):
        relay.submit("a@sender.test", f"r{i}@{domains[i % len(domains)]}")
    relay.cli("queue", "release", "--all")
    wait_for(lambda: len(site.messages) == 160, seconds=40, what="all mail")
    assert max(most) == 8
    assert most.count(8) + most.count(7) > 60


def test_sendmail_respects_memory(relays, receivers, place):
    """What waits in the API's hands counts among mail under way, and only while
    it waits."""
    sink = receivers()
    relay = relays(limits={"memory": "4M"}, routes=[
        {"domains": ["*"], "deliver": "smtp", "to": f"127.0.0.1:{sink.port}"}]).start()
    (place / "sendmail").symlink_to(BINARY)
    environment = {**os.environ, "POSTHOUSE_CONFIG": str(relay.config_path)}

    def send(octets):
        return subprocess.run(
            [str(place / "sendmail"), "b@x.test"], env=environment, capture_output=True,
            input=b"Subject: x\n\n" + (b"y" * 99 + b"\n") * (octets // 100), timeout=20)
    for _ in range(3):
        refused = send(6 * 1024 * 1024)
        assert refused.returncode == 75 and b"limits.memory" in refused.stderr
        assert send(2 * 1024 * 1024).returncode == 0
    wait_for(lambda: len(sink.messages) == 3, what="what fits")
