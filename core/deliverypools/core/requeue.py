"""Live demotion: which queued messages no longer leave as they should, since an account was restricted or released.

Pure: who looks at the queue and moves files is `adapters.requeue`. A message that has passed the hop is requeued: it
passes the hop once more and is decided again, from its ticket. In the express profile a message keeps its pool
whatever is done to it: there it can only be put on hold, and taken off.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from deliverypools.core.accounts import account_of
from deliverypools.core.decisions import HIGH_RISK, RESTRICTED_SENDER
from deliverypools.core.facts import Ingress
from deliverypools.core.outbound_policies import policy_for
from deliverypools.core.records import DecisionRecord
from deliverypools.core.restrictions import Restriction
from deliverypools.core.settings import Settings

REQUEUED: Final = "requeued"
"""In the place of a rule: the queue file was put on hold to be requeued. Found on hold, the run was interrupted."""
LET_GO: Final = "let_go"
"""In the place of a rule: the message was on hold, and was taken off when its account was released."""

HOLD_QUEUE: Final = "hold"
DEFERRED_QUEUE: Final = "deferred"
_DELIVERY_QUEUES: Final = ("incoming", "active")

_EARLIER_SECONDS: Final = 60.0
_LATER_SECONDS: Final = 7200.0


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message in Postfix's queue."""

    queue_id: str
    queue_name: str
    """`deferred`, `hold`, `active`, `incoming`, `maildrop`."""
    arrived_at: float
    """Seconds since the epoch, exact to a second."""


class Intent(StrEnum):
    """How the mail of an account ought to leave now."""

    OWN_POOL = "own pool"
    """The account is not restricted."""
    HIGH_RISK = "high-risk"
    HOLD = "hold"


class Step(StrEnum):
    """What is to be done with a message."""

    REQUEUE = "requeue"
    HOLD = "hold"
    """It cannot be decided again: put it on hold, where it stays."""
    LET_GO = "let go"
    """Take it off hold: it leaves by the pool that it has."""
    LEAVE = "leave"
    """A delivery agent may have it: what is requeued now would arrive twice."""
    STAY = "stay"
    """It was decided as mail of a restricted account, and cannot be decided again."""


class Outcome(StrEnum):
    """What became of a message."""

    REQUEUED = "requeued"
    HELD = "held"
    LET_GO = "let go"
    IN_DELIVERY = "in delivery"
    STAYS = "stays"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Planned:
    """A message that does not leave as it should, and what is to be done about it."""

    message: QueuedMessage
    record: DecisionRecord
    step: Step


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of one message."""

    queue_id: str
    account: str
    pool: str
    """The pool by which it would have left."""
    rule: str
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a run did."""

    moved: tuple[Moved, ...]
    not_decided: int
    """Messages of the accounts that have yet to pass the hop, and are decided there."""
    copied_again_by: tuple[str, ...]
    """Parameters of Postfix's (`always_bcc`) by which the requeued messages are copied once more."""
    is_pickup_awake: bool
    """False: pickup(8) could not be told, and looks by itself within a minute."""

    def count(self, outcome: Outcome) -> int:
        """Return how many messages that became of."""
        return sum(one.outcome is outcome for one in self.moved)


def intent_for(record: DecisionRecord, restrictions: Iterable[Restriction], settings: Settings) -> Intent:
    """Return how a message ought to leave; `restrictions` are those of its account that are in effect."""
    try:
        ingress = Ingress(record.ingress)
    except ValueError:
        return Intent.OWN_POOL
    if not any(restriction.account == record.account and restriction.concerns(ingress) for restriction in restrictions):
        return Intent.OWN_POOL
    account = account_of(ingress, record.account, record.envelope_sender, settings)
    policy = policy_for(account, settings) if account else None
    return Intent.HOLD if policy is not None and policy.restricted_mail == "hold" else Intent.HIGH_RISK


def is_about(record: DecisionRecord, message: QueuedMessage) -> bool:
    """Tell whether a record is about this queue file: short queue ids are soon used again."""
    return -_EARLIER_SECONDS <= record.at - message.arrived_at <= _LATER_SECONDS


def step_for(
    message: QueuedMessage, record: DecisionRecord, intent: Intent, *, passes_hop: bool, is_asked_for: bool
) -> Step | None:
    """Return what is to be done with a message; None where it leaves, or waits, as it should.

    Args:
        message: where it is.
        record: how it was decided.
        intent: how it ought to leave.
        passes_hop: whether a requeued message is decided again.
        is_asked_for: whether an administrator has named the account. Then its mail on hold goes back whoever put it
            there; by itself, a run leaves alone what somebody else has put on hold, or has taken off.

    """
    misfits = _misfits_hop if passes_hop else _misfits_express
    step = misfits(record, intent, is_held=message.queue_name == HOLD_QUEUE, is_asked_for=is_asked_for)
    if step in (Step.REQUEUE, Step.HOLD) and message.queue_name in _DELIVERY_QUEUES:
        return Step.LEAVE
    return step if message.queue_name in (HOLD_QUEUE, DEFERRED_QUEUE) else None


def _misfits_hop(record: DecisionRecord, intent: Intent, *, is_held: bool, is_asked_for: bool) -> Step | None:
    may_take_off_hold = is_asked_for or record.rule == REQUEUED
    match intent:
        case Intent.OWN_POOL:
            misfits = record.rule in (RESTRICTED_SENDER, REQUEUED) or (is_held and is_asked_for)
        case Intent.HIGH_RISK:
            misfits = may_take_off_hold if is_held else record.pool != HIGH_RISK
        case Intent.HOLD if is_held:
            misfits = may_take_off_hold and record.rule != RESTRICTED_SENDER
        case Intent.HOLD:
            misfits = is_asked_for or record.rule != RESTRICTED_SENDER
    return Step.REQUEUE if misfits else None


def _misfits_express(record: DecisionRecord, intent: Intent, *, is_held: bool, is_asked_for: bool) -> Step | None:
    if intent is Intent.OWN_POOL:
        if is_held:
            # What a scanner had put on hold is not the account's to get back.
            is_of_somebody_else = is_asked_for and not record.is_on_hold
            return Step.LET_GO if is_of_somebody_else or record.rule == RESTRICTED_SENDER else None
        return Step.STAY if record.rule == RESTRICTED_SENDER and record.pool == HIGH_RISK else None
    if is_held:
        return None
    if intent is Intent.HIGH_RISK:
        return Step.HOLD if record.pool != HIGH_RISK else None
    return Step.HOLD if is_asked_for or record.rule != RESTRICTED_SENDER else None


def noted(planned: Planned) -> DecisionRecord:
    """Return what goes on record about a queue file before it is moved, for a run that comes later."""
    rule = {Step.REQUEUE: REQUEUED, Step.HOLD: RESTRICTED_SENDER, Step.LET_GO: LET_GO}[planned.step]
    record = planned.record
    if record.rule == rule:
        return record
    what = {Step.REQUEUE: "to be decided again", Step.HOLD: "put on hold", Step.LET_GO: "taken off hold"}[planned.step]
    return replace(record, rule=rule, reasons=f"{what}; was {record.rule}: {record.reasons}"[:1000])
