"""Every kind of mail meets a failure: sent, watched while it lasts, and followed to where it arrives."""

from __future__ import annotations

import contextlib
import itertools
import smtplib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from mailing import ALICE, arrived, fresh, fresh_subject, mail
from test_arrived_dsn import DSN_HEADER, bounce

from deliverypools.lab.failure_kinds import Kind, Meanwhile, Place
from deliverypools.lab.failure_matrix import FAILURES
from deliverypools.lab.lab import OUTSIDE_CLIENT, TRUSTED_CLIENT, Lab, SendResult, transaction
from deliverypools.lab.postfix import Site
from deliverypools.lab.receiver import ACCEPT, DEFER, REFUSE
from deliverypools.lab.signing import signed
from deliverypools.lab.waiting import wait_until

ALIAS_TO, FORWARD_TO = "via-alias@example.net", "via-forward@example.net"
SIGNED_SENDER, SPF_SENDER = "erin@signed.example", "erin@spf.example"
QUICK_TIMEOUTS = {
    # Postfix's are 10, 30 and 120 seconds in the example.
    "delivery_pools_milter": "{ unix:delivery-pools/milter.sock, default_action=tempfail, protocol=6,"
    " connect_timeout=5s, command_timeout=5s, content_timeout=10s }",
    "delivery_pools_policy": "{ unix:delivery-pools/policy.sock, default_action=DUNNO, timeout=3s, try_limit=1 }",
}
# A service of Postfix that failed is left alone for that long; a minute by default.
SITE = Site(
    virtual={"alias@example.org": ALIAS_TO},
    forwards={"games": FORWARD_TO},
    adapted={**QUICK_TIMEOUTS, "service_throttle_time": "1s"},
)
SETTINGS = {
    "dns": {"timeout_seconds": 1.0, "servfail_cache_seconds": 0.5},
    "limits": {"messages_per_minute": 0},
}
PATIENCE_SECONDS = 30.0
"""Clients of the Internet wait longer (RFC 5321 section 4.5.3.2): minutes."""
_numbers = itertools.count(1)


@dataclass
class Sent:
    """One message (or one copy of it) on its way."""

    subject: str
    """Or, of a notice, the recipient who was refused."""
    in_the_log: tuple[str, ...]
    """What a line of the mail log about it has: its recipient, or its queue id."""
    send: Callable[[], Meanwhile]
    """Send it, or let it go on; also again."""
    outside: str = ""
    """Its recipient outside; "" where it stays here."""
    taken: Meanwhile = Meanwhile.WAITS
    """What became of the attempt to hand it over; WAITS: Postfix has it."""


