"""An authoritative DNS server for the whole world of the lab; its data, and its failures, can change at any time."""

import contextlib
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

from deliverypools.lab.dns_failures import LONGEST_MESSAGE_OCTETS, DnsFailure, Slow, spoilt, truncate

__all__ = ["DnsFailure", "DnsServer", "Records", "Slow", "txt"]

TTL_SECONDS = 1
_MAX_CNAMES = 8
_LONGEST_STRING_OCTETS = 255
_UDP_WITHOUT_EDNS_OCTETS = 512
_ALL_TYPES = ""

Records = Mapping[str, Sequence[str]]


def txt(text: str) -> str:
    """Return the data of a TXT record as a zone file has them: as many strings of 255 octets as are needed."""
    octets = text.encode()
    parts = [octets[at : at + _LONGEST_STRING_OCTETS] for at in range(0, len(octets), _LONGEST_STRING_OCTETS)] or [b""]
    return " ".join(f'"{"".join(_escaped(octet) for octet in part)}"' for part in parts)


def _escaped(octet: int) -> str:
    is_plain = 0x20 <= octet <= 0x7E and octet not in b'"\\'  # noqa: PLR2004 -- printable US-ASCII
    return chr(octet) if is_plain else f"\\{octet:03d}"


class DnsServer:
    """Answers on UDP and TCP, in threads, from `zones`: name -> record type -> texts of the data.

    Names are absolute and written without a final dot; data are written as in a zone file ("10 mx.example.com."; see
    `txt`). A name that is not known, and has no known name below it, does not exist.
    """

    def __init__(self, zones: Mapping[str, Records]) -> None:
        """Keep a copy of `zones`; `start` makes it public."""
        self._lock = threading.Lock()
        self._zones: dict[str, dict[str, tuple[str, ...]]] = {}
        self._failures: dict[tuple[str, str], DnsFailure | Slow] = {}
        self._asked: list[tuple[str, str]] = []
        self._servers: list[socketserver.BaseServer] = []
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self.address: tuple[str, int] | None = None
        """Where it listens, or listened before `stop`: `start(*server.address)` makes it come back."""
        for name, records in zones.items():
            self.set(name, records)

    def start(self, address: str, port: int = 53) -> None:
        """Listen on `address`; call it inside the lab's network. Port 0: the first that is free for UDP and TCP."""
        self._stopping.clear()
        udp, tcp = _listen(address, port)
        self.address = address, udp.server_address[1]
        for server in (udp, tcp):
            server.dns = self
            thread = threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="lab-dns", daemon=True
            )
            thread.start()
            self._servers.append(server)
            self._threads.append(thread)

    def stop(self) -> None:
        """Stop listening; what is being answered gets no answer. Data and failures stay as they are."""
        self._stopping.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()
        self._servers.clear()
        self._threads.clear()

    def set(self, name: str, records: Records) -> None:
        """Give `name` exactly these records: {"MX": ["10 mx.example.com."], "A": [...]}.

        Raises:
            dns.exception.DNSException: the data are none of that type; a TXT string over 255 octets, for example.

        """
        kept = {rtype.upper(): tuple(data) for rtype, data in records.items()}
        for rtype, data in kept.items():
            _rrset(_key(name), rtype, data)
        with self._lock:
            self._zones[_key(name)] = kept

    def remove(self, name: str) -> None:
        """Forget `name`: from now on it does not exist."""
        with self._lock:
            self._zones.pop(_key(name), None)

    def fail(self, name: str, failure: DnsFailure | Slow | None, rtype: str = _ALL_TYPES) -> None:
        """Let `name` and everything below it answer `failure`, for one record type or all; "." is every name.

        None: answer truly again; without a record type this ends all failures of `name`.
        """
        key = _key(name)
        with self._lock:
            if failure is not None:
                self._failures[key, rtype.upper()] = failure
                return
            ended = [kept for kept in self._failures if kept[0] == key and rtype.upper() in (_ALL_TYPES, kept[1])]
            for kept in ended:
                del self._failures[kept]

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Questions so far, as (name, record type), oldest first."""
        with self._lock:
            return list(self._asked)

    def answer(self, wire: bytes, *, over_tcp: bool = False) -> bytes | None:
        """Return the reply to one query, or None where the name is to time out, or the query is none.

        A name that exists without the record type answers with an empty section (NODATA, RFC 2308). What does not fit
        into a datagram is truncated there.
        """
        query = _query(wire)
        if query is None or self._stopping.is_set():  # a TCP connection may outlive the server
            return None
        question = query.question[0]
        name = _key(question.name.to_text())
        rtype = dns.rdatatype.to_text(question.rdtype)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA | dns.flags.RA
        with self._lock:
            self._asked.append((name, rtype))
            failure = self._failure(name, rtype)
            self._fill(response, name, rtype)
        if isinstance(failure, DnsFailure):
            return spoilt(response, failure, over_tcp=over_tcp)
        if failure is not None and self._stopping.wait(failure.seconds):
            return None
        # Without max_size dnspython raises TooBig for what a datagram to this client cannot hold.
        whole = response.to_wire(max_size=LONGEST_MESSAGE_OCTETS)
        if not over_tcp and len(whole) > max(query.payload, _UDP_WITHOUT_EDNS_OCTETS):
            truncate(response)
            return response.to_wire()
        return whole

    def _failure(self, name: str, rtype: str) -> DnsFailure | Slow | None:
        """Return the failure that is nearest to `name`; one of that record type goes before one of all."""
        labels = name.split(".")
        for start in range(len(labels) + 1):
            parent = ".".join(labels[start:])
            for key in ((parent, rtype), (parent, _ALL_TYPES)):
                if failure := self._failures.get(key):
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
            response.answer.append(_rrset(name, found, records[found]))
            if found == rtype:
                return
            name = _key(records["CNAME"][0])


def _key(name: str) -> str:
    return name.rstrip(".").lower()


def _query(wire: bytes) -> dns.message.Message | None:
    try:
        query = dns.message.from_wire(wire)
    except dns.exception.DNSException:
        return None
    return query if query.question else None


def _rrset(name: str, rtype: str, data: Sequence[str]) -> dns.rrset.RRset:
    return dns.rrset.from_text(f"{name}.", TTL_SECONDS, "IN", rtype, *data)


def _listen(address: str, port: int) -> tuple["_UdpServer", "_TcpServer"]:
    """Open the same port for UDP and TCP.

    Raises:
        OSError: `port` is taken.

    """
    while True:
        udp = _UdpServer((address, port), _UdpHandler)
        try:
            return udp, _TcpServer((address, udp.server_address[1]), _TcpHandler)
        except OSError:
            udp.server_close()
            if port:
                raise


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
                if (answer := self.server.dns.answer(wire, over_tcp=True)) is None:
                    return
                self.wfile.write(struct.pack("!H", len(answer)) + answer)
