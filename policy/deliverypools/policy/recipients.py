"""The recipients of messages that are being sent, as RCPT requests name them: END-OF-MESSAGE only tells how many."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from deliverypools.core.accounts import is_internal
from deliverypools.core.addresses import normalise_address
from deliverypools.core.settings import Settings

_MOST_MESSAGES: Final = 10_000
"""More than there are smtpd processes: each has one message at a time."""
_MOST_RECIPIENTS: Final = 2000
"""Of one message; Postfix's smtpd_recipient_limit is 1,000."""
_MOST_IN_ALL: Final = 200_000
"""About 20 MB."""
_MOST_INSTANCE_CHARACTERS: Final = 128


@dataclass(slots=True)
class _Seen:
    """Hashes of the recipients of one message."""

    internal: set[int] = field(default_factory=set)
    external: set[int] = field(default_factory=set)
    is_repeated: bool = False
    """A recipient was named twice: then a number that fits may hide one that was refused."""

    @property
    def number(self) -> int:
        return len(self.internal) + len(self.external)


class RecipientMemory:
    """Remembers the recipients of the latest messages, by the protocol's `instance`.

    `instance` is Postfix's name for one message, the same in all its requests: a second message of the same SMTP
    session, also after RSET, has another one. It is empty before the first RCPT. What is remembered is a guess: a
    recipient that was refused later was seen here, one that was named before we started was not.
    """

    def __init__(self) -> None:
        self._messages: OrderedDict[str, _Seen] = OrderedDict()
        self._recipients = 0

    def add(self, instance: str, recipient: str, settings: Settings) -> None:
        """Note a recipient that a client names."""
        if not recipient or not _is_name(instance):
            return
        seen = self._messages.get(instance)
        if seen is None:
            seen = self._messages[instance] = _Seen()
        address = normalise_address(recipient)
        chosen = seen.internal if is_internal(address, settings) else seen.external
        if hash(address) in chosen:
            seen.is_repeated = True
        elif seen.number < _MOST_RECIPIENTS:
            chosen.add(hash(address))
            self._recipients += 1
        self._forget_oldest()

    def split(self, instance: str, recipient: str, count: int, settings: Settings) -> tuple[int, int, bool]:
        """Return how many of a message's recipients are internal and external, and whether that is sure.

        `recipient` is given where there is one, else empty. What is not known counts as external: the milter knows it,
        and counts anew what was counted wrong here. A recipient that was refused later, or named twice, makes it so.
        """
        if count == 1 and recipient:
            internal = int(is_internal(recipient, settings))
            return internal, 1 - internal, True
        seen = self._messages.get(instance)
        if seen is not None and seen.number == count < _MOST_RECIPIENTS:
            return len(seen.internal), len(seen.external), not seen.is_repeated
        return 0, count, False

    def _forget_oldest(self) -> None:
        while len(self._messages) > _MOST_MESSAGES or self._recipients > _MOST_IN_ALL:
            _, seen = self._messages.popitem(last=False)
            self._recipients -= seen.number


def _is_name(instance: str) -> bool:
    return 0 < len(instance) <= _MOST_INSTANCE_CHARACTERS
