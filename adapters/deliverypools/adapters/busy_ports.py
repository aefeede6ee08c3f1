"""Which ports the hop's listeners cannot have: others hold them, or are configured to."""

from __future__ import annotations

import re
import socket
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from deliverypools.adapters.other_instances import other_instances
from deliverypools.adapters.postfix_commands import PostfixInstance
from deliverypools.core.postfix_install.manifest import Manifest
from deliverypools.core.postfix_install.routes import FIRST_PORT

_LOOPBACK: Final = "127.0.0.1"
_MOST_TRIED: Final = 150
"""Ports that are tried from the first on; a site needs 51 at most."""
_TABLES: Final = ("/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6")
"""Of this thread's network namespace: proc(5)."""
_LISTENS: Final = "0A"
"""TCP_LISTEN in these tables."""
_ADDRESS: Final = 1
_STATE: Final = 3
_LOOPBACK_THERE: Final = f"{int.from_bytes(socket.inet_aton(_LOOPBACK), sys.byteorder):08X}"
"""An address is written as a number of the machine's byte order."""
_INET_SERVICE: Final = re.compile(r"^(?:[^\s#]{0,255}:)?([0-9]{1,5})\s+inet\s", re.MULTILINE)


def busy_ports(instance: PostfixInstance, manifest: Manifest | None) -> frozenset[int]:
    """Return the ports that a plan for an instance has to leave alone.

    A port that our installed configuration has is ours, unless others listen there too: then it moves. Those between
    its ports are left alone: a listener does not move because another program rests at the moment.
    """
    ours = ports_of(manifest)
    ours -= shared_ports(instance, ours)
    between = range(FIRST_PORT, max(ours, default=FIRST_PORT - 1) + 1)
    tried = ports_in_use(range(FIRST_PORT, FIRST_PORT + _MOST_TRIED))
    return frozenset({*tried, *_listening(), *_of_other_instances(instance), *between} - ours)


def ports_of(manifest: Manifest | None) -> frozenset[int]:
    """Return the ports of the listeners that we have added."""
    services = manifest.services.items() if manifest else ()
    names = (name for (name, kind), was in services if kind == "inet" and was.old is None and was.ours is not None)
    ports = (name.rpartition(":")[2] for name in names)
    return frozenset(int(port) for port in ports if port.isdecimal())


def ports_in_use(ports: Iterable[int]) -> set[int]:
    """Return those at which nobody can listen at 127.0.0.1 now."""
    return {port for port in ports if not _is_free(port)}


def shared_ports(instance: PostfixInstance, ports: Collection[int]) -> set[int]:
    """Return those of an instance's ports at which others listen at 127.0.0.1, too.

    master(8) sets SO_REUSEPORT: a second one listens at the same port, and the kernel deals the connections out.
    """
    ours = 1 if instance.is_running() else 0
    counts = listeners_at(ports)
    return {port for port in ports if counts[port] > ours}


def listeners_at(ports: Iterable[int]) -> Counter[int]:
    """Return how many sockets listen at each of these ports of 127.0.0.1."""
    wanted = {f"{_LOOPBACK_THERE}:{port:04X}": port for port in ports}
    return Counter(wanted[address] for address in _listening_addresses(_TABLES[0]) if address in wanted)


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As master(8) does: connections that have ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return False
    return True


def _listening() -> Iterator[int]:
    """Yield the ports at which somebody listens, at whatever address."""
    for table in _TABLES:
        for address in _listening_addresses(table):
            yield int(address.rpartition(":")[2], 16)


def _listening_addresses(table: str) -> Iterator[str]:
    """Yield `ADDRESS:PORT`, in hexadecimal digits, for each socket that listens."""
    try:
        lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return
    for words in map(str.split, lines):
        if words[_STATE] == _LISTENS:
            yield words[_ADDRESS]


def _of_other_instances(instance: PostfixInstance) -> Iterator[int]:
    """Yield the ports of the other instances of postmulti(1), which may not run at the moment."""
    for directory in other_instances(instance):
        try:
            text = (directory / "master.cf").read_text(errors="replace")
        except OSError:
            continue
        yield from map(int, _INET_SERVICE.findall(text))
