"""Whether a notice of this Postfix would be backscatter: about mail of somebody who has forged its sender."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

from deliverypools.core.accounts import is_internal
from deliverypools.core.addresses import domain_of, is_routed, is_same_or_subdomain, normalise_address
from deliverypools.core.facts import Answer, Ingress, Origin, printable
from deliverypools.core.settings import Settings
from deliverypools.core.ticket import Ticket

_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_SPF_FAILED: Final = re.compile(r"\bspf=(?:soft)?fail\b")
_DMARC_FAILED: Final = re.compile(r"\bdmarc=fail\b")


def why_backscatter(
    ticket: Ticket, notice_recipients: Iterable[str], author_domains: Collection[str], settings: Settings
) -> str:
    """Return why a notice about the message of this ticket would be backscatter, "" where it has to be sent.

    It would be where the message came from outside, and its sender failed SPF or DMARC or it was spam. Not where

    * the envelope sender was authenticated, or DNS could not tell;
    * a sender who proves nothing has failed nothing either: a domain without SPF and DMARC;
    * he asked for notices (NOTIFY, RFC 3461 section 4.1);
    * the notice goes to one of our own users, or to somebody else than that sender (the owner of a list, postmaster).

    `author_domains` are those in From of the message.
    """
    origin = ticket.origin
    if origin is None or origin.ingress is not Ingress.OUTSIDE or ticket.requested_notices:
        return ""
    told = {normalise_address(recipient) for recipient in notice_recipients}
    if len(told) != 1 or "" in told or any(is_internal(one, settings) for one in told):
        return ""
    sender = normalise_address(origin.envelope_sender)
    if not told <= {sender, *_as_postfix_reads(sender)}:
        return ""
    forged = why_forged(origin, author_domains)
    if not forged and not _may_be_genuine(origin) and _leads_through_us(sender, settings):
        # SPF was asked about our own domain, if about any: not about the one that it leads to.
        return printable(f"its sender is a route through this server: {sender}")
    return forged


def _leads_through_us(sender: str, settings: Settings) -> bool:
    """Tell whether a sender is a route that Postfix itself would follow: to others it is an odd address, no more."""
    domain = domain_of(sender)
    is_here = "." not in domain or domain.startswith("[")
    return is_routed(sender) and (
        is_here or any(is_same_or_subdomain(domain, one) for one in settings.accepted_domains)
    )


def _may_be_genuine(origin: Origin) -> bool:
    """Tell whether something spoke for the envelope sender, or DNS could not tell.

    A filter may have changed the message since, so that nothing authenticates it any more: not the envelope.
    """
    return origin.is_envelope_backed or origin.envelope_authenticated.answer in (Answer.YES, Answer.UNKNOWN)


def _as_postfix_reads(sender: str) -> set[str]:
    """Return what Postfix may make of a sender: without quotes, or with them, and where a route in it leads."""
    local_part, at, domain = sender.rpartition("@")
    if not at or domain.endswith('"'):
        local_part, domain = sender, ""
    if len(local_part) > 1 and local_part[:1] == local_part[-1:] == '"':
        local_part = local_part[1:-1]
    local_part = _QUOTED_PAIR.sub(r"\1", local_part)
    found = {f"{local_part}@{domain}", f'"{local_part}"@{domain}', local_part}
    if "!" in local_part:
        site, _, user = local_part.partition("!")
        found.add(f"{user}@{site}")
    if "%" in local_part:
        found.add("@".join(local_part.rsplit("%", 1)))
    return {normalise_address(each) for each in found}


def why_forged(origin: Origin, author_domains: Collection[str]) -> str:
    """Return what speaks against the envelope sender of mail from outside, "" where nothing does.

    DMARC is about the author: what it says counts where the envelope sender is of the author's domain, too. Mailing
    lists send what fails it, in their own name. A list that was forwarded fails SPF, but has signed.
    """
    if _may_be_genuine(origin):
        return ""
    if spam := origin.spam or origin.spam_when_it_left:
        return printable(f"the message was spam: {spam}")
    if origin.envelope_authenticated.answer is not Answer.NO:
        return ""
    failed = _SPF_FAILED.findall(origin.authentication_results)
    if _is_of_author(domain_of(normalise_address(origin.envelope_sender)), author_domains):
        failed += _DMARC_FAILED.findall(origin.authentication_results)
    return printable(f"its sender failed authentication: {' '.join(failed)}") if failed else ""


def _is_of_author(domain: str, author_domains: Collection[str]) -> bool:
    return any(is_same_or_subdomain(domain, one) or is_same_or_subdomain(one, domain) for one in author_domains)
