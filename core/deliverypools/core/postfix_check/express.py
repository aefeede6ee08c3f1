"""The conditions of the express profile: every recipient is outside, and nobody is added behind the milter's back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deliverypools.core.postfix_check.checks import Check, Severity, check
from deliverypools.core.postfix_check.site import Site

_LOCAL_DOMAINS: Final = ("mydestination", "virtual_mailbox_domains", "virtual_alias_domains")
_ADDS_RECIPIENTS: Final = ("always_bcc", "sender_bcc_maps", "recipient_bcc_maps")
_REWRITES_RECIPIENTS: Final = ("virtual_alias_maps", "recipient_canonical_maps", "canonical_maps")
_ROUTES: Final = ("transport_maps", "content_filter")


@check(
    Severity.ERROR,
    can_happen="A tag takes all recipients of a message to the pool: those with mailboxes here bounce, or are lost.",
    remedy="Empty the parameter, or use the profile hop.",
)
def express_with_local_domains(site: Site) -> Iterator[str]:
    """In the express profile no domain is delivered on this machine."""
    yield from _set(site, _LOCAL_DOMAINS)


@check(
    Severity.ERROR,
    can_happen="The copy is lost without a trace: the tag takes it to the pool, and it asks for no notice.",
    remedy="Empty the parameter, or use the profile hop.",
)
def express_with_copies(site: Site) -> Iterator[str]:
    """In the express profile Postfix adds no recipients."""
    yield from _set(site, _ADDS_RECIPIENTS)


@check(
    Severity.ERROR,
    can_happen="The message is decided for recipients that it does not have in the end; forwarded mail leaves as"
    " our own.",
    remedy="Empty the parameter, or use the profile hop.",
)
def express_with_rewritten_recipients(site: Site) -> Iterator[str]:
    """In the express profile no recipient is rewritten."""
    yield from _set(site, _REWRITES_RECIPIENTS)


@check(
    Severity.ERROR,
    can_happen="The tag replaces the route: a scanner is passed by, internal mail goes outside.",
    remedy="Empty the parameter, or use the profile hop.",
)
def express_with_routes(site: Site) -> Iterator[str]:
    """In the express profile nothing but the tag routes mail."""
    yield from _set(site, _ROUTES)
    for door in () if site.is_hop else site.doors:
        if value := door.options.get("content_filter"):
            yield f"{door.label}: content_filter = {value}"


@check(
    Severity.ERROR,
    can_happen="A requeued message loses its pool (no_header_body_checks), or mail passes undecided (no_milters).",
    remedy="receive_override_options = (empty)",
)
def express_with_overrides(site: Site) -> Iterator[str]:
    """In the express profile no checks and no milters are switched off."""
    yield from _set(site, ("receive_override_options",))


def _set(site: Site, parameters: tuple[str, ...]) -> Iterator[str]:
    if site.is_hop:
        return
    for parameter in parameters:
        if value := site.postfix.value(parameter):
            yield f"{parameter} = {value}"


EXPRESS_CHECKS: Final[tuple[Check, ...]] = (
    express_with_local_domains,
    express_with_copies,
    express_with_rewritten_recipients,
    express_with_routes,
    express_with_overrides,
)
