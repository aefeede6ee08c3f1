"""The mail of bench/soak.py: messages of all kinds, the clients that send them, and the reckoning at the end."""

from __future__ import annotations

import enum
import functools
import itertools
import random
import re
import smtplib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from email.utils import formatdate
from typing import Final

from deliverypools.lab.lab import OUTSIDE_CLIENT, TRUSTED_CLIENT, Lab
from deliverypools.lab.site import Site

DEFERRING: Final = "later.example"
"""Defers all mail until the end: what is for it can be requeued at any time."""
REFUSED: Final = "refused@example.net"
SITE: Final = Site(
    virtual={"alias@example.org": "via-alias@example.net"}, forwards={"games": "via-forward@example.net"}
)
_ALICE: Final = ("alice@example.org", "secret")
_POOLS: Final = {
    "normal": {"192.0.2.10", "2001:db8::10"},
    "high-risk": {"192.0.2.20", "2001:db8::20"},
    "relay": {"192.0.2.30", "2001:db8::30"},
}
_MAILBOX: Final = "mailbox of "
_PATIENCE_SECONDS: Final = 20
_RETRY_SECONDS: Final = 0.3
_KILLED_BEFORE_SECONDS: Final = 30.0
_BASE_52: Final = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"
_LABEL: Final = re.compile(rb"^X-Soak: (\d+) (\d+)", re.MULTILINE)


class Taken(enum.Enum):
    """What a client knows of one attempt."""

    ACCEPTED = "accepted"
    REFUSED = "refused for now"
    LOST = "connection lost after the message was sent"
    """It may have been accepted. The client tries again, so a duplicate is possible (RFC 5321 section 4.1.1.4)."""
    REFUSED_FOR_GOOD = "refused for good"


@dataclass
class Task:
    """One message: how it is sent, and where it has to arrive."""

    number: int
    kind: str
    sender: str
    recipients: Sequence[str]
    expected: Mapping[str, str]
    """Pool by recipient; by "mailbox of NAME" for local copies."""
    headers: str = ""
    attempts: list[Taken] = field(default_factory=list)

    def message(self) -> bytes:
        """Return it as the next attempt sends it."""
        return (
            f"From: {self.sender or 'mailer-daemon@example.org'}\r\nTo: somebody@example.com\r\n"
            f"Date: {formatdate()}\r\nMessage-ID: <{self.number}@soak.example.org>\r\n"
            f"Subject: {self.kind}\r\nX-Soak: {self.number} {len(self.attempts)}\r\n{self.headers}\r\nhello\r\n"
        ).encode()


def tasks(count: int, chance: random.Random) -> list[Task]:
    """Return messages of all kinds, in an order that chance makes."""
    kinds = itertools.cycle(_KINDS)
    made = [_task(number, next(kinds)) for number in range(count)]
    chance.shuffle(made)
    return made


_KINDS: Final = (
    *("submission", "spam", "mixed", "inbound", "alias", "forward", "foreign", "dsn"),
    *("submission", "notice to outside", "deferred", "sendmail", "deferred spam", "mixed"),
)


def _task(number: int, kind: str) -> Task:  # noqa: PLR0911 -- one a kind
    outside, local = f"r{number}@example.com", "bob@example.org"
    spam = "X-Spam-Flag: YES\r\n"
    match kind:
        case "spam":
            return Task(number, kind, _ALICE[0], [outside], {outside: "high-risk"}, spam)
        case "mixed":
            return Task(number, kind, _ALICE[0], [outside, local], {outside: "normal", f"{_MAILBOX}bob": ""})
        case "inbound":
            return Task(number, kind, "erin@spf.example", [local], {f"{_MAILBOX}bob": ""})
        case "alias":
            return Task(number, kind, "erin@spf.example", ["alias@example.org"], {"via-alias@example.net": "relay"})
        case "forward":
            return Task(number, kind, "erin@spf.example", ["games@example.org"], {"via-forward@example.net": "relay"})
        case "foreign":
            return Task(number, kind, "carol@elsewhere.example", [outside], {outside: "relay"})
        case "dsn":
            return Task(number, kind, "", [outside], {outside: "high-risk"})
        case "notice to outside":
            return Task(number, kind, f"s{number}@example.com", [REFUSED], {f"s{number}@example.com": "high-risk"})
        case "deferred" | "deferred spam":
            later, pool = f"r{number}@{DEFERRING}", "high-risk" if "spam" in kind else "normal"
            return Task(number, kind, _ALICE[0], [later], {later: pool}, spam if "spam" in kind else "")
        case _:
            return Task(number, kind, _ALICE[0], [outside], {outside: "normal"})


