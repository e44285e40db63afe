# SPDX-License-Identifier: Apache-2.0
"""Real clients submit: swaks, curl, msmtp, smtplib, nodemailer, Postfix, and the
sendmail shim; each by STARTTLS and by implicit TLS where it can."""
import json
import os
import pathlib
import shutil
import smtplib
import subprocess

import pytest

from support import postfix
from support.relay import BINARY
from support.waiting import wait_for

JS = pathlib.Path(__file__).parent / "js"
TEXT = "From: a@sender.test\nTo: b@example.test\nSubject: interop\n\n.dot\nHello.\n"


def need(program):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


@pytest.fixture
def setup(relays, receivers):
    sink = receivers()
    relay = relays(routes=[{"domains": ["*"], "deliver": "smtp",
                            "to": f"127.0.0.1:{sink.port}"}]).start()
    relay.sink = sink
    return relay


def run(*args, input=None, env=None):
    result = subprocess.run([str(a) for a in args], input=input, capture_output=True,
                            text=True, timeout=60, env=env)
    assert result.returncode == 0, (args, result.stdout, result.stderr)
    return result.stdout


def arrived(relay, count=1):
    return wait_for(lambda: len(relay.sink.messages) >= count and relay.sink.messages,
                    what="delivery")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("how", ["starttls", "implicit"])
def test_swaks(setup, how, mechanism):
    need("swaks")
    c = setup.credential()
    tls = ["--tls"] if how == "starttls" else ["--tls-on-connect"]
    out = run("swaks", "--server", "127.0.0.1", "--port",
              setup.port if how == "starttls" else setup.port_tls, *tls,
              "--auth", mechanism, "--auth-user", c["username"],
              "--auth-password", c["password"], "--from", "a@sender.test",
              "--to", "b@example.test")
    assert "250 2.0.0" in out
    assert arrived(setup)[0].recipients == ["b@example.test"]


@pytest.mark.parametrize("how", ["starttls", "implicit"])
def test_curl(setup, how):
    need("curl")
    c = setup.credential()
    url = (f"smtp://localhost:{setup.port}" if how == "starttls"
           else f"smtps://localhost:{setup.port_tls}")
    port = setup.port if how == "starttls" else setup.port_tls
    run("curl", "--silent", "--show-error", "--ssl-reqd", "--cacert",
        setup.authority.certificate, "--connect-to", f"localhost:{port}:127.0.0.1:{port}",
        "--user", f"{c['username']}:{c['password']}", "--mail-from", "a@sender.test",
        "--mail-rcpt", "b@example.test", "--upload-file", "-", url,
        input=TEXT.replace("\n", "\r\n"))
    assert arrived(setup)[0].data.endswith(b".dot\r\nHello.\r\n")


@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256"])
@pytest.mark.parametrize("how", ["starttls", "implicit"])
def test_msmtp(setup, place, how, mechanism):
    need("msmtp")
    c = setup.credential()
    config = place / "msmtprc"
    config.write_text(f"""\
account default
host localhost
port {setup.port if how == "starttls" else setup.port_tls}
tls on
tls_starttls {"on" if how == "starttls" else "off"}
tls_trust_file {setup.authority.certificate}
auth {mechanism}
user {c['username']}
password {c['password']}
from a@sender.test
""")
    config.chmod(0o600)
    run("msmtp", "-C", config, "b@example.test", input=TEXT)
    assert arrived(setup)[0].sender == "a@sender.test"


@pytest.mark.parametrize("implicit", [False, True])
def test_smtplib(setup, implicit):
    with setup.client(implicit=implicit) as client:
        client.sendmail("a@sender.test", ["b@example.test", "c@example.test"], TEXT)
    assert arrived(setup)[0].recipients == ["b@example.test", "c@example.test"]


@pytest.fixture(scope="session")
def node():
    need("node")
    need("npm")
    if not (JS / "node_modules" / "nodemailer").is_dir():
        try:
            got = subprocess.run(["npm", "ci", "--prefix", str(JS)], capture_output=True,
                                 text=True, timeout=120)
        except subprocess.TimeoutExpired:
            pytest.skip("nodemailer comes by `npm ci`, and npm's registry does not answer")
        if got.returncode != 0 and "network" in got.stderr:
            pytest.skip("nodemailer comes by `npm ci`, and npm's registry cannot be "
                        "reached")
        assert got.returncode == 0, got.stderr
    return JS


