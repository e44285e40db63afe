# SPDX-License-Identifier: Apache-2.0
"""A client that says exactly what a test wants, byte by byte, and reads
replies strictly: what libraries are too polite to send or too lenient to
notice."""
import base64
import dataclasses
import socket


@dataclasses.dataclass
class Reply:
    code: int
    lines: list

    @property
    def text(self):
        return "\n".join(self.lines)


class Client:
    """Opens a connection; with `greeting` also reads the 220."""

    def __init__(self, port, host="127.0.0.1", context=None, prelude=b"",
                 greeting=True, timeout=10):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.settimeout(timeout)
        self.socket.connect((host, port))
        self.data = b""
        if prelude:
            self.socket.sendall(prelude)
        if context:
            self.start_tls_now(context)
        if greeting:
            self.greeting = self.reply()
            assert self.greeting.code == 220, self.greeting

    def start_tls_now(self, context):
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")

    # ---- bytes

    def send(self, data):
        self.socket.sendall(data)

    def more(self):
        piece = self.socket.recv(65536)
        self.data += piece
        return piece != b""

    def read_until(self, text):
        while text not in self.data and self.more():
            pass
        return self.data

    def rest(self, seconds=1.0):
        """What comes until the end or a silence."""
        self.socket.settimeout(seconds)
        try:
            while self.more():
                pass
        except OSError:
            pass
        return self.data

    def is_closed(self, seconds=5):
        """True when the other side ends the connection without another byte."""
        self.socket.settimeout(seconds)
        try:
            return not self.data and not self.more()
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- the protocol

    def line(self):
        while b"\r\n" not in self.data:
            if not self.more():
                raise EOFError(f"closed amid a reply: {self.data!r}")
        line, self.data = self.data.split(b"\r\n", 1)
        assert b"\r" not in line and b"\n" not in line, line
        return line.decode()

    def reply(self):
        lines, code = [], None
        while True:
            line = self.line()
            assert len(line) >= 4 and line[:3].isdigit() and line[3] in " -", line
            assert code in (None, line[:3]), line
            assert len(line) <= 510, line
            code = line[:3]
            lines.append(line[4:])
            if line[3] == " ":
                return Reply(int(code), lines)

    def command(self, text):
        if isinstance(text, str):
            text = text.encode()
        self.send(text + b"\r\n")
        return self.reply()

    def code(self, text):
        return self.command(text).code

    def ehlo(self, name="client.test", verb="EHLO"):
        """The keywords with their values."""
        reply = self.command(f"{verb} {name}")
        assert reply.code == 250, reply
        return {word: rest for word, _, rest in
                (line.partition(" ") for line in reply.lines[1:])}

    def starttls(self, context):
        assert self.code("STARTTLS") == 220
        self.start_tls_now(context)
        return self

    def login(self, credential):
        token = f"\0{credential['username']}\0{credential['password']}"
        reply = self.command("AUTH PLAIN " + base64.b64encode(token.encode()).decode())
        assert reply.code == 235, reply
        return self

    def envelope(self, sender="a@sender.test", *recipients):
        assert self.code(f"MAIL FROM:<{sender}>") == 250
        for recipient in recipients or ("b@example.test",):
            assert self.code(f"RCPT TO:<{recipient}>") == 250
        return self

    def message(self, data=b"Subject: test\r\n\r\nHello.\r\n"):
        """DATA with these lines, dots stuffed by the caller; the final reply."""
        assert self.code("DATA") == 354
        return self.command(data + b".")