class Clients:
    """Some clients that send what is pending, and try again what was not accepted."""

    def __init__(self, lab: Lab, pending: Iterable[Task], count: int) -> None:
        """Start `count` of them."""
        self._lab = lab
        self._pending = iter(pending)
        self._lock = threading.Lock()
        self.accepted = 0
        self._threads = [threading.Thread(target=self._run, name=f"client-{n}") for n in range(count)]
        for thread in self._threads:
            thread.start()

    @property
    def are_busy(self) -> bool:
        """Whether something is still to be sent."""
        return any(thread.is_alive() for thread in self._threads)

    def wait(self, seconds: float | None = None) -> None:
        """Wait until everything has been accepted, or for so long."""
        deadline = None if seconds is None else time.monotonic() + seconds
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            with self._lock:
                task = next(self._pending, None)
            if task is None:
                return
            while (taken := self._attempt(task)) in (Taken.REFUSED, Taken.LOST):
                pause.wait(_RETRY_SECONDS)
            with self._lock:
                self.accepted += taken is Taken.ACCEPTED

    def _attempt(self, task: Task) -> Taken:
        taken = self._by_sendmail(task) if task.kind == "sendmail" else self._by_smtp(task)
        task.attempts.append(taken)
        return taken

    def _by_sendmail(self, task: Task) -> Taken:
        try:
            self._lab.sendmail(task.sender, task.recipients, task.message(), user="nobody")
        except RuntimeError:
            return Taken.LOST
        return Taken.ACCEPTED

    def _by_smtp(self, task: Task) -> Taken:
        sent = False
        try:
            with self._session(task) as smtp:
                code, _ = smtp.mail(task.sender)
                for recipient in task.recipients if code == 250 else ():  # noqa: PLR2004 -- SMTP reply codes
                    code, _ = smtp.rcpt(recipient)
                    if code != 250:  # noqa: PLR2004
                        break
                if code == 250:  # noqa: PLR2004
                    sent = True
                    code, _ = smtp.data(task.message())
                # What follows its reply does not matter to the message.
                return {2: Taken.ACCEPTED, 4: Taken.REFUSED, 5: Taken.REFUSED_FOR_GOOD}[code // 100]
        except smtplib.SMTPResponseException as error:
            return Taken.REFUSED_FOR_GOOD if error.smtp_code // 100 == 5 else Taken.REFUSED  # noqa: PLR2004
        except (smtplib.SMTPException, OSError):
            return Taken.LOST if sent else Taken.REFUSED

    def _session(self, task: Task) -> smtplib.SMTP:
        submits = task.sender == _ALICE[0]
        outside = task.sender == "erin@spf.example"
        source = self._lab.address(OUTSIDE_CLIENT if outside else TRUSTED_CLIENT)
        with self._lab.network.inside():
            smtp = _Session(
                self._lab.postfix.host,
                587 if submits else 25,
                local_hostname="client.example",
                timeout=_PATIENCE_SECONDS,
                source_address=(source, 0),
            )
        if submits:
            smtp.login(*_ALICE)
        return smtp


class _Session(smtplib.SMTP):
    """A session that is simply closed at its end: a QUIT without an answer is no news of the message."""

    def __exit__(self, *_: object) -> None:
        self.close()


# ---- the reckoning


@dataclass(frozen=True)
class _Copy:
    attempt: int
    source_address: str
    at: float
    queue_ids: tuple[str, ...]
    """Of each queue of Postfix that it was in, oldest first."""


@dataclass
class Reckoning:
    """What became of all messages; each list of wrongs should be empty."""

    arrived: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    """Copies of one attempt, though Postfix was not killed meanwhile."""
    uncalled: list[str] = field(default_factory=list)
    """What arrived though it was refused."""
    misled: list[str] = field(default_factory=list)
    """What came from an address of another pool."""
    refused: list[str] = field(default_factory=list)
    """What was refused for good."""
    marked: list[str] = field(default_factory=list)
    """What had a header of ours on the wire."""
    doubled_by_clients: int = 0
    """Further copies because a client had lost the connection after the dot."""
    doubled_by_kills: int = 0
    """Further copies because a process of Postfix was killed after the dot, before it could note the reply."""

    @property
    def wrongs(self) -> list[str]:
        """All that must not be."""
        return [*self.lost, *self.doubled, *self.uncalled, *self.misled, *self.refused, *self.marked]


def reckon(lab: Lab, sent: Iterable[Task], kills: Sequence[float]) -> Reckoning:
    """Compare what arrived with what was sent; `kills` are the times at which Postfix was killed or stopped."""
    result = Reckoning()
    copies: dict[tuple[int, str], list[_Copy]] = defaultdict(list)
    for number, place, copy in _copies(lab, result):
        copies[number, place].append(copy)
    for task in sent:
        if task.attempts[-1] is not Taken.ACCEPTED:
            result.refused.append(f"{task.number} ({task.kind}): {task.attempts[-1].value}")
            continue
        for place, pool in task.expected.items():
            addresses = frozenset(map(lab.address, _POOLS[pool])) if pool else frozenset({""})
            arrival = _Arrival(f"{task.number} ({task.kind}) to {place}", addresses, copies[task.number, place])
            _reckon_one(result, task, arrival, kills)
    return result


@dataclass(frozen=True)
class _Arrival:
    """What came to one place of one message."""

    name: str
    addresses: frozenset[str]
    """Those it may come from; "" is this machine."""
    copies: Sequence[_Copy]


def _reckon_one(result: Reckoning, task: Task, arrival: _Arrival, kills: Sequence[float]) -> None:
    name, copies = arrival.name, arrival.copies
    strays = (copy.source_address for copy in copies if copy.source_address not in arrival.addresses)
    result.misled += [f"{name} from {address}" for address in strays]
    by_attempt = Counter(copy.attempt for copy in copies)
    result.uncalled += [f"{name}: attempt {n}" for n in by_attempt if task.attempts[n] is Taken.REFUSED]
    if not by_attempt[len(task.attempts) - 1]:
        result.lost.append(name)
    result.arrived += bool(by_attempt)
    result.doubled_by_clients += max(0, len(by_attempt) - 1)
    for attempt, count in by_attempt.items():
        if count == 1:
            continue
        first, last = _parting([copy for copy in copies if copy.attempt == attempt])
        if any(first - _KILLED_BEFORE_SECONDS < at < last for at in kills):
            result.doubled_by_kills += count - 1
        else:
            result.doubled.append(f"{name}: {count} copies of attempt {attempt}")


def _parting(copies: Sequence[_Copy]) -> tuple[float, float]:
    """Return between which times copies of one message became several.

    That was in front of the first of Postfix's queues that they do not share: what its destination deferred arrives
    long after that.
    """
    for queue_ids in itertools.zip_longest(*(copy.queue_ids for copy in copies)):
        if len(set(queue_ids)) > 1:
            times = [_queued_at(queue_id) for queue_id in queue_ids if queue_id]
            return min(times), max(times)
    times = [copy.at for copy in copies]
    return min(times), max(times)


def _queue_ids(data: bytes) -> tuple[str, ...]:
    """Return the queue ids of a message's Received fields, oldest first."""
    fields = message_from_bytes(data).get_all("Received", [])
    found = (re.search(r"\bid (\w+)[^;]*;", str(field)) for field in reversed(fields))
    return tuple(match[1] for match in found if match)


def _queued_at(queue_id: str) -> float:
    """Return when the queue file was made, in epoch seconds.

    A long queue id begins with the seconds, and four digits of microseconds, in base 52; its last "z" ends them
    (enable_long_queue_ids).
    """
    time_digits = queue_id.rpartition("z")[0]
    seconds, microseconds = (
        functools.reduce(lambda value, digit: value * 52 + _BASE_52.index(digit), digits, 0)
        for digits in (time_digits[:-4], time_digits[-4:])
    )
    return seconds + microseconds / 1e6


def _copies(lab: Lab, result: Reckoning) -> Iterator[tuple[int, str, _Copy]]:
    for message in lab.messages:
        number, attempt = _label(message.data)
        if b"X-Delivery-Pool" in message.data:
            result.marked.append(f"{number} to {message.recipients[0]}")
        for recipient in message.recipients:
            queue_ids = _queue_ids(message.data)
            yield number, recipient, _Copy(attempt, message.source_address, message.received_at, queue_ids)
    for file in (lab.postfix.mail_directory / "bob" / "new").iterdir():
        data = file.read_bytes()
        number, attempt = _label(data)
        yield number, f"{_MAILBOX}bob", _Copy(attempt, "", file.stat().st_mtime, _queue_ids(data))


def _label(data: bytes) -> tuple[int, int]:
    """Return number and attempt of a message, or of the one that a notice is about."""
    found = _LABEL.search(data)
    return (int(found[1]), int(found[2])) if found else (-1, -1)


def since(begun: float) -> str:
    """Return the time that has passed, for people."""
    return f"{time.monotonic() - begun:.0f} s"
