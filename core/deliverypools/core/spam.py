"""The rules about spam and malware: what scanners say, in headers and when they are asked.

As in `rules`, where they have their places: pure, total functions of the facts and the settings. A rule whose scanners
were not asked yet answers `NotAsked`: so the decision itself says which scanners it needs (`scanners_needed`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from deliverypools.core.addresses import domain_of
from deliverypools.core.decisions import (
    HIGH_RISK,
    MALWARE,
    SPAM,
    Decision,
    Match,
    NotAsked,
    Refusal,
    Unknown,
)
from deliverypools.core.facts import Answer, Ingress, MessageFacts
from deliverypools.core.scanning.answers import Scanner, ScannerAnswer, ScanVerdict
from deliverypools.core.scanning.scope import (
    scanners_for_malware,
    scanners_for_spam,
    to_be_asked,
    too_large_for,
)
from deliverypools.core.settings import Settings
from deliverypools.core.settings.scan_values import HOLD, REJECT
from deliverypools.core.spam_headers import spam_evidence

_STRICTEST_FIRST: Final = (REJECT, HOLD, HIGH_RISK)


def malware(facts: MessageFacts, settings: Settings) -> Match | Unknown | NotAsked | None:
    """A scanner found malware: the message leaves by high-risk, is put on hold, or is refused (`spam.malware`).

    Comes before what would send it by high-risk anyway, as that is not enough where it is to be held or refused, and
    before pins: they choose a pool, and no pool is for malware.
    """
    if settings.spam.malware == HIGH_RISK and _leaves_by_high_risk_anyway(facts):
        return None
    scanners = to_be_asked(scanners_for_malware(settings), facts, settings)
    if not scanners:
        return None
    if facts.scan is None:
        return NotAsked()
    answers = [facts.scan.of(scanner) for scanner in scanners]
    if found := [answer for answer in answers if answer.verdict is ScanVerdict.SPAM]:
        return _match(settings.spam.malware, found, facts, settings)
    return _silent(answers, {settings.spam.malware}, settings)


def _leaves_by_high_risk_anyway(facts: MessageFacts) -> bool:
    is_restricted = facts.account_restricted.answer is Answer.YES
    return facts.has_null_sender or is_restricted or facts.sender_domain_has_mx_or_address.answer is Answer.NO


def not_scanned_for_malware(facts: MessageFacts, settings: Settings) -> Match | None:
    """No scanner's word about malware is to be had, and the settings do not wait for one.

    Matches what clamd did not answer about with `spam.unknown_verdict = "high-risk"`, and what is too large for it with
    `spam.oversized = "high-risk"`. Before pins, as `malware` is; it is not counted as spam.
    """
    return _unscanned(scanners_for_malware(settings), facts, settings)


def spam(facts: MessageFacts, settings: Settings) -> Match | Unknown | NotAsked | None:
    """A scanner said so: in a header that the settings name (`spam.headers`), on arrival or since, or when asked.

    `spam.rspamd_scores` and `spam.spamd_scores` say from which score a message leaves by high-risk, is put on hold or
    refused; of two scanners, the stricter one's word counts. About what a header calls spam, scanners are asked only
    if they could have it held or refused. Matches too what has so many header fields that a scanner's word could hide
    behind them.
    """
    evidence = _header_evidence(facts, settings)
    scanners = to_be_asked(scanners_for_spam(settings), facts, settings)
    outcomes = {name for scanner in scanners for name in _outcomes_of(scanner, settings)}
    if evidence and outcomes.isdisjoint((REJECT, HOLD)):
        return Match(HIGH_RISK, (evidence,))
    if scanners and facts.scan is None:
        return NotAsked()
    answers = [facts.scan.of(scanner) for scanner in scanners] if facts.scan else []
    for outcome in _STRICTEST_FIRST:
        if found := [answer for answer in answers if _outcome(answer, settings) == outcome]:
            return _match(outcome, found, facts, settings)
    return Match(HIGH_RISK, (evidence,)) if evidence else _silent(answers, outcomes, settings)


def unscanned(facts: MessageFacts, settings: Settings) -> Match | None:
    """No scanner's word about spam is to be had, and the settings do not wait for one.

    Matches what a scanner did not answer about with `spam.unknown_verdict = "high-risk"`, and what is too large for one
    with `spam.oversized = "high-risk"`. No sign of spam: it is not counted as such.
    """
    return _unscanned(scanners_for_spam(settings), facts, settings)


def _unscanned(scanners: Sequence[Scanner], facts: MessageFacts, settings: Settings) -> Match | None:
    reasons = list(too_large_for(scanners, facts, settings)) if settings.spam.oversized == HIGH_RISK else []
    if settings.spam.unknown_verdict == HIGH_RISK and facts.scan is not None:
        answers = [facts.scan.of(scanner) for scanner in to_be_asked(scanners, facts, settings)]
        reasons += [answer.evidence for answer in answers if answer.verdict is ScanVerdict.UNKNOWN]
    return Match(HIGH_RISK, tuple(reasons)) if reasons else None


def suspicious(facts: MessageFacts, settings: Settings) -> Match | None:
    """Its score reaches that of a pool of the operator's own (`bulk = 4.0` in `spam.rspamd_scores`), and no more.

    Comes last: it is about mail that would else leave by normal. It is not counted as spam.
    """
    if facts.scan is None:
        return None
    best: tuple[float, str, ScannerAnswer] | None = None
    for answer in facts.scan.answers:
        for name, least in _own_pools(answer.scanner, settings).items():
            if answer.score is not None and answer.score >= least and (best is None or least > best[0]):
                best = (least, name, answer)
    return Match(best[1], (best[2].evidence,)) if best else None


def scanners_needed(decision: Decision, facts: MessageFacts, settings: Settings) -> tuple[Scanner, ...]:
    """Return which scanners a decision lacks, that was made without any."""
    by_rule = {MALWARE: scanners_for_malware(settings), SPAM: scanners_for_spam(settings)}
    lacking = [scanner for rule in decision.not_asked for scanner in by_rule.get(rule, ())]
    return to_be_asked(lacking, facts, settings)


def scans_null_senders(settings: Settings) -> bool:
    """Tell whether a scanner may be asked about mail with a null sender."""
    return bool(scanners_for_malware(settings)) and settings.spam.malware != HIGH_RISK


def scan_is_possible(settings: Settings) -> bool:
    """Tell whether the settings name a scanner."""
    return bool(scanners_for_malware(settings) or scanners_for_spam(settings))


def _header_evidence(facts: MessageFacts, settings: Settings) -> str:
    if facts.origin and facts.origin.spam:
        return facts.origin.spam
    if evidence := spam_evidence(facts.headers, settings.spam.headers):
        return evidence
    # Nothing to wait for: it will have as many at the next try.
    return "" if facts.headers.is_complete else "more header fields than are read"


def _scores(scanner: Scanner, settings: Settings) -> Mapping[str, float]:
    match scanner:
        case Scanner.RSPAMD:
            return settings.spam.rspamd_scores
        case Scanner.SPAMD:
            return settings.spam.spamd_scores
        case Scanner.CLAMD:
            return {}


def _own_pools(scanner: Scanner, settings: Settings) -> dict[str, float]:
    return {name: least for name, least in _scores(scanner, settings).items() if name not in _STRICTEST_FIRST}


def _outcomes_of(scanner: Scanner, settings: Settings) -> set[str]:
    return {HIGH_RISK, *_scores(scanner, settings)}


def _outcome(answer: ScannerAnswer, settings: Settings) -> str:
    """Return `reject`, `hold` or `high-risk`, "" for what is no spam."""
    if answer.verdict is ScanVerdict.UNKNOWN:
        return ""
    scores = _scores(answer.scanner, settings)
    if answer.score is not None:
        for outcome in (REJECT, HOLD):
            if outcome in scores and answer.score >= scores[outcome]:
                return outcome
        if HIGH_RISK in scores and answer.score >= scores[HIGH_RISK]:
            return HIGH_RISK
    is_by_its_own_word = answer.is_forced or HIGH_RISK not in scores or answer.score is None
    return HIGH_RISK if answer.verdict is ScanVerdict.SPAM and is_by_its_own_word else ""


def _match(outcome: str, answers: Sequence[ScannerAnswer], facts: MessageFacts, settings: Settings) -> Match:
    reasons = tuple(answer.evidence for answer in answers)
    refusal = _refusal(facts, settings) if outcome == REJECT else None
    return Match(HIGH_RISK, reasons, hold=outcome == HOLD, refusal=refusal)


def _refusal(facts: MessageFacts, settings: Settings) -> Refusal:
    """Return who is told that a message is refused: never somebody who may be forged, nor a list about its members."""
    origin = facts.origin
    nobody_else = facts.archive_copies and facts.archive_copies == len(facts.recipients)
    is_ours = origin is not None and origin.ingress is not Ingress.BOUNCE and not facts.has_null_sender
    if origin is None or not is_ours or nobody_else or facts.headers.first("List-Id") is not None:
        return Refusal.TO_POSTMASTER
    if origin.ingress is not Ingress.OUTSIDE and settings.is_accepted_domain(domain_of(facts.envelope_sender)):
        return Refusal.TO_SENDER
    is_one_mailbox = facts.forwarded_by and len(facts.recipients) == 1
    return Refusal.TO_FORWARDER if is_one_mailbox else Refusal.TO_POSTMASTER


def _silent(answers: Sequence[ScannerAnswer], outcomes: set[str], settings: Settings) -> Unknown | None:
    """Return "unknown" where a scanner has not answered, and its word is waited for."""
    missing = [answer.evidence for answer in answers if answer.verdict is ScanVerdict.UNKNOWN]
    if not missing or settings.spam.unknown_verdict != "wait":
        return None
    return Unknown(tuple(sorted(outcomes)), "; ".join(missing))
