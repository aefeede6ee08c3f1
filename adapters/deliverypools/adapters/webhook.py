"""A webhook: JSON to a URL that somebody else serves.

The URL is a secret and may reach no log, so no text of an exception goes into an error but the system's own. Neither
proxies of the environment nor redirects are followed: the alert goes to the host that the operator has named.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import string
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, quote, urlsplit

from deliverypools.adapters.http_login import basic_login

_SECONDS: Final = 10.0
_USER_AGENT: Final = "delivery-pools-alerts/1"


class WebhookError(Exception):
    """The alert was not taken; the text says why, and nothing of the URL."""


def post_json(url: str, content: Mapping[str, Any], *, seconds: float = _SECONDS) -> None:
    """Post an object; return when the answer was 2xx.

    It takes no longer than `seconds` after the connection is there, however slowly the other side writes.

    Raises:
        WebhookError: it was not taken.
    """
    try:
        status = _post(url, json.dumps(content).encode(), seconds)
    except TimeoutError:
        raise WebhookError(f"no answer in {seconds:g} s") from None
    except ssl.SSLError as error:
        raise WebhookError(f"TLS: {error.reason or type(error).__name__}") from None
    except OSError as error:
        raise WebhookError(error.strerror or type(error).__name__) from None
    except (http.client.HTTPException, ValueError) as error:
        raise WebhookError(f"no HTTP answer ({type(error).__name__})") from None
    if not 200 <= status < 300:  # noqa: PLR2004
        note = ", redirects are not followed" if 300 <= status < 400 else ""  # noqa: PLR2004
        raise WebhookError(f"answered {status}{note}")


def _post(url: str, body: bytes, seconds: float) -> int:
    parts = urlsplit(url)
    connection = _connection(parts, seconds)
    headers = {"Content-Type": "application/json", "User-Agent": _USER_AGENT, "Connection": "close"}
    if login := basic_login(parts):
        headers["Authorization"] = login
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with contextlib.closing(connection):
        connection.connect()
        with _deadline(connection, seconds):
            connection.request("POST", quote(target, safe=string.punctuation), body, headers)
            # The status is all that matters: of the body nothing is read.
            return connection.getresponse().status


def _connection(parts: SplitResult, seconds: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, parts.port, timeout=seconds, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, parts.port, timeout=seconds)


@contextlib.contextmanager
def _deadline(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """End the connection after a time: a time-out of the socket begins anew with each byte.

    Raises:
        TimeoutError: that has happened.
    """
    is_over = threading.Event()
    stream = connection.sock

    def end() -> None:
        is_over.set()
        with contextlib.suppress(OSError):
            stream.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if is_over.is_set():
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()
    if is_over.is_set():
        # What came until then passes for an answer: the library takes an end of the connection for that of the head.
        raise TimeoutError
