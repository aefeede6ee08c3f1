"""What a replay found, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deliverypools.core.facts import printable
from deliverypools.core.replay.results import AccountResult, Results
from deliverypools.core.restrictions import utc_text

_MOST_CHANGES = 50
_MOST_ACCOUNTS_FOR_PROGRAMS = 10_000


@dataclass(frozen=True, slots=True)
class Report:
    """What a replay found."""

    source: str
    """`mail log` or `decisions`."""
    lines: int
    """Of the log; rows of the decision log."""
    now: Results
    before: Results | None
    """Under the settings that are compared, or what was decided then; None: nothing is compared."""
    changes: Counter[tuple[str, str, str, str]]
    """Messages by pool and rule before, and pool and rule now; of decisions only."""
    problems: Sequence[str]
    """What went wrong, so that the rest may not be all."""

    def rows(self) -> Iterator[tuple[str, str, str, int | None, int]]:
        """Yield day, pool, rule, messages before (None: nothing is compared) and messages now."""
        before = self.before.by_day if self.before else {}
        for day in sorted({*self.now.by_day, *before}):
            now_of_day, before_of_day = self.now.by_day.get(day, Counter()), before.get(day, Counter())
            for pool, rule in sorted({*now_of_day, *before_of_day}):
                number = before_of_day[pool, rule] if self.before else None
                yield day, pool, rule, number, now_of_day[pool, rule]

    def worst(self) -> list[tuple[str, AccountResult]]:
        """Return the accounts that were over a limit or refused, those with most messages first."""
        return sorted(self.now.accounts.items(), key=lambda one: (-one[1].over_limit - one[1].refused, one[0]))


# ---- for people


def lines(report: Report, most_accounts: int) -> Iterator[str]:
    """Yield it as people read it; whatever is in it, it is printable."""
    yield f"{report.now.messages} messages in {report.lines} {'lines' if report.source == 'mail log' else 'rows'}"
    if report.source == "mail log":
        now = report.now
        yield f"  {now.outcomes} left, or were refused; {now.stayed_inside} stayed inside, or were still queued"
        yield f"  {report.now.further} more decisions: forwarded mail, bounces, further parts of a message"
    yield ""
    yield from _days(report)
    yield from _changes(report)
    yield from _accounts(report, most_accounts)
    yield ""
    if report.now.not_judged:
        yield "could not be judged from this, in so many messages:"
        yield from (f"  {number:>9}  {printable(what)}" for what, number in report.now.not_judged.most_common())


def _days(report: Report) -> Iterator[str]:
    compared = f"{'before':>9} " if report.before else ""
    yield f"{'day (UTC)':<11} {'pool':<20} {'rule':<30} {compared}{'now' if compared else 'messages':>9}"
    for day, pool, rule, before, now in report.rows():
        shown = f"{before:>9} " if before is not None else ""
        yield f"{day:<11} {printable(pool):<20} {printable(rule):<30} {shown}{now:>9}"


def _changes(report: Report) -> Iterator[str]:
    if report.source != "decisions":
        return
    yield ""
    yield f"{report.changes.total()} messages would be decided otherwise"
    for (from_pool, from_rule, to_pool, to_rule), number in report.changes.most_common(_MOST_CHANGES):
        yield f"  {number:>9}  {printable(from_pool)} ({printable(from_rule)}) -> {to_pool} ({to_rule})"


def _accounts(report: Report, most: int) -> Iterator[str]:
    yield ""
    worst = report.worst()
    yield f"{len(worst)} accounts would have been over a limit" + (f", the first {most}:" if len(worst) > most else "")
    for name, found in worst[: max(0, most)]:
        since = f", restricted at {utc_text(found.restricted_at)}" if found.restricted_at is not None else ""
        refused = f", {found.refused} refused" if found.refused else ""
        yield f"  {printable(name)}: {found.over_limit} messages over a limit{refused}{since}"
        yield f"    first at {utc_text(found.first_at)}: {printable(found.evidence, 400)}"


# ---- for programs


def as_json(report: Report) -> dict[str, Any]:
    """Return it as one object."""
    worst = report.worst()
    return {
        "source": report.source,
        "lines": report.lines,
        "messages": report.now.messages,
        "outcomes": report.now.outcomes,
        "stayed_inside": report.now.stayed_inside,
        "further_decisions": report.now.further,
        "days": [
            {"day": day, "pool": pool, "rule": rule, "before": before, "now": now}
            for day, pool, rule, before, now in report.rows()
        ],
        "changes": [
            {"from_pool": old[0], "from_rule": old[1], "to_pool": old[2], "to_rule": old[3], "messages": number}
            for old, number in report.changes.most_common()
        ],
        "accounts_over_limit": len(worst),
        "accounts": [{"account": name} | asdict(found) for name, found in worst[:_MOST_ACCOUNTS_FOR_PROGRAMS]],
        "not_judged": report.now.not_judged,
        "problems": list(report.problems),
    }
