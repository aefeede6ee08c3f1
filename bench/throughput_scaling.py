"""How the cost grows: with a message's size, its recipients, the operator's pins, the sessions at once; and memory.

`make bench ARGS=--scaling`. How the policy service's answers grow with the number of accounts: policy_accounts.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import policy_accounts
from throughput_report import percentile
from throughput_subjects import EXPRESS, HOP, Builder, Run, Subject

_SIZES: Final = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000)
_RECIPIENTS: Final = (1, 10, 100, 1000)
_PINS: Final = (0, 100, 1000, 10_000)
_MESSAGES: Final = 100_000
_LOADS: Final = 10
"""In so many parts memory is looked at."""
_SESSIONS: Final = (1, 10, 100, 500, 1000)
_OCTETS_OF_A_LOAD: Final = 100_000_000
_MOST_MESSAGES: Final = 300
_SOME: Final = 5
_QUICK_DIVISOR: Final = 10
_FREE: Final = {
    # No size limit, and as many processes as there are sessions.
    "message_size_limit": "0",
    "mailbox_size_limit": "0",
    "virtual_mailbox_limit": "0",
    "smtpd_recipient_limit": "2000",
    "default_process_limit": "1200",
}
_FEW: Final = 200
"""Messages of a load that only tells what one of them costs."""


def run(*, quick: bool = False, only: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status is 1 where mail got lost. `quick`: a tenth of the largest values at most."""
    wanted: dict[str, Callable[[bool], Iterator[str]]] = {
        "size": _by_size,
        "recipients": _by_recipients,
        "pins": _by_pins,
        "sessions": _by_sessions,
        "messages": _by_messages,
        "accounts": policy_accounts.measured,
    }
    problems: list[str] = []
    for name, measured in wanted.items():
        if only and name not in only:
            continue
        try:
            for line in measured(quick):
                print(line, flush=True)
        except _Problems as found:
            problems += found.args
        print(flush=True)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


class _Problems(Exception):  # noqa: N818  (a list of them)
    """What was not as it should be."""


def _up_to(values: Sequence[int], *, quick: bool) -> Sequence[int]:
    return [value for value in values if not quick or value * _QUICK_DIVISOR <= values[-1]]


def _subjects(builder: Builder) -> list[Subject]:
    subjects = [
        builder.bare(),
        builder.ours(EXPRESS, policy=True),
        builder.ours(HOP, policy=True, fast=True),
        builder.ours(HOP, policy=True),
    ]
    for subject in subjects:
        subject.load(messages=_FEW, sessions=8)
    return subjects


def _rows(
    subjects: Sequence[Subject],
    values: Sequence[int],
    order: Callable[[int], dict[str, Any]],
    cells: Callable[[Subject, Run], str],
    title: str,
) -> Iterator[str]:
    yield f"{title:<14}" + "".join(f"{subject.name:<34}" for subject in subjects)
    for value in values:
        # In turn: what the machine does meanwhile is shared.
        found = [cells(subject, subject.load(**order(value))) for subject in subjects]
        yield f"{value:<14,}" + "".join(f"{cell:<34}" for cell in found).rstrip()
    if problems := [problem for subject in subjects for problem in subject.problems]:
        raise _Problems(*problems)


def _cost(subject: Subject, run: Run) -> str:
    """Return what a message costs, and the milter's share, and the most memory that the milter has had."""
    used = run.cpu_milliseconds()
    whole = sum(value for name, value in used.items() if name not in ("sink", "client"))
    if "milter" not in used:
        return f"{whole:.1f} ms"
    return f"{whole:.1f} ms, milter {used['milter']:.2f} ms, {subject.meter.peak_megabytes('milter'):.0f} MB"


def _speed(_subject: Subject, run: Run) -> str:
    latencies = run.sent.latencies
    p50, p99 = (percentile(latencies, share) for share in (0.5, 0.99))
    return f"{run.delivered_per_second:.0f}/s, p50 {p50:.0f} ms, p99 {p99:.0f} ms"


def _by_size(quick: bool) -> Iterator[str]:  # noqa: FBT001
    def order(size: int) -> dict[str, Any]:
        return {"size": size, "sessions": 4, "messages": max(_SOME, min(_MOST_MESSAGES, _OCTETS_OF_A_LOAD // size))}

    with Builder(main=_FREE, keeps_messages=False) as builder:
        values = _up_to(_SIZES, quick=quick)
        yield from _rows(_subjects(builder), values, order, _cost, "octets")


def _by_recipients(quick: bool) -> Iterator[str]:  # noqa: FBT001
    def order(recipients: int) -> dict[str, Any]:
        return {"recipients": recipients, "sessions": 4, "messages": max(_SOME, _FEW // recipients)}

    with Builder(main=_FREE) as builder:
        values = _up_to(_RECIPIENTS, quick=quick)
        yield from _rows(_subjects(builder), values, order, _cost, "recipients")


def _by_pins(quick: bool) -> Iterator[str]:  # noqa: FBT001
    with Builder() as builder:
        values = _up_to(_PINS, quick=quick)
        subjects = {}
        for count in values:
            pins = [{"sender": f"pinned{number}@example.org", "pool": "normal"} for number in range(count)]
            subjects[count] = builder.ours(EXPRESS, policy=True, settings={"pins": pins})
            subjects[count].load(messages=_FEW, sessions=8)
        yield f"{'pins':<14}{EXPRESS}"
        for count, subject in subjects.items():
            yield f"{count:<14,}{_cost(subject, subject.load(messages=_FEW, sessions=8))}"
        if problems := [problem for subject in subjects.values() for problem in subject.problems]:
            raise _Problems(*problems)


def _by_sessions(quick: bool) -> Iterator[str]:  # noqa: FBT001
    def order(sessions: int) -> dict[str, Any]:
        return {"sessions": sessions, "messages": max(_FEW, 2 * sessions), "messages_a_session": 2}

    with Builder(main=_FREE) as builder:
        values = _up_to(_SESSIONS, quick=quick)
        yield from _rows(_subjects(builder), values, order, _speed, "sessions")


def _by_messages(quick: bool) -> Iterator[str]:  # noqa: FBT001
    """Show the memory of our daemons while they take one message after the other."""
    messages = (_MESSAGES // _QUICK_DIVISOR if quick else _MESSAGES) // _LOADS
    with Builder(main=_FREE, keeps_messages=False) as builder:
        subject = builder.ours(HOP, policy=True, fast=True)
        yield f"{'messages':<14}memory of the milter, of the policy service"
        for part in range(_LOADS):
            run = subject.load(messages=messages, sessions=8, messages_a_session=10)
            memory = run.megabytes
            yield f"{(part + 1) * messages:<14,}{memory['milter']:.1f} MB, {memory['policy']:.1f} MB"
        if subject.problems:
            raise _Problems(*subject.problems)
