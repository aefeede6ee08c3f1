"""A configuration beside the settings, and which of its services play which part."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from deliverypools.core.postfix_check.configuration import LOOPBACK_HOSTS, PostfixConfiguration, Service
from deliverypools.core.postfix_check.syntax import Client, Route, client_of, route_of
from deliverypools.core.settings import Settings

HIGH_RISK = "high-risk"
HOP_CLIENT = "egress"
INTERNAL = "internal"
TRIPWIRES = ("smtp", "relay")
POLICY_CHECK = "check_policy_service"


@dataclass(frozen=True, slots=True)
class Site:
    """What the checks are asked about."""

    postfix: PostfixConfiguration
    settings: Settings

    @property
    def is_hop(self) -> bool:
        """Whether the profile is `hop`; else it is `express`."""
        return self.settings.profile == "hop"

    # ---- ours

    def is_ours(self, endpoint: str, socket: str) -> bool:
        """Tell whether an endpoint in Postfix's words is the socket of the settings, inside the chroot or outside."""
        kind, _, path = endpoint.partition(":")
        ours_kind, _, ours = socket.partition(":")
        if kind != ours_kind:
            return False
        if kind != "unix":
            return path == ours
        inside = f"{self.postfix.value('queue_directory')}/{path}"
        return _parts(ours) in (_parts(inside), _parts(path))

    def is_our_milter(self, milter: Client) -> bool:
        """Tell whether a milter is ours."""
        return self.is_ours(milter.endpoint, self.settings.milter.socket)

    def our_milter(self, parameter: str, service: Service | None) -> Client | None:
        """Return our milter as a parameter lists it."""
        return next((one for one in self.postfix.clients(parameter, service) if self.is_our_milter(one)), None)

    def names_our_milter(self) -> bool:
        """Tell whether any service of Postfix asks our milter."""
        sources = [("smtpd_milters", one) for one in (None, *self.postfix.running("smtpd"))]
        sources += [("non_smtpd_milters", one) for one in (None, *self.postfix.running("cleanup"))]
        return any(self.our_milter(parameter, service) for parameter, service in sources)

    def our_policy_service(self, parameter: str, service: Service) -> tuple[int, Client] | None:
        """Return where among the restrictions our policy service is asked, and how it is named."""
        words = self.postfix.words(parameter, service)
        for index, word in enumerate(words[:-1]):
            client = client_of(words[index + 1])
            if word == POLICY_CHECK and self.is_ours(client.endpoint, self.settings.policy.socket):
                return index, client
        return None

    def is_our_socketmap(self, spec: str) -> bool:
        """Tell whether a table, `type:name`, is the socketmap of the settings."""
        kind, _, name = spec.partition(":")
        return kind == "socketmap" and self.is_ours(name.rpartition(":")[0], self.settings.socketmap.socket)

    # ---- services by their part

    @property
    def listeners(self) -> tuple[Service, ...]:
        """The second half of the hop: what the hop's client delivers to, or what says that it is EGRESS."""
        return tuple(one for one in self.postfix.running("smtpd") if self.is_hop and self._is_listener(one))

    def _is_listener(self, service: Service) -> bool:
        if self.postfix.value("milter_macro_daemon_name", service) == "EGRESS":
            return True
        nexthop = route_of(self.postfix.value("default_transport")).nexthop
        return bool(nexthop) and nexthop.replace("[", "").replace("]", "") == service.name

    @property
    def doors(self) -> tuple[Service, ...]:
        """The smtpd services by which mail comes in: all but the listeners."""
        listeners = self.listeners
        return tuple(one for one in self.postfix.running("smtpd") if one not in listeners)

    def is_return_of_a_filter(self, service: Service) -> bool:
        """Tell whether a content filter hands its mail back there."""
        if self.postfix.value("milter_macro_daemon_name", service) == "REINJECT":
            return True
        is_local = service.name.rpartition(":")[0] in LOOPBACK_HOSTS
        return is_local and service.options.get("content_filter") == "" and bool(self.content_filters)

    @property
    def content_filters(self) -> list[str]:
        """Where mail is sent to be scanned, behind the queue."""
        sources = [None, *self.doors, *self.postfix.running("pickup")]
        return [found for one in sources if (found := self.postfix.value("content_filter", one))]

    @property
    def hop_client(self) -> Service | None:
        """The first half of the hop: the transport `egress`, if it is an SMTP client."""
        if not self.is_hop:
            return None
        service = self.postfix.transport(HOP_CLIENT)
        return service if service is not None and service.command == "smtp" else None

    def pool_of(self, transport: str) -> str | None:
        """Return the pool that a transport is one of: `pool-<name>`, `pool-<name>-<n>`."""
        name = transport.removeprefix("pool-")
        if name == transport:
            return None
        if name in self.settings.pools:
            return name
        without_number = re.sub(r"-[0-9]{1,4}\Z", "", name)
        return without_number if without_number in self.settings.pools else None

    @property
    def pool_transports(self) -> Iterator[tuple[str, Service]]:
        """Every pool's transports, of those that qmgr(8) reaches."""
        for service in self.postfix.services:
            is_found = service.type == "unix" and self.postfix.transport(service.name) is not None
            if is_found and (pool := self.pool_of(service.name)):
                yield pool, service

    @property
    def makers_of_notices(self) -> Iterator[Service]:
        """The services that make notices: bounce(8) under its three names."""
        return self.postfix.running("bounce")

    # ---- where mail goes

    def reaches_outside(self, transport: str) -> bool:
        """Tell whether a transport is an SMTP client, and neither a pool's, nor the hop's, nor for servers of ours."""
        service = self.postfix.transport(transport)
        if service is None or service.command != "smtp":
            return False
        return transport not in (HOP_CLIENT, INTERNAL) and not self.pool_of(transport)

    def stays_inside(self, route: Route) -> bool:
        """Tell whether a route leads to a server of ours: by `internal`, or by LMTP, which no stranger speaks."""
        if route.transport == INTERNAL:
            return True
        service = self.postfix.transport(route.transport)
        return service is not None and service.command == "lmtp" and bool(route.nexthop)

    def is_tripwire(self, transport: str) -> bool:
        """Tell whether mail for a transport waits at a tripwire."""
        service = self.postfix.transport(transport)
        return transport in TRIPWIRES and service is not None and service.command not in ("smtp", "lmtp")

    def is_to_the_hop(self, route: Route) -> bool:
        """Tell whether a route leads to one of the listeners, by the hop's client."""
        wanted = {one.name.replace("localhost", "127.0.0.1") for one in self.listeners}
        nexthop = route.nexthop.replace("[", "").replace("]", "").replace("localhost", "127.0.0.1")
        return route.transport == HOP_CLIENT and nexthop in wanted


def is_set_up(site: Site) -> bool:
    """Tell whether anything in the configuration is for Delivery Pools."""
    return site.names_our_milter() or any(site.pool_transports)


def _parts(path: str) -> list[str]:
    """Return a path in the form in which paths are compared."""
    return [part for part in path.split("/") if part not in ("", ".")]
