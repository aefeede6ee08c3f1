"""Requests that wait at the same time are answered together: fifty busy connections cost one commit.

A thread asks the state, so that a slow disk or server blocks nobody; requests that need no state do not wait for it.
Those that need an answer of DNS lists wait for that alone, each for itself.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from deliverypools.core.settings import Settings
from deliverypools.policy.backscatter import Suspect
from deliverypools.policy.service import DUNNO, PolicyService, Question
from deliverypools.policy.sparing_log import SparingLog
from deliverypools.policy.wire import Request

ANSWER_SECONDS: Final = 5.0
"""Every request is answered in this time: Postfix would wait 100 s by default."""
_MOST_AT_ONCE: Final = 100
"""Requests of one commit, or looked at in one turn of the event loop: a few milliseconds."""
_GIVE_UP_EVERY_SECONDS: Final = 0.25

_log = logging.getLogger(__name__)
_sparing_log = SparingLog(_log)

Reply = Callable[[str], None]
LookUp = Callable[[Suspect, Settings, float], Coroutine[Any, Any, str | None]]
"""Returns the action for a suspect, None: no objection; takes no longer than so many seconds."""


class _Asked:
    """A question, and where its answer goes. One that was given up has had its answer."""

    __slots__ = ("_reply", "question")

    def __init__(self, question: Question, reply: Reply) -> None:
        self.question = question
        self._reply: Reply | None = reply

    @property
    def is_open(self) -> bool:
        return self._reply is not None

    def answer(self, action: str) -> None:
        if self._reply is not None:
            reply, self._reply = self._reply, None
            reply(action)


class Batches:
    """Takes requests on the event loop, answers them there."""

    def __init__(self, service: PolicyService, settings: Callable[[], Settings], look_up: LookUp) -> None:
        self._service = service
        self._settings = settings
        self._look_up = look_up
        self._looking_up: set[asyncio.Task[str | None]] = set()
        self._loop = asyncio.get_running_loop()
        self._work: queue.SimpleQueue[tuple[list[Question], Settings] | None] = queue.SimpleQueue()
        # An executor would make two futures and chain them, for each request: a sixth of what it costs.
        self._thread = threading.Thread(target=self._ask_the_state, name="state", daemon=True)
        self._thread.start()
        self._new: deque[tuple[Request, Reply, float]] = deque()
        self._waiting: deque[_Asked] = deque()
        self._running: list[_Asked] = []
        self._is_scheduled = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._timer = self._loop.call_later(_GIVE_UP_EVERY_SECONDS, self._give_up_late_ones)

    def ask(self, request: Request, reply: Reply) -> None:
        """Have a request answered, in `ANSWER_SECONDS` at the latest; never calls `reply` at once."""
        self._new.append((request, reply, time.monotonic() + ANSWER_SECONDS - _GIVE_UP_EVERY_SECONDS))
        self._empty.clear()
        self._schedule()

    async def close(self, seconds: float) -> None:
        """Wait until everything is answered, not longer than so many seconds."""
        try:
            await asyncio.wait_for(self._empty.wait(), seconds)
        except TimeoutError:
            _log.error("requests were not answered in %.0f s", seconds)
        self._timer.cancel()
        for task in self._looking_up:
            task.cancel()
        self._work.put(None)
        await asyncio.to_thread(self._thread.join)

    def _ask_the_state(self) -> None:
        """Answer questions, in the thread that may wait for the disk or a server."""
        while work := self._work.get():
            try:
                found: list[str] | Exception = self._service.answers(*work)
            except Exception as error:  # noqa: BLE001  (whatever it is, the clients get their answer)
                found = error
            self._loop.call_soon_threadsafe(self._finish, found)

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            # When all connections that are readable now have been read.
            self._loop.call_soon(self._take)

    def _take(self) -> None:
        self._is_scheduled = False
        settings = self._settings()
        for _ in range(min(len(self._new), _MOST_AT_ONCE)):
            request, reply, deadline = self._new.popleft()
            question = self._service.question(request, settings, deadline)
            if isinstance(question, str):
                reply(question)
            elif isinstance(question, Suspect):
                self._start_look_up(question, reply, settings, deadline)
            else:
                self._waiting.append(_Asked(question, reply))
        if self._new:
            self._schedule()
        self._start(settings)

    def _start_look_up(self, suspect: Suspect, reply: Reply, settings: Settings, deadline: float) -> None:
        seconds = deadline - time.monotonic()
        task = self._loop.create_task(self._look_up(suspect, settings, seconds))
        self._looking_up.add(task)
        task.add_done_callback(functools.partial(self._end_look_up, reply))

    def _end_look_up(self, reply: Reply, task: asyncio.Task[str | None]) -> None:
        self._looking_up.discard(task)
        if task.cancelled():
            action = None
        elif error := task.exception():
            _sparing_log.write(logging.ERROR, "broken", "untrapped exception in a look-up", error)
            action = None
        else:
            action = task.result()
        reply(action or DUNNO)
        self._tell_whether_empty()

    def _start(self, settings: Settings) -> None:
        if self._running:
            return
        while self._waiting and len(self._running) < _MOST_AT_ONCE:
            asked = self._waiting.popleft()
            if asked.is_open:
                self._running.append(asked)
        if not self._running:
            self._tell_whether_empty()
            return
        questions = [asked.question for asked in self._running]
        self._work.put((questions, settings))

    def _finish(self, found: list[str] | Exception) -> None:
        running, self._running = self._running, []
        if isinstance(found, Exception):
            _sparing_log.write(logging.ERROR, "broken", "untrapped exception while answering", found)
            actions = [DUNNO] * len(running)
        else:
            actions = found
        for asked, action in zip(running, actions, strict=True):
            asked.answer(action)
        self._start(self._settings())

    def _give_up_late_ones(self) -> None:
        self._timer = self._loop.call_later(_GIVE_UP_EVERY_SECONDS, self._give_up_late_ones)
        now = time.monotonic()
        late = sum(_give_up(asked, now) for asked in (*self._running, *self._until(now)))
        if late:
            _sparing_log.write(logging.ERROR, "late", f"no answer from the state in {ANSWER_SECONDS:.0f} s: DUNNO")
            self._tell_whether_empty()

    def _until(self, deadline: float) -> Iterable[_Asked]:
        """Take those that wait and are due before a time: they came first."""
        while self._waiting and self._waiting[0].question.deadline <= deadline:
            yield self._waiting.popleft()

    def _tell_whether_empty(self) -> None:
        is_idle = not self._new and not self._waiting and not self._looking_up
        if is_idle and not any(asked.is_open for asked in self._running):
            self._empty.set()


def _give_up(asked: _Asked, now: float) -> bool:
    is_late = asked.is_open and asked.question.deadline <= now
    if is_late:
        asked.answer(DUNNO)
    return is_late
