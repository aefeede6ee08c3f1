"""Folds a mail log into messages: who was responsible for each, how many recipients it had, and what left.

One message has several queue files: the hop's copy, what a mailbox forwards, what a content filter gives back. They
are known to belong together by their Message-ID. All in bounded memory, whatever the log holds.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final

from deliverypools.core.replay.mail_lines import (
    Accepted,
    Identified,
    MailLine,
    PickedUp,
    Queued,
    Removed,
    Tried,
)

MOST_OPEN: Final = 50_000
"""So many queue files, and as many messages, are known at once: some 100 MB at most."""
_MOST_RECIPIENTS: Final = 1000
"""Of one message, known by name; more are a number."""


@dataclass(slots=True, eq=False)
class Mail:
    """A message that entered."""

    at: float = 0.0
    """When it was accepted, in seconds since the epoch."""
    client_address: str = ""
    sasl_username: str = ""
    user_id: int | None = None
    """Of the caller of sendmail(1)."""
    is_made_here: bool = False
    """By bounce(8): nobody has brought it."""
    envelope_sender: str = ""
    size_bytes: int = 0
    recipients: dict[str, None] = field(default_factory=dict)
    """As they were accepted."""
    further_recipients: int = 0
    """Beyond those that are known by name, or not known at all."""
    expected: int = 0
    """Recipients after aliases were expanded."""
    is_counted: bool = False
    found: Any = None
    """For whoever counts it."""


@dataclass(slots=True, eq=False)
class _QueueFile:
    mail: Mail | None = None
    """None: nothing tells whose it is."""
    is_first: bool = True
    """It is the queue file in which the message entered."""
    is_queued: bool = False
    left: int = 0
    """Recipients that were not tried yet."""
    number: int = 0
    has_left: bool = False


class Messages:
    """Takes a log line by line, and tells of messages that were accepted, and of queue files that leave."""

    def __init__(
        self,
        is_internal: Callable[[str], bool],
        *,
        counted: Callable[[Mail], None],
        left: Callable[[Mail | None, float, int], None],
        most_open: int = MOST_OPEN,
    ) -> None:
        """Take what is told: `counted` once of each message, when its recipients are known; `left` of each queue file.

        `left` gets the message (None: unknown), when it left, and how many recipients this queue file has.
        """
        self.forgotten = 0
        """Queue files and messages that were forgotten, because there were too many."""
        self._is_internal = is_internal
        self._counted = counted
        self._left = left
        self._most_open = most_open
        self._files: OrderedDict[tuple[str, str], _QueueFile] = OrderedDict()
        self._by_message_id: OrderedDict[bytes, Mail] = OrderedDict()

    def add(self, line: MailLine) -> None:
        """Take the next line."""
        key = (line.host, line.event.queue_id)
        match line.event:
            case Accepted() as event:
                self._accept(key, event, line.at)
            case PickedUp(_, user_id):
                self._begin(key, Mail(at=line.at, user_id=user_id))
            case Identified(_, message_id):
                self._identify(key, line.host, message_id, line.at)
            case Queued() as event:
                self._queue(key, event)
            case Tried() as event:
                self._try(key, event, line.at)
            case Removed():
                if (file := self._files.pop(key, None)) is not None:
                    self._count(file)

    def end(self) -> None:
        """Count what is still open: the log ends."""
        for file in self._files.values():
            self._count(file)
        self._files.clear()

    # ---- one for each kind of line

    def _accept(self, key: tuple[str, str], event: Accepted, at: float) -> None:
        mail = Mail(at=at, client_address=event.client_address, sasl_username=event.sasl_username)
        file = self._begin(key, mail)
        if event.is_sent_on:
            file.mail, file.is_first = None, False

    def _begin(self, key: tuple[str, str], mail: Mail | None) -> _QueueFile:
        file = self._files[key] = _QueueFile(mail=mail)
        self._files.move_to_end(key)
        if len(self._files) > self._most_open:
            _, oldest = self._files.popitem(last=False)
            self._count(oldest)
            self.forgotten += 1
        return file

    def _identify(self, key: tuple[str, str], host: str, message_id: str, at: float) -> None:
        """Find out whether a queue file is a new message, or goes on with one: of that Message-ID there is one already.

        An SMTP client elsewhere may send the same Message-ID again, and that is a message of its own.
        """
        file = self._files.get(key)
        known = self._by_message_id.get(_digest(host, message_id)) if message_id.strip("<>") else None
        if file is None:
            # Nobody has brought it: bounce(8) made it, or local(8) forwards one.
            file = self._begin(key, known or Mail(at=at, is_made_here=True))
            file.is_first = known is None
        elif known is not None and (file.mail is None or _is_from_here(file.mail)):
            file.mail, file.is_first = known, False
        if file.is_first and file.mail is not None and message_id.strip("<>"):
            self._by_message_id[_digest(host, message_id)] = file.mail
            if len(self._by_message_id) > self._most_open:
                self._by_message_id.popitem(last=False)

    def _queue(self, key: tuple[str, str], event: Queued) -> None:
        file = self._files.get(key)
        if file is None or file.is_queued:
            return
        file.is_queued, file.left, file.number = True, event.recipients, event.recipients
        mail = file.mail
        if mail is None or not file.is_first:
            return
        mail.envelope_sender, mail.size_bytes = event.envelope_sender, event.size_bytes
        mail.expected = event.recipients
        if mail.is_made_here and event.envelope_sender:
            # bounce(8) writes with a null sender: this is a forward whose original is not known.
            file.mail = None

    def _try(self, key: tuple[str, str], event: Tried, at: float) -> None:
        file = self._files.get(key)
        if file is None or not file.is_queued:
            return
        if file.is_first and file.mail is not None:
            _add_recipient(file.mail, event.accepted_as)
        file.left -= 1
        if file.left <= 0:
            self._count(file)
        if not event.stays_here and not file.has_left and not self._is_internal(event.recipient):
            file.has_left = True
            self._count(file)
            if file.mail is not None and not file.mail.is_counted:
                # Its own queue file is not through yet; what this one has is part of it.
                self._count_mail(file.mail, max(0, file.mail.expected - len(file.mail.recipients)))
            self._left(file.mail, at, file.number)

    def _count(self, file: _QueueFile) -> None:
        if file.mail is not None and file.is_first and file.is_queued and not file.mail.is_counted:
            self._count_mail(file.mail, max(0, file.left))

    def _count_mail(self, mail: Mail, further: int) -> None:
        mail.is_counted = True
        mail.further_recipients += further
        if not mail.recipients and not mail.further_recipients:
            mail.further_recipients = 1
        self._counted(mail)


def _add_recipient(mail: Mail, recipient: str) -> None:
    if mail.is_counted or recipient in mail.recipients:
        return
    if len(mail.recipients) < _MOST_RECIPIENTS:
        mail.recipients[recipient] = None
    else:
        mail.further_recipients += 1


def _is_from_here(mail: Mail) -> bool:
    """Tell whether this very machine has sent it, as filters, sieve and the hop do."""
    if mail.user_id is not None:
        return True
    try:
        return not mail.sasl_username and ip_address(mail.client_address).is_loopback
    except ValueError:
        return False


def _digest(host: str, message_id: str) -> bytes:
    return hashlib.blake2b(f"{host}/{message_id}".encode("utf-8", "replace"), digest_size=16).digest()
