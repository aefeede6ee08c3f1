"""Sends messages over many SMTP sessions at once, and measures: one process, nothing but that.

    python bench/smtp_load.py '{"host": "192.0.2.1", "port": 587, "messages": 100, ...}'

The argument is an `Order`; printed is one line of JSON, a `Sent`. Each session logs in as a user of its own, sends as
many messages as the order says, pipelined as far as SMTP allows (RFC 2920), and begins anew. With a rate there is one
session, and messages have times at which they are due.
"""

from __future__ import annotations

import base64
import json
import select
import socket
import ssl
import sys
import time
from collections import Counter, deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Final

PATIENCE_SECONDS: Final = 180.0
"""As long nothing at all may happen."""
_MOST_REFUSALS: Final = 1000
_OK: Final = 250
_GO_ON: Final = 354
_LINE: Final = b"Please find the report of this quarter below, with thanks and kind regards.\r\n"

_EHLO: Final = b"EHLO client.example.org\r\n"

Replies = Sequence[tuple[int, str]]
Dialogue = Generator[tuple[bytes, int], Replies, None]
"""Yields what to send, and how many replies to wait for."""


class _UnderTls(bytes):
    """Data that a TLS handshake comes before."""


class RefusedError(RuntimeError):
    """The server did not go on."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be sent."""

    host: str
    port: int
    messages: int
    prefix: str
    """Makes the recipients different from those of other runs; see `recipients_of`."""
    sessions: int = 1
    messages_a_session: int = 1
    recipients: int = 1
    """Of each message."""
    size: int = 5800
    """Octets of a message, header included."""
    rate: float = 0.0
    """Messages a second; 0: as fast as it goes."""
    users: Sequence[str] = ()
    """SASL logins, in turn; none: nobody logs in."""
    password: str = ""
    senders: Sequence[str] = ()
    """Envelope senders, in turn; none: the logins."""
    domain: str = "example.com"
    """Of the recipients."""
    source: str = ""
    """Address of the client; the system's choice unless given."""
    starttls: bool = False
    """Each session begins with a full TLS handshake (RFC 3207), as that of a mail program does."""


@dataclass
class Sent:
    """What became of it."""

    accepted: int = 0
    began: float = 0.0
    """The clock that all processes share (CLOCK_MONOTONIC), in seconds."""
    ended: float = 0.0
    """When the last message was accepted."""
    latencies: list[float] = field(default_factory=list)
    """Milliseconds from MAIL FROM to the reply to the final dot, of each message."""
    refused: Counter[str] = field(default_factory=Counter)
    """Other replies, and what ended a session."""


def recipients_of(prefix: str, number: int, count: int, domain: str) -> list[str]:
    """Return the recipients of a message: no other one has the same."""
    return [f"{prefix}.{number}.{one}@{domain}" for one in range(count)]


_CONTEXT: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_CONTEXT.check_hostname = False
_CONTEXT.verify_mode = ssl.CERT_NONE


