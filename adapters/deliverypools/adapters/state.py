"""What all processes of a host, or of several, share: counters, restricted accounts, decisions, notices to send.

`open_state` opens the store that the settings name: one SQLite file, or a Redis server. Both keep this contract
(tests/contract/test_state.py). Every call is one step: whoever else calls at the same time comes before it or after it.
Every method raises `StateUnavailable`, within about four seconds, when the store cannot be read or written; nothing was
changed then, and the next call tries again from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol

from deliverypools.core.accounts import Account
from deliverypools.core.facts import Finding
from deliverypools.core.records import DecisionRecord, DroppedNotice
from deliverypools.core.restrictions import Restriction
from deliverypools.core.settings import Settings
from deliverypools.core.surges.events import NdrEvent
from deliverypools.core.tallies import DAY, Tally, Used, Window

RESERVATION_SECONDS: Final = 600.0
"""What was reserved and not committed for so long has lapsed: another milter refused, or the client vanished."""

ONCE_SECONDS: Final = 30.0 * DAY
"""So long `count_once` knows a name: longer than any ticket lives."""
RELEASED_SECONDS: Final = 2.0 * DAY
"""So long the day of a release is known: that day itself, and a clock that is set."""
ENDING_SECONDS: Final = 2.0 * DAY
"""So long it is known when a restriction ended: longer than any limit looks back."""
MOST_CLUES: Final = 100
MOST_OF_A_MESSAGE: Final = 50
"""So many Message-IDs, and queue files, are looked up in one call."""
MOST_HOSTS: Final = 200
"""So many hosts that share a state are told apart where a queue id is looked up."""
NDR_SECONDS: Final = 1.0 * DAY
QUEUED_SECONDS: Final = 30.0 * DAY
"""So long it is known what was queued before the installation: longer than Postfix keeps mail."""
MOST_NDRS: Final = 100_000
"""So long, and so many, events of surges are kept."""


class StateUnavailable(Exception):  # noqa: N818  (it is a condition that passes)
    """The state cannot be read or written now."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A message that is about to be accepted."""

    queue_id: str
    instance: str | None
    """The policy protocol's `instance`; None is any: the milter does not know it."""
    tally: Tally


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that is to be sent to an administrator, once."""

    notice_id: str
    channel: str
    payload: str
    attempts: int
    """How often it has been claimed before."""


class State(Protocol):
    """The contract of the stores. Threads of one process share one State; a forked child makes its own."""

    def reserve(self, reservations: Sequence[Reservation]) -> list[Used]:
        """Count messages that are about to be accepted, until they are committed or lapse, one after the other.

        Returns what the windows held before each. Asked again about the same message (queue id, instance and tally),
        the answer is the same and nothing is added; another tally under the same queue id takes the place of the first.
        """

    def commit(self, queue_id: str, tally: Tally) -> Used:
        """Make a reservation final; return what the windows held before it.

        Where another tally was reserved, or none (the policy service was down), the message is counted now.
        """

    def cancel(self, queue_id: str) -> None:
        """Give a reservation back at once."""

    def count(self, tally: Tally) -> Used:
        """Count; return what the windows held before."""

    def count_once(self, name: str, tally: Tally) -> Used:
        """Count, once for a name in 30 days; return what the windows held before it was first counted.

        Asked with another tally (the settings have changed since), return what its windows hold now, less what it would
        add to them itself: that was counted already.
        """

    def used(self, windows: Sequence[Window]) -> Used:
        """Return what windows hold now, reservations included."""

    def see(self, name: str, members: Collection[str], keep_seconds: float, *, renew: bool) -> int:
        """Note for `keep_seconds` that things were seen; return how many of them are new.

        With `renew` the time begins again for what was seen already.
        """

    def first_time(self, name: str, keep_seconds: float) -> bool:
        """Tell whether a name was not asked about in the last `keep_seconds`, or what then counted."""

    def use_ticket(self, ticket_id: str, queue_id: str, most_uses: int, lifetime_seconds: float) -> bool:
        """Note that a queue file carries this ticket; tell whether that is within the uses it may have."""

    def remember_sender_domain(self, domain: str, finding: Finding, keep_seconds: float) -> None:
        """Keep what DNS said about a domain."""

    def last_known_sender_domain(self, domain: str) -> Finding | None:
        """Return what DNS last said about a domain, if that is still kept."""

    def restrictions_on(self, accounts: Sequence[Account]) -> list[Restriction | None]:
        """Return for each account the restriction that closes its way of sending now, or None."""

    def restrictions(self) -> list[Restriction]:
        """Return all restrictions in effect, oldest first."""

    def restrict(self, restriction: Restriction, *, by_hand: bool = False) -> Restriction | None:
        """Restrict an account; return what is in effect then, of the same account and way of sending.

        One without end replaces one that ends, otherwise an earlier one stands. None: an administrator has released the
        account on the same day (UTC) as `restriction.since`, and only `by_hand` may restrict it again.
        """

    def release(self, account: str) -> list[Restriction]:
        """End all restrictions of an account, and restrict it no more that day (UTC).

        Returns those that were in effect.
        """

    def last_ending(self, account: Account) -> float | None:
        """Return when the last restriction of an account and its way of sending ended, in seconds since the epoch.

        It ended when it was to end, or when an administrator released the account. None: in no time that is known, two
        days at least.
        """

    def was_released_today(self, account: str) -> bool:
        """Tell whether an administrator has released the account today (UTC)."""

    def record(self, record: DecisionRecord, keep_seconds: float) -> None:
        """Write a row of the decision log, in the place of one about the same queue file of the same host."""

    def record_of(self, host: str, queue_id: str) -> DecisionRecord | None:
        """Return what is on record about a queue file."""

    def records_of(self, account: str, *, since: float = 0.0, most: int = 1_000_000) -> list[DecisionRecord]:
        """Return what is on record about an account's mail, newest first, of all hosts and ways of sending."""

    def sent(self, message_ids: Collection[str], queue_files: Collection[tuple[str, str]]) -> list[DecisionRecord]:
        """Return rows about messages that have one of these Message-IDs or queue files (host, queue id), newest first.

        Of one Message-ID the newest `MOST_OF_A_MESSAGE`: somebody else may send on what a user of ours has sent. Only
        messages that went on: of our users, or on their way out (`DecisionRecord.went_on`). Message-IDs are compared as
        rows have them, `printable`. Of each kind of name the first `MOST_CLUES` are looked up.
        """

    def records_about(self, name: str) -> list[DecisionRecord]:
        """Return rows about queue files of that id, of any host, or about messages of that Message-ID, newest first.

        Of one Message-ID the newest `MOST_OF_A_MESSAGE` that went on, and as many that did not. Compared as in `sent`.
        """

    def recorded_since(self) -> float | None:
        """Return since when the decision log tells of every message (seconds since the epoch), None: it is empty.

        That is when its first row was written, and moves on when rows expire. It is never too early; it may be a minute
        too late, and more where rows were written to be kept for different times.
        """

    def decisions(self, *, since: float = 0.0) -> Iterator[DecisionRecord]:
        """Yield what is on record since a time, in no order; what is written meanwhile may be among it, or not.

        Raises:
            StateUnavailable: while they are yielded, too; then these were not all.
        """

    def note_waiting(self, record: DecisionRecord, names: Collection[str], keep_seconds: float) -> None:
        """Note what was last found about a message that waits, under each of its names (queue id, Message-ID)."""

    def waiting(self, name: str) -> DecisionRecord | None:
        """Return what was last found about a message of that name that waited; it may have left since."""

    # ---- the drop ledger

    def drop(self, notice: DroppedNotice, keep_seconds: float, most: int) -> None:
        """Write an entry of the drop ledger, in the place of one about the same notice; the oldest beyond `most` go."""

    def dropped(self, *, since: float = 0.0, until: float = inf, most: int = 1000) -> list[DroppedNotice]:
        """Return entries of the drop ledger of a time, newest first; `until` is the moment after it."""

    def count_dropped(self, *, since: float = 0.0, until: float = inf) -> int:
        """Return how many entries of the drop ledger there are of a time."""

    # ---- what scanners have said

    def remember_scan(self, key: str, text: str, keep_seconds: float) -> None:
        """Keep what a scanner said about a message, in the place of what it said before.

        `key` is a digest of all that its answer depends on; `text` is as short as `ScannerAnswer.to_text` makes it.
        """

    def known_scans(self, keys: Collection[str]) -> dict[str, str]:
        """Return what is kept under these keys, by key; what is not known is left out."""

    # ---- what was queued before the installation

    def remember_queued(self, host: str, queue_ids: Collection[str]) -> None:
        """Note that queue files of a host (Postfix's myhostname) are there now."""

    def queued_since(self, host: str, queue_id: str) -> float | None:
        """Return when a queue file was last noted (seconds since the epoch); None: not in the last 30 days."""

    # ---- surges

    def note_ndr(self, event: NdrEvent) -> None:
        """Note an event, once for its `event_id`: the first stands. Kept for a day, the newest 100,000."""

    def ndrs(self, *, since: float, most: int) -> list[NdrEvent]:
        """Return the events of a time, newest first."""

    def post(self, once: str, keep_seconds: float, notices: Sequence[tuple[str, str]]) -> bool:
        """Put notices (channel, payload) into the outbox unless that was done under the same name in `keep_seconds`."""

    def claim_notices(self, most: int, lease_seconds: float) -> list[Notice]:
        """Return notices that are due, oldest first; nobody else gets them before the lease has passed."""

    def settle_notice(self, notice_id: str) -> None:
        """Drop a notice: it was sent, or given up."""

    def postpone_notice(self, notice_id: str, due_at: float) -> None:
        """Make a notice due at a time (seconds since the epoch)."""

    def close(self) -> None:
        """Close the store."""


def open_state(settings: Settings, clock: Callable[[], float]) -> State:
    """Return the store that the settings name. Nothing is opened before the first call."""
    if settings.state_path is not None:
        from deliverypools.adapters.sqlite_state import SQLiteState  # noqa: PLC0415

        return SQLiteState(settings.state_path, clock)
    # Costs a tenth of a second to import, and hosts without a server need not have it.
    from deliverypools.adapters.redis_state import RedisState  # noqa: PLC0415

    return RedisState(settings.state, clock)
