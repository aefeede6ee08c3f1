"""Which mail scanners are asked about."""

from __future__ import annotations

from collections.abc import Sequence

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


def size_limit_of(scanner: Scanner, settings: Settings) -> int:
    """Return up to how many bytes a scanner is asked about a message."""
    limit = settings.spam.size_limit
    return min(limit, settings.spam.spamd_size_limit) if scanner is Scanner.SPAMD else limit


def to_be_asked(scanners: Sequence[Scanner], facts: MessageFacts, settings: Settings) -> tuple[Scanner, ...]:
    """Return which of these scanners are asked about a message, by whom it is from, whom it is for, and its size."""
    if not scanners or reason_to_leave_out(facts, settings):
        return ()
    return tuple(scanner for scanner in scanners if facts.size_bytes <= size_limit_of(scanner, settings))


def too_large_for(scanners: Sequence[Scanner], facts: MessageFacts, settings: Settings) -> tuple[str, ...]:
    """Return, for each of these scanners that would be asked about a message if it were smaller, why it is not."""
    if not scanners or reason_to_leave_out(facts, settings):
        return ()
    limits = {scanner: size_limit_of(scanner, settings) for scanner in scanners}
    return tuple(
        f"{scanner}: not asked about more than {limit} bytes"
        for scanner, limit in limits.items()
        if facts.size_bytes > limit
    )


def why_not_scanned(facts: MessageFacts, settings: Settings) -> tuple[str, ...]:
    """Return why scanners that the settings name are not asked about a message; none where all of them are."""
    scanners = (*scanners_for_malware(settings), *scanners_for_spam(settings))
    reason = reason_to_leave_out(facts, settings) if scanners else ""
    return (f"not scanned: {reason}",) if reason else too_large_for(scanners, facts, settings)


def reason_to_leave_out(facts: MessageFacts, settings: Settings) -> str:
    """Return why no scanner is asked about such a message, whatever its size; "" where they are.

    One of unknown origin can be of either kind, and so can one that was sent on: with a ticket that it had when it
    came, it may be anything by now.
    """
    origin = facts.origin
    if origin is not None and not facts.is_sent_on:
        if origin.ingress is Ingress.BOUNCE or _is_own_notice(facts, origin):
            return "made on this host"
        is_forwarded = _is_forwarded(facts, origin, settings)
        if settings.spam.scan != "both" and is_forwarded is not (settings.spam.scan == "forwarded"):
            return f'spam.scan = "{settings.spam.scan}"'
    skipped = reason_to_skip(facts, settings)
    return f"spam.skip, {skipped}" if skipped else ""


def reason_to_skip(facts: MessageFacts, settings: Settings) -> str:
    """Return which entry of `[[spam.skip]]` is for a message, "" if none is."""
    return next((reason for skip in settings.spam.skip if (reason := _skipped_by(skip, facts))), "")


def _is_own_notice(facts: MessageFacts, origin: Origin) -> bool:
    """Tell whether it is an alert or a copy of suspicious mail: of sendmail(1) mail, what nobody is charged for."""
    return origin.ingress is Ingress.LOCAL and not origin.account and facts.has_null_sender


def _is_forwarded(facts: MessageFacts, origin: Origin, settings: Settings) -> bool:
    if origin.ingress is Ingress.OUTSIDE:
        return True
    return not settings.is_accepted_domain(domain_of(facts.envelope_sender))


def _skipped_by(skip: SpamSkip, facts: MessageFacts) -> str:
    if skip.recipient is not None:
        found = bool(facts.recipients) and all(normalise_address(one) == skip.recipient for one in facts.recipients)
        return f"all for {skip.recipient}" if found else ""
    return named_by(skip, facts.origin)
