"""How processes hand their numbers on: one small file each, in a folder, replaced as a whole.

Not prometheus_client's multiprocess mode, for two reasons that were seen. It keeps numbers in sparse files that it maps
into memory: on a full disk the next count is a SIGBUS, which ends a milter worker in the middle of a message, and its
successor too. And it never removes the files of processes that have ended, of which every reload makes some.

Here a process counts in its own memory. What cannot be written is written later; nothing waits for it but a thread of
its own. A process killed between two writes takes some seconds of counts with it.

The reader adds all files up. Those of ended processes it takes over into one, so that counters never go back and the
folder does not grow. A process whose file was taken over although it lives (it was stopped, the clock was set) finds it
gone, and goes on with what it has counted since.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import math
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from deliverypools.adapters.metrics.definitions import METRICS, Label
from deliverypools.adapters.metrics.recorder import Numbers, Recorder, Series, width
from deliverypools.core.settings.values import pool_name

FRESH_SECONDS: Final = 30.0
"""Whose file is younger lives."""
_GONE_SECONDS: Final = 120.0
"""Whose file is older has ended without saying so."""
_LAST_WAITS_SECONDS: Final = 1.0
"""So long a process that ends waits until whoever reads has done so: what it counted last would be lost."""
_LOCK_EVERY_SECONDS: Final = 0.005
_FORMAT: Final = 1
_MOST_FILES: Final = 1000
_MOST_BYTES: Final = 4_000_000
_TAKEN_OVER: Final = "ended"
_LOCK: Final = ".lock"
_SUFFIX: Final = ".json"
_BY_NAME: Final = {metric.name: metric for metric in METRICS}

_log = logging.getLogger(__name__)


class Publisher:
    """Writes the file of one process; its threads take turns, and after the last time nothing is written."""

    def __init__(self, folder: Path, role: str, recorder: Recorder) -> None:
        """Begin nothing: the first file is written by `publish`."""
        self._folder = folder
        self._role = role
        self._path = self._new_path()
        self._recorder = recorder
        self._written: dict[Series, Numbers] | None = None
        self._is_failing = False
        self._has_ended = False
        self._turn = threading.Lock()

    def publish(self, *, is_last: bool = False) -> None:
        """Write the numbers, or only say "I live" where none has changed; log what fails, once, and go on."""
        with self._turn:
            if not self._has_ended:
                self._has_ended = is_last
                self._publish(is_last=is_last)

    def _publish(self, *, is_last: bool) -> None:
        try:
            self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            with _locked(self._folder, fcntl.LOCK_SH, _LAST_WAITS_SECONDS if is_last else 0.0) as has_lock:
                if has_lock:
                    self._write(is_last=is_last)
        except Exception as error:  # noqa: BLE001  (whatever it is, mail goes on)
            if not self._is_failing:
                _log.warning("metrics cannot be handed on: %s; mail goes on, and it is tried again", error)
            self._is_failing = True
        else:
            self._is_failing = False

    def _write(self, *, is_last: bool) -> None:
        if self._written is not None and not self._path.exists():
            self._recorder.forget(self._written)
            self._written = None
            self._path = self._new_path()
        numbers = self._recorder.snapshot()
        if numbers == self._written and not is_last:
            os.utime(self._path)
            return
        _replace(self._path, {"role": self._role, "has_ended": is_last}, numbers)
        self._written = numbers

    def _new_path(self) -> Path:
        """Return a name that no file ever had: those that were taken over are known by theirs."""
        return self._folder / f"{self._role}-{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"


@dataclass(slots=True)
class Gathered:
    """The numbers of all processes, and how many of each role live."""

    numbers: dict[Series, Numbers] = field(default_factory=dict)
    living: Counter[str] = field(default_factory=Counter)

    def take(self, numbers: Mapping[Series, Numbers]) -> None:
        """Add numbers up."""
        for series, more in numbers.items():
            have = self.numbers.get(series)
            self.numbers[series] = [a + b for a, b in zip(have, more, strict=True)] if have else list(more)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    age_seconds: float
    role: str
    has_ended: bool
    taken_over: frozenset[str]
    numbers: dict[Series, Numbers]

    @property
    def is_over(self) -> bool:
        return self.has_ended or self.age_seconds > _GONE_SECONDS


class Gatherer:
    """Reads the files of all processes; one of them does."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        """Read `folder`; `clock` (seconds since the epoch) tells how old files are."""
        self._folder = folder
        self._clock = clock

    def gather(self) -> Gathered:
        """Return all numbers; what cannot be read is left out.

        Raises:
            OSError: the folder cannot be read.
        """
        files = self._files()
        if any(file.is_over for file in files if file.path.stem != _TAKEN_OVER):
            with contextlib.suppress(OSError), _locked(self._folder, fcntl.LOCK_EX) as has_lock:
                if has_lock:
                    self._take_over()
                    files = self._files()
        gathered = Gathered()
        gone = _names_taken_over(files)
        for file in files:
            if file.path.name in gone:
                continue
            gathered.take(file.numbers)
            if not file.has_ended and file.age_seconds <= FRESH_SECONDS and file.path.stem != _TAKEN_OVER:
                gathered.living[file.role] += 1
        return gathered

    def _take_over(self) -> None:
        """Add the files of ended processes to that of their kind, and remove them.

        The one file names those that it holds: a crash before they are removed counts nothing twice.
        """
        files = self._files()
        gone = _names_taken_over(files)
        over = [file for file in files if file.is_over and file.path.stem != _TAKEN_OVER]
        total = Gathered()
        for file in files:
            if file.path.stem == _TAKEN_OVER or (file in over and file.path.name not in gone):
                total.take(file.numbers)
        content = {"role": _TAKEN_OVER, "has_ended": True, "taken_over": [file.path.name for file in over]}
        _replace(self._folder / f"{_TAKEN_OVER}{_SUFFIX}", content, total.numbers)
        for file in over:
            file.path.unlink(missing_ok=True)

    def _files(self) -> list[_File]:
        now = self._clock()
        paths = sorted(path for path in self._folder.iterdir() if path.suffix == _SUFFIX)[:_MOST_FILES]
        return [file for path in paths if (file := _read(path, now)) is not None]


def _names_taken_over(files: Iterable[_File]) -> frozenset[str]:
    return next((file.taken_over for file in files if file.path.stem == _TAKEN_OVER), frozenset())


@contextlib.contextmanager
def _locked(folder: Path, how: int, patience_seconds: float = 0.0) -> Iterator[bool]:
    """Lock the folder while it is written to; yield whether that worked in time."""
    deadline = time.monotonic() + patience_seconds
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        while not (has_lock := _takes(descriptor, how)) and time.monotonic() < deadline:
            time.sleep(_LOCK_EVERY_SECONDS)
        yield has_lock
    finally:
        os.close(descriptor)


def _takes(descriptor: int, how: int) -> bool:
    """Tell whether a lock could be taken at once."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _replace(path: Path, content: Mapping[str, object], numbers: Mapping[Series, Numbers]) -> None:
    series = [[metric.name, list(values), many] for (metric, values), many in numbers.items()]
    new = path.with_suffix(".new")
    try:
        new.write_text(json.dumps({"format": _FORMAT, **content, "series": series}), encoding="utf-8")
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def _read(path: Path, now: float) -> _File | None:
    """Return what a file holds; None where it is none of ours, or of a version that counts in another way."""
    try:
        with path.open("rb") as opened:
            age_seconds = now - os.fstat(opened.fileno()).st_mtime
            text = opened.read(_MOST_BYTES + 1)
        content: Any = json.loads(text)
        if len(text) > _MOST_BYTES or content["format"] != _FORMAT:
            return None
        return _File(
            path,
            age_seconds,
            str(content["role"]),
            bool(content["has_ended"]),
            frozenset(map(str, content.get("taken_over", ()))),
            dict(_series(content["series"])),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _series(written: Iterable[Any]) -> Iterator[tuple[Series, Numbers]]:
    """Yield the series that this version knows."""
    for name, values, many in written:
        metric = _BY_NAME.get(name)
        if metric is None or len(values) != len(metric.labels) or len(many) != width(metric):
            continue
        numbers = [float(number) for number in many]
        has_sense = all(math.isfinite(number) for number in numbers)
        if has_sense and all(map(_can_have, metric.labels, values)):
            yield (metric, tuple(values)), numbers


def _can_have(label: Label, value: object) -> bool:
    """Tell whether a label can have a value; pools may have been renamed since."""
    if value in label.values:
        return True
    try:
        return label.has_pools and bool(pool_name(value))
    except ValueError:
        return False
