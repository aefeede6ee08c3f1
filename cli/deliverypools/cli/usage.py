"""`delivery-pools usage`: what an account has sent, what of its limits that uses up, and whether it may send."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Final

from deliverypools.adapters.state import State
from deliverypools.cli.exits import OK
from deliverypools.cli.options import Subparsers, accounts_meant, add_account, add_config, read_settings
from deliverypools.cli.shared_state import shared_state
from deliverypools.core.accounts import Account, account_of
from deliverypools.core.facts import Ingress, printable
from deliverypools.core.limits import EXTERNAL, INTERNAL, SPAM, SPANS, Charge, Limit, limits_for, stream
from deliverypools.core.outbound_policies import policy_for
from deliverypools.core.records import FIRST_PASS, DecisionRecord
from deliverypools.core.requeue import REQUEUED
from deliverypools.core.restrictions import Restriction, duration_of, scope_of, utc_text
from deliverypools.core.settings import Settings
from deliverypools.core.tallies import DAY, HOUR, Window

_EPILOG = """\
Recipients are counted when a message is accepted, once per message, internal ones (in accepted_domains) and external
ones apart; windows are rolling: the last hour, the last 24 hours. Messages are counted only where messages_per_minute
is set; "messages decided" are those that have passed the hop, by their pool, from the decision log. What was accepted
a moment ago is included; so is, for ten minutes, what was about to be accepted and then was not.

