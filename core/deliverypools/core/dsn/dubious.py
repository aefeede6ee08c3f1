"""Whether a notice of this Postfix would be backscatter: about mail of somebody who has forged its sender."""

from __future__ import annotations

import re

from deliverypools.core.accounts import is_internal
from deliverypools.core.addresses import normalise_address
from deliverypools.core.facts import Answer, Ingress, Origin, printable
from deliverypools.core.settings import Settings
from deliverypools.core.ticket import Ticket

_FAILED = re.compile(r"\b(?:spf=(?:soft)?fail|dmarc=fail)\b")


def why_backscatter(ticket: Ticket, notice_recipients: tuple[str, ...], settings: Settings) -> str:
    """Return why a notice about the message of this ticket would be backscatter, "" where it has to be sent.

    It would be where the message came from outside, and its sender failed SPF or DMARC or it was spam. Not where

    * the envelope sender was authenticated, or DNS could not tell;
    * a sender who proves nothing has failed nothing either: a domain without SPF and DMARC;
    * he asked for notices (NOTIFY, RFC 3461 section 4.1);
    * the notice goes to one of our own users, or to somebody else than that sender (the owner of a list, postmaster).
    """
    origin = ticket.origin
    if origin is None or origin.ingress is not Ingress.OUTSIDE or ticket.requested_notices:
        return ""
    sender = normalise_address(origin.envelope_sender)
    if not sender or is_internal(sender, settings):
        return ""
    if {normalise_address(recipient) for recipient in notice_recipients} != {sender}:
        return ""
    return why_forged(origin)


def why_forged(origin: Origin) -> str:
    """Return what speaks against the envelope sender of mail from outside, "" where nothing does."""
    authenticated = origin.envelope_authenticated.answer
    if authenticated in (Answer.YES, Answer.UNKNOWN):
        return ""
    if origin.spam:
        return printable(f"the message was spam: {origin.spam}")
    if authenticated is Answer.NO and (failed := _FAILED.findall(origin.authentication_results)):
        return printable(f"its sender failed authentication: {' '.join(failed)}")
    return ""
