"""Shows how often the likely cause of a surge is the real one: `make bench-surges ARGS="--seed 7"`.

Invents hours of bounces and refusals (`surge_scenarios`), and has the policy daemon's own `SurgeWatch` look at them
every few minutes while they pass. The answer is the cause that is told: of one alert, or of one line in the log for an
old list. Nothing told is `nothing`; a second alert about one incident is wrong, whatever it says: `several`. An answer
that names another account, domain, network or destination is `else`.

`old-list-or-stolen-password` is right in part for an old list and for a spam attack: it says both, and asks to look.

Some incidents are smaller than `surge_factor` times what is usual in their domains: they are missed, and counted as
such.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Final

from deliverypools.core.surges.causes import Cause
from surge_hours import Answer, Hour, is_about, is_all_right
from surge_scenarios import INCIDENTS, QUIET, Scenario, invent

_NOTHING: Final = "nothing"
_SEVERAL: Final = "several"
_ELSE: Final = "else"
_ROWS: Final = (*INCIDENTS, Cause.UNCLEAR, QUIET)
_ATTACKS: Final = (Cause.SPAM_ATTACK, Cause.DIRECTORY_HARVEST, Cause.SPOOFING_CAMPAIGN, Cause.ROGUE_SERVER)
_HARMLESS: Final = tuple(row for row in _ROWS if row not in _ATTACKS)
_COLUMNS: Final = (*Cause, _NOTHING, _SEVERAL, _ELSE)


def main() -> int:
    """Print seeds, misses, matrix and figures."""
    logging.disable()
    options = _options()
    # A seed of its own for each scenario: any of them can be repeated alone.
    seeds = random.Random(options.seed)  # noqa: S311  (reproducible, not secret)
    print(f"seed {options.seed}: {options.scenarios} scenarios with one incident or none, {options.pairs} with two")
    hours = [_passed(seeds, _ROWS[number % len(_ROWS)], every=options.every) for number in range(options.scenarios)]
    matrix: Counter[tuple[str, str]] = Counter()
    variants: dict[str, Counter[str]] = defaultdict(Counter)
    for hour in hours:
        label, answer = _label(hour.scenario), answer_of(hour.scenario, hour.told)
        matrix[label, answer] += 1
        variants[f"{label}, {_variant(hour.scenario)}"][answer] += 1
        if answer != _right(label):
            print(f"  missed: seed {hour.scenario.seed}: {_told(hour)}")
    print(_table(matrix))
    print(_by_variant(variants))
    pairs = list(combinations(INCIDENTS, 2))
    both = [_passed(seeds, *pairs[number % len(pairs)], every=options.every) for number in range(options.pairs)]
    print(_of_pairs(both))
    slowest = max((*hours, *both), key=lambda hour: hour.slowest)
    right = sum(count for (label, answer), count in matrix.items() if answer == _right(label))
    either = sum(matrix[label, Cause.OLD_LIST_OR_STOLEN_PASSWORD] for label in (Cause.SPAM_ATTACK, Cause.OLD_LIST))
    blamed = sum(matrix[label, attack] for label in _HARMLESS for attack in _ATTACKS)
    print(f"slowest look: {slowest.slowest * 1000:.0f} ms, of an hour with {slowest.events} events")
    print(f"harmless or trouble of our own, but told as an attack: {blamed}")
    print(f"surges: {right} of {matrix.total()} right ({right / matrix.total():.1%}), {either} more told as either")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32), help="of all scenarios")
    parser.add_argument("--scenarios", type=int, default=900, help="with one incident or none")
    parser.add_argument("--pairs", type=int, default=210, help="scenarios with two incidents")
    parser.add_argument("--every", type=float, default=300.0, help="seconds from one look to the next (the daemon: 20)")
    return parser.parse_args()


def _passed(seeds: random.Random, *labels: str, every: float) -> Hour:
    hour = Hour(invent(seeds.getrandbits(32), [Cause(label) for label in labels if label != QUIET]))
    hour.watch(every)
    # Else the garbage collector looks at all of them again while others are timed.
    hour.scenario.events.clear()
    return hour


def answer_of(scenario: Scenario, told: Sequence[Answer]) -> str:
    """Return the cause that was told in a scenario with one incident or none."""
    if len(told) != 1:
        return _SEVERAL if told else _NOTHING
    if scenario.incidents and not is_about(told[0], scenario.incidents[0]):
        return _ELSE
    return told[0].cause.value


def _label(scenario: Scenario) -> str:
    return scenario.incidents[0].cause if scenario.incidents else QUIET


def _variant(scenario: Scenario) -> str:
    return scenario.incidents[0].variant if scenario.incidents else "background only"


def _right(label: str) -> str:
    return _NOTHING if label == QUIET else label


def _told(hour: Hour) -> str:
    what = " + ".join(f"{one.cause} ({one.variant})" for one in hour.scenario.incidents) or QUIET
    told = ", ".join(f"{one.cause} {min(one.names)}" for one in hour.told) or _NOTHING
    return f"{what}, {hour.events} events: {told}"


def _of_pairs(hours: Sequence[Hour]) -> str:
    """Return what is told where two things happen at the same time."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    lines = []
    for hour in hours:
        name = " + ".join(incident.cause for incident in hour.scenario.incidents)
        total[name] += 1
        if is_all_right(hour.scenario, hour.told):
            right[name] += 1
        else:
            lines.append(f"  missed: seed {hour.scenario.seed}: {_told(hour)}")
    lines.append(f"two incidents, both told and nothing else: {right.total()} of {total.total()}")
    return "\n".join([*lines, *(f"  {name:<40} {right[name]:>4} of {number}" for name, number in total.items())])


def _table(matrix: Counter[tuple[str, str]]) -> str:
    width = max(map(len, _COLUMNS)) + 1
    lines = ["real cause".ljust(width + 1) + "".join(column.rjust(width) for column in _COLUMNS)]
    lines += [
        row.ljust(width + 1) + "".join(str(matrix[row, column] or ".").rjust(width) for column in _COLUMNS)
        for row in _ROWS
    ]
    return "\n".join(lines)


def _by_variant(variants: dict[str, Counter[str]]) -> str:
    return "\n".join(
        f"  {name:<36} " + ", ".join(f"{answer} {count}" for answer, count in answers.most_common())
        for name, answers in sorted(variants.items())
    )


if __name__ == "__main__":
    sys.exit(main())
