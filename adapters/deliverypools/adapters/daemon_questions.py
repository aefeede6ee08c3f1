"""Whether a daemon of ours answers, asked as Postfix asks it: a milter's greeting, a policy request, a look-up."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import time
from collections.abc import Callable, Mapping
from typing import Final

from deliverypools.adapters.sockets import unix_path

_ANSWER_SECONDS: Final = 5.0
_MOST_ANSWER_BYTES: Final = 4096
_LENGTH: Final = struct.Struct("!I")
_MILTER_VERSION: Final = 6
_MILTER_ACTIONS: Final = 0x1FF
_MILTER_STEPS: Final = 0x1FFFFF
"""What Postfix 3.7 offers: all actions, all steps (mfapi.h)."""
_POLICY_REQUEST: Final = (
    b"request=smtpd_access_policy\nprotocol_state=CONNECT\nprotocol_name=SMTP\nclient_address=192.0.2.1\n"
    b"client_name=unknown\nreverse_client_name=unknown\n\n"
)
"""Of a stage at which nothing is counted."""
_LOOK_UP: Final = b"srs delivery-pools-check@delivery-pools-probe.invalid"
"""No SRS address: the answer is that there is none."""
_FORBIDDEN: Final = (errno.EACCES, errno.EPERM)


class _Unexpected(Exception):  # noqa: N818  (raised and caught here)
    """The answer is not one of our daemon's; the text says what came."""


def daemon_problem(name: str, address: str) -> tuple[str, bool]:
    """Return why a daemon does not answer, "" if it does, and whether we are not permitted to ask.

    `name` is `milter`, `policy` or `socketmap`. It takes some seconds at most.
    """
    try:
        with _connected(address) as connection:
            _ASK[name](_Connection(connection))
    except TimeoutError:
        return f"no answer in {_ANSWER_SECONDS:g} seconds", False
    except _Unexpected as error:
        return str(error), False
    except OSError as error:
        return error.strerror or str(error), error.errno in _FORBIDDEN
    return "", False


def _connected(address: str) -> socket.socket:
    path = unix_path(address)
    if path is None:
        host, _, port = address.removeprefix("inet:").rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


class _Connection:
    """One connection with a deadline for everything that is said on it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + _ANSWER_SECONDS

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def receive_until(self, is_whole: Callable[[bytes], bool]) -> bytes:
        """Return what came, as soon as it is whole.

        Raises:
            _Unexpected: it ended before, or is too long.
            TimeoutError: it did not come in time.
        """
        received = b""
        while not is_whole(received):
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._connection.settimeout(left)
            chunk = self._connection.recv(_MOST_ANSWER_BYTES)
            received += chunk
            if not chunk or len(received) > _MOST_ANSWER_BYTES:
                raise _Unexpected(f"not the answer of our daemon: {received[:60]!r}")
        return received


def _ask_milter(connection: _Connection) -> None:
    offer = b"O" + struct.pack("!III", _MILTER_VERSION, _MILTER_ACTIONS, _MILTER_STEPS)
    connection.send(_LENGTH.pack(len(offer)) + offer)
    answer = connection.receive_until(lambda data: len(data) > _LENGTH.size)
    if answer[_LENGTH.size : _LENGTH.size + 1] != b"O":
        raise _Unexpected(f"not the answer of a milter: {answer[:60]!r}")
    with contextlib.suppress(OSError):  # it has answered; a polite end is for its log
        connection.send(_LENGTH.pack(1) + b"Q")


def _ask_policy(connection: _Connection) -> None:
    connection.send(_POLICY_REQUEST)
    answer = connection.receive_until(lambda data: data.endswith(b"\n\n"))
    if not answer.startswith(b"action="):
        raise _Unexpected(f"not the answer of a policy service: {answer[:60]!r}")


def _ask_socketmap(connection: _Connection) -> None:
    connection.send(b"%d:%b," % (len(_LOOK_UP), _LOOK_UP))
    answer = connection.receive_until(lambda data: data.endswith(b","))
    if b"NOTFOUND" not in answer:
        raise _Unexpected(f"not the answer of our socketmap: {answer[:60]!r}")


_ASK: Final[Mapping[str, Callable[[_Connection], None]]] = {
    "milter": _ask_milter,
    "policy": _ask_policy,
    "socketmap": _ask_socketmap,
}
