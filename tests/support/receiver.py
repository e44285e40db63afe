# SPDX-License-Identifier: Apache-2.0
"""A receiving SMTP (or LMTP) server that does what a test tells it.

`script` maps a verb ("BANNER", "EHLO", "MAIL", "RCPT", "DATA", "END", …) to a
reply, to a list of replies used one after the other (the last stays), or to a
function (receiver, session, argument) -> reply. A reply is text without CRLF,
possibly several lines joined by "\\n"; None closes the connection at once;
bytes are sent raw. Everything accepted is kept in `messages`."""
import dataclasses
import socket
import ssl
import threading
import time

from .ports import free_port

KEYWORDS = ("PIPELINING", "SIZE 60000000", "8BITMIME", "SMTPUTF8", "DSN",
            "ENHANCEDSTATUSCODES", "CHUNKING")


@dataclasses.dataclass
class Message:
    sender: str
    recipients: list
    data: bytes
    mail_parameters: str = ""
    rcpt_parameters: list = dataclasses.field(default_factory=list)
    tls: str = ""
    chunked: bool = False
    helo: str = ""
    at: float = 0.0


@dataclasses.dataclass
class Session:
    number: int
    peer: tuple
    helo: str = ""
    sender: str = None
    mail_parameters: str = ""
    recipients: list = dataclasses.field(default_factory=list)
    rcpt_parameters: list = dataclasses.field(default_factory=list)
    tls: str = ""
    authenticated: bool = False
    commands: list = dataclasses.field(default_factory=list)
    chunks: bytes = b""


class Closed(Exception):
    pass


class Receiver:
    def __init__(self, host="127.0.0.1", port=None, keywords=KEYWORDS, script=None,
                 tls=False, authority=None, name="mx.test", lmtp=False, unix=None,
                 auth=None, mechanisms="PLAIN LOGIN", backlog=100):
        self.host, self.unix = host, unix
        self.port = None if unix else port or free_port(host)
        self.keywords = list(keywords)
        self.script = dict(script or {})
        self.lmtp, self.auth, self.backlog = lmtp, auth, backlog
        self.mechanisms = mechanisms
        self.messages, self.sessions, self.errors = [], [], []
        self.lock = threading.Lock()
        self._uses = {}
        self._stop = threading.Event()
        self._context = None
        self._connections = set()
        if tls:
            certificate, key = authority.issue(name)
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate, key)
            self.keywords.append("STARTTLS")

    # ---- life

    def start(self):
        if self.unix:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self.unix))
        else:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            self._listener = socket.socket(family)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((self.host, self.port))
        self._listener.listen(self.backlog)
        self._listener.settimeout(0.2)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def stop(self):
        self._stop.set()
        if getattr(self, "_listener", None) is None:
            return
        self._thread.join()
        self._listener.close()
        self._listener = None
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def restart(self):
        self._stop = threading.Event()
        self.start()

    def _accept(self):
        while not self._stop.is_set():
            try:
                connection, peer = self._listener.accept()
            except OSError:
                continue
            if not self.unix:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                session = Session(len(self.sessions), peer)
                self.sessions.append(session)
            threading.Thread(target=self._run, args=(connection, session),
                             daemon=True).start()

    def _run(self, connection, session):
        self._connections.add(connection)
        connection.settimeout(60)
        try:
            Conversation(self, connection, session).run()
        except (Closed, OSError):
            pass
        except Exception as error:  # a defect of the test itself
            self.errors.append(error)
            raise
        finally:
            self._connections.discard(connection)
            connection.close()

    # ---- what the script says

    def reply(self, verb, session, argument, default):
        entry = self.script.get(verb, default)
        if isinstance(entry, list):
            with self.lock:
                use = self._uses.get(verb, 0)
                self._uses[verb] = use + 1
            entry = entry[min(use, len(entry) - 1)]
        if callable(entry):
            entry = entry(self, session, argument)
        return entry


