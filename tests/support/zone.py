# SPDX-License-Identifier: Apache-2.0
"""A signed zone: ldns makes keys and signatures, nsd serves it, unbound
validates for those who want a resolver of their own."""
import subprocess

from .ports import free_port
from .waiting import wait_for


def run(*args, cwd=None):
    result = subprocess.run([str(a) for a in args], cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, (args, result.stdout, result.stderr)
    return result.stdout.strip()


class SignedZone:
    """records: lines of a zone file for `origin`, without SOA and NS. Serves
    it on 127.0.0.1 and keeps the trust anchor in `anchor`."""

    def __init__(self, place, origin, records, sign=True):
        self.place, self.origin = place, origin
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.anchor = place / "anchor"
        self.zone = place / "zone"
        self.process = None
        place.mkdir(parents=True, exist_ok=True)
        self.zone.write_text(
            f"$ORIGIN {origin}.\n$TTL 60\n"
            f"@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\n"
            + "\n".join(records) + "\n")
        self.served = self.zone
        self.anchor.write_text("")
        if sign:
            self._sign()

    def _sign(self):
        key = run("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", self.origin, cwd=self.place)
        run("ldns-signzone", "-n", self.zone, self.place / key, cwd=self.place)
        self.served = self.zone.with_name("zone.signed")
        self.anchor.write_text((self.place / f"{key}.ds").read_text())

    def start(self):
        config = self.place / "nsd.conf"
        config.write_text(f"""\
server:
    ip-address: 127.0.0.1@{self.port}
    port: {self.port}
    username: ""
    chroot: ""
    zonesdir: "{self.place}"
    database: ""
    pidfile: "{self.place}/nsd.pid"
    xfrdfile: "{self.place}/xfrd.state"
    zonelistfile: "{self.place}/zone.list"
    logfile: "{self.place}/nsd.log"
    server-count: 1
remote-control:
    control-enable: no
zone:
    name: "{self.origin}"
    zonefile: "{self.served}"
""")
        self.process = subprocess.Popen(["nsd", "-d", "-c", str(config)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self._answers, 15, "nsd answers")
        return self

    def _answers(self):
        import dns.message
        import dns.query
        query = dns.message.make_query(self.origin, "SOA")
        try:
            return dns.query.udp(query, "127.0.0.1", timeout=1, port=self.port).answer
        except Exception:
            return False

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(10)
            self.process = None


class Unbound:
    """A validating resolver that knows some zones and nothing else."""

    def __init__(self, place, *zones):
        self.place, self.zones = place, zones
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        self.place.mkdir(parents=True, exist_ok=True)
        stubs = "".join(
            f'stub-zone:\n    name: "{z.origin}"\n    stub-addr: 127.0.0.1@{z.port}\n'
            for z in self.zones)
        anchors = "".join(f'    trust-anchor-file: "{z.anchor}"\n'
                          for z in self.zones if z.anchor.read_text())
        insecure = "".join(f'    domain-insecure: "{z.origin}"\n'
                           for z in self.zones if not z.anchor.read_text())
        config = self.place / "unbound.conf"
        config.write_text(f"""\
server:
    interface: 127.0.0.1@{self.port}
    port: {self.port}
    username: ""
    chroot: ""
    directory: "{self.place}"
    pidfile: "{self.place}/unbound.pid"
    use-syslog: no
    logfile: "{self.place}/unbound.log"
    do-not-query-localhost: no
    module-config: "validator iterator"
    local-zone: "test." nodefault
    do-daemonize: no
{anchors}{insecure}remote-control:
    control-enable: no
{stubs}""")
        self.process = subprocess.Popen(["unbound", "-d", "-c", str(config)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self._answers, 15, "unbound answers")
        return self

    def _answers(self):
        import dns.message
        import dns.query
        query = dns.message.make_query(self.zones[0].origin, "SOA")
        try:
            return dns.query.udp(query, "127.0.0.1", timeout=1, port=self.port).answer
        except Exception:
            return False

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(10)
            self.process = None
