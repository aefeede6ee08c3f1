"""The conditions of the express profile: every recipient is outside, and nobody is added behind the milter's back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deliverypools.core.postfix_check.checks import Check, Severity, check
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import route_of, split_list

_LOCAL_DOMAINS: Final = ("mydestination", "virtual_mailbox_domains", "virtual_alias_domains")
_ADDS_RECIPIENTS: Final = ("always_bcc", "sender_bcc_maps", "recipient_bcc_maps")
_REWRITES_RECIPIENTS: Final = ("virtual_alias_maps", "recipient_canonical_maps", "canonical_maps")
_SOURCES: Final = ("smtpd", "qmqpd", "pickup")
"""The programs by which mail comes in."""
_OVERRIDES: Final = ("no_header_body_checks", "no_milters")


@check(
    Severity.ERROR,
    can_happen="A tag takes all recipients of a message to the pool: those with mailboxes here bounce, or are lost.",
    remedy="Empty the parameter, or use the profile hop.",
)
def express_with_local_domains(site: Site) -> Iterator[str]:
    """In the express profile no domain is delivered on this machine."""
    yield from _set(site, _LOCAL_DOMAINS, "trivial-rewrite")


@check(
    Severity.ERROR,
    can_happen="The copy is lost without a trace: the tag takes it to the pool, and it asks for no notice.",
    remedy="Empty the parameter, or use the profile hop.",
)
def express_with_copies(site: Site) -> Iterator[str]:
    """In the express profile Postfix adds no recipients."""
    yield from _set(site, _ADDS_RECIPIENTS, "cleanup")


@check(
    Severity.ERROR,
    can_happen="The message is decided for recipients that it does not have in the end; forwarded mail leaves as"
    " our own.",
    remedy="Empty the parameter, or use the profile hop.",
)
def express_with_rewritten_recipients(site: Site) -> Iterator[str]:
    """In the express profile no recipient is rewritten."""
    yield from _set(site, _REWRITES_RECIPIENTS, "cleanup")


@check(
    Severity.ERROR,
    can_happen="The tag replaces the route: a scanner is passed by, internal mail goes outside.",
    remedy="Empty the parameter, or use the profile hop.",
)
def express_with_routes(site: Site) -> Iterator[str]:
    """In the express profile nothing but the tag routes mail."""
    yield from _set(site, ("transport_maps",), "trivial-rewrite")
    yield from _set(site, ("content_filter",), *_SOURCES)
    yield from _relay_route(site)


@check(
    Severity.ERROR,
    can_happen="A requeued message loses its pool (no_header_body_checks), or mail passes undecided (no_milters).",
    remedy="receive_override_options = (empty)",
)
def express_with_overrides(site: Site) -> Iterator[str]:
    """In the express profile no checks and no milters are switched off."""
    if site.is_hop:
        return
    for label, value in site.postfix.wherever_set("receive_override_options", *_SOURCES):
        if any(word in _OVERRIDES for word in split_list(value)):
            yield f"{label} = {value}"


def _set(site: Site, parameters: tuple[str, ...], *commands: str) -> Iterator[str]:
    """Yield what is not empty, in main.cf or with `-o` on a service that runs one of these programs."""
    if site.is_hop:
        return
    for parameter in parameters:
        for label, value in site.postfix.wherever_set(parameter, *commands):
            if value:
                yield f"{label} = {value}"


def _relay_route(site: Site) -> Iterator[str]:
    """Yield the route that relay_domains have of their own."""
    value = site.postfix.value("relay_transport")
    if not site.is_hop and site.postfix.value("relay_domains") and route_of(value).nexthop:
        yield f"relay_transport = {value}"


EXPRESS_CHECKS: Final[tuple[Check, ...]] = (
    express_with_local_domains,
    express_with_copies,
    express_with_rewritten_recipients,
    express_with_routes,
    express_with_overrides,
)
