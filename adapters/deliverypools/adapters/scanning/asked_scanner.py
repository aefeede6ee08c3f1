"""One scanner as a process asks it: by a client, in threads, as long as it is well."""

from __future__ import annotations

import logging
import mmap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeAlias

from deliverypools.adapters.scanning.questions import Question, unknown
from deliverypools.adapters.scanning.unavailable import ScannerUnavailable
from deliverypools.core.facts import printable
from deliverypools.core.scanning.alert import Silence
from deliverypools.core.scanning.answers import ScanEnvelope, Scanner, ScannerAnswer, Verdict
from deliverypools.core.scanning.breaker import Breaker, Permission

_log = logging.getLogger(__name__)


class Client(Protocol):
    """Somebody who asks a scanner; several threads do so at once."""

    def ask(self, content: bytes | mmap.mmap, envelope: ScanEnvelope, deadline: float) -> ScannerAnswer:
        """Ask about a message; `deadline` in seconds of `time.monotonic`.

        Raises:
            ScannerUnavailable: it cannot be reached, does not answer in time, or answers nonsense.
        """

    def close(self) -> None:
        """Close what is open."""


Settle: TypeAlias = Callable[[Question, ScannerAnswer, float], None]
"""Is called at the end of each question, however it ends, with the answer, and for how many seconds the scanner has
given no verdict although it was asked. Those who wait have the answer by then."""


class AskedScanner:
    """A scanner with a breaker, and with a thread pool, in whose queue questions wait for their turn."""

    def __init__(
        self, scanner: Scanner, client: Client, *, threads: int, clock: Callable[[], float], settle: Settle
    ) -> None:
        """Ask `client`, which is closed with this; `clock` (seconds) is for breaker and silence."""
        self._scanner = scanner
        self._client = client
        self._clock = clock
        self._settle = settle
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"ask-{scanner}")
        self._lock = threading.Lock()
        self._breaker = Breaker()
        self._silence = Silence()
        self._problem = ""
        """What went wrong last."""

    def start(self, question: Question) -> None:
        """Have a question asked, as soon as a thread is free; at once it ends if the scanner is left alone."""
        with self._lock:
            is_refused = self._breaker.refuses(self._clock())
        if is_refused:
            self._end(question, self._left_alone())
            return
        try:
            self._executor.submit(self._serve, question)
        except RuntimeError as error:  # It was closed, or the system has no more threads.
            self._end(question, unknown(self._scanner, printable(str(error))))

    def close(self) -> None:
        """Ask no more. What is under way ends by its deadline."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _serve(self, question: Question) -> None:
        begun = question.begin()
        if begun is None:
            self._end(question, unknown(self._scanner, "it is busy"))
            return
        with self._lock:
            permission = self._breaker.permit(self._clock())
        if permission is Permission.REFUSED:
            self._end(question, self._left_alone())
            return
        try:
            answer = self._client.ask(begun.content, question.envelope, begun.deadline)
        except ScannerUnavailable as error:
            self._fail(question, permission, printable(str(error)))
        except Exception as error:  # noqa: BLE001  (neither those who wait nor the breaker may be left without an answer)
            _log.exception("%s could not be asked", self._scanner)
            self._fail(question, permission, printable(f"{type(error).__name__}: {error}"))
        else:
            self._succeed(question, answer)

    def _succeed(self, question: Question, answer: ScannerAnswer) -> None:
        silent_seconds = 0.0
        with self._lock:
            was_left_alone = self._breaker.is_open
            self._breaker.succeed()
            if answer.verdict is Verdict.UNKNOWN:
                silent_seconds = self._silence.lasts(self._clock())
            else:
                self._silence.break_off()
        if was_left_alone:
            _log.warning("%s answers again", self._scanner)
        self._end(question, answer, silent_seconds)

    def _fail(self, question: Question, permission: Permission, problem: str) -> None:
        with self._lock:
            now = self._clock()
            self._problem = problem
            silent_seconds = self._silence.lasts(now)
            pause_seconds = self._breaker.fail(permission, now)
        if pause_seconds:
            _log.warning("%s is left alone for %.0f s: %s", self._scanner, pause_seconds, problem)
        self._end(question, unknown(self._scanner, problem), silent_seconds)

    def _left_alone(self) -> ScannerAnswer:
        return unknown(self._scanner, f"left alone after failures: {self._problem}")

    def _end(self, question: Question, answer: ScannerAnswer, silent_seconds: float = 0.0) -> None:
        question.end(answer)
        try:
            self._settle(question, answer, silent_seconds)
        except Exception:  # noqa: BLE001  (nobody else would hear of it: the thread pool keeps it to itself)
            _log.exception("the answer of %s could not be settled", self._scanner)
