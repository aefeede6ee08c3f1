"""Whether Postfix took a new configuration: `postfix reload` says nothing of what master(8) fails at afterwards."""

from __future__ import annotations

import socket
import time
from collections.abc import Collection
from typing import Final

from deliverypools.adapters.busy_ports import ports_in_use, shared_ports
from deliverypools.adapters.postfix_commands import PostfixError, PostfixInstance
from deliverypools.core.postfix_check.site import HOP_CLIENT
from deliverypools.core.postfix_check.syntax import route_of

WATCH_SECONDS: Final = 2.0
"""master(8) ends at once if it cannot listen."""
_GREETING_SECONDS: Final = 15.0
_EVERY_SECONDS: Final = 0.2
_GREETING: Final = b"220"
_IN_THE_LOG: Final = "the reason is in the mail log"


def watch(instance: PostfixInstance, ports: Collection[int], watch_seconds: float = WATCH_SECONDS) -> None:
    """Return when master(8) has lived on for a while, and the hop's listener greets.

    Raises:
        PostfixError: it has ended, or the listener does not answer, or another program listens at one of the ports too.
    """
    until = time.monotonic() + watch_seconds
    while time.monotonic() < until:
        if not instance.is_running():
            raise PostfixError(f"postfix reload: Postfix has ended: {_reason(ports)}")
        time.sleep(_EVERY_SECONDS)
    port = _listener(instance)
    if port is not None and not _greets(port):
        raise PostfixError(f"postfix reload: nothing greets at 127.0.0.1:{port}, the hop's listener: {_IN_THE_LOG}")
    if shared := shared_ports(instance, ports):
        raise PostfixError(
            f"postfix reload: another program listens at {_named(shared)}, too: each would get mail of the other"
        )


def _reason(ports: Collection[int]) -> str:
    busy = ports_in_use(ports)
    return f"another program has {_named(busy)}" if busy else _IN_THE_LOG


def _named(ports: Collection[int]) -> str:
    return ", ".join(f"127.0.0.1:{port}" for port in sorted(ports))


def _listener(instance: PostfixInstance) -> int | None:
    """Return the port of the hop's listener; None in the express profile."""
    route = route_of(instance.parameter("default_transport"))
    port = route.nexthop.rpartition(":")[2]
    return int(port) if route.transport == HOP_CLIENT and port.isdecimal() else None


def _greets(port: int) -> bool:
    deadline = time.monotonic() + _GREETING_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=left) as connection:
                if connection.recv(512).startswith(_GREETING):
                    return True
        except OSError:
            pass
        time.sleep(_EVERY_SECONDS)
    return False
