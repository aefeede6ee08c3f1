"""`delivery-pools explain`: why a message went into its pool, from the decision log."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Final

from deliverypools.adapters.exported_decisions import row_for_programs
from deliverypools.adapters.state import State
from deliverypools.cli.exits import FAILED, OK
from deliverypools.cli.explain_evidence import evidence_lines
from deliverypools.cli.options import Subparsers, add_config, read_settings
from deliverypools.cli.shared_state import shared_state
from deliverypools.core.accounts import UNKNOWN_USER_ID, Account, account_of
from deliverypools.core.alert_text import readable
from deliverypools.core.decisions import REFUSED_TAG, UNDECIDED
from deliverypools.core.facts import Ingress, printable
from deliverypools.core.limits import SPAM_CEILINGS, Charge, Limit, limits_for
from deliverypools.core.records import EGRESS_PASS, EXPRESS_PASS, FAST_PASS, FIRST_PASS, DecisionRecord, newest_first
from deliverypools.core.requeue import LET_GO, REQUEUED
from deliverypools.core.restrictions import Restriction, duration_of, scope_of, utc_text
from deliverypools.core.settings import Settings

_EPILOG: Final = """\
ID is a queue id, as in Postfix's log and in `postqueue -p`, or a Message-ID, with or without its <>. Each pass of the
message is shown, newest first: when, on which host, by which pool and rule, for which reasons (among them what scanners
said, with scores and symbols), for whom; then the evidence: what was known of it, the rules in the order in which they
were asked with their answers (those behind the one that matched were not asked), and what the counters of the account
held then, in the pass that counted it: used before + this message. A queue id leads to all passes of the same
Message-ID; a Message-ID is whatever a sender wrote, so somebody else's message can have the same one. Then, of each
account that answered for the message: whether it is restricted now, and its spam verdicts in the last hour beside the
ceilings (spam.ceilings).

On record is, for `milter.decision_log_lifetime`, what users of this Postfix send and what was decided about it, and
about what is forwarded; and of a message that waits for its decision, the newest try, with what could not be told. What
merely comes in, and what is refused when it is submitted, is in the mail log only.

--json writes one object: id, recorded_since (the log is complete since then, seconds since the epoch), shadow, passes
(queue_id, host, pass_name, at, ingress, account, pool, rule, reasons, envelope_sender, recipients, client_address,
subject, message_id, leaves_by: the pool of its tag, another than "pool" in shadow mode, and evidence: null where none
was kept), accounts (account, ingress, restricted, spam_verdicts_in_the_last_hour).

