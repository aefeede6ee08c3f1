"""The receiving end of `check --live`: an SMTP server on this machine that notes who came, and keeps nothing.

Each probe has a port of its own, so what arrives there can only be that probe. Everything is bounded: a stranger of
this machine may connect, and is noted as such by his address, but cannot fill memory or hold the check up.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deliverypools.core.facts import printable
from deliverypools.core.host_check.live import LOOPBACK, Seen
from deliverypools.core.probe import DOMAIN

_LONGEST_LINE: Final = 4096
_MOST_HEADER_BYTES: Final = 65_536
_MOST_MESSAGE_BYTES: Final = 1 << 20
_MOST_COMMANDS: Final = 100
_TURNS: Final = 50
_MOST_SESSIONS: Final = 8
"""At the same time, on one port."""
_SESSION_SECONDS: Final = 30.0
_CERTIFICATE_HOURS: Final = 2
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


class SinkError(Exception):
    """The sink cannot listen; the text says why."""


@dataclass(slots=True)
class _Door:
    """One port, and what was seen there."""

    port: int
    tls_at_once: bool
    first: Seen | None = None
    sessions: int = 0

    def note(self, seen: Seen) -> None:
        """Keep what came first; of the same client, also that it went on to hand a message over."""
        if self.first is None or (self.first.header is None and self.first.source == seen.source):
            self.first = seen


class ProbeSink:
    """An asynchronous context manager; `open_door` while it lasts."""

    def __init__(self) -> None:
        self._doors: dict[int, _Door] = {}
        self._servers: list[asyncio.Server] = []
        self._sessions: set[asyncio.Task[None]] = set()
        self._tls = _self_signed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A connection that is accepted while its server closes would stay open (asyncio, Python 3.11).
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        for server in self._servers:
            server.close()
        # A session begins, and is closed, some turns of the loop later.
        for _ in range(_TURNS):
            for session in self._sessions:
                session.cancel()
            await asyncio.sleep(0)

    async def open_door(self, family: int, *, tls_at_once: bool = False) -> int:
        """Listen on a free port of 127.0.0.1 or ::1; return the port.

        With `tls_at_once` there is no word in clear, as on port 465 (RFC 8314).

        Raises:
            SinkError: this machine has no such address.
        """
        listener = socket.socket(_FAMILIES[family], socket.SOCK_STREAM)
        try:
            listener.bind((LOOPBACK[family], 0))
        except OSError as error:
            listener.close()
            raise SinkError(f"{LOOPBACK[family]}: {error.strerror}") from None
        door = _Door(listener.getsockname()[1], tls_at_once)
        server = await asyncio.start_server(
            lambda reader, writer: self._serve(door, reader, writer), sock=listener, limit=_LONGEST_LINE
        )
        self._servers.append(server)
        self._doors[door.port] = door
        return door.port

    def seen(self, port: int) -> Seen | None:
        """Return what was seen at a port so far."""
        return self._doors[port].first

    async def _serve(self, door: _Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if door.sessions >= _MOST_SESSIONS or task is None:
            writer.close()
            return
        door.sessions += 1
        self._sessions.add(task)
        try:
            async with asyncio.timeout(_SESSION_SECONDS):
                await _Session(door, reader, writer, self._tls).run()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass  # a client that is gone, silent, or no SMTP client: what it said before is on record
        finally:
            door.sessions -= 1
            self._sessions.discard(task)
            with contextlib.suppress(OSError):
                writer.close()


class _Session:
    """One SMTP dialogue (RFC 5321), with what smtp(8) needs: EHLO, STARTTLS, MAIL, RCPT, DATA."""

    def __init__(
        self, door: _Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls: ssl.SSLContext
    ) -> None:
        self._door = door
        self._reader = reader
        self._writer = writer
        self._tls = tls
        self._is_secure = False
        self._seen = Seen(source=writer.get_extra_info("peername")[0], helo="")

    async def run(self) -> None:
        """Answer until QUIT."""
        if self._door.tls_at_once:
            # Before anything is awaited: what the reader had taken of the handshake by then would be lost.
            await self._start_tls()
        # Another name than the client's own: that would be a loop to smtp(8).
        await self._say(f"220 {DOMAIN} ESMTP")
        for _ in range(_MOST_COMMANDS):
            verb, _, argument = (await self._line()).decode("ascii", "replace").partition(" ")
            if verb.upper() == "QUIT":
                await self._say("221 2.0.0 Bye")
                return
            await self._answer(verb.upper(), argument.strip())

    async def _answer(self, verb: str, argument: str) -> None:
        if verb in {"EHLO", "HELO"}:
            self._seen = replace(self._seen, helo=printable(argument))
            self._door.note(self._seen)
            offered = ["PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", *([] if self._is_secure else ["STARTTLS"])]
            lines = [DOMAIN, *(offered if verb == "EHLO" else [])]
            await self._say("\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"]))
        elif verb == "STARTTLS":
            await self._say("220 2.0.0 Ready")
            await self._start_tls()
        elif verb == "DATA":
            await self._say("354 End with a dot")
            header = await self._message()
            self._door.note(replace(self._seen, header=header))
            await self._say("250 2.0.0 Ok")
        elif verb in {"MAIL", "RCPT", "RSET", "NOOP"}:
            await self._say("250 2.0.0 Ok")
        else:
            await self._say("502 5.5.2 Not implemented")

    async def _message(self) -> bytes:
        """Read a message to its end; return its header."""
        header, size_bytes, is_header = b"", 0, True
        while (line := await self._line()) != b".":
            size_bytes += len(line) + 2
            if size_bytes > _MOST_MESSAGE_BYTES:
                raise ValueError("too large")
            is_header = is_header and line != b""
            if is_header and len(header) < _MOST_HEADER_BYTES:
                header += line + b"\n"
        return header

    async def _start_tls(self) -> None:
        await self._writer.start_tls(self._tls)
        self._is_secure = True

    async def _line(self) -> bytes:
        return (await self._reader.readuntil(b"\n")).rstrip(b"\r\n")

    async def _say(self, text: str) -> None:
        self._writer.write(f"{text}\r\n".encode("ascii"))
        await self._writer.drain()


def _self_signed() -> ssl.SSLContext:
    """Return TLS for sites that demand it of all servers (smtp_tls_security_level = encrypt); nobody verifies it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, DOMAIN)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=_CERTIFICATE_HOURS))
        .not_valid_after(now + dt.timedelta(hours=_CERTIFICATE_HOURS))
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory(prefix="delivery-pools-probe-") as folder:  # of this user only
        path = Path(folder) / "both.pem"
        path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(path)
    return context
