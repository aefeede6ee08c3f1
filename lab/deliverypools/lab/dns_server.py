"""An authoritative DNS server for the whole world of the lab; its data, and its failures, can change at any time."""

import contextlib
import enum
import socket
import socketserver
import struct
import threading
from collections.abc import Mapping, Sequence

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

TTL_SECONDS = 1
_MAX_CNAMES = 8

Records = Mapping[str, Sequence[str]]


class DnsFailure(enum.Enum):
    """What a name answers instead of its data."""

    SERVFAIL = "servfail"
    TIMEOUT = "timeout"
    NXDOMAIN = "nxdomain"


class DnsServer:
    """Answers on UDP and TCP, in threads, from `zones`: name -> record type -> texts of the data.

    Names are absolute and written without a final dot; data are written as in a zone file ("10 mx.example.com.").
    A name that is not known, and has no known name below it, does not exist.
    """

    def __init__(self, zones: Mapping[str, Records]) -> None:
        """Keep a copy of `zones`; `start` makes it public."""
        self._lock = threading.Lock()
        self._zones: dict[str, dict[str, tuple[str, ...]]] = {}
        self._failures: dict[str, DnsFailure] = {}
        self._asked: list[tuple[str, str]] = []
        self._servers: list[socketserver.BaseServer] = []
        self._threads: list[threading.Thread] = []
        for name, records in zones.items():
            self.set(name, records)

    def start(self, address: str, port: int = 53) -> None:
        """Listen on `address`; call it inside the lab's network."""
        udp = _UdpServer((address, port), _UdpHandler)
        tcp = _TcpServer((address, port), _TcpHandler)
        for server in (udp, tcp):
            server.dns = self
            thread = threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="lab-dns", daemon=True
            )
            thread.start()
            self._servers.append(server)
            self._threads.append(thread)

    def stop(self) -> None:
        """Stop listening."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()
        self._servers.clear()
        self._threads.clear()

    def set(self, name: str, records: Records) -> None:
        """Give `name` exactly these records: {"MX": ["10 mx.example.com."], "A": [...]}."""
        with self._lock:
            self._zones[_key(name)] = {rtype.upper(): tuple(data) for rtype, data in records.items()}

    def remove(self, name: str) -> None:
        """Forget `name`: from now on it does not exist."""
        with self._lock:
            self._zones.pop(_key(name), None)

    def fail(self, name: str, failure: DnsFailure | None) -> None:
        """Let `name` and everything below it answer `failure`; None: answer truly again."""
        with self._lock:
            if failure is None:
                self._failures.pop(_key(name), None)
            else:
                self._failures[_key(name)] = failure

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Questions so far, as (name, record type), oldest first."""
        with self._lock:
            return list(self._asked)

    def answer(self, wire: bytes) -> bytes | None:
        """Return the reply to one query, or None where the name is to time out, or the query is none.

        A name that exists without the record type answers with an empty section (NODATA, RFC 2308).
        """
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        if not query.question:
            return None
        question = query.question[0]
        name = _key(question.name.to_text())
        rtype = dns.rdatatype.to_text(question.rdtype)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA | dns.flags.RA
        with self._lock:
            self._asked.append((name, rtype))
            failure = self._failure(name)
            if failure is DnsFailure.TIMEOUT:
                return None
            if failure is not None:
                response.set_rcode(dns.rcode.SERVFAIL if failure is DnsFailure.SERVFAIL else dns.rcode.NXDOMAIN)
            else:
                self._fill(response, name, rtype)
        return response.to_wire()

    def _failure(self, name: str) -> DnsFailure | None:
        labels = name.split(".")
        for start in range(len(labels)):
            if failure := self._failures.get(".".join(labels[start:])):
                return failure
        return None

    def _fill(self, response: dns.message.Message, name: str, rtype: str) -> None:
        for _ in range(_MAX_CNAMES):
            records = self._zones.get(name)
            if records is None:
                if not any(known.endswith(f".{name}") for known in self._zones):
                    response.set_rcode(dns.rcode.NXDOMAIN)
                return
            found = rtype if rtype in records else "CNAME"
            if not records.get(found):
                return
            response.answer.append(dns.rrset.from_text(f"{name}.", TTL_SECONDS, "IN", found, *records[found]))
            if found == rtype:
                return
            name = _key(records["CNAME"][0])


def _key(name: str) -> str:
    return name.rstrip(".").lower()


class _UdpServer(socketserver.ThreadingUDPServer):
    allow_reuse_address = True
    daemon_threads = True
    dns: DnsServer


class _TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    dns: DnsServer


class _UdpHandler(socketserver.BaseRequestHandler):
    server: _UdpServer

    def handle(self) -> None:
        """Answer one datagram."""
        wire, reply_socket = self.request
        if (answer := self.server.dns.answer(wire)) is not None:
            with contextlib.suppress(OSError):
                reply_socket.sendto(answer, self.client_address)


class _TcpHandler(socketserver.StreamRequestHandler):
    server: _TcpServer
    timeout = 10

    def handle(self) -> None:
        """Answer the queries of one connection (RFC 1035 section 4.2.2)."""
        with contextlib.suppress(OSError, socket.timeout):
            while len(prefix := self.rfile.read(2)) == 2:  # noqa: PLR2004 -- the length of a length
                wire = self.rfile.read(struct.unpack("!H", prefix)[0])
                if (answer := self.server.dns.answer(wire)) is None:
                    return
                self.wfile.write(struct.pack("!H", len(answer)) + answer)
