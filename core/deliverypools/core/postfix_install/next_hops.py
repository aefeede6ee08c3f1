"""A next-hop that is this machine: a program there would get mail from the pools' addresses, and send it by its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deliverypools.core.postfix_check.configuration import PostfixConfiguration, is_on_this_machine
from deliverypools.core.postfix_check.syntax import host_of, route_of, split_list
from deliverypools.core.postfix_install.draft import Draft

_BY_SENDER: Final = ("sender_dependent_default_transport_maps", "sender_dependent_relayhost_maps")


def hosts_of_next_hops(postfix: PostfixConfiguration) -> frozenset[str]:
    """Return the hosts to which mail for others goes, of all senders or of some: names and literal addresses."""
    return frozenset(host for one in _next_hops(postfix) for host in _hosts(one))


def _next_hops(postfix: PostfixConfiguration) -> Iterator[str]:
    yield postfix.value("relayhost")
    yield route_of(postfix.value("default_transport")).nexthop
    transports, relayhosts = _BY_SENDER
    yield from (route_of(entry.value).nexthop for _, entry in postfix.entries(postfix.value(transports)))
    yield from (entry.value for _, entry in postfix.entries(postfix.value(relayhosts)))


def _hosts(next_hop: str) -> Iterator[str]:
    return map(host_of, split_list(next_hop))


def refuse_next_hop_here(draft: Draft, named: str, next_hop: str) -> None:
    """Refuse a next-hop, or one of several, that is this machine. `named`: where it stands, for the administrator."""
    here = {*draft.original.own_addresses, draft.postfix.value("myhostname").lower()}
    if any(is_on_this_machine(one) for one in split_list(next_hop)) or not here.isdisjoint(_hosts(next_hop)):
        draft.error(
            f"{named}: that is this machine. What listens there would get the mail from the pools' addresses, which it"
            " may refuse for good, so that it bounces; and what it takes leaves by its own address.",
            "Another instance of Postfix: install in that one, which sends to other hosts (--config-directory), and"
            " leave this one as it is. A tunnel or proxy (stunnel): name the host behind it as the next-hop; Postfix"
            " speaks TLS to it itself (smtp_tls_wrappermode for port 465). Behind a tunnel pools have no effect.",
        )
