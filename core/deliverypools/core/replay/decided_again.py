"""Decides again, under other settings, what is in the decision log: from the evidence that was kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from deliverypools.core.accounts import account_of
from deliverypools.core.decisions import HIGH_RISK, REFUSED_TAG, Decision
from deliverypools.core.evidence import Counter, Evidence, read_evidence
from deliverypools.core.facts import Origin
from deliverypools.core.limits import Charge, Exceeded, Held, Limit, limits_for, over_limit
from deliverypools.core.probe import RULE as PROBE
from deliverypools.core.records import DECIDING_PASSES, DecisionRecord
from deliverypools.core.requeue import LET_GO, REQUEUED
from deliverypools.core.rules import classify
from deliverypools.core.settings import Settings
from deliverypools.core.spam import scanners_needed

NO_EVIDENCE: Final = "its evidence was not kept, or was cut"
NOT_SCANNED: Final = "a scanner was not asked then"
NOT_COUNTED: Final = "a limit was not counted then"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedAgain:
    """A message of the decision log, decided again."""

    pool: str = ""
    """`refused` stands in its place, too; what cannot be decided leaves by high-risk in the end."""
    rule: str = ""
    exceeded: tuple[Exceeded, ...] = ()
    problem: str = ""
    """Why it cannot be told for sure; the rest of this is empty then."""


def is_decision(record: DecisionRecord) -> bool:
    """Tell whether a row says how a message was decided: what a replay compares."""
    is_other = record.rule in (REQUEUED, LET_GO, PROBE)
    return record.pass_name in DECIDING_PASSES and bool(record.pool or record.leaves_by) and not is_other


def decide_again(record: DecisionRecord, first: Evidence | None, settings: Settings) -> DecidedAgain:
    """Return what these settings make of a message; `first` is the evidence of its first pass, where it was counted."""
    evidence = read_evidence(record.details)
    if evidence is None or evidence.facts is None or evidence.is_cut:
        return DecidedAgain(problem=NO_EVIDENCE)
    facts, origin = evidence.facts, evidence.facts.origin
    exceeded: tuple[Exceeded, ...] = ()
    counted = evidence if evidence.counters else first
    if origin is not None and counted is not None and counted.counters:
        found = _exceeded(origin, counted, settings)
        if found is None:
            return DecidedAgain(problem=NOT_COUNTED)
        exceeded = found
        facts = replace(facts, origin=replace(origin, over_limit=over_limit(exceeded)))
    decision = classify(facts, settings)
    if scanners_needed(decision, facts, settings):
        return DecidedAgain(problem=NOT_SCANNED)
    return DecidedAgain(pool=outcome_of(decision), rule=decision.rule, exceeded=exceeded)


def outcome_of(decision: Decision) -> str:
    """Return the pool by which a message leaves in the end, `refused` if it does not."""
    return REFUSED_TAG if decision.refusal else decision.pool or HIGH_RISK


def _exceeded(origin: Origin, counted: Evidence, settings: Settings) -> tuple[Exceeded, ...] | None:
    """Return the limits of these settings that a message exceeds; None: one of them was not counted then."""
    account = account_of(origin.ingress, origin.account, origin.envelope_sender, settings)
    if account is None:
        return ()
    limits = limits_for(Charge(account, counted.internal, counted.external), settings)
    held = [_held(limit, counted.counters) for limit in limits]
    if None in held:
        return None
    return tuple(Exceeded(one.limit, one.used, account.name) for one in held if one and one.is_exceeded)


def _held(limit: Limit, counters: Sequence[Counter]) -> Held | None:
    """Return what the window of a limit held then; None: nobody looked."""
    if limit.window is None:
        return Held(limit, 0)
    same = (one for one in counters if (one.name, one.seconds, one.tenant) == _name(limit, limit.window.seconds))
    counter = next(same, None)
    return Held(limit, counter.used, counter.whole) if counter else None


def _name(limit: Limit, seconds: int) -> tuple[str, int, str]:
    return limit.name, seconds, limit.tenant
