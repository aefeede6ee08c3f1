"""Has the policy daemon's `SurgeWatch` look at an invented hour while it passes, and keeps what it tells."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from deliverypools.adapters.state import State
from deliverypools.core.client_networks import network_of
from deliverypools.core.settings import Settings, built_in_defaults
from deliverypools.core.surges.alert import SurgeAlert
from deliverypools.core.surges.baseline import EVERYTHING
from deliverypools.core.surges.causes import Cause
from deliverypools.core.surges.events import NdrEvent
from deliverypools.core.tallies import Tally, Used, Window
from deliverypools.core.told import from_payload
from deliverypools.policy.surge_watch import SurgeWatch
from surge_scenarios import FACTOR, HOUR, MINIMUM, NOW, Incident, Scenario

_AFTERWARDS: Final = 300.0
_NAME_PARTS: Final = 6


@dataclass(frozen=True)
class Answer:
    """Something that was told."""

    cause: Cause
    names: frozenset[str]
    """Of accounts, domains, networks and destinations that it is about."""


@dataclass
class Hour:
    """An hour that passes: what the watch asks of the shared state, in memory."""

    scenario: Scenario
    now: float = NOW - HOUR
    told: list[Answer] = field(default_factory=list)
    slowest: float = 0.0
    """Of the looks, in seconds of computing."""
    events: int = 0
    _names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.events = len(self.scenario.events)

    def watch(self, every: float) -> list[Answer]:
        """Let it pass with a look every so many seconds; return what was told."""
        settings = _settings()
        watch = SurgeWatch()
        while self.now < NOW + _AFTERWARDS:
            self.now += every
            begin = time.thread_time()
            watch.look(cast("State", self), settings, self.now)
            self.slowest = max(self.slowest, time.thread_time() - begin)
        return self.told

    def ndrs(self, *, since: float, most: int) -> list[NdrEvent]:
        """Return the events of a time; see `State.ndrs`."""
        events = [event for event in self.scenario.events if since <= event.at <= self.now]
        return sorted(events, key=lambda event: -event.at)[:most]

    def used(self, windows: Sequence[Window]) -> Used:
        """Return what is usual, as if every hour of the week had been like that; see `State.used`."""
        return tuple(
            window.seconds
            if window.streams == (EVERYTHING,)
            else round(self.scenario.usual.get(window.streams[0], 0.0) * window.seconds / HOUR)
            for window in windows
        )

    def count(self, tally: Tally) -> Used:
        """Count nothing; see `State.count`."""
        return (0,) * len(tally.windows)

    def post(self, once: str, keep_seconds: float, notices: Sequence[tuple[str, str]]) -> bool:
        """Keep what is told; see `State.post`."""
        del keep_seconds
        if once in self._names:
            return False
        self._names.add(once)
        if notices:
            alert = cast("SurgeAlert", from_payload(notices[0][1]))
            joined = (name.partition(" ")[2] for name, _ in alert.joined)
            answer = Answer(alert.cause, frozenset((alert.subject_name, *joined)))
            # A line in the log is read by nobody who gets an alert.
            self.told = [
                one for one in self.told if one.cause is not Cause.OLD_LIST or one.names.isdisjoint(answer.names)
            ]
            self.told.append(answer)
        elif once.startswith(f"surge/{Cause.OLD_LIST}/"):
            name = once.split("/", _NAME_PARTS - 1)[-1]
            # After an alert about the same this is a mark: not to be told.
            if not any(name in answer.names for answer in self.told):
                self.told.append(Answer(Cause.OLD_LIST, frozenset((name,))))
        return True


def is_about(answer: Answer, incident: Incident) -> bool:
    """Tell whether an answer names what the incident concerns."""
    networks = {network_of(_some_client(subject)) for subject in incident.subjects}
    return not answer.names.isdisjoint(incident.subjects | networks)


def is_all_right(scenario: Scenario, told: Sequence[Answer]) -> bool:
    """Tell whether each incident was told once, and nothing else."""
    return len(told) == len(scenario.incidents) and all(
        any(incident.is_told_by(answer.cause) and is_about(answer, incident) for answer in told)
        for incident in scenario.incidents
    )


def _some_client(network: str) -> str:
    """Return a client of a network as the scenarios write it, without its last part."""
    return f"{network}0::" if network.endswith(":") else f"{network}.1"


def _settings() -> Settings:
    pools = {
        name: {"addresses": [f"192.0.2.{number}"], "helo": "mx.example.org"}
        for number, name in enumerate(built_in_defaults().pools, 10)
    }
    return Settings.model_validate(
        {
            "accepted_domains": ["example.org"],
            "pools": pools,
            "alerts": {"mail_to": ["postmaster@example.org"]},
            "bounces": {"surge_minimum": MINIMUM, "surge_factor": FACTOR},
        }
    )
