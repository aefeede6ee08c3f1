"""One Postfix configuration, as postconf(1) and postmap(1) tell it: main.cf with defaults, master.cf, tables."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from deliverypools.core.postfix_check.syntax import (
    FILE,
    Client,
    client_of,
    is_file,
    is_yes,
    split_list,
    table_specs,
)

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "[::1]", "::1", "localhost"})


def is_on_this_machine(nexthop: str) -> bool:
    """Tell whether a next-hop, `[host]:port` or several with commas, is at loopback addresses only; "" is not."""
    hosts = split_list(nexthop)
    return bool(hosts) and all(map(_is_loopback, hosts))


def _is_loopback(destination: str) -> bool:
    if destination.startswith("unix:"):
        return True
    host = destination.removeprefix("inet:")
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    host = host.lower().removeprefix("ipv6:")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service of master.cf."""

    name: str
    type: str
    """`inet`, `unix`, `fifo`, `pass` or `unix-dgram`."""
    chroot: str
    """`y`, `n` or `-`."""
    command: str
    """The program: `smtpd`, `smtp`, `cleanup`, `pipe` ..."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Parameters set with `-o`, expanded."""

    @property
    def label(self) -> str:
        """The service as messages name it."""
        return f"{self.name}/{self.type}"

    @property
    def is_chrooted(self) -> bool:
        """Whether it runs inside the queue directory; `-` is no since compatibility level 1."""
        return self.chroot == "y"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a table, or one condition of a regular expression table."""

    key: str
    value: str


class Unread(StrEnum):
    """Why a table was not read, or not to its end."""

    MISSING = "missing"
    """There is no such file."""
    FORBIDDEN = "forbidden"
    """This user may not read it."""
    TOO_LARGE = "too large"
    """Only its beginning was read."""
    FAILED = "failed"
    """Postfix's command, or the table itself, has another fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What one look-up table holds."""

    entries: tuple[Entry, ...] = ()
    problem: str = ""
    """Why it was not read, or not to its end, in words."""
    unread: Unread = Unread.FAILED
    """The kind of the problem, if there is one."""
    is_asked_elsewhere: bool = False
    """A server answers for it (LDAP, SQL, socketmap): it cannot be listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostfixConfiguration:
    """Everything that the checks look at. All `$names` are expanded with what main.cf says."""

    parameters: Mapping[str, str]
    services: tuple[Service, ...]
    tables: Mapping[str, Table] = field(default_factory=dict)
    """By `type:name`."""
    answers: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """What a table, or the list of tables that is a parameter's value, answers to a key; no entry: nothing."""
    warnings: tuple[str, ...] = ()
    """What postconf(1) complains of."""

    def value(self, parameter: str, service: Service | None = None) -> str:
        """Return a parameter as a service sees it: its `-o` before main.cf before the default. "" for none."""
        if service is not None and parameter in service.options:
            return service.options[parameter]
        return self.parameters.get(parameter, "")

    def is_on(self, parameter: str, service: Service | None = None) -> bool:
        """Tell whether a boolean parameter is on for a service."""
        return is_yes(self.value(parameter, service))

    def words(self, parameter: str, service: Service | None = None) -> tuple[str, ...]:
        """Return the elements of a list, as a service sees it."""
        return split_list(self.value(parameter, service))

    def wherever_set(self, parameter: str, *commands: str) -> Iterator[tuple[str, str]]:
        """Yield main.cf's value, then those that services set with `-o` which run these programs; each with a label."""
        yield parameter, self.value(parameter)
        for service in self.running(*commands):
            if parameter in service.options:
                yield f"{service.label}: {parameter}", service.options[parameter]

    def listed(self, value: str) -> Iterator[str]:
        """Yield the elements of a list, those of the files that it names in their place."""
        for element in split_list(value):
            if is_file(element):
                yield from (entry.key for entry in self.tables.get(f"{FILE}:{element}", Table()).entries)
            else:
                yield element

    def clients(self, parameter: str, service: Service | None = None) -> tuple[Client, ...]:
        """Return the milters that a parameter lists."""
        return tuple(client_of(element) for element in self.words(parameter, service))

    def running(self, *commands: str) -> Iterator[Service]:
        """Yield the services that run one of these programs."""
        for service in self.services:
            if service.command in commands and not self._is_disabled(service):
                yield service

    def _is_disabled(self, service: Service) -> bool:
        """Tell whether master(8) is told not to listen for it. The first word that fits decides."""
        for word in self.words("master_service_disable"):
            if word.removeprefix("!") in (service.type, service.label):
                return not word.startswith("!")
        return False

    def transport(self, name: str) -> Service | None:
        """Return the delivery agent of that name."""
        return next((one for one in self.services if one.name == name and one.type in ("unix", "pass")), None)

    def cleanup_of(self, service: Service) -> Service | None:
        """Return the cleanup service that a service hands its mail to."""
        return self.transport(self.value("cleanup_service_name", service) or "cleanup")

    def entries(self, tables: str) -> Iterator[tuple[str, Entry]]:
        """Yield every entry of the tables in a parameter's value, with the table's `type:name`."""
        for spec in table_specs(tables):
            for entry in self.tables.get(spec, Table()).entries:
                yield spec, entry

    def answer(self, tables: str, key: str) -> str:
        """Return what the tables in a parameter's value answer to a key; "" for nothing."""
        return next((found for spec in table_specs(tables) if (found := self.answers.get((spec, key), ""))), "")

    def is_unknown(self, tables: str) -> bool:
        """Tell whether one of the tables in a parameter's value could not be read, so that it cannot be judged."""
        return any(self.tables.get(spec, Table()).problem for spec in table_specs(tables))
