# SPDX-License-Identifier: Apache-2.0
"""What is measured: the tools without a relay, posthouse, Postfix."""
import json
import os
import pathlib
import pwd
import shutil
import socket
import subprocess

from .host import (command, cpu_seconds, end_strays, free_port, process_tree,
                   stop_process, wait_for_banner)
from .tools import Sink, posthouse_binary

MASTER = pathlib.Path("/usr/lib/postfix/sbin/master")


def make_certificate(build, directory):
    paths = directory / "certificate.pem", directory / "key.pem"
    command(build / "bench" / "make_certificate", "relay.bench.invalid", *paths)
    return paths


class Straight:
    """No relay: what generator and sink can do."""
    title = "straight"

    def __init__(self, build, directory):
        directory.mkdir()
        self.sink = Sink(build, directory / "sink")
        self.port = self.sink.port

    def cpu_seconds(self):
        return 0.0

    def stop(self):
        self.sink.stop()


class Posthouse:
    """One service with a sink of its own. `extra` is laid over the config: of
    `routes`, which come before the one to the sink, and of whole sections.
    TLS: from the generator and to the sink. `logins`: a second listener,
    `tls_port`, where clients can log in."""
    title = "posthouse"

    def __init__(self, build, directory, tls=False, logins=False, extra=None,
                 sink=()):
        directory.mkdir()
        directory.chmod(0o755)
        self.directory, self.data = directory, directory / "data"
        self.binary = posthouse_binary(build)
        self.port, self.tls_port = free_port(), free_port()
        self.sink = Sink(build, directory / "sink",
                         *["--starttls"] * tls, *sink)
        self.process = None
        settings = self.settings(build, tls, logins)
        extra = dict(extra or {})
        settings["routes"] = extra.pop("routes", []) + settings["routes"]
        self.config = directory / "posthouse.yaml"
        # JSON is YAML.
        self.config.write_text(json.dumps(settings | extra, indent=1))
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def settings(self, build, tls, logins):
        plain = {"address": f"127.0.0.1:{self.port}", "service": "submission",
                 "tls": "starttls" if tls else "none"}
        secured = {"address": f"127.0.0.1:{self.tls_port}",
                   "service": "submission", "tls": "starttls"}
        route = {"domains": ["*"], "deliver": "smtp",
                 "to": f"127.0.0.1:{self.sink.port}", "tls": "none"}
        if tls:
            route |= {"tls": "require", "tls_verify": False}
        settings = {
            "hostname": "relay.bench.invalid",
            "data_dir": str(self.data),
            "user": "nobody",
            "listeners": [plain] + [secured] * logins,
            "trusted_networks": ["127.0.0.0/8"],
            "routes": [route],
            # The generator's bodies are all alike: stored once, they would
            # measure that.
            "limits": {"shared_bodies": 0},
        }
        if tls or logins:
            certificate, key = make_certificate(build, self.directory)
            settings["tls"] = {"certificate": str(certificate),
                               "private_key": str(key)}
        return settings

    def start(self, wait=True):
        log = self.directory / "log"
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--config", self.config],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        if wait:
            wait_for_banner(self.port, self.process, log)

    @property
    def pid(self):
        return self.process.pid

    def cpu_seconds(self):
        return cpu_seconds(self.pid)

    def cli(self, *words):
        """A command's answer."""
        return json.loads(command(self.binary, *words, "--config", self.config,
                                  "--json"))

    def metrics(self):
        """The numbers of /metrics, without their prefix."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60)
            s.connect(str(self.data / "control.sock"))
            s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = s.makefile().read()
        numbers = {}
        for line in text.splitlines():
            name, _, value = line.partition(" ")
            if name.startswith("posthouse_") and "{" not in name:
                numbers[name.removeprefix("posthouse_")] = float(value)
        return numbers

    def stop_service(self, seconds=120):
        if self.process:
            stop_process(self.process, seconds)
            self.process = None

    def stop(self):
        self.stop_service()
        self.sink.stop()


class Postfix:
    """Debian's files under a configuration and a queue of their own."""
    title = "Postfix"

    MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/log
maillog_file_prefixes = {directory}
myhostname = relay.bench.invalid
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{sink}
# Faster than as delivered: no name lookups, no pause when mail comes in faster
# than it goes out, all connections to the next hop from the start.
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
in_flow_delay = 0s
initial_destination_concurrency = 20
# As delivered, and the same as posthouse's: 20 connections to the next hop.
default_destination_concurrency_limit = 20
default_process_limit = 100
smtp_connection_cache_on_demand = yes
smtpd_tls_security_level = none
smtp_tls_security_level = none
"""
    SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup     unix n - n 60    1 pickup
cleanup    unix n - n -     0 cleanup
qmgr       unix n - n 300   1 qmgr
tlsmgr     unix - - n 1000? 1 tlsmgr
tlsproxy   unix - - n -     0 tlsproxy
rewrite    unix - - n -     - trivial-rewrite
bounce     unix - - n -     0 bounce
defer      unix - - n -     0 bounce
trace      unix - - n -     0 bounce
verify     unix - - n -     1 verify
flush      unix n - n 1000? 0 flush
proxymap   unix - - n -     - proxymap
proxywrite unix - - n -     1 proxymap
smtp       unix - - n -     - smtp
relay      unix - - n -     - smtp
showq      unix n - n -     - showq
error      unix - - n -     - error
retry      unix - - n -     - error
discard    unix - - n -     - discard
anvil      unix - - n -     1 anvil
scache     unix - - n -     1 scache
postlog    unix-dgram n - n - 1 postlogd
"""

    def __init__(self, build, directory):
        directory.mkdir()
        directory.chmod(0o755)
        self.sink = Sink(build, directory / "sink")
        self.port = free_port()
        self.process = None
        etc = directory / "etc"
        for name in ("etc", "queue", "data"):
            (directory / name).mkdir()
            (directory / name).chmod(0o755)
        owner = pwd.getpwnam("postfix")
        os.chown(directory / "data", owner.pw_uid, owner.pw_gid)
        (etc / "main.cf").write_text(
            self.MAIN.format(directory=directory, sink=self.sink.port))
        (etc / "master.cf").write_text(self.SERVICES.format(port=self.port))
        try:
            self.start(etc, directory / "log")
        except BaseException:
            self.stop()
            raise

    def start(self, etc, log):
        # Makes the queue's directories with their owners.
        command("postfix", "-c", etc, "check")
        # -s: in the foreground, as a child of ours.
        self.process = subprocess.Popen(
            [MASTER, "-c", etc, "-s"], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_banner(self.port, self.process, log)

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid)

    def stop(self):
        if self.process:
            services = process_tree(self.process.pid) - {self.process.pid}
            stop_process(self.process)  # it ends its services
            end_strays(services, self.process.pid)
        self.sink.stop()


def why_no_postfix():
    if os.geteuid() != 0:
        return "Postfix can only be started by root"
    if not MASTER.exists() or shutil.which("postfix") is None:
        return "Postfix is not installed (tools/install-packages bench)"
    return None


def postfix_version():
    return command("postconf", "-dh", "mail_version").strip()