@dataclass
class Mail:
    """One message of every kind, in one lab."""

    lab: Lab
    patience_seconds: float = PATIENCE_SECONDS
    """How long clients wait for a reply."""
    sent: dict[Kind, Sent] = field(default_factory=dict)
    _deferred: dict[str, str] = field(default_factory=dict)
    """Queue ids of what waits before the failure, by recipient."""
    _log_start: int = 0

    # ---- before the failure

    def prepare(self) -> None:
        """Have in the queue, and outside, what must be there before the failure."""
        self._prepare_submitted()
        self._prepare_notices()
        self._prepare_bounces()
        self._prepare_requeued()
        for kind, here, sender in (
            (Kind.INBOUND, "", SPF_SENDER),
            (Kind.ALIAS, ALIAS_TO, SIGNED_SENDER),
            (Kind.DOT_FORWARD, FORWARD_TO, SIGNED_SENDER),
        ):
            recipient = {Kind.ALIAS: "alias@example.org", Kind.DOT_FORWARD: "games@example.org"}.get(kind, _alice())
            self._from_outside(kind, recipient, here, sender)

    def _prepare_submitted(self) -> None:
        for kind in (Kind.SUBMISSION, Kind.MIXED_OUTSIDE, Kind.SENDMAIL):
            subject, recipient = fresh_subject(), fresh("example.com")
            data = mail(Subject=subject)
            recipients = [recipient, _alice()] if kind is Kind.MIXED_OUTSIDE else [recipient]
            if kind is Kind.SENDMAIL:
                send = self._sendmail(recipients, data)
            else:
                send = self._smtp(ALICE[0], recipients, data, port=587, auth=ALICE)
            self.sent[kind] = Sent(subject, (_to(recipient),), send, recipient)
            if kind is Kind.MIXED_OUTSIDE:
                self.sent[Kind.MIXED_LOCAL] = Sent(subject, (_to(recipients[1]),), lambda: Meanwhile.ARRIVES)

    def _prepare_notices(self) -> None:
        """Mail that is deferred now, and refused for good when it is tried again."""
        for kind, sender, auth in (
            (Kind.NOTICE_TO_US, _alice(), ALICE),
            (Kind.NOTICE_TO_OUTSIDE, fresh("example.com"), None),
        ):
            refused = fresh("example.net")
            queue_id = self._defer(sender, refused, mail(), auth)
            outside = "" if auth else sender
            evidence = (f" {queue_id}: status", _to(sender), _to(refused))
            self.sent[kind] = Sent(refused, evidence, self._let_go(refused, refuse=True), outside)

    def _prepare_bounces(self) -> None:
        recipient, subject = fresh(), fresh_subject()
        self._accepted(ALICE[0], recipient, mail(), ALICE)
        returned = arrived(self.lab, recipient).data
        send = self._smtp("", [ALICE[0]], bounce(returned, subject=subject), client_address=OUTSIDE_CLIENT)
        self.sent[Kind.DSN] = Sent(subject, (_to(ALICE[0]),), send)
        subject = fresh_subject()
        # Of another domain than the forwards of afterwards: what is known of that one now must not help them.
        assert self.lab.send(SPF_SENDER, "alias@example.org", mail(SPF_SENDER, Subject=subject)).accepted
        (forwarded,) = self.lab.wait_for(lambda message: message.header("Subject") == subject)
        rewritten, subject = forwarded.envelope_sender, fresh_subject()
        data = bounce(forwarded.data, subject=subject)
        send = self._smtp("", [rewritten], data, client_address=OUTSIDE_CLIENT)
        self.sent[Kind.SRS_BOUNCE] = Sent(subject, (_to(SPF_SENDER),), send, SPF_SENDER)

    def _prepare_requeued(self) -> None:
        for kind, spam in ((Kind.REQUEUED, None), (Kind.REQUEUED_SPAM, "YES")):
            recipient, subject = fresh("example.net"), fresh_subject()
            self._defer(ALICE[0], recipient, mail(Subject=subject, X_Spam_Flag=spam), ALICE)
            send = self._let_go(recipient, refuse=False)
            self.sent[kind] = Sent(subject, (_to(recipient),), send, recipient)
        # On hold nothing tries them meanwhile: what a delivery agent has, postsuper -r passes over.
        self.lab.postfix.postsuper(
            *(f"-h{self._deferred[self.sent[kind].outside]}" for kind in (Kind.REQUEUED, Kind.REQUEUED_SPAM))
        )

    def _defer(self, sender: str, recipient: str, data: bytes, auth: tuple[str, str] | None) -> str:
        """Have a message in the deferred queue; return its queue id."""
        self.lab.receiver.answer(recipient, DEFER)
        self._accepted(sender, recipient, data, auth)
        self.lab.postfix.wait_until_deferred(len(self._deferred) + 1)
        self._deferred[recipient] = self._queue_id(recipient)
        return self._deferred[recipient]

    def _queue_id(self, recipient: str) -> str:
        (found,) = (
            str(entry["queue_id"])
            for entry in self.lab.postfix.queue()
            if any(one["address"] == recipient for one in entry["recipients"])
        )
        return found

    def _accepted(self, sender: str, recipient: str, data: bytes, auth: tuple[str, str] | None) -> None:
        options = {"port": 587, "auth": auth} if auth else {"client_address": TRUSTED_CLIENT}
        assert self.lab.send(sender, recipient, data, **options).accepted  # type: ignore[arg-type]

    def _from_outside(self, kind: Kind, recipient: str, outside: str, sender: str) -> None:
        subject = fresh_subject()
        data = mail(sender, Subject=subject)
        if sender == SIGNED_SENDER:
            data = signed(data, "signed.example")
        send = self._smtp(sender, [recipient], data, client_address=OUTSIDE_CLIENT)
        self.sent[kind] = Sent(subject, (_to(outside or recipient),), send, outside)

    # ---- the ways in

    def _smtp(self, sender: str, recipients: list[str], data: bytes, **options: object) -> Callable[[], Meanwhile]:
        def send() -> Meanwhile:
            try:
                with self.lab.session(**options) as smtp:  # type: ignore[arg-type]
                    assert smtp.sock is not None
                    smtp.sock.settimeout(self.patience_seconds)
                    return _taken(_code(transaction(smtp, sender, recipients, data)))
            except smtplib.SMTPServerDisconnected:
                return Meanwhile.NO_ANSWER
            except smtplib.SMTPResponseException as error:
                return _taken(error.smtp_code)
            except OSError:
                return Meanwhile.UNREACHABLE

        return send

    def _sendmail(self, recipients: list[str], data: bytes) -> Callable[[], Meanwhile]:
        def send() -> Meanwhile:
            try:
                self.lab.sendmail(ALICE[0], recipients, data, user="nobody")
            except RuntimeError:
                return Meanwhile.NOT_TAKEN
            return Meanwhile.WAITS

        return send

    def _let_go(self, recipient: str, *, refuse: bool) -> Callable[[], Meanwhile]:
        def send() -> Meanwhile:
            if not refuse:
                with contextlib.suppress(RuntimeError):  # it cannot log, while Postfix is down or its disk is full
                    self.lab.postfix.postsuper("-r", self._deferred[recipient])
            self.lab.receiver.answer(recipient, REFUSE if refuse else ACCEPT)
            return Meanwhile.WAITS

        return send

    # ---- while it lasts, and afterwards

    def send_all(self) -> None:
        """Send everything at once."""
        self._log_start = len(self.lab.postfix.log())
        with ThreadPoolExecutor(len(self.sent)) as clients:
            taken = clients.map(lambda one: one.send(), self.sent.values())
            for one, how in zip(self.sent.values(), taken, strict=True):
                one.taken = how
        self.sent[Kind.MIXED_LOCAL].taken = self.sent[Kind.MIXED_OUTSIDE].taken
        self._flush()

    def _flush(self) -> None:
        with contextlib.suppress(RuntimeError):  # Postfix is what is down
            self.lab.postfix.flush()

    def meanwhile(self) -> dict[Kind, Meanwhile | None]:
        """Tell what is seen of each now; None: nothing yet."""
        log = self.lab.postfix.log()[self._log_start :]
        return {kind: self._seen(kind, one, log) for kind, one in self.sent.items()}

    def _seen(self, kind: Kind, one: Sent, log: str) -> Meanwhile | None:
        if self.places(kind):
            return Meanwhile.ARRIVES
        if one.taken is not Meanwhile.WAITS:
            return one.taken
        if any(other.taken is Meanwhile.UNREACHABLE for other in self.sent.values()):
            return Meanwhile.WAITS  # Postfix is down: what it has, it keeps
        if kind is Kind.SENDMAIL and any((self.lab.postfix.queue_directory / "maildrop").iterdir()):
            return Meanwhile.WAITS
        # What the receiving server deferred waits for that, not for the repair.
        deferred = [line for line in log.splitlines() if "status=deferred" in line and DEFER.text not in line]
        waits = any(evidence in line for line in deferred for evidence in one.in_the_log)
        return Meanwhile.WAITS if waits else None

    def wait_meanwhile(self, expected: Mapping[Kind, Meanwhile], seconds: float = 20) -> None:
        """Wait until each is seen to be where it is expected while the failure lasts."""
        with contextlib.suppress(TimeoutError):  # what is seen instead says more
            wait_until(lambda: self.meanwhile() == expected, timeout_seconds=seconds, what="what is expected")
        seen = self.meanwhile()
        unlike = {kind.name: str(how) for kind, how in seen.items() if how is not expected[kind]}
        assert not unlike, f"while it lasts: {unlike}"

    def meet(self, name: str, failure: contextlib.AbstractContextManager[object]) -> None:
        """Send one of each while something fails; compare what becomes of it, then and afterwards, with the table."""
        expected = next(one for one in FAILURES if one.name == name)
        self.prepare()
        with failure:
            self.send_all()
            self.wait_meanwhile(expected.meanwhile)
        self.send_again()
        self.wait_for_all(expected.places)

    def send_again(self) -> None:
        """Let the clients that were refused try again, and Postfix all that waits."""
        for kind, one in self.sent.items():
            if one.taken in _TRIED_AGAIN and kind is not Kind.MIXED_LOCAL:
                wait_until(lambda one=one: one.send() is Meanwhile.WAITS, timeout_seconds=30, what=one.subject)  # type: ignore[misc]

    def wait_for_all(self, expected: Mapping[Kind, Place], seconds: float = 60) -> None:
        """Wait until each has arrived where it should, exactly once, and nothing is left."""

        def all_there() -> bool:
            self._flush()
            return all(self.places(kind) for kind in self.sent if expected[kind] is not Place.NOWHERE)

        with contextlib.suppress(TimeoutError):
            wait_until(all_there, timeout_seconds=seconds, what="")
            self.lab.wait_until_queue_is_empty(30)
        seen = {kind: self.places(kind) for kind in self.sent}
        unlike = {kind.name: places for kind, places in seen.items() if places not in _arrivals(expected[kind])}
        assert not unlike, f"in the end: {unlike}"
        assert all(b"X-Delivery-Pool" not in message.data for message in self.lab.messages)

    def places(self, kind: Kind) -> list[Place]:
        """Return where copies have arrived so far."""
        one = self.sent[kind]
        if one.outside:
            notice = kind is Kind.NOTICE_TO_OUTSIDE
            return [
                Place(self.lab.pool_of(message))
                for message in self.lab.messages
                if one.outside in message.recipients and (notice or message.header("Subject") == one.subject)
            ]
        if kind is Kind.NOTICE_TO_US:
            texts = (message.as_bytes() for message in self.lab.mailbox("alice") if message["Return-Path"] == "<>")
            return [Place.MAILBOX for text in texts if one.subject.encode() in text]
        found = [message for message in self.lab.mailbox("alice") if message["Subject"] == one.subject]
        if kind is Kind.DSN:
            marks = [str(message[DSN_HEADER]) for message in found]
            return [Place.MAILBOX if mark.startswith("genuine") else Place.MAILBOX_UNMARKED for mark in marks]
        return [Place.MAILBOX for _ in found]


_TRIED_AGAIN = (Meanwhile.REFUSED, Meanwhile.NO_ANSWER, Meanwhile.UNREACHABLE, Meanwhile.NOT_TAKEN)


def _arrivals(expected: Place) -> list[list[Place]]:
    """Return what may be seen of a message in the end: one copy, at the place where it is expected."""
    either = {Place.NOWHERE: [[]], Place.MAILBOX_PERHAPS_MARKED: [[Place.MAILBOX], [Place.MAILBOX_UNMARKED]]}
    return either.get(expected, [[expected]])


def _alice() -> str:
    return f"alice+f{next(_numbers)}@example.org"


def _to(address: str) -> str:
    return f" to=<{address}>,"


def _code(result: SendResult) -> int:
    return result.code if not result.refused else max(code for code, _ in result.refused.values())


def _taken(code: int) -> Meanwhile:
    by_class = {2: Meanwhile.WAITS, 4: Meanwhile.REFUSED, 5: Meanwhile.REFUSED_FOR_GOOD}
    return by_class[code // 100]
