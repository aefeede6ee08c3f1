"""What a replay finds, counted in bounded memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from deliverypools.core.utc import calendar_day

_MOST_DAYS: Final = 4000
_MOST_ACCOUNTS: Final = 100_000
OTHERS: Final = "(others)"
"""In the place of the accounts beyond the first hundred thousand."""


@dataclass(slots=True)
class AccountResult:
    """What would have happened to an account."""

    first_at: float
    """When it was first over a limit, in seconds since the epoch."""
    evidence: str
    """Of that."""
    over_limit: int = 0
    """Messages over a limit."""
    refused: int = 0
    """Messages that would have been refused, because it was restricted."""
    restricted_at: float | None = None
    """When it was first restricted."""


@dataclass(slots=True)
class Results:
    """What some settings would have done."""

    messages: int = 0
    """Accepted for one of our accounts, and counted."""
    outcomes: int = 0
    """Those of them of which anything left, or that were refused."""
    by_day: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    """Queue files that leave, by day (UTC), then by pool and rule."""
    accounts: dict[str, AccountResult] = field(default_factory=dict)
    """Those that were over a limit, or restricted."""
    not_judged: Counter[str] = field(default_factory=Counter)
    """What could not be told, in how many queue files; the other rules decided those."""

    @property
    def stayed_inside(self) -> int:
        """Return how many of our accounts' messages went to nobody outside, or were queued when the log ended."""
        return max(0, self.messages - self.outcomes)

    @property
    def further(self) -> int:
        """Return how many decisions are about something else: forwarded mail, bounces, further parts of a message."""
        return max(0, self.totals.total() - self.outcomes)

    @property
    def totals(self) -> Counter[tuple[str, str]]:
        """Return what left in all days, by pool and rule."""
        return sum(self.by_day.values(), Counter())

    def note(self, at: float, pool: str, rule: str) -> None:
        """Count a decision: what left by that pool; `refused` stands in its place, too."""
        self.by_day.setdefault(self._day(at), Counter())[pool, rule] += 1

    def note_over_limit(self, account: str, at: float, evidence: str, *, restricted: bool) -> None:
        """Count a message over a limit, and the restriction that follows."""
        found = self._account(account, at, evidence)
        found.over_limit += 1
        if restricted and found.restricted_at is None:
            found.restricted_at = at

    def note_refused(self, account: str, at: float, evidence: str) -> None:
        """Count a message that would have been refused."""
        self._account(account, at, evidence).refused += 1

    def _account(self, account: str, at: float, evidence: str) -> AccountResult:
        is_known = account in self.accounts or len(self.accounts) < _MOST_ACCOUNTS
        return self.accounts.setdefault(account if is_known else OTHERS, AccountResult(at, evidence))

    def _day(self, at: float) -> str:
        year, month, day = calendar_day(at)
        name = f"{year:04}-{month:02}-{day:02}"
        return name if name in self.by_day or len(self.by_day) < _MOST_DAYS else OTHERS
