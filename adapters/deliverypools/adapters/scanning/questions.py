"""A question about one message, for all threads of a process that want to know the same."""

from __future__ import annotations

import mmap
import threading
import time
from typing import Final, NamedTuple, Self

from deliverypools.core.scanning.answers import ScanEnvelope, Scanner, ScannerAnswer, ScanVerdict

_GRACE_SECONDS: Final = 0.5
"""So much longer than its deadline a client is waited for: what it says of the scanner tells more than "no answer"."""
_LARGE_BYTES: Final = 256 * 1024
"""Beyond it, limits of the scanner's own (rspamd's `max_message`) and the time that a long text takes tell more of the
message than of the scanner."""


class Patience(NamedTuple):
    """How long somebody waits, in seconds of `time.monotonic`."""

    turn_by: float
    """What has not begun by then is dropped: too little time would be left for an answer, and the scanner would be busy
    with what nobody waits for any more."""
    answer_by: float

    @classmethod
    def for_seconds(cls, timeout_seconds: float) -> Self:
        """Return it for a time-out that begins now: half of it for the turn, at least half for the answer."""
        now = time.monotonic()
        return cls(now + timeout_seconds / 2, now + timeout_seconds)


class Begun(NamedTuple):
    """What a client needs."""

    content: bytes | mmap.mmap
    deadline: float


class Question:
    """What a scanner is asked about a message. All methods may be called from any thread."""

    def __init__(
        self, scanner: Scanner, name: str, content: bytes | mmap.mmap, envelope: ScanEnvelope, patience: Patience
    ) -> None:
        """Ask for one who waits; `name` is the same where the question is."""
        self.scanner = scanner
        self.name = name
        self.envelope = envelope
        self.is_large = len(content) > _LARGE_BYTES
        """That a scanner does not answer about it may be for its size."""
        self._content = content
        self._patience = patience
        self._waiting = 1
        self._has_begun = False
        self._answer: ScannerAnswer | None = None
        self._changed = threading.Condition()

    def join(self, patience: Patience) -> bool:
        """Wait for it too; False: it was dropped, as nobody waited any more, or has ended without a verdict."""
        with self._changed:
            is_dropped = not self._waiting and not self._has_begun
            if is_dropped or (self._answer and self._answer.verdict is ScanVerdict.UNKNOWN):
                return False
            self._waiting += 1
            self._patience = max(self._patience, patience)
            return True

    def seconds_left(self) -> float:
        """Return for how long its turn is waited for."""
        with self._changed:
            return self._patience.turn_by - time.monotonic()

    def begin(self) -> Begun | None:
        """Take the question to the scanner; None: it was dropped, or its turn comes too late."""
        with self._changed:
            if not self._waiting or self._answer is not None or self._patience.turn_by < time.monotonic():
                return None
            self._has_begun = True
            begun = Begun(self._content, self._patience.answer_by)
            self._content = b""
            self._changed.notify_all()
            return begun

    def end(self, answer: ScannerAnswer) -> None:
        """Give the answer to all who wait; the first counts."""
        with self._changed:
            self._answer = self._answer or answer
            self._changed.notify_all()

    def wait(self, patience: Patience) -> ScannerAnswer:
        """Return the answer; to one whose patience ends before, it is unknown."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_begun or self._answer, patience.turn_by - time.monotonic())
            problem = "it is busy, no turn in time"
            if self._has_begun:
                problem = "no answer in time"
                answer_by = patience.answer_by + _GRACE_SECONDS
                self._changed.wait_for(lambda: self._answer, answer_by - time.monotonic())
            self._waiting -= 1
            if not self._waiting:
                # It may stay in a scanner's queue for some time.
                self._content = b""
            return self._answer or unknown(self.scanner, problem)


def unknown(scanner: Scanner, problem: str) -> ScannerAnswer:
    """Return the answer of a scanner that has not said anything."""
    return ScannerAnswer(scanner=scanner, verdict=ScanVerdict.UNKNOWN, problem=problem)
