"""One scanner as a process asks it: by a client, in threads, as long as it is well."""

from __future__ import annotations

import logging
import mmap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeAlias

from deliverypools.adapters.metrics.definitions import SCANNER_ANSWERS, SCANNER_SECONDS
from deliverypools.adapters.metrics.measure import add, observe
from deliverypools.adapters.scanning.questions import Begun, Question, unknown
from deliverypools.adapters.scanning.unavailable import ScannerUnavailable
from deliverypools.core.facts import printable
from deliverypools.core.scanning.alert import Silence
from deliverypools.core.scanning.answers import ScanEnvelope, Scanner, ScannerAnswer, ScanVerdict
from deliverypools.core.scanning.breaker import PAUSE_SECONDS, Breaker, Permission
from deliverypools.core.scanning.turns import Turns

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
        """Ask `client`, which is closed with this; `clock` (seconds) is for breaker, turns and silence."""
        self._scanner = scanner
        self._client = client
        self._clock = clock
        self._settle = settle
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"ask-{scanner}")
        self._lock = threading.Lock()
        self._breaker = Breaker()
        self._turns = Turns(threads)
        self._silence = Silence()
        self._waiting_for_probe: list[Question] = []
        self._problem = ""
        """What went wrong last."""

    def start(self, question: Question) -> None:
        """Have a question asked, as soon as a thread is free, and not before the outcome of a probe.

        It ends at once if the scanner is left alone, or is so busy that its turn would come too late.
        """
        with self._lock:
            permission = self._permission_for(question)
            if permission is Permission.LATER:
                self._waiting_for_probe.append(question)
                return
            is_refused = permission is Permission.REFUSED
            is_busy = self._turns.wait_seconds > question.seconds_left()
            if not is_refused and not is_busy:
                self._turns.take()
        if is_refused:
            self._end(question, self._left_alone())
        elif is_busy:
            self._end(question, self._busy())
        else:
            self._submit(question)

    def close(self) -> None:
        """Ask no more. What is under way ends by its deadline."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _submit(self, question: Question) -> None:
        try:
            self._executor.submit(self._serve, question)
        except RuntimeError as error:  # It was closed, or the system has no more threads.
            with self._lock:
                self._turns.give_back()
            self._end(question, unknown(self._scanner, printable(str(error))))

    def _serve(self, question: Question) -> None:
        try:
            self._have_turn(question)
        finally:
            with self._lock:
                self._turns.give_back()

    def _have_turn(self, question: Question) -> None:
        with self._lock:
            permission = self._permission_for(question)
            if permission is Permission.LATER:
                self._waiting_for_probe.append(question)
                return
            begun = None if permission is Permission.REFUSED else question.begin()
            if begun and permission is Permission.PROBE:
                self._breaker.probe()
        if begun:
            self._ask(question, begun, permission)
        else:
            self._end(question, self._left_alone() if permission is Permission.REFUSED else self._busy())

    def _permission_for(self, question: Question) -> Permission:
        """Return what a question may do now. A large one is no probe: it could fail for its size."""
        permission = self._breaker.permission(self._clock())
        return Permission.REFUSED if permission is Permission.PROBE and question.is_large else permission

    def _ask(self, question: Question, begun: Begun, permission: Permission) -> None:
        begun_at = self._clock()
        try:
            answer = self._client.ask(begun.content, question.envelope, begun.deadline)
        except ScannerUnavailable as error:
            self._fail(question, permission, printable(str(error)))
        except Exception as error:  # noqa: BLE001  (neither those who wait nor the breaker may be left without an answer)
            _log.exception("%s could not be asked", self._scanner)
            self._fail(question, permission, printable(f"{type(error).__name__}: {error}"))
        else:
            self._succeed(question, answer, self._clock() - begun_at)

    def _succeed(self, question: Question, answer: ScannerAnswer, seconds: float) -> None:
        silent_seconds = 0.0
        observe(SCANNER_SECONDS, seconds, self._scanner)
        with self._lock:
            was_left_alone = self._breaker.is_open
            self._breaker.succeed()
            self._turns.note_answer(seconds)
            # With an action it is the scanner's own wish that there is no verdict yet.
            if answer.verdict is ScanVerdict.UNKNOWN and not answer.action:
                silent_seconds = self._silence.lasts(self._clock())
            else:
                self._silence.break_off()
        if was_left_alone:
            _log.warning("%s answers again", self._scanner)
            self._go_on()
        self._end(question, answer, silent_seconds)

    def _fail(self, question: Question, permission: Permission, problem: str) -> None:
        with self._lock:
            now = self._clock()
            silent_seconds = self._silence.lasts(now)
            is_paused = False
            if not question.is_large:
                self._problem = problem
                is_paused = self._breaker.fail(permission, now)
        if is_paused:
            _log.warning("%s is left alone for %.0f s: %s", self._scanner, PAUSE_SECONDS, problem)
            self._go_on()
        self._end(question, unknown(self._scanner, problem), silent_seconds)

    def _go_on(self) -> None:
        """Start the questions that have waited for a probe: it has had its outcome."""
        with self._lock:
            questions, self._waiting_for_probe = self._waiting_for_probe, []
        for question in questions:
            self.start(question)

    def _busy(self) -> ScannerAnswer:
        return unknown(self._scanner, "it is busy")

    def _left_alone(self) -> ScannerAnswer:
        return unknown(self._scanner, f"left alone after failures: {self._problem}")

    def _end(self, question: Question, answer: ScannerAnswer, silent_seconds: float = 0.0) -> None:
        question.end(answer)
        add(SCANNER_ANSWERS, self._scanner, answer.verdict)
        try:
            self._settle(question, answer, silent_seconds)
        except Exception:  # noqa: BLE001  (nobody else would hear of it: the thread pool keeps it to itself)
            _log.exception("the answer of %s could not be settled", self._scanner)
