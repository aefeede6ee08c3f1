"""The scanners of one process: asked in parallel, each as much as it can take, never twice about the same.

A scanner has as many threads as are our share of `spam.scans_at_once`; whoever comes on top waits for a turn, and goes
without if there is none in time, at once if none is to be expected (`core.scanning.turns`): no failure of the scanner.
A scanner that fails is left alone for a while (`core.scanning.breaker`), and administrators are told of one that gives
no verdicts (`core.scanning.alert`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from deliverypools.adapters.scanning.asked_scanner import AskedScanner, Client
from deliverypools.adapters.scanning.clients import client_for
from deliverypools.adapters.scanning.questions import Patience, Question, unknown
from deliverypools.adapters.state import State, StateUnavailable
from deliverypools.adapters.telling import tell
from deliverypools.core.scanning.alert import SILENT_SECONDS, scanner_down
from deliverypools.core.scanning.answers import Scan, ScanEnvelope, Scanner, ScannerAnswer, ScanVerdict
from deliverypools.core.settings import Settings

KNOWN_SECONDS: Final = 3600.0
"""So long a verdict stands: for what Postfix tries again, and for all parts of a message with many recipients."""

_log = logging.getLogger(__name__)


class Scanners:
    """All that the settings name; shared by the threads of a process."""

    def __init__(
        self,
        settings: Settings,
        state: State,
        clock: Callable[[], float] = time.monotonic,
        *,
        epoch_clock: Callable[[], float] = time.time,
        clients: Mapping[Scanner, Client] | None = None,
    ) -> None:
        """Ask by `clients`, which are closed with this, or by those for the settings.

        `clock` (seconds) is for pauses and silence, `epoch_clock` for what administrators are told.
        """
        self._settings = settings
        self._state = state
        self._epoch_clock = epoch_clock
        threads = max(1, settings.spam.scans_at_once // settings.milter.workers)
        self._asked = {
            scanner: AskedScanner(scanner, client, threads=threads, clock=clock, settle=self._settle)
            for scanner, client in (_clients(settings) if clients is None else clients).items()
        }
        self._lock = threading.Lock()
        self._under_way: dict[str, Question] = {}
        self._told: dict[Scanner, str] = {}

    def scan(
        self,
        wanted: Sequence[Scanner],
        content: bytes | mmap.mmap,
        envelope: ScanEnvelope,
        timeout_seconds: float,
    ) -> Scan:
        """Return what the wanted scanners say of a message, UNKNOWN where one has not said so in time. Never raises.

        `content` may be read some time longer: leave its end to the garbage collector.
        """
        patience = Patience.for_seconds(timeout_seconds)
        names = _names(self._settings, wanted, content, envelope)
        questions = {scanner: joined for scanner, name in names.items() if (joined := self._join(name, patience))}
        known = self._known({scanner: name for scanner, name in names.items() if scanner not in questions})
        for scanner, name in names.items():
            if scanner in self._asked and scanner not in questions and scanner not in known:
                questions[scanner] = self._ask(Question(scanner, name, content, envelope, patience), patience)
        known |= {scanner: question.wait(patience) for scanner, question in questions.items()}
        return Scan(tuple(known.get(scanner) or unknown(scanner, "the settings do not name it") for scanner in names))

    def close(self) -> None:
        """Stop. Who waits goes without; what was sent ends by its deadline."""
        for asked in self._asked.values():
            asked.close()
        with self._lock:
            questions = list(self._under_way.values())
        for question in questions:
            question.end(unknown(question.scanner, "the milter stops"))

    def _join(self, name: str, patience: Patience) -> Question | None:
        with self._lock:
            question = self._under_way.get(name)
            return question if question and question.join(patience) else None

    def _ask(self, question: Question, patience: Patience) -> Question:
        """Ask, unless somebody has begun to ask the same meanwhile; return the question to wait for."""
        with self._lock:
            other = self._under_way.get(question.name)
            if other and other.join(patience):
                return other
            self._under_way[question.name] = question
        self._asked[question.scanner].start(question)
        return question

    def _settle(self, question: Question, answer: ScannerAnswer, silent_seconds: float) -> None:
        if answer.verdict is not ScanVerdict.UNKNOWN:
            self._remember(question, answer)
        with self._lock:
            if self._under_way.get(question.name) is question:
                del self._under_way[question.name]
        if silent_seconds >= SILENT_SECONDS:
            self._tell(question, answer, silent_seconds)

    def _known(self, names: Mapping[Scanner, str]) -> dict[Scanner, ScannerAnswer]:
        if not names:
            return {}
        try:
            texts = self._state.known_scans(list(names.values()))
        except StateUnavailable as error:
            _log.warning("what scanners said before cannot be read: %s", error)
            return {}
        except Exception:  # noqa: BLE001  (the scanners can still be asked)
            _log.exception("what scanners said before cannot be read")
            return {}
        found = {scanner: _answer_from(texts[name], scanner) for scanner, name in names.items() if name in texts}
        return {scanner: answer for scanner, answer in found.items() if answer}

    def _remember(self, question: Question, answer: ScannerAnswer) -> None:
        try:
            self._state.remember_scan(question.name, answer.to_text(), KNOWN_SECONDS)
        except StateUnavailable as error:
            _log.warning("what %s said is not remembered: %s", question.scanner, error)

    def _tell(self, question: Question, answer: ScannerAnswer, silent_seconds: float) -> None:
        now = self._epoch_clock()
        told = scanner_down(
            question.scanner,
            self._settings,
            host=question.envelope.hostname,
            problem=answer.problem,
            since=now - silent_seconds,
            now=now,
        )
        if self._told.get(question.scanner) == told.once:
            return
        try:
            tell(told, self._settings, self._state)
            self._told[question.scanner] = told.once
        except StateUnavailable as error:
            _log.warning("administrators cannot be told now: %s (%s)", told.summary(), error)


def _clients(settings: Settings) -> dict[Scanner, Client]:
    return {scanner: client_for(scanner, settings) for scanner in Scanner if getattr(settings.spam, scanner)}


def _names(
    settings: Settings, wanted: Sequence[Scanner], content: bytes | mmap.mmap, envelope: ScanEnvelope
) -> dict[Scanner, str]:
    """Return for each scanner the name of what it is asked: the message, and all it is told beside the recipients.

    Postfix hands a message with many recipients over in parts; they are to have one verdict.
    """
    if not wanted:
        return {}
    spam = settings.spam
    as_whom = {Scanner.RSPAMD: spam.rspamd_settings_id, Scanner.SPAMD: spam.spamd_user}
    message = (
        hashlib.blake2b(content).hexdigest(),
        envelope.envelope_sender,
        envelope.sasl_username,
        envelope.client_address,
        envelope.client_name,
        envelope.helo_name,
    )
    names = {}
    for scanner in wanted:
        asked = (scanner, getattr(spam, scanner), as_whom.get(scanner), *message)
        names[scanner] = hashlib.blake2b(json.dumps(asked).encode(), digest_size=24).hexdigest()
    return names


def _answer_from(text: str, scanner: Scanner) -> ScannerAnswer | None:
    try:
        answer = ScannerAnswer.from_text(text)
    except ValueError as error:
        _log.warning("what %s said before cannot be used: %s", scanner, error)
        return None
    return answer if answer.scanner is scanner else None
