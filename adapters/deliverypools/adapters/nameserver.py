"""One question to one DNS server, bounded: by UDP or TCP, in the time given, with an answer of bounded size.

dnspython's own transport reads 64 kB whatever was asked, and a flood of wrong answers can hold it for ever.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

import dns.exception
import dns.message
import dns.nameserver
import dns.query
import dns.rdatatype

_MOST_BYTES = 4096
"""The largest answer taken: some 240 addresses. dnspython needs 2 ms of CPU for a kilobyte of small records."""
_MOST_TXT_BYTES = 16_384
"""Some domains publish dozens of TXT records at one name."""


class AnswerTooLong(dns.exception.FormError):
    """The answer is larger than any that is of use here."""


class BoundedNameserver(dns.nameserver.Do53Nameserver):
    """A DNS server (RFC 1035 section 4.2) that may hang, lie and send too much."""

    def __init__(self, address: str, port: int, clock: Callable[[], float]) -> None:
        super().__init__(address, port)
        self._clock = clock
        self._hung_at: float | None = None

    def has_hung_since(self, moment: float) -> bool:
        """Tell whether a question got no answer here since `moment`, by the clock handed in."""
        return self._hung_at is not None and self._hung_at >= moment

    def query(  # noqa: PLR0917  (dnspython's signature)
        self,
        request: dns.message.QueryMessage,
        timeout: float,
        source: str | None,  # noqa: ARG002
        source_port: int,  # noqa: ARG002
        max_size: bool,  # noqa: FBT001  (True: by TCP)
        one_rr_per_rrset: bool = False,  # noqa: ARG002, FBT001, FBT002
        ignore_trailing: bool = False,  # noqa: ARG002, FBT001, FBT002
    ) -> dns.message.Message:
        """Ask, and return the answer to this very question; what is no answer to it is ignored (UDP) or an error (TCP).

        Raises dns.exception.Timeout, dns.message.Truncated, dns.exception.FormError, EOFError, OSError.
        """
        ask = _ask_by_tcp if max_size else _ask_by_udp
        try:
            return ask(request, self.address, self.port, timeout)
        except TimeoutError:
            self._hung_at = self._clock()
            # dnspython asks again after a time-out, and never again after an OSError, which TimeoutError is.
            raise dns.exception.Timeout from None


def _most_bytes(request: dns.message.Message) -> int:
    return _MOST_TXT_BYTES if request.question[0].rdtype == dns.rdatatype.TXT else _MOST_BYTES


def _ask_by_udp(request: dns.message.Message, address: str, port: int, timeout_seconds: float) -> dns.message.Message:
    deadline = time.monotonic() + timeout_seconds
    query = request.to_wire()
    with socket.socket(_family(address), socket.SOCK_DGRAM) as connection:
        # Connected: the kernel drops what comes from any other address, and a closed port is told at once.
        connection.connect((address, port))
        connection.send(query)
        while True:
            connection.settimeout(_left(deadline))
            wire = connection.recv(_most_bytes(request) + 1)
            if wire[:2] != query[:2]:
                continue
            if len(wire) > _most_bytes(request):
                raise AnswerTooLong
            try:
                response = dns.message.from_wire(wire, raise_on_truncation=True)
            except dns.message.Truncated as error:
                if request.is_response(error.kwargs["message"]):
                    raise
            except (dns.exception.DNSException, ValueError):
                continue
            else:
                if request.is_response(response):
                    return response


def _ask_by_tcp(request: dns.message.Message, address: str, port: int, timeout_seconds: float) -> dns.message.Message:
    deadline = time.monotonic() + timeout_seconds
    query = request.to_wire()
    with socket.create_connection((address, port), timeout_seconds) as connection:
        connection.settimeout(_left(deadline))
        connection.sendall(struct.pack("!H", len(query)) + query)
        (length,) = struct.unpack("!H", _read(connection, 2, deadline))
        if length > _most_bytes(request):
            raise AnswerTooLong
        response = dns.message.from_wire(_read(connection, length, deadline), raise_on_truncation=True)
    if not request.is_response(response):
        raise dns.query.BadResponse
    return response


def _read(connection: socket.socket, length: int, deadline: float) -> bytes:
    received = b""
    while len(received) < length:
        connection.settimeout(_left(deadline))
        piece = connection.recv(length - len(received))
        if not piece:
            raise EOFError
        received += piece
    return received


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