Exit status: 0, also for an account that has sent nothing; 1 the state cannot be read.
"""

_WAYS: Final = (Ingress.SUBMISSION, Ingress.TRUSTED, Ingress.LOCAL, Ingress.OUTSIDE)
_MOST_RECORDS: Final = 100_000
_LAST_RECORDS: Final = 5
_COUNTED: Final = {
    "external_recipients_per_hour": (EXTERNAL, HOUR),
    "external_recipients_per_day": (EXTERNAL, DAY),
    "internal_recipients_per_hour": (INTERNAL, HOUR),
    "internal_recipients_per_day": (INTERNAL, DAY),
    "spam_verdicts_per_hour": (SPAM, HOUR),
}
"""What is counted whether or not a limit holds."""


@dataclass(frozen=True, slots=True)
class _Usage:
    """One limit that holds, and what of it is used up."""

    limit: Limit
    used: int | None
    """None: it is for one message, nothing adds up."""
    whole: int | None
    """What the share is of, where it is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """One way of sending."""

    account: Account
    policy: str | None
    counted: dict[str, int]
    usages: tuple[_Usage, ...]

    @property
    def has_sent(self) -> bool:
        """Whether anything was counted for the account itself: what its tenant has used up is not its own."""
        return any(self.counted.values()) or any(usage.used for usage in self.usages if self._is_own(usage.limit))

    def _is_own(self, limit: Limit) -> bool:
        return limit.window is not None and all(
            name.rpartition("/")[0] == self.account.key for name in limit.window.streams
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """What is known about an account."""

    name: str
    ways: tuple[_Way, ...]
    restrictions: tuple[Restriction, ...]
    is_released_today: bool
    records: Sequence[DecisionRecord]
    """Newest first."""
    at: float
    """Seconds since the epoch."""

    @property
    def decided(self) -> Counter[str]:
        """How many messages were decided in 24 hours, by pool."""
        return Counter(record.pool for record in self._decisions() if record.at >= self.at - DAY)

    @property
    def last(self) -> list[DecisionRecord]:
        """The newest decisions."""
        return list(islice(self._decisions(), _LAST_RECORDS))

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is known about such an account."""
        return not (self.records or self.restrictions or any(way.has_sent for way in self.ways))

    def _decisions(self) -> Iterator[DecisionRecord]:
        """Yield the decisions; what has not passed the hop has none, what was sent back counts where it has a newer."""
        return (record for record in self.records if record.pass_name != FIRST_PASS and record.rule != REQUEUED)


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "usage",
        help="say what an account has sent, and what of its limits that uses up",
        description="Say for each way of sending what an account has sent, which limits hold and what of them is used"
        " up; whether the account is restricted; and what became of its last messages.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(parser)
    add_account(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    settings = read_settings(options)
    with shared_state(settings) as state:
        (name,) = accounts_meant(options, state)
        report = _report(name, settings, state)
    if options.json:
        print(json.dumps(_to_json(report)))
    else:
        print("\n".join(_lines(report)))
    return OK


# ---- what is known


def _report(name: str, settings: Settings, state: State) -> _Report:
    records = state.records_of(name, most=_MOST_RECORDS)
    return _Report(
        name=name,
        ways=tuple(_ways(name, records, settings, state)),
        restrictions=tuple(restriction for restriction in state.restrictions() if restriction.account == name),
        is_released_today=state.was_released_today(name),
        records=records,
        at=time.time(),
    )


def _ways(name: str, records: Sequence[DecisionRecord], settings: Settings, state: State) -> Iterator[_Way]:
    """Yield the ways of sending in which the account has sent something; if there are none, the one that is likely."""
    ways = [_way(name, ingress, records, settings, state) for ingress in _WAYS]
    used = [way for way in ways if way.has_sent]
    seen = {record.ingress for record in records}
    yield from (
        used
        or [way for way in ways if way.account.ingress in seen]
        or [way for way in ways if way.account.ingress is _likely(name, settings)]
    )


def _likely(name: str, settings: Settings) -> Ingress:
    if name.startswith("uid:"):
        return Ingress.LOCAL
    return Ingress.TRUSTED if settings.is_trusted_client(name) else Ingress.SUBMISSION


def _way(name: str, ingress: Ingress, records: Sequence[DecisionRecord], settings: Settings, state: State) -> _Way:
    # A login without a domain is under the policy of the domain that it sends with.
    sender = next((record.envelope_sender for record in records if record.ingress == ingress), "")
    account = account_of(ingress, name, sender, settings) or Account(ingress, name)
    policy = policy_for(account, settings)
    # One recipient of either kind: then every limit that is set holds.
    limits = limits_for(Charge(account, internal=1, external=1), settings)
    windows = [Window((stream(account, kind),), seconds, DAY) for kind, seconds in _COUNTED.values()]
    held = iter(state.used([*windows, *(window for limit in limits for window in (limit.window, limit.of) if window)]))
    counted = {name: next(held) for name in _COUNTED}
    usages = tuple(
        _Usage(limit, next(held) if limit.window else None, next(held) if limit.of else None) for limit in limits
    )
    return _Way(account=account, policy=policy.name if policy else None, counted=counted, usages=usages)


# ---- for people


def _lines(report: _Report) -> Iterator[str]:
    yield f"account {printable(report.name)}"
    for restriction in report.restrictions:
        lasts = f"since {utc_text(restriction.since)}, {duration_of(restriction)}"
        yield f"  restricted ({scope_of(restriction)}) {lasts}: {printable(restriction.reason)}"
    if not report.restrictions:
        yield "  not restricted"
    if report.is_released_today:
        yield "  released today: until midnight (UTC) only an administrator can restrict it"
    pools = ", ".join(f"{pool} {count}" for pool, count in sorted(report.decided.items()))
    yield f"  messages decided in 24 hours: {pools or 'none'}"
    if report.is_empty:
        yield "  nothing on record; is the name right?"
    for way in report.ways:
        yield from _way_lines(way)
    if report.last:
        yield "last messages decided"
    for record in report.last:
        decided = f"{record.pool} ({record.rule})"
        yield f"  {utc_text(record.at)} {record.queue_id}: {decided}, recipients: {record.recipients}"


def _way_lines(way: _Way) -> Iterator[str]:
    policy = f"policy {printable(way.policy)}" if way.policy is not None else "no policy"
    yield f"{way.account.ingress} ({policy})"
    counted = way.counted
    yield (
        f"  recipients in 24 hours: {counted['external_recipients_per_day']} external,"
        f" {counted['internal_recipients_per_day']} internal; in the last hour:"
        f" {counted['external_recipients_per_hour']} external, {counted['internal_recipients_per_hour']} internal"
    )
    if counted["spam_verdicts_per_hour"]:
        yield f"  messages found to be spam in the last hour: {counted['spam_verdicts_per_hour']}"
    for usage in way.usages:
        yield f"  {_usage_text(usage)}"
    if not way.usages:
        yield "  no limit"


def _usage_text(usage: _Usage) -> str:
    limit = usage.limit
    whose = f"policy {printable(limit.policy)}" if limit.policy else "service limit"
    if limit.is_sign:
        whose = "sign of compromise"
    beyond = f"({whose}; beyond: {limit.action})"
    if limit.window is None:
        return f"{limit.name}: at most {limit.most} {beyond}"
    if limit.of:
        return f"{limit.name}: {usage.used} of {usage.whole} recipients in 24 hours, at most {limit.most} % {beyond}"
    span = SPANS[limit.window.seconds]
    return f"{limit.name}: {usage.used} of {limit.most} {limit.what} in {span} {beyond}"


# ---- for programs


def _to_json(report: _Report) -> dict[str, Any]:
    return {
        "account": report.name,
        "restricted": [asdict(restriction) for restriction in report.restrictions],
        "released_today": report.is_released_today,
        "messages_decided_in_24_hours": dict(report.decided),
        "ways": [
            {
                "ingress": way.account.ingress,
                "tenant": way.account.tenant,
                "policy": way.policy,
                "counted": way.counted,
                "limits": [_usage_json(usage) for usage in way.usages],
            }
            for way in report.ways
        ],
        "last_messages": [
            {name: getattr(record, name) for name in ("queue_id", "host", "at", "pool", "rule", "recipients")}
            for record in report.last
        ],
    }


def _usage_json(usage: _Usage) -> dict[str, Any]:
    limit = usage.limit
    return {
        "name": limit.name,
        "used": usage.used,
        "most": limit.most,
        "window_seconds": limit.window.seconds if limit.window else None,
        "percent_of": usage.whole,
        "policy": limit.policy or None,
        "action": limit.action,
    }
