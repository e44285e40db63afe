# SPDX-License-Identifier: Apache-2.0
"""An authoritative name server in a thread: answers from a table, or with the
rcode, silence or bytes that a test wants."""
import socket
import struct
import threading

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from .ports import free_port


class NameServer:
    def __init__(self):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.records = {}      # (name, type) -> list of rdata texts
        self.names = set()     # names that exist
        self.rcodes = {}       # name -> rcode text, "DROP": silence
        self.queries = []      # (name, type)
        self.ttl = 60
        self._stop = threading.Event()

    def add(self, name, kind, *rdata):
        name = name.lower().rstrip(".") + "."
        self.records.setdefault((name, kind), []).extend(rdata)
        self.names.add(name)

    def mail_domain(self, domain, host, address, preference=10):
        """MX and address of one domain with one host."""
        self.add(domain, "MX", f"{preference} {host}.")
        if (host + ".", "A") not in self.records:
            self.add(host, "A", address)

    def fail(self, name, rcode):
        self.rcodes[name.lower().rstrip(".") + "."] = rcode

    def heal(self, name):
        self.rcodes.pop(name.lower().rstrip(".") + ".", None)

    def answer(self, wire):
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text().lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.queries.append((name, kind))
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA
        rcode = self.rcodes.get(name)
        if rcode == "DROP":
            return None
        if rcode:
            response.set_rcode(dns.rcode.from_text(rcode))
            return response.to_wire()
        self._fill(response, name, kind)
        return response.to_wire(max_size=65535)

    def _fill(self, response, name, kind):
        for _ in range(8):
            if (name, kind) in self.records:
                response.answer.append(dns.rrset.from_text(
                    name, self.ttl, "IN", kind, *self.records[name, kind]))
                return
            alias = self.records.get((name, "CNAME"))
            if not alias:
                break
            response.answer.append(
                dns.rrset.from_text(name, self.ttl, "IN", "CNAME", *alias))
            name = alias[0].lower()
        if name not in self.names:
            response.set_rcode(dns.rcode.NXDOMAIN)
        response.authority.append(dns.rrset.from_text(
            ".", self.ttl, "IN", "SOA", "ns. root. 1 3600 600 86400 60"))

    def _serve_udp(self):
        while not self._stop.is_set():
            try:
                wire, peer = self._udp.recvfrom(4096)
                answer = self.answer(wire)
                if answer and len(answer) > 1232:
                    short = dns.message.make_response(dns.message.from_wire(wire))
                    short.flags |= dns.flags.TC
                    answer = short.to_wire()
                if answer:
                    self._udp.sendto(answer, peer)
            except OSError:
                continue

    def _serve_tcp(self):
        while not self._stop.is_set():
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                continue
            with connection:
                try:
                    connection.settimeout(2)
                    size, = struct.unpack("!H", connection.recv(2))
                    answer = self.answer(connection.recv(size))
                    if answer:
                        connection.sendall(struct.pack("!H", len(answer)) + answer)
                except (OSError, struct.error):
                    continue

    def __enter__(self):
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        self._udp.settimeout(0.2)
        self._tcp = socket.socket()
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._tcp.bind(("127.0.0.1", self.port))
        self._tcp.listen()
        self._tcp.settimeout(0.2)
        self._threads = [threading.Thread(target=target, daemon=True)
                         for target in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()
