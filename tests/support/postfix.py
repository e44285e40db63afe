# SPDX-License-Identifier: Apache-2.0
"""A real Postfix of the test's own: Debian's programs with a config, queue and
log directory in a place of ours, never the system's service."""
import os
import pathlib
import shutil
import subprocess
import time

from .ports import free_port
from .waiting import wait_for

MASTER = """\
{listen}      inet  n       -       n       -       -       smtpd
pickup    unix  n       -       n       1       1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       1       1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
proxywrite unix -       -       n       -       1       proxymap
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
local     unix  -       n       n       -       -       local
virtual   unix  -       n       n       -       -       virtual
lmtp      unix  -       -       n       -       -       lmtp
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
"""


def available():
    return os.geteuid() == 0 and shutil.which("postfix") is not None


class Postfix:
    """settings: lines of main.cf by name, over ours."""

    def __init__(self, place, host="127.0.0.1", port=None, **settings):
        self.place = pathlib.Path(place)
        self.host, self.port = host, port or free_port(host)
        self.config = self.place / "etc"
        self.queue = self.place / "queue"
        self.mail = self.place / "mail"
        self.log = self.place / "log" / "mail.log"
        for path in (self.config, self.queue, self.mail, self.log.parent,
                     self.place / "lib"):
            path.mkdir(parents=True, exist_ok=True)
        for path in (self.place, self.mail):
            path.chmod(0o755)
        shutil.chown(self.mail, "nobody", "nogroup")
        shutil.chown(self.place / "lib", "postfix", "postfix")
        self.settings = {
            "compatibility_level": "3.6",
            "queue_directory": self.queue,
            "data_directory": self.place / "lib",
            "command_directory": "/usr/sbin",
            "daemon_directory": "/usr/lib/postfix/sbin",
            "maillog_file": self.log,
            "maillog_file_prefixes": self.place,
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "inet_interfaces": "loopback-only",
            "inet_protocols": "all" if ":" in self.host else "ipv4",
            "myhostname": "postfix.test",
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            "alias_maps": "",
            "alias_database": "",
            "smtputf8_enable": "yes",
            "notify_classes": "",
            "smtpd_peername_lookup": "no",
            **settings,
        }

    def receives(self, *domains):
        """Mail for these domains goes into Maildirs by domain and user."""
        self.settings.update({
            "virtual_mailbox_domains": ", ".join(domains),
            "virtual_mailbox_base": self.mail,
            "virtual_mailbox_maps": "static:all/",
            "virtual_uid_maps": "static:65534",
            "virtual_gid_maps": "static:65534",
            "virtual_minimum_uid": "100",
        })
        return self

    def serves_tls(self, certificate, key):
        self.settings.update({
            "smtpd_tls_security_level": "may",
            "smtpd_tls_cert_file": certificate,
            "smtpd_tls_key_file": key,
            "smtpd_tls_received_header": "yes",
            "smtpd_tls_loglevel": "1",
        })
        return self

    def start(self):
        (self.config / "main.cf").write_text(
            "".join(f"{k} = {v}\n" for k, v in self.settings.items()))
        (self.config / "master.cf").write_text(
            MASTER.format(listen=f"{self.host}:{self.port}"))
        self._postfix("start")
        wait_for(self._listens, 20, "Postfix listens")
        return self

    def _listens(self):
        import socket
        try:
            socket.create_connection((self.host, self.port), 1).close()
            return True
        except OSError:
            return False

    def _postfix(self, command):
        result = subprocess.run(["postfix", "-c", str(self.config), command],
                                capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stdout + result.stderr + self.log_text()

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def stop(self):
        if not (self.queue / "pid" / "master.pid").exists():
            return
        pid = int((self.queue / "pid" / "master.pid").read_text())
        subprocess.run(["postfix", "-c", str(self.config), "stop"],
                       capture_output=True, timeout=60)
        end = time.monotonic() + 10
        while pathlib.Path(f"/proc/{pid}").exists() and time.monotonic() < end:
            time.sleep(0.05)

    def messages(self):
        """Files delivered so far."""
        return sorted(self.mail.glob("all/new/*"))

    def flush(self):
        subprocess.run(["postqueue", "-c", str(self.config), "-f"], timeout=30)

    def sendmail(self, sender, recipient, message):
        subprocess.run(["sendmail", "-C", str(self.config), "-i", "-f", sender, recipient],
                       input=message, check=True, timeout=30)
