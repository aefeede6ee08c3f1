"""Queued mail that is ours: its queue file names a pool, or it has a header of ours. By postcat(1)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from deliverypools.adapters.commands import postfix_environment, printing
from deliverypools.adapters.postfix_commands import PostfixError
from deliverypools.adapters.postfix_queue import PostfixQueue
from deliverypools.core.requeue import QueuedMessage

_AT_ONCE: Final = 200
_MOST_SECONDS: Final = 600.0
_LONGEST_LINE: Final = 1 << 16
_FILE: Final = re.compile(rb"\*\*\* ENVELOPE RECORDS (?:.*/)?(\w+) \*\*\*")
_CONTENTS: Final = re.compile(rb"\*\*\* (?:(MESSAGE CONTENTS)|HEADER EXTRACTED) .* \*\*\*$")
"""Between the two stands what the sender wrote."""
_FILTER: Final = re.compile(rb"content_filter: ([^:\s]+):")
_HEADER: Final = re.compile(rb"X-Delivery-Pool(?:-Ticket)?:", re.IGNORECASE)
_NULL_SENDER: Final = re.compile(rb"sender: *$")
_CLIENT: Final = re.compile(rb"named_attribute: log_client_address=")
"""smtpd(8) notes from where a message came; bounce(8) does not."""
_GONE: Final = "No such file or directory"
_TRIES: Final = 3
"""postcat(1) looks through the queues one after the other: a file that is moved meanwhile looks as if it had gone."""


class QueueFiles:
    """Looks into the queue files of one instance, many in each call."""

    def __init__(self, config_directory: Path, transports: Collection[str], since: float = math.inf) -> None:
        """Name the instance, and the transports that are ours.

        What arrived later than `since`, seconds since the epoch, cannot have our headers: there they are a stranger's.
        """
        self._directory = config_directory
        self._transports = frozenset(transports)
        self._since = since

    def ours(self, queue: PostfixQueue) -> list[QueuedMessage]:
        """Return the queued messages that need what we have put into the configuration.

        Raises:
            QueueError: the queue cannot be listed.
            PostfixError: its files cannot be read.
        """
        messages = {message.queue_id: message for message in queue.messages()}
        earlier = {queue_id for queue_id, message in messages.items() if message.arrived_at <= self._since}
        ours, notices = self._by_headers(list(messages), earlier, queue)
        # Notices that Postfix has made since return the message they are about, with our headers, in their body.
        ours |= {queue_id for queue_id in notices - ours if self._returns_ours(queue_id)}
        return [message for queue_id, message in messages.items() if queue_id in ours]

    def named(self, queue: PostfixQueue) -> set[str]:
        """Return which of the transports a queue file names.

        Raises:
            QueueError: the queue cannot be listed.
            PostfixError: its files cannot be read.
        """
        return set().union(*self._named_by(queue).values())

    def undecided(self, queue: PostfixQueue) -> int:
        """Return how many queued messages name none of the transports: no pass has led them to one.

        Raises:
            QueueError: the queue cannot be listed.
            PostfixError: its files cannot be read.
        """
        return sum(not names for names in self._named_by(queue).values())

    def with_header(self, queue: PostfixQueue) -> set[str]:
        """Return the queue ids of the messages that have a header like ours, whoever wrote it.

        Raises:
            QueueError: the queue cannot be listed.
            PostfixError: its files cannot be read.
        """
        queue_ids = [message.queue_id for message in queue.messages()]
        return {
            queue_id
            for queue_id, is_header, line in self._lines("-eh", queue_ids, queue)
            if is_header and _HEADER.match(line)
        }

    def _named_by(self, queue: PostfixQueue) -> dict[str, set[str]]:
        """Return, by queue id, which of the transports each message names; messages that have gone are left out."""
        named: dict[str, set[str]] = {}
        for queue_id, _, line in self._lines("-e", [message.queue_id for message in queue.messages()], queue):
            names = named.setdefault(queue_id, set())
            if (transport := _transport(line)) in self._transports:
                names.add(str(transport))
        return named

    def _by_headers(self, queue_ids: list[str], earlier: set[str], queue: PostfixQueue) -> tuple[set[str], set[str]]:
        """Return which files are ours by envelope and header, and which are notices that may return one of ours."""
        ours: set[str] = set()
        null_sender: set[str] = set()
        from_clients: set[str] = set()
        for queue_id, is_header, line in self._lines("-eh", queue_ids, queue):
            if is_header:
                if queue_id in earlier and _HEADER.match(line):
                    ours.add(queue_id)
            elif _transport(line) in self._transports:
                ours.add(queue_id)
            elif _NULL_SENDER.match(line):
                null_sender.add(queue_id)
            elif _CLIENT.match(line):
                from_clients.add(queue_id)
        return ours, null_sender - (from_clients - earlier)

    def _lines(self, what: str, queue_ids: list[str], queue: PostfixQueue) -> Iterator[tuple[str, bool, bytes]]:
        """Yield what postcat prints of these files, line by line; files that have gone are left out.

        With each line: the queue id, and whether it is the sender's header (else it is Postfix's envelope).
        """
        remaining = queue_ids
        tries: Counter[str] = Counter()
        while remaining:
            some, remaining = remaining[:_AT_ONCE], remaining[_AT_ONCE:]
            seen: list[str] = []
            is_header = False
            for line in self._postcat(what, some):
                if found := _FILE.match(line):
                    seen.append(found[1].decode())
                    is_header = False
                elif found := _CONTENTS.match(line):
                    is_header = found[1] is not None
                elif seen:
                    yield seen[-1], is_header, line
            if len(seen) < len(some):
                # postcat stops at a file that is not there, after a pause of a second: on with those that are.
                tries[some[len(seen)]] += 1
                there = {message.queue_id for message in queue.messages()}
                remaining = [one for one in some[len(seen) :] + remaining if one in there and tries[one] < _TRIES]

    def _returns_ours(self, queue_id: str) -> bool:
        # A call for each: what a body says could be taken for the beginning of the next file.
        return any(_HEADER.match(line) for line in self._postcat("-b", [queue_id]))

    def _postcat(self, what: str, queue_ids: list[str]) -> Iterator[bytes]:
        command = ["postcat", "-c", str(self._directory), what, "-q", *queue_ids]
        try:
            with printing(command, environment=postfix_environment(), most_seconds=_MOST_SECONDS) as postcat:
                is_beginning = True
                while line := postcat.output.readline(_LONGEST_LINE):
                    if is_beginning:
                        yield line
                    is_beginning = line.endswith(b"\n")
        except OSError as error:
            raise PostfixError(f"postcat: {error.strerror}; is Postfix installed here?") from None
        said = postcat.complaints
        if postcat.status != 0 and not said.endswith(_GONE):
            raise PostfixError(f"{said or f'postcat: exit status {postcat.status}'}; run this as root")


def _transport(line: bytes) -> str | None:
    found = _FILTER.match(line)
    return found[1].decode(errors="replace") if found else None
