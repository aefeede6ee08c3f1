"""What the machine itself shows: addresses that can be used, daemons that answer, who may open which file."""

from __future__ import annotations

import ipaddress
import os
import pwd
import socket
import stat
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from deliverypools.adapters.busy_ports import listeners_at
from deliverypools.adapters.daemon_questions import daemon_problem
from deliverypools.adapters.sockets import unix_path
from deliverypools.core.host_check.facts import (
    READ,
    SEARCH,
    WRITE,
    DaemonFacts,
    FileFacts,
    Host,
    HostFacts,
    Identity,
    PathFacts,
)
from deliverypools.core.host_check.ports import listener_ports
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.settings import Settings
from deliverypools.core.settings.values import IpAddress

DAEMON_USER: Final = "delivery-pools"
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_NONLOCAL_BIND: Final = "/proc/sys/net/ipv{family}/ip_nonlocal_bind"
_DATAGRAMS: Final = Path("/proc/sys/net/unix/max_dgram_qlen")
_OUTSIDE: Final = {4: "198.51.100.1", 6: "2001:db8:ffff::1"}
"""Documentation addresses (RFC 5737, RFC 3849): routed as any other, and nobody's. Nothing is sent there."""
_DISCARD_PORT: Final = 9


def host_facts(host: Host, settings_file: Path) -> HostFacts:
    """Look at this machine; takes some seconds at most, changes nothing."""
    settings = host.settings
    daemons = tuple(_daemon(name, address) for name, address in _sockets(settings))
    owner = host.site.postfix.value("mail_owner") if host.site else ""
    return replace(
        address_facts(host),
        daemons=daemons,
        daemon_user=_daemon_user(daemons),
        postfix_user=_identity(owner) if owner else None,
        files=tuple(_files(settings, settings_file)),
        postfix_runs=_postfix_runs(host.site),
        most_datagrams=_most_datagrams(),
        listening=listeners_at(listener_ports(host.site)),
    )


def address_facts(host: Host) -> HostFacts:
    """Look at the addresses of the network namespace that this program runs in."""
    addresses = dict.fromkeys(address for _, address in host.pool_addresses())
    return HostFacts(
        bind_problems={address: _bind_problem(address) for address in addresses},
        binds_anything=frozenset(family for family in _FAMILIES if _binds_anything(family)),
        default_addresses=frozenset(_default_addresses()),
    )


def own_addresses(hosts: Iterable[str]) -> frozenset[str]:
    """Return which of some hosts are literal addresses of this machine (of this network namespace)."""
    return frozenset(host for host in hosts if _is_own(host))


def _is_own(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not _bind_problem(address) and not _binds_anything(address.version)


# ---- addresses


def _bind_problem(address: IpAddress) -> str:
    """Return why smtp(8) could not bind an address, "" if it can; port 0 is any that is free."""
    try:
        with socket.socket(_FAMILIES[address.version], socket.SOCK_STREAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _binds_anything(family: int) -> bool:
    try:
        return Path(_NONLOCAL_BIND.format(family=family)).read_text(encoding="ascii").strip() == "1"
    except (OSError, ValueError):
        return False


def _default_addresses() -> Iterator[IpAddress]:
    """Yield the addresses by which a program reaches the outside that binds none; connecting UDP sends nothing."""
    for family, kind in _FAMILIES.items():
        try:
            with socket.socket(kind, socket.SOCK_DGRAM) as probe:
                probe.connect((_OUTSIDE[family], _DISCARD_PORT))
                yield ipaddress.ip_address(probe.getsockname()[0])
        except (OSError, ValueError):
            continue


# ---- daemons


def _sockets(settings: Settings) -> Iterator[tuple[str, str]]:
    yield "milter", settings.milter.socket
    yield "policy", settings.policy.socket
    if settings.forwarding.srs_domain is not None:
        yield "socketmap", settings.socketmap.socket


def _daemon(name: str, address: str) -> DaemonFacts:
    problem, is_forbidden = daemon_problem(name, address)
    path = unix_path(address)
    return DaemonFacts(
        name=name,
        address=address,
        problem=problem,
        is_forbidden=is_forbidden,
        path=tuple(_way_to(Path(path))) if path else (),
    )


def _daemon_user(daemons: tuple[DaemonFacts, ...]) -> Identity | None:
    """Return the owner of a socket that is there; else the user whom the package makes, if there is one."""
    owners = (one.path[-1].uid for one in daemons if one.path and one.path[-1].exists)
    for uid in owners:
        try:
            return _identity(pwd.getpwuid(uid).pw_name)
        except KeyError:
            return Identity(name=f"uid {uid}", uid=uid, gids=frozenset())
    return _identity(DAEMON_USER)


def _postfix_runs(site: Site | None) -> bool | None:
    """Tell whether master(8) runs; its pid file is believed only while a process of that name has the number."""
    if site is None:
        return None
    path = Path(site.postfix.value("queue_directory")) / "pid" / "master.pid"
    try:
        return Path(f"/proc/{int(path.read_text())}/comm").read_text().strip() == "master"
    except PermissionError:
        return None
    except (OSError, ValueError):
        return False


def _most_datagrams() -> int | None:
    """Return how many datagrams wait at most at a Unix socket of this network namespace (unix(7))."""
    try:
        return int(_DATAGRAMS.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _identity(name: str) -> Identity | None:
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        return None
    return Identity(name=name, uid=user.pw_uid, gids=frozenset(os.getgrouplist(name, user.pw_gid)))


# ---- files


def _files(settings: Settings, settings_file: Path) -> Iterator[FileFacts]:
    yield _file("the settings file", settings_file)
    yield _file("ticket_key_file", Path(settings.ticket_key_file))
    if settings.forwarding.srs_secret_file is not None:
        yield _file("forwarding.srs_secret_file", Path(settings.forwarding.srs_secret_file))
    if settings.state_path is not None:
        state = Path(settings.state_path)
        yield _file("state", state.parent, READ | WRITE | SEARCH)
        yield _file("state", state, READ | WRITE)


def _file(name: str, path: Path, needs: int = READ) -> FileFacts:
    return FileFacts(name=name, path=tuple(_way_to(path)), needs=needs)


def _way_to(path: Path) -> Iterator[PathFacts]:
    """Yield the folders that lead to a path, from the root, and the path."""
    for one in (*reversed(path.parents), path):
        try:
            found = one.stat()
        except OSError:
            yield PathFacts(path=str(one), exists=False)
        else:
            yield PathFacts(
                path=str(one),
                uid=found.st_uid,
                gid=found.st_gid,
                mode=stat.S_IMODE(found.st_mode),
                is_folder=stat.S_ISDIR(found.st_mode),
            )
