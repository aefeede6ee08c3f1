"""`delivery-pools audit`: what was decided against what Postfix's mail log says was delivered."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from deliverypools.adapters import mail_logs
from deliverypools.adapters.installed_since import installed_since
from deliverypools.adapters.mail_logs import MailLogError
from deliverypools.adapters.other_instances import log_names
from deliverypools.cli.exits import FAILED, OK
from deliverypools.cli.moments import moment
from deliverypools.cli.options import Subparsers, add_config, read_settings
from deliverypools.cli.shared_state import shared_state
from deliverypools.core.audit.findings import MEANINGS, UNKNOWN, Counts, Finding, PoolCounts
from deliverypools.core.audit.fold import MOST_FINDINGS, MOST_OPEN, Audit
from deliverypools.core.audit.lines import read_line
from deliverypools.core.audit.times import LogTimes
from deliverypools.core.audit.transports import INTERNAL, LISTENER_PORTS, Surroundings
from deliverypools.core.facts import printable
from deliverypools.core.postfix_check.inside import is_inside
from deliverypools.core.restrictions import utc_text
from deliverypools.core.settings import Settings

_EPILOG: Final = f"""\
Reads the mail log and compares every delivery with the decision log: which transport sent the message, and which pool
was decided for it. A failure is
  - what left by another pool than was decided, or by a transport that is no pool's (the tripwires smtp and relay too);
  - what the hop's client delivered to anything but the listener, and address probes from outside the pools;
  - what left by a pool without a decision on record: unknown. It is told apart whether it passed the milter by, its
    row was lost, or it is older than the decision log. With the milter's own log lines in the mail log (before the
    deliveries) those take the place of rows that are lost.
Attempts by internal at servers that are not known to be yours (no private address, no accepted domain) are counted and
shown: nothing was decided about that mail.
What was delivered before `postfix install`, or, where that cannot be told, before the decision log begins, had no pool
to leave by: it is counted, and no failure. So is mail that left by high-risk because it could not be decided in time.

MAILLOG is a file as syslog or Postfix writes it (traditional or ISO 8601 times), packed with gzip, xz or bzip2 or not,
or "-", standard input. Rotated files are put into order. Logs of any size are read, in bounded memory: at most
{MOST_OPEN:,} queue files are known at once (it is said when there were more); {MOST_FINDINGS:,} failures are listed,
and all are counted.

Transports are told by -o syslog_name=postfix/$service_name, which all transports of the examples have.

--json writes one object: failures, findings (kind, queue_id, host, at, recipient, transport, relay, status, decided,
rule, meaning, unknown), findings_left_out, pools, transports, counts, of_other_instances, installed_since and
recorded_since.

