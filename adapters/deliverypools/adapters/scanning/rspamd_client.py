"""rspamd, asked over HTTP: its normal worker, its proxy, or either behind a web server."""

from __future__ import annotations

import http.client
import mmap
import ssl
import string
from collections.abc import Callable
from typing import ClassVar, Final, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

from deliverypools.adapters.http_login import basic_login
from deliverypools.adapters.scanning.connections import Connections
from deliverypools.adapters.scanning.deadline_socket import DeadlineSocket, chunks_of
from deliverypools.adapters.scanning.unavailable import said_as_unavailable
from deliverypools.core.scanning.answers import ScanEnvelope, Scanner, ScannerAnswer
from deliverypools.core.scanning.nonsense import NonsenseError, about_all_of_it
from deliverypools.core.scanning.rspamd import is_pong, read_answer, request_headers
from deliverypools.core.settings.values import InetSocket

_Read = TypeVar("_Read")

_CHECK: Final = "/checkv2"
_PING: Final = "/ping"
_MOST_BYTES: Final = 1_000_000


class _Question(NamedTuple):
    method: str
    path: str
    headers: list[tuple[str, bytes]]
    content: bytes | mmap.mmap


class RspamdClient:
    """Any number of threads may ask at once."""

    scanner: ClassVar[Scanner] = Scanner.RSPAMD

    def __init__(self, url: str, settings_id: str | None) -> None:
        """Ask at `url` (a user and password in it are for a web server before rspamd), with those of its settings."""
        parts = urlsplit(url)
        is_secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (http.client.HTTPS_PORT if is_secure else http.client.HTTP_PORT)
        self._path = quote(parts.path.removesuffix(_CHECK).rstrip("/"), safe=string.punctuation)
        login = basic_login(parts)
        self._login = [("Authorization", login.encode())] if login else []
        self._settings_id = settings_id
        tls = ssl.create_default_context() if is_secure else None
        self._connections = Connections(InetSocket(self._host, self._port), tls=tls)

    def ask(self, content: bytes | mmap.mmap, envelope: ScanEnvelope, deadline: float) -> ScannerAnswer:
        """Return what rspamd says of a message, by `deadline` (time.monotonic).

        Raises:
            ScannerUnavailable: it cannot be reached, hangs, or answers nonsense or too much.
        """
        headers = request_headers(envelope, self._settings_id)
        with said_as_unavailable(deadline):
            answer, is_said = self._exchange(_Question("POST", _CHECK, headers, content), read_answer, deadline)
            return about_all_of_it(answer, is_said=is_said)

    def ping(self, deadline: float) -> None:
        """Return when rspamd has answered that it is there.

        Raises:
            ScannerUnavailable: it has not.
        """
        with said_as_unavailable(deadline):
            self._exchange(_Question("GET", _PING, [], b""), _read_pong, deadline)

    def close(self) -> None:
        """Close the connections that are kept."""
        self._connections.close()

    def _exchange(
        self, question: _Question, read: Callable[[int, bytes], _Read], deadline: float
    ) -> tuple[_Read, bool]:
        """Return what `read` makes of the status and the body of an answer, and whether all was said before it."""
        with memoryview(question.content) as content:

            def converse(connection: DeadlineSocket) -> tuple[tuple[_Read, bool], bool]:
                request = self._request(connection, question, len(content))
                is_said = connection.say(chunks_of(content))
                status, body, may_be_kept = _response(request)
                return (read(status, body), is_said), may_be_kept and is_said

            return self._connections.ask(converse, deadline, _MOST_BYTES)

    def _request(self, connection: DeadlineSocket, question: _Question, size_bytes: int) -> http.client.HTTPConnection:
        """Return a request of which all but the body is sent."""
        request = http.client.HTTPConnection(self._host, self._port)
        request.sock = connection
        request.putrequest(question.method, self._path + question.path, skip_accept_encoding=True)
        for name, value in [*question.headers, *self._login, ("Content-Length", b"%d" % size_bytes)]:
            request.putheader(name, value)
        request.endheaders()
        return request


def _read_pong(status: int, body: bytes) -> None:
    if not is_pong(status, body):
        raise NonsenseError(f"HTTP {status} to a ping")


def _response(request: http.client.HTTPConnection) -> tuple[int, bytes, bool]:
    """Return status and body, and whether the connection may be used again.

    Raises:
        NonsenseError: it is no HTTP.
    """
    try:
        with request.getresponse() as response:
            # Never more than this is asked for: the library makes room for a length that is announced.
            body = response.read(_MOST_BYTES)
            is_read = response.isclosed() and not response.length
            return response.status, body, is_read and not response.will_close
    except ConnectionError:
        raise
    except (http.client.HTTPException, ValueError) as error:
        raise NonsenseError(f"no HTTP ({type(error).__name__})") from None
