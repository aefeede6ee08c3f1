"""One question to DNS servers in turn, bounded: by UDP or TCP, in the time given, with an answer of bounded size.

dnspython's own transport reads 64 kB whatever was asked, and a flood of wrong answers can hold it for ever. It also
closes its socket when the next server is asked: a server that needs longer than its turn would never have answered.
"""

from __future__ import annotations

import contextlib
import copy
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import dns.exception
import dns.message
import dns.nameserver
import dns.query
import dns.rcode
import dns.rdatatype

_MOST_BYTES = 4096
"""The largest answer taken: some 240 addresses. dnspython needs 2 ms of CPU for a kilobyte of small records."""
_MOST_TXT_BYTES = 16_384
"""Some domains publish dozens of TXT records at one name."""

_Outcome: TypeAlias = dns.message.Message | Exception
"""What a server said, or the exception that tells dnspython of it."""


class AnswerTooLong(dns.exception.FormError):
    """The answer is larger than any that is of use here."""


class Server:
    """A DNS server as the questions of one process know it."""

    def __init__(self, address: str, port: int, clock: Callable[[], float]) -> None:
        self.address = address
        self.port = port
        self._clock = clock
        self._hung_at: float | None = None

    def has_hung_since(self, moment: float) -> bool:
        """Tell whether a question got no answer in its turn since `moment`, by the clock handed in, and none later."""
        return self._hung_at is not None and self._hung_at >= moment

    def note_silence(self) -> None:
        """Remember that a turn ended without an answer."""
        self._hung_at = self._clock()

    def note_late_answer(self) -> None:
        """Forget the silence: no server that was asked after this one was sooner."""
        self._hung_at = None


