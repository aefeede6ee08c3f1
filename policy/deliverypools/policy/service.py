"""What the policy service answers: who may not send is refused, everybody else is counted, and the ticket tells."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from deliverypools.adapters.enforcement import enforce
from deliverypools.adapters.state import Reservation, State, StateUnavailable
from deliverypools.core.accounts import Account, account_of, smtp_account, smtp_ingress
from deliverypools.core.dns_lists import has_sender_of_bounces
from deliverypools.core.facts import Ingress, printable
from deliverypools.core.limits import (
    BY_DOMAIN,
    RESTRICTING,
    Charge,
    Exceeded,
    Limit,
    action_for,
    judge,
    limits_for,
    tally_of,
)
from deliverypools.core.restrictions import Restriction, refusal
from deliverypools.core.settings import Settings
from deliverypools.core.srs import SenderRewriter, SrsError, srs_refusal, srs_sender_refusal
from deliverypools.core.tallies import Tally
from deliverypools.policy.backscatter import Suspect, client_to_look_up
from deliverypools.policy.recipients import RecipientMemory
from deliverypools.policy.sparing_log import SparingLog
from deliverypools.policy.wire import Request

DUNNO: Final = "DUNNO"
"""No opinion: later restrictions go on. Never OK, which would end them."""

_END_OF_MESSAGE: Final = "END-OF-MESSAGE"
_RCPT: Final = "RCPT"
_MOST_RECIPIENTS: Final = 1_000_000
_MOST_CHARACTERS: Final = 2048
"""Postfix's line_length_limit; no address or login is longer."""
_MOST_QUEUE_ID_CHARACTERS: Final = 64
_MOST_KEPT: Final = 4096
"""Accounts, and messages that cost the same: some kilobytes each."""

_log = logging.getLogger(__name__)
_sparing_log = SparingLog(_log)


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A message that is complete, and is to be counted."""

    reservation: Reservation
    limits: tuple[Limit, ...]
    is_sure: bool
    """Whether it is known which recipients are ours. A guess restricts nobody: the milter, which knows, does."""

    @property
    def queue_id(self) -> str:
        """Return the queue id."""
        return self.reservation.queue_id


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What a request asks of the state."""

    account: Account
    message: Message | None
    """None: only whether the account may send."""
    deadline: float
    """Monotonic; the answer is given up then, so nothing may be counted afterwards."""


