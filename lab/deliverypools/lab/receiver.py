"""The rest of the world: an SMTP server that records what arrives, and from which source address."""

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Final

EXTENSIONS: Final = ("PIPELINING", "SIZE 104857600", "8BITMIME", "DSN", "SMTPUTF8", "ENHANCEDSTATUSCODES")
_LINE_LIMIT_BYTES: Final = 64 * 1024 * 1024
_PATH = re.compile(r"<(?P<path>[^>]*)>\s*(?P<parameters>.*)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reply:
    """An SMTP reply with an enhanced status code (RFC 3463)."""

    code: int
    text: str

    def encode(self) -> bytes:
        """Return the reply line."""
        return f"{self.code} {self.text}\r\n".encode()


ACCEPT: Final = Reply(250, "2.1.5 Ok")
REFUSE: Final = Reply(550, "5.1.1 No such user here")
DEFER: Final = Reply(451, "4.3.0 Try again later")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMessage:
    """One message as it arrived on the wire."""

    source_address: str
    """The address it came from: what the lab is about."""
    local_address: str
    helo_name: str
    envelope_sender: str
    """RFC 5321 reverse-path without angle brackets; "" is the null reverse-path."""
    mail_parameters: tuple[str, ...]
    recipients: tuple[str, ...]
    recipient_parameters: Mapping[str, tuple[str, ...]]
    data: bytes
    """With dot-stuffing undone and CRLF line ends."""
    received_at: float = field(default_factory=time.time)

    @property
    def message(self) -> EmailMessage:
        """The message, parsed."""
        parsed = message_from_bytes(self.data, policy=policy.default)
        assert isinstance(parsed, EmailMessage)  # noqa: S101 -- what that policy makes
        return parsed

    def header(self, name: str) -> str | None:
        """Return the first header of that name, unfolded, or None; never raises, whatever the message is like."""
        headers = re.split(rb"\r?\n\r?\n", self.data, maxsplit=1)[0]
        pattern = rb"(?im)^" + re.escape(name.encode()) + rb":((?:.*)(?:\r?\n[ \t].*)*)"
        found = re.search(pattern, headers)
        return re.sub(r"\r?\n", "", found[1].decode(errors="replace")).strip() if found else None


class Receiver:
    """Listens on several addresses; what it answers to a recipient can change at any time."""

    def __init__(self) -> None:
        """Accept everything; `start` opens the sockets."""
        self._changed = threading.Condition()
        self._messages: list[ReceivedMessage] = []
        self._replies: dict[str, Reply] = {}
        self._refused: list[tuple[str, str]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self, addresses: Sequence[str], port: int = 25) -> None:
        """Listen on all `addresses`, IPv4 and IPv6; call it inside the lab's network."""
        sockets = [_listen(address, port) for address in addresses]
        started = threading.Event()

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            stopping = self._stopping = asyncio.Event()
            servers = [
                await asyncio.start_server(self._session, sock=sock, limit=_LINE_LIMIT_BYTES) for sock in sockets
            ]
            started.set()
            await stopping.wait()
            for server in servers:
                server.close()

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), name="lab-receiver", daemon=True)
        self._thread.start()
        if not started.wait(5):
            raise TimeoutError("the receiving server did not start within 5 seconds")

    def stop(self) -> None:
        """Close the sockets and all sessions."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
            self._thread = None

    def answer(self, address_or_domain: str, reply: Reply) -> None:
        """From now on answer `reply` (ACCEPT, REFUSE, DEFER) to RCPT for this recipient, or this whole domain."""
        with self._changed:
            self._replies[address_or_domain.lower()] = reply

    @property
    def messages(self) -> list[ReceivedMessage]:
        """Everything received, oldest first."""
        with self._changed:
            return list(self._messages)

    @property
    def not_accepted(self) -> list[tuple[str, str]]:
        """(source address, recipient) of every RCPT that was refused or deferred: what left, but was not taken."""
        with self._changed:
            return list(self._refused)

    def clear(self) -> None:
        """Forget what was received and refused; answers stay as they are."""
        with self._changed:
            self._messages.clear()
            self._refused.clear()

    def wait_for(
        self, wanted: Callable[[ReceivedMessage], bool], *, count: int = 1, timeout_seconds: float = 20
    ) -> list[ReceivedMessage]:
        """Return the messages that `wanted` holds for, as soon as there are at least `count`.

        Raises:
            TimeoutError: there were fewer; the message lists what did arrive.

        """

        def matching() -> list[ReceivedMessage]:
            return [message for message in self._messages if wanted(message)]

        with self._changed:
            if not self._changed.wait_for(lambda: len(matching()) >= count, timeout_seconds):
                arrived = [(m.source_address, m.envelope_sender, *m.recipients[:3]) for m in self._messages[-10:]]
                wanted_of = f"{len(matching())} of {count} wanted messages"
                raise TimeoutError(f"{wanted_of} within {timeout_seconds:g} s; the last to arrive: {arrived}")
            return matching()

    def reply_to(self, recipient: str) -> Reply:
        """Return what RCPT is answered for `recipient`."""
        recipient = recipient.lower()
        with self._changed:
            return self._replies.get(recipient) or self._replies.get(recipient.rpartition("@")[2]) or ACCEPT

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = _Session(self, writer.get_extra_info("peername")[0], writer.get_extra_info("sockname")[0])
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.write(b"220 receiver.example ESMTP\r\n")
            while line := await reader.readline():
                reply = session.command(line)
                writer.write(reply)
                await writer.drain()
                if reply.startswith(b"354"):
                    writer.write(session.data(await _read_data(reader)))
                    await writer.drain()
                if reply.startswith(b"221"):
                    break
        writer.close()

    def record(self, message: ReceivedMessage) -> None:
        """Keep one message and wake those who wait."""
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    def record_refusal(self, source_address: str, recipient: str) -> None:
        """Keep one RCPT that was not accepted."""
        with self._changed:
            self._refused.append((source_address, recipient))
            self._changed.notify_all()


class _Session:
    """The SMTP dialogue of one connection: command in, reply out."""

    def __init__(self, receiver: Receiver, peer: str, local: str) -> None:
        self._receiver = receiver
        self._peer = peer
        self._local = local
        self._helo_name = ""
        self._reset()

    def _reset(self) -> None:
        self._sender: str | None = None
        self._mail_parameters: tuple[str, ...] = ()
        self._recipients: dict[str, tuple[str, ...]] = {}

    def command(self, line: bytes) -> bytes:  # noqa: PLR0911 -- one reply a verb
        """Return the reply to one command line."""
        verb, _, argument = line.decode(errors="surrogateescape").strip().partition(" ")
        match verb.upper():
            case "EHLO":
                self._helo_name = argument
                lines = ["receiver.example", *EXTENSIONS]
                return "".join(f"250{'-' if text is not lines[-1] else ' '}{text}\r\n" for text in lines).encode()
            case "HELO":
                self._helo_name = argument
                return b"250 receiver.example\r\n"
            case "MAIL":
                return self._mail(argument)
            case "RCPT":
                return self._recipient(argument)
            case "DATA":
                return b"354 go on\r\n" if self._recipients else b"554 5.5.1 no valid recipients\r\n"
            case "RSET":
                self._reset()
                return b"250 2.0.0 Ok\r\n"
            case "NOOP":
                return b"250 2.0.0 Ok\r\n"
            case "QUIT":
                return b"221 2.0.0 Bye\r\n"
            case _:
                return b"502 5.5.2 not implemented\r\n"

    def _mail(self, argument: str) -> bytes:
        if not (found := _PATH.search(argument)):
            return b"501 5.5.4 syntax\r\n"
        self._reset()
        self._sender = found["path"]
        self._mail_parameters = tuple(found["parameters"].split())
        return b"250 2.1.0 Ok\r\n"

    def _recipient(self, argument: str) -> bytes:
        if self._sender is None or not (found := _PATH.search(argument)):
            return b"503 5.5.1 bad sequence\r\n"
        reply = self._receiver.reply_to(found["path"])
        if reply.code == ACCEPT.code:
            self._recipients[found["path"]] = tuple(found["parameters"].split())
        else:
            self._receiver.record_refusal(self._peer, found["path"])
        return reply.encode()

    def data(self, data: bytes) -> bytes:
        """Record one message and return the reply to it."""
        self._receiver.record(
            ReceivedMessage(
                source_address=self._peer,
                local_address=self._local,
                helo_name=self._helo_name,
                envelope_sender=self._sender or "",
                mail_parameters=self._mail_parameters,
                recipients=tuple(self._recipients),
                recipient_parameters=dict(self._recipients),
                data=data,
            )
        )
        self._reset()
        return b"250 2.0.0 Ok\r\n"


async def _read_data(reader: asyncio.StreamReader) -> bytes:
    lines = []
    while (line := await reader.readuntil(b"\r\n")) != b".\r\n":
        lines.append(line[1:] if line.startswith(b".") else line)
    return b"".join(lines)


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((address, port))
    sock.listen(256)
    return sock