class Load:
    """All sessions of one order."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._left = deque(range(order.messages))
        self._body = b""
        self.sent = Sent()

    def run(self) -> Sent:
        """Send everything."""
        order = self._order
        poller = select.epoll()
        open_sessions: dict[int, _Session] = {}
        self.sent.began = time.monotonic()
        started = 0

        def begin() -> None:
            nonlocal started
            login = order.users[started % len(order.users)] if order.users else ""
            session = _Session(self._dialogue(login, started), order)
            started += 1
            open_sessions[session.fileno()] = session
            poller.register(session.fileno(), select.EPOLLIN)

        while True:
            while self._left and len(open_sessions) < order.sessions and self.sent.refused.total() < _MOST_REFUSALS:
                begin()
            if not open_sessions:
                return self.sent
            events = poller.poll(PATIENCE_SECONDS)
            if not events:
                self.sent.refused["no answer"] += len(open_sessions)
                return self.sent
            for descriptor, _ in events:
                session = open_sessions[descriptor]
                try:
                    is_over = session.go_on()
                except (RefusedError, OSError) as error:
                    self.sent.refused[str(error)] += 1
                    is_over = True
                if is_over:
                    poller.unregister(descriptor)
                    del open_sessions[descriptor]
                    session.close()

    def _dialogue(self, login: str, number: int) -> Dialogue:
        """Speak with the server: one session."""
        order = self._order
        _expect((yield b"", 1), 220)
        _expect((yield _EHLO, 1), _OK)
        if order.starttls:
            _expect((yield b"STARTTLS\r\n", 1), 220)
            _expect((yield _UnderTls(_EHLO), 1), _OK)
        if login:
            secret = base64.b64encode(f"\0{login}\0{order.password}".encode())
            _expect((yield b"AUTH PLAIN " + secret + b"\r\n", 1), 235)
        sender = order.senders[number % len(order.senders)] if order.senders else login
        for _ in range(order.messages_a_session if not order.rate else order.messages):
            if not self._left:
                break
            message = self._left.popleft()
            if order.rate:
                time.sleep(max(0.0, self.sent.began + message / order.rate - time.monotonic()))
            recipients = recipients_of(order.prefix, message, order.recipients, order.domain)
            data = self._message(message, sender, recipients[0])
            begun = time.monotonic()
            replies = yield _envelope(sender, recipients), len(recipients) + 2
            if [code for code, _ in replies] != [_OK] * (len(recipients) + 1) + [_GO_ON]:
                raise RefusedError(_first_refusal(replies))
            ((code, text),) = yield data, 1
            self.sent.ended = time.monotonic()
            if code == _OK:
                self.sent.accepted += 1
                self.sent.latencies.append((self.sent.ended - begun) * 1000)
            else:
                self.sent.refused[f"{code} {text}"] += 1
        yield b"QUIT\r\n", 1

    def _message(self, number: int, sender: str, recipient: str) -> bytes:
        order = self._order
        header = (
            f"From: <{sender or 'client@example.org'}>\r\nTo: <{recipient}>\r\nDate: {formatdate()}\r\n"
            f"Message-ID: <{order.prefix}.{number}@bench.example.org>\r\nSubject: message {number}\r\n"
            "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
        ).encode()
        if not self._body:
            self._body = _LINE * max(1, (order.size - len(header)) // len(_LINE)) + b".\r\n"
        return header + self._body


class _Session:
    """A connection, and the dialogue on it."""

    def __init__(self, dialogue: Dialogue, order: Order) -> None:
        self._socket = socket.create_connection((order.host, order.port), PATIENCE_SECONDS, (order.source, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._dialogue = dialogue
        self._received = b""
        self._replies: list[tuple[int, str]] = []
        self._tls: ssl.SSLSocket | None = None
        self._is_shaking_hands = False
        _, self._expected = next(dialogue)

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._socket.fileno()

    def go_on(self) -> bool:
        """Read what has come, and answer; tell whether the session is over.

        Raises:
            RefusedError: the server does not want to go on.
            OSError: the connection is lost.
        """
        if self._is_shaking_hands and self._tls is not None:
            self._shake_hands(self._tls)
            return False
        chunk = self._read()
        if chunk is None:
            return False
        if not chunk:
            raise RefusedError("the server closed the connection")
        *lines, self._received = (self._received + chunk).split(b"\r\n")
        for line in lines:
            if line[3:4] != b"-":
                self._replies.append((int(line[:3]), line[4:].decode(errors="replace")))
        if len(self._replies) < self._expected:
            return False
        replies, self._replies = self._replies, []
        try:
            data, self._expected = self._dialogue.send(replies)
        except StopIteration:
            return True
        if isinstance(data, _UnderTls):
            self._tls = _CONTEXT.wrap_socket(self._socket, do_handshake_on_connect=False, suppress_ragged_eofs=True)
            self._socket = self._tls
            self._socket.settimeout(0)
            self._is_shaking_hands = True
            self._shake_hands(self._tls)
        else:
            self._send(data)
        return False

    def _shake_hands(self, tls: ssl.SSLSocket) -> None:
        tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        self._is_shaking_hands = False
        self._send(_EHLO)

    def _read(self) -> bytes | None:
        """Return what has come; None where that was nothing for us: TLS has messages of its own."""
        # Else the server's replies wait 40 ms for an ACK now and then, and the processors with them (tcp(7)).
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        try:
            chunk = self._socket.recv(65536)
        except ssl.SSLWantReadError:
            return None
        # What is decrypted already makes nothing readable.
        while self._tls is not None and self._tls.pending():
            chunk += self._tls.recv(65536)
        return chunk

    def _send(self, data: bytes) -> None:
        if self._tls is None:
            self._socket.sendall(data)
            return
        self._socket.settimeout(PATIENCE_SECONDS)
        self._socket.sendall(data)
        self._socket.settimeout(0)

    def close(self) -> None:
        """Hang up."""
        self._dialogue.close()
        self._socket.close()


def _envelope(sender: str, recipients: Sequence[str]) -> bytes:
    commands = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{recipient}>" for recipient in recipients), "DATA", ""]
    return "\r\n".join(commands).encode()


def _expect(replies: Replies, code: int) -> None:
    if replies[0][0] != code:
        raise RefusedError(_first_refusal(replies))


def _first_refusal(replies: Replies) -> str:
    return next((f"{code} {text}" for code, text in replies if code not in (_OK, _GO_ON)), "no reply to DATA")


def main() -> None:
    """Carry out the order."""
    print(json.dumps(vars(Load(Order(**json.loads(sys.argv[1]))).run())))


if __name__ == "__main__":
    main()