Exit status: 0 every delivery was right; 1 there are failures, a log cannot be read to its end (the others are read all
the same), it holds no delivery (of a journal: no line of Postfix, at any time) or lines that look like one and cannot
be read, or the state cannot be read; 2 the command line is wrong; 78 the settings are wrong.
"""
_NO_POOL: Final = "(unknown)"
_COLUMNS: Final = ("sent", "deferred", "bounced")
_BEFORE_SECONDS: Final = 3600.0
"""The journal is read so much before --since: what is delivered then has mostly come within that time."""


@dataclass(frozen=True, slots=True)
class _Report:
    counts: Counts
    findings: Sequence[Finding]
    open_now: int
    recorded_since: float | None
    installed_since: float | None
    """None: not known."""
    problems: Sequence[str]
    """What went wrong, so that the rest may not be all."""
    skipped: int = 0
    """Lines of other Postfix instances of this machine."""

    @property
    def failures(self) -> int:
        return self.counts.failures.total()


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "audit",
        help="prove from the mail log that everything left by the pool that was decided",
        description="Compare what was decided with what Postfix's mail log says was delivered, and by which transport.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(parser)
    parser.add_argument("logs", metavar="MAILLOG", nargs="*", help="mail log, packed or not; - for standard input")
    parser.add_argument("--journal", action="store_true", help="read what the journal has of Postfix and the milter")
    parser.add_argument(
        "--since", type=moment, default=0.0, metavar="TIME", help="pass over earlier deliveries: 2d, 2026-11-22 (UTC)"
    )
    parser.add_argument(
        "--inside",
        action="append",
        default=[INTERNAL],
        metavar="TRANSPORT",
        help=f"a transport that leads to servers of yours, such as a scanner's (besides {INTERNAL}); may be repeated",
    )
    parser.add_argument(
        "--listener",
        action="append",
        type=_port,
        default=[*LISTENER_PORTS],
        metavar="PORT",
        help="a further port of the hop's listener, or of a route of its own"
        f" (besides {min(LISTENER_PORTS)} to {max(LISTENER_PORTS)}); may be repeated",
    )
    parser.add_argument(
        "--config-directory",
        metavar="DIR",
        help="configuration directory of the Postfix instance, which knows when `postfix install` was run; lines of the"
        " machine's other instances are passed over then",
    )
    parser.add_argument("--json", action="store_true", help="JSON: one object")
    parser.set_defaults(run=_run, refuse=parser.error)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len("65535") and 0 < int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"got {printable(text, 40)!r}; write a port, for example 10028")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    if bool(options.logs) == options.journal:
        options.refuse("name mail logs (- is standard input), or give --journal")
    report = _audit(options, read_settings(options))
    print(json.dumps(_to_json(report)) if options.json else "\n".join(_lines(report)))
    for problem in report.problems:
        print(f"delivery-pools audit: {problem}", file=sys.stderr)
    return FAILED if report.failures or report.problems else OK


def _audit(options: argparse.Namespace, settings: Settings) -> _Report:
    site = Surroundings(
        pools=frozenset(settings.pools),
        is_express=settings.profile == "express",
        shadow=settings.shadow,
        inside=frozenset(options.inside),
        is_ours=lambda domain, server: is_inside(settings, domain, server),
        listener_ports=frozenset(options.listener),
    )
    times = LogTimes(time.time(), mail_logs.local_time)
    names = log_names(options.config_directory) if options.config_directory else None
    skipped = 0
    with shared_state(settings) as state:
        recorded_since = state.recorded_since()
        installed_at = installed_since(options.config_directory)
        audit = Audit(site, state.records_about, recorded_since, since=options.since, installed_at=installed_at)
        problems = []
        for log in _logs(options, times):
            try:
                for text in log:
                    line = read_line(text, times)
                    if names and line and line.is_of_postfix and names.is_anothers(line.tag):
                        skipped += 1
                    else:
                        audit.add(line)
            except MailLogError as error:
                problems.append(str(error))
    problems = [*problems, *_not_understood(audit.counts)]
    if not problems and not (options.journal and _is_quiet(audit.counts, times)):
        problems = [*_nothing_read(audit.counts, skipped)]
    return _Report(audit.counts, audit.findings, audit.open_now, recorded_since, installed_at, problems, skipped)


def _logs(options: argparse.Namespace, times: LogTimes) -> Iterator[Iterator[str]]:
    if options.journal:
        yield mail_logs.journal_lines(max(0.0, options.since - _BEFORE_SECONDS))

    def seconds_of(text: str) -> float | None:
        line = read_line(text, times)
        return line.at if line else None

    for name in mail_logs.oldest_first(options.logs, seconds_of):
        yield mail_logs.lines_of(name)


def _not_understood(counts: Counts) -> Iterator[str]:
    if counts.headless:
        yield (
            f"{counts.headless} lines look like deliveries, but begin as no line of a log that is known: they were not"
            f" audited. The first: {counts.headless_example}"
        )


def _is_quiet(counts: Counts, times: LogTimes) -> bool:
    """Tell whether nothing was delivered in this time, though the journal is where Postfix logs."""
    if counts.of_postfix:
        return True
    lines = (read_line(text, times) for text in mail_logs.journal_lines(0.0))
    return any(line is not None and line.is_of_postfix for line in lines)


def _nothing_read(counts: Counts, skipped: int) -> Iterator[str]:
    others = f" ({skipped} more are of other instances)" if skipped else ""
    question = "Is it the mail log, may you read all of it, and is anything in it later than --since?"
    if not counts.of_postfix:
        yield f"nothing was audited: none of {counts.lines} lines is Postfix's{others}. {question}"
    elif not counts.transports and not counts.failures:
        yield f"nothing was audited: none of {counts.of_postfix} lines of Postfix is about a delivery. {question}"


# ---- for people


def _lines(report: _Report) -> Iterator[str]:
    counts = report.counts
    for finding in report.findings:
        yield from _finding_lines(finding)
    if left_out := report.failures - len(report.findings):
        yield f"... and {left_out} more failures"
        yield ""
    if counts.begins is not None and counts.ends is not None:
        yield f"{counts.of_postfix} lines of Postfix, {utc_text(counts.begins)} to {utc_text(counts.ends)}"
        yield ""
    yield from _table("decided for", counts.pools)
    yield from _transport_lines(counts.transports)
    yield ""
    yield from (f"{number} {what}" for number, what in _numbers(counts) if number)
    yield from _outside_lines(counts)
    if report.recorded_since is not None:
        yield f"the decision log begins at {utc_text(report.recorded_since)}"
    else:
        yield "the decision log is empty"
    if report.installed_since is not None:
        yield f"Postfix has pools since {utc_text(report.installed_since)}"
    if report.open_now:
        yield f"{report.open_now} queue files have no end in the log: still in the queue, or given up by their client"
    if report.skipped:
        yield f"{report.skipped} lines of other instances of Postfix were passed over"
    yield _verdict(report)


def _finding_lines(finding: Finding) -> Iterator[str]:
    """Yield a failure as people read it; whatever is in it, it is printable."""
    at = utc_text(finding.at) if finding.at is not None else "(no time)"
    word = "unknown" if finding.kind in UNKNOWN else "wrong"
    yield f"{at}  {finding.queue_id} on {printable(finding.host)}: {word}: {finding.kind}"
    decided = f"{printable(finding.decided)} (rule {printable(finding.rule)})" if finding.decided else ""
    rows = {
        "recipient": printable(finding.recipient, 400),
        "transport": printable(finding.transport),
        "relay": printable(finding.relay, 400),
        "status": finding.status,
        "decided": decided,
    }
    for name, value in rows.items():
        if value:
            yield f"  {name + ':':<10} {value}"
    yield f"  {MEANINGS[finding.kind]}"
    yield ""


def _table(title: str, pools: Mapping[str, PoolCounts]) -> Iterator[str]:
    yield f"{title:<20} {'messages':>9} {'sent':>9} {'deferred':>9} {'bounced':>9}  sent by"
    for pool, counts in sorted(pools.items()):
        numbers = [counts.messages, *(counts.statuses[status] for status in _COLUMNS)]
        sent_by = ", ".join(f"{printable(name)} {number}" for name, number in sorted(counts.sent_by.items()))
        yield f"{printable(pool) or _NO_POOL:<20} " + " ".join(f"{number:>9}" for number in numbers) + f"  {sent_by}"
    yield ""


def _transport_lines(transports: Mapping[str, Counter[str]]) -> Iterator[str]:
    yield f"{'transport':<20} attempts by outcome, one for each recipient"
    for name, statuses in sorted(transports.items()):
        yield f"{printable(name):<20} " + ", ".join(f"{status} {number}" for status, number in sorted(statuses.items()))


def _outside_lines(counts: Counts) -> Iterator[str]:
    if counts.internal_outside:
        yield (
            f"{counts.internal_outside.total()} attempts by {INTERNAL} were at servers that are not known to be yours:"
            " nothing was decided about this mail, and it leaves by the default address. See transport_maps"
            " (`delivery-pools check`):"
        )
        yield from (f"  {number} {printable(what, 400)}" for what, number in counts.internal_outside.most_common())


def _numbers(counts: Counts) -> Iterator[tuple[int, str]]:
    yield counts.undecided, "messages could not be decided in time and left by high-risk (rule undecided): no failure"
    yield (
        counts.before_installation,
        "deliveries by transports that are no pool's are of before the installation: no failure",
    )
    yield counts.caught, "attempts were stopped by a tripwire: this mail waits, see `mailq` and transport_maps"
    yield counts.astray, "attempts by transports that are no pool's reached no server so far: see transport_maps"
    yield counts.held, "messages were put on hold"
    yield counts.discarded, "were discarded by order of a check or a transport"
    yield counts.expired, "were returned because they waited too long"
    yield counts.requeued, "were requeued"
    yield counts.probes, "addresses were verified"
    yield counts.not_understood, "lines were no lines of a log"
    if counts.forgotten:
        what = f"queue files were forgotten: more than {MOST_OPEN} were open at once, so that a message may be counted"
        yield counts.forgotten, f"{what} twice, and one that was requeued may be called unknown"


def _verdict(report: _Report) -> str:
    if report.failures:
        kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(report.counts.failures.items()))
        return f"FAILED: {report.failures} deliveries are wrong or unknown: {kinds}"
    if report.problems:
        return "FAILED: not all of the log could be read and understood, or there is no delivery in it"
    if not report.counts.transports and not report.counts.before_installation:
        return "nothing was delivered in this time"
    if report.counts.internal_outside:
        return f"every delivery by a pool was by the one that was decided; see what went outside by {INTERNAL}"
    return "every delivery was by the pool that was decided"


# ---- for programs


def _to_json(report: _Report) -> dict[str, Any]:
    counts = report.counts
    grouped = ("pools", "transports", "failures")
    numbers = {field.name: getattr(counts, field.name) for field in fields(counts) if field.name not in grouped}
    return {
        "failures": report.failures,
        "by_kind": counts.failures,
        "findings": [
            asdict(finding) | {"meaning": MEANINGS[finding.kind], "unknown": finding.kind in UNKNOWN}
            for finding in report.findings
        ],
        "findings_left_out": report.failures - len(report.findings),
        "pools": {
            pool: {"messages": one.messages, "statuses": one.statuses, "sent_by": one.sent_by}
            for pool, one in counts.pools.items()
        },
        "transports": counts.transports,
        "counts": numbers,
        "without_end": report.open_now,
        "of_other_instances": report.skipped,
        "recorded_since": report.recorded_since,
        "installed_since": report.installed_since,
        "problem": "; ".join(report.problems),
    }
