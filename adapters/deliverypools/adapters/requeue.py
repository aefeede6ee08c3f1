"""Live demotion: queued mail of accounts that were restricted, or released, since is decided again.

The order makes it safe to be interrupted, and to be run twice at once. First it is put on record what is about to be
moved; then deferred messages are put on hold, where no delivery agent takes them; then what really is on hold is
requeued. At worst messages stay on hold, and the next run knows them by their record.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from deliverypools.adapters.postfix_queue import PostfixQueue, QueueError
from deliverypools.adapters.state import State, StateUnavailable
from deliverypools.core.records import EGRESS_PASS, FAST_PASS, FIRST_PASS
from deliverypools.core.requeue import (
    DEFERRED_QUEUE,
    HOLD_QUEUE,
    Intent,
    Moved,
    Outcome,
    Planned,
    Receipt,
    Step,
    intent_for,
    is_about,
    noted,
    step_for,
)
from deliverypools.core.restrictions import Restriction
from deliverypools.core.settings import Settings

_MOVES: Final = (Step.REQUEUE, Step.HOLD, Step.LET_GO)
_OUTCOME_IN: Final = {HOLD_QUEUE: Outcome.HELD, "maildrop": Outcome.REQUEUED}
"""Where a run at the same time was quicker."""


class RequeueInterrupted(Exception):  # noqa: N818  (what happened; the cause is the error)
    """Some messages may be on hold that the next run takes up; the text says why, the cause is what was raised."""


@dataclass(frozen=True, slots=True)
class _Plan:
    messages: tuple[Planned, ...]
    not_decided: int

    def ids(self, step: Step, queue_name: str | None = None) -> list[str]:
        return [
            one.message.queue_id
            for one in self.messages
            if one.step is step and queue_name in (None, one.message.queue_name)
        ]


def requeue(queue: PostfixQueue, state: State, settings: Settings, accounts: Collection[str]) -> Receipt:
    """Move every message of these accounts (none: of all) that no longer leaves as it should; say what was done.

    Raises:
        QueueError: no message was touched.
        StateUnavailable: likewise.
        RequeueInterrupted: messages may have been left on hold.
    """
    plan = _plan(queue, state, settings, accounts)
    keep_seconds = settings.milter.decisions_kept_seconds
    for one in plan.messages:
        if _needs_note(one):
            state.record(noted(one), keep_seconds)
    try:
        return _carry_out(plan, queue, state, keep_seconds)
    except (QueueError, StateUnavailable) as error:
        raise RequeueInterrupted(str(error)) from error


def _carry_out(plan: _Plan, queue: PostfixQueue, state: State, keep_seconds: float) -> Receipt:
    held = queue.hold([*plan.ids(Step.REQUEUE, DEFERRED_QUEUE), *plan.ids(Step.HOLD)])
    # What went into delivery at the last moment is not on hold, and postsuper looks nowhere else.
    requeued = queue.requeue(plan.ids(Step.REQUEUE))
    is_awake = queue.wake_pickup() if requeued else True
    let_go = queue.let_go(plan.ids(Step.LET_GO))
    done = (
        dict.fromkeys(held, Outcome.HELD)
        | dict.fromkeys(requeued, Outcome.REQUEUED)
        | dict.fromkeys(let_go, Outcome.LET_GO)
    )
    missed = [one for one in plan.messages if one.message.queue_id not in done and one.step in _MOVES]
    done |= _what_became_of(missed, queue)
    for one in missed:
        if done[one.message.queue_id] in (Outcome.IN_DELIVERY, Outcome.GONE):
            state.record(one.record, keep_seconds)
    return Receipt(
        moved=tuple(_moved(one, done) for one in plan.messages),
        not_decided=plan.not_decided,
        copied_again_by=queue.bcc_parameters() if requeued else (),
        is_pickup_awake=is_awake,
    )


def _plan(queue: PostfixQueue, state: State, settings: Settings, accounts: Collection[str]) -> _Plan:
    host = queue.hostname()
    restrictions: dict[str, list[Restriction]] = {}
    for restriction in state.restrictions():
        restrictions.setdefault(restriction.account, []).append(restriction)
    planned = []
    not_decided = 0
    for message in queue.messages():
        record = state.record_of(host, message.queue_id)
        if record is None or not record.account or not is_about(record, message):
            continue
        if accounts and record.account not in accounts:
            continue
        intent = intent_for(record, restrictions.get(record.account, ()), settings)
        if settings.shadow and intent is not Intent.OWN_POOL:
            # Nobody's mail is put elsewhere, or on hold, in shadow mode.
            continue
        if record.pass_name == FIRST_PASS:
            not_decided += intent is not Intent.OWN_POOL
            continue
        passes_hop = settings.profile == "hop" and record.pass_name in (EGRESS_PASS, FAST_PASS)
        step = step_for(message, record, intent, passes_hop=passes_hop, is_asked_for=bool(accounts))
        if step is not None:
            planned.append(Planned(message, record, step))
    return _Plan(tuple(planned), not_decided)


def _needs_note(planned: Planned) -> bool:
    """What is on hold already is requeued in one step: nothing can be interrupted."""
    is_held = planned.message.queue_name == HOLD_QUEUE
    return planned.step in (Step.HOLD, Step.LET_GO) or (planned.step is Step.REQUEUE and not is_held)


def _what_became_of(missed: Sequence[Planned], queue: PostfixQueue) -> dict[str, Outcome]:
    """Tell of messages that could not be moved where they are now: only the queue knows."""
    outcomes = {one.message.queue_id: Outcome.GONE for one in missed}
    if missed:
        for message in queue.messages():
            if message.queue_id in outcomes:
                outcomes[message.queue_id] = _OUTCOME_IN.get(message.queue_name, Outcome.IN_DELIVERY)
    return outcomes


def _moved(one: Planned, done: Mapping[str, Outcome]) -> Moved:
    queue_id, record = one.message.queue_id, one.record
    standing = Outcome.STAYS if one.step is Step.STAY else Outcome.IN_DELIVERY
    return Moved(
        queue_id=queue_id,
        account=record.account,
        pool=record.pool,
        rule=record.rule,
        outcome=done.get(queue_id, standing),
    )
