"""One Postfix configuration, as postconf(1) and postmap(1) tell it: main.cf with defaults, master.cf, tables."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from deliverypools.core.postfix_check.syntax import (
    FILE,
    Client,
    answering_tables,
    client_of,
    host_of,
    is_file,
    is_yes,
    split_list,
    table_specs,
)

_OF_TRANSPORTS: Final = ("unix", "pass")
"""The types of services that transports can be."""
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "[127.0.0.1]", "[::1]", "::1", "localhost"})


def is_on_this_machine(nexthop: str) -> bool:
    """Tell whether a next-hop, `[host]:port` or several with commas, is at loopback addresses only; "" is not."""
    hosts = split_list(nexthop)
    return bool(hosts) and all(map(_is_loopback, hosts))


def _is_loopback(destination: str) -> bool:
    if destination.startswith("unix:"):
        return True
    host = host_of(destination)
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
    private: str = "-"
    """`y`, `n` or `-`: whether its socket is for Postfix only. Those of type unix are, unless they say `n`."""
    chroot: str
    """`y`, `n` or `-`."""
    command: str
    """The program: `smtpd`, `smtp`, `cleanup`, `pipe` ..."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Parameters set with `-o`, expanded; of those that the fast path depends on also what differs because of these."""

    @property
    def label(self) -> str:
        """The service as messages name it."""
        return f"{self.name}/{self.type}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a table, or one condition of a regular expression table."""

    key: str
    value: str
    is_negated: bool = False
    """Of a pattern: what does not match it is meant."""


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
    outdated: tuple[str, ...] = ()
    """The tables, `type:name`, whose source was changed after postmap(1) or postalias(1) has compiled them."""

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
        for service in self._in_use.values():
            if service.command in commands and not self.is_disabled(service.name, service.type):
                yield service

    @property
    def _in_use(self) -> Mapping[tuple[str, str], Service]:
        """Return the services by name and type: of several with the same, master(8) uses the last."""
        return {(one.name, one.type): one for one in self.services}

    def is_disabled(self, name: str, kind: str) -> bool:
        """Tell whether master(8) is told not to listen for a service. The first word that fits decides."""
        for word in self.words("master_service_disable"):
            if word.removeprefix("!") in (kind, f"{name}/{kind}"):
                return not word.startswith("!")
        return False

    def is_chrooted(self, service: Service) -> bool:
        """Tell whether a service runs inside the queue directory; before compatibility level 1, `-` is yes."""
        is_old = self.value("compatibility_level").partition(".")[0] in ("", "0")
        return service.chroot == "y" or (service.chroot == "-" and is_old)

    def transport(self, name: str) -> Service | None:
        """Return the delivery agent of that name, if qmgr(8) reaches it: it looks among private sockets only."""
        found = self._listening(name)
        return found if found is not None and found.private != "n" else None

    def why_missing(self, name: str) -> str:
        """Return why there is no delivery agent of that name; "" if there is one."""
        if self.transport(name) is not None:
            return ""
        if self._listening(name) is not None:
            return "not reached: its column private in master.cf is n"
        if any(one.name == name and one.type in _OF_TRANSPORTS for one in self.services):
            return f"switched off: master_service_disable = {self.value('master_service_disable')}"
        return "no such transport in master.cf"

    def cleanup_of(self, service: Service | None) -> Service | None:
        """Return the cleanup service that a service hands its mail to, if it reaches it: its socket is public.

        None stands for a service that sets nothing with `-o`.
        """
        return self.cleanup_named(self.value("cleanup_service_name", service) or "cleanup")

    def cleanup_named(self, name: str) -> Service | None:
        """Return the cleanup service of that name, if others reach it: its socket is public."""
        found = self._listening(name)
        return found if found is not None and found.private == "n" else None

    def _listening(self, name: str) -> Service | None:
        services = self._in_use
        found = next((services[name, kind] for kind in _OF_TRANSPORTS if (name, kind) in services), None)
        return None if found is None or self.is_disabled(found.name, found.type) else found

    def entries(self, tables: str) -> Iterator[tuple[str, Entry]]:
        """Yield every entry of the tables in a parameter's value, with the table's `type:name`."""
        for spec in table_specs(tables):
            for entry in self.tables.get(spec, Table()).entries:
                yield spec, entry

    def answering_entries(self, tables: str) -> Iterator[tuple[str, Entry]]:
        """Yield the entries whose values are answers of the tables, with the name of what holds them.

        Of a pipemap only the last table answers. Its keys are no keys of the whole: that has the pipemap's own name.
        """
        for name, spec in answering_tables(tables):
            for entry in self.tables.get(spec, Table()).entries:
                yield name, entry

    def answer(self, tables: str, key: str) -> str:
        """Return what the tables in a parameter's value answer to a key; "" for nothing."""
        return next((found for spec in table_specs(tables) if (found := self.answers.get((spec, key), ""))), "")

    def is_unknown(self, tables: str) -> bool:
        """Tell whether one of the tables in a parameter's value could not be read, so that it cannot be judged."""
        return any(self.tables.get(spec, Table()).problem for spec in table_specs(tables))