@pytest.mark.parametrize("implicit", [False, True])
def test_nodemailer(setup, node, implicit):
    c = setup.credential()
    order = {
        "transport": {"host": "localhost", "secure": implicit, "requireTLS": True,
                      "port": setup.port_tls if implicit else setup.port,
                      "auth": {"user": c["username"], "pass": c["password"]},
                      "tls": {"ca": setup.authority.certificate.read_text()}},
        "message": {"from": "A <a@sender.test>", "to": "b@example.test",
                    "subject": "gr\u00fc\u00dfe", "text": "Hello \u00e4\n.dot\n",
                    "html": "<p>Hello</p>"},
    }
    answer = json.loads(run("node", node / "send.mjs", json.dumps(order)))
    assert answer["response"].startswith("250 2.0.0")
    assert b"multipart/alternative" in arrived(setup)[0].data


def test_postfix_as_a_client(setup, place):
    if not postfix.available():
        pytest.skip("Postfix needs root")
    c = setup.credential()
    passwords = place / "passwords"
    passwords.write_text(f"[localhost]:{setup.port} {c['username']}:{c['password']}\n")
    peer = postfix.Postfix(
        place / "postfix", relayhost=f"[localhost]:{setup.port}",
        smtp_tls_security_level="verify", smtp_tls_CAfile=setup.authority.certificate,
        smtp_tls_loglevel="1", smtp_host_lookup="native",
        smtp_sasl_auth_enable="yes", smtp_sasl_security_options="noanonymous",
        smtp_sasl_password_maps=f"texthash:{passwords}", smtp_sasl_type="cyrus")
    try:
        peer.start()
        with smtplib.SMTP(peer.host, peer.port) as client:
            client.sendmail("a@sender.test", ["b@example.test"], TEXT)
        try:
            assert arrived(setup)[0].recipients == ["b@example.test"]
        except AssertionError:
            raise AssertionError(peer.log_text()[-3000:])
    finally:
        peer.stop()


def test_the_sendmail_shim(setup, place):
    shim = place / "sendmail"
    shim.symlink_to(BINARY)
    env = {"POSTHOUSE_CONFIG": str(setup.config_path), "PATH": "/usr/bin:/bin"}
    run(shim, "-i", "-f", "a@sender.test", "b@example.test", input=TEXT, env=env)
    run(shim, "-t", "-oi", input=TEXT.replace("b@", "c@") , env=env)
    messages = arrived(setup, 2)
    assert {m.recipients[0] for m in messages} == {"b@example.test", "c@example.test"}
    assert all(m.data.endswith(b".dot\r\nHello.\r\n") for m in messages)


def test_the_sendmail_shim_of_an_ordinary_user(setup, place):
    """cron's and everybody's: submission only, by a socket of its own."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    # A copy: the build may stand where only root comes.
    shim = place / "sendmail"
    shutil.copy(BINARY, shim)
    setup.config_path.chmod(0o644)
    env = {"POSTHOUSE_CONFIG": str(setup.config_path), "PATH": "/usr/bin:/bin"}
    result = subprocess.run([str(shim), "-t", "-i"], input=TEXT, text=True, env=env,
                            capture_output=True, user="games", group="games",
                            extra_groups=[], timeout=30)
    assert result.returncode == 0, result.stderr
    assert arrived(setup)[0].recipients == ["b@example.test"]
    assert setup.wait_event(type="accepted")["user"] == "games"
    program = place / "posthouse"
    shutil.copy(BINARY, program)
    listing = subprocess.run([str(program), "queue", "list", "--config", str(setup.config_path)],
                             capture_output=True, text=True, user="games", group="games",
                             extra_groups=[], timeout=30)
    assert listing.returncode == 1 and "permission" in listing.stderr.lower()
    for name in ("spool", "events", "directory.db"):
        assert (setup.data_dir / name).stat().st_mode & 0o007 == 0, name
