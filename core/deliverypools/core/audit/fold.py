"""Folds a mail log into findings, line by line, in bounded memory.

A queue file is known from its first line to its last ("removed"). What was decided about it is asked when it is first
delivered: the decision log is written before a message is tagged.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from deliverypools.core.addresses import domain_of
from deliverypools.core.audit import lines
from deliverypools.core.audit.findings import Counts, Finding, Kind, PoolCounts
from deliverypools.core.audit.transports import (
    TRIPWIRES,
    Surroundings,
    Way,
    leads_outside,
    pool_of_transport,
    server_of,
    transport_of,
    way_of,
)
from deliverypools.core.decisions import NORMAL, UNDECIDED
from deliverypools.core.facts import printable
from deliverypools.core.records import DECIDING_PASSES, DecisionRecord

MOST_OPEN: Final = 100_000
"""So many queue files are known at once: some 60 MB."""
MOST_FINDINGS: Final = 1000
"""So many findings are kept; all are counted."""
_MOST_TRANSPORTS: Final = 1000
_MOST_POOLS: Final = 1000
_MOST_OUTSIDE: Final = 100
OTHERS: Final = "(others)"
"""In the place of the names of transports, pools and servers beyond the first ones."""
_SLACK_SECONDS: Final = 300.0
"""Between the clocks of a log and of the decision log."""
_BEGIN_SLACK_SECONDS: Final = 60.0
"""`State.recorded_since` may be so much too late."""
_OLD_PROCESSES_SECONDS: Final = 60.0
"""So long delivery agents of before the installation finish what they deliver: `postfix reload` lets them."""
_OF_OLD: Final = frozenset((Kind.OUTSIDE_POOLS, Kind.TRIPWIRE_DELIVERED, Kind.PROBE_OUTSIDE_POOLS))
"""What every Postfix does that has no pools."""
_SHORT_ID: Final = re.compile(r"[0-9A-F]+")
_PROBE: Final = ("deliverable", "undeliverable")
"""So begins the status of an address probe."""
_TRIED_AGAIN: Final = ("deferred", "softbounce")


@dataclass(frozen=True, slots=True)
class _Decision:
    pool: str
    rule: str
    may_leave_by: frozenset[str]


@dataclass(slots=True)
class _QueueFile:
    """What is known about a queue file that is in the queue."""

    began: float | None = None
    """None: the log begins later than the queue file."""
    first_id: str = ""
    """Of the queue file that it was before it was requeued."""
    tag: str = ""
    logged: _Decision | None = None
    """What the milter has logged, for want of a row."""
    decision: _Decision | None = None
    is_asked: bool = False
    was_tried: bool = False
    """A delivery agent had it."""
    told: frozenset[tuple[Kind, str]] = frozenset()
    """What was found about it that comes again with each attempt."""


class Audit:
    """Takes a log line by line; `findings` and `counts` are the result so far."""

    def __init__(
        self,
        site: Surroundings,
        records_about: Callable[[str], Sequence[DecisionRecord]],
        recorded_since: float | None,
        *,
        since: float = 0.0,
        installed_at: float | None = None,
        most_open: int = MOST_OPEN,
        most_findings: int = MOST_FINDINGS,
    ) -> None:
        """Take what is asked for the rows about a queue id, and since when there are rows (None: there are none).

        Deliveries before `since` (seconds since the epoch) are passed over, and nothing before it is counted. What
        the log says before it about queue files is kept: they may be delivered later. Deliveries to other hosts by
        transports that are no pool's are no failures before `installed_at`; None: before the decision log begins.
        """
        self.findings: list[Finding] = []
        self.counts = Counts()
        self._site = site
        self._records_about = records_about
        self._recorded_since = recorded_since
        self._since = since
        self._installed_at = recorded_since if installed_at is None else installed_at + _OLD_PROCESSES_SECONDS
        self._most_open = most_open
        self._most_findings = most_findings
        self._open: OrderedDict[tuple[str, str], _QueueFile] = OrderedDict()

    @property
    def open_now(self) -> int:
        """How many queue files are known: at the end of a log, those that have no end in it."""
        return len(self._open)

    def add(self, line: lines.Line | None) -> None:
        """Take the next line; None is one that could not be read."""
        if line is not None and line.at is not None and line.at < self._since:
            self._remember(line.event, line.host, line.at)
            return
        self.counts.lines += 1
        if line is None:
            self.counts.not_understood += 1
            return
        self.counts.of_postfix += line.is_of_postfix
        if line.at is not None and line.is_of_postfix:
            self._note_time(line.at)
        if line.event is not None:
            self._take(line.event, line.host, line.at)

    def _note_time(self, at: float) -> None:
        counts = self.counts
        if counts.begins is None or at < counts.begins:
            counts.begins = at
        if counts.ends is None or at > counts.ends:
            counts.ends = at

    def _take(self, event: lines.Event, host: str, at: float | None) -> None:
        match event:
            case lines.Delivery():
                self._deliver(event, host, at)
            case lines.Unreadable(queue_id, tag):
                self._tell(Kind.UNREADABLE, lines.Delivery(queue_id, "", tag, "", ""), host, at)
            case _:
                self._remember(event, host, at)
                self._count(event)

    def _remember(self, event: lines.Event, host: str, at: float | None) -> None:
        """Keep what a later delivery needs."""
        match event:
            case lines.Delivery(queue_id):
                if (known := self._open.get((host, queue_id))) is not None:
                    known.was_tried = True
            case lines.Begun(queue_id):
                self._begin(queue_id, host, at)
            case lines.Removed(queue_id):
                self._open.pop((host, queue_id), None)
            case lines.Tagged(queue_id, pool):
                self._file(host, queue_id).tag = pool
            case lines.Decided():
                self._note_logged(event, host)
            case lines.Requeued(queue_id, old):
                self._requeue(queue_id, old, host)

    def _count(self, event: lines.Event) -> None:
        match event:
            case lines.Expired():
                self.counts.expired += 1
            case lines.Held():
                self.counts.held += 1
            case lines.Discarded():
                self.counts.discarded += 1
            case lines.Requeued():
                self.counts.requeued += 1
            case lines.Headless(text):
                self.counts.headless += 1
                self.counts.headless_example = self.counts.headless_example or printable(text)

    # ---- queue files

    def _file(self, host: str, queue_id: str) -> _QueueFile:
        found = self._open.get((host, queue_id))
        if found is None:
            found = self._open[host, queue_id] = _QueueFile()
            if len(self._open) > self._most_open:
                self._open.popitem(last=False)
                self.counts.forgotten += 1
        return found

    def _begin(self, queue_id: str, host: str, at: float | None) -> None:
        known = self._open.get((host, queue_id))
        if known is not None and known.was_tried:
            # It was delivered before: the id is used again, and the line "removed" was lost.
            del self._open[host, queue_id]
        self._file(host, queue_id).began = at

    def _requeue(self, queue_id: str, old: str, host: str) -> None:
        before = self._open.pop((host, old), None)
        self._file(host, queue_id).first_id = before.first_id or old if before else old

    def _note_logged(self, event: lines.Decided, host: str) -> None:
        if event.pool != UNDECIDED or event.leaves_by != event.pool:
            decision = _Decision(event.pool, event.rule, frozenset((event.leaves_by,)))
            self._file(host, event.queue_id).logged = decision

    # ---- decisions

    def _decision(self, file: _QueueFile, queue_id: str, host: str, at: float | None) -> _Decision | None:
        if not file.is_asked:
            file.is_asked = file.was_tried = True
            record = self._record(file, queue_id, host, at)
            file.decision = self._on_record(record, file.logged) if record else file.logged
            pool = file.decision.pool if file.decision else ""
            self._pool_counts(pool).messages += 1
            self.counts.undecided += file.decision is not None and file.decision.rule == UNDECIDED
        return file.decision

    def _record(self, file: _QueueFile, queue_id: str, host: str, at: float | None) -> DecisionRecord | None:
        found = _record_of(queue_id, self._records_about(queue_id), host, began=file.began, at=at)
        if found is None and file.first_id and self._site.is_express:
            # No milter sees a requeued message there; its tag stays.
            found = _record_of(file.first_id, self._records_about(file.first_id), host, began=None, at=at)
        return found

    def _on_record(self, record: DecisionRecord, logged: _Decision | None) -> _Decision:
        pool = record.pool or UNDECIDED
        pools = {record.leaves_by or pool}
        if self._site.shadow and not record.leaves_by:
            # Rows of earlier versions do not tell whether shadow mode was on.
            pools.add(NORMAL)
        if logged is not None and logged.pool == pool:
            pools |= logged.may_leave_by
        return _Decision(pool, record.rule, frozenset(pools))

    def _pool_counts(self, pool: str) -> PoolCounts:
        pools = self.counts.pools
        return pools.setdefault(pool if pool in pools or len(pools) < _MOST_POOLS else OTHERS, PoolCounts())

    # ---- deliveries

    def _deliver(self, delivery: lines.Delivery, host: str, at: float | None) -> None:
        transport = transport_of(delivery)
        server = server_of(delivery)
        way = way_of(delivery, transport, server, self._site)
        self._count_attempt(transport, delivery.status)
        if leads_outside(delivery, transport, server, self._site):
            self._count_outside(delivery)
        if delivery.status.startswith(_PROBE):
            self.counts.probes += 1
            if way is Way.OUTSIDE:
                self._tell(Kind.PROBE_OUTSIDE_POOLS, delivery, host, at)
            return
        match way:
            case Way.POOL:
                self._by_pool(delivery, transport, host, at)
            case Way.NOWHERE:
                self._by_nobody(delivery, host, at)
            case Way.HOP if server and not (server.is_loopback and server.port in self._site.listener_ports):
                self._tell(Kind.HOP_CLIENT_ASTRAY, delivery, host, at)
            case Way.TRIPWIRE if delivery.status == "sent":
                self._tell(Kind.TRIPWIRE_DELIVERED, delivery, host, at)
            case Way.TRIPWIRE:
                self.counts.caught += 1
            case Way.OUTSIDE:
                kind = Kind.TRIPWIRE_DELIVERED if transport in TRIPWIRES else Kind.OUTSIDE_POOLS
                self._tell(kind, delivery, host, at)

    def _count_attempt(self, transport: str, status: str) -> None:
        transports = self.counts.transports
        name = transport if transport in transports or len(transports) < _MOST_TRANSPORTS else OTHERS
        transports.setdefault(name, Counter())[status] += 1

    def _count_outside(self, delivery: lines.Delivery) -> None:
        counts = self.counts.internal_outside
        name = f"{domain_of(delivery.recipient)} at {delivery.relay}"
        counts[name if name in counts or len(counts) < _MOST_OUTSIDE else OTHERS] += 1

    def _by_pool(self, delivery: lines.Delivery, transport: str, host: str, at: float | None) -> None:
        file = self._file(host, delivery.queue_id)
        decision = self._decision(file, delivery.queue_id, host, at)
        counts = self._pool_counts(decision.pool if decision else "")
        counts.statuses[delivery.status] += 1
        if delivery.status == "sent":
            counts.sent_by[transport] += 1
        pool = pool_of_transport(transport, self._site.pools | decision.may_leave_by if decision else self._site.pools)
        if decision is None:
            self._tell(self._why_unknown(file, pool, at), delivery, host, at, file)
        elif pool not in decision.may_leave_by:
            self._tell(Kind.WRONG_POOL, delivery, host, at, file)

    def _by_nobody(self, delivery: lines.Delivery, host: str, at: float | None) -> None:
        """Count what was refused, or is put off by qmgr(8), with its pool, if it has one."""
        if delivery.tag.rpartition("/")[2] == "smtp":
            self.counts.astray += 1
            return
        file = self._file(host, delivery.queue_id)
        if delivery.tag.endswith("/discard"):
            self.counts.discarded += 1
        if file.is_asked or file.tag:
            decision = self._decision(file, delivery.queue_id, host, at)
            self._pool_counts(decision.pool if decision else "").statuses[delivery.status] += 1

    def _why_unknown(self, file: _QueueFile, pool: str, at: float | None) -> Kind:
        begins = self._recorded_since
        arrived = file.began if file.began is not None else at
        if file.tag == pool:
            return Kind.ROW_LOST
        if begins is None or (arrived is not None and arrived < begins - _BEGIN_SLACK_SECONDS):
            return Kind.BEFORE_DECISION_LOG
        return Kind.NO_DECISION

    def _tell(
        self,
        kind: Kind,
        delivery: lines.Delivery,
        host: str,
        at: float | None,
        file: _QueueFile | None = None,
    ) -> None:
        """Keep a finding; once for a queue file where it comes again with each attempt."""
        if kind in _OF_OLD and at is not None and self._installed_at is not None and at < self._installed_at:
            self.counts.before_installation += 1
            return
        file = file or self._file(host, delivery.queue_id)
        if delivery.status in _TRIED_AGAIN:
            if (kind, delivery.tag) in file.told:
                return
            file.told |= {(kind, delivery.tag)}
        self.counts.failures[kind] += 1
        if len(self.findings) >= self._most_findings:
            return
        self.findings.append(
            Finding(
                kind=kind,
                queue_id=delivery.queue_id,
                host=host,
                at=at,
                recipient=delivery.recipient,
                transport=transport_of(delivery),
                relay=delivery.relay,
                status=delivery.status,
                decided=file.decision.pool if file.decision else "",
                rule=file.decision.rule if file.decision else "",
            )
        )


def _record_of(
    queue_id: str, records: Sequence[DecisionRecord], host: str, *, began: float | None, at: float | None
) -> DecisionRecord | None:
    """Return the decision about a queue file of a host, of all rows that have its id; None if there is none.

    A log names the host, the decision log Postfix's myhostname: where none fits, and only one host has such a row, it
    is that one. Short ids are soon used again: of those the row must be of the time when the queue file was there.
    """
    rows = [row for row in records if row.queue_id == queue_id and (row.pool or row.leaves_by)]
    rows = [row for row in rows if row.pass_name in DECIDING_PASSES]
    if _SHORT_ID.fullmatch(queue_id):
        rows = [row for row in rows if _is_of_that_time(row, began, at)]
    for is_same in (_is_host, _begins_as_host):
        if same := [row for row in rows if is_same(row.host, host)]:
            return max(same, key=lambda row: row.at)
    return max(rows, key=lambda row: row.at) if len({row.host for row in rows}) == 1 else None


def _is_of_that_time(row: DecisionRecord, began: float | None, at: float | None) -> bool:
    is_too_late = at is not None and row.at > at + _SLACK_SECONDS
    return not is_too_late and (began is None or row.at >= began - _SLACK_SECONDS)


def _is_host(name: str, other: str) -> bool:
    return name.lower() == other.lower()


def _begins_as_host(name: str, other: str) -> bool:
    return name.lower().partition(".")[0] == other.lower().partition(".")[0]
