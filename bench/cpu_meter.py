"""Processor time and memory of groups of processes: each group in a control group of its own (cgroups(7), version 2).

Where no control group can be made, the times of the processes themselves are added up, with those of the children that
have ended; what a child does that ends before it is waited for is missing then.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Self

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_FIRST_TIME: Final = 11
"""Of the fields behind the name in /proc/PID/stat: utime, stime, cutime, cstime."""


class CpuMeter:
    """Use it as a context manager; `watch` processes as soon as they run, so that their children belong to them."""

    def __init__(self) -> None:
        self._roots: dict[str, list[int]] = {}
        self._base = _own_group()
        self._parent: Path | None = None
        self._groups: dict[str, Path] = {}

    @property
    def source(self) -> str:
        """Where the times are from, for the report."""
        return "cgroups" if self._base else "/proc"

    def __enter__(self) -> Self:
        if self._base:
            self._parent = Path(tempfile.mkdtemp(prefix="delivery-pools-bench-", dir=self._base))
        return self

    def __exit__(self, *_: object) -> None:
        if not self._base or not self._parent:
            return
        for group in self._groups.values():
            # What runs there still goes back to where it came from.
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    (self._base / "cgroup.procs").write_text(pid)
            group.rmdir()
        self._parent.rmdir()

    def watch(self, name: str, roots: Iterable[int]) -> None:
        """Count processes, and their children, as one group from now on; the first call for a name makes it."""
        pids = list(roots)
        self._roots.setdefault(name, []).extend(pids)
        if not self._parent:
            return
        if name not in self._groups:
            self._groups[name] = self._parent / name
            self._groups[name].mkdir()
        members = self._groups[name] / "cgroup.procs"
        # A child that is born between look and move stays behind: look again.
        while left := {one for root in pids for one in tree(root)} - set(map(int, members.read_text().split())):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    members.write_text(str(pid))

    def seconds(self) -> dict[str, float]:
        """Return the processor time of each group until now."""
        return {name: self._seconds(name) for name in self._roots}

    def _seconds(self, name: str) -> float:
        if self._parent:
            text = (self._groups[name] / "cpu.stat").read_text()
            return int(text.split()[1]) / 1e6
        return sum(_seconds_of(pid) for root in self._roots[name] for pid in tree(root))

    def megabytes(self) -> dict[str, float]:
        """Return the memory of each group now; a page that several processes share is counted once among them."""
        return {name: sum(map(_megabytes_of, self._pids(name))) for name in self._roots}

    def peak_megabytes(self, name: str) -> float:
        """Return the most memory that the living processes of a group have had, each for itself, added up."""
        return sum(map(_peak_megabytes_of, self._pids(name)))

    def _pids(self, name: str) -> Iterator[int]:
        if self._parent:
            yield from map(int, (self._groups[name] / "cgroup.procs").read_text().split())
        else:
            yield from (pid for root in self._roots[name] for pid in tree(root))


def differences(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return by how much each group has grown."""
    return {name: value - before.get(name, 0.0) for name, value in after.items()}


def tree(pid: int) -> Iterator[int]:
    """Yield a process and all that descend from it; nothing if it has ended."""
    with contextlib.suppress(OSError):
        children = [
            child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
        ]
        yield pid
        for child in children:
            yield from tree(int(child))


def _own_group() -> Path | None:
    """Return the folder of this process's control group, if groups can be made in it."""
    mounts = re.findall(r"^\S+ (\S+) cgroup2 ", Path("/proc/mounts").read_text(), re.MULTILINE)
    own = re.search(r"^0::(/\S*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
    if not mounts or own is None:
        return None
    folder = Path(mounts[0] + own[1])
    try:
        probe = Path(tempfile.mkdtemp(prefix="delivery-pools-probe-", dir=folder))
        is_counted = (probe / "cpu.stat").is_file()
        probe.rmdir()
    except OSError:
        return None
    return folder if is_counted else None


def _seconds_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[_FIRST_TIME : _FIRST_TIME + 4])) / _TICKS


def _megabytes_of(pid: int) -> float:
    return _megabytes(f"/proc/{pid}/smaps_rollup", "Pss")


def _peak_megabytes_of(pid: int) -> float:
    return _megabytes(f"/proc/{pid}/status", "VmHWM")


def _megabytes(file: str, line: str) -> float:
    try:
        text = Path(file).read_text()
    except OSError:
        return 0.0
    found = re.search(rf"^{line}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0
