"""`delivery-pools replay`: what other settings would have done with mail that was sent already."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Final

from deliverypools.adapters import mail_logs
from deliverypools.adapters.exported_decisions import Decided, decisions_in, read_lines
from deliverypools.adapters.mail_logs import MailLogError
from deliverypools.adapters.settings_file import load_settings
from deliverypools.adapters.simulated_site import SimulatedSite
from deliverypools.cli.exits import FAILED, OK
from deliverypools.cli.moments import moment
from deliverypools.cli.options import Subparsers, add_config, read_settings
from deliverypools.cli.replay_report import Report, as_json, lines
from deliverypools.cli.shared_state import shared_state
from deliverypools.core.audit.times import LogTimes
from deliverypools.core.decisions import HIGH_RISK
from deliverypools.core.replay.decided_again import DecidedAgain, decide_again, is_decision
from deliverypools.core.replay.mail_lines import read_mail_line
from deliverypools.core.replay.results import Results
from deliverypools.core.settings import Settings

_EPILOG: Final = """\
FILE is a mail log as syslog or Postfix writes it, packed with gzip, xz or bzip2 or not, or "-", standard input; rotated
files are put into order. Or it is what `delivery-pools decisions export` has written. The settings that are asked are
those of --config; nothing is sent, counted or changed, and `shadow` is taken for off.

From a mail log (also of a time before the installation): who sent how much to whom, and so which accounts would have
been over a limit, restricted and refused, what is pinned, forwarded or a bounce. What a log does not tell (scanners,
DNS, whether a forward was authenticated) is counted as not judged; the other rules decide such mail. With --compare the
same is done under other settings, and both are shown.

From decisions: each message is decided again from the evidence that was kept with it, and compared with what was
decided then (with --compare: with what those settings would have decided). A limit that was not counted then, and a
scanner that was not asked, cannot be judged.

--json writes one object: source, lines, messages (of our accounts), outcomes (those that left or were refused),
stayed_inside (the rest), further_decisions (about forwarded mail, bounces, further parts of a message), days (day,
pool, rule, before, now), changes (from_pool, from_rule, to_pool, to_rule, messages), accounts (account, over_limit,
refused, first_at, restricted_at, evidence), accounts_over_limit, not_judged, problems. "before" is null where nothing
is compared.

