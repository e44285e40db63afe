# SPDX-License-Identifier: Apache-2.0
"""A posthouse service of a test's own: config, start, stop, commands."""
import json
import os
import pathlib
import signal
import smtplib
import ssl
import subprocess
import time

from .ports import free_port
from .waiting import wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("POSTHOUSE", str(ROOT / "build" / "posthouse"))


def merged(base, extra):
    result = dict(base)
    for key, value in extra.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


class Relay:
    def __init__(self, directory, authority, config):
        self.directory = directory
        self.directory.mkdir(parents=True)
        self.authority = authority
        self.data_dir = directory / "data"
        self.config_path = directory / "posthouse.yaml"
        self.log_path = directory / "log"
        self.port, self.port_tls, self.port_mx = (free_port() for _ in range(3))
        certificate, key = authority.issue("relay.test", "localhost")
        self.config = merged({
            "hostname": "relay.test",
            "data_dir": str(self.data_dir),
            "user": "nobody",
            "tls": {"certificate": str(certificate), "private_key": str(key)},
            "listeners": [
                {"address": f"127.0.0.1:{self.port}", "service": "submission",
                 "tls": "starttls"},
                {"address": f"127.0.0.1:{self.port_tls}", "service": "submission",
                 "tls": "implicit"},
                {"address": f"127.0.0.1:{self.port_mx}", "service": "mx",
                 "tls": "starttls"},
            ],
            "delivery": {"private_networks": "allow"},
            "log": {"level": "debug"},
        }, config)
        self.process = None
        self._credential = None

    # ---- life

    def write_config(self):
        # JSON is YAML.
        self.config_path.write_text(json.dumps(self.config, indent=1))

    def start(self, expect_ready=True, wrapper=()):
        self.write_config()
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            [*wrapper, BINARY, "serve", "--config", str(self.config_path)],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        if expect_ready:
            before = self.log_text().count(" ready")
            self._await_ready(before)
        return self

    def _await_ready(self, before):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"the relay ended:\n{self.log_text()[-4000:]}")
            try:
                return self.api_ok()
            except OSError:
                return False
        wait_for(ready, 20, "the relay is ready")

    def api_ok(self):
        import socket
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(2)
            s.connect(str(self.data_dir / "control.sock"))
            s.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            return b" 200 " in s.recv(4096)

    def log_text(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def stop(self, seconds=20):
        """Orderly end; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(seconds)
        self.process = None
        return status

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def reload(self):
        self.write_config()
        self.process.send_signal(signal.SIGHUP)

    def close(self):
        if self.process is None:
            return
        crashed = self.process.poll()
        if crashed is None:
            self.process.kill()
            self.process.wait()
        self.process = None
        assert crashed is None, (
            f"the relay ended by itself with {crashed}:\n{self.log_text()[-4000:]}")

    # ---- commands

    def run(self, *args, input=None):
        return subprocess.run(
            [BINARY, args[0], *map(str, args[1:]), "--config", str(self.config_path)],
            input=input, capture_output=True, timeout=60)

    def cli(self, *args):
        """A command's answer as JSON; fails when the command does."""
        result = self.run(*args, "--json")
        assert result.returncode == 0, (args, result.stdout, result.stderr)
        return json.loads(result.stdout)

    def credential(self, **options):
        if options or self._credential is None:
            flags = [x for k, v in options.items() for x in (f"--{k}", v)]
            made = self.cli("credential", "add", *flags)
            if options:
                return made
            self._credential = made
        return self._credential

    def events(self, **wanted):
        """Events as dictionaries, straight from the files, filtered."""
        lines = []
        for path in sorted((self.data_dir / "events").glob("*.jsonl")):
            for line in path.read_text().splitlines():
                event = json.loads(line)
                if all(event.get(k) == v for k, v in wanted.items()):
                    lines.append(event)
        return lines

    def wait_event(self, seconds=15, **wanted):
        return wait_for(lambda: self.events(**wanted), seconds, f"event {wanted}")[0]

    # ---- clients

    def tls_context(self):
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        return context

    def client(self, implicit=False, login=True):
        """A connected smtplib client, TLS on, logged in."""
        if implicit:
            client = smtplib.SMTP_SSL("localhost", self.port_tls, timeout=30,
                                      context=self.tls_context())
        else:
            client = smtplib.SMTP("localhost", self.port, timeout=30)
            client.starttls(context=self.tls_context())
        if login:
            c = self.credential()
            client.login(c["username"], c["password"])
        return client

    def submit(self, sender, recipients, data=None, mail_options=(), rcpt_options=()):
        """Sends one message; returns the id in the reply."""
        if isinstance(recipients, str):
            recipients = [recipients]
        if data is None:
            data = (f"From: {sender}\r\nTo: {recipients[0]}\r\n"
                    "Subject: test\r\n\r\nHello.\r\n")
        if isinstance(data, str):
            data = data.encode()
        client = self.client()
        client.ehlo_or_helo_if_needed()
        code, text = client.mail(sender, list(mail_options))
        assert code == 250, (code, text)
        for recipient in recipients:
            code, text = client.rcpt(recipient, list(rcpt_options))
            assert code == 250, (code, text)
        code, text = client.data(data)
        assert code == 250, (code, text)
        client.quit()
        return text.split()[1].decode()

    def queue_empty(self):
        totals = self.cli("queue", "summary")["totals"]
        return totals["deliveries"] == totals["in_flight"] == 0
