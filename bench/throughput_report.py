"""The figures of `make bench`: tables for people, and everything as JSON."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from throughput_peers import DKIM, RSPAMD
from throughput_subjects import BARE, EXPRESS, FAST, HOP, WITH_POLICY, Run

_WIDTH: Final = 24
_NAME_WIDTH: Final = 22
_TESTERS: Final = ("sink", "client")
"""Components that belong to the measurement, not to the server."""


@dataclass
class Figures:
    """What was measured of one subject: one value, or one table, for each round."""

    name: str
    accepted: list[float] = field(default_factory=list)
    """Messages a second, until accepted."""
    delivered: list[float] = field(default_factory=list)
    """Messages a second, until delivered."""
    cpu: list[Mapping[str, float]] = field(default_factory=list)
    """Milliseconds of processor time a message, by component."""
    p50: list[float] = field(default_factory=list)
    """Milliseconds from MAIL FROM to the reply to the final dot."""
    p99: list[float] = field(default_factory=list)
    megabytes: list[Mapping[str, float]] = field(default_factory=list)

    def add(self, busy: Run, paced: Run) -> None:
        """Take over one round: a load as fast as it goes, and a paced one."""
        self.accepted.append(busy.accepted_per_second)
        self.delivered.append(busy.delivered_per_second)
        self.cpu.append(busy.cpu_milliseconds())
        self.megabytes.append(busy.megabytes)
        self.p50.append(percentile(paced.sent.latencies, 0.5))
        self.p99.append(percentile(paced.sent.latencies, 0.99))

    def cpu_of(self, component: str) -> list[float]:
        """Return what a component took in each round."""
        return [used.get(component, 0.0) for used in self.cpu]

    def cpu_in_all(self) -> list[float]:
        """Return what the server took in each round, without sink and client."""
        return [sum(value for name, value in used.items() if name not in _TESTERS) for used in self.cpu]


def ratios(figures: Figures, bare: Figures) -> list[float]:
    """Return messages a second until delivered, as a share of bare Postfix in the same round."""
    return [mine / theirs for mine, theirs in zip(figures.delivered, bare.delivered, strict=True)]


def table(all_figures: Sequence[Figures]) -> Iterator[str]:
    """Yield the lines of the tables; the first of the figures are those of bare Postfix."""
    bare = all_figures[0]
    yield _line("messages a second", "until accepted", "until delivered", "delivered, of bare")
    for one in all_figures:
        yield _line(one.name, spread(one.accepted), spread(one.delivered), spread(ratios(one, bare), 2))
    yield ""
    yield _line("CPU ms a message", "in all", "of bare")
    for one in all_figures:
        shares = [mine / theirs for mine, theirs in zip(one.cpu_in_all(), bare.cpu_in_all(), strict=True)]
        parts = " ".join(f"{name} {statistics.median(one.cpu_of(name)):.2f}" for name in one.cpu[0])
        yield f"{_line(one.name, spread(one.cpu_in_all(), 2), spread(shares, 2)):<{_NAME_WIDTH + 2 * _WIDTH}}{parts}"
    yield ""
    yield _line("ms until accepted", "p50", "p99", "p50, added", "p99, added")
    for one in all_figures:
        added = ["", ""]
        if one is not bare:
            added = [spread(_added(one.p50, bare.p50), 2), spread(_added(one.p99, bare.p99), 2)]
        yield _line(one.name, spread(one.p50, 2), spread(one.p99, 2), *added)
    yield ""
    yield _line("memory, MB")
    for one in all_figures:
        names = [name for name in one.megabytes[0] if name not in _TESTERS]
        most = {name: max(held.get(name, 0.0) for held in one.megabytes) for name in names}
        yield _line(one.name, " ".join(f"{name} {held:.0f}" for name, held in most.items()))


def closing_line(all_figures: Sequence[Figures]) -> str:
    """Return the last line; what was not measured is a dash."""
    bare = all_figures[0]
    found = {one.name: f"{statistics.median(ratios(one, bare)):.2f}" for one in all_figures if one.delivered}
    express, fast, hop = (found.get(name + WITH_POLICY, "-") for name in (EXPRESS, FAST, HOP))
    rspamd, dkim = (found.get(peer.name, "-") for peer in (RSPAMD, DKIM))
    return (
        f"bench: express {express} fast-path {fast} hop {hop} of {BARE}; "
        f"peers: rspamd-lean {rspamd} opendkim+opendmarc {dkim}"
    )


def as_json(all_figures: Sequence[Figures], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything."""
    bare = all_figures[0]
    subjects = {one.name: asdict(one) | {"of_bare": ratios(one, bare)} for one in all_figures}
    return {"machine": machine(), "options": dict(options), "subjects": subjects}


def machine() -> dict[str, str]:
    """Describe the machine, without its name."""
    cpus = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    version = subprocess.run(["postconf", "-dh", "mail_version"], capture_output=True, text=True, check=False)
    return {
        "processors": f"{os.cpu_count()} x {cpus[0] if cpus else platform.machine()}",
        "memory": f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "unknown",
        "kernel": platform.release(),
        "postfix": version.stdout.strip(),
        "python": platform.python_version(),
    }


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share lies; NaN without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the median, with the range."""
    middle, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})" if len(values) > 1 else middle


def _added(mine: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(mine, theirs, strict=True)]


def _line(name: str, *cells: str) -> str:
    return (f"{name:<{_NAME_WIDTH}}" + "".join(f"{cell:<{_WIDTH}}" for cell in cells)).rstrip()