class _Reading:
    """How requests are read under some settings. The same account sends again, and most mail has one recipient.

    The settings alone decide what these functions return, so they remember it: that is half of the work of an answer.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.account = functools.lru_cache(_MOST_KEPT)(self._account)
        self.count = functools.lru_cache(_MOST_KEPT)(self._count)

    def _account(self, sasl_username: str, client_address: str, envelope_sender: str) -> Account | None:
        ingress = smtp_ingress(sasl_username, client_address, self.settings)
        name = smtp_account(
            ingress,
            sasl_username=sasl_username,
            client_address=client_address,
            envelope_sender=envelope_sender,
            settings=self.settings,
        )
        return account_of(ingress, name, envelope_sender, self.settings)

    def _count(self, charge: Charge) -> tuple[tuple[Limit, ...], Tally]:
        limits = limits_for(charge, self.settings)
        return limits, tally_of(charge, limits)


class PolicyService:
    """Makes questions of requests, and answers of what the state holds. Has no sockets and no threads of its own."""

    def __init__(
        self,
        state: State,
        clock: Callable[[], float],
        rewriter: Callable[[], SenderRewriter | None] = lambda: None,
    ) -> None:
        self._state = state
        self._clock = clock
        self._rewriter = rewriter
        self._recipients = RecipientMemory()
        self._reading: _Reading | None = None

    def question(self, request: Request, settings: Settings, deadline: float) -> Question | Suspect | str:
        """Return what a request asks of the state or of DNS lists, or the action where neither is asked; never raises.

        Only END-OF-MESSAGE is counted: `recipient_count` is 0 at RCPT, and a message has one END-OF-MESSAGE however
        many RCPT requests, RSETs and aborted transactions it took.
        """
        if self._reading is None or self._reading.settings is not settings:
            self._reading = _Reading(settings)
        try:
            return (
                self._refusal(request, settings)
                or self._suspect(request, settings)
                or self._question(request, self._reading, deadline)
                or DUNNO
            )
        except Exception as error:  # noqa: BLE001  (a request that breaks us must not break the others)
            _sparing_log.write(logging.ERROR, "broken", "untrapped exception in a request", error)
            return DUNNO

    def _refusal(self, request: Request, settings: Settings) -> str | None:
        """Return the action for mail that misuses an SRS address of ours, as recipient or (from outside) as sender."""
        rewriter = self._rewriter()
        if rewriter is None or request.get("protocol_state") != _RCPT:
            return None
        sender = _value(request, "sender")
        action = srs_refusal(_value(request, "recipient"), sender, rewriter)
        ingress = smtp_ingress(_value(request, "sasl_username"), _value(request, "client_address"), settings)
        if not action and ingress is Ingress.OUTSIDE:
            action = srs_sender_refusal(sender, rewriter)
        if action and settings.shadow:
            _tell_spared(f"mail to {_value(request, 'recipient')}", action)
            return None
        return action

    def _suspect(self, request: Request, settings: Settings) -> Suspect | None:
        """Return whom to look up in the lists of servers that send backscatter; nobody is charged for such mail."""
        if not settings.bounces.backscatter_lists or request.get("protocol_state") != _RCPT:
            return None
        if not has_sender_of_bounces(_value(request, "sender")) or self._leads_back(_value(request, "recipient")):
            return None
        if smtp_ingress(_value(request, "sasl_username"), _value(request, "client_address"), settings) != (
            Ingress.OUTSIDE
        ):
            return None
        client = client_to_look_up(_value(request, "client_address"), settings)
        return Suspect(client, _value(request, "instance")) if client else None

    def _leads_back(self, recipient: str) -> bool:
        """Tell whether a recipient is a valid SRS address of ours: a bounce to it is about mail that we have sent."""
        rewriter = self._rewriter()
        try:
            return rewriter is not None and bool(rewriter.reverse(recipient))
        except SrsError:
            return False

    def _question(self, request: Request, reading: _Reading, deadline: float) -> Question | None:
        account = reading.account(
            _value(request, "sasl_username"), _value(request, "client_address"), _value(request, "sender")
        )
        if account is None:
            return None
        stage = request.get("protocol_state")
        message = None
        if stage == _RCPT:
            self._recipients.add(_value(request, "instance"), _value(request, "recipient"), reading.settings)
        elif stage == _END_OF_MESSAGE:
            message = self._message(request, account, reading)
        return Question(account, message, deadline)

    def _message(self, request: Request, account: Account, reading: _Reading) -> Message | None:
        queue_id = _value(request, "queue_id")
        count = _recipient_count(_value(request, "recipient_count"))
        if not count or not queue_id.isalnum() or len(queue_id) > _MOST_QUEUE_ID_CHARACTERS:
            return None
        instance = _value(request, "instance")
        internal, external, is_sure = self._recipients.split(
            instance, _value(request, "recipient"), count, reading.settings
        )
        limits, tally = reading.count(Charge(account, internal, external))
        return Message(Reservation(queue_id, instance or None, tally), limits, is_sure)

    def answers(self, questions: Sequence[Question], settings: Settings) -> list[str]:
        """Return the action for each question; asks the state once for all of them.

        With the state down it is DUNNO: the milter sees that nothing was reserved, and the mail is undecided.
        """
        refused: dict[Question, Restriction] = {}
        try:
            found = self._state.restrictions_on([question.account for question in questions])
            refused = {question: one for question, one in zip(questions, found, strict=True) if one}
            if settings.shadow:
                # Nobody is refused, so what they send is counted.
                for question in refused:
                    _tell_spared(f"account {question.account.name}", refusal(refused[question], settings))
                refused = {}
            refused |= self._count([question for question in questions if question not in refused], settings)
        except StateUnavailable as error:
            _tell_unavailable(error)
        return [
            f"550 5.7.1 {refusal(refused[question], settings)}" if question in refused else DUNNO
            for question in questions
        ]

    def _count(self, questions: Sequence[Question], settings: Settings) -> dict[Question, Restriction]:
        """Reserve the recipients of messages; return the restrictions that follow."""
        now = time.monotonic()
        due = [(question, question.message) for question in questions if question.message and now < question.deadline]
        if not due:
            return {}
        used = self._state.reserve([message.reservation for _, message in due])
        now = time.monotonic()
        refused: dict[Question, Restriction] = {}
        for (question, message), held in zip(due, used, strict=True):
            if now >= question.deadline:
                self._state.cancel(message.queue_id)
                continue
            exceeded = judge(message.limits, held, question.account.name)
            if exceeded:
                restriction = self._beyond(question, message, exceeded, refused.values(), settings)
                if restriction:
                    refused[question] = restriction
        return refused

    def _beyond(
        self,
        question: Question,
        message: Message,
        exceeded: Sequence[Exceeded],
        new: Collection[Restriction],
        settings: Settings,
    ) -> Restriction | None:
        """Restrict the account of a message over a limit, where its limits ask for it: then it is not counted.

        Everything else is for the milter, and so for mail that is really accepted.
        """
        queue_id, account = message.queue_id, question.account
        _log.info("%s: over limit: %s", queue_id, "; ".join(one.evidence for one in exceeded))
        known = [one for one in exceeded if message.is_sure or one.limit.name not in BY_DOMAIN]
        if action_for(known) not in RESTRICTING:
            return None
        try:
            # Asked in the same breath as the message that brought the restriction.
            restriction = next((one for one in new if _closes(one, account)), None) or enforce(
                known,
                account,
                settings=settings,
                state=self._state,
                now=self._clock(),
            )
            if restriction:
                self._state.cancel(queue_id)
        except StateUnavailable as error:
            # It stays counted, and the milter, which finds it over the limit, does what is left to do.
            _tell_unavailable(error)
            return None
        return restriction


def _closes(restriction: Restriction, account: Account) -> bool:
    return restriction.account == account.name and restriction.concerns(account.ingress)


def _value(request: Request, name: str) -> str:
    """Return a value, bounded, and as any store takes it: without the surrogates that stand for odd bytes."""
    value = request.get(name, "")
    if value.isascii():
        return value[:_MOST_CHARACTERS]
    return value[:_MOST_CHARACTERS].encode("utf-8", "backslashreplace").decode()


def _recipient_count(text: str) -> int:
    """Return the number of recipients, 0 for what is no number or none that Postfix would take."""
    is_count = text.isascii() and text.isdecimal() and len(text) < len(str(_MOST_RECIPIENTS))
    return int(text) if is_count else 0


def _tell_spared(what: str, refused_with: str) -> None:
    """Log what would be refused, had shadow mode been off: each time, as smtpd logs each refusal."""
    _log.info(printable(f"shadow: {what} would be refused: {refused_with}", 400))


def _tell_unavailable(error: StateUnavailable) -> None:
    _sparing_log.write(logging.ERROR, "state", f"answered DUNNO, not counted: {printable(str(error))}")
