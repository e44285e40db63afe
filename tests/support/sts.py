# SPDX-License-Identifier: Apache-2.0
"""Domains that publish policies by MTA-STS, and a relay that sends to them."""
import http.server
import ssl
import threading

from .ports import free_port

HOST = "127.0.0.8"


class PolicyHost:
    """HTTPS for any number of domains on one address; `answers` maps a host to
    (status, headers, body) or to a function of no argument that gives that."""

    def __init__(self, authority, *domains):
        self.answers, self.asked = {}, []
        handler = type("Handler", (http.server.BaseHTTPRequestHandler,),
                       {"do_GET": lambda request: self.get(request),
                        "log_message": lambda *_: None})
        self.server = http.server.ThreadingHTTPServer((HOST, free_port(HOST)), handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue(*(f"mta-sts.{d}" for d in domains)))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def get(self, request):
        host = request.headers["Host"].partition(":")[0]
        self.asked.append((host, request.path))
        answer = self.answers[host]
        status, headers, body = answer() if callable(answer) else answer
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def publish(self, domain, mode, *mx, max_age=86400, **changes):
        text = f"version: STSv1\nmode: {mode}\nmax_age: {max_age}\n"
        body = (text + "".join(f"mx: {m}\n" for m in mx)).encode()
        self.answers[f"mta-sts.{domain}"] = (
            changes.get("status", 200), {"Content-Type": "text/plain", **changes.get("headers", {})},
            changes.get("body", body))

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Scene:
    def __init__(self, relays, receivers, dns, authority, domains):
        self.dns, self.authority = dns, authority
        self.web = PolicyHost(authority, *domains)
        self.port = free_port("127.0.0.2")
        self.receivers = receivers
        self.relays = relays
        self.relay = None

    def start(self, **more):
        self.relay = self.relays(
            resolver={"servers": [self.dns.address], "dnssec": False},
            retry={"schedule": ["1h"]},
            mta_sts={"ca_file": str(self.authority.certificate), "port": self.web.port,
                     "fetch_time": "2s"},
            routes=[{"domains": ["*"], "deliver": "mx", "port": self.port}], **more).start()
        return self.relay

    def domain(self, domain, mx, address, name=None, tls=True):
        """A domain with a record, whose MX shows a certificate for `name`."""
        self.dns.mail_domain(domain, mx, address)
        self.dns.add(f"mta-sts.{domain}", "A", HOST)
        self.dns.add(f"_mta-sts.{domain}", "TXT", '"v=STSv1; id=1;"')
        return self.receivers(host=address, port=self.port, tls=tls, name=name or mx)

    def send(self, domain, end, recipient="u"):
        self.relay.submit("a@sender.test", f"{recipient}@{domain}")
        return self.relay.wait_event(recipient=f"{recipient}@{domain}", type=end)