Exit status: 0; 1 nothing is on record under this name, or the state cannot be read; 2 the command line is wrong.
"""

_MARKS: Final = ":*!"
_MOST_MESSAGES: Final = 5
"""So many Message-IDs that queue files of one name had are followed: short queue ids are used again."""
_PASSES: Final = {
    FIRST_PASS: "first pass",
    EGRESS_PASS: "egress pass",
    EXPRESS_PASS: "express, its only pass",
    FAST_PASS: "first pass, which decided",
}


@dataclass(frozen=True, slots=True)
class _Ceiling:
    """A ceiling of spam verdicts, and how many there were in the last hour."""

    limit: Limit
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """How an account that answered for the message stands now."""

    account: Account
    restriction: Restriction | None
    ceilings: tuple[_Ceiling, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """What is known about a message."""

    name: str
    passes: Sequence[DecisionRecord]
    """Newest first."""
    standings: Sequence[_Standing]
    recorded_since: float | None
    is_shadow: bool


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "explain",
        help="say why a message went into its pool",
        description="Say what was decided about a message in each pass, why, and how its account stands now.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(parser)
    parser.add_argument("name", metavar="ID", type=_name, help="queue id, or Message-ID")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=_run)


def _name(text: str) -> str:
    """Return an ID as it is looked up: in one line, bounded, as rows have it."""
    # As it stands in the mail log ("ID:") and in mailq ("ID*" is being delivered, "ID!" is on hold).
    name = printable(text.strip())
    name = name.rstrip(_MARKS) or name
    if not name:
        raise argparse.ArgumentTypeError("is empty; write a queue id or a Message-ID")
    return name


def _run(options: argparse.Namespace) -> int:
    settings = read_settings(options)
    with shared_state(settings) as state:
        report = _report(options.name, settings, state)
    if options.json:
        print(json.dumps(_to_json(report)))
    elif report.passes:
        print("\n".join(_lines(report)))
    if not report.passes:
        print(f"delivery-pools explain: {_nothing_found(report)}", file=sys.stderr)
        return FAILED
    return OK


# ---- what is known


def _report(name: str, settings: Settings, state: State) -> _Report:
    passes = _passes(name, state)
    return _Report(
        name=name,
        passes=passes,
        standings=_standings(passes, settings, state),
        recorded_since=state.recorded_since(),
        is_shadow=settings.shadow,
    )


def _passes(name: str, state: State) -> list[DecisionRecord]:
    found = [record for form in _forms(name) for record in _about(form, state)]
    message_ids = dict.fromkeys(record.message_id for record in found if record.message_id)
    for message_id in islice(message_ids, _MOST_MESSAGES):
        if message_id not in _forms(name):
            found += _about(message_id, state)
    return newest_first(found)


def _about(name: str, state: State) -> list[DecisionRecord]:
    """Return rows about a name, and why it waits, or waited last."""
    waiting = state.waiting(name)
    return [*state.records_about(name), *([waiting] if waiting else ())]


def _forms(name: str) -> tuple[str, ...]:
    """Return the names that somebody may mean: logs show a Message-ID with its <>, mail programs without."""
    return (name, f"<{name}>") if "@" in name and not name.startswith("<") else (name,)


def _standings(passes: Iterable[DecisionRecord], settings: Settings, state: State) -> list[_Standing]:
    accounts = {
        account.key: account
        for record in passes
        if record.ingress in set(Ingress)
        and record.account != UNKNOWN_USER_ID
        and (account := account_of(Ingress(record.ingress), record.account, record.envelope_sender, settings))
    }
    restrictions = state.restrictions_on(list(accounts.values()))
    return [
        _Standing(account=account, restriction=restriction, ceilings=_ceilings(account, settings, state))
        for account, restriction in zip(accounts.values(), restrictions, strict=True)
    ]


def _ceilings(account: Account, settings: Settings, state: State) -> tuple[_Ceiling, ...]:
    """Return the ceilings of an account and of its tenant; none where spam is not counted."""
    if account.ingress is Ingress.OUTSIDE:
        return ()
    limits = [limit for limit in limits_for(Charge(account, 0, 0), settings) if limit.name in SPAM_CEILINGS]
    used = state.used([limit.window for limit in limits if limit.window])
    return tuple(_Ceiling(limit, amount) for limit, amount in zip(limits, used, strict=True))


# ---- for people


def _nothing_found(report: _Report) -> str:
    what = f"nothing is on record about {printable(report.name)}: no queue file has that id, no message that Message-ID"
    if report.recorded_since is None:
        return f"{what}. The decision log is empty"
    return (
        f"{what}. The decision log tells of what users sent, and what was decided, since"
        f" {utc_text(report.recorded_since)}; the rest is in the mail log only"
    )


def _lines(report: _Report) -> Iterator[str]:
    decided_at = max((record.at for record in report.passes if record.pool), default=0.0)
    for record in report.passes:
        yield from _pass_lines(record, decided_at)
        yield ""
    if all(record.pass_name == FIRST_PASS for record in report.passes):
        yield "no decision is on record: it waits for one (the mail log says why), or nobody outside was to get it"
    for standing in report.standings:
        yield from _standing_lines(standing)
    if report.is_shadow:
        yield "shadow = true: everything leaves by normal, whatever is decided, and nothing is refused"


def _pass_lines(record: DecisionRecord, decided_at: float) -> Iterator[str]:
    """Yield one pass as people read it; whatever is in it, it is printable. `decided_at`: when the last one decided."""
    where = f" on {printable(record.host)}" if record.host else ""
    name = _PASSES.get(record.pass_name, printable(record.pass_name))
    yield f"{utc_text(record.at)}  {printable(record.queue_id)}{where}: {name}"
    account = f"{printable(record.account)} ({printable(record.ingress)})" if record.account else "nobody is charged"
    rows = {
        "outcome": _outcome(record, decided_at),
        "rule": printable(record.rule),
        "account": account,
        "client": printable(record.client_address),
        "sender": printable(record.envelope_sender) or "<>",
        "recipients": str(record.recipients),
        "message": printable(record.message_id),
        "subject": readable(record.subject),
    }
    for title, value in rows.items():
        if value:
            yield f"  {title + ':':<12} {value}"
        if title == "rule":
            yield from (f"  {'because:':<12} {reason}" for reason in _reasons(record))
    yield from evidence_lines(record)


def _outcome(record: DecisionRecord, decided_at: float) -> str:
    """Return what became of the message in this pass, in words."""
    pool = printable(record.pool)
    if record.is_in_shadow:
        return f"{pool or UNDECIDED} was decided; it leaves by {printable(record.leaves_by)}, as shadow mode was on"
    if record.rule == REQUEUED:
        return f"sent back through the hop, to be decided again (was {pool})"
    if record.rule == LET_GO:
        return f"taken off hold, leaves by {pool}"
    if record.pass_name == FIRST_PASS:
        return "accepted; the egress pass decides"
    return _decided(record, pool, decided_at)


def _decided(record: DecisionRecord, pool: str, decided_at: float) -> str:
    if not record.pool:
        return f"undecided, it {'waited' if decided_at > record.at else 'waits'} in the queue"
    if record.pool == REFUSED_TAG:
        return "refused"
    if record.rule == UNDECIDED:
        return f"{pool}, as it could not be decided in time"
    return f"on hold, leaves by {pool} if it is let go" if record.is_on_hold else pool


def _reasons(record: DecisionRecord) -> Iterator[str]:
    return (printable(reason, 1000) for reason in record.reasons.split("; ") if reason)


def _standing_lines(standing: _Standing) -> Iterator[str]:
    account, restriction = standing.account, standing.restriction
    whose = f"account {printable(account.name)} ({account.ingress})"
    if restriction is None:
        yield f"{whose}: not restricted"
    else:
        lasts = f"since {utc_text(restriction.since)}, {duration_of(restriction)}"
        yield f"{whose}: restricted ({scope_of(restriction)}) {lasts}: {printable(restriction.reason)}"
    for ceiling in standing.ceilings:
        limit = ceiling.limit
        yield f"  {limit.name}: {ceiling.used} of {limit.most} {printable(limit.what)} in an hour"
    if not standing.ceilings:
        of_mailbox = account.ingress is Ingress.OUTSIDE
        why = "what it forwards is no sign of anything" if of_mailbox else "no ceiling is set (spam.ceilings)"
        yield f"  spam verdicts are not counted: {why}"


# ---- for programs


def _to_json(report: _Report) -> dict[str, Any]:
    return {
        "id": report.name,
        "recorded_since": report.recorded_since,
        "shadow": report.is_shadow,
        "passes": [row_for_programs(record) for record in report.passes],
        "accounts": [
            {
                "account": standing.account.name,
                "ingress": standing.account.ingress,
                "restricted": asdict(standing.restriction) if standing.restriction else None,
                "spam_verdicts_in_the_last_hour": [
                    {
                        "name": ceiling.limit.name,
                        "used": ceiling.used,
                        "most": ceiling.limit.most,
                        "tenant": ceiling.limit.tenant or None,
                    }
                    for ceiling in standing.ceilings
                ],
            }
            for standing in report.standings
        ],
    }
