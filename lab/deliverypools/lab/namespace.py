"""Where the lab's addresses live: a network namespace of its own, or loopback addresses where none can be made.

The examples name documentation addresses (RFC 5737, RFC 3849). In a namespace they are put on its loopback interface
and used as they are. Without one, `substitute` turns every 192.0.2.10 into 127.2.2.10 and so on, in configuration files
and settings alike.
"""

import contextlib
import ctypes
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

IPV4_ADDRESSES = (
    "192.0.2.1",  # the mail server itself
    *(f"192.0.2.{host}" for host in (10, 11, 20, 30)),  # its pools, and one more for normal
    *(f"198.51.100.{host}" for host in (*range(25, 30), 53)),  # receiving servers, and DNS
    *(f"203.0.113.{host}" for host in range(1, 21)),  # clients outside
)
IPV6_ADDRESSES = (
    "2001:db8::1",
    "2001:db8::10",
    "2001:db8::20",
    "2001:db8::30",
    "2001:db8:25::25",
    "2001:db8:113::1",
)
EGRESS_LISTENER = ("127.0.0.1", 10027)

_CLONE_NEWNET = 0x40000000
_SUBSTITUTES = (("192.0.2.", "127.2.2."), ("198.51.100.", "127.51.100."), ("203.0.113.", "127.113.113."))
_MOST_DATAGRAMS = Path("/proc/sys/net/unix/max_dgram_qlen")
_LIBC = ctypes.CDLL(None, use_errno=True)


class LabUnavailableError(RuntimeError):
    """Raised where the lab cannot run; the message says why, and what would help."""


class Network:
    """The addresses of one lab, and the way to do something among them."""

    def __init__(self, *, isolate: bool = True) -> None:
        """Make a namespace if `isolate` and the system permits it; else use loopback addresses.

        Raises:
            LabUnavailableError: there is no namespace, and 127.0.0.1:10027 or a lab address is taken or missing.

        """
        self.reason_not_isolated = "not wanted"
        self._namespace_fd: int | None = None
        if isolate:
            try:
                self._namespace_fd = _make_namespace()
            except OSError as error:
                self.reason_not_isolated = str(error)
        self.has_ipv6 = False
        if self.isolated:
            with self.inside():
                self.has_ipv6 = _add_addresses()
        else:
            _require_free(EGRESS_LISTENER)

    @property
    def isolated(self) -> bool:
        """Whether the lab has a network namespace of its own."""
        return self._namespace_fd is not None

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Let this thread, and the processes it starts, use the lab's addresses; other threads stay where they are."""
        if self._namespace_fd is None:
            yield
            return
        outside_fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _set_namespace(self._namespace_fd)
            try:
                yield
            finally:
                _set_namespace(outside_fd)
        finally:
            os.close(outside_fd)

    def substitute(self, text: str) -> str:
        """Return `text` with the documentation addresses replaced by the ones this lab really has."""
        if self.isolated:
            return text
        for documentation, loopback in _SUBSTITUTES:
            text = re.sub(rf"(?<![\d.]){re.escape(documentation)}(?=\d)", loopback, text)
        return text

    def close(self) -> None:
        """Let the namespace go; the kernel removes it with its last process."""
        if self._namespace_fd is not None:
            os.close(self._namespace_fd)
            self._namespace_fd = None


def _make_namespace() -> int:
    """Return a file descriptor of a new network namespace.

    A thread makes it and ends: the calling thread, and every other one, stays where it was.

    Raises:
        OSError: not permitted here.

    """
    outcome: list[int | OSError] = []

    def make() -> None:
        try:
            if _LIBC.unshare(_CLONE_NEWNET) != 0:
                code = ctypes.get_errno()
                outcome.append(OSError(code, f"unshare(CLONE_NEWNET): {os.strerror(code)}"))
                return
            _let_datagrams_wait()
            outcome.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=make, name="lab-namespace")
    thread.start()
    thread.join()
    if isinstance(outcome[0], OSError):
        raise outcome[0]
    return outcome[0]


def _let_datagrams_wait() -> None:
    """Let as many lines wait for postlogd(8) as systemd does: with the kernel's 10 a reload can stand still for good.

    master(8) waits then to log something, and would have to start the postlogd that takes it.
    """
    with contextlib.suppress(OSError):  # read-only in some containers
        _MOST_DATAGRAMS.write_text("512", encoding="ascii")


def _set_namespace(namespace_fd: int) -> None:
    if _LIBC.setns(namespace_fd, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


def _add_addresses() -> bool:
    """Give this namespace's loopback interface all addresses; return whether IPv6 is among them."""
    _ip("link set lo up")
    _ip(*(f"addr add {address}/32 dev lo" for address in IPV4_ADDRESSES))
    try:
        _ip(*(f"addr add {address}/128 dev lo nodad" for address in IPV6_ADDRESSES))
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind((IPV6_ADDRESSES[0], 0))
    except (LabUnavailableError, OSError):
        return False
    return True


def _ip(*commands: str) -> None:
    try:
        result = subprocess.run(
            ["ip", "-batch", "-"], input="\n".join(commands) + "\n", text=True, capture_output=True, check=False
        )
    except FileNotFoundError as error:
        raise LabUnavailableError("the command `ip` is missing: install the package iproute2") from error
    if result.returncode != 0:
        raise LabUnavailableError(f"the lab's addresses cannot be set: {result.stderr.strip()}")


def _require_free(address: tuple[str, int]) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            host, port = address
            raise LabUnavailableError(
                f"no network namespace can be made here, and {host}:{port}, which the examples use, is taken: {error}. "
                "Run as root in a machine or container that permits unshare(CLONE_NEWNET), or free that port."
            ) from error
