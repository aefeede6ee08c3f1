"""The conditions of the express profile: what would have to be taken away from a site is the administrator's to do."""

from __future__ import annotations

from typing import Final

from deliverypools.core.postfix_check.syntax import route_of
from deliverypools.core.postfix_install.destinations import is_smtp_client
from deliverypools.core.postfix_install.draft import Draft

_NO_LOSS: Final = ("local_transport", "local_recipient_maps", "alias_maps", "smtpd_milter_maps")
"""Without local domains these mean nothing."""
_HOP_OR_NO_RELAY: Final = (
    'profile = "hop" in the settings file; or relay_domains = (empty) if it takes mail for no other.'
)


def check_conditions(draft: Draft) -> None:
    """Refuse a site that delivers, copies or routes mail by itself: its settings would have no effect, or lose mail."""
    emptied = [name for name, value in draft.example.main.items() if not value and name not in _NO_LOSS]
    for parameter in (*emptied, "sender_dependent_relayhost_maps"):
        value = draft.raw(parameter) if draft.is_written(parameter) else ""
        if value:
            draft.error(
                f"{parameter} = {value}: a tag takes all recipients of a message to the pool, so this would have no"
                " effect, or lose mail.",
                f"Set {parameter} = (empty) if this is a dedicated outbound relay; else profile = "
                '"hop" in the settings file.',
            )
    for service in draft.postfix.running("smtpd", "pickup", "cleanup", "trivial-rewrite"):
        for parameter in emptied:
            if service.options.get(parameter):
                draft.error(
                    f"{service.label}: -o {parameter}={service.options[parameter]}: not in the express profile.",
                    'Take the option away, or profile = "hop" in the settings file.',
                )
    _check_relay_domains(draft)


def _check_relay_domains(draft: Draft) -> None:
    """Refuse a way of its own for relay_domains; by the usual one they go on."""
    if not draft.postfix.value("relay_domains"):
        return
    value = draft.postfix.value("relay_transport")
    route = route_of(value)
    if route.nexthop or not is_smtp_client(draft.site, route.transport):
        draft.error(
            f"relay_transport = {value}: a tag takes mail for relay_domains to the pools, too: it would go to the MX of"
            " these domains, or to relayhost. Where that is this machine, it bounces.",
            _HOP_OR_NO_RELAY,
        )
    elif (usual := route_of(draft.postfix.value("default_transport")).nexthop) and usual != draft.postfix.value(
        "relayhost"
    ):
        draft.error(
            f"default_transport names {usual}, relay_transport no next-hop: mail to relay_domains would go to {usual},"
            " too.",
            _HOP_OR_NO_RELAY,
        )
