"""Which mail scanners are asked about."""

from __future__ import annotations

from deliverypools.core.addresses import domain_of, normalise_address
from deliverypools.core.facts import Ingress, MessageFacts, Origin
from deliverypools.core.named_senders import named_by
from deliverypools.core.scanning.answers import MALWARE_SCANNERS, SPAM_SCANNERS, Scanner
from deliverypools.core.settings import Settings, SpamSkip


def scanners_for_spam(settings: Settings) -> tuple[Scanner, ...]:
    """Return the scanners that the settings name for spam."""
    return tuple(scanner for scanner in SPAM_SCANNERS if getattr(settings.spam, scanner))


def scanners_for_malware(settings: Settings) -> tuple[Scanner, ...]:
    """Return the scanners that the settings name for malware."""
    return tuple(scanner for scanner in MALWARE_SCANNERS if getattr(settings.spam, scanner))


def is_oversized(facts: MessageFacts, settings: Settings) -> bool:
    """Tell whether a message is larger than what is scanned."""
    return facts.size_bytes > settings.spam.size_limit


def is_to_be_scanned(facts: MessageFacts, settings: Settings) -> bool:
    """Tell whether scanners are asked about a message, by whom it is from, whom it is for, and its size."""
    return is_in_scope(facts, settings) and not is_oversized(facts, settings)


def is_in_scope(facts: MessageFacts, settings: Settings) -> bool:
    """Tell whether scanners are asked about such a message, whatever its size.

    One of unknown origin can be of either kind.
    """
    if settings.spam.scan != "both" and facts.origin is not None:
        is_forwarded = _is_forwarded(facts, facts.origin, settings)
        if is_forwarded is not (settings.spam.scan == "forwarded"):
            return False
    return not reason_to_skip(facts, settings)


def reason_to_skip(facts: MessageFacts, settings: Settings) -> str:
    """Return which entry of `[[spam.skip]]` is for a message, "" if none is."""
    return next((reason for skip in settings.spam.skip if (reason := _skipped_by(skip, facts))), "")


def _is_forwarded(facts: MessageFacts, origin: Origin, settings: Settings) -> bool:
    if origin.ingress is Ingress.OUTSIDE:
        return True
    return not settings.is_accepted_domain(domain_of(facts.envelope_sender))


def _skipped_by(skip: SpamSkip, facts: MessageFacts) -> str:
    if skip.recipient is not None:
        found = bool(facts.recipients) and all(normalise_address(one) == skip.recipient for one in facts.recipients)
        return f"all for {skip.recipient}" if found else ""
    return named_by(skip, facts.origin)