Exit status: 0; 1 a file cannot be read to its end, or nothing in it could be read or judged; 2 the command line is
wrong; 78 the settings are wrong.
"""
_TELL_EVERY_SECONDS: Final = 5.0
_LINES_BETWEEN_CLOCKS: Final = 10_000


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "replay",
        help="say what other settings would have done with mail that was sent already",
        description="Say what settings would have done with the mail in a mail log, or in the decision log.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(parser)
    parser.add_argument(
        "files", metavar="FILE", nargs="*", help="mail log, or exported decisions; - for standard input"
    )
    parser.add_argument("--journal", action="store_true", help="read what the journal has of Postfix")
    parser.add_argument("--decisions", action="store_true", help="read the decision log of the state in the settings")
    parser.add_argument("--compare", metavar="OLD.toml", help="other settings, to be compared with those of --config")
    parser.add_argument("--since", type=moment, default=0.0, metavar="TIME", help="pass over what is earlier: 2d")
    parser.add_argument("--accounts", type=int, default=20, metavar="N", help="show the N worst accounts (default: 20)")
    parser.add_argument("--json", action="store_true", help="JSON: one object")
    parser.set_defaults(run=_run, refuse=parser.error)


def _run(options: argparse.Namespace) -> int:
    if sum((bool(options.files), options.journal, options.decisions)) != 1:
        options.refuse("name files (- is standard input), or give --journal or --decisions, one of them")
    settings = read_settings(options)
    before = load_settings(Path(options.compare)) if options.compare else None
    replay = _Replay(options, settings, before)
    report = replay.report()
    print(json.dumps(as_json(report)) if options.json else "\n".join(lines(report, options.accounts)))
    for problem in report.problems:
        print(f"delivery-pools replay: {problem}", file=sys.stderr)
    return FAILED if report.problems else OK


@dataclass(slots=True)
class _Progress:
    """Tells a terminal how far a long log was read."""

    number: int = 0
    _told_at: float = field(default_factory=time.monotonic)

    def __call__(self) -> None:
        """Count a line."""
        self.number += 1
        if self.number % _LINES_BETWEEN_CLOCKS or not sys.stderr.isatty():
            return
        if time.monotonic() - self._told_at >= _TELL_EVERY_SECONDS:
            self._told_at = time.monotonic()
            print(f"{self.number} lines", file=sys.stderr)


class _Replay:
    """One run: the files are told apart by their first lines."""

    def __init__(self, options: argparse.Namespace, settings: Settings, before: Settings | None) -> None:
        self._options = options
        self._settings = settings
        self._before = before
        self._progress = _Progress()
        self._problems: list[str] = []
        self._understood = 0
        """Lines, of mail logs and of exports, that tell something."""

    def report(self) -> Report:
        """Read everything; return what was found."""
        options = self._options
        if options.decisions:
            with shared_state(self._settings) as state:
                return self._of_decisions(decisions_in(state, options.since))
        times = LogTimes(time.time(), mail_logs.local_time)
        sources = self._sources(times)
        first = list(islice(sources, 1))
        everything = chain(first, sources)
        if first and first[0].startswith("{"):
            return self._of_decisions(self._exported(everything))
        return self._of_log(everything, times)

    def _sources(self, times: LogTimes) -> Iterator[str]:
        """Yield the lines of all files, oldest first."""
        if self._options.journal:
            opened = {"the journal": mail_logs.journal_lines(self._options.since)}
        else:
            names = mail_logs.oldest_first(self._options.files, lambda text: _seconds(text, times))
            opened = {name: mail_logs.lines_of(name) for name in names}
        for name, one in opened.items():
            understood = self._understood
            try:
                yield from one
                if self._understood == understood:
                    self._problems.append(f"{name}: nothing in it is Postfix's, or an exported decision")
            except MailLogError as error:
                self._problems.append(str(error))

    # ---- mail logs

    def _of_log(self, texts: Iterable[str], times: LogTimes) -> Report:
        with ExitStack() as stack:
            sites = [
                stack.enter_context(
                    closing(SimulatedSite(settings, Path(stack.enter_context(tempfile.TemporaryDirectory()))))
                )
                for settings in (self._settings, self._before)
                if settings is not None
            ]
            for text in texts:
                self._progress()
                line = read_mail_line(text, times)
                self._understood += line is not None
                if line is not None and line.at >= self._options.since:
                    for site in sites:
                        site.add(line)
            forgotten = max([site.end() for site in sites])
        now, before = sites[0].results, sites[1].results if len(sites) > 1 else None
        if forgotten:
            now.not_judged["whose it is: too many messages were open at once"] += forgotten
        if not now.messages and not now.by_day and not self._problems:
            self._problems.append("no message was found; is it a mail log of Postfix, and later than --since?")
        return Report("mail log", self._progress.number, now, before, Counter(), self._problems)

    # ---- decisions

    def _exported(self, texts: Iterable[str]) -> Iterator[Decided]:
        unread = 0
        for decided in read_lines(self._noted(texts)):
            if decided is None:
                unread += 1
            elif decided.record.at >= self._options.since:
                yield decided
        if unread:
            self._problems.append(f"{unread} lines are no exported decisions")

    def _noted(self, texts: Iterable[str]) -> Iterator[str]:
        """Pass lines on: those of an export that are none are counted by themselves."""
        for text in texts:
            self._understood += 1
            yield text

    def _of_decisions(self, found: Iterable[Decided]) -> Report:
        now, before = Results(), Results()
        changes: Counter[tuple[str, str, str, str]] = Counter()
        for decided in found:
            self._progress()
            record = decided.record
            if not is_decision(record):
                continue
            then = DecidedAgain(pool=record.pool or HIGH_RISK, rule=record.rule)
            if self._before is not None:
                then = decide_again(record, decided.first, self._before)
            again = decide_again(record, decided.first, self._settings)
            if problem := again.problem or then.problem:
                now.not_judged[problem] += 1
                continue
            now.messages += 1
            now.outcomes += 1
            before.note(record.at, then.pool, then.rule)
            now.note(record.at, again.pool, again.rule)
            if (then.pool, then.rule) != (again.pool, again.rule):
                changes[then.pool, then.rule, again.pool, again.rule] += 1
            if again.exceeded:
                evidence = "; ".join(one.evidence for one in again.exceeded)
                now.note_over_limit(again.exceeded[0].account, record.at, evidence, restricted=False)
        if not now.messages:
            self._problems.append("no decision could be judged")
        return Report("decisions", self._progress.number, now, before, changes, self._problems)


def _seconds(text: str, times: LogTimes) -> float | None:
    line = read_mail_line(text, times)
    return line.at if line else None
