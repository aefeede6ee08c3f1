"""The MTA's side of the milter protocol (version 6), for talking to a running milter over its socket.

It sends raw bytes, 8-bit and malformed ones too, which no library at hand does, and obeys the negotiated
no-reply and no-callback bits as Postfix does.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

ACTIONS = 0x1FF
PROTOCOL = 0x1FFFFF
# Steps that the milter may skip, and replies that it may leave out (mfapi.h: SMFIP_NO*, SMFIP_NR_*).
NO_CALLBACK = {b"C": 0x01, b"H": 0x02, b"M": 0x04, b"R": 0x08, b"B": 0x10, b"L": 0x20, b"N": 0x40, b"T": 0x200}
HEADER_LEADING_SPACE = 0x100000
"""Values of header fields have the blank after the colon, in both directions (SMFIP_HDR_LEADSPC)."""
NO_REPLY = {
    b"C": 0x1000,
    b"H": 0x2000,
    b"M": 0x4000,
    b"R": 0x8000,
    b"T": 0x10000,
    b"N": 0x40000,
    b"B": 0x80000,
    b"L": 0x80,
}


@dataclass
class Outcome:
    """What a milter wants done with one message."""

    reply: bytes
    """The last reply's code: `c` continue, `t` tempfail, `r` reject, `y` with `text`."""
    text: str = ""
    added: list[tuple[str, str]] = field(default_factory=list)
    """Fields that go on top, the last one topmost."""
    changed: list[tuple[int, str, str]] = field(default_factory=list)
    recipients: list[tuple[str, ...]] = field(default_factory=list)
    """Removed (`-`) and added (`+`, `2` with ESMTP parameters)."""
    new_sender: str | None = None
    """As in MAIL FROM; None where the sender stays."""

    def added_values(self, name: str) -> list[str]:
        return [value for added, value in self.added if added.lower() == name.lower()]


class MilterClient:
    """One connection, as smtpd(8) or cleanup(8) makes it."""

    def __init__(self, path: str, timeout_seconds: float = 20.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_seconds)
        self._socket.connect(path)
        self._send(b"O", struct.pack("!III", 6, ACTIONS, PROTOCOL))
        code, data = self._receive()
        assert code == b"O", (code, data)
        self.protocol = struct.unpack("!III", data[:12])[2]
        self._is_in_header = False
        self._blank = " " if self.protocol & HEADER_LEADING_SPACE else ""
        self.macros_asked_for = data[12:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._send(b"Q")
        self._socket.close()

    def connect(self, address: str = "127.0.0.1", macros: Mapping[str, str] | None = None) -> bytes:
        self._macros(b"C", {"j": "mx.example.org", **(macros or {})})
        family = b"6" if ":" in address else b"4"
        return self._command(b"C", b"client\0" + family + struct.pack("!H", 25) + address.encode() + b"\0")

    def mail(self, sender: bytes, macros: Mapping[str, str] | None = None) -> bytes:
        self._is_in_header = True
        self._macros(b"M", macros or {})
        return self._command(b"M", sender + b"\0")

    def rcpt(self, recipient: bytes) -> bytes:
        """Name a recipient; ESMTP parameters stand behind it after blanks, as in RCPT TO."""
        return self._command(b"R", recipient.replace(b" ", b"\0") + b"\0")

    def helo(self, name: bytes) -> bytes:
        return self._command(b"H", name + b"\0")

    def header(self, name: bytes, value: bytes) -> bytes:
        return self._command(b"L", name + b"\0" + self._blank.encode() + value + b"\0")

    def end_of_header(self) -> None:
        if self._is_in_header:
            self._is_in_header = False
            self._command(b"N")

    def body(self, chunk: bytes) -> bytes:
        self.end_of_header()
        return self._command(b"B", chunk)

    def abort(self) -> None:
        self._send(b"A")

    def end(self, queue_id: str = "4XYZQ00000z") -> Outcome:
        self.end_of_header()
        self._macros(b"E", {"i": queue_id})
        self._send(b"E")
        outcome = Outcome(b"")
        while True:
            code, data = self._receive()
            if code == b"i":
                name, value, _ = data[4:].split(b"\0")
                assert struct.unpack("!I", data[:4])[0] == 0, "nothing is added but on top"
                outcome.added.append((name.decode(), self._without_blank(value)))
            elif code in (b"-", b"+", b"2"):
                outcome.recipients.append((code.decode(), *data.rstrip(b"\0").decode().split("\0")))
            elif code == b"e":
                outcome.new_sender = data.split(b"\0")[0].decode()
            elif code == b"m":
                name, value, _ = data[4:].split(b"\0")
                outcome.changed.append((struct.unpack("!I", data[:4])[0], name.decode(), value.decode()))
            elif code != b"p":
                outcome.reply, outcome.text = code, data.rstrip(b"\0").decode(errors="replace")
                return outcome

    def send(
        self,
        sender: bytes,
        recipients: Iterable[bytes],
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes = b"hello\r\n",
        *,
        queue_id: str = "4XYZQ00000z",
        macros: Mapping[str, str] | None = None,
        chunk_bytes: int = 65535,
    ) -> Outcome:
        """Send a whole message and return what is to be done with it."""
        self.mail(sender, macros)
        for recipient in recipients:
            self.rcpt(recipient)
        for name, value in headers:
            self.header(name, value)
        self.end_of_header()
        for start in range(0, len(body), chunk_bytes):
            if self.body(body[start : start + chunk_bytes]) == b"s":
                break
        return self.end(queue_id)

    def _without_blank(self, value: bytes) -> str:
        text = value.decode()
        assert text.startswith(self._blank), f"no blank after the colon: {text!r}"
        return text.removeprefix(self._blank)

    def _macros(self, stage: bytes, macros: Mapping[str, str]) -> None:
        pairs = b"".join(f"{name}\0{value}\0".encode(errors="surrogateescape") for name, value in macros.items())
        self._send(b"D", stage + pairs)

    def _command(self, code: bytes, data: bytes = b"") -> bytes:
        if self.protocol & NO_CALLBACK.get(code, 0):
            return b"c"
        self._send(code, data)
        return b"c" if self.protocol & NO_REPLY.get(code, 0) else self._receive()[0]

    def _send(self, code: bytes, data: bytes = b"") -> None:
        self._socket.sendall(struct.pack("!I", len(data) + 1) + code + data)

    def _receive(self) -> tuple[bytes, bytes]:
        (length,) = struct.unpack("!I", self._exactly(4))
        packet = self._exactly(length)
        return packet[:1], packet[1:]

    def _exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            chunk = self._socket.recv(length - len(data))
            if not chunk:
                raise ConnectionError("the milter closed the connection")
            data += chunk
        return data