class Conversation:
    def __init__(self, receiver, connection, session):
        self.receiver, self.session = receiver, session
        self.connection = connection
        self.input = b""

    def send(self, reply):
        if reply is None:
            raise Closed
        if isinstance(reply, bytes):
            self.connection.sendall(reply)
            return
        code, text = reply[:3], reply[4:].split("\n")
        lines = [f"{code}-{line}" for line in text[:-1]] + [f"{code} {text[-1]}"]
        self.connection.sendall("".join(l + "\r\n" for l in lines).encode("utf-8"))

    def more(self):
        piece = self.connection.recv(65536)
        if not piece:
            raise Closed
        self.input += piece

    def line(self):
        while b"\r\n" not in self.input:
            self.more()
        line, self.input = self.input.split(b"\r\n", 1)
        return line

    def exactly(self, count):
        while len(self.input) < count:
            self.more()
        piece, self.input = self.input[:count], self.input[count:]
        return piece

    def run(self):
        self.answer("BANNER", "", "220 test receiver")
        while True:
            line = self.line().decode("utf-8", "surrogateescape")
            self.session.commands.append(line)
            verb, _, argument = line.partition(" ")
            handler = getattr(self, "on_" + verb.lower(), None)
            if handler is None:
                self.send("500 5.5.2 unknown command")
            else:
                handler(argument)

    def answer(self, verb, argument, default):
        reply = self.receiver.reply(verb, self.session, argument, default)
        self.send(reply)
        return isinstance(reply, str) and reply[0] in "23"

    def on_ehlo(self, argument):
        self.session.helo = argument
        keywords = [k for k in self.receiver.keywords
                    if k != "STARTTLS" or not self.session.tls]
        if self.receiver.auth:
            keywords.append("AUTH " + self.receiver.mechanisms)
        self.answer("EHLO", argument, "250 " + "\n".join(["test receiver"] + keywords))

    on_lhlo = on_ehlo

    def on_helo(self, argument):
        self.session.helo = argument
        self.answer("HELO", argument, "250 test receiver")

    def on_starttls(self, argument):
        if not self.answer("STARTTLS", argument, "220 2.0.0 go ahead"):
            return
        self.connection = self.receiver._context.wrap_socket(
            self.connection, server_side=True)
        self.input = b""
        self.session.tls = self.connection.version()

    def on_auth(self, argument):
        import base64
        mechanism, _, initial = argument.partition(" ")
        if mechanism == "PLAIN":
            if not initial:
                self.send("334 ")
                initial = self.line().decode()
            _, user, password = base64.b64decode(initial).decode().split("\0")
        else:
            self.send("334 VXNlcm5hbWU6")
            user = base64.b64decode(self.line()).decode()
            self.send("334 UGFzc3dvcmQ6")
            password = base64.b64decode(self.line()).decode()
        self.session.authenticated = (user, password) == self.receiver.auth
        self.send("235 2.7.0 ok" if self.session.authenticated else "535 5.7.8 no")

    @staticmethod
    def path(argument):
        path, _, parameters = argument.partition(":")[2].strip().partition(">")
        return path.lstrip("<"), parameters.strip()

    def on_mail(self, argument):
        sender, parameters = self.path(argument)
        if self.receiver.auth and not self.session.authenticated:
            self.send("530 5.7.0 authentication required")
            return
        if self.answer("MAIL", argument, "250 2.1.0 ok"):
            self.session.sender, self.session.mail_parameters = sender, parameters
            self.session.recipients, self.session.rcpt_parameters = [], []
            self.session.chunks = b""

    def on_rcpt(self, argument):
        recipient, parameters = self.path(argument)
        if self.answer("RCPT", recipient, "250 2.1.5 ok"):
            self.session.recipients.append(recipient)
            self.session.rcpt_parameters.append(parameters)

    def on_data(self, argument):
        if not self.session.recipients:
            self.send("554 5.5.1 no valid recipients")
            return
        if not self.answer("DATA", argument, "354 go ahead"):
            return
        lines = []
        while (line := self.line()) != b".":
            lines.append(line[1:] if line.startswith(b".") else line)
        self.finish(b"".join(l + b"\r\n" for l in lines), False)

    def on_bdat(self, argument):
        size, _, last = argument.partition(" ")
        self.session.chunks += self.exactly(int(size))
        if not self.session.recipients:
            self.send("554 5.5.1 no valid recipients")
        elif last.upper() == "LAST":
            self.finish(self.session.chunks, True)
        else:
            self.answer("BDAT", argument, "250 2.0.0 ok")

    def finish(self, data, chunked):
        message = Message(self.session.sender, list(self.session.recipients), data,
                          self.session.mail_parameters,
                          list(self.session.rcpt_parameters), self.session.tls,
                          chunked, self.session.helo, time.monotonic())
        rounds = message.recipients if self.receiver.lmtp else [""]
        for recipient in rounds:
            reply = self.receiver.reply("END", self.session, recipient or message,
                                        "250 2.0.0 taken")
            if reply is not None and isinstance(reply, str) and reply[0] == "2":
                with self.receiver.lock:
                    kept = dataclasses.replace(
                        message, recipients=[recipient] if recipient else message.recipients)
                    self.receiver.messages.append(kept)
            self.send(reply)
        self.session.sender = None

    def on_rset(self, argument):
        self.session.sender, self.session.recipients = None, []
        self.answer("RSET", argument, "250 2.0.0 ok")

    def on_noop(self, argument):
        self.answer("NOOP", argument, "250 2.0.0 ok")

    def on_quit(self, argument):
        self.answer("QUIT", argument, "221 2.0.0 bye")
        raise Closed