class OpenQuestion:
    """One question and its sockets, one for each server at most; what comes after a server's turn counts as well.

    For one thread. A server that answers late decides the question if it knows the answer. An error is kept until its
    next turn: the server that is being asked meanwhile is not to blame.
    """

    def __init__(self, servers: Sequence[Server], seconds: float, further: threading.BoundedSemaphore) -> None:
        """Ask `servers` for `seconds` altogether; `further` counts the sockets of all questions beyond one each."""
        self.nameservers = [_AskedServer(server, self) for server in servers]
        """For dnspython."""
        self.deadline = time.monotonic() + seconds
        # Not select(2), which knows no descriptor beyond 1023, nor epoll(7), which needs one more.
        self._selector = selectors.PollSelector()
        self._open: dict[_AskedServer, socket.socket] = {}
        self._sent: dict[_AskedServer, dns.message.Message] = {}
        self._further = further
        self._further_taken = 0

    def close(self) -> None:
        """Close the sockets; nothing can be asked any more."""
        self._drop_all()
        self._selector.close()

    def send(self, request: dns.message.Message, server: _AskedServer) -> None:
        """Ask one server, through the same socket as before if there is one. Raises OSError."""
        connection = self._open.get(server) or self._connect(server)
        # dnspython renames the request for each try: the answer to an earlier one would be taken for a forgery.
        self._sent.setdefault(server, copy.copy(request))
        # A datagram that the kernel has no room for is lost, as it may be on its way.
        with contextlib.suppress(BlockingIOError):
            connection.send(self._sent[server].to_wire())

    def outcome(self, asked: _AskedServer, deadline: float) -> _Outcome:
        """Return what `asked` says, or the answer of a server that was asked before.

        Raises TimeoutError at `deadline`, whatever else comes in until then.
        """
        while True:
            for key, _ in self._selector.select(_left(deadline)):
                server: _AskedServer = key.data
                outcome = _outcome(self._open[server], self._sent[server])
                if outcome is None:
                    continue
                self.drop(server)
                if not isinstance(outcome, OSError):
                    server.note_answer()
                if server is asked or _is_answer(outcome):
                    return outcome
                server.late_error = outcome

    def drop(self, server: _AskedServer) -> None:
        """Close the socket of one server, if it has one."""
        connection = self._open.pop(server, None)
        if connection is None:
            return
        self._sent.pop(server, None)
        self._selector.unregister(connection)
        connection.close()
        if self._further_taken:
            self._further.release()
            self._further_taken -= 1

    def _drop_all(self) -> None:
        for server in list(self._open):
            self.drop(server)

    def _connect(self, server: _AskedServer) -> socket.socket:
        is_further = bool(self._open) and self._further.acquire(blocking=False)
        if not is_further:
            # Rather lose late answers than take the descriptors that mail needs, be it for a moment.
            self._drop_all()
        try:
            connection = socket.socket(_family(server.address), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        except OSError:
            # A family that this machine does not speak.
            if is_further:
                self._further.release()
            raise
        self._further_taken += is_further
        self._open[server] = connection
        self._selector.register(connection, selectors.EVENT_READ, server)
        # Connected: the kernel drops what comes from any other address, and a closed port is told at once.
        connection.connect((server.address, server.port))
        return connection


class _AskedServer(dns.nameserver.Do53Nameserver):
    """A DNS server (RFC 1035 section 4.2) that may be late, hang, lie and send too much; of one question."""

    def __init__(self, server: Server, question: OpenQuestion) -> None:
        super().__init__(server.address, server.port)
        self.late_error: _Outcome | None = None
        self._server = server
        self._question = question
        self._began: float | None = None
        self._was_silent = False

    def note_answer(self) -> None:
        """Tell the other questions that a server which they may take for one that hangs does answer."""
        if self._was_silent:
            self._server.note_late_answer()

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
        ask = self._ask_by_tcp if max_size else self._ask_by_udp
        try:
            return ask(request, timeout)
        except TimeoutError:
            self._was_silent = True
            self._server.note_silence()
            # dnspython asks again after a time-out, and never again after an OSError, which TimeoutError is.
            raise dns.exception.Timeout from None
        except OSError:
            self._question.drop(self)
            raise

    def _ask_by_udp(self, request: dns.message.Message, timeout_seconds: float) -> dns.message.Message:
        now = time.monotonic()
        self._began = self._began or now
        outcome, self.late_error = self.late_error, None
        if outcome is None:
            self._question.send(request, self)
            outcome = self._question.outcome(self, now + timeout_seconds)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _ask_by_tcp(self, request: dns.message.Message, timeout_seconds: float) -> dns.message.Message:
        now = time.monotonic()
        # A server that needed long to say "too large for UDP" may need as long again, and for the connection.
        seconds = max(timeout_seconds, 2 * (now - (self._began or now)))
        return _ask_by_tcp(request, self.address, self.port, min(now + seconds, self._question.deadline))


def _outcome(connection: socket.socket, request: dns.message.Message) -> _Outcome | None:
    """Return what one datagram says, or the error that is pending; None for what is no answer to this very question."""
    try:
        return _read_datagram(connection, request)
    except BlockingIOError:
        # recvfrom(2): the kernel has dropped what poll(2) told of.
        return None
    except (OSError, dns.message.Truncated, AnswerTooLong) as error:
        return error


def _read_datagram(connection: socket.socket, request: dns.message.Message) -> dns.message.Message | None:
    wire = connection.recv(_most_bytes(request) + 1)
    if wire[:2] != request.id.to_bytes(2, "big"):
        return None
    if len(wire) > _most_bytes(request):
        raise AnswerTooLong
    try:
        response = dns.message.from_wire(wire, raise_on_truncation=True)
    except dns.message.Truncated as error:
        if request.is_response(error.kwargs["message"]):
            raise
        return None
    except (dns.exception.DNSException, ValueError):
        return None
    return response if request.is_response(response) else None


def _is_answer(outcome: _Outcome) -> bool:
    """Tell whether dnspython will take it for an answer, be it "no": an error would be put down to another server."""
    if not isinstance(outcome, dns.message.QueryMessage) or outcome.rcode() not in {
        dns.rcode.NOERROR,
        dns.rcode.NXDOMAIN,
    }:
        return False
    try:
        outcome.resolve_chaining()
    except dns.exception.DNSException:
        return False
    return True


def _most_bytes(request: dns.message.Message) -> int:
    return _MOST_TXT_BYTES if request.question[0].rdtype == dns.rdatatype.TXT else _MOST_BYTES


def _ask_by_tcp(request: dns.message.Message, address: str, port: int, deadline: float) -> dns.message.Message:
    query = request.to_wire()
    with socket.create_connection((address, port), _left(deadline)) as connection:
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
